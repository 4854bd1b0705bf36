"""Further legal habits: registers written twice, lists beside the data, flushes by other means, queues made side by side."""

from __future__ import annotations

from contextlib import suppress

from lab.nvme.commands import Command, Compare, CreateIoSq, DeleteIoCq, DeleteIoSq, SetFeatures, Write
from lab.nvme.features import Fid, InterruptVectorConfig
from lab.nvme.registers import CC, CSTS
from lab.reference.controller import SHN_NORMAL, SHST_COMPLETE, Controller
from lab.reference.data import DataPath
from lab.reference.errors import CommandFailed, ControllerFailed, DriverError
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.registers import Registers
from lab.reference.transport import Memory
from lab.variants.variant import variant

BASIC = ("admin-queue/basic",)
ENTRY = 8
"""Bytes of an entry of a PRP list."""
UNIT = 4096
"""Bytes of what some drivers read and write as a whole."""
FUSED_FIRST, FUSED_SECOND = 0b01, 0b10
MINUTE = 60.0
SHUTDOWN_SECONDS = 2.0
"""How long a driver waits for a shutdown before it resets the controller all the same."""


@variant(
    "admin-queue/looks-after-doorbells",
    allowed='Base 2.0, 3.1.3.6 "Offset 1Ch: CSTS": the host may read it at any time, as to have a posted write arrive',
    scenarios=BASIC,
)
class LooksAfterDoorbells(Registers):
    """Reads CSTS after each doorbell, so that the write does not wait in a bridge."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Write the doorbell, and read a register behind it."""
        super().ring(qid, completion=completion, value=value)
        self._transport.read32(CSTS.OFFSET)


@variant(
    "admin-queue/programs-twice",
    allowed='Base 2.0, 3.5.1 "Memory-based Transport Controller Initialization (PCIe)": they may be written while EN=0',
    scenarios=BASIC,
    excludes=("admin-queue/attributes-last", "detect/stops-mastering"),
)
class ProgramsTwice(Controller):
    """Writes AQA, ASQ and ACQ twice, the second time to be sure."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Program the admin queue, and program it again."""
        super().program_admin_queue(admin)
        super().program_admin_queue(admin)


@variant(
    "admin-queue/starts-twice",
    allowed='Base 2.0, 3.7.2 "Controller Level Reset": the host may reset a controller at any time',
    scenarios=BASIC,
)
class StartsTwice(Controller):
    """Starts the controller, stops it and starts it again, as a boot loader's driver and a system's do."""

    def enable(self) -> None:
        """Enable the controller twice, unless that takes minutes."""
        super().enable()
        if self.ready_seconds < MINUTE:
            super().enable()


@variant(
    "io-queues/side-by-side",
    allowed='Base 2.0, 5.5 "Create I/O Submission Queue command": its completion queue is created first',
    scenarios=("io-queues/basic",),
    warns=("io-queues/second-fails",),
    excludes=("io-queues/created-late", "io-queues/completion-queues-first", "io-queues/shared-completion-queue",
              "io-queues/created-anew", "io-queues/even-ids", "io-queues/lists"),
)  # fmt: skip
class SideBySide(Controller):
    """Creates all completion queues by one doorbell, then all submission queues; deletes them in the same way."""

    def create_io_queues(self) -> None:
        """Create the queues, of each kind all at once."""
        entries = self.io_entries()
        pairs = [self.make_pair(qid, entries, self.vector_of(qid)) for qid in self.queue_ids()]
        try:
            self.execution.run(self.admin, [self.create_cq_command(pair) for pair in pairs])
            self.execution.run(self.admin, [self.create_sq_command(pair) for pair in pairs])
        except CommandFailed as failure:
            raise ControllerFailed(f"{self.transport.name}: no I/O queues can be created: {failure}") from failure
        for pair in pairs:
            pair.live = True
            self.io.append(pair)

    def delete_io_queues(self) -> None:
        """Delete the queues, of each kind all at once."""
        pairs, self.io = self.io, []
        for command in (DeleteIoSq, DeleteIoCq):
            with suppress(CommandFailed):
                self.execution.run(self.admin, [command.of(QID=pair.qid) for pair in pairs])
        for pair in pairs:
            pair.live = False


@variant(
    "io-queues/no-coalescing",
    allowed='Base 2.0, 5.27.1.7 "Interrupt Vector Configuration": a vector that a completion queue uses may be configured',
    scenarios=("io-queues/basic",),
)
class NoCoalescing(Controller):
    """Switches interrupt coalescing off for the vector of each I/O queue, once the queue is there."""

    def prepare_io(self) -> None:
        """Create the queues, and configure their vectors."""
        super().prepare_io()
        for vector in sorted({pair.vector for pair in self.io if pair.vector}):
            with suppress(CommandFailed):
                value = InterruptVectorConfig.of(IV=vector, CD=1)
                self.execution.admin(SetFeatures.of(FID=Fid.INTERRUPT_VECTOR_CONFIG, CDW11=value))


@variant(
    "io-queues/names-a-set",
    allowed='Base 2.0, 5.5 "Create I/O Submission Queue command", NVMSETID: without SQ Associations it associates nothing',
    scenarios=("io-queues/basic",),
    excludes=("io-queues/priority-unused", "io-queues/lists", "io-queues/shared-completion-queue"),
)
class NamesASet(Controller):
    """Names an NVM Set in Create I/O Submission Queue, though the controller has no SQ Associations."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return the command with NVMSETID=1."""
        return super().create_sq_command(pair).but(NVMSETID=1)


@variant(
    "read/list-in-data-page",
    allowed='Base 2.0, 4.1.1 "Physical Region Page Entry and List": a list begins at any qword',
    scenarios=("read/sizes",),
    excludes=("read/list-at-the-end", "read/shared-list-pages", "read/list-inside-page", "read/discards-into-one-page"),
)
class ListInDataPage(DataPath):
    """Puts a short PRP list behind the end of the data, in its last page."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Describe the data by a list behind it where there is room for one."""
        page = memory.page_size
        needed, at = _entries(offset, length, page), -(-(offset + length) // ENTRY) * ENTRY
        if needed < 2 or not at % page or page - at % page < needed * ENTRY:
            return super().describe(command, memory, offset, length, lists)
        pages = memory.pages[offset // page :]
        memory.write(at, b"".join(one.to_bytes(ENTRY, "little") for one in pages[1 : needed + 1]))
        return command.but(PRP1=pages[0] + offset % page, PRP2=memory.pages[at // page] + at % page)


def _entries(offset: int, length: int, page: int) -> int:
    """Return how many pages of a buffer follow the first one of the data."""
    return max(0, -(-(length - (page - offset % page)) // page))


@variant(
    "write/whole-units",
    allowed='NVM 1.0, 3.2.6 "Write command": a host may write blocks again with what they hold',
    scenarios=("write/basic",),
    excludes=("write/verifies", "write/whole-blocks-twice", "write/compares", "write/compares-fused"),
)
class WholeUnits(Namespace):
    """Reads, changes and writes whole units of 4 KiB."""

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write the units that the blocks lie in."""
        blocks, each = len(data) // self.block_size, max(UNIT // self.block_size, 1)
        self.check_range(lba, blocks)
        first, end = lba // each * each, min(-(-(lba + blocks) // each) * each, self.blocks)
        if (first, end) != (lba, lba + blocks):
            held = bytearray(super().read(first, end - first))
            held[(lba - first) * self.block_size : (lba - first) * self.block_size + len(data)] = data
            lba, data = first, bytes(held)
        super().write(lba, data, fua=fua, offset=offset)


@variant(
    "write/flushes-by-fua",
    allowed='Base 2.0, 7.1 "Flush command": what was written through needs none; NVM 1.0, 3.2.6 "Write command", FUA',
    scenarios=("write/basic",),
    excludes=("write/verifies", "write/whole-blocks-twice", "write/compares", "write/compares-fused", "write/whole-units",
              "write/write-through", "write/flush-all"),
)  # fmt: skip
class FlushesByFua(Namespace):
    """Writes everything that was written since the last flush once more, with FUA, in place of a Flush."""

    unsafe: list[tuple[int, bytes]] | None = None

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write the blocks, and remember them."""
        super().write(lba, data, fua=fua, offset=offset)
        self.unsafe = [*(self.unsafe or []), *([] if fua else [(lba, data)])]

    def zeroes(self, lba: int, blocks: int) -> None:
        """Write zeros, and remember them."""
        self.check_range(lba, blocks)
        self.write(lba, bytes(blocks * self.block_size))

    def flush(self) -> None:
        """Write what is not safe yet, with FUA."""
        unsafe, self.unsafe = self.unsafe or [], []
        for lba, data in unsafe:
            super().write(lba, data, fua=True)


@variant(
    "write/flushes-by-switch",
    allowed='Base 2.0, 5.27.1.4 "Volatile Write Cache": a cache that is disabled holds nothing back',
    scenarios=("write/basic",),
    excludes=("write/write-through", "write/flushes-by-fua", "write/flush-all"),
)
class FlushesBySwitch(Namespace):
    """Switches the write cache off and on again, in place of a Flush."""

    def flush(self) -> None:
        """Disable the cache, and enable it again."""
        if self._c.known_identity.VWC.PRESENT:
            for value in (0, 1):
                self._execution.admin(SetFeatures.of(FID=Fid.VOLATILE_WRITE_CACHE, CDW11=value))


@variant(
    "write/compares-fused",
    allowed='Base 2.0, 3.4.2 "Fused Operation": Compare and Write in one queue, next to each other, where FUSES offers it',
    scenarios=("write/fused",),
    excludes=("write/verifies", "write/whole-blocks-twice", "write/compares"),
)
class ComparesFused(Namespace):
    """Replaces short runs of blocks by a fused Compare and Write, where the controller has it."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Read the blocks, and swap the first one for itself."""
        data = super().read(lba, blocks, offset)
        if self._c.known_identity.FUSES & 1 and not self.lba_format.MS:
            self._swap(lba, data[: self.block_size], data[: self.block_size])
        return data

    def _swap(self, lba: int, old: bytes, new: bytes) -> None:
        lists: list[Memory] = []
        with self._data.buffer(len(old)) as held, self._data.buffer(len(new)) as wanted:
            held.write(0, old)
            wanted.write(0, new)
            pair = [
                self._data.describe(kind.of(NSID=self.nsid, SLBA=lba, NLB=0, FUSE=fuse), memory, 0, len(old), lists)
                for kind, fuse, memory in ((Compare, FUSED_FIRST, held), (Write, FUSED_SECOND, wanted))
            ]
            with suppress(CommandFailed):
                self._execution.run(self._c.pair(), pair, retry=False)


@variant(
    "reset/resets-in-order",
    allowed='Base 2.0, 3.6.1 "Memory-based Transport Controller Shutdown (PCIe)": it may precede a reset',
    scenarios=("reset/asked",),
    warns=("reset/queues-deleted", "reset/shst-wait", "features/hmb-released"),
    excludes=("reset/function-level", "reset/subsystem"),
)
class ResetsInOrder(Recovery):
    """Asks a controller that runs for a shutdown before it resets it."""

    def stop(self) -> None:
        """Shut the controller down if it is well, and stop it."""
        with suppress(DriverError):
            registers, transport = self._c.registers, self._c.transport
            cc, csts = registers.read(CC), registers.status()
            if cc.EN and csts.RDY and not csts.CFS and not cc.SHN:
                for pair in self._c.pairs():
                    pair.live = False
                registers.write(cc.but(SHN=SHN_NORMAL))
                until = transport.now() + SHUTDOWN_SECONDS
                while registers.status().SHST != SHST_COMPLETE and transport.now() < until:
                    transport.sleep(0.01)
        super().stop()
