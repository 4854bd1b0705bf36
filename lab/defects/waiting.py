"""Defects of drivers that leave a controller no time."""

from __future__ import annotations

from lab.defects.defect import defect
from lab.nvme.commands import DoorbellBufferConfig
from lab.nvme.registers import CSTS
from lab.reference.controller import Controller
from lab.reference.execution import Execution
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.shadow_doorbells import ShadowDoorbells


@defect("reset/pp:not-looked-at", scenarios=("reset/paused",))
class PauseNotLookedAt(Registers):
    """Takes a controller that pauses for one that hangs."""

    def status(self) -> CSTS:
        """Read CSTS, and forget PP."""
        return super().status().but(PP=0)


@defect("multi-namespace/ana:at-once", scenarios=("multi-namespace/ana",))
class RetriesDuringTransition(Execution):
    """Retries at once what fails because of a transition."""

    def transition_delay(self, request: Request) -> float:
        """Return no delay."""
        return 0.0


@defect("multiqueue/shadow-buffers:one-page", scenarios=("multiqueue/shadow",))
class OneShadowPage(Controller):
    """Has shadow doorbells and EventIdxs in one page, half each."""

    def shadow_command(self, shadows: ShadowDoorbells) -> DoorbellBufferConfig:
        """Return Doorbell Buffer Config with PRP2 in the middle of PRP1's page."""
        command = super().shadow_command(shadows)
        return command.but(PRP2=command.PRP1 + self.page_size // 2)


@defect("multiqueue/shadow-buffers:the-same", scenarios=("multiqueue/shadow",))
class TheSameShadowPage(Controller):
    """Names one page for both buffers."""

    def shadow_command(self, shadows: ShadowDoorbells) -> DoorbellBufferConfig:
        """Return Doorbell Buffer Config with one page."""
        command = super().shadow_command(shadows)
        return command.but(PRP2=command.PRP1)
