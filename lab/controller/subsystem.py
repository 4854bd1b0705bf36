"""The NVM subsystem: controllers, their own and shared namespaces, and its capacity. Base 2.0, 2.4.1, 3.8, 8.11."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from lab.controller import identify
from lab.controller.fetched import CommandStatusError
from lab.controller.namespaces import StoredNamespace
from lab.data.plan import Controller as Spec
from lab.data.plan import DeviceSpec
from lab.data.plan import Namespace as NamespaceSpec
from lab.errors import LabError, UsageError
from lab.nvme.identify import IdentifyController, NamespaceManagementData
from lab.nvme.status import Status

NAMESPACE_LIMIT = 32
"""The highest namespace id, as of many a real controller, unless the DeviceSpec has higher ones or Identify's NN is overridden.
Firmware tries them all, with two commands each: QEMU's controller has 256."""
SPARE_CAPACITY = 8 << 30
"""Bytes of NVM that are unallocated at the start; images are sparse files."""


class Member(Protocol):
    """A controller as its subsystem knows it."""

    @property
    def spec(self) -> Spec:
        """The description of the controller that was configured."""

    @property
    def identity(self) -> IdentifyController:
        """Its Identify Controller data."""

    @property
    def attached(self) -> Mapping[int, StoredNamespace]:
        """Its active namespaces by id."""

    @property
    def was_shut_down(self) -> bool:
        """Whether the host has shut it down, or never started it."""

    def attach(self, ns: StoredNamespace) -> None:
        """Make a namespace active."""

    def detach(self, nsid: int, *, report: bool = True) -> None:
        """Make a namespace inactive."""

    def report_change(self, nsid: int) -> None:
        """Report a changed namespace to the host."""

    def count_unsafe_shutdown(self) -> None:
        """Count a loss of power without a shutdown."""

    def reset(self, cause: str) -> None:
        """Reset it as by power or bus."""

    def subsystem_was_reset(self) -> None:
        """Reset it as by an NVM Subsystem Reset."""


class Subsystem:
    """All controllers of a device. Controllers that share no namespace know nothing of each other's."""

    def __init__(self, spec: DeviceSpec, images: Path) -> None:
        """Open or make the images: ``images``/CONTROLLER-NSID.img; a shared one is its first controller's."""
        self.spec, self._images = spec, images
        self.members: list[Member] = []
        self._shared: dict[int, StoredNamespace] = {}
        self._own: dict[str, dict[int, StoredNamespace]] = {}
        self._sharing = [one.id for one in spec.controllers if any(ns.shared for ns in one.namespaces)]
        for controller in spec.controllers:
            own = self._own[controller.id] = {}
            for ns in controller.namespaces:
                if ns.nsid in own or not 0 < ns.nsid < 0xFFFF_FFFF:
                    raise UsageError(f"controller {controller.id}: namespace id {ns.nsid} is taken, or none")
                if ns.shared and ns.nsid in self._shared:
                    own[ns.nsid] = self._shared[ns.nsid]
                    continue
                own[ns.nsid] = StoredNamespace(ns, images / f"{controller.id}-{ns.nsid}.img", identify.formats(controller))
                if ns.shared:
                    self._shared[ns.nsid] = own[ns.nsid]

    def number(self, controller_id: str) -> tuple[int, int]:
        """Return (CNTLID, how many controllers the host sees as one subsystem): those that share namespaces."""
        return (self._sharing.index(controller_id), len(self._sharing)) if controller_id in self._sharing else (0, 1)

    def family(self, member: Member) -> list[Member]:
        """Return the controllers of one NVM subsystem as its host sees it."""
        if self.number(member.spec.id)[1] == 1:
            return [member]
        return [other for other in self.members if self.number(other.spec.id)[1] > 1]

    def close(self) -> None:
        """Close every image; may be called again."""
        for ns in self.all_namespaces():
            ns.close()

    def all_namespaces(self) -> Iterable[StoredNamespace]:
        """Return each namespace once."""
        return {id(ns): ns for own in self._own.values() for ns in own.values()}.values()

    def namespaces(self, member: Member) -> dict[int, StoredNamespace]:
        """Return the namespaces that exist for a controller: its own and all shared ones."""
        shared = self._shared if self.number(member.spec.id)[1] > 1 else {}
        return {**shared, **self._own[member.spec.id]}

    def highest_nsid(self, controller_id: str) -> int:
        """Return the highest namespace id that a controller may have."""
        return max([NAMESPACE_LIMIT, *self._own[controller_id]])

    # -- management -------------------------------------------------------------------------------------------------

    def capacity(self, controller_id: str) -> int:
        """Return the bytes of NVM that a controller's subsystem has (TNVMCAP): what the DeviceSpec uses, and some more."""
        sharing = self.number(controller_id)[1] > 1
        ids = [c.id for c in self.spec.controllers if (self.number(c.id)[1] > 1 if sharing else c.id == controller_id)]
        return sum(ns.image_bytes for ns in self._distinct(ids)) + SPARE_CAPACITY

    def allocated_bytes(self, member: Member) -> int:
        """Return how much of the capacity namespaces take."""
        return sum(ns.image_bytes for ns in self._distinct([other.spec.id for other in self.family(member)]))

    def _distinct(self, controller_ids: Iterable[str]) -> list[StoredNamespace]:
        return list({id(ns): ns for id_ in controller_ids for ns in self._own[id_].values()}.values())

    def create(self, member: Member, wanted: NamespaceManagementData) -> int:
        """Create a namespace, attached to no controller, and return its id.

        CommandStatusError where the data ask for what is not there; OSError where the machine's disk has no room.
        """
        offered = identify.formats(member.spec)
        index = wanted.FLBAS.LOW | wanted.FLBAS.HIGH << 4
        if index >= len(offered) or wanted.DPS:
            raise CommandStatusError(Status.FORMAT_INVALID)
        if not wanted.NSZE or wanted.NCAP > wanted.NSZE:
            raise CommandStatusError(Status.INVALID_FIELD)
        if wanted.NCAP != wanted.NSZE:
            raise CommandStatusError(Status.THIN_PROVISIONING_NOT_SUPPORTED)
        taken = self.namespaces(member)
        nsid = next((n for n in range(1, member.identity.NN + 1) if n not in taken), None)
        if nsid is None:
            raise CommandStatusError(Status.NAMESPACE_ID_UNAVAILABLE)
        chosen = offered[index]
        if wanted.NSZE * chosen.block_size > member.identity.TNVMCAP - self.allocated_bytes(member):
            raise CommandStatusError(Status.NAMESPACE_INSUFFICIENT_CAPACITY)
        spec = NamespaceSpec(
            nsid=nsid, blocks=wanted.NSZE, block_size=chosen.block_size, metadata_size=chosen.MS, attached=False,
            shared=bool(wanted.NMIC.SHARED),
        )  # fmt: skip
        try:
            ns = StoredNamespace(spec, self._images / f"{member.spec.id}-{nsid}.img", offered)
        except LabError as error:
            raise OSError(str(error)) from error
        try:
            ns.format(ns.format_index, bool(wanted.FLBAS.EXTENDED))
        except OSError:
            ns.close()
            raise
        self._own[member.spec.id][nsid] = ns
        if spec.shared:
            self._shared[nsid] = ns
        return nsid

    def delete(self, member: Member, nsids: Iterable[int]) -> None:
        """Delete namespaces, on all controllers."""
        for nsid in nsids:
            gone = self.namespaces(member)[nsid]
            for other in self.family(member):
                if other.attached.get(nsid) is gone:
                    other.detach(nsid, report=other is not member)
                if self._own[other.spec.id].get(nsid) is gone:
                    del self._own[other.spec.id][nsid]
            if self._shared.get(nsid) is gone:
                del self._shared[nsid]
            gone.close()

    def report_change(self, ns: StoredNamespace, by: Member) -> None:
        """Report to the hosts of its other controllers that a namespace has changed."""
        for other in self.family(by):
            if other is not by and other.attached.get(ns.nsid) is ns:
                other.report_change(ns.nsid)

    # -- the lab's interventions ------------------------------------------------------------------------------------

    def cut_power(self, keep: float = 0.0, seed: int = 0) -> int:
        """Lose every write that was not flushed, or keep it with probability ``keep``; return how many were lost.

        Every controller restarts.
        """
        lost = sum(ns.cut_power(keep, seed + ns.nsid) for ns in self.all_namespaces())
        for member in self.members:
            if not member.was_shut_down:
                member.count_unsafe_shutdown()
            member.reset("power")
        return lost

    def reset(self, member: Member) -> None:
        """Perform an NVM Subsystem Reset that one of its controllers was asked for. Base 2.0, 3.7.1."""
        for other in self.family(member):
            other.subsystem_was_reset()
            for ns in other.attached.values():
                if ns.zones is not None:
                    ns.zones.restart()
