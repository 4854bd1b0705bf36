"""Legal ways to wait for a controller that asks for time."""

from __future__ import annotations

from lab.nvme.logs import Lid
from lab.reference.controller import Controller
from lab.reference.execution import Execution
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.variants.variant import variant

ANA_HEADER = 16


@variant(
    "multi-namespace/reads-ana-log",
    allowed='Base 2.0, 8.10 "Host Operation with Asymmetric Namespace Access Reporting": the log page holds the state too',
    scenarios=("multi-namespace/ana",),
)
class ReadsAnaLog(Execution):
    """Reads the ANA log page before it retries what fails because of a transition, and waits no longer."""

    def transition_delay(self, request: Request) -> float:
        """Read the log page, and return no delay."""
        if super().transition_delay(request) and isinstance(self._c, Controller):
            self._c.health.log(Lid.ANA, ANA_HEADER)
        return 0.0


@variant(
    "reset/looks-often",
    allowed='Base 2.0, 3.1.3.6 "Offset 1Ch: CSTS – Controller Status": it may be read at any time',
    scenarios=("reset/paused",),
)
class LooksOften(Execution):
    """Reads CSTS twice each time that it looks for a dead controller."""

    def check_progress(self, pair: QueuePair, now: float) -> None:
        """Read CSTS once more, and look as usual."""
        self._c.registers.status()
        super().check_progress(pair, now)


@variant(
    "multiqueue/shadows-apart",
    allowed='Base 2.0, 5.8 "Doorbell Buffer Config command": the buffers are any two memory pages',
    scenarios=("multiqueue/shadow",),
)
class ShadowsApart(Controller):
    """Leaves memory between the shadow doorbells and the EventIdxs."""

    def configure_shadows(self) -> None:
        """Allocate the buffers with pages between them, and configure them."""
        assert self.identity is not None
        if self.identity.OACS.DOORBELL_BUFFER and self._shadows is None:
            indexes, _, doorbells = (self.ring_memory(self.page_size) for _ in range(3))
            self._shadows = self.parts.shadow_doorbells(self.transport, doorbells, indexes, self.cap.DSTRD)
        super().configure_shadows()
