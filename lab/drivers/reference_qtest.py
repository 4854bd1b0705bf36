"""The reference driver's transport to QEMU's own device without a guest: registers by qtest, memory by the RAM's file.

The virtual processor never runs, so all RAM belongs to the driver. MSI-X vectors point into RAM: an interrupt is a dword that
QEMU writes there. QEMU sees stores to the shared mapping at once (x86 keeps the order of stores), and each doorbell goes
through a socket, which orders everything before it.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lab.drivers.watchdog import Watchdog
from lab.guest.qtest import Qtest
from lab.reference import pci
from lab.reference.address_space import AddressSpace, round_to_pages
from lab.reference.transport import Memory

FIRST_FREE = 1 << 20
"""The first free address: a PC uses the memory below."""
BAR, BAR_STEP = 0xE000_0000, 0x100_0000
"""The addresses of BAR0s, 16 MiB apart."""
BAR0 = 0x10
DEVICES = 32
WORD = 4
SPIN_SECONDS, PAUSE = 0.002, 0.0002
"""Polling for an interrupt: without a pause for so long, then with a pause."""


class Ram:
    """The RAM of a machine whose processor never runs."""

    def __init__(self, file: Path, size: int) -> None:
        """Map the guest's RAM from its file; ``size`` is in bytes."""
        with file.open("r+b") as opened:
            self.view = memoryview(mmap.mmap(opened.fileno(), size))
        self.space = AddressSpace(FIRST_FREE, size)


def find(qtest: Qtest, ram: Ram, watchdog: Watchdog | None = None) -> Iterator[QtestTransport]:
    """Yield the NVMe controllers on bus 0."""
    for number in range(DEVICES):
        bdf = number << 3
        if qtest.read_config(bdf, pci.CLASS) >> 8 == pci.CLASS_NVME:
            yield QtestTransport(qtest, ram, bdf, watchdog or Watchdog(time.monotonic, time.sleep))


class QtestTransport:
    """See `lab.reference.transport.Transport`. One function on bus 0."""

    def __init__(self, qtest: Qtest, ram: Ram, bdf: int, watchdog: Watchdog) -> None:
        """Connect to one function of the machine."""
        self.name = f"0000:00:{bdf >> 3:02x}.{bdf & 7}"
        self._qtest, self._ram, self._bdf, self._watchdog = qtest, ram, bdf, watchdog
        self._bar = BAR + (bdf >> 3) * BAR_STEP
        qtest.write_config(bdf, BAR0, self._bar)
        qtest.write_config(bdf, BAR0 + 4, 0)
        self._allocated: set[Memory] = set()
        self._order = threading.Lock()
        self._words: Memory | None = None
        self._msix, self.vectors = pci.msix(self)
        self.own_memory = memoryview(b"")  # no BAR but BAR0 is placed

    # -- registers --------------------------------------------------------------------------------------------------

    def config_read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes of configuration space."""
        return self._qtest.read_config(self._bdf, offset & ~3) >> (offset & 3) * 8 & (1 << size * 8) - 1

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes of configuration space."""
        shift, mask = (offset & 3) * 8, (1 << size * 8) - 1
        old = self._qtest.read_config(self._bdf, offset & ~3) if size < 4 else 0
        if offset & ~3 == pci.COMMAND:
            old &= 0xFFFF  # the other half is the Status register, whose bits are cleared by writing 1
        self._qtest.write_config(self._bdf, offset & ~3, old & ~(mask << shift) | value << shift)

    def read32(self, offset: int) -> int:
        """Read a dword of BAR0."""
        self._watchdog.read()
        return self._qtest.read32(self._bar + offset)

    def write32(self, offset: int, value: int) -> None:
        """Write a dword of BAR0."""
        self._watchdog.step()
        self._qtest.write32(self._bar + offset, value)

    def publish(self) -> None:
        """Order memory accesses before and after this call."""
        with self._order:  # a doorbell's system call orders stores; a lock orders loads after them too
            pass

    # -- memory -----------------------------------------------------------------------------------------------------

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False) -> Memory:
        """Return zeroed DMA memory, always contiguous."""
        del contiguous  # part of the protocol
        size = round_to_pages(length, page_size)
        at = self._ram.space.allocate(size, page_size)
        view = self._ram.view[at : at + size]
        view[:] = bytes(size)
        memory = Memory(view, tuple(range(at, at + size, page_size)), page_size)
        self._allocated.add(memory)
        return memory

    def free(self, memory: Memory) -> None:
        """Free memory that the device does not access any more."""
        self._allocated.remove(memory)
        self._ram.space.free(memory.address, len(memory))

    # -- interrupts and time ----------------------------------------------------------------------------------------

    def open_vectors(self, count: int) -> None:
        """Write the table: address, data, and vector control 0, which unmasks an entry. PCI Local Bus 3.0, 6.8.2."""
        if self._words is None:
            self._words = self.allocate(self.vectors * WORD, 4096)
        table = self._qtest.read_config(self._bdf, self._msix + 4)
        for vector in range(count):
            entry = (table & ~7) + vector * 16  # in BAR0, where QEMU's device has it
            for at, value in enumerate((self._words.address + vector * WORD, 0, vector + 1, 0)):
                self.write32(entry + at * WORD, value)
        control = self.config_read(self._msix + 2, 2)
        self.config_write(self._msix + 2, 2, control & ~pci.MSIX_MASK_ALL | pci.MSIX_ENABLE)

    def wait(self, vector: int | None, seconds: float) -> bool:
        """Wait until a vector has signalled, at most ``seconds``; return whether it has."""
        self._watchdog.step()
        if vector is None or self._words is None:
            os.sched_yield()
            return False
        view, at, began = self._words.view, vector * WORD, self.now()
        while not view[at]:
            waited = self.now() - began
            if waited >= seconds:
                return False
            time.sleep(PAUSE if waited > SPIN_SECONDS else 0)  # 0 still gives the processor to QEMU
        view[at : at + WORD] = bytes(WORD)
        return True

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``."""
        self._watchdog.step()
        time.sleep(seconds)

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""
        return time.monotonic()

    def detach(self) -> None:
        """Let go of the function as it is; nothing signals to this transport afterwards."""
        del self  # its vectors are words in memory, which nobody waits for any more

    def close(self) -> None:
        """Release the function and its memory."""
        pci.clear_command(self, pci.BUS_MASTER)
        if self._msix:
            self.config_write(self._msix + 2, 2, self.config_read(self._msix + 2, 2) & ~pci.MSIX_ENABLE & 0xFFFF)
        for memory in list(self._allocated):
            self.free(memory)
        self._words = None
