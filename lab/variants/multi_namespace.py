"""Legal ways to deal with several namespaces."""

from __future__ import annotations

from lab.nvme.commands import Identify
from lab.nvme.identify import SIZE, Cns, IdentifyController, IdentifyNamespace
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
