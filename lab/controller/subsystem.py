"""The NVM subsystem: controllers, and the namespaces that they have for themselves or share. Base 2.0, 2.4.1?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lab.controller import identify
from lab.controller.namespaces import Namespace
from lab.controller.request import Failed
from lab.data.plan import DeviceSpec
from lab.data.plan import Namespace as NamespaceSpec
from lab.errors import UsageError
from lab.nvme.identify import NamespaceManagementData
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller

NAMESPACE_LIMIT = 32
"""The highest namespace id, as of many a real controller, unless the DeviceSpec has higher ones or Identify's NN is overridden.
Firmware tries them all, with two commands each: QEMU's controller has 256."""


class Subsystem:
    """All controllers of a device. Controllers that share no namespace know nothing of each other's."""

    def __init__(self, spec: DeviceSpec, images: Path) -> None:
        """Namespace images are ``images``/CONTROLLER-NSID.img; a shared one is its first controller's."""
        self.spec, self._images = spec, images
        self.controllers: list[Controller] = []
        self._shared: dict[int, Namespace] = {}
        self._own: dict[str, dict[int, Namespace]] = {}
        for controller in spec.controllers:
            own = self._own[controller.id] = {}
            for ns in controller.namespaces:
                if ns.nsid in own or not 0 < ns.nsid < 0xFFFF_FFFF:
                    raise UsageError(f"controller {controller.id}: namespace id {ns.nsid} is taken, or none")
                if ns.shared and ns.nsid in self._shared:
                    own[ns.nsid] = self._shared[ns.nsid]
                    continue
                own[ns.nsid] = Namespace(ns, images / f"{controller.id}-{ns.nsid}.img", identify.formats(controller))
                if ns.shared:
                    self._shared[ns.nsid] = own[ns.nsid]

    def number(self, controller_id: str) -> tuple[int, int]:
        """(CNTLID, how many controllers the host sees as one subsystem): those that share namespaces."""
        sharing = [c.id for c in self.spec.controllers if any(ns.shared for ns in c.namespaces)]
        return (sharing.index(controller_id), len(sharing)) if controller_id in sharing else (0, 1)

    def family(self, controller: Controller) -> list[Controller]:
        """The controllers of one NVM subsystem as its host sees it."""
        if self.number(controller.spec.id)[1] == 1:
            return [controller]
        return [other for other in self.controllers if self.number(other.spec.id)[1] > 1]

    def close(self) -> None:
        for ns in self.all_namespaces():
            ns.close()

    def all_namespaces(self) -> Iterable[Namespace]:
        """Each namespace once."""
        return {id(ns): ns for own in self._own.values() for ns in own.values()}.values()

    def namespaces(self, controller: Controller) -> dict[int, Namespace]:
        """What a controller could have: its own and all shared namespaces."""
        shared = self._shared if self.number(controller.spec.id)[1] > 1 else {}
        return {**shared, **self._own[controller.spec.id]}

    def highest_nsid(self, controller_id: str) -> int:
        return max([NAMESPACE_LIMIT, *self._own[controller_id]])

    # -- management -------------------------------------------------------------------------------------------------

    def create(self, controller: Controller, wanted: NamespaceManagementData) -> int:
        """A new namespace, attached to no controller; its id. Failed where the data ask for what is not there."""
        formats = next(iter(self.all_namespaces())).formats if self._own else ()
        index = wanted.FLBAS.LOW | wanted.FLBAS.HIGH << 4
        if index >= len(formats) or wanted.DPS:
            raise Failed(Status.FORMAT_INVALID)
        if not wanted.NSZE or wanted.NCAP > wanted.NSZE:
            raise Failed(Status.INVALID_FIELD)
        if wanted.NCAP != wanted.NSZE:
            raise Failed(Status.THIN_PROVISIONING_NOT_SUPPORTED)
        taken = self.namespaces(controller)
        nsid = next((n for n in range(1, controller.identity.NN + 1) if n not in taken), None)
        if nsid is None:
            raise Failed(Status.NAMESPACE_ID_UNAVAILABLE)
        chosen = formats[index]
        spec = NamespaceSpec(
            nsid=nsid, blocks=wanted.NSZE, block_size=chosen.block_size, metadata_size=chosen.MS, attached=False,
            shared=bool(wanted.NMIC.SHARED),
        )  # fmt: skip
        ns = Namespace(spec, self._images / f"{controller.spec.id}-{nsid}.img", formats)
        ns.format(ns.format_index, bool(wanted.FLBAS.EXTENDED))
        self._own[controller.spec.id][nsid] = ns
        if spec.shared:
            self._shared[nsid] = ns
        return nsid

    def delete(self, controller: Controller, nsids: Iterable[int]) -> None:
        """Namespaces that are no more, on any controller."""
        for nsid in nsids:
            gone = self.namespaces(controller)[nsid]
            for other in self.family(controller):
                if other.attached.get(nsid) is gone:
                    other.detach(nsid, tell=other is not controller)
                if self._own[other.spec.id].get(nsid) is gone:
                    del self._own[other.spec.id][nsid]
            if self._shared.get(nsid) is gone:
                del self._shared[nsid]
            gone.close()

    def changed(self, ns: Namespace, but: Controller) -> None:
        """A namespace is not what it was; its other controllers tell their hosts."""
        for other in self.family(but):
            if other is not but and other.attached.get(ns.nsid) is ns:
                other.tell_changed(ns.nsid)

    # -- the lab's hand ---------------------------------------------------------------------------------------------

    def cut_power(self, keep: float = 0.0, seed: int = 0) -> int:
        """Every write that was not flushed is lost (or kept with probability ``keep``), every controller starts anew; how
        many were lost."""
        lost = sum(ns.cut_power(keep, seed + ns.nsid) for ns in self.all_namespaces())
        for controller in self.controllers:
            controller.logs.unsafe_shutdowns += not controller.shut
            controller.reset("power")
        return lost

    def reset(self, controller: Controller) -> None:
        """An NVM Subsystem Reset, by one of its controllers. Base 2.0, 3.7.1"""
        for other in self.family(controller):
            other.subsystem_was_reset()
