"""Which controllers, namespaces and blocks a driver may refuse.

No specification obliges a host to support every controller that one could build. A driver that says clearly that it does not
support what it has found breaks no rule, and loses no data. So an error in words is no violation of a mandatory rule where the
device is unusual; `every/unusual-device` recommends to support it all the same, and a wrong answer or a hang is judged as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab.data.plan import Controller, Namespace, Scenario

ORDINARY_BLOCK = 512
"""Bytes of the only block size that each driver can be expected to know."""
SHORT_LBA = 1 << 32
"""Blocks that an LBA of 32 bits can name."""
FEW_MDTS = 5
"""Values of MDTS below this, but for 0, bound a transfer to 64 KiB or less."""
FEW_VECTORS = 2
"""A vector for the admin queue and one for an I/O queue."""


def _cap(name: str, ordinary: int) -> Callable[[Controller], bool]:
    return lambda controller: controller.cap.get(name, ordinary) != ordinary


UNUSUAL: Mapping[str, Callable[[Controller], bool]] = {
    "queues of another length than usual (CAP.MQES)": lambda controller: "MQES" in controller.cap,
    "doorbells that lie apart (CAP.DSTRD)": _cap("DSTRD", 0),
    "memory pages above 4 KiB only (CAP.MPSMIN)": _cap("MPSMIN", 0),
    "command sets beside the NVM command set (CAP.CSS)": _cap("CSS", 1),
    "no NVM subsystem reset, or one (CAP.NSSRS)": _cap("NSSRS", 0),
    "short transfers only (MDTS)": lambda controller: 0 < controller.mdts < FEW_MDTS,
    "no MSI-X": lambda controller: not controller.msix,
    "one interrupt vector or none": lambda controller: controller.vectors < FEW_VECTORS,
    "one pair of I/O queues": lambda controller: controller.io_queues == 1,
    "an old revision (VS)": lambda controller: bool(controller.version),
    "no I/O controller (CNTRLTYPE)": lambda controller: controller.identify.get("CNTRLTYPE", 1) != 1,
    "a BAR0 above 4 GiB": lambda controller: controller.prefetchable_bar,
    "no active namespace": lambda controller: not any(namespace.attached for namespace in controller.namespaces),
    "a namespace with metadata": lambda controller: any(namespace.metadata_size for namespace in controller.namespaces),
    "a zoned namespace": lambda controller: any(namespace.zone_blocks for namespace in controller.namespaces),
    "no namespace with blocks of 512 bytes": lambda controller: all(
        namespace.block_size != ORDINARY_BLOCK for namespace in controller.namespaces if namespace.attached
    ),
}
"""In words, what a driver need not support, and whether a controller has it. Base 2.0, 3.1.3.1, 3.1.3.2 and 5.17.2.1."""


def unusual(scenario: Scenario) -> str:
    """Return what a driver may refuse a scenario's device for, in words; "" if it is an ordinary one without faults."""
    controllers = scenario.device.controllers
    if not controllers:
        return "a device that nobody has described"
    if len(controllers) > 1:
        return "several controllers"
    if any(fault.armed and fault.queue != "io" for fault in scenario.faults):  # what a driver can meet while it loads
        return "a controller that behaves unusually"
    return next((words for words, has in UNUSUAL.items() for one in controllers if has(one)), "")


def may_refuse(namespace: Namespace, arguments: Mapping[str, Any]) -> str:
    """Return what a driver may refuse to read or write blocks for, in words; "" if these are ordinary blocks."""
    if namespace.block_size != ORDINARY_BLOCK:
        return f"blocks of {namespace.block_size} bytes"
    if int(arguments.get("lba", 0)) + int(arguments.get("blocks", 0)) > SHORT_LBA:
        return "blocks beyond 2^32"
    if namespace.zone_blocks:
        return "a zoned namespace"
    return "a format with metadata" if namespace.metadata_size else ""
