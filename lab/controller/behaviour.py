"""What a fault does: the table of behaviours, a class each. docs/behaviours.md shows each one's effect on a live driver.

A `lab.data.plan.Fault` says what is struck and names the behaviour; its ``arguments`` are the behaviour's own. A behaviour
may step in where a command begins, at each access to memory, at the data returned, and where it ends; others strike the
enabling, the disabling, a shutdown, an access to a register, or the controller as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, ClassVar, Protocol

from lab import extensions
from lab.controller.clock import Timer
from lab.controller.completer import Completer
from lab.controller.core import Core
from lab.controller.dma import DmaRefusedError
from lab.controller.doorbells import Doorbells
from lab.controller.fetched import DNR, CommandStatusError, FetchedCommand, Strike
from lab.controller.interrupts import Interrupts
from lab.controller.pci import BUS_MASTER, COMMAND
from lab.controller.queues import CQE_SIZE, SQE_SIZE, CompletionQueue, Posting, QueueMemory, SubmissionQueue
from lab.controller.registers import SHST_PROCESSING
from lab.data.plan import Fault
from lab.errors import UsageError
from lab.nvme.commands import Abort, AsyncEventRequest, GetFeatures, GetLogPage, decode
from lab.nvme.completions import Completion
from lab.nvme.features import Fid
from lab.nvme.registers import ACQ, AQA, ASQ, CC, DOORBELLS
from lab.nvme.status import Status

BEHAVIOURS: dict[str, type[Behaviour]] = {}
"""Name to behaviour: those of the lab, and of other packages those that were asked for (`find`)."""


class Moment(Enum):
    """What a behaviour strikes."""

    COMMAND = auto()
    ARMED = auto()  # the controller, as soon as the fault is armed
    ENABLE_WRITE = auto()  # CC.EN=1, before it has an effect
    ENABLE = auto()  # CC.EN=1 with valid settings
    DISABLE = auto()  # CC.EN=0
    SHUTDOWN = auto()  # CC.SHN
    ACCESS = auto()  # an access to BAR0


class Target(Protocol):
    """What behaviours act on: a controller."""

    core: Core
    completer: Completer
    interrupts: Interrupts
    doorbells: Doorbells
    stuck_ready: bool
    """CSTS.RDY stays 1 after CC.EN=0."""

    def run(self) -> None:
        """Work off what was submitted."""

    def resume(self, request: FetchedCommand, strikes: tuple[Strike, ...]) -> None:
        """Execute a command that was kept, with the strikes that are left."""

    def ready_in(self, seconds: float) -> None:
        """Set CSTS.RDY to 1 in so many seconds."""

    def shut_down(self) -> None:
        """Begin a shutdown."""

    def remove(self, *, config_space: bool) -> None:
        """Take the device away; ``config_space``: its configuration space too."""

    def restore(self) -> None:
        """Bring a removed device back, as after power-on."""

    def hide_registers(self, seconds: float) -> None:
        """Answer every register access with all ones for so long."""

    def upgrade(self, cap: Mapping[str, int], identify: Mapping[str, Any]) -> None:
        """Have other fields of CAP and of Identify Controller from now on."""


class Behaviour:
    """A behaviour that does nothing; each kind overrides what it is about."""

    NAME: ClassVar[str]
    ARGUMENTS: ClassVar[dict[str, Any]] = {}
    """Its arguments and their defaults."""
    PREDICATE: ClassVar[Mapping[str, Any]] = {}
    """What it strikes where the fault does not say otherwise: fields of `lab.data.plan.Fault`."""
    REGISTERS: ClassVar[tuple[int, int] | None] = None
    """Offsets in BAR0, first and last exclusive, whose accesses it strikes where the fault names no register."""
    moment: ClassVar[Moment] = Moment.COMMAND
    applies_when_armed: ClassVar[bool] = False
    """Without a predicate it strikes the controller as soon as it is armed."""
    strikes_access: ClassVar[bool] = False
    """It can strike an access to a register."""

    def __init_subclass__(cls, name: str) -> None:
        """Enter the behaviour into the table."""
        cls.NAME = name
        BEHAVIOURS[name] = cls

    def __init__(self, target: Target, fault: Fault) -> None:
        """Take a fault's arguments; UsageError for one that the behaviour does not have."""
        self.target, self.fault = target, fault
        unknown = fault.arguments.keys() - self.ARGUMENTS.keys()
        if unknown:
            raise UsageError(
                f"fault {fault.name!r}: {self.NAME} has no argument {sorted(unknown)[0]!r}",
                remedy=f"its arguments are {', '.join(self.ARGUMENTS) or 'none'}",
            )
        self.arguments = {**self.ARGUMENTS, **fault.arguments}
        self.check()

    @property
    def seconds(self) -> float:
        """The argument ``ms`` in seconds."""
        return float(self.arguments["ms"]) / 1000

    def check(self) -> None:
        """Raise UsageError for arguments that cannot be."""

    def begin(self, _request: FetchedCommand) -> bool:
        """Step in before the command is executed; return whether it is executed now. May raise CommandStatusError."""
        return True

    def access(self, address: int, length: int) -> None:
        """Step in before an access to host memory; raise DmaRefusedError to prevent it."""

    def data(self, data: bytes) -> bytes:
        """Return what goes to the host instead of ``data``."""
        return data

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Return what is posted instead of the completion, in order."""
        return [posting]

    def enable(self) -> bool:
        """Step in at CC.EN=1; return whether the controller becomes ready now."""
        return True

    def disable_seconds(self) -> float:
        """Return how long CSTS.RDY stays 1 after CC.EN=0."""
        return 0.0

    def shutdown_seconds(self) -> float:
        """Return how long CSTS.SHST stays 01b after CC.SHN asked for a shutdown."""
        return 0.0

    def wants_access(self, _offset: int, _size: int, _writing: bool) -> bool:
        """Return whether an access to BAR0 is struck that the predicate fits."""
        return True

    def register_value(self, _offset: int, _size: int, value: int, _writing: bool) -> int | None:
        """Step in at an access to BAR0; return the value that is read or written instead, None for no effect."""
        self.apply()
        return value

    def apply(self) -> None:
        """Strike the controller without a command."""

    def disarmed(self) -> None:
        """End the effect: the fault's switch went off."""

    def release(self, _count: int) -> int:
        """Release ``count`` of what is held; return how many were released. UsageError where nothing is ever held."""
        raise UsageError(f"fault {self.fault.name!r}: {self.NAME} holds nothing that could be released", remedy="use hold")


# -- commands -------------------------------------------------------------------------------------------------------


class Drop(Behaviour, name="drop"):
    """The command is never executed and never completes; Abort and reset end it."""

    def begin(self, request: FetchedCommand) -> bool:
        """Keep the command for ever."""
        self.target.completer.keep(request)
        return False


class Delay(Behaviour, name="delay"):
    """The command is executed, and its data moved, ``ms`` later."""

    ARGUMENTS: ClassVar = {"ms": 100}

    def begin(self, request: FetchedCommand) -> bool:
        """Keep the command until it is due."""
        if request.sq.qid == 0 and request.opcode == Abort.OPCODE:
            self._check_abort_limit()
        completer = self.target.completer
        completer.keep(request)
        rest = _others(self, request)
        completer.later(self.seconds, request, lambda: self.target.resume(request, rest))
        return False

    def _check_abort_limit(self) -> None:
        """Raise CommandStatusError where more Abort commands are outstanding than ACL allows. Base 2.0, 5.1."""
        core = self.target.core
        outstanding = sum(kept.sq.qid == 0 and kept.opcode == Abort.OPCODE for kept in self.target.completer.in_flight.values())
        if outstanding > core.identity.ACL:
            core.remark("abort-limit", outstanding=outstanding + 1, limit=core.identity.ACL + 1)
            raise CommandStatusError(Status.ABORT_LIMIT_EXCEEDED)


class Paused(Delay, name="paused"):
    """The controller pauses for ``ms`` (CSTS.PP) before it executes the command. Base 2.0, 3.1.3.6."""

    ARGUMENTS: ClassVar = {"ms": 1000}

    def begin(self, request: FetchedCommand) -> bool:
        """Set CSTS.PP until the command is due."""
        core = self.target.core
        core.registers.csts = core.registers.csts.but(PP=1)
        core.clock.after(self.seconds, self._go_on)
        return super().begin(request)

    def _go_on(self) -> None:
        registers = self.target.core.registers
        registers.csts = registers.csts.but(PP=0)


class LateAbort(Delay, name="late-abort"):
    """Abort commands are executed only ``ms`` later, so that a host can have more of them outstanding than ACL allows."""

    PREDICATE: ClassVar = {"queue": "admin", "opcode": Abort.OPCODE}


class LogDelayed(Delay, name="log-delayed"):
    """Get Log Page is executed only ``ms`` later."""

    PREDICATE: ClassVar = {"queue": "admin", "opcode": GetLogPage.OPCODE}
    ARGUMENTS: ClassVar = {"ms": 500}


class Hold(Behaviour, name="hold"):
    """Commands wait until they are released, one by one in their order, or all when the fault is disarmed."""

    def __init__(self, target: Target, fault: Fault) -> None:
        """Hold no command yet."""
        super().__init__(target, fault)
        self._held: list[FetchedCommand] = []

    def begin(self, request: FetchedCommand) -> bool:
        """Keep the command until it is released."""
        in_flight = self.target.completer.in_flight
        self._held = [one for one in self._held if in_flight.get(one.key) is one]  # others were aborted, or a reset came
        self.target.completer.keep(request)
        self._held.append(request)
        return False

    def release(self, count: int) -> int:
        """Execute the first ``count`` commands that are held and still in flight."""
        released = 0
        while self._held and released < count:
            request = self._held.pop(0)
            if self.target.completer.in_flight.get(request.key) is request:
                self.target.resume(request, _others(self, request))
                released += 1
        if released:
            self.target.run()
        return released

    def disarmed(self) -> None:
        """Release all commands that are held."""
        self.release(len(self._held))


class Gather(Hold, name="gather"):
    """Commands wait until no further one has come for ``ms``; then the first ``count`` of them are executed (0: all)."""

    ARGUMENTS: ClassVar = {"ms": 100, "count": 0}

    def __init__(self, target: Target, fault: Fault) -> None:
        """Wait for nothing yet."""
        super().__init__(target, fault)
        self._due: Timer | None = None

    def begin(self, request: FetchedCommand) -> bool:
        """Keep the command, and wait for another one."""
        super().begin(request)
        self._wait()
        return False

    def _wait(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self.target.core.clock.after(self.seconds, self._execute)

    def _execute(self) -> None:
        self._due = None
        self.release(self.arguments["count"] or len(self._held))
        if self._held and self._due is None:
            self._wait()


class StatusInstead(Behaviour, name="status"):
    """The command is not executed and completes with ``sct`` and ``sc``, ``dnr`` and retry delay index ``crd``."""

    ARGUMENTS: ClassVar = {"sct": 0, "sc": Status.INTERNAL_ERROR, "dnr": 0, "crd": 0, "dw0": 0}

    def begin(self, _request: FetchedCommand) -> bool:
        """Complete the command with the status of the arguments, without executing it."""
        a = self.arguments
        raise CommandStatusError(a["sct"] << 8 | a["sc"] | a["crd"] << 11, dnr=bool(a["dnr"]), dw0=a["dw0"])


class AsyncEventsRefused(Behaviour, name="aer-refused"):
    """Asynchronous Event Requests fail with Asynchronous Event Request Limit Exceeded, and with ``dnr``."""

    PREDICATE: ClassVar = {"queue": "admin", "opcode": AsyncEventRequest.OPCODE}
    ARGUMENTS: ClassVar = {"dnr": 1}

    def begin(self, _request: FetchedCommand) -> bool:
        """Complete the event request with Asynchronous Event Request Limit Exceeded."""
        raise CommandStatusError(Status.ASYNC_EVENT_LIMIT_EXCEEDED, dnr=bool(self.arguments["dnr"]))


class EditSubmission(Behaviour, name="edit-submission"):
    """The command is executed as if its ``fields``, or its bytes from ``offset`` on as ``hex`` says, were others."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"fields": {}, "offset": 0, "hex": ""}

    def check(self) -> None:
        """Raise UsageError for bytes that are none, or beyond the entry."""
        _check_bytes(self, limit=64)

    def begin(self, request: FetchedCommand) -> bool:
        """Edit the fetched entry; its record shows what the host wrote."""
        first, new = self.arguments["offset"], bytes.fromhex(self.arguments["hex"])
        raw = request.raw[:first] + new + request.raw[first + len(new) :]
        if self.arguments["fields"]:
            try:
                raw = bytes(decode(raw, admin=request.sq.qid == 0).but(**self.arguments["fields"]))
            except ValueError as error:  # the command that came has no such field
                self.target.core.remark("edit-impossible", fault=self.fault.name, why=str(error))
        request.edit(raw)
        return True


class Corrupt(Behaviour, name="corrupt"):
    """Byte ``offset`` and so many that follow are returned XORed with ``xor``; the status says success."""

    ARGUMENTS: ClassVar = {"offset": 0, "length": 1, "xor": 0xFF}

    def data(self, data: bytes) -> bytes:
        """Flip bits of the data."""
        first = self.arguments["offset"]
        last = min(len(data), first + self.arguments["length"])
        return data[:first] + bytes(byte ^ self.arguments["xor"] for byte in data[first:last]) + data[last:]


class Replace(Behaviour, name="replace"):
    """Bytes from ``offset`` on are returned as ``hex`` says; the status says success."""

    ARGUMENTS: ClassVar = {"offset": 0, "hex": "00"}

    def data(self, data: bytes) -> bytes:
        """Replace a part of the data."""
        first, new = self.arguments["offset"], bytes.fromhex(self.arguments["hex"])
        return (data[:first] + new + data[first + len(new) :])[: len(data)]


class DmaRefusal(Behaviour, name="dma-refused"):
    """The host's memory refuses the command's data: it ends with Data Transfer Error."""

    def access(self, address: int, length: int) -> None:
        """Raise DmaRefusedError for the access to host memory."""
        raise DmaRefusedError(address, length, "refused by a fault")


class MustNeverCome(Behaviour, name="must-never-come"):
    """The command is itself a failure: it is recorded as a strike and refused at once."""

    def begin(self, request: FetchedCommand) -> bool:
        """Remark on the command and fail it."""
        self.target.core.remark(
            "must-never-come", fault=self.fault.name, sqid=request.sq.qid, cid=request.cid, opcode=request.opcode
        )
        raise CommandStatusError(Status.OPERATION_DENIED)


class Verify(Behaviour, name="verify"):
    """A check at that command: fields that do not hold what ``fields`` says are remarked; the command goes on."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"fields": {}}

    def begin(self, request: FetchedCommand) -> bool:
        """Remark on each field that differs."""
        command = decode(request.raw, admin=request.sq.qid == 0)
        for name, expected in self.arguments["fields"].items():
            actual = getattr(command, name, None)
            if actual != expected:
                self.target.core.remark(
                    "verify",
                    fault=self.fault.name, sqid=request.sq.qid, cid=request.cid, field=name, expected=expected, actual=actual,
                )  # fmt: skip
        return True


# -- completions ----------------------------------------------------------------------------------------------------


class EditCompletion(Behaviour, name="edit-completion"):
    """The completion is posted with other ``fields``, by the names of `lab.nvme.completions.Completion`."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"fields": {}}

    def check(self) -> None:
        """Raise UsageError for a field that completions do not have, or a value that does not fit."""
        try:
            Completion.of(**self.arguments["fields"])
        except ValueError as error:
            raise UsageError(f"fault {self.fault.name!r}: {error}") from error

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Set the completion's fields to those of the arguments."""
        return [posting._replace(edits={**(posting.edits or {}), **self.arguments["fields"]})]


class QueueCountZero(Behaviour, name="queue-count-zero"):
    """Get Features, Number of Queues, returns 0 for the current value: one queue of each kind, whatever was granted."""

    PREDICATE: ClassVar = {"queue": "admin", "opcode": GetFeatures.OPCODE, "cdw10": Fid.NUMBER_OF_QUEUES}

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Set dword 0 to 0."""
        return [posting._replace(dw0=0)]


class WrongPhase(Behaviour, name="wrong-phase"):
    """The completion is posted with the phase tag of the round before: the host cannot see it."""

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Flip the phase tag."""
        return [posting._replace(wrong_phase=True)]


class WrongCid(Behaviour, name="wrong-cid"):
    """The completion names command ``cid``, or the command's own with all bits flipped."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"cid": None}

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Change the command identifier."""
        cid = self.arguments["cid"]
        return [posting._replace(cid=posting.cid ^ 0xFFFF if cid is None else cid)]


class WrongSqid(Behaviour, name="wrong-sqid"):
    """The completion names queue ``sqid``, or one that cannot be."""

    ARGUMENTS: ClassVar = {"sqid": 0xFFFF}

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Set SQID to that of the arguments."""
        return [posting._replace(sqid=self.arguments["sqid"])]


class WrongSqhd(Behaviour, name="wrong-sqhd"):
    """The completion reports a submission queue head that cannot be."""

    ARGUMENTS: ClassVar = {"sqhd": 0xFFFF}

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Set SQHD to that of the arguments."""
        return [posting._replace(sqhd=self.arguments["sqhd"])]


class Duplicate(Behaviour, name="duplicate"):
    """The completion is posted twice."""

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Double the completion."""
        return [posting, posting]


class OutOfOrder(Behaviour, name="out-of-order"):
    """The completion waits until the next one of its queue is posted, or ``ms`` have passed."""

    ARGUMENTS: ClassVar = {"ms": 50}

    def end(self, request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Hold the completion back."""
        self.target.completer.hold_until_overtaken(request.sq.cq, posting, self.seconds)
        return []


class NoInterrupt(Behaviour, name="no-interrupt"):
    """The completion is posted and no interrupt announces it."""

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Post silently."""
        return [posting._replace(silent=True)]


class BadStatus(Behaviour, name="completion-status"):
    """The command is executed, and its completion reports ``sct`` and ``sc`` with ``dnr`` all the same."""

    ARGUMENTS: ClassVar = {"sct": 0, "sc": Status.INTERNAL_ERROR, "dnr": 0}

    def end(self, _request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Change the status."""
        a = self.arguments
        return [posting._replace(status=a["sct"] << 8 | a["sc"] | (DNR if a["dnr"] else 0))]


# -- the controller as a whole --------------------------------------------------------------------------------------


class _Whole(Behaviour, name=""):
    """Strikes at a command, which then is lost, at a register access, or without a predicate as soon as it is armed."""

    applies_when_armed = True
    strikes_access = True

    def begin(self, request: FetchedCommand) -> bool:
        """Lose the command and strike."""
        self.target.completer.keep(request)
        self.apply()
        return False


class Fatal(_Whole, name="fatal"):
    """CSTS.CFS is 1 and nothing is executed until the controller is reset. Base 2.0, 3.1.3.6."""

    def apply(self) -> None:
        """Fail the controller."""
        self.target.core.fail("a fault")


class ReadyDrops(_Whole, name="ready-drops"):
    """CSTS.RDY goes to 0 without a cause and nothing is executed until the controller is reset."""

    def apply(self) -> None:
        """Drop CSTS.RDY."""
        self.target.core.drop_ready()


class BusMasterOff(_Whole, name="bus-master-off"):
    """Bus Master Enable goes to 0 without the host's doing: no DMA, until the host sets it again."""

    def apply(self) -> None:
        """Clear Bus Master Enable in the Command register."""
        config = self.target.core.config
        command = config.read(COMMAND, 2)
        config.write(COMMAND, bytes([command[0] & ~BUS_MASTER, command[1]]))


class Removed(_Whole, name="removed"):
    """The device is gone: every register reads all ones, writes have no effect. Disarmed, it is back as after power-on.

    With ``config`` false its configuration space stays, so that a driver still finds it.
    """

    ARGUMENTS: ClassVar = {"config": True}

    def apply(self) -> None:
        """Take the device away."""
        self.target.remove(config_space=self.arguments["config"])

    def disarmed(self) -> None:
        """Bring the device back, as after power-on."""
        self.target.restore()


class SpuriousInterrupt(Behaviour, name="spurious-interrupt"):
    """``vector`` is signalled without a reason, ``count`` times; a struck command goes on."""

    applies_when_armed = True
    strikes_access = True
    ARGUMENTS: ClassVar = {"vector": 0, "count": 1}

    def begin(self, _request: FetchedCommand) -> bool:
        """Signal, and let the command go on."""
        self.apply()
        return True

    def apply(self) -> None:
        """Signal the vector."""
        for _ in range(self.arguments["count"]):
            self.target.interrupts.raise_vector(self.arguments["vector"])


class UnchangedDoorbell(Behaviour, name="unchanged-doorbell"):
    """A doorbell that is written with the value that it has raises the event Invalid Doorbell Write Value. Base 2.0, 5.2."""

    moment = Moment.ARMED

    def apply(self) -> None:
        """Refuse such values from now on."""
        self.target.doorbells.refuse_unchanged = True

    def disarmed(self) -> None:
        """Accept them again, with a remark only."""
        self.target.doorbells.refuse_unchanged = False


class MsixReserved(Behaviour, name="msix-reserved"):
    """The reserved bits 13:11 of MSI-X Message Control read as 1. Behind QEMU, which answers for MSI-X, it has no effect."""

    moment = Moment.ARMED

    def apply(self) -> None:
        """Set the reserved bits of Message Control."""
        self.target.core.config.msix_reserved_set = True

    def disarmed(self) -> None:
        """Clear the reserved bits of Message Control."""
        self.target.core.config.msix_reserved_set = False


# -- enabling, disabling, shutdown ----------------------------------------------------------------------------------


class NeverReady(Behaviour, name="never-ready"):
    """CC.EN=1 has no effect: CSTS.RDY stays 0."""

    moment = Moment.ENABLE

    def enable(self) -> bool:
        """Let the controller never become ready."""
        return False


class SlowReady(Behaviour, name="slow-ready"):
    """CSTS.RDY becomes 1 only ``ms`` after CC.EN."""

    moment = Moment.ENABLE
    ARGUMENTS: ClassVar = {"ms": 500}

    def enable(self) -> bool:
        """Become ready later."""
        self.target.ready_in(self.seconds)
        return False


class LateReady(Behaviour, name="late-ready"):
    """CSTS.RDY becomes 1 only after ``percent`` of the time that CAP.TO promises. Base 2.0, 3.1.3.1."""

    moment = Moment.ENABLE
    ARGUMENTS: ClassVar = {"percent": 90}

    def enable(self) -> bool:
        """Become ready late, and in time."""
        self.target.ready_in(self.target.core.registers.cap.TO * 0.5 * self.arguments["percent"] / 100)
        return False


class EnableIgnored(Behaviour, name="enable-ignored"):
    """CC.EN=1 has no effect, and CC.EN reads 0, while AQA is 0: no admin queues were configured yet."""

    moment = Moment.ENABLE_WRITE


class FatalAtEnable(Behaviour, name="fatal-at-enable"):
    """CC.EN=1 ends in CSTS.CFS=1 instead of CSTS.RDY=1."""

    moment = Moment.ENABLE

    def enable(self) -> bool:
        """Fail the controller."""
        self.target.core.fail("a fault")
        return False


class SlowDisable(Behaviour, name="slow-disable"):
    """CSTS.RDY becomes 0 only ``ms`` after CC.EN=0; the host shall not set CC.EN to 1 before that. Base 2.0, 3.1.3.5."""

    moment = Moment.DISABLE
    ARGUMENTS: ClassVar = {"ms": 500}

    def disable_seconds(self) -> float:
        """Return ``ms`` as seconds."""
        return self.seconds


class OnesAfterDisable(Behaviour, name="ones-after-disable"):
    """Every register reads all ones, and writes have no effect, for ``ms`` after CC.EN=0."""

    moment = Moment.DISABLE
    ARGUMENTS: ClassVar = {"ms": 5}

    def disable_seconds(self) -> float:
        """Hide the registers; CSTS.RDY is 0 at once behind them."""
        self.target.hide_registers(self.seconds)
        return 0.0


class NewFirmware(Behaviour, name="new-firmware"):
    """CC.EN=0 activates firmware under which CAP (``cap``) and Identify Controller (``identify``) have other fields."""

    moment = Moment.DISABLE
    ARGUMENTS: ClassVar[dict[str, Any]] = {"cap": {"MQES": 63}, "identify": {"FR": "2.0"}}

    def disable_seconds(self) -> float:
        """Change the controller; CSTS.RDY is 0 at once."""
        self.target.upgrade(self.arguments["cap"], self.arguments["identify"])
        return 0.0


class StuckReady(Behaviour, name="stuck-ready"):
    """CSTS.RDY stays 1 after CC.EN=0 (armed: from then on)."""

    moment = Moment.ARMED

    def apply(self) -> None:
        """Let CSTS.RDY stay."""
        self.target.stuck_ready = True

    def disarmed(self) -> None:
        """Drop it, where the host has disabled the controller meanwhile."""
        self.target.stuck_ready = False
        if not self.target.core.registers.cc.EN:
            self.target.core.drop_ready()


class SlowShutdown(Behaviour, name="slow-shutdown"):
    """CSTS.SHST stays 01b for ``ms`` before it is 10b; what was written is not safe before that. Base 2.0, 3.6.1."""

    moment = Moment.SHUTDOWN
    ARGUMENTS: ClassVar = {"ms": 2000}

    def shutdown_seconds(self) -> float:
        """Return ``ms`` as seconds."""
        return self.seconds


# -- registers ------------------------------------------------------------------------------------------------------


class RegisterValue(Behaviour, name="register-value"):
    """An access to a register reads or writes ``value`` in the bits of ``mask``; without a register in the fault, CSTS."""

    moment = Moment.ACCESS
    strikes_access = True
    PREDICATE: ClassVar = {"register": "CSTS", "access": "read"}
    ARGUMENTS: ClassVar[dict[str, Any]] = {"value": 0xFFFF_FFFF, "mask": 0xFFFF_FFFF_FFFF_FFFF}

    def register_value(self, _offset: int, size: int, value: int, _writing: bool) -> int | None:
        """Return the value with the bits of ``mask`` replaced."""
        mask = int(self.arguments["mask"]) & (1 << 8 * size) - 1
        return value & ~mask | int(self.arguments["value"]) & mask


class DwordOnly(Behaviour, name="dword-only"):
    """Registers take 32-bit accesses only: a 64-bit read returns all ones, a 64-bit write has no effect."""

    moment = Moment.ACCESS
    strikes_access = True
    REGISTERS: ClassVar = (0, DOORBELLS)

    def wants_access(self, _offset: int, size: int, _writing: bool) -> bool:
        """Return whether it is a 64-bit access."""
        return size == 8

    def register_value(self, _offset: int, _size: int, _value: int, _writing: bool) -> int | None:
        """Return None, which is no value: the read returns all ones."""
        return None


class EarlierOwner(Behaviour, name="earlier-owner"):
    """A controller as an earlier owner has left it: enabled, with admin queues and a pair of I/O queues, at ``address``.

    ``state`` is ready, shutting-down (until a shutdown has taken its time) or shut-down; with ``pending`` a completion of the
    admin queue still interrupts by INTx. It strikes once, at the first access to a register.
    """

    moment = Moment.ACCESS
    strikes_access = True
    REGISTERS: ClassVar = (0, DOORBELLS)
    PREDICATE: ClassVar = {"times": 1}
    ARGUMENTS: ClassVar[dict[str, Any]] = {"state": "ready", "pending": 0, "address": 0x10_0000}
    STATES: ClassVar = {"ready": (0, 0), "shutting-down": (1, 1), "shut-down": (1, 2)}
    """CC.SHN and CSTS.SHST of each state."""

    def check(self) -> None:
        """Raise UsageError for a state that is none."""
        if self.arguments["state"] not in self.STATES:
            raise UsageError(
                f"fault {self.fault.name!r}: {self.NAME} has no state {self.arguments['state']!r}",
                remedy=f"its states are {', '.join(self.STATES)}",
            )

    def register_value(self, offset: int, size: int, value: int, writing: bool) -> int | None:
        """Leave the controller like that, before the access has its effect."""
        core, at = self.target.core, int(self.arguments["address"])
        registers, queues, entries = core.registers, core.queues, 32
        shn, shst = self.STATES[self.arguments["state"]]
        registers.aqa = AQA.of(ASQS=entries - 1, ACQS=entries - 1)
        registers.asq, registers.acq = ASQ(at), ACQ(at + 0x1_0000)
        registers.cc = CC.of(EN=1, SHN=shn, MPS=registers.cap.MPSMIN, IOSQES=6, IOCQES=4)
        registers.csts = registers.csts.but(RDY=1, SHST=shst)
        core.page_size = registers.page_size
        for qid in (0, 1):
            completions = QueueMemory(entries, CQE_SIZE, (at + 0x1_0000 + qid * 0x2_0000,), core.page_size)
            commands = QueueMemory(entries, SQE_SIZE, (at + qid * 0x2_0000,), core.page_size)
            queues.completion[qid] = CompletionQueue(qid, completions, vector=0)
            queues.submission[qid] = SubmissionQueue(qid, commands, queues.completion[qid])
        core.running = not shst
        if shst == SHST_PROCESSING:
            self.target.shut_down()
        if self.arguments["pending"]:
            unread = queues.completion[0]
            unread.take_slot()  # its entry is in the owner's memory, which is not touched
            self.target.interrupts.posted(unread)
            self.target.interrupts.flush()
        return value if writing else registers.read(offset, size)


del BEHAVIOURS[""]


def names() -> list[str]:
    """Return the name of every behaviour there is."""
    return sorted({*BEHAVIOURS, *extensions.names(extensions.BEHAVIOURS)})


def find(name: str) -> type[Behaviour] | None:
    """Return the behaviour of that name, which may be another package's; None if there is none."""
    if name not in BEHAVIOURS and name in extensions.names(extensions.BEHAVIOURS):
        extensions.load(extensions.BEHAVIOURS, name, "a behaviour of that name", lambda kind: BEHAVIOURS.get(name) is kind)
    return BEHAVIOURS.get(name)


def _others(behaviour: Behaviour, request: FetchedCommand) -> tuple[Strike, ...]:
    return tuple(strike for strike in request.strikes if strike is not behaviour)


def _check_bytes(behaviour: Behaviour, limit: int) -> None:
    """Raise UsageError unless ``offset`` and ``hex`` name bytes below ``limit``."""
    where = f"fault {behaviour.fault.name!r}"
    try:
        length = len(bytes.fromhex(behaviour.arguments["hex"]))
    except ValueError as error:
        raise UsageError(f"{where}: hex: {error}") from error
    if behaviour.arguments["offset"] < 0 or behaviour.arguments["offset"] + length > limit:
        raise UsageError(f"{where}: {length} bytes at {behaviour.arguments['offset']} are beyond the {limit} bytes there are")
