"""Requests that the agent of a Linux guest hands over in one system call, on a file of this machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from lab.drivers.linux_agent import gathered
from lab.drivers.linux_agent.buffers import new_buffer

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the system calls are those of x86-64")


def view(byte: bytes) -> memoryview:
    """Return a page that is full of one byte."""
    page = memoryview(new_buffer(4096))
    page[:] = byte * len(page)
    return page


def test_writes_and_reads_end_with_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"\0" * 4096 * 4)
    file = os.open(tmp_path / "disk", os.O_RDWR)
    try:
        written = [(gathered.WRITE, view(bytes([n])), n * 4096) for n in (1, 2, 3)]
        assert gathered.transfer(file, written) == [4096, 4096, 4096]
        back = view(b"\xff")
        beyond = view(b"\xff")
        assert gathered.transfer(file, [(gathered.READ, back, 8192), (gathered.READ, beyond, 4096 * 4)]) == [4096, 0]
        assert bytes(back) == b"\2" * 4096
        assert bytes(beyond) == b"\xff" * 4096
    finally:
        os.close(file)
    assert (tmp_path / "disk").read_bytes() == b"".join(bytes([n]) * 4096 for n in range(4))


def test_a_request_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"\0" * 4096)
    file = os.open(tmp_path / "disk", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            gathered.transfer(file, [(gathered.WRITE, view(b"\1"), 0)])
    finally:
        os.close(file)
