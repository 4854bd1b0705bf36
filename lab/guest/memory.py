"""Guest RAM: in the file that is shared with QEMU, or in QEMU's own address space, where a fork keeps it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from lab.errors import LabError
from lab.guest.arguments import MIB

ONE_RANGE = 2048
"""MiB of RAM that q35 certainly keeps in one range from address 0; of more, a part moves above 4 GiB."""


class Ram(Protocol):
    """What both of them can do."""

    def read(self, address: int, length: int) -> bytes | None:
        """Return the bytes at a guest-physical address; None when they cannot be had."""

    def write(self, address: int, data: bytes) -> None:
        """Put the bytes at a guest-physical address; LabError."""

    def close(self) -> None:
        """Give the mapping or descriptor up."""

    def __enter__(self) -> Self:
        """Return the memory."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the memory."""


class GuestMemory:
    """A view of ``memory`` MiB of RAM, from address ``base`` on, in the file that `GuestSpec.memory_file` names."""

    def __init__(self, path: Path, memory: int, base: int = 0) -> None:
        """Map the file that holds the RAM; ``memory`` is in MiB."""
        _require_one_range(memory)
        self._base = base
        with path.open("r+b") as file:
            self._ram = mmap.mmap(file.fileno(), memory * MIB)

    def read(self, address: int, length: int) -> bytes | None:
        """Return the bytes at a guest-physical address; None when they are not all RAM."""
        start = address - self._base
        if start < 0 or length < 0 or start + length > len(self._ram):
            return None
        return self._ram[start : start + length]

    def write(self, address: int, data: bytes) -> None:
        """Put the bytes at a guest-physical address. LabError if they do not fit into the RAM."""
        start = address - self._base
        if start < 0 or start + len(data) > len(self._ram):
            raise _no_ram(address, len(data))
        self._ram[start : start + len(data)] = data

    def close(self) -> None:
        """Unmap the file."""
        self._ram.close()

    def __enter__(self) -> Self:
        """Return the memory."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Unmap the file."""
        self.close()


class ForkMemory:
    """A view of ``memory`` MiB of RAM that QEMU has mapped privately from the file ``path`` (`GuestSpec.memory_private`).

    It is in QEMU only (proc_pid_mem(5)), which is our child, so it ends when QEMU does.
    """

    def __init__(self, pid: int, path: Path, memory: int) -> None:
        """Open the process's memory; LabError where that is refused."""
        _require_one_range(memory)
        self._size = memory * MIB
        try:
            self._start = _mapped(pid, path, self._size)
            self._ram = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        except PermissionError as refused:
            raise LabError(
                "The memory of QEMU, our own child, may not be read and written on this machine.", remedy="set NVME_LAB_FORK=0"
            ) from refused

    def read(self, address: int, length: int) -> bytes | None:
        """Return the bytes at a guest-physical address; None when they are not all RAM, or QEMU has ended."""
        if address < 0 or length < 0 or address + length > self._size:
            return None
        try:
            data = os.pread(self._ram, length, self._start + address)
        except OSError:
            return None
        return data if len(data) == length else None

    def write(self, address: int, data: bytes) -> None:
        """Put the bytes at a guest-physical address. LabError if they do not fit into the RAM, or QEMU has ended."""
        if address < 0 or address + len(data) > self._size:
            raise _no_ram(address, len(data))
        try:
            os.pwrite(self._ram, data, self._start + address)
        except OSError as error:
            raise LabError(f"The memory of QEMU cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Close QEMU's memory."""
        os.close(self._ram)

    def __enter__(self) -> Self:
        """Return the memory."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close QEMU's memory."""
        self.close()


def _mapped(pid: int, path: Path, size: int) -> int:
    """Return the address at which the process has mapped all of the file, in one piece (proc_pid_maps(5))."""
    name = str(path.resolve())
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, _, offset, _, _, *mapped = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        if mapped and mapped[0].startswith(name) and int(offset, 16) == 0 and end - start >= size:
            return start
    raise LabError(f"QEMU has not mapped the guest's memory {path} in one piece.", remedy="set NVME_LAB_FORK=0")


def _no_ram(address: int, length: int) -> LabError:
    what = f"{length} bytes at {address:#x} do not lie in the guest's RAM."
    return LabError(what, remedy="correct limits.address, or boot.memory")


def _require_one_range(memory: int) -> None:
    if memory > ONE_RANGE:
        raise LabError(
            f"Guest memory can be read up to {ONE_RANGE} MiB, and this guest has {memory} MiB.",
            remedy="give the guest less memory",
        )
