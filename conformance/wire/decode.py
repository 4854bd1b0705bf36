"""Events in, timeline out: what host and device said to each other, decoded, a row an event.

Names and fields come from the tables of `lab.nvme`. Nothing is judged here, and what was not seen is not shown: a field
that was sampled from memory after the fact carries ``~``, one of a rebuilt entry that was not seen is left out. Whatever a
driver or a guest said is shown without control characters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any, Literal

from conformance.record.state import State
from conformance.record.words import words
from lab.data.events import (
    ActionEnded,
    ActionStarted,
    Barrier,
    Completed,
    ConfigWrite,
    Dma,
    DmaMap,
    Doorbell,
    Event,
    EventIndex,
    FaultInjected,
    Interrupt,
    MemoryRead,
    MemoryWrite,
    MsixWrite,
    Panicked,
    Plugged,
    PrpList,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    ShadowDoorbell,
    Submitted,
    Unknown,
)
from lab.data.plan import Scenario
from lab.nvme.commands import Command, GetFeatures, GetLogPage, Identify, LbaCommand, Select, SetFeatures
from lab.nvme.features import Fid
from lab.nvme.fields import Register
from lab.nvme.identify import Cns, Csi
from lab.nvme.logs import Lid
from lab.nvme.registers import OPTIONAL, REGISTERS

Direction = Literal["→", "←", "·"]
TO_DEVICE: Direction = "→"
TO_HOST: Direction = "←"
BESIDE: Direction = "·"
"""Neither of both: the driver's and the lab's own."""

LONGEST = 240
"""Characters of a driver's or a guest's words that a row shows."""
QUOTED = 120
"""Characters of a row that a failure quotes."""

NAMES: Mapping[tuple[type[Command], str], type[IntEnum]] = {
    (Identify, "CNS"): Cns,
    (Identify, "CSI"): Csi,
    (GetLogPage, "LID"): Lid,
    (GetFeatures, "FID"): Fid,
    (GetFeatures, "SEL"): Select,
    (SetFeatures, "FID"): Fid,
}
"""The fields whose values have names."""

PCI_HEADER = {0x04: "Command", 0x06: "Status", 0x0C: "Cache Line Size", 0x0D: "Latency Timer", 0x30: "Expansion ROM",
              0x3C: "Interrupt Line"} | {0x10 + 4 * n: f"BAR{n}" for n in range(6)}  # fmt: skip
"""Offsets of PCI configuration space that hosts write. PCI Local Bus 3.0, 6.1 "Configuration Space Organization"."""
PCI_COMMAND = {0: "I/O space", 1: "memory space", 2: "bus master", 10: "INTx disabled"}
"""Bits of the Command register. PCI Local Bus 3.0, 6.2.2 "Device Control"."""

TELLING = frozenset({"SLBA", "NLB"})
"""Fields of which zero says something: the first block, and one block."""

_REGISTERS = (*REGISTERS, *OPTIONAL)


class Trust(StrEnum):
    """How far an event may be relied on (`lab.data.events`), as the mark that a row carries."""

    EXACT = " "
    SAMPLED = "~"
    REBUILT = "?"


@dataclass(frozen=True)
class WireLine:
    """One event, decoded. ``t`` is in seconds since the first event; ``command`` counts submissions from 1."""

    t: float
    event: Event
    direction: Direction
    name: str
    detail: str = ""
    command: int | None = None
    vector: int | None = None  # of a completion: the interrupt vector of its queue, where it has one

    @property
    def trust(self) -> Trust:
        """Return whether the event was seen exactly, sampled or rebuilt."""
        if getattr(self.event, "rebuilt", False):
            return Trust.REBUILT
        return Trust.EXACT if self.event.is_exact() else Trust.SAMPLED

    @property
    def number(self) -> str:
        """Return the command's number as people write it; "" where the row belongs to none."""
        return "" if self.command is None else f"#{self.command}"

    @property
    def line(self) -> str:
        """Return the row as one line of text, as a failure quotes it."""
        mark = f"{self.direction}{self.trust}".rstrip()
        said = f"{self.name}  {self.detail}".rstrip()
        return shortened(f"{self.t:.6f}  {mark}  {self.number + '  ' if self.number else ''}{said}", QUOTED)


def timeline(scenario: Scenario, events: Iterable[Event]) -> Iterator[WireLine]:
    """Yield the rows of events, which come in the order of time."""
    decoder = Timeline(scenario)
    return (decoder.row(event) for event in events)


class Timeline:
    """Decodes events into rows and numbers commands in order; it keeps the state of each controller."""

    def __init__(self, scenario: Scenario) -> None:
        """Begin before the first event, with the reset state of each of the scenario's controllers."""
        self._states = {spec.id: State(spec, None) for spec in scenario.device.controllers}
        self._only = next(iter(self._states)) if len(self._states) == 1 else ""
        self._numbers: dict[tuple[str, int, int], int] = {}  # (controller, SQID, CID) → its last submission's number
        self._submitted: dict[int, float] = {}  # number → when
        self._start: float | None = None

    def row(self, event: Event) -> WireLine:
        """Return the row of the next event."""
        if self._start is None:
            self._start = event.t
        direction, tell = _TELLERS[type(event)]
        name, detail = tell(event)
        row = WireLine(event.t - self._start, event, direction(event), name, printable(detail))
        controller = event.controller or self._only
        state = self._states.get(controller)
        row = self._numbered(row, controller, state)
        if state is not None and (move := State.MOVES.get(type(event))):
            move(state, event)
        return row

    def _numbered(self, row: WireLine, controller: str, state: State | None) -> WireLine:
        """Return the row with its command's number, and a completion with its command."""
        match row.event:
            case Submitted() as event:
                number = self._numbers[controller, *event.key] = len(self._submitted) + 1
                self._submitted[number] = event.t
                return replace(row, command=number)
            case Completed() as event:
                return self._ending(row, event, controller, state)
            case PrpList(sqid=sqid, cid=cid) | Dma(sqid=sqid, cid=cid) | FaultInjected(sqid=sqid, cid=cid):
                return replace(row, command=self._numbers.get((controller, sqid, cid)))
        return row

    def _ending(self, row: WireLine, event: Completed, controller: str, state: State | None) -> WireLine:
        submitted = state.answered(event) if state else None
        queue = state.cqs.get(event.cqid) if state else None
        vector = queue.vector if queue else None
        if submitted is None:
            return replace(row, detail=f"{row.detail}  of no command in flight", vector=vector)
        number = self._numbers[controller, *event.key]
        took = (event.t - submitted.t) * 1e6
        detail = f"{command_name(submitted.command)}: {row.detail}  after {took:.0f} µs"
        return replace(row, detail=detail, command=number, vector=vector)


# -- what an event says -----------------------------------------------------------------------------------------------


def command_name(command: Command) -> str:
    """Return the specification's name of a command, or its opcode."""
    if command.OPCODE is None:
        return f"opcode {command.OPC:02X}h"
    return (type(command).__doc__ or "").partition(".")[0]


def field_texts(holder: Register | Command, values: Mapping[str, Any] | None = None) -> Iterator[str]:
    """``NAME=value`` of the fields that are not zero or `TELLING`, with the value's own name where it has one."""
    for name, value in (holder.fields() if values is None else values).items():
        if value or name in TELLING:
            yield f"{name}={_value(value)}{_meaning(holder, name, value)}"


def printable(text: str) -> str:
    """Return the text on one line, without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return the text as `printable` does, but keep the ends of its lines."""
    if text.isprintable():  # nearly always, of millions of strings in a report
        return text
    return "\n".join(map(printable, text.split("\n")))


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_value, value))
    if isinstance(value, int):
        return f"{int(value):#x}" if value > 9 else str(int(value))
    return value.hex() if isinstance(value, bytes) else str(value)


def _meaning(holder: Register | Command, name: str, value: Any) -> str:
    names = NAMES.get((type(holder), name))  # type: ignore[arg-type]
    try:
        return f" ({names(value).name.lower().replace('_', ' ')})" if names else ""
    except ValueError:
        return ""


def _register(event: RegisterRead | RegisterWrite) -> tuple[str, str]:
    for register in _REGISTERS:
        shift = event.offset - register.OFFSET
        if 0 <= shift < register.SIZE:
            name = register.__name__ + (f"+{shift}" if shift else "")
            fields = " ".join(field_texts(register(event.value << shift * 8)))
            return name, f"{event.value:#x}  {fields}".rstrip()
    return f"offset {event.offset:X}h", f"{event.value:#x}  {event.size} bytes"


def _read(event: RegisterRead) -> tuple[str, str]:
    name, detail = _register(event)
    return f"read {name}", detail


def _written(event: RegisterWrite) -> tuple[str, str]:
    name, detail = _register(event)
    return f"write {name}", detail


MSIX_ENTRY = 16
MSIX_WORDS = {0: "address", 4: "address, upper half", 8: "data", 12: "control"}
"""Bytes of an entry of the MSI-X table, and what its dwords are."""


def _configured(event: ConfigWrite) -> tuple[str, str]:
    detail = f"{event.value:#x}"
    if event.offset == 0x04:
        detail += "  " + ", ".join(name for bit, name in PCI_COMMAND.items() if event.value >> bit & 1)
    return f"write PCI {PCI_HEADER.get(event.offset, f'{event.offset:02X}h')}", detail.rstrip()


def _vector_written(event: MsixWrite) -> tuple[str, str]:
    vector, at = divmod(event.offset, MSIX_ENTRY)
    return f"write MSI-X vector {vector} {MSIX_WORDS.get(at, f'byte {at}')}", f"{event.value:#x}"


def _rung(event: Doorbell) -> tuple[str, str]:
    if event.qid < 0:
        return "doorbell", f"{event.value:#x} at {event.offset:X}h, where no doorbell starts"
    queue, pointer = ("CQ", "head") if event.completion else ("SQ", "tail")
    return "doorbell", f"{queue} {event.qid} {pointer} {event.value}"


def _submitted(event: Submitted) -> tuple[str, str]:
    command = event.command
    parts = [f"SQ {event.sqid}", f"CID {command.CID:#x}"]
    for name, value in command.fields().items():
        if name not in ("OPC", "CID") and event.is_known(name):
            mark = "" if event.is_exact(name) else Trust.SAMPLED
            parts += (mark + text for text in field_texts(command, {name: value}))
    if isinstance(command, LbaCommand) and event.is_known("NLB"):
        parts.append(f"({command.blocks} block{'s' if command.blocks != 1 else ''})")
    return command_name(command), " ".join(parts)


def _completed(event: Completed) -> tuple[str, str]:
    done = event.completion
    parts = ["success" if done.ok else done.text, f"CQ {event.cqid}", f"CID {done.CID:#x}"]
    for name in ("SQID", "SQHD", "DW0", "DW1", "P", "CRD", "M", "DNR"):
        value = getattr(done, name)
        if event.is_known(name) and (value or name == "P"):
            parts.append(f"{'' if event.is_exact(name) else Trust.SAMPLED}{name}={_value(value)}")
    return "completion", " ".join(parts)


def _listed(event: PrpList) -> tuple[str, str]:
    shown = [f"{entry:#x}" for entry in event.entries[:4]]
    more = len(event.entries) - len(shown)
    detail = f"{len(event.entries)} entries at {event.address:#x}: {', '.join(shown)}"
    return "PRP list", detail + (f" and {more} more" if more else "")


def _moved(event: Dma) -> tuple[str, str]:
    digest = f"  SHA-1 {event.digest}…" if event.digest else ""
    return f"DMA {'write' if event.to_host else 'read'}", f"{event.length} bytes at {event.address:#x}{digest}"


def _mapped(event: DmaMap) -> tuple[str, str]:
    return f"IOMMU {'map' if event.mapped else 'unmap'}", f"{event.length:#x} bytes at {event.address:#x}"


def _shadowed(event: ShadowDoorbell | EventIndex) -> tuple[str, str]:
    queue, pointer = ("CQ", "head") if event.completion else ("SQ", "tail")
    name = "shadow doorbell" if isinstance(event, ShadowDoorbell) else "EventIdx"
    return name, f"{queue} {event.qid} {pointer} {event.value}"


def _touched(event: MemoryRead | MemoryWrite) -> tuple[str, str]:
    verb = "reads" if isinstance(event, MemoryRead) else "writes"
    return f"driver {verb}", f"{event.length} bytes at {event.address:#x}" + (f"  {event.raw.hex()}" if event.raw else "")


def _struck(event: FaultInjected) -> tuple[str, str]:
    return "FAULT", event.fault + (f" at SQ {event.sqid} CID {event.cid:#x}" if event.sqid >= 0 else "")


def _asked(event: ActionStarted) -> tuple[str, str]:
    return f"ask {printable(str(event.action))}", " ".join(_arguments(event.arguments, str))


def _answered(event: ActionEnded) -> tuple[str, str]:
    status = words(event.answer.get("status"))
    fields = (f"{name}={_json(value)}" for name, value in event.answer.items() if name != "status")
    return f"answer {printable(str(event.action))}", shortened("  ".join([status, *fields]))


def _json(value: Any) -> str:
    return value if isinstance(value, str) and value.isalnum() else json.dumps(value, ensure_ascii=False, default=str)


def _remarked(event: Remark) -> tuple[str, str]:
    return "remark", " ".join([printable(event.name), *_arguments(event.detail, _value)])


def _arguments(named: Mapping[str, Any], text: Callable[[Any], str]) -> Iterator[str]:
    """``name=value`` of each that has a value, in words and not in Python's."""
    for name, value in named.items():
        if value is not None:
            yield f"{name}={('no', 'yes')[value] if isinstance(value, bool) else text(value)}"


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return the text, or the begin and length of a long one."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


def _always(direction: Direction) -> Callable[[Event], Direction]:
    return lambda _: direction


def _moving(event: Dma) -> Direction:
    return TO_HOST if event.to_host else TO_DEVICE


_TELLERS: Mapping[type[Event], tuple[Callable[[Any], Direction], Callable[[Any], tuple[str, str]]]] = {
    ConfigWrite: (_always(TO_DEVICE), _configured),
    MsixWrite: (_always(TO_DEVICE), _vector_written),
    RegisterRead: (_always(TO_HOST), _read),
    RegisterWrite: (_always(TO_DEVICE), _written),
    Doorbell: (_always(TO_DEVICE), _rung),
    Submitted: (_always(TO_DEVICE), _submitted),
    Completed: (_always(TO_HOST), _completed),
    PrpList: (_always(TO_DEVICE), _listed),
    Dma: (_moving, _moved),
    DmaMap: (_always(TO_DEVICE), _mapped),
    ShadowDoorbell: (_always(TO_DEVICE), _shadowed),
    EventIndex: (_always(TO_HOST), _shadowed),
    MemoryRead: (_always(BESIDE), _touched),
    MemoryWrite: (_always(BESIDE), _touched),
    Barrier: (_always(BESIDE), lambda _: ("driver barrier", "")),
    Interrupt: (_always(TO_HOST), lambda event: ("interrupt", f"{event.how} vector {event.vector}")),
    Reset: (_always(BESIDE), lambda event: ("RESET", event.cause)),
    Remark: (_always(BESIDE), _remarked),
    Unknown: (_always(BESIDE), lambda event: ("unknown", shortened(event.text))),
    Plugged: (_always(BESIDE), lambda event: ("plugged" if event.present else "unplugged", "")),
    FaultInjected: (_always(BESIDE), _struck),
    ActionStarted: (_always(BESIDE), _asked),
    ActionEnded: (_always(BESIDE), _answered),
    Panicked: (_always(BESIDE), lambda event: ("PANIC", shortened(event.text))),
}


# -- an entry, whole ---------------------------------------------------------------------------------------------------


def dump(row: WireLine) -> Iterator[str]:
    """Return the bytes and fields of an entry, or the entries of a PRP list; nothing for other events."""
    match row.event:
        case Submitted(raw=raw, command=holder) | Completed(raw=raw, completion=holder):
            yield from (f"{at:02x}: {raw[at : at + 16].hex(' ', 4)}" for at in range(0, len(raw), 16))
            for name, value in holder.fields().items():
                yield _line(row.event, name, value, _meaning(holder, name, value) if isinstance(holder, Command) else "")
            yield from (f"reserved bits {bits:#04x} set in byte {at}" for at, bits in holder.reserved.items())
        case PrpList() as listed:
            yield from (f"{index:4} {entry:#x}" for index, entry in enumerate(listed.entries))


def _line(event: Event, name: str, value: Any, meaning: str) -> str:
    if not event.is_known(name):
        return f"{name:10} not seen"
    return f"{name:10} {_value(value)}{meaning}{'' if event.is_exact(name) else '  ~ sampled'}"
