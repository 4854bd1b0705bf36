"""A controller from user space on Linux: VFIO with an IOMMU. linux/vfio.h; Documentation/driver-api/vfio.rst.

The kernel gives access to the function's BAR0 and configuration space, maps memory of this process for the device at chosen bus
addresses, and turns MSI-X vectors into eventfds. x86 keeps the order of stores; `publish` orders them on other processors.
INTx is not supported: a function without MSI-X is polled.

Each page is mapped at its own physical address where possible: an observer of the machine's memory, as the lab is for a guest,
then finds the data at the addresses that the device got.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import re
import select
import struct
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from lab.reference import pci
from lab.reference.address_space import AddressSpace, round_to_pages
from lab.reference.errors import Refused
from lab.reference.transport import HOST_PAGE, Memory

PCI, VFIO, MOUNTS = Path("/sys/bus/pci"), Path("/dev/vfio"), Path("/proc/mounts")
DRIVER = "vfio-pci"

_BASE = ord(";") << 8 | 100  # VFIO_TYPE, VFIO_BASE
GET_API_VERSION, SET_IOMMU = _BASE, _BASE + 2
GROUP_GET_STATUS, GROUP_SET_CONTAINER, GROUP_GET_DEVICE_FD = _BASE + 3, _BASE + 4, _BASE + 6
GET_REGION_INFO, SET_IRQS, RESET = _BASE + 8, _BASE + 10, _BASE + 11
MAP_DMA, UNMAP_DMA = _BASE + 13, _BASE + 14
TYPE1_IOMMU = 1
GROUP_VIABLE = 1
REGION_BAR0, REGION_CONFIG = 0, 7
REGION_MMAP = 1 << 2
GROUP_SECONDS, GROUP_POLL_SECONDS = 5.0, 0.005
"""Time-out and interval of waiting for the file of a group, which appears a moment after its function was bound."""
IRQ_MSIX = 2
IRQ_NONE, IRQ_EVENTFD, IRQ_TRIGGER = 1 << 0, 1 << 2, 1 << 5
READ_WRITE = 3

IOVA = (0x8000_0000, 0xFEE0_0000)
"""Bus addresses for contiguous memory: below the window of x86's interrupt messages."""
PAGEMAP = "/proc/self/pagemap"
"""A qword for each page: bit 63 present, bits 54:0 the page frame's number. Documentation/admin-guide/mm/pagemap.rst."""
ATTEMPTS = 8
"""Tries to map a page: the kernel may move it between the look-up of its address and the mapping."""
_NVME = "0x010802"


def controllers() -> list[str]:
    """Return the PCI addresses of all NVMe controllers of this machine."""
    return sorted(path.name for path in (PCI / "devices").glob("*") if _read_text(path / "class") == _NVME)


def bind(address: str, *, force: bool = False) -> None:
    """Bind a function to vfio-pci. Refused while a file system on it is mounted.

    Without ``force`` a controller that another driver has is refused too.
    """
    function = PCI / "devices" / address
    if not function.is_dir():
        raise Refused(f"there is no PCI function {address}; NVMe controllers here: {', '.join(controllers()) or 'none'}")
    if mounted := _mounted_disk(function):
        raise Refused(f"{address} holds {mounted[0]}, which is mounted at {mounted[1]}: unmount it first")
    owner = (function / "driver").resolve().name if (function / "driver").exists() else ""
    if owner == DRIVER:
        return
    if owner and not force:
        raise Refused(f"the driver {owner} has {address}; --force takes the controller away from it")
    if not (PCI / "drivers" / DRIVER).is_dir():
        raise Refused(f"this kernel has no {DRIVER}: load the modules vfio_iommu_type1 and vfio-pci")
    try:
        if owner:
            (function / "driver/unbind").write_text(address)
        (function / "driver_override").write_text(DRIVER)
        (PCI / "drivers_probe").write_text(address)
    except OSError as error:
        raise Refused(f"{address} cannot be bound to {DRIVER}: {error.strerror}") from error


class Vfio:
    """A function opened by VFIO; see `lab.reference.transport.Transport`. Refused if it cannot be opened."""

    def __init__(self, address: str) -> None:
        """Open a function that is bound to vfio-pci, by its PCI address."""
        self.name = address
        self._events: list[int] = []
        self._mapped: dict[int, mmap.mmap] = {}
        self._space = AddressSpace(*IOVA)
        self._order = threading.Lock()
        with ExitStack() as files:  # a group can be opened once only, so a failure must close it
            self._open(address, files)
            self._config = self._region(REGION_CONFIG)[1]
            size, offset, flags = self._region(REGION_BAR0)
            if not flags & REGION_MMAP:
                raise Refused(f"{address}: BAR0 cannot be mapped")
            self._bar = memoryview(mmap.mmap(self._device, size, offset=offset)).cast("I")
            self.vectors = pci.msix(self)[1]
            self.own_memory = memoryview(b"")  # no BAR but BAR0 is mapped
            self._files = files.pop_all()

    def _open(self, address: str, files: ExitStack) -> None:
        """Open container, group and function, to be closed in the opposite order."""
        group = PCI / "devices" / address / "iommu_group"
        if not group.exists():
            raise Refused(f"{address} is in no IOMMU group: this machine has no IOMMU, or it is off (intel_iommu=on)")
        try:
            self._container = os.open(VFIO / "vfio", os.O_RDWR | os.O_CLOEXEC)
            files.callback(os.close, self._container)
            self._group = _open_group(VFIO / group.resolve().name)
            files.callback(os.close, self._group)
            status = bytearray(struct.pack("<II", 8, 0))
            fcntl.ioctl(self._group, GROUP_GET_STATUS, status)
            if not struct.unpack("<II", status)[1] & GROUP_VIABLE:
                raise Refused(f"{address} shares its IOMMU group with a function that another driver has")
            fcntl.ioctl(self._group, GROUP_SET_CONTAINER, struct.pack("<i", self._container))
            fcntl.ioctl(self._container, SET_IOMMU, TYPE1_IOMMU)
            self._device = fcntl.ioctl(self._group, GROUP_GET_DEVICE_FD, bytearray(address.encode() + b"\0"))
            files.callback(os.close, self._device)
        except OSError as error:
            raise Refused(f"{address} cannot be opened by VFIO: {error.strerror}") from error

    def _region(self, index: int) -> tuple[int, int, int]:
        """Return (size, offset, flags) of a region of the device's file."""
        info = bytearray(struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        fcntl.ioctl(self._device, GET_REGION_INFO, info)
        _, flags, _, _, size, offset = struct.unpack("<IIIIQQ", info)
        return size, offset, flags

    # -- registers --------------------------------------------------------------------------------------------------

    def config_read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes of configuration space."""
        return int.from_bytes(os.pread(self._device, size, self._config + offset), "little")

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes of configuration space."""
        os.pwrite(self._device, value.to_bytes(size, "little"), self._config + offset)

    def read32(self, offset: int) -> int:
        """Read a dword of BAR0."""
        return self._bar[offset >> 2]

    def write32(self, offset: int, value: int) -> None:
        """Write a dword of BAR0."""
        self._bar[offset >> 2] = value

    def publish(self) -> None:
        """Order memory accesses before and after this call."""
        with self._order:  # taking a lock is a barrier, and the only one in Python
            pass

    # -- memory -----------------------------------------------------------------------------------------------------

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False) -> Memory:
        """Return zeroed DMA memory. It is shared with processes that this one forks: one may be the driver's successor."""
        size = round_to_pages(length, max(page_size, HOST_PAGE))
        backing = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
        virtual = ctypes.addressof(ctypes.c_char.from_buffer(backing))
        pages: tuple[int, ...] | None = None
        if page_size == HOST_PAGE and (size == HOST_PAGE or not contiguous):
            pages = self._map_at_physical_addresses(virtual, size)
        if pages is None:
            at = self._space.allocate(size, page_size)
            self._map(virtual, at, size)
            pages = tuple(range(at, at + size, page_size))
        self._mapped[pages[0]] = backing
        return Memory(memoryview(backing), pages, page_size)

    def free(self, memory: Memory) -> None:
        """Free memory that the device does not access any more."""
        first = memory.address
        if IOVA[0] <= first < IOVA[1]:
            self._unmap(first, len(memory))
            self._space.free(first, len(memory))
        else:
            for page in memory.pages:
                self._unmap(page, HOST_PAGE)
        memory.view.release()
        del self._mapped[first]

    def _map_at_physical_addresses(self, virtual: int, size: int) -> tuple[int, ...] | None:
        """Map each page at its physical address; None if the address is not known or taken."""
        pages = list[int]()
        for at in range(virtual, virtual + size, HOST_PAGE):
            page = self._map_page(at)
            if page is None:
                for mapped in pages:
                    self._unmap(mapped, HOST_PAGE)
                return None
            pages.append(page)
        return tuple(pages)

    def _map_page(self, virtual: int) -> int | None:
        for _ in range(ATTEMPTS):
            physical = _physical(virtual)
            if physical is None or physical + HOST_PAGE > IOVA[0]:
                return None
            try:
                self._map(virtual, physical, HOST_PAGE)
            except OSError:  # another page was there before the kernel moved it
                return None
            if _physical(virtual) == physical:
                return physical
            self._unmap(physical, HOST_PAGE)
        return None

    def _map(self, virtual: int, bus: int, size: int) -> None:
        """Give the device access to memory of this process, which pins it."""
        fcntl.ioctl(self._container, MAP_DMA, struct.pack("<IIQQQ", 32, READ_WRITE, virtual, bus, size))

    def _unmap(self, bus: int, size: int) -> None:
        fcntl.ioctl(self._container, UNMAP_DMA, bytearray(struct.pack("<IIQQ", 24, 0, bus, size)))

    # -- interrupts and time ----------------------------------------------------------------------------------------

    def open_vectors(self, count: int) -> None:
        """Enable MSI-X with handlers for vectors 0 to count - 1."""
        if len(self._events) == count:
            return
        self._close_vectors()
        self._events = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(count)]
        head = struct.pack("<IIIII", 20 + 4 * count, IRQ_EVENTFD | IRQ_TRIGGER, IRQ_MSIX, 0, count)
        fcntl.ioctl(self._device, SET_IRQS, head + struct.pack(f"<{count}i", *self._events))

    def _close_vectors(self) -> None:
        if self._events:
            fcntl.ioctl(self._device, SET_IRQS, struct.pack("<IIIII", 20, IRQ_NONE | IRQ_TRIGGER, IRQ_MSIX, 0, 0))
        while self._events:
            os.close(self._events.pop())

    def wait(self, vector: int | None, seconds: float) -> bool:
        """Wait until a vector has signalled, at most ``seconds``; return whether it has."""
        if vector is None:
            os.sched_yield()
        elif select.select([self._events[vector]], [], [], seconds)[0]:
            os.eventfd_read(self._events[vector])
            return True
        return False

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds``."""
        time.sleep(seconds)

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""
        return time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether the function was not closed: a driver that was detached leaves it open for its successor."""
        return bool(self._device >= 0)

    def detach(self) -> None:
        """Let go of the function as it is."""
        self._close_vectors()

    def close(self) -> None:
        """Close the function. The kernel then resets it, and removes the mappings with the container."""
        if self._device < 0:
            return
        pci.clear_command(self, pci.BUS_MASTER)
        self._close_vectors()
        self._bar.release()
        self._files.close()
        self._device = -1


def _mounted_disk(function: Path) -> tuple[str, str] | None:
    """Return (disk, mount point) of a mounted disk of this function."""
    disks = {path.name for path in function.glob("nvme/nvme*/nvme*n*")}
    for line in MOUNTS.read_text().splitlines():
        source, point = line.split(" ")[:2]
        if (match := re.fullmatch(r"/dev/(nvme\d+n\d+)(p\d+)?", source)) and match[1] in disks:
            return source, point
    return None


def _physical(virtual: int) -> int | None:
    """Return the physical address of a page of this process; None if the kernel does not show it (only root sees it)."""
    with Path(PAGEMAP).open("rb", buffering=0) as file:
        file.seek(virtual // HOST_PAGE * 8)
        entry = int.from_bytes(file.read(8), "little")
    frame = entry & (1 << 55) - 1
    return frame * HOST_PAGE if entry >> 63 and frame else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _open_group(group: Path) -> int:
    """Open a group's file. OSError if it does not appear."""
    deadline = time.monotonic() + GROUP_SECONDS
    while not group.exists() and time.monotonic() < deadline:
        time.sleep(GROUP_POLL_SECONDS)
    return os.open(group, os.O_RDWR | os.O_CLOEXEC)
