"""Defects of what a driver leaves with a controller and takes back, each with its legal neighbour."""

from __future__ import annotations

from lab.defects.defect import defect
from lab.defects.senders import sends
from lab.nvme import commands as c
from lab.nvme.commands import Command, CreateIoCq, CreateIoSq, SetFeatures
from lab.nvme.features import Fid, HostMemoryBuffer, HostMemoryDescriptor
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.controller_memory import ControllerMemory
from lab.reference.queue_pair import QueuePair
from lab.reference.ring import SQE_SIZE
from lab.reference.transport import HOST_PAGE, Memory

KEY, OTHER_KEY = 0x1122_3344_5566_7788, 0x99
EXCLUSIVE, ALL_REGISTRANTS = 1, 6
"""Reservation types: write exclusive, and exclusive access of all registrants."""
POWER_CAPABILITY, D3HOT = 0x01, 0b11


@defect("features/hmb-untouched:scrubs", scenarios=("features/host-memory",))
class ScrubsLentMemory(Controller):
    """Clears the memory that it has just lent."""

    def lend_memory(self) -> None:
        """Lend the memory, and clear the beginning of it."""
        super().lend_memory()
        if self._lent is not None:
            self._lent[0].write(0, bytes(64))


@defect("features/hmb-untouched:list", scenarios=("features/host-memory",))
class ReusesTheList(Controller):
    """Takes the descriptor list for its own again as soon as the memory is lent."""

    def lend_memory(self) -> None:
        """Lend the memory, and write into the list."""
        super().lend_memory()
        if self._lent is not None:
            self._lent[1].write(0, bytes(8))


@defect("features/hmb-return:cleared", scenarios=("features/host-memory",))
class ReturnsClearedMemory(Controller):
    """Says after a reset that it returns memory, and has cleared it."""

    def lending(self, listed: Memory, pages: int) -> SetFeatures:
        """Return Set Features, with MR=1 for memory that was lent before."""
        first, self._lent_before = not getattr(self, "_lent_before", False), True
        if not first and self._lent is not None:
            self._lent[0].write(0, bytes(64))
        command = super().lending(listed, pages)
        return command if first else command.but(CDW11=HostMemoryBuffer.of(EHM=1, MR=1))


@defect("features/hmb-pieces:pages", scenarios=("features/host-memory",))
class LendsSinglePages(Controller):
    """Lends memory page by page, however few pieces the controller can use."""

    def lending(self, listed: Memory, pages: int) -> SetFeatures:
        """Return Set Features with a descriptor for each page."""
        assert self._lent is not None
        base = self._lent[0].address
        entries = [HostMemoryDescriptor.of(BADD=base + number * self.page_size, BSIZE=1) for number in range(pages)]
        listed.write(0, b"".join(entries))
        return super().lending(listed, pages).but(CDW15=pages)


@defect("features/hmb-released:never", scenarios=("features/host-memory",))
class NeverTakesBack(Controller):
    """Shuts the controller down while that still has the lent memory."""

    def take_memory_back(self) -> None:
        """Leave the memory with the controller, and forget it."""
        self._lent = None


@defect("io-queues/pc0-list:reused", scenarios=("io-queues/scattered",))
class ReusesQueueList(Controller):
    """Describes a submission queue by a PRP list, and reuses the list's memory once the queue is created."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return Create I/O SQ with PC=0 and a list."""
        command = super().create_sq_command(pair)
        if self.cap.CQR:
            return command
        self._queue_list = self.ring_memory(self.page_size)
        self._queue_list.write(0, b"".join(page.to_bytes(8, "little") for page in pair.submission.memory.pages))
        return command.but(PC=0, PRP1=self._queue_list.address)

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create the queues, and clear the list."""
        pair = super().create_pair(qid, entries)
        if not self.cap.CQR:
            self._queue_list.write(0, bytes(8))
        return pair


@defect("io-queues/memory-use:completions", scenarios=("io-queues/controller-memory",))
class CompletionsInControllerMemory(Controller):
    """Places completion queues in the controller's memory, which takes submission queues only."""

    def submission_memory(self, qid: int, length: int) -> Memory:
        """Return memory of the host's."""
        return self.ring_memory(length)

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return Create I/O CQ in the controller's memory."""
        own = self.own_memory.take(len(pair.completion.memory), self.page_size)
        command = super().create_cq_command(pair)
        return command.but(PRP1=own.address) if own else command


@defect("io-queues/memory-use:half", scenarios=("io-queues/controller-memory",))
class HalfInControllerMemory(Controller):
    """Places a submission queue so that its end is behind the controller's memory."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return Create I/O SQ of a queue of two pages, of which the first is in the controller's memory."""
        command = super().create_sq_command(pair)
        own = self.own_memory
        end = own.address + len(own)
        return command.but(PRP1=end - self.page_size, QSIZE=2 * self.page_size // SQE_SIZE - 1) if len(own) else command


@defect("io-queues/memory-apart:over-dma", scenarios=("io-queues/controller-memory",))
class OverDmaMemory(ControllerMemory):
    """Lets the controller find its own memory where the driver's memory is."""

    def place(self, address: int) -> bool:
        """Put it over a page for DMA, and then where it ought to be."""
        page = self._transport.allocate(HOST_PAGE, HOST_PAGE)
        super().place(page.address)
        self._transport.free(page)
        return super().place(address)


@defect("reset/d3:at-once", scenarios=("write/fresh",))
class SleepsAtOnce(Controller):
    """Puts the function into D3 without a shutdown, and wakes it when it comes again."""

    def detect(self) -> None:
        """Wake the function, and check the controller."""
        self._power(0)
        super().detect()

    def shutdown(self) -> None:
        """Go to sleep where others shut the controller down."""
        if self.stage:
            self._power(D3HOT)
            self._power(0)
        super().shutdown()

    def _power(self, state: int) -> None:
        at = next((at for kind, at in pci.capabilities(self.transport) if kind == POWER_CAPABILITY), 0)
        if at and self.transport.config_read(at + 4, 2) & D3HOT != state:
            self.transport.config_write(at + 4, 2, state)


# -- by what is sent ------------------------------------------------------------------------------------------------------


def _data(driver: Controller, content: bytes) -> int:
    """Return the address of memory with this content."""
    memory = driver.transport.allocate(driver.page_size, driver.page_size)
    memory.write(0, content)
    return memory.pages[0]


def _register(driver: Controller) -> Command:
    return c.ReservationRegister.of(NSID=1, PRP1=_data(driver, bytes(8) + KEY.to_bytes(8, "little")))


def _acquire(driver: Controller, key: int) -> Command:
    return c.ReservationAcquire.of(NSID=1, RTYPE=EXCLUSIVE, PRP1=_data(driver, key.to_bytes(16, "little")))


def _preempt(driver: Controller, key: int) -> Command:
    """Return Reservation Acquire that preempts a registrant that there is not."""
    keys = key.to_bytes(8, "little") + OTHER_KEY.to_bytes(8, "little")
    return c.ReservationAcquire.of(NSID=1, RACQA=1, RTYPE=EXCLUSIVE, PRP1=_data(driver, keys))


def _release(driver: Controller, key: int, kind: int = EXCLUSIVE) -> Command:
    return c.ReservationRelease.of(NSID=1, RTYPE=kind, PRP1=_data(driver, key.to_bytes(8, "little")))


def _identify_host(driver: Controller, length: int) -> Command:
    """Return Set Features, Host Identifier, of so many bytes."""
    return SetFeatures.of(FID=Fid.HOST_IDENTIFIER, CDW11=length == 16, PRP1=_data(driver, b"\x5a" * length))


sends(
    "multi-namespace/resv-keys:unregistered",
    "Reserves a namespace without having registered a key.",
    lambda driver: [_acquire(driver, KEY)],
    lambda driver: [_register(driver), _acquire(driver, KEY)],
    io=True,
    scenarios=("multi-namespace/reservations",),
)
sends(
    "multi-namespace/resv-keys:another-key",
    "Reserves a namespace by another key than it has registered.",
    lambda driver: [_register(driver), _acquire(driver, OTHER_KEY)],
    None,
    io=True,
    scenarios=("multi-namespace/reservations",),
)
sends(
    "multi-namespace/resv-keys:release",
    "Releases a reservation without its key.",
    lambda driver: [_register(driver), _acquire(driver, KEY), _release(driver, 0)],
    lambda driver: [_register(driver), _acquire(driver, KEY), _release(driver, KEY)],
    io=True,
    scenarios=("multi-namespace/reservations",),
)
sends(
    "multi-namespace/resv-keys:preempt",
    "Preempts a reservation by the other host's key in place of its own.",
    lambda driver: [_register(driver), _preempt(driver, OTHER_KEY)],
    lambda driver: [_register(driver), _preempt(driver, KEY)],
    io=True,
    scenarios=("multi-namespace/reservations",),
)
sends(
    "multi-namespace/resv-type:another",
    "Releases a reservation by another type than it has acquired.",
    lambda driver: [_register(driver), _acquire(driver, KEY), _release(driver, KEY, ALL_REGISTRANTS)],
    lambda driver: [
        _register(driver), _release(driver, KEY, ALL_REGISTRANTS), _acquire(driver, KEY), _release(driver, KEY),
    ],
    io=True,
    scenarios=("multi-namespace/reservations",),
)  # fmt: skip
sends(
    "features/host-id:always-long",
    "Sets a host identifier of 128 bits, whatever CTRATT says.",
    lambda driver: [_identify_host(driver, 16)],
    lambda driver: [_identify_host(driver, 8)],
    scenarios=("features/host-id",),
)
