"""What a legal variant is: a change of the reference driver that the specification allows, with the section that allows it.

::

    @variant("io-queues/lazy-head", allowed='PCIe 1.0, 3.4.1 "Command Processing", step 8: the host may consume many entries …')
    class LazyHead(QueuePair):
        \"\"\"Give completion slots back only once half of the ring was consumed.\"\"\"

The id is a stage, a slash and a slug; the docstring says what the driver does unlike the unmodified one. A variant must come
through every scenario without a FAIL, and without a WARN but of the checks in ``warns``: those whose recommendation it leaves
undone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypeVar, cast

from lab.errors import UsageError
from lab.reference.controller import Controller
from lab.reference.parts import Parts
from lab.reference.service import Service
from lab.reference.settings import Settings
from lab.reference.transport import Transport

Part = TypeVar("Part", bound=type)
JOIN = "+"
"""Joins the ids of variants that one driver combines."""
KEPT = 64
"""Combinations that are kept: many scenarios are driven by the same."""
_NO_CHANGE = {"__module__", "__doc__", "__qualname__", "__firstlineno__", "__static_attributes__", "__annotations__"}


class LocalTransport(Transport, Protocol):
    """The transport in process, with what only variants use (`lab.drivers.reference_in_process`)."""

    def read64(self, offset: int) -> int:
        """Return eight bytes of BAR0 from one access of eight bytes."""

    def write64(self, offset: int, value: int) -> None:
        """Write eight bytes of BAR0 by one access of eight bytes."""

    def write_vector(self, vector: int, value: int, word: int = ...) -> None:
        """Write a dword of an entry of the MSI-X table: vector control, unless ``word`` says otherwise."""

    def open_pin(self) -> None:
        """Take interrupts by INTx."""

    def open_msi(self, count: int) -> int:
        """Take interrupts by MSI with up to ``count`` messages; return how many there are."""


def local(transport: Transport) -> LocalTransport:
    """Return the transport as the one in process: variants run nowhere else."""
    return cast(LocalTransport, transport)


@dataclass(frozen=True)
class Variant:
    """One legal peculiarity."""

    id: str
    summary: str
    allowed: str
    """Document, section, title, and what it allows, in our words."""
    parts: tuple[type, ...]
    """Subclasses of parts of the driver, of `Controller` or of `Service`."""
    settings: Mapping[str, Any]
    scenarios: tuple[str, ...]
    """Scenarios where the recording differs from the unmodified driver's: the first proves that the variant does something."""
    warns: tuple[str, ...]
    """Checks that may WARN."""
    excludes: frozenset[str] = field(default_factory=frozenset)
    """Variants that cannot be combined with it although they change other things."""
    alone: bool = False
    """It is combined with none but its like: it refuses controllers, and so keeps others from being seen."""

    @property
    def stage(self) -> str:
        """The stage, which is the first part of the id."""
        return self.id.partition("/")[0]

    @cached_property
    def changes(self) -> frozenset[str]:
        """Names of everything that it changes: two variants that share one cannot be combined."""
        changed = {f"{_base(part).__name__}.{name}" for part in self.parts for name in vars(part).keys() - _NO_CHANGE}
        return frozenset(changed | set(self.settings))

    def combines_with(self, other: Variant) -> bool:
        """Return whether one driver can have both."""
        excluded = other.id in self.excludes or self.id in other.excludes
        return not excluded and self.alone == other.alone and not self.changes & other.changes


@dataclass(frozen=True)
class Combination:
    """The reference driver with one or more variants in it."""

    driver: type[Controller]
    service: type[Service]
    settings: Mapping[str, Any]


VARIANTS: dict[str, Variant] = {}
"""Every variant by its id, filled as the stages' modules are imported (`lab.variants`)."""


def variant(
    id: str,
    *,
    allowed: str,
    scenarios: Iterable[str],
    warns: Iterable[str] = (),
    excludes: Iterable[str] = (),
    alone: bool = False,
    also: Iterable[type] = (),
    settings: Mapping[str, Any] | None = None,
) -> Callable[[Part], Part]:
    """Register the decorated subclass of a part of the driver as a variant; ``also`` are further parts that it changes.

    ValueError for an id that is taken, or a setting that does not exist.
    """
    known = {one.name for one in fields(Settings)}

    def register(changed: Part) -> Part:
        if id in VARIANTS:
            raise ValueError(f"variant {id} is declared twice")
        if not changed.__doc__:
            raise ValueError(f"variant {id} has no docstring")
        if unknown := set(settings or ()) - known:
            raise ValueError(f"variant {id}: the driver has no setting {sorted(unknown)[0]}")
        summary = inspect.cleandoc(changed.__doc__).replace("\n", " ")
        VARIANTS[id] = Variant(
            id,
            summary,
            allowed,
            (changed, *also),
            dict(settings or {}),
            tuple(scenarios),
            tuple(warns),
            frozenset(excludes),
            alone,
        )
        return changed

    return register


def find(ids: str) -> list[Variant]:
    """Return the variants of ids joined by "+". UsageError with the nearest id if there is none."""
    found = []
    for id in ids.split(JOIN):
        if id not in VARIANTS:
            close = " or ".join(get_close_matches(id, VARIANTS, 3))
            hint = f"; did you mean {close}?" if close else ""
            raise UsageError(f"there is no legal variant {id!r}{hint}", remedy="nvme-lab list variants")
        found.append(VARIANTS[id])
    for index, one in enumerate(found):
        for other in found[:index]:
            if not one.combines_with(other):
                raise UsageError(f"the variants {other.id} and {one.id} change the same, so that no driver can have both")
    return found


@lru_cache(KEPT)
def combination(ids: str) -> Combination:
    """Return the driver that has all variants of these ids, joined by "+". UsageError as `find`."""
    return combine(find(ids))


def combine(variants: Sequence[Variant]) -> Combination:
    """Return the driver that has all of them, which must combine."""
    changed: dict[type, list[type]] = {}
    settings: dict[str, Any] = {}
    for one in variants:
        settings |= one.settings
        for part in one.parts:
            changed.setdefault(_base(part), []).append(part)
    mixed = {base: type(base.__name__, tuple(parts), {}) if len(parts) > 1 else parts[0] for base, parts in changed.items()}
    parts = {one.name: mixed[getattr(Controller.parts, one.name)] for one in fields(Parts)
             if getattr(Controller.parts, one.name) in mixed}  # fmt: skip
    driver = mixed.get(Controller, Controller)
    if parts:
        driver = type(driver.__name__, (driver,), {"parts": replace(Controller.parts, **cast(Any, parts))})
    return Combination(driver, mixed.get(Service, Service), settings)


def groups(variants: Iterable[Variant]) -> list[list[Variant]]:
    """Return the variants in as few groups as a simple search finds, each of which combines."""
    found: list[list[Variant]] = []
    for one in variants:
        group = next((group for group in found if all(one.combines_with(other) for other in group)), None)
        if group is None:
            found.append(group := [])
        group.append(one)
    return found


def _base(part: type) -> type:
    """Return the part of the driver that a class is derived from."""
    bases = [Controller, Service, *(getattr(Controller.parts, one.name) for one in fields(Parts))]
    return next(base for base in bases if issubclass(part, base))  # type: ignore[no-any-return]
