"""Bugs that drivers have shipped and that their trackers tell of, where a situation of their own shows them."""

from __future__ import annotations

from contextlib import suppress

from lab.defects.defect import defect
from lab.nvme import prp
from lab.nvme.commands import Command, DeleteIoCq, DeleteIoSq, LbaCommand, Select
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.errors import CommandFailed, CommandTimedOut, ControllerFailed, Refused
from lab.reference.features import Features
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.request import Request
from lab.reference.transport import Memory

AGAIN_SECONDS = 0.1
LOW_HALF = 0xFFFF_FFFF


@defect("read/exact:byte-offset", source="OSv pull request 1284", scenarios=("read/far",))
class ByteOffset(Namespace):
    """Keeps the offset of a transfer in bytes in 32 bits."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command for the LBA that the low half of the offset makes."""
        return super().command(kind, (lba * self.block_size & LOW_HALF) // self.block_size, blocks, flags)


@defect("admin-queue/head-doorbell:after-a-time-out", source="EDK2 issue 6912", scenarios=("reset/stall",))
class SkipsTheEntry(Recovery):
    """Gives back a completion entry for a command that was not completed in time, as if it had come."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """Move the head on by one, and end the request."""
        pair.completion.advance()
        pair.give_back()
        pair.outstanding = {cid: other for cid, other in pair.outstanding.items() if other is not request}
        request.timeouts = self._c.settings.timeouts + 1
        request.end(lost=CommandTimedOut("not completed in time"))


@defect("features/arbitration:answer-lost", source="EDK2 issue 7576", scenarios=("features/basic",))
class AnswerLost(Features):
    """Passes the dword of a completion on only where the command has failed."""

    def get(self, fid: int, select: Select = Select.CURRENT, *, nsid: int = 0, cdw11: int = 0) -> tuple[int, bytes]:
        """Return 0 for the value."""
        return 0, super().get(fid, select, nsid=nsid, cdw11=cdw11)[1]


@defect("admin-queue/doorbell:second-of-one", source="mu_basecore issue 1757", scenarios=("io-queues/few",))
class SecondOfOne(Controller):
    """Sends by a second pair of queues where only one was created."""

    def create_io_queues(self) -> None:
        """Create the queues, and take a second pair for created."""
        super().create_io_queues()
        if len(self.io) == 1:
            pair = self.make_pair(2, self.io_entries(), None)
            pair.live = True
            self.io.append(pair)


@defect("admin-queue/doorbell:failed-queue", scenarios=("io-queues/second-fails",))
class UsesAFailedQueue(Controller):
    """Looks at the status of Create I/O Completion Queue only."""

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Take the submission queue for created, whatever the status."""
        pair = self.make_pair(qid, entries, self.vector_of(qid))
        self.execution.admin(self.create_cq_command(pair))
        with suppress(CommandFailed):
            self.execution.admin(self.create_sq_command(pair))
        pair.live = True
        return pair


@defect("io-queues/second-fails:all-or-none", scenarios=("io-queues/second-fails",))
class AllOrNone(Controller):
    """Gives a controller up of which it has not got all the queues that it was granted."""

    def create_io_queues(self) -> None:
        """Create the queues, and fail if there are fewer."""
        super().create_io_queues()
        if len(self.io) < self.settings.io_queues:
            raise ControllerFailed(f"{self.transport.name}: only {len(self.io)} of the I/O queues could be created")


@defect("reset/delete-fails:tries-again", scenarios=("reset/delete-fails",))
class DeletesAgain(Controller):
    """Tries without end to delete a queue that the controller refuses to delete."""

    def was_deleted(self, command: DeleteIoSq | DeleteIoCq) -> bool:
        """Delete a queue, again and again."""
        while not super().was_deleted(command):
            self.transport.sleep(AGAIN_SECONDS)
        return True


@defect("io-queues/msi:needs-msix", scenarios=("io-queues/msi",))
class NeedsMsix(Controller):
    """Gives up a function without MSI-X although it has MSI."""

    def open_vectors(self) -> None:
        """Open the vectors; fail where there is no table."""
        if not pci.msix(self.transport)[0]:
            raise Refused(f"{self.transport.name} has no MSI-X")
        super().open_vectors()


class _OwnList(DataPath):
    """Writes its own PRP lists."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        page = memory.page_size
        first, inside = divmod(offset, page)
        pages = memory.pages[first : first + -(-(inside + length) // page)]
        if len(pages) < 3:
            return super().describe(command, memory, offset, length, lists)
        entries = self.entries(pages[1:])
        listed = self._c.transport.allocate(len(entries) * prp.ENTRY, page, contiguous=True)
        lists.append(listed)
        for number, entry in enumerate(entries):
            listed.write(number * prp.ENTRY, entry.to_bytes(prp.ENTRY, "little"))
        return command.but(PRP1=pages[0] + inside, PRP2=listed.address)

    def entries(self, pages: tuple[int, ...]) -> list[int]:
        raise NotImplementedError


@defect("read/prp-chain:beyond-its-page", source="truenas/linux pull request 267", scenarios=("read/chain",))
class BeyondItsPage(_OwnList):
    """Goes on behind the end of a list page, without a pointer to the next one."""

    def entries(self, pages: tuple[int, ...]) -> list[int]:
        """Return the pages, one behind the other."""
        return list(pages)


@defect("read/prp-chain:gap", scenarios=("read/sizes",))
class Gap(_OwnList):
    """Leaves a slot of a list free, where lists have to be packed."""

    def entries(self, pages: tuple[int, ...]) -> list[int]:
        """Return the pages, with nothing behind the first."""
        return [pages[0], 0, *pages[1:]]
