"""QEMU's own nvme device: what a DeviceSpec is in the words of its blockdevs and devices, and its plug.

Namespaces are raw files whose bytes are those of the blocks (metadata, where there is any, behind them). Writes go to the
host's page cache at once (no writeback copy in QEMU), so the file holds what the guest wrote as soon as QEMU has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lab.data.plan import Action, Controller, DeviceSpec, Namespace
from lab.deadline import Deadline
from lab.device.changes import UnsupportedChangeError
from lab.device.device import Place
from lab.device.images import create_images, image, owners
from lab.errors import LabError
from lab.guest.arguments import Json
from lab.guest.machine import Machine
from lab.guest.monitor import names_device
from lab.toolchain.qemu import dotted

VERSION = "1.4"
"""What VS says, from 7.2 to 11.1."""
MAX_NSID = 256
MAX_QUEUE_PAIRS = 0xFFFF
MAX_VECTORS = 2048
MAX_MDTS = 9
"""11.1 refuses what could need more than IOV_MAX (1024) pages; 7.2 does not check."""
MDTS_LIMITED = (11, 1)
"""From here on (or earlier: not known) unlimited transfers are refused too."""
BLOCK_SIZES = tuple(512 << n for n in range(13))
"""QEMU's limit is 2 MiB."""

LIVE_NAMESPACES = (11, 1)
"""From here on an nvme-ns may be added to a controller that was itself hot-plugged."""

NO_SHADOW_DOORBELLS = (11, 1)
"""From here on Doorbell Buffer Config can be turned off, and is unless the scenario wants it: a shadow doorbell is memory, and
no trace shows its writes. On an older QEMU a driver that uses them (Linux does) rings few doorbells that the record shows."""

CAP_PROPERTIES: Mapping[str, tuple[str, tuple[int, int]]] = {"MQES": ("mqes", (11, 1))}
IDENTIFY_PROPERTIES: Mapping[str, tuple[str, tuple[int, int]]] = {
    "MN": ("model", (11, 1)),
    "FR": ("firmware-version", (11, 1)),
}
NAMESPACE_PROPERTIES: Mapping[str, tuple[int, int]] = {"nguid": (11, 1)}
"""Field to property and the first version that is known to have it. 7.2.22 has none of them; of versions between nothing is
claimed. The other properties that are used here exist in 7.2 and in 11.1."""


T = TypeVar("T")
Obstacle = Callable[[T, tuple[int, ...]], str | None]
"""What stands in the way of one part of a specification on one version of QEMU: the end of a sentence about it, or None."""


Properties = Mapping[str, tuple[str, tuple[int, int]]]


def _field(kind: str, fields: Mapping[str, object], known: Properties, version: tuple[int, ...]) -> str | None:
    """Return the obstacle of a field that no property of QEMU sets, or none in this version."""
    for name in fields:
        if name not in known:
            return f"cannot be given {kind} field {name}"
        if version < (since := known[name][1]):
            return f"can be given {kind} field {name} from QEMU {dotted(since)} on"
    return None


def _mdts(controller: Controller, version: tuple[int, ...]) -> str | None:
    least = int(version >= MDTS_LIMITED)
    return None if least <= controller.mdts <= MAX_MDTS else f"cannot have MDTS {controller.mdts}, but {least} to {MAX_MDTS}"


def _identifiers(namespace: Namespace, version: tuple[int, ...]) -> str | None:
    late = [(name, since) for name, since in NAMESPACE_PROPERTIES.items() if getattr(namespace, name) and version < since]
    return f"can be given {late[0][0]} from QEMU {dotted(late[0][1])} on" if late else None


CONTROLLER_OBSTACLES: tuple[Obstacle[Controller], ...] = (
    lambda c, _: f"cannot say version {c.version}: it is always {VERSION}" if c.version not in ("", VERSION) else None,
    lambda c, _: _range("I/O queue pairs", c.io_queues, 1, MAX_QUEUE_PAIRS),
    lambda c, _: _range("MSI-X vectors", c.vectors, 1, MAX_VECTORS),
    lambda c, _: None if c.msix else "always has MSI-X",
    _mdts,
    lambda c, _: None if c.write_cache else "always reports a volatile write cache",
    lambda c, _: "has PCI ids and a class of its own" if c.pci else None,
    lambda c, _: "has a BAR0 that is not prefetchable" if c.prefetchable_bar else None,
    lambda c, _: "keeps queues in its memory where no record sees them" if c.controller_memory else None,
    lambda c, version: _field("CAP", c.cap, CAP_PROPERTIES, version),
    lambda c, version: _field("Identify Controller", c.identify, IDENTIFY_PROPERTIES, version),
    lambda c, version: _field("Identify Namespace", c.identify_namespace, {}, version),
    lambda c, version: _field("NVM command set Identify", c.identify_nvm, {}, version),
    lambda c, version: _field("CRTO", c.crto, {}, version),
)
NAMESPACE_OBSTACLES: tuple[Obstacle[Namespace], ...] = (
    lambda n, _: None if 1 <= n.nsid <= MAX_NSID else f"cannot exist: the highest NSID is {MAX_NSID}",
    lambda n, _: None if n.block_size in BLOCK_SIZES else f"cannot have blocks of {n.block_size} bytes",
    lambda n, _: "has no protection information over blocks that the lab prepares" if n.protection else None,
    _identifiers,
)


def _range(what: str, number: int, least: int, most: int) -> str | None:
    return None if least <= number <= most else f"cannot have {number} {what}, but {least} to {most}"


def unservable(spec: DeviceSpec, version: tuple[int, ...]) -> str | None:
    """Return what of this specification QEMU's device cannot be, as a sentence; None if it can be all of it."""
    return next(_obstacles(spec, version), None)


def _obstacles(spec: DeviceSpec, version: tuple[int, ...]) -> Iterator[str]:
    for controller in spec.controllers:
        who = f"controller {controller.id} of QEMU's nvme"
        yield from (f"{who} {why}" for obstacle in CONTROLLER_OBSTACLES if (why := obstacle(controller, version)))
        for namespace in controller.namespaces:
            which = f"namespace {namespace.nsid} of {who}"
            yield from (f"{which} {why}" for obstacle in NAMESPACE_OBSTACLES if (why := obstacle(namespace, version)))
    if len({controller.serial for controller in _sharing(spec)}) > 1:
        yield "controllers of one subsystem of QEMU's nvme have one serial number"


class QemuDevice:
    """One DeviceSpec as QEMU's device, its images in ``folder`` (the evidence's ``namespaces``)."""

    traced = True
    maps_memory = False

    def __init__(self, spec: DeviceSpec, folder: Path, version: tuple[int, ...]) -> None:
        """Check the specification against this version of QEMU; LabError where its device cannot be that."""
        obstacle = unservable(spec, version)
        if obstacle is not None:
            raise LabError(f"QEMU's device cannot be what the scenario asks for: {obstacle}.", remedy="use --device lab")
        self.spec = spec
        self._folder = folder
        self.version = version
        self._shared = {(c.id, n.nsid): owner for owner, c, n in owners(spec)}

    def create_images(self, seed: int) -> None:
        """Create the images with the pattern in the namespaces' areas. Call it before anything is plugged."""
        create_images(self.spec, self._folder, seed)

    @property
    def blockdevs(self) -> tuple[Json, ...]:
        """One for each image; for QMP's blockdev-add or ``-blockdev``."""
        return tuple(
            {
                "driver": "raw",
                "node-name": _node(controller, namespace),
                "discard": "unmap",  # Deallocate and Write Zeroes reach the file
                "file": {"driver": "file", "filename": str(image(self._folder, controller.id, namespace.nsid))},
            }
            for controller, namespace in self._owned()
        )

    @property
    def subsystems(self) -> tuple[Json, ...]:
        """What must be on QEMU's command line even where the rest is plugged later: it cannot be hot-plugged."""
        ids = dict.fromkeys(s for c in self.spec.controllers if (s := self._subsystem(c)) is not None)
        return tuple({"driver": "nvme-subsys", "id": id} for id in ids)

    def devices(self, places: Sequence[Place]) -> tuple[Json, ...]:
        """Return each controller, in its place, followed by its namespaces.

        They are for device_add or, behind `subsystems`, ``-device``.
        """
        if len(places) != len(self.spec.controllers):
            raise ValueError(f"{len(self.spec.controllers)} controllers need as many places, not {len(places)}")
        return tuple(
            device
            for controller, place in zip(self.spec.controllers, places, strict=True)
            for device in self._controller(controller, place)
        )

    def plug(self, machine: Machine, places: Sequence[Place]) -> None:
        """Hot-plug all of it. The guest is stopped meanwhile, so that no controller appears before its namespaces."""
        for blockdev in self.blockdevs:
            machine.qmp("blockdev-add", blockdev)
        running = machine.qmp("query-status")["running"]
        if running:
            machine.qmp("stop")
        for device in self.devices(places):
            if device["driver"] == "nvme-ns" and self.version < LIVE_NAMESPACES:
                # The controller's own bus refuses until the machine is made the handler of its hot-plug.
                bus = f"/machine/peripheral/{device['bus']}/{device['bus']}"
                machine.qmp("qom-set", {"path": bus, "property": "hotplug-handler", "value": "/machine"})
            machine.qmp("device_add", device)
        if running:
            machine.qmp("cont")

    def unplug(self, machine: Machine, deadline: Deadline) -> None:
        """Ask the guest for each controller, as its firmware's hot-plug does, and wait until it has released it."""
        self._remove(machine, [controller.id for controller in self.spec.controllers], deadline)
        left = {item["name"] for item in machine.qmp("qom-list", {"path": "/machine/peripheral"}, deadline)}
        devices = self.devices([{}] * len(self.spec.controllers))
        # In 11.1 namespaces move to a subsystem and outlive their controller; in 7.2 they go with it.
        self._remove(machine, [str(d["id"]) for d in devices if d["id"] in left], deadline)
        for blockdev in self.blockdevs:
            machine.qmp("blockdev-del", {"node-name": blockdev["node-name"]}, deadline)

    # -- while it is in use -----------------------------------------------------------------------------------------

    def arm(self, fault: str, armed: bool = True) -> None:
        """Refuse: QEMU's own device has no faults."""
        del armed  # part of the protocol
        raise LabError(f"QEMU's own device has no fault {fault!r}", remedy="use --device lab")

    def settle(self) -> None:
        """Do nothing: the trace carries QEMU's own times."""

    def check(self) -> None:
        """Do nothing: the device is in QEMU, so nothing between them can be lost."""

    def change(self, machine: Machine, action: Action, deadline: Deadline) -> None:
        """Do one of `lab.device.changes`; UnsupportedChangeError where QEMU, or this version of it, cannot."""
        if action.name == "cut-power":
            raise UnsupportedChangeError("QEMU's own device loses nothing: what is written is in its image at once")
        if action.name == "release":
            raise UnsupportedChangeError("QEMU's own device has no faults, and so holds no command")
        if action.name in ("resize", "reformat"):
            raise UnsupportedChangeError("QEMU's own device changes neither the size nor the format of a namespace in use")
        if action.name != "warn" and self.version < LIVE_NAMESPACES:
            first = ".".join(map(str, LIVE_NAMESPACES))
            raise UnsupportedChangeError(f"QEMU adds and removes namespaces live from {first} on")
        if action.arguments.get("quiet"):
            raise UnsupportedChangeError("QEMU's own device sends an event for every namespace that goes")
        controller = action.arguments.get("controller", self.spec.controllers[0].id)
        match action.name:
            case "attach":
                self.attach(machine, controller, action.arguments["nsid"])
            case "detach":
                self.detach(machine, controller, action.arguments["nsid"], deadline)
            case "warn":
                self.warn(machine, controller, action.arguments["warning"])

    def attach(self, machine: Machine, controller: str, nsid: int) -> None:
        """Add a namespace that was detached; the controller sends its host an event. QEMU from LIVE_NAMESPACES on."""
        places: list[Place] = [{}] * len(self.spec.controllers)
        machine.qmp("device_add", next(d for d in self.devices(places) if d["id"] == _namespace_id(controller, nsid)))

    def detach(self, machine: Machine, controller: str, nsid: int, deadline: Deadline) -> None:
        """Remove a namespace and keep its image; the controller sends its host an event. QEMU from LIVE_NAMESPACES on."""
        self._remove(machine, [_namespace_id(controller, nsid)], deadline)

    def warn(self, machine: Machine, controller: str, critical_warning: int) -> None:
        """Set SMART's critical warning bits, and raise the event for those that the host has asked for."""
        path = f"/machine/peripheral/{controller}"
        machine.qmp("qom-set", {"path": path, "property": "smart_critical_warning", "value": critical_warning})

    @staticmethod
    def _remove(machine: Machine, ids: Sequence[str], deadline: Deadline) -> None:
        for id in ids:
            machine.qmp("device_del", {"id": id}, deadline)
        for id in ids:
            machine.event("DEVICE_DELETED", deadline, names_device(id))

    def _controller(self, controller: Controller, place: Place) -> Iterator[Json]:
        device: dict[str, object] = {
            "driver": "nvme",
            "id": controller.id,
            **place,
            "serial": controller.serial,
            "mdts": controller.mdts,
            "max_ioqpairs": controller.io_queues,
            "msix_qsize": controller.vectors,
        }
        if controller.zone_append_limit:
            device["zoned.zasl"] = controller.zone_append_limit
        if self.version >= NO_SHADOW_DOORBELLS:
            device["dbcs"] = controller.shadow_doorbells
        device |= {CAP_PROPERTIES[name][0]: value for name, value in controller.cap.items()}
        device |= {IDENTIFY_PROPERTIES[name][0]: value for name, value in controller.identify.items()}
        subsystem = self._subsystem(controller)
        if subsystem is None and _is_simple(controller):
            (namespace,) = controller.namespaces
            yield {**device, **_backend(controller, namespace)}
            return
        yield device if subsystem is None else device | {"subsys": subsystem}
        for namespace in controller.namespaces:
            if self._shared[controller.id, namespace.nsid] == controller.id:
                yield _namespace(controller, namespace, in_subsystem=subsystem is not None)

    def _subsystem(self, controller: Controller) -> str | None:
        """Return the subsystem a controller needs: one for all that share, its own for a namespace that starts detached."""
        if controller in _sharing(self.spec):
            return "nvm-subsystem"
        if all(namespace.attached for namespace in controller.namespaces):
            return None
        return f"nvm-subsystem-{controller.id}"

    def _owned(self) -> Iterator[tuple[Controller, Namespace]]:
        """Yield each namespace once."""
        return ((c, n) for owner, c, n in owners(self.spec) if owner == c.id)


def _sharing(spec: DeviceSpec) -> tuple[Controller, ...]:
    return tuple(c for c in spec.controllers if any(n.shared for n in c.namespaces))


def _is_simple(controller: Controller) -> bool:
    """Return whether the controller can carry its namespace itself: that form hot-plugs everywhere, and has no identifiers."""
    if len(controller.namespaces) != 1:
        return False
    (namespace,) = controller.namespaces
    special = namespace.metadata_size, namespace.uuid, namespace.eui64, namespace.nguid, namespace.zone_blocks
    return namespace.nsid == 1 and not any(special)


def _node(controller: Controller, namespace: Namespace) -> str:
    return f"{controller.id}-{namespace.nsid}"


def _namespace_id(controller: str, nsid: int) -> str:
    return f"{controller}-ns{nsid}"


def _backend(controller: Controller, namespace: Namespace) -> Json:
    return {
        "drive": _node(controller, namespace),
        "logical_block_size": namespace.block_size,
        "physical_block_size": namespace.block_size,  # never below the logical one
    }


def _namespace(controller: Controller, namespace: Namespace, *, in_subsystem: bool) -> Json:
    device: dict[str, object] = {
        "driver": "nvme-ns",
        "id": _namespace_id(controller.id, namespace.nsid),
        "bus": controller.id,
        **_backend(controller, namespace),
        "nsid": namespace.nsid,
    }
    if namespace.metadata_size:
        device |= {"ms": namespace.metadata_size, "mset": int(namespace.interleaved)}
    if namespace.zone_blocks:
        size = namespace.block_size
        device |= {"zoned": True, "zoned.zone_size": namespace.zone_blocks * size}
        device["zoned.zone_capacity"] = namespace.writable_zone * size
        device |= {"zoned.max_active": namespace.max_active_zones, "zoned.max_open": namespace.max_open_zones}
    if namespace.uuid:
        device["uuid"] = namespace.uuid
    if namespace.eui64:
        device["eui64"] = namespace.eui64
    if namespace.nguid:
        device["nguid"] = namespace.nguid
    if in_subsystem:
        device |= {"shared": namespace.shared, "detached": not namespace.attached}
    return device
