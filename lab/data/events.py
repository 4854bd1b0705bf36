"""What was seen, as typed events: the record that every verdict rests on.

Three witnesses speak. The *device* side (register accesses, doorbells, submissions, completions …) comes from the trace of
QEMU's own device or from the programmable controller; the *driver* side is what was asked of the driver and what it
answered; the *lab* adds what it did itself (plugged, removed, injected) and what it noticed (a panic).

An event is **exact** (the device itself acted on that value) or **sampled** (guest memory read after the fact). `Submitted`
and `Completed` may mix both, so they name the fields that are exact; all other events say ``sampled`` as a whole. Where the
memory had been overwritten before it could be read, an entry is **rebuilt** from its exact fields: nothing else of it is known.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from lab.nvme.commands import Command, decode
from lab.nvme.completions import Completion


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at ``t`` (seconds, host clock).

    ``line`` is its line in the evidence's events.jsonl, or minus its record's number in the controller's record.
    """

    KINDS: ClassVar[dict[str, type[Event]]] = {}

    t: float
    controller: str = ""  # which of the device's controllers, by its id in the DeviceSpec; "" where it is none of them
    line: int = field(default=0, compare=False, repr=False)

    def __init_subclass__(cls) -> None:
        """Register the kind by its name."""
        Event.KINDS[cls.__name__] = cls

    def is_exact(self, *fields: str) -> bool:
        """Return whether the device itself saw these fields; all of the event, if none is named."""
        del fields  # part of the protocol
        return not getattr(self, "sampled", False)

    def is_known(self, *fields: str) -> bool:
        """Return whether anything saw these fields; all of the event, if none is named."""
        return not getattr(self, "rebuilt", False) or self.is_exact(*fields)


# -- the device side ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConfigWrite(Event):
    """The host wrote ``size`` bytes of the function's PCI configuration space."""

    offset: int
    size: int
    value: int


@dataclass(frozen=True, kw_only=True)
class MsixWrite(Event):
    """The host wrote ``size`` bytes of the MSI-X table at ``offset``: 16 bytes an entry (address, data, vector control).

    Behind QEMU, which answers for the table, no device sees such writes.
    """

    offset: int
    size: int
    value: int


@dataclass(frozen=True, kw_only=True)
class RegisterRead(Event):
    """The host read ``size`` bytes of BAR0 at ``offset``."""

    offset: int
    size: int
    value: int


@dataclass(frozen=True, kw_only=True)
class RegisterWrite(Event):
    """The host wrote ``size`` bytes of BAR0 at ``offset``, below the doorbells."""

    offset: int
    size: int
    value: int


@dataclass(frozen=True, kw_only=True)
class Doorbell(Event):
    """The host wrote BAR0 at or above 1000h. ``qid`` is -1 where no doorbell of the current stride starts at ``offset``."""

    offset: int
    size: int
    value: int
    qid: int
    completion: bool  # a completion queue's head, else a submission queue's tail


@dataclass(frozen=True, kw_only=True)
class Submitted(Event):
    """The controller fetched a 64-byte submission queue entry.

    ``exact`` names the fields that the device itself acted on; None means all of them.
    """

    sqid: int
    raw: bytes
    slot: int = -1  # index in the ring; -1 where not known
    exact: tuple[str, ...] | None = None
    rebuilt: bool = False  # the other fields are not known, and zero in ``raw``

    @cached_property
    def command(self) -> Command:
        """Return the decoded command."""
        return decode(self.raw, admin=self.sqid == 0)

    @cached_property
    def key(self) -> tuple[int, int]:
        """(SQID, CID): what distinguishes it from the other commands in flight."""
        return self.sqid, self.command.CID

    def is_exact(self, *fields: str) -> bool:
        """Return whether the device itself saw these fields."""
        return self.exact is None or (bool(fields) and all(name in self.exact for name in fields))


@dataclass(frozen=True, kw_only=True)
class Completed(Event):
    """The controller posted a 16-byte completion queue entry to queue ``cqid``; ``exact``, ``rebuilt`` as in `Submitted`."""

    cqid: int
    raw: bytes
    exact: tuple[str, ...] | None = None
    rebuilt: bool = False

    @cached_property
    def completion(self) -> Completion:
        """Return the decoded completion."""
        return Completion(self.raw)

    @cached_property
    def key(self) -> tuple[int, int]:
        """(SQID, CID) of the command that it ends."""
        return self.completion.SQID, self.completion.CID

    @cached_property
    def head(self) -> int | None:
        """SQHD, where the device itself is known to have said it."""
        return self.completion.SQHD if self.is_exact("SQHD") else None

    def is_exact(self, *fields: str) -> bool:
        """Return whether the device itself saw these fields."""
        return self.exact is None or (bool(fields) and all(name in self.exact for name in fields))


@dataclass(frozen=True, kw_only=True)
class PrpList(Event):
    """The controller read a PRP list page: ``entries`` from ``address`` on, for command ``cid`` of ``sqid``."""

    sqid: int
    cid: int
    address: int
    entries: tuple[int, ...]
    sampled: bool = False


@dataclass(frozen=True, kw_only=True)
class Dma(Event):
    """The controller moved ``length`` bytes at ``address`` of host memory for command ``cid`` of ``sqid``.

    ``to_host`` is the direction; ``digest`` is `lab.data.stream.digest` of the bytes, "" if not taken.
    """

    sqid: int
    cid: int
    address: int
    length: int
    to_host: bool
    digest: str = ""
    sampled: bool = False


@dataclass(frozen=True, kw_only=True)
class DmaMap(Event):
    """The host's IOMMU opened (``mapped``) or closed ``length`` bytes at ``address`` to the device."""

    address: int
    length: int
    mapped: bool


@dataclass(frozen=True, kw_only=True)
class Interrupt(Event):
    """The controller signalled ``vector``; ``how`` is msix, msi or intx."""

    vector: int
    how: str


@dataclass(frozen=True, kw_only=True)
class ShadowDoorbell(Event):
    """The controller looked into the shadow doorbell buffer, and queue ``qid`` had a new tail or head there."""

    qid: int
    completion: bool  # a completion queue's head, else a submission queue's tail
    value: int


@dataclass(frozen=True, kw_only=True)
class EventIndex(Event):
    """The controller wrote an EventIdx: the host shall ring the doorbell itself once its value goes beyond this one."""

    qid: int
    completion: bool
    value: int


@dataclass(frozen=True, kw_only=True)
class Reset(Event):
    """The controller went back to its reset state. ``cause``: cc-en, shutdown, flr, bus, power or unplug."""

    cause: str


@dataclass(frozen=True, kw_only=True)
class Remark(Event):
    """The device's own words: a trace event that is none of the above, or a rule the model saw broken."""

    name: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unknown(Event):
    """A line of the trace that no declaration explains, kept as it came."""

    text: str


# -- the driver's own memory, where the lab can look over its shoulder ---------------------------------------------------


MEMORY_WATCHED = "memory-watched"
"""The remark that the following events of a controller's record hold all that its driver does in DMA memory."""


@dataclass(frozen=True, kw_only=True)
class MemoryRead(Event):
    """The driver read ``length`` bytes at bus address ``address`` of its DMA memory, all in one page."""

    address: int
    length: int
    raw: bytes = b""  # the bytes, if they are a few


@dataclass(frozen=True, kw_only=True)
class MemoryWrite(Event):
    """The driver wrote ``length`` bytes at bus address ``address`` of its DMA memory, all in one page."""

    address: int
    length: int
    raw: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Barrier(Event):
    """The driver asked for a memory barrier: what it stored before is seen before whatever it loads or stores after it."""


# -- the lab and the driver -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Plugged(Event):
    """The lab put a controller in front of the guest (``present``) or took it away."""

    present: bool


@dataclass(frozen=True, kw_only=True)
class FaultInjected(Event):
    """A fault of the scenario struck, at command ``cid`` of ``sqid`` where it has one (-1 otherwise)."""

    fault: str
    sqid: int = -1
    cid: int = -1


@dataclass(frozen=True, kw_only=True)
class ActionStarted(Event):
    """The driver was asked; ``number`` counts the scenario's actions from 0."""

    number: int
    action: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ActionEnded(Event):
    """A driver's answer: the fields of docs/drivers.md, "Actions and answers"; ``data`` names a file of the evidence."""

    number: int
    action: str
    answer: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Panicked(Event):
    """The guest's own words say that it has died."""

    text: str


E = TypeVar("E", bound=Event)


def revive(kind: type[E], values: Mapping[str, Any]) -> E:
    """Return an event with these fields, without looking whether they are all that it has: a record is full of them."""
    event = object.__new__(kind)
    event.__dict__.update(values)
    return event


# -- to and from JSON -----------------------------------------------------------------------------------------------

_READERS: dict[str, Callable[[Any], Any]] = {
    "bytes": bytes.fromhex,
    "tuple[int, ...]": tuple,
    "tuple[str, ...] | None": lambda value: None if value is None else tuple(value),
}
"""How fields are read whose types JSON does not have."""
_READ = {
    name: [(f.name, _READERS[str(f.type)]) for f in dataclasses.fields(kind) if re.match("bytes|tuple", str(f.type))]
    for name, kind in Event.KINDS.items()
}
_OMIT = {
    name: {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    for name, kind in Event.KINDS.items()
}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as a JSON object; bytes as hexadecimal, defaults left out."""
    kind = type(event).__name__
    out: dict[str, Any] = {"kind": kind}
    for name in _FIELDS[kind]:
        value = getattr(event, name)
        if name in _OMIT[kind] and value == _OMIT[kind][name]:
            continue
        out[name] = value.hex() if isinstance(value, bytes) else value
    return out


def from_json(data: Mapping[str, Any], line: int = 0) -> Event:
    """Return the event of a JSON object; KeyError, TypeError or ValueError if it is none."""
    values = dict(data)
    kind = values.pop("kind")
    for name, read in _READ[kind]:
        if name in values:
            values[name] = read(values[name])
    if not isinstance(values["t"], int | float):
        raise TypeError("its time is no number")
    return Event.KINDS[kind](**values, line=line)


_FIELDS = {name: [f.name for f in dataclasses.fields(kind) if f.name != "line"] for name, kind in Event.KINDS.items()}
