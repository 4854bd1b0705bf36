"""What one controller is between two events, and how each event moves it.

`State` is the only place that knows what a controller was at each moment: enabled, live queues, commands in flight, epoch
since the last reset. `conformance.record.record.Record.walk` folds the events over it.

A move replaces what it changes, a queue or a collection, and alters nothing that an earlier copy of the state has too. So a
copy shares all its parts with the state, and costs next to nothing: every event of a record can have its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

from lab.data.events import (
    Completed,
    ConfigWrite,
    Doorbell,
    Event,
    Interrupt,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    ShadowDoorbell,
    Submitted,
)
from lab.data.plan import Controller, Namespace
from lab.data.profile import Profile
from lab.nvme.commands import (
    Command,
    CreateIoCq,
    CreateIoSq,
    DeleteIoCq,
    DeleteIoSq,
    DoorbellBufferConfig,
    LbaCommand,
    Read,
    SetFeatures,
    Write,
)
from lab.nvme.completions import Completion
from lab.nvme.features import Fid
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, CSTS

K = TypeVar("K")
V = TypeVar("V")

PRACT, PROTECTION_BYTES = 1 << 3, 8
"""The bit of PRINFO that lets the controller insert and strip protection information, and the bytes of that."""


def strips_protection(namespace: Namespace, command: LbaCommand) -> bool:
    """Return whether protection information stays in the controller: PRACT=1, and the metadata is nothing else."""
    acts = isinstance(command, Read | Write) and bool(command.PRINFO & PRACT)
    return acts and bool(namespace.protection) and namespace.metadata_size == PROTECTION_BYTES


BUS_MASTER = 1 << 2
"""Of the PCI Command register."""
NAMESPACE_CHANGED = "namespace-changed"
"""The remark on a namespace that the lab has given another size or format, while the driver uses it."""


NEW_FIRMWARE = "new-firmware"
"""The remark on a reset that has activated firmware, with the fields of CAP and Identify Controller that are others now."""


def changed_spec(spec: Controller, event: Remark) -> Controller:
    """Return a controller whose namespace is as the remark says; nothing is known of its blocks' former content."""
    blocks, size = int(event.detail["blocks"]), int(event.detail["block_size"])
    changed = (
        replace(n, blocks=blocks, block_size=size, areas=()) if n.nsid == event.detail["nsid"] else n for n in spec.namespaces
    )
    return replace(spec, namespaces=tuple(changed))


Move = Callable[["State", Any], None]
"""What an event does to its controller's state."""
SHST_COMPLETE = 0b10
"""CSTS.SHST of a controller whose shutdown is complete."""
NOT_RESETS = ("cc-en", "shutdown")
"""Causes of `Reset` that the fold has already seen, as writes of CC: EN=0 disables, SHN leaves everything as it is."""


@dataclass(slots=True)
class SubmissionQueue:
    """A live submission queue.

    ``tail`` is the last doorbell's value; ``head`` what the last completion said (SQHD), or what the controller had fetched
    where SQHD itself was not seen.
    """

    qid: int
    size: int
    base: int
    cqid: int
    contiguous: bool = True
    tail: int = 0
    head: int = 0
    fetched: int = 0  # commands taken since it was created

    def copy(self) -> SubmissionQueue:
        """Return a copy of the queue."""
        return SubmissionQueue(*_sq_values(self))

    def consume(self, head: int) -> None:
        """Move the head on to what a completion says; a completion that another one has overtaken moves nothing back."""
        if head < self.size and (head - self.head) % self.size <= (self.tail - self.head) % self.size:
            self.head = head


@dataclass(slots=True)
class CompletionQueue:
    """A live completion queue. ``posted`` and ``returned`` count entries since it was created."""

    qid: int
    size: int
    base: int
    vector: int | None
    contiguous: bool = True
    head: int = 0  # the last doorbell's value
    posted: int = 0
    returned: int = 0

    def copy(self) -> CompletionQueue:
        """Return a copy of the queue."""
        return CompletionQueue(*_cq_values(self))


def command_written(event: ConfigWrite) -> int | None:
    """Return what a write puts into the PCI Command register; None if it is to other registers."""
    return event.value >> (4 - event.offset) * 8 & 0xFFFF if event.offset <= 4 < event.offset + event.size else None


@dataclass(slots=True)
class State:
    """One controller between two events. A walk's states stay as they are: what follows happens to copies."""

    spec: Controller
    profile: Profile | None  # what its registers and Identify data really are, where the lab has read them
    epoch: int = 0  # counts enables
    cc: CC = field(default_factory=CC)
    csts: CSTS | None = None  # as the host last read it; None since CC.EN last changed
    been_ready: bool = False  # has the host read CSTS.RDY=1 since CC.EN became 1?
    pci_command: int | None = None  # PCI Command register as last written; None if no write was seen
    interrupts: str = ""  # how the controller last signalled: msix, msi or intx
    aqa: AQA = field(default_factory=AQA)
    asq: ASQ = field(default_factory=ASQ)
    acq: ACQ = field(default_factory=ACQ)
    stopping: bool = False  # EN went from 1 to 0, and RDY=0 was not read since
    renewed: bool = False  # a reset has activated firmware, since which the profile is another
    enabled_at: float = 0.0  # when EN last went from 0 to 1
    written: frozenset[int] = frozenset()  # dword offsets of registers written since power-on
    sqs: Mapping[int, SubmissionQueue] = field(default_factory=dict)
    cqs: Mapping[int, CompletionQueue] = field(default_factory=dict)
    in_flight: Mapping[tuple[int, int], Submitted] = field(default_factory=dict)  # by (SQID, CID)
    granted: tuple[int, int] | None = None  # I/O (submission, completion) queues granted since the reset
    shadow: tuple[int, int] | None = None
    """Where shadow doorbells and EventIdxs are, once Doorbell Buffer Config has succeeded: not every tail and head of an I/O
    queue is written to a doorbell any more."""

    shutdown: int = 0
    """CC.SHN as the host last wrote it while EN was 1; the queues live on until EN becomes 0."""
    shut_complete: bool = False
    """The host has read SHST=10b since it asked for the shutdown: it may switch the power off, and take its memory back."""
    shadowed: frozenset[tuple[int, bool]] = frozenset()
    """(queue id, completion) of the queues whose shadow doorbells are in the record."""

    @property
    def cap(self) -> CAP | None:
        """CAP as the profile of the controller has it; None where there is no profile."""
        return self.profile.cap if self.profile else None

    def transfer_bytes(self, command: Command) -> int | None:
        """Return how many bytes of data a command moves; None if unknown."""
        if isinstance(command, LbaCommand) and command.transfer:
            namespace = self.spec.namespace(command.NSID)
            if namespace is None:
                return None
            between = namespace.metadata_size if namespace.interleaved and not strips_protection(namespace, command) else 0
            return command.blocks * (namespace.block_size + between)
        return command.data_length

    def rings_all(self, qid: int) -> bool:
        """Return whether every tail and head of this queue is written to its doorbell, which then shows how full it is."""
        return qid == 0 or not self.shadow

    @property
    def enabled(self) -> bool:
        """Whether CC.EN is 1."""
        return bool(self.cc.EN)

    @property
    def page(self) -> int:
        """The memory page size in bytes that CC.MPS sets."""
        return 4096 << self.cc.MPS

    def answered(self, event: Completed) -> Submitted | None:
        """Return the submission that a completion ends, while it is still in flight."""
        return self.in_flight.get(event.key)

    def copy(self) -> State:
        """Return a copy of the state, which moves on its own."""
        return State(*_values(self))

    # -- how it moves -----------------------------------------------------------------------------------------------

    def move(self, event: Event) -> Move | None:
        """Return what an event does to this state; None if it changes nothing."""
        if (still := State.STILL.get(type(event))) is not None and still(self, event):
            return None
        return State.MOVES.get(type(event))

    def after(self, event: Event) -> State:
        """Return the state that an event leads to: this very one if the event changes nothing."""
        if (move := self.move(event)) is None:
            return self
        moved = self.copy()
        move(moved, event)
        return moved

    def _read(self, event: RegisterRead) -> None:
        self.csts = CSTS(event.value)
        self.shut_complete |= bool(self.shutdown) and self.csts.SHST == SHST_COMPLETE
        self.been_ready |= self.enabled and bool(self.csts.RDY)
        self.stopping = self.stopping and bool(self.csts.RDY)

    def _config(self, event: ConfigWrite) -> None:
        if (command := command_written(event)) is not None:
            self.pci_command = command

    def _namespace_changed(self, event: Remark) -> None:
        self.spec = changed_spec(self.spec, event)

    def _new_firmware(self, event: Remark) -> None:
        if self.profile is not None:
            cap, controller = (
                self.profile.cap.but(**event.detail["cap"]),
                self.profile.controller.but(**event.detail["identify"]),
            )
            self.profile = replace(self.profile, cap=cap, controller=controller)
            self.renewed = True

    def _remarked(self, event: Remark) -> None:
        if (move := State.REMARKS.get(event.name)) is not None:
            move(self, event)

    def _interrupt(self, event: Interrupt) -> None:
        self.interrupts = event.how

    def _reset(self, event: Reset) -> None:
        if event.cause in NOT_RESETS:
            return
        self._disable()
        self.csts, self.stopping = None, False
        self.written = frozenset()
        if self.pci_command is not None:
            self.pci_command = 0

    def _rung(self, event: Doorbell) -> None:
        if not self.shadowed or (event.qid, event.completion) not in self.shadowed:
            self._reported_namespaces(event)  # else it may be old: the controller has looked at the shadow meanwhile

    def _shadow_rung(self, event: ShadowDoorbell) -> None:
        self.shadowed |= {(event.qid, event.completion)}
        self._reported_namespaces(event)

    def _reported_namespaces(self, event: Doorbell | ShadowDoorbell) -> None:
        if event.completion and (cq := self._changing_cq(event.qid)):
            cq.returned += (event.value - cq.head) % cq.size
            cq.head = event.value & 0xFFFF
        elif not event.completion and (sq := self._changing_sq(event.qid)):
            sq.tail = event.value & 0xFFFF

    def _changing_sq(self, qid: int) -> SubmissionQueue | None:
        """Return a live submission queue as this state alone has it; None if there is none."""
        if (shared := self.sqs.get(qid)) is None:
            return None
        own = shared.copy()
        self.sqs = {**self.sqs, qid: own}
        return own

    def _changing_cq(self, qid: int) -> CompletionQueue | None:
        """Return a live completion queue as this state alone has it; None if there is none."""
        if (shared := self.cqs.get(qid)) is None:
            return None
        own = shared.copy()
        self.cqs = {**self.cqs, qid: own}
        return own

    def _submitted(self, event: Submitted) -> None:
        self.in_flight = {**self.in_flight, event.key: event}
        if sq := self._changing_sq(event.sqid):
            sq.fetched += 1

    def _register(self, event: RegisterWrite) -> None:
        self.written |= frozenset(range(event.offset & ~3, event.offset + event.size, 4))
        for register, name in ((AQA, "aqa"), (ASQ, "asq"), (ACQ, "acq")):
            shift = (event.offset - register.OFFSET) * 8
            if 0 <= shift < register.SIZE * 8:
                mask = ((1 << event.size * 8) - 1) << shift
                setattr(self, name, register(getattr(self, name) & ~mask | event.value << shift & mask))
        if event.offset == CC.OFFSET:
            self._configure(CC(event.value), event.t)

    def _configure(self, cc: CC, t: float) -> None:
        was_enabled, self.cc = self.enabled, cc
        if cc.SHN and cc.EN:
            self.shutdown = cc.SHN
            if not was_enabled:  # somebody else has enabled it, of whom the record knows nothing
                self.cc = cc.but(EN=0)
                return
        if cc.EN and not was_enabled:
            self.epoch += 1
            self.enabled_at, self.stopping = t, False
            self.csts, self.been_ready = None, False
            self.shutdown, self.shut_complete = 0, False
            self.sqs = {**self.sqs, 0: SubmissionQueue(0, self.aqa.ASQS + 1, int(self.asq), cqid=0)}
            self.cqs = {**self.cqs, 0: CompletionQueue(0, self.aqa.ACQS + 1, int(self.acq), vector=0)}
        elif was_enabled and not cc.EN:
            self.csts, self.stopping = None, True
            self._disable()

    def _disable(self) -> None:
        self.cc = self.cc.but(EN=0)
        self.sqs, self.cqs, self.in_flight, self.shadowed = {}, {}, {}, frozenset()
        self.granted = self.shadow = None
        self.interrupts = ""
        self.shutdown, self.shut_complete = 0, False

    def _completed(self, event: Completed) -> None:
        if cq := self._changing_cq(event.cqid):
            cq.posted += 1
        if sq := self._changing_sq(event.key[0]):
            sq.consume(sq.fetched % sq.size if event.head is None else event.head)
        if (submitted := self.in_flight.get(event.key)) is None:
            return
        self.in_flight = _without(self.in_flight, event.key)
        succeed = State.SUCCESSES.get(type(submitted.command))
        if succeed is not None and event.completion.ok:
            succeed(self, submitted.command, event.completion)

    def _cq_created(self, command: CreateIoCq, _done: Completion) -> None:
        vector = command.IV if command.IEN else None
        made = CompletionQueue(command.QID, command.entries, command.PRP1, vector, bool(command.PC))
        self.cqs = {**self.cqs, command.QID: made}

    def _sq_created(self, command: CreateIoSq, _done: Completion) -> None:
        made = SubmissionQueue(command.QID, command.entries, command.PRP1, command.CQID, bool(command.PC))
        self.sqs = {**self.sqs, command.QID: made}

    def _cq_deleted(self, command: DeleteIoCq, _done: Completion) -> None:
        self.cqs = _without(self.cqs, command.QID)

    def _sq_deleted(self, command: DeleteIoSq, _done: Completion) -> None:
        """Delete the queue; its commands that have no completion are complete all the same. Base 2.0, 5.7."""
        self.sqs = _without(self.sqs, command.QID)
        self.in_flight = {key: event for key, event in self.in_flight.items() if key[0] != command.QID}

    def _shadowing(self, command: DoorbellBufferConfig, _done: Completion) -> None:
        self.shadow = command.PRP1, command.PRP2

    def _feature_set(self, command: SetFeatures, done: Completion) -> None:
        if command.FID == Fid.NUMBER_OF_QUEUES:
            self.granted = (done.DW0 & 0xFFFF) + 1, (done.DW0 >> 16) + 1

    SUCCESSES: ClassVar[Mapping[type[Command], Callable[[State, Any, Completion], None]]] = {
        CreateIoCq: _cq_created,
        CreateIoSq: _sq_created,
        DeleteIoCq: _cq_deleted,
        DeleteIoSq: _sq_deleted,
        DoorbellBufferConfig: _shadowing,
        SetFeatures: _feature_set,
    }
    """What commands do to it when they succeed; the others do nothing."""

    REMARKS: ClassVar[Mapping[str, Move]] = {NAMESPACE_CHANGED: _namespace_changed, NEW_FIRMWARE: _new_firmware}
    """What remarks of these names do to it; the others do nothing."""

    MOVES: ClassVar[Mapping[type[Event], Move]] = {
        ConfigWrite: _config,
        RegisterRead: _read,
        RegisterWrite: _register,
        Doorbell: _rung,
        ShadowDoorbell: _shadow_rung,
        Submitted: _submitted,
        Completed: _completed,
        Interrupt: _interrupt,
        Remark: _remarked,
        Reset: _reset,
    }
    """What each kind of event does to it; the others do nothing."""

    STILL: ClassVar[Mapping[type[Event], Callable[[State, Any], bool]]] = {
        RegisterRead: lambda self, event: event.offset != CSTS.OFFSET or self.csts == event.value,
        Interrupt: lambda self, event: self.interrupts == event.how,
        Remark: lambda _self, event: event.name not in State.REMARKS,
    }
    """When events of a kind do nothing, where that depends on the event."""


def _without(entries: Mapping[K, V], key: K) -> dict[K, V]:
    """Return a copy of a mapping without one of its keys."""
    rest = dict(entries)
    rest.pop(key, None)
    return rest


_values = attrgetter(*(one.name for one in fields(State)))
_sq_values = attrgetter(*(one.name for one in fields(SubmissionQueue)))
_cq_values = attrgetter(*(one.name for one in fields(CompletionQueue)))
