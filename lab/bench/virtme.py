"""virtme-ng beside our forks, where it is installed: what a peer takes to read a block of an NVMe disk in a guest of its own.

It gets our QEMU, our kernel and our accelerator; its guest's files are the host's own, by 9p, as its users have them.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from images import recipe
from lab.bench.figures import Figure, Say, no_progress
from lab.confinement import can_switch_user
from lab.errors import LabError
from lab.guest.accelerator import KVM, accelerator
from lab.guest.arguments import MIB
from lab.settings import Settings
from lab.toolchain import Toolchain
from lab.toolchain.cache import Cache
from lab.toolchain.closures import Closures
from lab.toolchain.qemu import Qemu

PROGRAM = "vng"
BLOCK = 4096
"""Bytes. The block that is read is the second one of the disk."""
READ = (
    "modprobe nvme && until test -b /dev/nvme0n1; do sleep 0.1; done && "
    f"dd if=/dev/nvme0n1 bs={BLOCK} skip=1 count=1 status=none | sha256sum"
)
SECONDS = 300.0
"""For one guest."""


def find_program(say: Say) -> str | None:
    """Return virtme-ng's program where it is installed, and may be run: it starts QEMU itself, as whoever it is run by."""
    found = shutil.which(PROGRAM)
    if found and can_switch_user():
        say(f"{PROGRAM} is left out: it would run QEMU as root; run the benchmark as another user")
        return None
    return found


def fetch_kernel(settings: Settings, say: Say) -> Path:
    """Return the unpacked package of our guest's kernel, out of the cache."""
    closure = recipe.load("linux").closures["linux-kernel"]
    return Closures(settings, Cache(settings.open_cache()), say).fetch("linux-kernel", closure).root


def beside(forked: Figure, program: str, toolchain: Toolchain, kernel: Path, folder: Path, say: Say = no_progress) -> Figure:
    """Compare the fork's first read with virtme-ng's, from start to end.

    LabError if virtme-ng reads wrong data.

    ``folder`` is for its files, ``kernel`` what `fetch_kernel` has found.
    """
    qemu, cache = toolchain.qemu, toolchain.cache
    if qemu is None or cache is None:
        raise LabError("the benchmark needs QEMU", remedy="prepare it: nvme-lab fetch")
    name = accelerator(qemu.command, qemu.env, cache.root / "accelerator.json").name
    say("booting a guest of virtme-ng, twice")
    tree = folder / "kernel"
    shutil.copytree(kernel, tree, copy_function=os.symlink, symlinks=False)  # an index of modules is made beside them
    disk = folder / "disk"
    disk.write_bytes(os.urandom(2 * BLOCK))
    os.truncate(disk, 64 * MIB)
    command = [
        *(program, "--run", str(next(tree.glob("boot/vmlinuz-*")))),
        *(() if name == KVM else ("--disable-kvm",)),
        *("--qemu", str(_script(folder / "qemu", qemu)), "--cpus", "1", "--memory", "256M"),
        f"--qemu-opts=-drive if=none,id=d,format=raw,file={disk} -device nvme,drive=d,serial=virtme",
        *("--exec", READ),
    ]
    _run(command)  # which makes that index
    began = time.perf_counter()
    said = _run(command)
    took = time.perf_counter() - began
    if hashlib.sha256(disk.read_bytes()[BLOCK : 2 * BLOCK]).hexdigest() not in said:
        raise LabError(f"virtme-ng's guest did not read the block; it said: {said[-500:].strip() or 'nothing'}")
    return Figure(forked.name, forked.value, forked.unit, "virtme-ng: a read in a guest of its own", took)


def _run(command: Sequence[str]) -> str:
    """Run it and return its output. It has its own process group, so that its guest ends with it."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    ) as process:
        try:
            return process.communicate(timeout=SECONDS)[0]
        except subprocess.TimeoutExpired as late:
            raise LabError(f"virtme-ng had not ended after {SECONDS:g} s.") from late
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _script(path: Path, qemu: Qemu) -> Path:
    """Write a script that starts our QEMU, since virtme-ng accepts a single program only."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in qemu.env.items())
    path.write_text(f'#!/bin/sh\n{exports}exec {shlex.join(qemu.command)} "$@"\n')
    path.chmod(0o755)
    return path
