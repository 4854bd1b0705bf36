"""QEMU's words for a guest that it cannot start, whatever is tried again: and what is to be corrected about it."""

from __future__ import annotations

import re

REFUSALS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(words, re.IGNORECASE), remedy)
    for words, remedy in (
        ("incompatible architecture", "build it for this guest's processor, or name its own (boot.arch, --arch)"),
        (
            "invalid kernel header|without PVH ELF Note|Cannot load x86-64 image|could not load kernel|Couldn't load elf",
            "QEMU starts multiboot (32-bit ELF), PVH and Linux kernels: nvme-lab init FILE says what the file is",
        ),
        ("could not load (PC )?BIOS|could not find ROM image|could not load firmware", "name a whole firmware image"),
        ("unable to find CPU model", "correct the processor's model (boot.cpu, --cpu): -cpu help lists them"),
        ("unsupported machine type", "correct the machine (boot.machine, --machine): -machine help lists them"),
        ("invalid option|requires an argument|invalid accelerator", "correct QEMU's options (boot.options, --qemu-option)"),
        (
            "phys-bits too low|ram size too large|at most \\d+ MB RAM|Invalid RAM size",
            "correct the memory's size (boot.memory, --memory) for this machine",
        ),
        ("Invalid SMP CPUs", "correct the number of processors (boot.cpus, --cpus) for this machine"),
    )
)


def remedy_for(said: str) -> str:
    """Return what to correct, by what QEMU said when it did not start; "" where another attempt may end otherwise."""
    return next((remedy for words, remedy in REFUSALS if words.search(said)), "")


def plainly(said: str) -> str:
    """Return QEMU's words without the time and its own name."""
    lines = (re.sub(r"^(\d{4}-\S+Z )?(\S*qemu\S*: )?", "", line) for line in said.splitlines())
    return "; ".join(line for line in lines if line.strip())
