"""The reference driver's transport to the programmable controller in the same process, as behind a strict IOMMU.

The device can access only memory that the driver has allocated. The pages of a buffer have descending bus addresses, so that a
driver which takes them for contiguous fails. Time passes by the device's own clock only. Memory order is program order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.controller.dma import LocalMemory
from lab.controller.in_process import Function, InProcess
from lab.data.events import MEMORY_WATCHED
from lab.drivers.watchdog import Watchdog
from lab.reference import pci
from lab.reference.address_space import AddressSpace, round_to_pages
from lab.reference.transport import Memory

ARENA = 1 << 30
"""Bytes of memory; the operating system provides only the touched pages."""
BUS = 0x8_0000_0000
"""Where bus addresses begin: above 4 GiB, so that every high half matters."""
BAR0, ABOVE_4G = 0x10, 0b1100
"""Where BAR0 is in configuration space, and the bits of one that is 64-bit and prefetchable. PCI Local Bus 3.0, 6.2.5.1."""
BAR = 0x40_0000_0000
"""The value of such a BAR0; register accesses do not use it."""
FEW = 16
"""Accesses of up to so many bytes are recorded with their content; longer ones with their address only."""
MESSAGES, MASKED = 0xFEE0_0000, 1
"""Where x86 takes messages of interrupts, and vector control of a vector that is masked."""
ACCESS_SECONDS = 1e-6
"""The duration of a register read, so that time passes for a driver that does nothing else."""


class Host:
    """The memory of one computer, and the bus addresses under which its devices see parts of it.

    ``memory`` must be strict: a device can access only the parts that were mapped, and none are at first.
    """

    def __init__(self, memory: LocalMemory | None = None) -> None:
        """Take the memory, or make one."""
        self.memory = memory or LocalMemory(ARENA, strict=True)
        self.arena = AddressSpace(0, self.memory.size)
        self.bus = AddressSpace(BUS, BUS + self.memory.size)


@dataclass(eq=False)
class WatchedMemory(Memory):
    """DMA memory with a watchdog on reads: a driver may poll for ever for a value that does not appear."""

    watchdog: Watchdog

    def read(self, offset: int, length: int) -> bytes:
        """Copy bytes out of the memory."""
        self.watchdog.read()
        return self.view[offset : offset + length].tobytes()


Note = Callable[[int, bytes, bool], None]
"""Called with an access's bus address, the bytes, and whether they were written."""


@dataclass(eq=False)
class RecordedMemory(WatchedMemory):
    """DMA memory that reports every access, page by page."""

    note: Note

    def read(self, offset: int, length: int) -> bytes:
        """Copy bytes out of the memory."""
        content = super().read(offset, length)
        self._report(offset, content, write=False)
        return content

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copy bytes into the memory."""
        super().write(offset, data)
        self._report(offset, bytes(data), write=True)

    def _report(self, offset: int, data: bytes, *, write: bool) -> None:
        while data:
            page, inside = divmod(offset, self.page_size)
            here = self.page_size - inside
            self.note(self.pages[page] + inside, data[:here], write)
            offset, data = offset + here, data[here:]


class InProcessTransport:
    """See `lab.reference.transport.Transport`. One function of ``device``, which was made with ``host.memory``.

    With ``watched`` the driver's accesses to its DMA memory and its barriers are in the controller's record too.
    """

    def __init__(
        self, host: Host, device: InProcess, function: Function, watchdog: Watchdog | None = None, *, watched: bool = False
    ) -> None:
        """Connect to one function of the device."""
        self.name = function.controller.spec.id
        self._watchdog = watchdog or Watchdog(self.now, device.wait)
        self._host, self._device, self._function, self._watched = host, device, function, watched
        self._signalled: set[int] = set()
        self._handlers = range(0)  # the vectors with a handler
        self._allocated: dict[int, tuple[int, Memory]] = {}  # lowest bus address: offset in the arena, memory
        function.on_interrupt = self._on_interrupt
        if watched:
            function.controller.remark(MEMORY_WATCHED)
        self.own_memory = function.own_memory
        self._msix, count = pci.msix(self)
        self.vectors = count or 1  # INTx
        if self.config_read(BAR0, 4) & ABOVE_4G == ABOVE_4G:  # firmware places it there
            self.config_write(BAR0, 4, BAR & 0xFFFF_FFFF)
            self.config_write(BAR0 + 4, 4, BAR >> 32)

    def config_read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes of configuration space."""
        return self._function.config_read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes of configuration space."""
        self._function.config_write(offset, size, value)

    def read32(self, offset: int) -> int:
        """Read a dword of BAR0."""
        self._watchdog.read()
        self._device.wait(ACCESS_SECONDS)
        return self._function.read(offset, 4)

    def write32(self, offset: int, value: int) -> None:
        """Write a dword of BAR0."""
        self._watchdog.step()
        self._function.write(offset, 4, value)

    def read64(self, offset: int) -> int:
        """Read a register of eight bytes by one access."""
        self._watchdog.read()
        self._device.wait(ACCESS_SECONDS)
        return self._function.read(offset, 8)

    def write64(self, offset: int, value: int) -> None:
        """Write a register of eight bytes by one access."""
        self._watchdog.step()
        self._function.write(offset, 8, value)

    def publish(self) -> None:
        """Order memory accesses before and after this call."""
        if self._watched:
            self._function.controller.record.barrier()

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False) -> Memory:
        """Return zeroed DMA memory."""
        size = round_to_pages(length, page_size)
        arena, lowest = self._host.arena.allocate(size, page_size), self._host.bus.allocate(size, page_size)
        view = self._host.memory.arena[arena : arena + size]
        view[:] = bytes(size)
        pages = tuple(range(lowest, lowest + size, page_size))
        if contiguous:
            self._host.memory.map(lowest, view, size)
        else:
            pages = pages[::-1]
            for index, page in enumerate(pages):
                self._host.memory.map(page, view[index * page_size : (index + 1) * page_size], page_size)
        self._function.controller.record.dma_map(lowest, size, True)
        memory = (
            RecordedMemory(view, pages, page_size, self._watchdog, self._note)
            if self._watched
            else WatchedMemory(view, pages, page_size, self._watchdog)
        )
        self._allocated[lowest] = arena, memory
        return memory

    def free(self, memory: Memory) -> None:
        """Free memory that the device does not access any more."""
        lowest, size = min(memory.pages), len(memory)
        arena, _ = self._allocated.pop(lowest)
        self._host.memory.unmap(lowest, size)
        self._function.controller.record.dma_map(lowest, size, False)
        self._host.bus.free(lowest, size)
        self._host.arena.free(arena, size)

    def _note(self, address: int, data: bytes, write: bool) -> None:
        raw = data if len(data) <= FEW else b""
        self._function.controller.record.memory_access(address, len(data), raw, write)

    def _on_interrupt(self, vector: int) -> bool:
        """Note an interrupt; one without a handler is lost."""
        if vector in self._handlers:
            self._signalled.add(vector)
        return vector in self._handlers

    def open_vectors(self, count: int) -> None:
        """Enable MSI-X with handlers for vectors 0 to count - 1."""
        self._handlers = range(count)
        if self._msix:
            for vector in range(count):
                self.write_vector(vector, MASKED)
                for at, value in enumerate((MESSAGES + vector * 4, 0, vector)):
                    self._function.table_write(vector * pci.MSIX_ENTRY + at * 4, 4, value)
                self.write_vector(vector, 0)
            control = self.config_read(self._msix + 2, 2)
            self.config_write(self._msix + 2, 2, control & ~pci.MSIX_MASK_ALL | pci.MSIX_ENABLE)
        else:
            pci.clear_command(self, pci.INTX_DISABLE)

    def write_vector(self, vector: int, value: int, word: int = pci.MSIX_CONTROL) -> None:
        """Write one dword of a vector's entry in the MSI-X table: its control, unless ``word`` says otherwise."""
        self._function.table_write(vector * pci.MSIX_ENTRY + word, 4, value)

    def open_pin(self) -> None:
        """Switch on INTx, though the function may have MSI-X; its interrupts come as vector 0."""
        self._handlers = range(1)
        pci.clear_command(self, pci.INTX_DISABLE)

    def open_msi(self, count: int) -> int:
        """Switch on MSI with ``count`` vectors, rounded up to a power of two; return how many there are, 0 without it."""
        at = next((at for kind, at in pci.capabilities(self) if kind == pci.MSI), 0)
        if not at:
            return 0
        control = self.config_read(at + 2, 2)
        power = min((count - 1).bit_length(), control >> 1 & 7)
        self._handlers = range(1 << power)
        self.config_write(at + 2, 2, control & ~0x70 | power << 4 | pci.MSI_ENABLE)
        return 1 << power

    def wait(self, vector: int | None, seconds: float) -> bool:
        """Wait until a vector has signalled, at most ``seconds``; return whether it has."""
        self._watchdog.step()
        if vector not in self._signalled:
            self._device.wait(seconds)
        signalled = vector in self._signalled
        self._signalled -= {vector}
        return signalled

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``."""
        until = self.now() + seconds
        while (left := until - self.now()) > 0:
            self._watchdog.step()
            self._device.wait(left)

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""
        return self._device.device.clock.now()

    def detach(self) -> None:
        """Let go of the function as it is: interrupts find no handler until a successor installs its own."""
        self._handlers = range(0)

    def close(self) -> None:
        """Release the function and its memory."""
        pci.clear_command(self, pci.BUS_MASTER)
        if self._msix:
            self.config_write(self._msix + 2, 2, self.config_read(self._msix + 2, 2) & ~pci.MSIX_ENABLE & 0xFFFF)
        for kind, at in list(pci.capabilities(self)):
            if kind == pci.MSI and (control := self.config_read(at + 2, 2)) & pci.MSI_ENABLE:
                self.config_write(at + 2, 2, control & ~pci.MSI_ENABLE)
        for _, memory in list(self._allocated.values()):
            self.free(memory)
        self._function.on_interrupt = None
