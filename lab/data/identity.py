"""The identity of a recording: all that distinguishes it from another one. It stands in the evidence as identity.json.

Only ``format`` and the driver's name are required, so that evidence of another lab, which may say less, can still be judged by
what holds for every driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lab.data.manifest import Known
from lab.errors import LabError, nearest

FORMAT = 1
"""The version of the evidence folder that this lab writes and reads."""


def _no_list(value: Any) -> Any:
    return () if value is None else value


Names = Annotated[tuple[str, ...], BeforeValidator(_no_list)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DriverIdentity(_Part):
    """The driver under test, as the recording knew it."""

    name: str
    adapter: str = ""
    base: str = ""
    """The driver's name without the version that it may end with."""
    release: str = ""
    """Which version of the driver it is, by its manifest's table; "" where none is known."""
    package: str = ""
    """The package that it comes from, with its version. What the driver says itself is `lab.data.evidence.End.build`."""
    path: str = ""
    """Of its manifest."""
    manifest: str = ""
    """SHA-256 of the manifest's content."""
    files: Mapping[str, str] = Field(default_factory=dict)
    """What was brought into the guest for it: name and SHA-256."""
    variables: Mapping[str, str] = Field(default_factory=dict)
    """The manifest's; the id of a seeded defect is among them."""
    actions: Names = ()
    stages: Names = ()
    """What the driver claims."""
    profiles: Names = ()
    """What it claims beyond the stages."""
    stops: Names = ()
    unit: int = 0
    passes_through: bool = False
    boots_from_nvme: bool = False
    """Firmware used the controllers first: what was before the system's own driver is left out (`lab.data.evidence`)."""
    known: tuple[Known, ...] = ()


class QemuIdentity(_Part):
    """The QEMU that ran the guest."""

    version: str
    origin: str = ""
    sha256: str = ""


class AcceleratorIdentity(_Part):
    """The accelerator that the guest ran under, and why this one."""

    name: str
    reason: str = ""


class Identity(_Part):
    """Everything that identifies a recording. Parts that do not apply (QEMU, for a driver in this process) are None."""

    format: int = FORMAT
    started: float = 0.0
    """Seconds since the epoch."""
    driver: DriverIdentity
    device: str = "unknown"
    """What recorded it: `lab.data.plan.DeviceKind`, or the name of another one's own, of which nothing is assumed."""
    scenario: Mapping[str, Any] = Field(default_factory=dict)
    """Resolved; `lab.data.plan.Scenario.from_json` reads it."""
    seed: int | None = None
    versions: Mapping[str, Any] = Field(default_factory=dict)
    """What the toolchain prepared."""
    host: Mapping[str, Any] = Field(default_factory=dict)
    lab: str = ""
    """The lab's version."""
    accelerator: AcceleratorIdentity | None = None
    qemu: QemuIdentity | None = None
    shell: bool = False
    """A person sat at the guest's console at the end (`nvme-lab shell`)."""

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON data, without the parts that do not apply."""
        return self.model_dump(mode="json", exclude_none=True)


def parse_identity(data: Any, path: Path) -> Identity:
    """Return the identity that JSON data holds; LabError that names file, key and remedy."""
    if not isinstance(data, dict):
        raise LabError(f"{path}: not an object", remedy="record the scenario again")
    if data.get("format") != FORMAT:
        what = f"{path}: format {data.get('format')!r}, this lab reads {FORMAT}"
        raise LabError(what, remedy="judge it with the lab that wrote it")
    try:
        return Identity.model_validate(data)
    except ValidationError as error:
        raise LabError(f"{path}: {_sentence(error)}", remedy="record the scenario again") from error


def _sentence(error: ValidationError) -> str:
    """Return the first of pydantic's errors as a sentence about a key."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it does not say the {key}"
    if first["type"] == "extra_forbidden":
        table = DriverIdentity if first["loc"][0] == "driver" else Identity
        return f"{key}: unknown key{nearest(str(first['loc'][-1]), table.model_fields)}"
    return f"{key}: {first['msg']}, but it is {first.get('input')!r}"
