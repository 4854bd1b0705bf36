from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.guest.memory import GuestMemory


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    path = tmp_path / "ram"
    path.write_bytes(bytes(4096) + b"sqe" + bytes((1 << 20) - 4096 - 3))
    return path


def test_reads_where_the_guest_has_written(ram: Path) -> None:
    with GuestMemory(ram, 1) as memory:
        assert memory.read(4096, 3) == b"sqe"
        with ram.open("r+b") as file:
            file.seek(4096)
            file.write(b"new")
        assert memory.read(4096, 3) == b"new"


@pytest.mark.parametrize(("address", "length"), [(1 << 20, 1), ((1 << 20) - 1, 2), (-1, 1), (0, -1), (0xFEE00000, 4)])
def test_what_is_not_ram_is_none(ram: Path, address: int, length: int) -> None:
    with GuestMemory(ram, 1) as memory:
        assert memory.read(address, length) is None


def test_the_last_byte_is_ram(ram: Path) -> None:
    with GuestMemory(ram, 1) as memory:
        assert memory.read((1 << 20) - 1, 1) == b"\0"


def test_a_layout_with_a_hole_is_refused(ram: Path) -> None:
    with pytest.raises(LabError, match="3072 MiB"):
        GuestMemory(ram, 3072)


def test_ram_may_begin_above_zero(ram: Path) -> None:
    with GuestMemory(ram, 1, base=1 << 30) as memory:
        assert memory.read((1 << 30) + 4096, 3) == b"sqe"
        assert memory.read(4096, 3) is None
        assert memory.read((1 << 30) - 1, 1) is None
