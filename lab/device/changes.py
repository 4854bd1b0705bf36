"""Changes of a device that a driver is using: namespaces come and go, health gets worse, and power is cut.

These are actions of the lab: ``attach`` and ``detach`` {nsid, controller?; detach: quiet?}, ``warn`` {warning, controller?}.
Without ``controller`` (its id) they are about the first one. ``cut-power`` is about all of the device and takes what was
written and not flushed with it; the driver is not told, and must be started anew. ``release`` {name, count?} lets a fault of
behaviour `hold` execute one command, or ``count`` of them.
"""

from __future__ import annotations

from typing import TypeAlias

from lab.controller.device import Device as ModelledDevice
from lab.data.plan import Action
from lab.deadline import Deadline
from lab.device.lab import LabDevice
from lab.device.qemu import LIVE_NAMESPACES, QemuDevice
from lab.guest.machine import Machine

Device: TypeAlias = QemuDevice | LabDevice

LIVE = frozenset({"attach", "detach", "warn", "cut-power", "release"})
"""The actions of this module."""


class UnsupportedChangeError(Exception):
    """The device is not able to change like that."""


def change(device: Device, machine: Machine, action: Action, deadline: Deadline) -> None:
    """Does it to a device in a guest; UnsupportedChangeError where that is impossible."""
    if isinstance(device, LabDevice):
        device.server.call(lambda modelled: change_modelled(modelled, action))
        return
    if action.name == "cut-power":
        raise UnsupportedChangeError("QEMU's own device loses nothing: what is written is in its image at once")
    if action.name == "release":
        raise UnsupportedChangeError("QEMU's own device has no faults, and so holds no command")
    if action.name != "warn" and device.version < LIVE_NAMESPACES:
        raise UnsupportedChangeError(f"QEMU adds and removes namespaces live from {'.'.join(map(str, LIVE_NAMESPACES))} on")
    if action.arguments.get("quiet"):
        raise UnsupportedChangeError("QEMU's own device tells of every namespace that goes")
    controller = action.arguments.get("controller", device.spec.controllers[0].id)
    match action.name:
        case "attach":
            device.attach(machine, controller, action.arguments["nsid"])
        case "detach":
            device.detach(machine, controller, action.arguments["nsid"], deadline)
        case "warn":
            device.warn(machine, controller, action.arguments["warning"])


def change_modelled(device: ModelledDevice, action: Action) -> None:
    """Does it to the programmable controller; UsageError where the device has no such controller or namespace."""
    controller = action.arguments.get("controller", device.spec.controllers[0].id)
    match action.name:
        case "cut-power":
            device.cut_power()
        case "release":
            device.release(action.arguments["name"], action.arguments.get("count", 1))
        case "attach":
            device.attach(controller, action.arguments["nsid"])
        case "detach":
            device.detach(controller, action.arguments["nsid"], tell=not action.arguments.get("quiet"))
        case "warn":
            device.warn(controller, action.arguments["warning"])
