"""What a Linux kernel that is booted alone needs: to be heard, memory for its initrd, and that initrd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from conformance.onboarding.recognise import Recognised
from lab.architectures import ARCHITECTURES

ROOTLESS = re.compile(r"unable to mount root fs|no working init found", re.IGNORECASE)
"""What Linux says where it has no root file system (init/do_mounts.c, init/main.c): all its drivers have had their turn."""
MEMORIES = ("256M", "1G", "2G")
LARGE_INITRD, HUGE_INITRD = 16 << 20, 96 << 20
"""Bytes of an initrd that, unpacked beside itself, does not fit into the first of these memories, and into the second."""
KERNEL_NAMES = ("vmlinuz", "vmlinux", "bzImage", "Image", "linux", "kernel")
INITRD_NAMES = ("initrd.img", "initrd.gz", "initrd", "initramfs.img", "initramfs")


def append(found: Recognised, words: str | None) -> dict[str, str]:
    """Return the key of [boot] with a kernel's command line: the words that the user gives it, and what it lacks to be heard.

    It ends when it panics.
    """
    if not found.is_linux:
        return {} if words is None else {"append": words}
    given = (words or "").split()
    needed = {"console": ARCHITECTURES[found.arch].linux_console, "panic": "-1"}
    missing = (f"{key}={value}" for key, value in needed.items() if not any(word.startswith(f"{key}=") for word in given))
    return {"append": " ".join([*given, *missing])}


def memories(initrd: str) -> tuple[str, str]:
    """Return two sizes of memory that may suit a kernel with this initrd, or with none."""
    size = Path(initrd).stat().st_size if initrd else 0
    first = sum(size >= limit for limit in (LARGE_INITRD, HUGE_INITRD))
    return MEMORIES[first], MEMORIES[max(1, first)]


def is_rootless(crash: str) -> bool:
    """Return whether this last word is that of a Linux without a root file system."""
    return bool(ROOTLESS.search(crash))


def what_it_lacks(kernel: Path | None, *, has_initrd: bool) -> str:
    """Return what to try with a Linux that has found no root file system."""
    if has_initrd:
        return "Its initrd gave it none. Give it more memory (--memory 2G), or the initrd that was made for it"
    beside = next(initrds_beside(kernel), None) if kernel else None
    sentence = "A distribution's kernel has its drivers in an initrd"
    return f"{sentence}; {beside} lies beside it: --initrd {beside}" if beside else f"{sentence}: give it with --initrd FILE"


def initrds_beside(kernel: Path) -> Iterator[Path]:
    """Yield the files that by their names are initrds of a kernel: those of its version first."""
    named = next((name for name in KERNEL_NAMES if kernel.name.startswith(name)), "")
    version = kernel.name[len(named) :].removeprefix("-") if named else ""
    own = (f"initrd.img-{version}", f"initramfs-{version}.img", f"initramfs-{version}", f"initrd-{version}") if version else ()
    for name in (*own, *INITRD_NAMES):
        if (path := kernel.with_name(name)).is_file():
            yield path
