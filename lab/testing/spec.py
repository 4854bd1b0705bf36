"""A device specification in a line."""

from __future__ import annotations

from typing import Any

from lab.data.plan import Controller, DeviceSpec, Namespace

SERIAL = "LAB"
BLOCKS = 1 << 15


def device(*namespaces: Namespace, blocks: int = BLOCKS, serial: str = SERIAL, **controller: Any) -> DeviceSpec:
    """Return a device of one controller with these namespaces; without any, with one of ``blocks`` blocks of 512 bytes.

    ``controller`` are further fields of `lab.data.plan.Controller`: ``cap={"MQES": 7}``, ``identify={"ONCS": 0}``, ``mdts=1``.
    """
    held = namespaces or (Namespace(blocks=blocks),)
    return DeviceSpec(controllers=(Controller(serial=serial, namespaces=held, **controller),))
