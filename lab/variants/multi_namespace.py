"""Legal ways to deal with several namespaces."""

from __future__ import annotations

from lab.nvme.async_events import AsyncEvent
from lab.nvme.commands import BROADCAST_NSID, Identify
from lab.nvme.identify import SIZE, Cns, IdentifyController, IdentifyNamespace
from lab.nvme.logs import ChangedNamespaces, Lid
from lab.reference.async_events import Events
from lab.reference.controller import Controller
from lab.reference.identification import Identification
from lab.reference.namespace import Namespace
from lab.variants.variant import variant


@variant(
    "multi-namespace/falling",
    allowed='Base 2.0, 5.17 "Identify command": namespaces may be identified in any order',
    scenarios=("multi-namespace/many",),
    excludes=("identify/each-id", "identify/one-by-one"),
)
class Falling(Identification):
    """Identifies the namespaces from the highest id down."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the ids, the highest first."""
        return super().active_namespaces(identity)[::-1]


@variant(
    "multi-namespace/scans-before-listing",
    allowed='Base 2.0, 5.17 "Identify command": namespaces may be looked for as often as the host likes',
    scenarios=("multi-namespace/many",),
)
class ScansTwice(Controller):
    """Scans for namespaces twice when it comes up."""

    def identify(self) -> None:
        """Identify, and scan once more."""
        super().identify()
        self.scan()


@variant(
    "multi-namespace/asks-before-each",
    allowed='NVM 1.0, 4.1.5.1 "Identify Namespace data structure": it may be read whenever the host wants to know it',
    scenarios=("multi-namespace/same-blocks",),
)
class AsksBeforeEach(Namespace):
    """Identifies a namespace again before each transfer, to know its size and format."""

    def check_range(self, lba: int, blocks: int) -> None:
        """Identify the namespace, and check the range against the answer."""
        raw = self._execution.admin_in(Identify.of(CNS=Cns.NAMESPACE, NSID=self.nsid), SIZE)
        if any(raw):
            self.identity = IdentifyNamespace(raw)
        super().check_range(lba, blocks)


@variant(
    "multi-namespace/looks-at-the-changed",
    allowed='Base 2.0, 5.16.1.5 "Changed Namespace List": it lists the namespaces that have changed, or FFFFFFFFh for too many',
    scenarios=("multi-namespace/grown", "multi-namespace/changed"),
)
class LooksAtTheChanged(Events):
    """Identifies only the namespaces again that log page 04h lists, and all of them where it holds FFFFFFFFh."""

    def act(self, event: AsyncEvent) -> None:
        """Read the log page, and identify what it lists."""
        driver = self._c
        if event.LID != Lid.CHANGED_NAMESPACES or not isinstance(driver, Controller):
            super().act(event)
            return
        changed = ChangedNamespaces(self._health.log(Lid.CHANGED_NAMESPACES, ChangedNamespaces.SIZE)).ids
        if BROADCAST_NSID in changed:
            self._rescan()
            return
        for nsid in changed:
            identity = driver.identification.namespace(nsid)
            driver.namespaces.pop(nsid, None)
            if identity is not None:
                names = driver.identification.identifiers(nsid, identity)
                driver.namespaces[nsid] = driver.make_namespace(nsid, identity, names)
