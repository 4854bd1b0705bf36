"""The programmable controller as a device of a QEMU guest: plugged by its sockets, and the lab's hand on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from lab.controller import behaviour
from lab.controller.server import DeviceServer
from lab.data.plan import Action, DeviceSpec, Fault, Namespace
from lab.deadline import Deadline
from lab.device.changes import change_modelled
from lab.device.device import Place
from lab.device.images import create_images
from lab.errors import LabError
from lab.guest.arguments import Json
from lab.guest.machine import Machine
from lab.guest.monitor import names_device
from lab.toolchain.qemu import dotted

VFIO_USER = (10, 1)
"""The first QEMU with vfio-user-pci."""
MSIX_UNPLUG_ABORTS = True
"""Of QEMU 11.1.3: its vfio-user-pci takes down MSI-X after its BAR is gone, an assertion fails, and with it the guest."""
MAX_VECTORS = 2048
BLOCK_SIZES = tuple(512 << n for n in range(8))


def unservable(spec: DeviceSpec, version: tuple[int, ...] | None, faults: Iterable[Fault] = ()) -> str | None:
    """Return what of this the programmable controller cannot be or do, as a sentence; None if it can do all of it.

    ``version`` is QEMU's; None for the controller in process.
    """
    return next(_obstacles(spec, version, faults), None)


def _obstacles(spec: DeviceSpec, version: tuple[int, ...] | None, faults: Iterable[Fault]) -> Iterator[str]:
    if version is not None and version < VFIO_USER:
        has = dotted(version)
        yield f"the programmable controller needs vfio-user-pci, which QEMU has from 10.1 on, and this is {has}"
    for controller in spec.controllers:
        if controller.vectors > MAX_VECTORS:
            yield f"controller {controller.id} cannot have {controller.vectors} MSI-X vectors, but 0 to {MAX_VECTORS}"
        for namespace in controller.namespaces:
            if namespace.block_size not in BLOCK_SIZES:
                yield f"namespace {namespace.nsid} cannot have blocks of {namespace.block_size} bytes"
            if namespace.zone_blocks and (why := _zone_obstacle(namespace)):
                yield f"namespace {namespace.nsid} cannot {why}"
    for fault in faults:
        if behaviour.find(fault.behaviour) is None:
            yield f"the programmable controller has no behaviour {fault.behaviour!r}"


def _zone_obstacle(namespace: Namespace) -> str:
    """Return what a zoned namespace cannot do or have; "" if it can be as it is."""
    if namespace.blocks % namespace.zone_blocks or namespace.writable_zone > namespace.zone_blocks:
        return f"be divided into zones of {namespace.zone_blocks} blocks"
    if namespace.max_active_zones and namespace.max_open_zones > namespace.max_active_zones:
        return f"have {namespace.max_open_zones} open zones when {namespace.max_active_zones} may be active"
    if namespace.metadata_size:
        return "have both zones and metadata"
    if namespace.areas or namespace.filesystem or namespace.contents:
        return "hold data at the start, when its zones are empty"
    return ""


class LabDevice:
    """One DeviceSpec as the programmable controller, its images in ``folder`` (the evidence's ``namespaces``).

    Use it in a ``with`` block around the guest: QEMU connects to it when the controllers are plugged, and the records are
    whole when the block has ended. The guest's memory must be a shared file (`GuestSpec.memory_file`).
    """

    traced = False
    maps_memory = True

    def __init__(
        self,
        spec: DeviceSpec,
        folder: Path,
        version: tuple[int, ...],
        *,
        sockets: Path,
        records: Path | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        """Create the device.

        ``sockets``: a folder with a short name; ``records``: the evidence's ``device`` folder; ``version``: QEMU's.
        """
        kept = tuple(faults)
        obstacle = unservable(spec, version, kept)
        if obstacle is not None:
            raise LabError(f"This cannot be served: {obstacle}.", remedy="use --device qemu, or a newer QEMU")
        self.spec = spec
        self.posted_writes = True
        """QEMU goes on before the device has taken a write of its registers; else the processor waits for it."""
        self._folder = folder
        self.server = DeviceServer(spec, folder, sockets, records=records, faults=kept)

    def create_images(self, seed: int) -> None:
        """Create the images with the pattern in the namespaces' areas. Call it before the ``with`` block."""
        create_images(self.spec, self._folder, seed)

    @property
    def blockdevs(self) -> tuple[Json, ...]:
        """None: the images are the device's own."""
        return ()

    @property
    def subsystems(self) -> tuple[Json, ...]:
        """None: the device is its own subsystem."""
        return ()

    def devices(self, places: Sequence[Place]) -> tuple[Json, ...]:
        """Return each controller, in its place; for device_add or ``-device``."""
        if len(places) != len(self.spec.controllers):
            raise ValueError(f"{len(self.spec.controllers)} controllers need as many places, not {len(places)}")
        return tuple(
            {
                "driver": "vfio-user-pci",
                "id": controller.id,
                "socket": {"type": "unix", "path": str(self.server.sockets[controller.id])},
                **({} if self.posted_writes else {"x-no-posted-writes": True}),
                **place,
            }
            for controller, place in zip(self.spec.controllers, places, strict=True)
        )

    def plug(self, machine: Machine, places: Sequence[Place]) -> None:
        """Hot-plug all of it."""
        for device in self.devices(places):
            machine.qmp("device_add", device)

    def unplug(self, machine: Machine, deadline: Deadline) -> None:
        """Ask the guest for each controller (the PCI Express attention button) and wait until it has released it.

        LabError where QEMU would abort (`MSIX_UNPLUG_ABORTS`).
        """
        doomed = [controller.id for controller in self.spec.controllers if controller.vectors and controller.msix]
        if doomed and MSIX_UNPLUG_ABORTS:
            raise LabError(
                f"QEMU aborts when {doomed[0]}, a vfio-user-pci device with MSI-X, is unplugged",
                remedy="give the scenario's controllers vectors=0, or arm a fault of behaviour 'removed'",
            )
        for controller in self.spec.controllers:
            machine.qmp("device_del", {"id": controller.id}, deadline)
        for controller in self.spec.controllers:
            machine.event("DEVICE_DELETED", deadline, names_device(controller.id))

    def arm(self, fault: str, armed: bool = True) -> None:
        """Flip the switch of a fault."""
        self.server.arm(fault, armed)

    def change(self, machine: Machine, action: Action, deadline: Deadline) -> None:
        """Do it to the model, which can do all of `lab.device.changes`; UsageError for a controller or namespace it lacks."""
        del machine, deadline  # the model needs neither
        self.server.call(lambda modelled: change_modelled(modelled, action))

    def settle(self) -> None:
        """Wait until the server has taken every access that has arrived: two rounds of its loop, so that one is whole."""
        for _ in range(2):
            self.server.call(lambda _: None)

    def check(self) -> None:
        """Raise LabError if QEMU has lost a plugged controller, after which no driver can be right."""
        self.server.call(lambda _: None)
        lost = [controller.id for controller in self.spec.controllers if controller.id not in self.server.connected]
        if lost:
            raise LabError(f"QEMU has lost its connection to controller {', '.join(lost)}")

    def __enter__(self) -> LabDevice:
        """Start the server, and return the device."""
        self.server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop the server."""
        self.server.stop()
