"""Legal ways to lend memory, to describe queues, to reserve namespaces, and to sleep."""

from __future__ import annotations

from contextlib import suppress

from lab.nvme.commands import CreateIoCq, CreateIoSq, ReservationAcquire, ReservationRegister, ReservationRelease, SetFeatures
from lab.nvme.features import Fid, HostMemoryBuffer, HostMemoryDescriptor
from lab.reference import pci
from lab.reference.controller import HMB_UNIT, Controller
from lab.reference.controller_memory import ControllerMemory
from lab.reference.errors import DriverError
from lab.reference.queue_pair import QueuePair
from lab.reference.transport import Memory
from lab.variants.variant import variant

POWER_CAPABILITY, D3HOT = 0x01, 0b11
KEY = 0x1122_3344_5566_7788
LENT = ("features/host-memory",)


@variant(
    "features/returns-memory",
    allowed='Base 2.0, 5.27.1.10 "Host Memory Buffer", MR: memory may be returned after a reset as the controller has left it',
    scenarios=LENT,
    excludes=("features/lends-nothing",),
)
class ReturnsMemory(Controller):
    """Says after a reset that it returns the memory, which it has left alone."""

    def lending(self, listed: Memory, pages: int) -> SetFeatures:
        """Return Set Features, with MR=1 for the memory that was lent last."""
        before, self._lent_last = getattr(self, "_lent_last", 0), listed.address
        command = super().lending(listed, pages)
        return command.but(CDW11=HostMemoryBuffer.of(EHM=1, MR=1)) if before == listed.address else command

    def take_memory_back(self) -> None:
        """Take the memory back, and forget that it was lent: it is freed."""
        super().take_memory_back()
        self._lent_last = 0


@variant(
    "features/lends-pieces",
    allowed='Base 2.0, 5.27.1.10 "Host Memory Buffer": the list may have several descriptors, up to HMMAXD',
    scenarios=LENT,
    excludes=("features/lends-nothing", "features/returns-memory"),
)
class LendsPieces(Controller):
    """Lends memory in two pieces, where the controller can use so many."""

    def lending(self, listed: Memory, pages: int) -> SetFeatures:
        """Return Set Features with a descriptor for each half of the memory."""
        command = super().lending(listed, pages)
        identity, half = self.known_identity, pages // 2
        if self._lent is None or identity.HMMAXD == 1 or half * self.page_size < identity.HMMINDS * HMB_UNIT:
            return command
        base = self._lent[0].address
        rest = HostMemoryDescriptor.of(BADD=base + half * self.page_size, BSIZE=pages - half)
        listed.write(0, HostMemoryDescriptor.of(BADD=base, BSIZE=half) + rest)
        return command.but(CDW15=2)


@variant(
    "features/lends-nothing",
    allowed='Base 2.0, 8.9 "Host Memory Buffer": the host may provide no memory, and the controller functions properly',
    scenarios=LENT,
)
class LendsNothing(Controller):
    """Lends no memory, whatever the controller would like."""

    def lend_memory(self) -> None:
        """Lend no memory, whatever HMPRE and HMMIN say."""


@variant(
    "io-queues/leaves-memory",
    allowed='Base 2.0, 8.5 "Controller Memory Buffer": a host need not use it, and may have looked at what it is',
    scenarios=("io-queues/controller-memory",),
)
class LeavesControllerMemory(ControllerMemory):
    """Switches the controller's memory on, and has no queue there."""

    def take(self, length: int, page_size: int) -> Memory | None:
        """Return no memory, whatever is asked for."""
        del length, page_size
        return None


@variant(
    "io-queues/lists",
    allowed='Base 2.0, 5.4 "Create I/O Completion Queue command", PC: without CAP.CQR a PRP list may describe a queue',
    scenarios=("io-queues/scattered",),
)
class QueuesByLists(Controller):
    """Describes its I/O queues by PRP lists where the controller takes them, and keeps the lists as long as its memory."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return Create I/O CQ, with a list where it may."""
        command = super().create_cq_command(pair)
        return command if self.cap.CQR else command.but(PC=0, PRP1=self._list(pair.completion.memory))

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return Create I/O SQ, with a list where it may."""
        command = super().create_sq_command(pair)
        return command if self.cap.CQR else command.but(PC=0, PRP1=self._list(pair.submission.memory))

    def _list(self, memory: Memory) -> int:
        listed = self.ring_memory(self.page_size)
        listed.write(0, b"".join(page.to_bytes(8, "little") for page in memory.pages))
        return listed.address


@variant(
    "multi-namespace/reserves",
    allowed='Base 2.0, 8.19 "Reservations": a host that has registered a key may reserve the namespace, and release it',
    scenarios=("multi-namespace/reservations",),
)
class Reserves(Controller):
    """Identifies itself, registers a key, and reserves each namespace that can be reserved for a moment."""

    def create_io_queues(self) -> None:
        """Create the queues, and reserve the namespaces."""
        super().create_io_queues()
        if not self.known_identity.ONCS.RESERVATIONS:
            return
        with suppress(DriverError):
            long = bool(self.known_identity.CTRATT.HOST_ID_128)
            self.execution.admin_out(SetFeatures.of(FID=Fid.HOST_IDENTIFIER, CDW11=long), b"\x5a" * (16 if long else 8))
        keys = bytes(8) + KEY.to_bytes(8, "little")
        for nsid, namespace in self.namespaces.items():
            if int(namespace.identity.RESCAP):
                commands = (
                    (ReservationRegister.of(NSID=nsid), keys),
                    (ReservationAcquire.of(NSID=nsid, RTYPE=1), keys[8:] + bytes(8)),
                    (ReservationRelease.of(NSID=nsid, RTYPE=1), keys[8:]),
                )
                for command, data in commands:
                    with self.data.buffer(len(data)) as memory, suppress(DriverError):
                        memory.write(0, data)
                        self.execution.with_data(self.pair(), command, memory, len(data))


@variant(
    "reset/sleeps",
    allowed='Base 2.0, 3.6.1 "Memory-based Transport Controller Shutdown (PCIe)": D3 is entered after the steps of a shutdown',
    scenarios=("write/fresh",),
)
class Sleeps(Controller):
    """Puts the function into D3 once it is shut down, and wakes it when it comes again."""

    def detect(self) -> None:
        """Wake the function, and check the controller."""
        self._power(0)
        super().detect()

    def close(self) -> None:
        """Shut the controller down, put the function to sleep, and release all resources."""
        with suppress(DriverError):
            was_up = self.failed is None and self.stage not in ("", "detect")
            self.shutdown()
            if was_up:
                self._power(D3HOT)
        super().close()

    def _power(self, state: int) -> None:
        at = next((at for kind, at in pci.capabilities(self.transport) if kind == POWER_CAPABILITY), 0)
        if at and self.transport.config_read(at + 4, 2) & D3HOT != state:
            self.transport.config_write(at + 4, 2, state)
