"""The third part of the proof: a recorded wire that was tampered with. What breaks a listed rule is never PASSed by its check.

The unmodified driver is recorded once in a scenario. A mutation changes one thing on that wire: a field of a submission, the
value of a doorbell or register, the width of an access, the order of two events, or it takes one away. Each mutation names the
check of the rule that it breaks; that check may say FAIL or WARN, or that nothing can be said, but never PASS.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conformance.judging.judge import Verdict, judge
from conformance.suite.selection import CHECKS
from lab.data.events import (
    Completed,
    ConfigWrite,
    DmaMap,
    Doorbell,
    Event,
    MemoryWrite,
    RegisterRead,
    RegisterWrite,
    Remark,
    Submitted,
)
from lab.data.evidence import Evidence
from lab.nvme.commands import (
    Command,
    CreateIoCq,
    CreateIoSq,
    DatasetManagement,
    DeleteIoCq,
    DeleteIoSq,
    DoorbellBufferConfig,
    Flush,
    Identify,
    Read,
    SetFeatures,
    Write,
    WriteZeroes,
)
from lab.nvme.features import Fid
from lab.nvme.fields import Register
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, CSTS, VS

Wire = list[Event]
Change = Callable[[random.Random, Wire], Wire | None]
"""Returns the wire with one thing changed, at a place that is drawn; None where the wire has no such place."""


@dataclass(frozen=True)
class Mutation:
    """One row of the table: what is changed, where, and the check of the rule that this breaks."""

    id: str
    rule: str
    scenario: str
    change: Change


class TamperedEvidence(Evidence):
    """An evidence folder whose events are others."""

    def __init__(self, folder: Path, events: Sequence[Event]) -> None:
        """Read the folder, but return these events instead of its own."""
        super().__init__(folder)
        self._tampered = events

    def events(self) -> Iterator[Event]:
        """Yield the changed events."""
        yield from self._tampered


def judge_mutation(mutation: Mutation, recorded: Evidence, draw: random.Random) -> Verdict | None:
    """Return what the check of the broken rule says of the changed wire; None where the wire has no place for the change."""
    wire = mutation.change(draw, list(recorded.events()))
    if wire is None:
        return None
    (verdict,) = judge(TamperedEvidence(recorded.folder, wire), [CHECKS[mutation.rule]])
    return verdict


# -- kinds of changes -----------------------------------------------------------------------------------------------


def _places(wire: Wire, fits: Callable[[Event], bool]) -> list[int]:
    return [index for index, event in enumerate(wire) if fits(event)]


def _one(fits: Callable[[Event], bool], change: Callable[[random.Random, Any], Event]) -> Change:
    """Change one event that fits."""

    def apply(draw: random.Random, wire: Wire) -> Wire | None:
        if not (places := _places(wire, fits)):
            return None
        at = draw.choice(places)
        return [*wire[:at], change(draw, wire[at]), *wire[at + 1 :]]

    return apply


def _every(fits: Callable[[Event], bool], change: Callable[[Any], Event]) -> Change:
    """Change every event that fits."""

    def apply(_draw: random.Random, wire: Wire) -> Wire | None:
        return [change(event) if fits(event) else event for event in wire] if _places(wire, fits) else None

    return apply


def _without(fits: Callable[[Event], bool]) -> Change:
    """Take one event away that fits."""

    def apply(draw: random.Random, wire: Wire) -> Wire | None:
        if not (places := _places(wire, fits)):
            return None
        at = draw.choice(places)
        return wire[:at] + wire[at + 1 :]

    return apply


def _without_all(fits: Callable[[Event], bool]) -> Change:
    """Take every event away that fits."""

    def apply(_draw: random.Random, wire: Wire) -> Wire | None:
        left = [event for event in wire if not fits(event)]
        return left if len(left) < len(wire) else None

    return apply


def _before(fits: Callable[[Event], bool], anchor: Callable[[Event], bool]) -> Change:
    """Move the first event that fits to just before the first anchor, which is earlier on the wire."""

    def apply(_draw: random.Random, wire: Wire) -> Wire | None:
        moved, to = _places(wire, fits)[:1], _places(wire, anchor)[:1]
        if not moved or not to or moved[0] < to[0]:
            return None
        event = replace(wire[moved[0]], t=wire[to[0]].t)
        rest = wire[: moved[0]] + wire[moved[0] + 1 :]
        return [*rest[: to[0]], event, *rest[to[0] :]]

    return apply


def _insert(make: Callable[[random.Random, Event], Event], anchor: Callable[[Event], bool]) -> Change:
    """Put a new event behind one that fits."""

    def apply(draw: random.Random, wire: Wire) -> Wire | None:
        if not (places := _places(wire, anchor)):
            return None
        at = draw.choice(places)
        return [*wire[: at + 1], make(draw, wire[at]), *wire[at + 1 :]]

    return apply


def _lends(event: Event) -> bool:
    return isinstance(event, Remark) and event.name == "hmb-enabled"


def _lent_page(draw: random.Random, event: Event) -> int:
    """Return the address of some page that a remark says to be lent."""
    assert isinstance(event, Remark)
    address, length = draw.choice(event.detail["regions"])
    return int(address) + 8 * draw.randrange(int(length) // 8)


def _is(kind: type[Command], test: Callable[[Any], bool] = lambda command: True) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Submitted) and isinstance(event.command, kind) and test(event.command)


def _command(kind: type[Command], change: Callable[[random.Random, Any], dict[str, int]],
             test: Callable[[Any], bool] = lambda command: True) -> Change:  # fmt: skip
    """Set fields of a submission of a kind."""

    def changed(draw: random.Random, event: Any) -> Event:
        submitted: Submitted = event
        return replace(submitted, raw=bytes(submitted.command.but(**change(draw, submitted.command))))

    return _one(_is(kind, test), changed)


def _io_bits(first: int, count: int) -> Change:
    """Flip one of some bits of any I/O submission."""
    return _bits(first, count, lambda event: isinstance(event, Submitted) and event.sqid > 0)


def _bits(first: int, count: int, fits: Callable[[Event], bool] = lambda event: isinstance(event, Submitted)) -> Change:
    """Flip one of some bits of a submission."""

    def changed(draw: random.Random, event: Any) -> Event:
        submitted: Submitted = event
        bit = draw.randrange(first, first + count)
        return replace(submitted, raw=(int.from_bytes(submitted.raw, "little") ^ 1 << bit).to_bytes(64, "little"))

    return _one(fits, changed)


def _write_to(register: type[Register], test: Callable[[int], bool] = lambda value: True) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, RegisterWrite) and event.offset == register.OFFSET and test(event.value)


def _register(register: type[Register], change: Callable[[random.Random, int], int],
              test: Callable[[int], bool] = lambda value: True) -> Change:  # fmt: skip
    """Write another value to a register."""
    return _one(_write_to(register, test), lambda draw, event: replace(event, value=change(draw, event.value)))


def _enables(value: int) -> bool:
    return bool(CC(value).EN) and not CC(value).SHN


def _is_doorbell(*, completion: bool, admin: bool | None = None) -> Callable[[Event], bool]:
    return lambda event: (
        isinstance(event, Doorbell) and event.completion == completion and (admin is None or admin == (event.qid == 0))
    )


def _sees_ready(event: Event) -> bool:
    return isinstance(event, RegisterRead) and event.offset == CSTS.OFFSET and bool(CSTS(event.value).RDY)


def _two_pages(command: Read) -> bool:
    """Return whether a Read of blocks of 512 bytes touches two pages, so that PRP2 is the second one."""
    return 4096 < command.PRP1 % 4096 + command.blocks * 512 <= 8192


READS, SIZES, WRITES, PROTECTED = "read/basic", "read/sizes", "write/basic", "read/protected"
BRING_UP, QUEUES, LEAVING, RESET = "admin-queue/basic", "io-queues/basic", "reset/shutdown", "reset/asked"

MUTATIONS: tuple[Mutation, ...] = (
    # accesses to registers
    Mutation("register read of 1 or 2 bytes", "detect/access-width", BRING_UP,
             _one(lambda e: isinstance(e, RegisterRead), lambda d, e: replace(e, size=d.choice((1, 2))))),
    Mutation("register write of 1 or 2 bytes", "detect/access-width", BRING_UP,
             _one(lambda e: isinstance(e, RegisterWrite), lambda d, e: replace(e, size=d.choice((1, 2))))),
    Mutation("register read at an odd offset", "detect/access-width", BRING_UP,
             _one(lambda e: isinstance(e, RegisterRead), lambda d, e: replace(e, offset=e.offset + d.choice((1, 2, 3))))),
    Mutation("write to a read-only register", "detect/read-only", BRING_UP,
             _one(_write_to(AQA), lambda d, e: replace(e, offset=d.choice((CAP.OFFSET, VS.OFFSET, CAP.OFFSET + 4))))),
    Mutation("write to CSTS", "detect/read-only", BRING_UP,
             _one(_write_to(AQA), lambda d, e: replace(e, offset=CSTS.OFFSET, value=1 << d.randrange(4)))),
    Mutation("register access over two registers", "detect/one-register", BRING_UP,
             _one(lambda e: isinstance(e, RegisterRead) and e.offset == VS.OFFSET, lambda d, e: replace(e, size=8))),
    Mutation("write to a reserved register", "detect/reserved-register", BRING_UP,
             _one(_write_to(AQA), lambda d, e: replace(e, offset=d.choice((0x18, 0x80, 0x100, 0xF00))))),
    Mutation("reserved bits of CC", "detect/reserved-bits", BRING_UP,
             _register(CC, lambda d, v: v | 1 << d.randrange(25, 32), _enables)),
    Mutation("reserved bits of AQA", "detect/reserved-bits", BRING_UP,
             _register(AQA, lambda d, v: v | 1 << d.choice((12, 13, 14, 15, 28, 31)))),
    Mutation("subsystem reset that is not offered", "detect/nssr-gated", BRING_UP,
             _one(_write_to(AQA), lambda d, e: replace(e, offset=0x20, value=0x4E564D65))),
    Mutation("doorbell read", "admin-queue/no-doorbell-read", READS,
             _insert(lambda d, e: RegisterRead(t=e.t, controller=e.controller, offset=0x1000 + 4 * d.randrange(4), size=4,
                                               value=0), _is(Read))),
    Mutation("upper half of a doorbell", "admin-queue/doorbell-upper", READS,
             _one(_is_doorbell(completion=False), lambda d, e: replace(e, value=e.value | 1 << d.randrange(16, 32)))),
    Mutation("doorbell with the value it had", "admin-queue/doorbell-unchanged", READS,
             _insert(lambda d, e: e, _is_doorbell(completion=False))),
    Mutation("NSID of a queue command", "admin-queue/nsid-unused", QUEUES,
             _command(CreateIoCq, lambda d, c: {"NSID": d.randrange(1, 1 << 31)})),
    Mutation("PRP2 of a queue command", "admin-queue/prp2-unused", QUEUES,
             _command(CreateIoSq, lambda d, c: {"PRP2": d.randrange(1, 1 << 40) << 12})),
    Mutation("SGL in an admin command", "admin-queue/admin-prp", BRING_UP,
             _command(Identify, lambda d, c: {"PSDT": d.choice((1, 2))})),
    Mutation("command identifier FFFFh", "admin-queue/cid-ffff", READS, _command(Read, lambda d, c: {"CID": 0xFFFF})),
    Mutation("65536 submission queues", "io-queues/nsqr-max", QUEUES,
             _command(SetFeatures, lambda d, c: {"CDW11": c.CDW11 | 0xFFFF}, lambda c: c.FID == Fid.NUMBER_OF_QUEUES)),
    Mutation("SGL that is not offered", "read/sgl-gate", READS, _command(Read, lambda d, c: {"PSDT": 1})),
    # limits, protection information, lent memory
    Mutation("reference tag of a Read", "read/pi-type1", PROTECTED,
             _command(Read, lambda d, c: {"ILBRT": c.ILBRT ^ 1 << d.randrange(32)})),
    Mutation("reference tag of a Write", "read/pi-type1", PROTECTED,
             _command(Write, lambda d, c: {"ILBRT": c.ILBRT ^ 1 << d.randrange(32)})),
    Mutation("check of protection information in Write Zeroes", "write/zeroes-prchk", PROTECTED,
             _command(WriteZeroes, lambda d, c: {"PRINFO": c.PRINFO | 1 << d.randrange(3)})),
    Mutation("read over a boundary", "read/noiob", "read/boundary", _command(Read, lambda d, c: {"NLB": d.randrange(32, 64)})),
    Mutation("zeroes beyond the limit", "write/size-limits", "write/limits",
             _command(WriteZeroes, lambda d, c: {"NLB": d.randrange(16, 1 << 16)})),
    Mutation("shadow doorbells misaligned", "multiqueue/shadow-buffers", "multiqueue/shadow",
             _command(DoorbellBufferConfig, lambda d, c: {"PRP1": c.PRP1 | 1 << d.randrange(2, 12)})),
    Mutation("EventIdxs misaligned", "multiqueue/shadow-buffers", "multiqueue/shadow",
             _command(DoorbellBufferConfig, lambda d, c: {"PRP2": c.PRP2 | 1 << d.randrange(2, 12)})),
    Mutation("write to lent memory", "features/hmb-untouched", "features/host-memory",
             _insert(lambda d, e: MemoryWrite(t=e.t, controller=e.controller, length=8, address=_lent_page(d, e)), _lends)),
    Mutation("lent memory never taken back", "features/hmb-released", "features/host-memory",
             _without_all(lambda e: isinstance(e, Submitted) and isinstance(e.command, SetFeatures)
                          and e.command.FID == Fid.HOST_MEMORY_BUFFER and not e.command.CDW11)),
    # bringing the controller up
    Mutation("bus mastering never enabled", "admin-queue/bus-master", QUEUES,
             _every(lambda e: isinstance(e, ConfigWrite) and e.offset == 4, lambda e: replace(e, value=e.value & ~4))),
    Mutation("admin queue misaligned", "admin-queue/aligned", BRING_UP,
             _register(ASQ, lambda d, v: v | 1 << d.randrange(2, 12))),
    Mutation("admin completion queue misaligned", "admin-queue/aligned", BRING_UP,
             _register(ACQ, lambda d, v: v | 1 << d.randrange(2, 12))),
    Mutation("one half of ASQ never written", "admin-queue/both-halves", BRING_UP,
             _without(lambda e: isinstance(e, RegisterWrite) and e.offset == ASQ.OFFSET + 4)),
    Mutation("one half of ACQ never written", "admin-queue/both-halves", BRING_UP,
             _without(lambda e: isinstance(e, RegisterWrite) and e.offset == ACQ.OFFSET + 4)),
    Mutation("admin queue of one entry", "admin-queue/aqa", BRING_UP,
             _register(AQA, lambda d, v: v & (0xFFF if d.random() < 0.5 else 0xFFF_0000))),
    Mutation("entry size of submissions", "admin-queue/entry-sizes", QUEUES,
             _register(CC, lambda d, v: int(CC(v).but(IOSQES=d.choice((0, 4, 5, 7)))), _enables)),
    Mutation("entry size of completions", "admin-queue/entry-sizes", QUEUES,
             _register(CC, lambda d, v: int(CC(v).but(IOCQES=d.choice((0, 3, 5, 6)))), _enables)),
    Mutation("memory page size out of range", "admin-queue/page-size", BRING_UP,
             _register(CC, lambda d, v: int(CC(v).but(MPS=d.randrange(5, 16))), _enables)),
    Mutation("reserved command set", "admin-queue/cc-valid", BRING_UP,
             _register(CC, lambda d, v: int(CC(v).but(CSS=d.choice((1, 2, 3, 4, 5)))), _enables)),
    Mutation("arbitration that is not offered", "admin-queue/cc-valid", BRING_UP,
             _register(CC, lambda d, v: int(CC(v).but(AMS=d.choice((1, 2, 3, 4, 5, 6, 7)))), _enables)),
    Mutation("CC changed while enabled", "admin-queue/cc-frozen", QUEUES,
             _insert(lambda d, e: RegisterWrite(t=e.t, controller=e.controller, offset=CC.OFFSET, size=4, value=int(
                 CC.of(EN=1, IOSQES=6, IOCQES=4, MPS=1 << d.randrange(4)))), _is(CreateIoSq))),
    Mutation("doorbell before CSTS.RDY is seen", "admin-queue/quiet-until-ready", BRING_UP,
             _before(_is_doorbell(completion=False), _sees_ready)),
    Mutation("mask register under MSI-X", "admin-queue/no-intm-with-msix", READS,
             _insert(lambda d, e: Remark(t=e.t, controller=e.controller, name="interrupt-mask-under-msix",
                                         detail={"register": d.choice(("INTMS", "INTMC")), "value": 1}), _is(Read))),
    # doorbells
    Mutation("tail beyond the ring", "admin-queue/doorbell", READS,
             _one(_is_doorbell(completion=False), lambda d, e: replace(e, value=d.randrange(4096, 1 << 16)))),
    Mutation("head beyond the ring", "admin-queue/head-doorbell", READS,
             _one(_is_doorbell(completion=True), lambda d, e: replace(e, value=d.randrange(4096, 1 << 16)))),
    Mutation("head beyond what was posted", "admin-queue/head-doorbell", READS,
             _one(_is_doorbell(completion=True), lambda d, e: replace(e, value=(e.value + d.randrange(1, 8)) % 32))),
    Mutation("doorbell of no queue", "admin-queue/doorbell", READS,
             _one(_is_doorbell(completion=False, admin=False),
                  lambda d, e: replace(e, offset=0x1000 + d.randrange(20, 100) * 8, qid=d.randrange(20, 100)))),
    Mutation("doorbell of 2 bytes", "admin-queue/doorbell", READS,
             _one(_is_doorbell(completion=False), lambda d, e: replace(e, size=2))),
    Mutation("heads never returned", "admin-queue/head-doorbell", "admin-queue/wraps",
             _without_all(_is_doorbell(completion=True, admin=True))),
    # what every submission shares
    Mutation("fused bits", "write/fused-pair", READS, _io_bits(8, 2)),
    Mutation("reserved bits of dword 0", "admin-queue/sqe-clean", READS, _bits(10, 4)),
    Mutation("reserved field of Identify", "admin-queue/sqe-clean", READS,
             _command(Identify, lambda d, c: {"CDW13": 1 << d.randrange(32)})),
    Mutation("reserved dword of Create I/O SQ", "admin-queue/sqe-clean", READS,
             _command(CreateIoSq, lambda d, c: {"CDW15": 1 << d.randrange(32)})),
    Mutation("an identifier twice in flight", "admin-queue/unique-cid", "write/backlog", lambda d, w: _same_cid(w)),
    # I/O queues
    Mutation("submission queue before its completion queue", "io-queues/order", QUEUES,
             _before(_is(CreateIoSq), _is(CreateIoCq))),
    Mutation("completion queue that is not there", "io-queues/live-cq", QUEUES,
             _command(CreateIoSq, lambda d, c: {"CQID": d.randrange(9, 1 << 16)})),
    Mutation("queue of one entry", "io-queues/size", QUEUES, _command(CreateIoSq, lambda d, c: {"QSIZE": 0})),
    Mutation("queue longer than MQES", "io-queues/size", QUEUES,
             _command(CreateIoCq, lambda d, c: {"QSIZE": d.randrange(2048, 1 << 16)})),
    Mutation("queue not contiguous where CQR is 1", "io-queues/contiguous", QUEUES,
             _command(CreateIoSq, lambda d, c: {"PC": 0})),
    Mutation("queue misaligned", "io-queues/aligned", QUEUES,
             _command(CreateIoSq, lambda d, c: {"PRP1": c.PRP1 | 1 << d.randrange(2, 12)})),
    Mutation("queue identifier again", "io-queues/unique-qid", QUEUES, lambda d, w: _same_qid(w)),
    Mutation("vector that is not there", "io-queues/vector", QUEUES,
             _command(CreateIoCq, lambda d, c: {"IV": d.randrange(100, 1 << 16)})),
    # transfers
    Mutation("blocks one too many", "read/extra", READS, _command(Read, lambda d, c: {"NLB": c.NLB + d.randrange(1, 9)})),
    Mutation("blocks one too few", "read/nlb", SIZES, _command(Read, lambda d, c: {"NLB": c.NLB - 1}, lambda c: c.NLB > 0)),
    Mutation("PRP2 with an offset", "read/prp2", SIZES,
             _command(Read, lambda d, c: {"PRP2": c.PRP2 | 1 << d.randrange(3, 12)}, _two_pages)),
    Mutation("PRP1 at a word", "read/prp1-aligned", READS, _command(Read, lambda d, c: {"PRP1": c.PRP1 | d.randrange(1, 4)})),
    Mutation("PRP1 of an admin command at a word", "admin-queue/data-pointer", BRING_UP,
             _command(Identify, lambda d, c: {"PRP1": c.PRP1 | d.randrange(1, 4)})),
    Mutation("PRP1 of an admin command inside a page", "admin-queue/data-pointer", BRING_UP,
             _command(Identify, lambda d, c: {"PRP1": c.PRP1 | 4 << d.randrange(10)})),
    Mutation("controller identifier that is not used", "identify/selectors-unused", BRING_UP,
             _command(Identify, lambda d, c: {"CNTID": d.randrange(1, 1 << 16)}, lambda c: c.CNS < 4)),
    Mutation("specific identifier that is not used", "identify/selectors-unused", BRING_UP,
             _command(Identify, lambda d, c: {"CNSSID": d.randrange(1, 1 << 16)}, lambda c: c.CNS < 4)),
    Mutation("bus mastering cleared later", "admin-queue/bus-master", READS,
             _insert(lambda d, e: ConfigWrite(t=e.t, controller=e.controller, offset=4, size=2, value=2), _is(CreateIoSq))),
    Mutation("memory of a queue given away", "io-queues/kept-memory", QUEUES, lambda d, w: _given_away(w)),
    Mutation("admin queues over each other", "io-queues/no-overlap", BRING_UP, lambda d, w: _one_place(w)),
    Mutation("slot that was not filled", "admin-queue/entry-written", "io-queues/watched",
             _without(lambda e: isinstance(e, MemoryWrite) and e.length == 64)),
    Mutation("flush of another namespace", "write/flush-nsid", WRITES,
             _command(Flush, lambda d, c: {"NSID": d.randrange(2, 1 << 31)})),
    Mutation("no flush", "write/flush", WRITES, _without_all(_is(Flush))),
    Mutation("FUA lost", "write/fua", "write/fua", _command(Write, lambda d, c: {"FUA": 0}, lambda c: bool(c.FUA))),
    Mutation("trim that deallocates nothing", "features/trim", "features/trim",
             _command(DatasetManagement, lambda d, c: {"AD": 0})),
    Mutation("queue beyond what was granted", "io-queues/grant", QUEUES,
             _command(CreateIoCq, lambda d, c: {"QID": d.randrange(100, 1 << 16)})),
    Mutation("completion queue deleted before its submission queue", "io-queues/cq-after-sqs", LEAVING,
             _before(_is(DeleteIoCq), _is(DeleteIoSq))),
    # leaving and resetting
    Mutation("no shutdown", "reset/shutdown", LEAVING, _without_all(_write_to(CC, lambda v: bool(CC(v).SHN)))),
    Mutation("doorbell while EN is 0", "reset/no-doorbell", RESET,
             _insert(lambda d, e: Doorbell(t=e.t, controller=e.controller, offset=0x1000, size=4, value=1, qid=0,
                                           completion=False), _write_to(CC, lambda v: not CC(v).EN))),
)  # fmt: skip
"""Mutation to rule."""


def _same_cid(wire: Wire) -> Wire | None:
    """Give a command the identifier of the one before it on the same queue, both in flight."""
    previous: Submitted | None = None
    for index, event in enumerate(wire):
        if isinstance(event, Completed):
            previous = None
        elif isinstance(event, Submitted) and event.sqid:
            if previous is not None and previous.sqid == event.sqid:
                changed = replace(event, raw=event.raw[:2] + previous.raw[2:4] + event.raw[4:])
                return [*wire[:index], changed, *wire[index + 1 :]]
            previous = event
    return None


def _given_away(wire: Wire) -> Wire | None:
    """Close the memory of a submission queue to the device once the queue is in use."""
    created = next((e for e in wire if isinstance(e, Submitted) and isinstance(e.command, CreateIoSq)), None)
    used = _places(wire, lambda event: isinstance(event, Submitted) and event.sqid > 0)
    if created is None or not used:
        return None
    anchor = wire[used[0]]
    closed = DmaMap(t=anchor.t, controller=anchor.controller, address=created.command.PRP1, length=4096, mapped=False)
    return [*wire[: used[0]], closed, *wire[used[0] :]]


def _one_place(wire: Wire) -> Wire | None:
    """Program the same address as ASQ and ACQ."""
    low = next((e.value for e in wire if isinstance(e, RegisterWrite) and e.offset == ASQ.OFFSET), None)
    if low is None:
        return None
    return [replace(e, value=low) if isinstance(e, RegisterWrite) and e.offset == ACQ.OFFSET else e for e in wire]


def _same_qid(wire: Wire) -> Wire | None:
    """Create the second submission queue with the identifier of the first."""
    places = _places(wire, _is(CreateIoSq))
    if len(places) < 2:
        return None
    first, second = wire[places[0]], wire[places[1]]
    assert isinstance(first, Submitted)
    assert isinstance(second, Submitted)
    assert isinstance(first.command, CreateIoSq)
    changed = replace(second, raw=bytes(second.command.but(QID=first.command.QID)))
    return [*wire[: places[1]], changed, *wire[places[1] + 1 :]]
