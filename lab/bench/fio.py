"""fio in the guest: Debian's own, with the libraries that it needs, pushed once and asked for one job at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.deadline import Deadline
from lab.drivers.fio import IN_GUEST, LOADER, PROGRAM
from lab.drivers.linux import LinuxSession
from lab.errors import GuestError
from lab.guest.ssh import Result
from lab.settings import Settings
from lab.toolchain import prepare
from lab.toolchain.closures import Progress

BLOCK = 4096
"""Bytes of each read and write."""


@dataclass(frozen=True)
class Fio:
    """The program, its loader and its libraries on this machine: file name and file."""

    files: Mapping[str, Path]
    versions: Mapping[str, Mapping[str, str]]


def fetch(settings: Settings, progress: Progress) -> Fio:
    """Return fio from the cache; download it (35 MB) if it is not there."""
    prepared = prepare(settings, (PROGRAM,), progress)
    return Fio(prepared.programs[PROGRAM], prepared.versions)


@dataclass(frozen=True)
class FioJob:
    """Direct I/O in blocks of 4 KiB, each block of a region once, in random order. What was written is read and verified."""

    name: str
    direction: str
    """``read`` or ``write``."""
    depth: int
    """Commands outstanding."""


@dataclass(frozen=True)
class Done:
    """What fio says it did."""

    reads: int
    writes: int
    rate: float
    """I/Os a second in the job's direction."""

    @property
    def count(self) -> int:
        """The number of reads and writes."""
        return self.reads + self.writes


class Shell(Protocol):
    """What runs commands in the guest (`lab.guest.ssh.Ssh`)."""

    def run(self, command: str, input: bytes = b"", *, deadline: Deadline) -> Result:
        """Run a command with ``input`` on its standard input; return its status and output."""


def install(fio: Fio, session: LinuxSession, deadline: Deadline) -> None:
    """Copy fio into the guest (84 MB) by the session's channel: one second; SSH would take seven."""
    for name, file in fio.files.items():
        session.agent.put(file, f"{IN_GUEST}/{name}", 0o755, deadline)


class FioInGuest:
    """fio in a guest where it was installed (`install`)."""

    def __init__(self, shell: Shell) -> None:
        """Run fio by a shell in the guest."""
        self._shell = shell

    def run(self, job: FioJob, disk: str, blocks: int, deadline: Deadline) -> Done:
        """Run the job on the first ``blocks`` blocks of a disk. GuestError if fio fails, finds wrong data or does less."""
        options = {
            "name": "bench", "filename": disk, "rw": f"rand{job.direction}", "bs": BLOCK, "size": blocks * BLOCK,
            "ioengine": "libaio", "direct": 1, "iodepth": job.depth, "thread": 1, "gtod_reduce": 1, "disk_util": 0,
            "output-format": "json",
        }  # fmt: skip
        if job.direction == "write":
            options |= {"verify": "crc32c", "verify_fatal": 1}
        words = " ".join(f"--{name}={value}" for name, value in options.items())
        command = f"cd {IN_GUEST} && ./{LOADER} --library-path . ./{PROGRAM} {words}"
        result = self._shell.run(command, deadline=deadline)
        if result.status:
            last = (result.stderr or result.stdout).decode(errors="replace").strip()[-400:]
            raise GuestError(f"fio failed in the guest ({job.name} on {disk}): {last}", last=last)
        done = _done(job, _report(result.stdout))
        if (done.reads, done.writes) != (blocks, blocks if job.direction == "write" else 0):
            raise GuestError(f"fio did {job.name} on {blocks} blocks by {done.reads} reads and {done.writes} writes.")
        return done


def _report(said: bytes) -> Mapping[str, Any]:
    """Return the only job of fio's JSON, before which there may be warnings."""
    report: Mapping[str, Any] = json.loads(said[said.index(b"{") :])["jobs"][0]
    return report


def _done(job: FioJob, report: Mapping[str, Any]) -> Done:
    return Done(report["read"]["total_ios"], report["write"]["total_ios"], report[job.direction]["iops"])
