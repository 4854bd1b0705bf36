"""A whole device: the controllers of a DeviceSpec with their subsystem, clock and records. It does not know who drives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lab.controller.clock import Clock
from lab.controller.controller import ModelController
from lab.controller.dma import HostMemory
from lab.controller.interrupts import Signal
from lab.controller.namespaces import StoredNamespace
from lab.controller.record import Recorder, Unrecorded
from lab.controller.subsystem import Subsystem
from lab.data.plan import DeviceSpec, Fault
from lab.data.stream import StreamWriter
from lab.errors import UsageError, nearest


class Device:
    """The controllers by id. ``records`` is the folder for their records, CONTROLLER.rec each; None keeps none.

    Namespace images are ``images``/CONTROLLER-NSID.img and are made, empty, where they are missing. All calls come from
    one thread. UsageError for a spec or a fault that cannot be.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        images: Path,
        *,
        memory: Callable[[str], HostMemory],
        signal: Callable[[str], Signal],
        records: Path | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        """Make the controllers; ``memory`` and ``signal`` give a controller's host memory and way to interrupt, by its id."""
        kept = tuple(faults)
        ids = [one.id for one in spec.controllers]
        for fault in kept:
            if fault.controller is not None and fault.controller not in ids:
                unknown = f"there is no controller {fault.controller!r}{nearest(fault.controller, ids)}"
                raise UsageError(f"fault {fault.name!r}: {unknown}")
        self.spec = spec
        self.clock = Clock()
        self.subsystem = Subsystem(spec, images)
        self.controllers: dict[str, ModelController] = {}
        for one in spec.controllers:
            self.controllers[one.id] = ModelController(
                one, self.subsystem, memory(one.id), self._recorder(one.id, records), self.clock, signal(one.id), kept
            )
        for controller in self.controllers.values():
            controller.faults.at_plug()

    def _recorder(self, controller: str, records: Path | None) -> Recorder:
        return Unrecorded() if records is None else StreamWriter(records / f"{controller}.rec", self.clock.now)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the name of each fault that strikes, from the device's thread."""
        for controller in self.controllers.values():
            controller.faults.listener = listener

    # -- the lab's interventions ---------------------------------------------------------------------------------------------

    def arm(self, fault: str, armed: bool = True) -> None:
        """Flip the switch of a fault on every controller."""
        for controller in self.controllers.values():
            controller.faults.arm(fault, armed)

    def release(self, fault: str, count: int = 1) -> int:
        """Let a fault of behaviour `hold` release ``count`` commands on each controller; return how many there were."""
        return sum(controller.faults.release(fault, count) for controller in self.controllers.values())

    def strikes(self, fault: str) -> int:
        """Return how often a fault has struck, on all controllers together."""
        return sum(controller.faults.strikes(fault) for controller in self.controllers.values())

    def cut_power(self, keep: float = 0.0, seed: int = 0) -> int:
        """Lose what was written and not flushed; return how many writes that was. Every controller restarts."""
        return self.subsystem.cut_power(keep, seed)

    def attach(self, controller: str, nsid: int) -> None:
        """Make an allocated namespace active on a controller, as another host's command would."""
        found = self._find(controller)
        ns = found.inventory.allocated.get(nsid)
        if ns is None or nsid in found.attached:
            raise UsageError(f"controller {controller} has no inactive namespace {nsid}")
        found.attach(ns)

    def detach(self, controller: str, nsid: int, *, report: bool = True) -> None:
        """Make a namespace inactive on a controller; its host gets no event where ``report`` is false."""
        found = self._find(controller)
        if nsid not in found.attached:
            raise UsageError(f"controller {controller} has no active namespace {nsid}")
        found.detach(nsid, report=report)

    def resize(self, controller: str, nsid: int, blocks: int) -> None:
        """Give an active namespace another size; new blocks are zero. Its hosts get the event."""
        self._active(controller, nsid).resize(blocks)
        self._changed(controller, nsid)

    def reformat(self, controller: str, nsid: int, index: int) -> None:
        """Format an active namespace with another LBA format, as another host would. Its hosts get the event."""
        namespace = self._active(controller, nsid)
        if index >= len(namespace.formats):
            raise UsageError(f"namespace {nsid} has no LBA format {index}: it has {len(namespace.formats)}")
        namespace.format(index, extended=False)
        self._changed(controller, nsid)

    def _active(self, controller: str, nsid: int) -> StoredNamespace:
        found = self._find(controller).attached.get(nsid)
        if found is None:
            raise UsageError(f"controller {controller} has no active namespace {nsid}")
        return found

    def _changed(self, controller: str, nsid: int) -> None:
        """Report a changed namespace to the host of each controller that has it."""
        namespace = self._active(controller, nsid)
        for member in self.controllers.values():
            if member.attached.get(nsid) is namespace:
                member.core.remark("namespace-changed", nsid=nsid, blocks=namespace.blocks, block_size=namespace.block_size)
                member.report_change(nsid)

    def warn(self, controller: str, critical_warning: int) -> None:
        """Set SMART's critical warning bits, and raise the event for those that the host has asked for."""
        self._find(controller).inventory.warn(critical_warning)

    def close(self) -> None:
        """End the records and close the images; may be called again."""
        for controller in self.controllers.values():
            controller.record.close()
        self.subsystem.close()

    def _find(self, controller: str) -> ModelController:
        found = self.controllers.get(controller)
        if found is None:
            raise UsageError(f"there is no controller {controller!r}; the device has {', '.join(self.controllers)}")
        return found
