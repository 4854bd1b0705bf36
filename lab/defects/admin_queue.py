"""Defects of bringing a controller up, and of the two admin rings."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from lab.defects.defect import defect
from lab.defects.senders import NEIGHBOURS
from lab.nvme.completions import Completion
from lab.nvme.fields import Register
from lab.nvme.registers import ACQ, AQA, ASQ, CC, CSTS, INTMC, doorbell_offset
from lab.reference import pci
from lab.reference.controller import LAST, Controller
from lab.reference.errors import ControllerFailed
from lab.reference.queue_pair import QueuePair
from lab.reference.registers import ALL_ONES, Registers
from lab.reference.request import Request
from lab.reference.ring import CompletionRing, SubmissionRing


@defect("admin-queue/bus-master:off", source="U-Boot 38534712cd4")
class NoBusMaster(Controller):
    """Leaves Bus Master Enable off, so that the controller cannot reach for memory."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Switch bus mastering off before the queues are programmed."""
        pci.clear_command(self.transport, pci.BUS_MASTER)
        super().program_admin_queue(admin)


@defect("admin-queue/both-halves:low-only")
class LowHalves(Registers):
    """Writes the lower halves of ASQ and ACQ only."""

    def write(self, value: Register) -> None:
        """Write the lower four bytes of any register, however long it is."""
        self._transport.write32(value.OFFSET, int(value) & ALL_ONES)


@defect("admin-queue/stopped-first:no-wait", source="EDK2 4ab4497c38, OSv issue 1362", scenarios=("admin-queue/again",))
class NoWaitForDisabled(Controller):
    """Does not wait for RDY=0 before it programs the admin queues again."""

    def wait_ready(self, ready: int) -> None:
        """Wait for RDY=1 only."""
        if ready:
            super().wait_ready(ready)


@defect("admin-queue/disable-first:never", source="FreeBSD rS326937", scenarios=("admin-queue/again",))
class NeverDisabled(Controller):
    """Programs the admin queues of a controller that is still enabled."""

    def stop(self) -> None:
        """Forget the I/O queues and leave CC.EN as it is."""
        self.io = []


@defect("admin-queue/aqa:zero")
class OneEntry(Controller):
    """Programs AQA with 0: queues of one entry."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Program the queues, and then set both sizes to 0 (0's based: one entry)."""
        super().program_admin_queue(admin)
        self.registers.write(AQA())


@defect("admin-queue/aqa:never-written", source="Serenity 73394095756")
class NoAqa(Controller):
    """Never writes AQA."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Program ASQ and ACQ only."""
        self.registers.write(ASQ(admin.submission.memory.address))
        self.registers.write(ACQ(admin.completion.memory.address))


@defect("admin-queue/aligned:off-by-64")
class OddBase(Controller):
    """Puts the admin submission queue 64 bytes into a page."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Program the queues, and then move ASQ by 64 bytes."""
        super().program_admin_queue(admin)
        self.registers.write(ASQ(admin.submission.memory.address + 64))


@defect("admin-queue/entry-sizes:iosqes-7")
class EntrySizes(Controller):
    """Sets IOSQES to 7, for entries of 128 bytes."""

    def configuration(self) -> CC:
        """Return CC with IOSQES=7."""
        return super().configuration().but(IOSQES=7)


@defect("admin-queue/page-size:beyond-max")
class PageTooLarge(Controller):
    """Sets MPS one beyond what CAP.MPSMAX allows."""

    def configuration(self) -> CC:
        """Return CC with MPS beyond CAP.MPSMAX."""
        return super().configuration().but(MPS=self.cap.MPSMAX + 1)


@defect("admin-queue/page-size:in-css", source="libvfn d79c4ae", scenarios=("admin-queue/large-pages",))
class PageSizeInCss(Controller):
    """Writes the page size into CC.CSS, and leaves MPS 0."""

    def configuration(self) -> CC:
        """Return CC with the value for MPS in CSS."""
        return super().configuration().but(CSS=self.cap.MPSMIN, MPS=0)


@defect("admin-queue/cc-valid:ams")
class Arbitration(Controller):
    """Sets AMS to weighted round robin, whatever CAP.AMS says."""

    def configuration(self) -> CC:
        """Return CC with AMS=1."""
        return super().configuration().but(AMS=1)


@defect("admin-queue/cc-frozen:live-mps")
class LiveChange(Controller):
    """Changes MPS while the controller is enabled."""

    def enable(self) -> None:
        """Enable the controller, and then write CC with another MPS."""
        super().enable()
        self.registers.write(self.configuration().but(MPS=1))


@defect("admin-queue/quiet-until-ready:no-wait", source="BareMetal 535634d")
class NoWaitForReady(Controller):
    """Submits without waiting for RDY=1."""

    def wait_ready(self, ready: int) -> None:
        """Wait for RDY=0 only."""
        if not ready:
            super().wait_ready(ready)


@defect("admin-queue/submitted-ready:too-short", scenarios=("admin-queue/slow-ready",))
class TooShortForReady(NoWaitForReady):
    """Takes the controller for ready 50 ms after EN=1, without a look at RDY."""

    def wait_ready(self, ready: int) -> None:
        """Wait for RDY=0, or for 50 ms."""
        super().wait_ready(ready)
        if ready:
            self.transport.sleep(0.05)


class LongEnoughForReady(NoWaitForReady):
    """Takes the controller for ready as long after EN=1 as CAP.TO says, without a look at RDY."""

    def wait_ready(self, ready: int) -> None:
        """Wait for RDY=0, or for all of CAP.TO."""
        super().wait_ready(ready)
        if ready:
            self.transport.sleep(self.cap.TO / 2)


NEIGHBOURS["admin-queue/submitted-ready:too-short"] = LongEnoughForReady


@defect("admin-queue/doorbell:stride")
class Stride(Registers):
    """Takes the doorbells for twice as far apart as CAP.DSTRD says."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Write to the offset that CAP.DSTRD + 1 would give."""
        self._transport.write32(doorbell_offset(qid, completion=completion, dstrd=self.dstrd + 1), value)


@defect("admin-queue/doorbell-upper:junk")
class UpperHalf(Registers):
    """Leaves junk in the upper half of a doorbell's value."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Ring with bit 16 set."""
        super().ring(qid, completion=completion, value=value | 1 << 16)


class _Brimful(SubmissionRing):
    """Counts every slot as usable."""

    used = 0

    @property
    def free(self) -> int:
        return self.entries - self.used

    def push(self, entry: bytes) -> None:
        self.memory.write(self.tail * self.size, entry)
        self.tail = self.following(self.tail)
        self.used += 1

    def fetched(self, sqhd: int) -> bool:
        self.used -= 1
        return super().fetched(sqhd)


class _OneByOne(QueuePair):
    """Rings for every command."""

    @property
    def room(self) -> int:
        return self.submission.free

    def submit(self, request: Request, now: float) -> None:
        super().submit(request, now)
        self.ring()


@defect("admin-queue/never-full:all-slots", source="illumos 11202", scenarios=("io-queues/backlog",))
class FillsAllSlots(Controller):
    """Fills all N slots of a submission queue, so that a full ring looks empty."""

    parts = replace(Controller.parts, submission_ring=_Brimful, queue_pair=_OneByOne)


@defect("admin-queue/head-doorbell:never", scenarios=("admin-queue/wraps",))
class NeverReturns(Registers):
    """Never rings a completion queue's head doorbell."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Ring for submissions only."""
        if not completion:
            super().ring(qid, completion=completion, value=value)


@defect("admin-queue/head-doorbell:ahead")
class Ahead(Registers):
    """Returns one completion slot more than it has taken."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Ring completion queues with a head that is one too far."""
        super().ring(qid, completion=completion, value=value + completion)


@defect("admin-queue/phase:fixed", scenarios=("admin-queue/wraps",))
class FixedPhase(CompletionRing):
    """Never turns the phase tag round, and takes no completion after the first wrap."""

    def advance(self) -> None:
        """Move the head, and leave the expected phase tag as it is."""
        self.head = self.following(self.head)


@defect("admin-queue/unique-cid:zero", source="U-Boot d6eb327828a")
class AlwaysZero(QueuePair):
    """Gives every command identifier 0."""

    def new_cid(self) -> int:
        """Return 0."""
        return 0


@defect("admin-queue/unique-cid:tail", source="Serenity 3fe7bda0212", scenarios=("admin-queue/wraps",))
class FromTheTail(QueuePair):
    """Takes the command identifier from the tail, where a command of the last round may still be out."""

    def new_cid(self) -> int:
        """Return the slot number."""
        return self.submission.tail


@defect("admin-queue/sqe-clean:junk")
class Junk(QueuePair):
    """Leaves what an earlier command had in dword 2."""

    def entry(self, request: Request, cid: int) -> bytes:
        """Return the entry with AAh in its byte 8."""
        clean = super().entry(request, cid)
        return clean[:8] + b"\xaa" + clean[9:]


@defect("admin-queue/no-intm-with-msix:unmasks")
class Unmasks(QueuePair):
    """Unmasks its interrupt by INTMC after each round, as for INTx."""

    def reap(self) -> list[Request]:
        """Take completions, and then write INTMC."""
        ended = super().reap()
        self._registers.write(INTMC(1))
        return ended


@defect("admin-queue/ready-bound:for-ever", source="OpenVMM issue 3022", scenarios=("admin-queue/never-ready",))
class WaitsForEver(Controller):
    """Waits for RDY without end."""

    def wait_ready(self, ready: int) -> None:
        """Poll every 10 ms without a limit."""
        while self.registers.status().RDY != ready:
            self.transport.sleep(0.01)


@defect("admin-queue/ready-wait:ten-milliseconds", source="U-Boot 04d2a384011", scenarios=("admin-queue/slow-ready",))
class TenMilliseconds(Controller):
    """Waits 10 ms for RDY, whatever CAP.TO says."""

    @property
    def ready_seconds(self) -> float:
        """Ten milliseconds."""
        return 0.01


@defect("admin-queue/ready-claim:blind-to-fatal", scenarios=("admin-queue/fatal",))
class BlindToFatal(Controller):
    """Reports a controller as ready that never was."""

    def start(self, until: str = LAST) -> None:
        """Start, and hide that it failed."""
        with suppress(ControllerFailed):
            super().start(until)
        self.stage = until

    def status(self) -> CSTS:
        """Return RDY=1 without reading CSTS."""
        return CSTS.of(RDY=1)


@defect("admin-queue/phase-before-body:at-once", source="FreeBSD D30995")
class AtOnce(CompletionRing):
    """Reads a completion as a whole, and looks at the phase tag of its copy."""

    def peek(self) -> Completion | None:
        """Return the copy of the slot if its phase tag is right; the copy was taken before the check."""
        completion = Completion(self.memory.read(self.head * self.size, self.size))
        return completion if completion.P == self.phase else None


@defect("admin-queue/phase-before-body:identifier-first", source="FreeBSD D30995")
class IdentifierFirst(CompletionRing):
    """Reads the command identifier, and the phase tag after it."""

    def peek(self) -> Completion | None:
        """Return the completion with the identifier that was there before the phase tag was looked at."""
        cid = self.memory.read(self.head * self.size + 12, 2)
        completion = super().peek()
        return completion.but(CID=int.from_bytes(cid, "little")) if completion else None


@defect("admin-queue/match-completion:seven-bits", source="SeaBIOS d8a6c846")
class SevenBits(CompletionRing):
    """Keeps 7 of the 8 bits of a status code."""

    def peek(self) -> Completion | None:
        """Return the completion with bit 7 of its status code cleared."""
        completion = super().peek()
        return completion.but(SC=completion.SC & 0x7F) if completion else None
