"""KVM where it really works, else TCG.

That /dev/kvm opens says little: there are machines on which KVM creates a virtual machine and then interprets a guest's kernel
mode, hundreds of times slower than TCG, or hangs. So a small firmware (accelerator.S) is run and has to finish in time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from lab.confinement import InheritedFolders
from lab.deadline import Deadline
from lab.guest import user
from lab.guest.arguments import SANDBOX
from lab.guest.folder import run_folder
from lab.guest.process import Process

KVM = "kvm"
TCG = "tcg,thread=multi"
PROBE_SECONDS = 2.0
"""A working KVM needs a twentieth of it, TCG a tenth."""
END_SECONDS = 2.0
ROM_SIZE = 1 << 16
EXIT_STATUS = 2 * 0x10 + 1
"""isa-debug-exit's rendering of the EXIT_VALUE in accelerator.S."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Accelerator:
    """What guests run under."""

    name: str
    """As QEMU's ``-accel`` takes it."""
    reason: str
    """Why this one, in words for the user."""


def accelerator(command: Sequence[str], env: Mapping[str, str], kept: Path | None = None) -> Accelerator:
    """Return the accelerator for this QEMU on this machine.

    Measured once per process, and once per boot if ``kept`` is a file.
    """
    return _measured(tuple(command), tuple(sorted(env.items())), kept)


@cache
def _measured(command: tuple[str, ...], env: tuple[tuple[str, str], ...], kept: Path | None) -> Accelerator:
    key = [BOOT_ID.read_text().strip(), os.access("/dev/kvm", os.R_OK | os.W_OK), *command]
    if kept and (known := _load(kept, key)):
        return known
    trouble = kvm_trouble(command, dict(env))
    found = Accelerator(TCG, trouble) if trouble else Accelerator(KVM, "KVM passes the probe")
    if kept:
        _save(kept, key, found)
    return found


def kvm_trouble(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Return what is wrong with KVM here; empty when it is usable."""
    device = Path("/dev/kvm")
    if not device.exists():
        return "there is no /dev/kvm: no KVM in this kernel, or no virtualisation in this (virtual) processor"
    if not os.access(device, os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user, who is perhaps not in the group kvm"
    return probe(command, env, KVM)


def probe(command: Sequence[str], env: Mapping[str, str], name: str, seconds: float = PROBE_SECONDS) -> str:
    """Run the firmware under the accelerator ``name``; return what went wrong, or ""."""
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(run_folder())
        rom = folder / "probe.rom"
        rom.write_bytes(firmware())
        options = [
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", *SANDBOX),
            *("-machine", "q35", "-cpu", "max", "-m", "4", "-accel", name, "-bios", str(rom)),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        ]
        folders, user_id = InheritedFolders(), None
        cleanup.callback(folders.close)
        if user.can_switch_user():
            user_id = cleanup.enter_context(user.allocate())
            for argument in (*command, str(rom), *env.values()):
                folders.add_paths_in(argument)
        process = Process(
            folders.translate([*command, *options]), folders.translate(dict(env)), folder / "stderr", folders.descriptors,
            user_id=user_id,
        )  # fmt: skip
        try:
            process.start()
            in_time = process.wait(Deadline(seconds))
        finally:
            process.end(Deadline(END_SECONDS))
        if not in_time:
            return f"{name} opens, but a small test program that takes TCG 0.1 s had not ended after {seconds:g} s"
        if process.status != EXIT_STATUS:
            return f"{name} does not run a small test program: QEMU's exit status {process.status}; {process.last_lines()}"
        return ""


def firmware() -> bytes:
    """Return the ROM as QEMU wants it: accelerator.rom is its end, and what lies before is never executed."""
    code = (files(__package__) / "accelerator.rom").read_bytes()
    return code.rjust(ROM_SIZE, b"\xff")


def _load(kept: Path, key: list[object]) -> Accelerator | None:
    with suppress(OSError, ValueError, LookupError, TypeError):
        content = json.loads(kept.read_text())
        if content["key"] == key:
            return Accelerator(**content["accelerator"])
    return None


def _save(kept: Path, key: list[object], found: Accelerator) -> None:
    with suppress(OSError):  # it is only there to save two seconds
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"key": key, "accelerator": asdict(found)}))
        draft.replace(kept)
