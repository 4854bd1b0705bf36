"""The benchmark of the programmable controller, in small: both sides really do I/O that is verified, whatever its speed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from lab.bench import controller
from lab.bench.controller import JOBS, OWN, TRACED, bench
from lab.bench.fio import BLOCK, Done, Fio, FioInGuest, FioJob
from lab.data.events import Event, Submitted
from lab.data.evidence import Evidence
from lab.data.stream import read_stream
from lab.deadline import Deadline
from lab.errors import GuestError, LabError
from lab.guest.ssh import Result
from lab.nvme.commands import Read, Write
from lab.toolchain import Toolchain

FEW = 128
"""I/Os of a job."""


def submitted(events: Iterator[Event]) -> Counter[type[Any]]:
    return Counter(type(event.command) for event in events if isinstance(event, Submitted))


def test_all_devices_do_verified_io_and_are_recorded(
    toolchain: Toolchain, fio_files: Fio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "WARM_UP", FEW)
    figures = bench(toolchain, fio_files, tmp_path, rounds=1, seconds=0.01)
    rates = [figure for figure in figures if figure.more_is_better]
    assert [(figure.name, figure.against) for figure in rates] == [(job.name, o) for o in (OWN, TRACED) for job in JOBS]
    assert all(figure.value > 0 and figure.against_value > 0 for figure in rates)
    assert len(figures) == len(rates) + 4
    recorded = read_stream(tmp_path / "lab" / "lab.rec", complete=True), Evidence(tmp_path / "traced").events()
    for seen in map(submitted, recorded):  # in a warm-up and a round two jobs write, and all four read what they have written
        assert seen[Write] >= 2 * 2 * FEW
        assert seen[Read] >= 2 * 4 * FEW
    images = [(tmp_path / f"{name}-1.img").read_bytes()[: FEW * BLOCK] for name in ("lab", "own", "traced")]
    for image in images:
        assert all(any(image[at : at + BLOCK]) for at in range(0, len(image), BLOCK)), "a block was never written"


class Shell:
    """An SSH connection to a guest whose fio says this."""

    def __init__(self, status: int, reads: int, writes: int, rate: float = 10.0) -> None:
        done = {"read": {"total_ios": reads, "iops": rate}, "write": {"total_ios": writes, "iops": 5}}
        self._result = Result(status, f"warning\n{json.dumps({'jobs': [done]})}".encode(), b"fio: verify failed")
        self.asked = ""

    def run(self, command: str, input: bytes = b"", *, deadline: Deadline) -> Result:
        self.asked = command
        return self._result


def run(shell: Shell, job: FioJob) -> Done:
    return FioInGuest(shell).run(job, "/dev/nvme0n1", 8, Deadline(1))


def test_what_fio_is_asked() -> None:
    shell = Shell(0, 8, 8)
    assert run(shell, FioJob("writes", "write", 32)) == Done(8, 8, 5.0)
    words = "--rw=randwrite --iodepth=32 --direct=1 --bs=4096 --size=32768 --verify=crc32c"
    assert set(words.split()) <= set(shell.asked.split())
    shell = Shell(0, 8, 0)
    assert run(shell, FioJob("reads", "read", 1)) == Done(8, 0, 10.0)
    assert "verify" not in shell.asked


@pytest.mark.parametrize(
    ("shell", "direction", "words"),
    [
        (Shell(1, 8, 8), "write", "verify failed"),
        (Shell(0, 0, 8), "write", "by 0 reads and 8 writes"),
        (Shell(0, 7, 0), "read", "by 7 reads and 0 writes"),
    ],
    ids=["wrong data", "not verified", "less than asked"],
)
def test_less_than_all_of_it_is_no_figure(shell: Shell, direction: str, words: str) -> None:
    with pytest.raises(GuestError, match=words):
        run(shell, FioJob("job", direction, 1))


class Idle:
    """A device that counts nothing."""

    name, serial = "idle", "idle"

    def counted(self) -> tuple[int, int]:
        return 7, 7

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()


class ReadsOnly:
    """An fio that reports one read for each block."""

    def run(self, job: FioJob, disk: str, blocks: int, deadline: Deadline) -> Done:
        return Done(blocks, 0, 1.0)


def test_a_device_that_saw_nothing_is_no_figure() -> None:
    bencher = controller._Bencher(os.getpid(), ReadsOnly(), {"idle": "/dev/nvme0n1"})
    with pytest.raises(LabError, match=r"fio counts 3 reads and 0 writes on idle, which saw \(0, 0\)"):
        bencher.measure(Idle(), JOBS[1], 3)


def test_the_libraries_of_fio_are_complete(fio_files: Fio) -> None:
    assert {"fio", "ld-linux-x86-64.so.2", "libaio.so.1", "librados.so.2", "libceph-common.so.2"} <= fio_files.files.keys()
    assert fio_files.versions["fio/fio"]["version"]


def test_without_a_guest_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="needs QEMU and the Linux guest"):
        bench(Toolchain(qemu=None, linux=None), Fio({}, {}), tmp_path)
