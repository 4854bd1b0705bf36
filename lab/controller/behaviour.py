"""What a fault does: the table of behaviours, a class each. docs/behaviours.md shows each one's effect on a live driver.

A `lab.data.plan.Fault` says which command is struck and names the behaviour; its ``arguments`` are the behaviour's own. A
behaviour may step in where a command begins, at each access to memory, at the data returned, and where it ends; others
strike the controller as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from lab import extensions
from lab.controller.memory import DmaRefused
from lab.controller.pci import BUS_MASTER, COMMAND
from lab.controller.request import DNR, Failed, Posting, Request
from lab.data.plan import Fault
from lab.errors import UsageError
from lab.nvme.commands import decode
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller

BEHAVIOURS: dict[str, type[Behaviour]] = {}
"""Name to behaviour: those of the lab, and of other packages those that were asked for (`find`)."""


class Behaviour:
    """Does nothing; each kind overrides what it is about. ``ARGUMENTS`` are its arguments and their defaults."""

    NAME: ClassVar[str]
    ARGUMENTS: ClassVar[dict[str, Any]] = {}
    strikes_enable: ClassVar[bool] = False
    """It strikes CC.EN=1 instead of commands."""
    strikes_disable: ClassVar[bool] = False
    """It strikes CC.EN=0 instead of commands."""
    strikes_shutdown: ClassVar[bool] = False
    """It strikes CC.SHN instead of commands."""
    whole_at_once: ClassVar[bool] = False
    """Without a predicate it strikes the controller as soon as it is armed."""

    def __init_subclass__(cls, name: str) -> None:
        cls.NAME = name
        BEHAVIOURS[name] = cls

    def __init__(self, controller: Controller, fault: Fault) -> None:
        self.c, self.fault = controller, fault
        unknown = fault.arguments.keys() - self.ARGUMENTS.keys()
        if unknown:
            raise UsageError(
                f"fault {fault.name!r}: {self.NAME} has no argument {sorted(unknown)[0]!r}",
                remedy=f"its arguments are {', '.join(self.ARGUMENTS) or 'none'}",
            )
        self.arguments = {**self.ARGUMENTS, **fault.arguments}

    def begin(self, request: Request) -> bool:
        """The command is about to be executed: whether it goes on. May raise Failed."""
        return True

    def access(self, address: int, length: int) -> None:
        """The command reaches for host memory; DmaRefused to prevent it."""

    def data(self, data: bytes) -> bytes:
        """What is returned to the host instead of ``data``."""
        return data

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        """What is posted instead of the completion, and in which order."""
        return [posting]

    def enable(self) -> bool:
        """CC.EN=1 was written: whether the controller becomes ready now."""
        return True

    def disable_seconds(self) -> float:
        """Return how long CSTS.RDY stays 1 after CC.EN=0."""
        return 0.0

    def shutdown_seconds(self) -> float:
        """Return how long CSTS.SHST stays 01b after CC.SHN asked for a shutdown."""
        return 0.0

    def whole(self) -> None:
        """Strikes the controller without a command."""

    def disarmed(self) -> None:
        """Its switch went off."""


# -- commands -------------------------------------------------------------------------------------------------------


class Drop(Behaviour, name="drop"):
    """The command is never executed and never completes; Abort and reset end it."""

    def begin(self, request: Request) -> bool:
        self.c.executor.keep(request)
        return False


class Delay(Behaviour, name="delay"):
    """The command is executed, and its data moved, ``ms`` later."""

    ARGUMENTS: ClassVar = {"ms": 100}

    def begin(self, request: Request) -> bool:
        executor = self.c.executor
        executor.keep(request)
        rest = tuple(strike for strike in request.strikes if strike is not self)
        executor.later(self.arguments["ms"] / 1000, request, lambda: executor.resume(request, rest))
        return False


class StatusInstead(Behaviour, name="status"):
    """The command is not executed and completes with ``sct`` and ``sc``, ``dnr`` and retry delay index ``crd``."""

    ARGUMENTS: ClassVar = {"sct": 0, "sc": Status.INTERNAL_ERROR, "dnr": 0, "crd": 0, "dw0": 0}

    def begin(self, request: Request) -> bool:
        a = self.arguments
        raise Failed(a["sct"] << 8 | a["sc"] | a["crd"] << 11, dnr=bool(a["dnr"]), dw0=a["dw0"])


class Corrupt(Behaviour, name="corrupt"):
    """Byte ``offset`` and so many that follow are returned XORed with ``xor``; the status says success."""

    ARGUMENTS: ClassVar = {"offset": 0, "length": 1, "xor": 0xFF}

    def data(self, data: bytes) -> bytes:
        first = self.arguments["offset"]
        last = min(len(data), first + self.arguments["length"])
        return data[:first] + bytes(byte ^ self.arguments["xor"] for byte in data[first:last]) + data[last:]


class Replace(Behaviour, name="replace"):
    """Bytes from ``offset`` on are returned as ``hex`` says; the status says success."""

    ARGUMENTS: ClassVar = {"offset": 0, "hex": "00"}

    def data(self, data: bytes) -> bytes:
        first, new = self.arguments["offset"], bytes.fromhex(self.arguments["hex"])
        return (data[:first] + new + data[first + len(new) :])[: len(data)]


class DmaRefusal(Behaviour, name="dma-refused"):
    """The host's memory refuses the command's data: it ends with Data Transfer Error."""

    def access(self, address: int, length: int) -> None:
        raise DmaRefused(address, length, "refused by a fault")


class MustNeverCome(Behaviour, name="must-never-come"):
    """The command is a failure by itself: it is recorded as a strike and refused at once."""

    def begin(self, request: Request) -> bool:
        self.c.remark("must-never-come", fault=self.fault.name, sqid=request.sq.qid, cid=request.cid, opcode=request.opcode)
        raise Failed(Status.OPERATION_DENIED)


class Verify(Behaviour, name="verify"):
    """A check at that command: fields that do not hold what ``fields`` says are remarked; the command goes on."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"fields": {}}

    def begin(self, request: Request) -> bool:
        command = decode(request.raw, admin=request.sq.qid == 0)
        for name, expected in self.arguments["fields"].items():
            actual = getattr(command, name, None)
            if actual != expected:
                self.c.remark("verify", fault=self.fault.name, sqid=request.sq.qid, cid=request.cid, field=name,
                              expected=expected, actual=actual)  # fmt: skip
        return True


# -- completions ----------------------------------------------------------------------------------------------------


class WrongPhase(Behaviour, name="wrong-phase"):
    """The completion is posted with the phase tag of the round before: the host cannot see it."""

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        return [posting._replace(wrong_phase=True)]


class WrongCid(Behaviour, name="wrong-cid"):
    """The completion names command ``cid``, or the command's own with all bits flipped."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {"cid": None}

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        cid = self.arguments["cid"]
        return [posting._replace(cid=posting.cid ^ 0xFFFF if cid is None else cid)]


class WrongSqid(Behaviour, name="wrong-sqid"):
    """The completion names queue ``sqid``, or one that cannot be."""

    ARGUMENTS: ClassVar = {"sqid": 0xFFFF}

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        return [posting._replace(sqid=self.arguments["sqid"])]


class WrongSqhd(Behaviour, name="wrong-sqhd"):
    """The completion tells a submission queue head that cannot be."""

    ARGUMENTS: ClassVar = {"sqhd": 0xFFFF}

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        return [posting._replace(sqhd=self.arguments["sqhd"])]


class Duplicate(Behaviour, name="duplicate"):
    """The completion is posted twice."""

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        return [posting, posting]


class OutOfOrder(Behaviour, name="out-of-order"):
    """The completion waits until the next one of its queue is posted, or ``ms`` have passed."""

    ARGUMENTS: ClassVar = {"ms": 50}

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        self.c.executor.hold(request.sq.cq, posting, self.arguments["ms"] / 1000)
        return []


class NoInterrupt(Behaviour, name="no-interrupt"):
    """The completion is posted and no interrupt tells of it."""

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        return [posting._replace(silent=True)]


class BadStatus(Behaviour, name="completion-status"):
    """The command is executed, and its completion tells ``sct`` and ``sc`` with ``dnr`` all the same."""

    ARGUMENTS: ClassVar = {"sct": 0, "sc": Status.INTERNAL_ERROR, "dnr": 0}

    def end(self, request: Request, posting: Posting) -> list[Posting]:
        a = self.arguments
        return [posting._replace(status=a["sct"] << 8 | a["sc"] | (DNR if a["dnr"] else 0))]


# -- the controller as a whole --------------------------------------------------------------------------------------


class _Whole(Behaviour, name=""):
    """Strikes at a command, which then is lost, or without a predicate as soon as it is armed."""

    whole_at_once = True

    def begin(self, request: Request) -> bool:
        self.c.executor.keep(request)
        self.whole()
        return False


class Fatal(_Whole, name="fatal"):
    """CSTS.CFS is 1 and nothing is executed until the controller is reset. Base 2.0, 3.1.3.6."""

    def whole(self) -> None:
        self.c.fail("a fault")


class ReadyDrops(_Whole, name="ready-drops"):
    """CSTS.RDY goes to 0 by itself and nothing is executed until the controller is reset."""

    def whole(self) -> None:
        self.c.drop_ready()


class BusMasterOff(_Whole, name="bus-master-off"):
    """Bus Master Enable goes to 0 without the host's doing: no DMA, until the host sets it again."""

    def whole(self) -> None:
        command = self.c.config.read(COMMAND, 2)
        self.c.config.write(COMMAND, bytes([command[0] & ~BUS_MASTER, command[1]]))


class Removed(_Whole, name="removed"):
    """The device is gone: every register reads all ones, writes have no effect. Disarmed, it is back as after power-on.

    With ``config`` false its configuration space stays, so that a driver still finds it.
    """

    ARGUMENTS: ClassVar = {"config": True}

    def whole(self) -> None:
        self.c.gone, self.c.config_gone = True, self.arguments["config"]

    def disarmed(self) -> None:
        if self.c.gone:
            self.c.gone = self.c.config_gone = False
            self.c.reset("power")


class SpuriousInterrupt(Behaviour, name="spurious-interrupt"):
    """``vector`` is signalled without a reason, ``count`` times; a struck command goes on."""

    whole_at_once = True
    ARGUMENTS: ClassVar = {"vector": 0, "count": 1}

    def begin(self, request: Request) -> bool:
        self.whole()
        return True

    def whole(self) -> None:
        for _ in range(self.arguments["count"]):
            self.c.interrupts.raise_vector(self.arguments["vector"])


class NeverReady(Behaviour, name="never-ready"):
    """CC.EN=1 has no effect: CSTS.RDY stays 0."""

    strikes_enable = True

    def enable(self) -> bool:
        return False


class SlowReady(Behaviour, name="slow-ready"):
    """CSTS.RDY becomes 1 only ``ms`` after CC.EN."""

    strikes_enable = True
    ARGUMENTS: ClassVar = {"ms": 500}

    def enable(self) -> bool:
        self.c.ready_in(self.arguments["ms"] / 1000)
        return False


class SlowDisable(Behaviour, name="slow-disable"):
    """CSTS.RDY becomes 0 only ``ms`` after CC.EN=0; the host shall not set CC.EN to 1 before that. Base 2.0, 3.1.3.5."""

    strikes_disable = True
    ARGUMENTS: ClassVar = {"ms": 500}

    def disable_seconds(self) -> float:
        """Return ``ms`` as seconds."""
        return float(self.arguments["ms"]) / 1000


class SlowShutdown(Behaviour, name="slow-shutdown"):
    """CSTS.SHST stays 01b for ``ms`` before it is 10b; what was written is not safe before that. Base 2.0, 3.6.1."""

    strikes_shutdown = True
    ARGUMENTS: ClassVar = {"ms": 2000}

    def shutdown_seconds(self) -> float:
        """Return ``ms`` as seconds."""
        return float(self.arguments["ms"]) / 1000


class FatalAtEnable(Behaviour, name="fatal-at-enable"):
    """CC.EN=1 ends in CSTS.CFS=1 instead of CSTS.RDY=1."""

    strikes_enable = True

    def enable(self) -> bool:
        self.c.fail("a fault")
        return False


class StuckReady(Behaviour, name="stuck-ready"):
    """CSTS.RDY stays 1 after CC.EN=0 (armed: from then on)."""

    whole_at_once = True

    def whole(self) -> None:
        self.c.stuck_ready = True

    def disarmed(self) -> None:
        self.c.stuck_ready = False
        if not self.c.registers.cc.EN:
            self.c.drop_ready()


del BEHAVIOURS[""]


def names() -> list[str]:
    """Every behaviour there is."""
    return sorted({*BEHAVIOURS, *extensions.names(extensions.BEHAVIOURS)})


def find(name: str) -> type[Behaviour] | None:
    """The behaviour of that name, which may be another package's; None if there is none."""
    if name not in BEHAVIOURS and name in extensions.names(extensions.BEHAVIOURS):
        extensions.load(extensions.BEHAVIOURS, name, "a behaviour of that name", lambda kind: BEHAVIOURS.get(name) is kind)
    return BEHAVIOURS.get(name)
