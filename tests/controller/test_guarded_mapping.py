"""Memory whose file shrinks: what the guard of SIGBUS reads there, and what it leaves to others."""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.controller.guarded_mapping import GuardedMapping

PAGE = mmap.PAGESIZE


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("shrinks")
    os.truncate(fd, 2 * PAGE)
    yield fd
    os.close(fd)


def test_a_page_that_was_cut_off_reads_zeros_and_says_so(file: int) -> None:
    mapping = GuardedMapping(file, 2 * PAGE)
    mapping.view[PAGE] = 7
    os.truncate(file, PAGE)
    assert bytes(mapping.view[PAGE : PAGE + 2]) == bytes(2)
    assert mapping.lost


def test_the_guard_comes_back_after_faulthandler_took_its_place(file: int) -> None:
    GuardedMapping(file, PAGE)
    enabled = faulthandler.is_enabled()
    faulthandler.disable()
    faulthandler.enable(all_threads=True)
    try:
        mapping = GuardedMapping(file, 2 * PAGE)
        os.truncate(file, PAGE)
        assert mapping.view[PAGE] == 0
    finally:
        if not enabled:
            faulthandler.disable()
    assert mapping.lost


def test_a_mapping_ends_with_its_last_view() -> None:
    file = os.memfd_create("unmapped")
    os.truncate(file, PAGE)
    view = GuardedMapping(file, PAGE).view[:10]
    os.close(file)
    assert "memfd:unmapped" in Path("/proc/self/maps").read_text()
    view.release()
    gc.collect()
    assert "memfd:unmapped" not in Path("/proc/self/maps").read_text()


UNGUARDED = """
import faulthandler, mmap, os
from lab.controller.guarded_mapping import GuardedMapping
fd = os.memfd_create("shrinks")
os.truncate(fd, 2 * mmap.PAGESIZE)
GuardedMapping(fd, mmap.PAGESIZE)
{between}
mapping = GuardedMapping(fd, mmap.PAGESIZE)
other = mmap.mmap(fd, 2 * mmap.PAGESIZE)
os.truncate(fd, mmap.PAGESIZE)
other[mmap.PAGESIZE]
"""


@pytest.mark.parametrize(
    "between", ["", "faulthandler.enable()", "faulthandler.enable()\nfaulthandler.disable()\nfaulthandler.enable()"]
)
def test_a_fault_elsewhere_ends_the_process_as_ever(between: str) -> None:
    done = subprocess.run([sys.executable, "-c", UNGUARDED.format(between=between)], capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGBUS
