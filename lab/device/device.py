"""What every emulated device of a guest can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from lab.data.plan import Action, DeviceSpec
from lab.deadline import Deadline
from lab.guest.arguments import Json
from lab.guest.machine import Machine

Place: TypeAlias = Mapping[str, str]
"""Where a controller goes: ``{"bus": "rp0"}``, or ``{"bus": "pcie.0", "addr": "5"}``."""


class Device(Protocol):
    """One DeviceSpec that QEMU can be given: at its start, or plugged into the running guest."""

    spec: DeviceSpec
    traced: bool
    """QEMU's trace shows what the device does; otherwise the device keeps a record of its own."""
    maps_memory: bool
    """The device itself maps the guest's memory, which must be a shared file then (`GuestSpec.memory_file`)."""

    @property
    def blockdevs(self) -> tuple[Json, ...]:
        """Return the backends, for QMP's blockdev-add or ``-blockdev``."""

    @property
    def subsystems(self) -> tuple[Json, ...]:
        """Return what must be on QEMU's command line even where the rest is plugged later."""

    def devices(self, places: Sequence[Place]) -> tuple[Json, ...]:
        """Return the controllers in their places and what belongs to them, for device_add or ``-device``."""

    def plug(self, machine: Machine, places: Sequence[Place]) -> None:
        """Hot-plug all of it."""

    def unplug(self, machine: Machine, deadline: Deadline) -> None:
        """Ask the guest for each controller, and wait until it has released all."""

    def arm(self, fault: str, armed: bool = True) -> None:
        """Flip the switch of a fault; LabError where the device has none."""

    def change(self, machine: Machine, action: Action, deadline: Deadline) -> None:
        """Do one of `lab.device.changes.CHANGES`; UnsupportedChangeError where the device cannot."""

    def settle(self) -> None:
        """Wait until the device has taken what QEMU has sent so far, so that its record is not behind the driver's answer."""

    def check(self) -> None:
        """Raise LabError if QEMU has lost the plugged device, after which no driver can be right."""
