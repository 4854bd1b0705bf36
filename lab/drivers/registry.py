"""Which drivers and adapters there are: the shipped ones, those that other packages bring, and manifests by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias

from lab.drivers.base import Adapter
from lab.drivers.generic_serial import GenericSerial
from lab.drivers.linux import Linux
from lab.drivers.reference import ADAPTERS as REFERENCE
from lab.errors import LabError, UsageError
from lab.manifest import DriverManifest, load, nearest
from lab.plan import DeviceKind
from lab.toolchain import Toolchain

ENTRY_POINTS = "nvme_lab.adapters"
"""The group under which a package names its adapters."""
MANIFESTS = Path(__file__).with_name("manifests")

Factory: TypeAlias = Callable[[DriverManifest, Toolchain], Adapter]

_SHIPPED: Mapping[str, Factory] = {"linux": Linux, "generic-serial": GenericSerial, **REFERENCE}
WITHOUT_QEMU = frozenset({"reference-in-process"})
"""Adapters whose drivers run on the programmable controller in this very process."""
_DEVICES: Mapping[str, tuple[DeviceKind, ...]] = {"reference-in-process": ("lab",), "reference-qtest": ("qemu",)}
"""Adapters that reach one device only."""
SEEDABLE = frozenset({"reference-in-process", "reference-qtest"})
"""Adapters whose driver takes a mistake (`lab.defects`)."""


def adapters() -> Mapping[str, Factory | None]:
    """Every adapter's name; None stands for one of another package, which is imported only when it is used."""
    return {**dict.fromkeys(found.name for found in entry_points(group=ENTRY_POINTS)), **_SHIPPED}


def adapter(manifest: DriverManifest, toolchain: Toolchain) -> Adapter:
    """The manifest's adapter, with what it stands on. Raises UsageError where the manifest does not suit it."""
    factory = adapters()[manifest.adapter]
    if factory is None:
        (found,) = entry_points(group=ENTRY_POINTS, name=manifest.adapter)
        try:
            factory = found.load()
        except Exception as error:  # anything can go wrong in another package's import, and the user must hear which
            raise LabError(f"the adapter {manifest.adapter!r} ({found.value}) cannot be imported: {error!r}") from error
        assert factory is not None
    return factory(manifest, toolchain)


def shipped() -> Mapping[str, Path]:
    """The drivers that come with the lab."""
    return {path.stem: path for path in sorted(MANIFESTS.glob("*.toml"))}


def find(name: str) -> DriverManifest:
    """A driver by its name or by its manifest's path. UsageError with the nearest name if there is none."""
    known = shipped()
    if name in known:
        return load(known[name], adapters())
    if "/" in name or name.endswith(".toml"):
        return load(Path(name), adapters())
    raise UsageError(f"there is no driver {name!r}{nearest(name, known)}", remedy="name one of these, or a manifest's path")


def devices(manifest: DriverManifest) -> tuple[DeviceKind, ...]:
    """The devices that this driver can be put in front of."""
    return _DEVICES.get(manifest.adapter, ("qemu", "lab"))


def wants(manifest: DriverManifest) -> tuple[str, ...]:
    """What the toolchain must prepare for this driver."""
    return manifest.needs if manifest.adapter in WITHOUT_QEMU else ("qemu", *manifest.needs)
