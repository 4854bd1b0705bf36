"""Guest RAM, read from the file it shares with QEMU."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType

from lab.errors import LabError
from lab.guest.arguments import MIB

ONE_RANGE = 2048
"""MiB of RAM that q35 certainly keeps in one range from address 0; of more, a part moves above 4 GiB."""


class GuestMemory:
    """A read-only view of ``memory`` MiB of RAM in the file that `GuestSpec.memory_file` names."""

    def __init__(self, path: Path, memory: int) -> None:
        if memory > ONE_RANGE:
            raise LabError(
                f"Guest memory can be read up to {ONE_RANGE} MiB, and this guest has {memory} MiB.",
                remedy="give the guest less memory",
            )
        with path.open("rb") as file:
            self._ram = mmap.mmap(file.fileno(), memory * MIB, prot=mmap.PROT_READ)

    def read(self, address: int, length: int) -> bytes | None:
        """The bytes at a guest-physical address; None when they are not all RAM."""
        if address < 0 or length < 0 or address + length > len(self._ram):
            return None
        return self._ram[address : address + length]

    def close(self) -> None:
        self._ram.close()

    def __enter__(self) -> GuestMemory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
