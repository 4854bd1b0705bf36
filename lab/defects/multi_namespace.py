"""Defects of having several namespaces, or several controllers, and of following what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.defects.defect import defect
from lab.nvme.async_events import AsyncEvent
from lab.nvme.commands import BROADCAST_NSID, Command, LbaCommand, Read
from lab.nvme.identify import Cns, IdentifyController, IdentifyNamespace
from lab.nvme.logs import ChangedNamespaces, Lid
from lab.reference.async_events import Events
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed
from lab.reference.identification import Identification, Identifiers
from lab.reference.namespace import Namespace
from lab.reference.service import Service


@defect("multi-namespace/sparse:counts")
class Counts(Identification):
    """Takes the namespaces for those from 1 up to their number."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the ids from 1 to the number of active namespaces."""
        return list(range(1, len(super().active_namespaces(identity)) + 1))


class _SharedBlockSize(Namespace):
    """Has the block size of another namespace."""

    shared_size = 0

    @property
    def block_size(self) -> int:
        return self.shared_size or super().block_size


@defect("multi-namespace/block-size:of-the-controller")
class OneBlockSize(Controller):
    """Takes the block size of the first namespace for that of all."""

    parts = replace(Controller.parts, namespace=_SharedBlockSize)

    def scan(self) -> None:
        """Scan, and give all namespaces the first one's block size."""
        super().scan()
        sizes = [namespace.block_size for namespace in self.namespaces.values()]
        for namespace in self.namespaces.values():
            assert isinstance(namespace, _SharedBlockSize)
            namespace.shared_size = sizes[0]


@defect("multi-namespace/no-crosstalk:always-one", scenarios=("multi-namespace/same-blocks",))
class AlwaysOne(Namespace):
    """Sends NSID 1 with every read and write."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command with NSID 1."""
        return super().command(kind, lba, blocks, flags).but(NSID=1)


@defect("multi-namespace/one-of-many:all-of-nn")
class DisksOfNn(Identification):
    """Makes a disk of every id that the controller could have."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return all ids up to NN."""
        return list(range(1, identity.NN + 1))

    def namespace(self, nsid: int) -> IdentifyNamespace:
        """Return the data of an id, also where it is all zeros because the namespace is inactive."""
        return IdentifyNamespace(self.identify(Cns.NAMESPACE, nsid))


@defect("multi-namespace/bad-neighbour:gives-up")
class GivesUp(Controller):
    """Ends its search for namespaces at the first one that fails Identify."""

    def scan(self) -> None:
        """Scan, and drop all namespaces after the first unusable one."""
        super().scan()
        if self.unusable:
            first = min(self.unusable)
            self.namespaces = {nsid: found for nsid, found in self.namespaces.items() if nsid < first}


@defect("multi-namespace/broadcast:read", scenarios=("multi-namespace/same-blocks",))
class BroadcastRead(Namespace):
    """Reads from all namespaces at once."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command; a read with NSID FFFFFFFFh."""
        plain = super().command(kind, lba, blocks, flags)
        return plain.but(NSID=BROADCAST_NSID) if issubclass(kind, Read) else plain


@defect("multi-namespace/changed:never-reads-the-log")
class NeverReadsTheLog(Events):
    """Takes note of an event, and does nothing about it."""

    def act(self, event: AsyncEvent) -> None:
        """Do nothing."""


@defect("multi-namespace/changed:never-looks-again")
class NeverLooksAgain(Controller):
    """Reads the log of changed namespaces, and leaves its disks as they are."""

    def scan(self) -> None:
        """Scan only as long as there are no namespaces."""
        if not self.namespaces:
            super().scan()


class _Literal(Events):
    """Looks only at the namespaces that log page 04h lists."""

    def act(self, event: AsyncEvent) -> None:
        """Read the log page, and identify what it lists."""
        if event.LID != Lid.CHANGED_NAMESPACES:
            super().act(event)
            return
        driver = self._c
        assert isinstance(driver, Controller)
        for nsid in ChangedNamespaces(self._health.log(Lid.CHANGED_NAMESPACES, ChangedNamespaces.SIZE)).ids:
            self.look(driver, nsid)

    def look(self, driver: Controller, nsid: int) -> None:
        """Identify one namespace again."""
        identity = driver.identification.namespace(nsid) if nsid != BROADCAST_NSID else None
        driver.namespaces.pop(nsid, None)
        if identity is not None:
            names = driver.identification.identifiers(nsid, identity)
            driver.namespaces[nsid] = driver.make_namespace(nsid, identity, names)


@defect("multi-namespace/changed:overflow", scenarios=("multi-namespace/changed-many",))
class Overflow(_Literal):
    """Takes FFFFFFFFh in the list of changed namespaces, which means more than it holds, for the id of one."""


@defect("multi-namespace/resized:keeps-what-it-knows", scenarios=("multi-namespace/grown", "multi-namespace/reformatted"))
class KeepsWhatItKnows(Controller):
    """Looks only for namespaces that come and go when it is told of a change, and keeps what it knows of the others."""

    def make_namespace(self, nsid: int, identity: IdentifyNamespace, names: Identifiers) -> Namespace:
        """Return the namespace as it was first seen."""
        first = self.__dict__.setdefault("first", {})
        return first.setdefault(nsid, super().make_namespace(nsid, identity, names))  # type: ignore[no-any-return]


@defect("multi-namespace/stale:success")
class StaleSuccess(Namespace):
    """Ends what was sent to a namespace that is gone as if it had been done."""

    def _run(self, commands: Sequence[Command]) -> None:
        try:
            super()._run(commands)
        except CommandFailed as failure:
            if failure.completion.SCT:
                raise


@defect("multi-namespace/shared:two-disks")
class TwoDisks(Namespace):
    """Makes a disk of a shared namespace on each of its controllers."""

    @property
    def shared(self) -> bool:
        """False, whatever NMIC says."""
        return False


@defect("multi-namespace/private:one-disk")
class OneDisk(Namespace):
    """Takes namespaces of the same names for the same, and those without a name too."""

    @property
    def shared(self) -> bool:
        """True, whatever NMIC says."""
        return True


@defect("multi-namespace/private:by-nsid")
class ByNsid(Service):
    """Takes the first namespace of that id, on whatever controller."""

    def namespace(self, arguments: Mapping[str, Any], stage: str) -> Namespace:
        """Return the namespace by its id alone."""
        return super().namespace({**arguments, "serial": ""}, stage)


@defect("multi-namespace/many:sixteen")
class Sixteen(Identification):
    """Has room for sixteen namespaces."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the first sixteen ids."""
        return super().active_namespaces(identity)[:16]
