"""Changes of a device that a driver is using: namespaces come, go and change, health gets worse, and power is cut.

These are actions of the lab: ``attach`` and ``detach`` {nsid, controller?; detach: quiet?}, ``warn`` {warning, controller?},
``resize`` {nsid, blocks, controller?}, and ``reformat`` {nsid, format, controller?}, as another host would do it: the blocks
are zero afterwards.
Without ``controller`` (its id) they change the first one. ``cut-power`` affects the whole device, which loses what was written
and not flushed; the driver is not informed, and must be started again. ``inspect`` {nsid, lba, blocks, controller?} reads what
the disk holds, past the driver. ``release`` {name, count?} lets a fault of behaviour
`hold` execute one command, or ``count`` of them.
"""

from __future__ import annotations

from lab.controller.device import Device as ModelledDevice
from lab.data.plan import Action

CHANGES = frozenset({"attach", "detach", "resize", "reformat", "warn", "cut-power", "release"})
"""The actions of this module."""
BUS_ERRORS = {"correctable": "RCVR", "nonfatal": "COMP_TIME", "fatal": "MALF_TLP"}
"""Kinds of ``bus-error``, and errors of the port above the device that are of this kind, in QEMU's words
(hw/pci/pcie_aer.c; PCI Express Base, 6.2.7)."""
LAB_ACTIONS = frozenset({"plug", "unplug", "fault", "bus-error", "inspect", *CHANGES})
"""All actions that the lab does to the device itself, and does not ask of the driver."""


class UnsupportedChangeError(Exception):
    """The device is not able to change like that."""


def change_modelled(device: ModelledDevice, action: Action) -> None:
    """Change the programmable controller; UsageError where the device has no such controller or namespace."""
    controller = action.arguments.get("controller", device.spec.controllers[0].id)
    match action.name:
        case "cut-power":
            device.cut_power()
        case "release":
            device.release(action.arguments["name"], action.arguments.get("count", 1))
        case "attach":
            device.attach(controller, action.arguments["nsid"])
        case "detach":
            device.detach(controller, action.arguments["nsid"], report=not action.arguments.get("quiet"))
        case "resize":
            device.resize(controller, action.arguments["nsid"], action.arguments["blocks"])
        case "reformat":
            device.reformat(controller, action.arguments["nsid"], action.arguments["format"])
        case "warn":
            device.warn(controller, action.arguments["warning"])
