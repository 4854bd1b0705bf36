"""Any driver behind a prompt, or one that does its work without being asked.

All of it is in the manifest, from the boot to the last pattern. The prompt is on a serial line, or on a debug console or a
screen, with its input on a keyboard.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lab.architectures import ARCHITECTURES
from lab.data.image_forms import is_uefi_firmware, require_raw
from lab.data.manifest import DriverManifest
from lab.data.plan import Scenario
from lab.deadline import Deadline
from lab.drivers import shape
from lab.drivers.base import mebibytes, own_file
from lab.drivers.prompt import NO_SYNTAX
from lab.drivers.screen_prompt import ScreenSession
from lab.drivers.serial_session import SerialSession
from lab.errors import LabError, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.toolchain import FIRMWARE, WANTS, Toolchain

_TOOLCHAIN = re.compile(r"\{(.+)\}")


class GenericSerial:
    """See `lab.drivers.base.Adapter`."""

    hotplug = False

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Check the shape of the manifest, and find its files; UsageError."""
        boot = manifest.boot
        shape.check(manifest)
        self.actions = frozenset({"load", *manifest.actions})  # to come up is not a matter of words
        self.panics: tuple[str, ...] = (f"(?m-s:{boot.dead})",) if boot.dead else ()
        named = {key: getattr(boot, key) for key in ("kernel", "initrd", "disk", "iso", "floppy", "firmware")}
        self.files: Mapping[str, Path] = {
            key: _file(manifest, toolchain, f"boot.{key}", name) for key, name in named.items() if name
        }
        self._manifest = manifest

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device; see `lab.drivers.base.Adapter`."""
        boot = self._manifest.boot
        return GuestSpec(
            arch=boot.arch,
            machine=boot.machine,
            cpu=boot.cpu,
            smp=scenario.guest.get("cpus", boot.cpus),
            memory=mebibytes(boot.memory),
            kernel=self.files.get("kernel"),
            initrd=self.files.get("initrd"),
            append=boot.append,
            disk=self.files.get("disk"),
            iso=self.files.get("iso"),
            floppy=self.files.get("floppy"),
            bios=None if self._in_flash else self.files.get("firmware"),
            flash=self.files.get("firmware") if self._in_flash else None,
            strict_boot=any(getattr(boot, key) for key in shape.SOURCES) and not boot.firmware_driver,
            console=shape.console(self._manifest),
            heard=shape.heard(self._manifest),
            screen=boot.screen or boot.output == "screen",
            debug_exit=boot.exit_success is not None,
            counted_clock=boot.clock == "instructions" and not (scenario.faults or scenario.hostile),  # they may be timed
            paused=shape.boots_at_load(self._manifest),
            extra=boot.options,
        )

    @property
    def _in_flash(self) -> bool:
        """Return whether the firmware lies in the machine's flash memory.

        One that is as large as that does. So does a UEFI firmware of a PC that boots something else: without a flash memory
        for its variables it looks for them on all disks, by its own NVMe driver, and not only where it shall boot from.
        """
        found, boot = self.files.get("firmware"), self._manifest.boot
        if found is None:
            return False
        place = ARCHITECTURES[boot.arch]
        if place.is_pc:
            boots_something = boot.nvme or any(getattr(boot, key) for key in shape.SOURCES)
            return boots_something and not boot.firmware_driver and is_uefi_firmware(found)
        return place.flash_bytes > 0 and found.stat().st_size == place.flash_bytes

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        words = self._manifest.actions.get(action, NO_SYNTAX)
        return words.seconds if words.commands else self._manifest.boot.seconds

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> SerialSession:
        """Wait until the guest can be talked to; see `lab.drivers.base.Adapter`."""
        kind = ScreenSession if self._manifest.boot.output == "screen" else SerialSession
        session = kind(machine, self._manifest, scenario)
        if not machine.spec.paused:
            session.come_up(Deadline(min(self._manifest.boot.seconds, deadline.remaining())))
        return session


def _file(manifest: DriverManifest, toolchain: Toolchain, key: str, name: str) -> Path:
    """Return a file's path: ``{name}`` is a firmware of the toolchain, all else a path."""
    match = _TOOLCHAIN.fullmatch(name)
    if match is None:
        packed = key == "boot.initrd" or (key == "boot.kernel" and not ARCHITECTURES[manifest.boot.arch].is_pc)
        return require_raw(own_file(manifest, key, name), f"{manifest.path}: {key}", may_be_packed=packed)
    if match[1] in WANTS and match[1] not in FIRMWARE:
        raise UsageError(
            f"{manifest.path}: {key}: {name} is not booted by name",
            remedy=f"name a file, or one of {', '.join(f'{{{one}}}' for one in FIRMWARE)}",
        )
    if match[1] not in toolchain.firmware:
        if match[1] in manifest.needs:
            raise LabError(f"the firmware {match[1]} was not prepared", remedy="run nvme-lab fetch")
        raise UsageError(f"{manifest.path}: {key}: {name} is no firmware of the toolchain", remedy=f"add {match[1]!r} to needs")
    return toolchain.firmware[match[1]]
