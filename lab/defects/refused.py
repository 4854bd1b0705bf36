"""Defects that show where something is refused, goes on, or is longer than usual."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from lab.defects.defect import defect
from lab.nvme.commands import SetFeatures, WriteZeroes
from lab.nvme.features import HostMemoryDescriptor
from lab.nvme.identify import Cns, IdentifyController, NamespaceList
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed
from lab.reference.features import Features
from lab.reference.identification import LIST_LENGTH, Identification
from lab.reference.namespace import Namespace
from lab.reference.transport import Memory

LENT = ("features/host-memory",)


@defect("write/zeroes-error:ignored", scenarios=("write/zeroes-error",))
class ZeroesAnyway(Namespace):
    """Reports blocks as zeroed, whatever the status of Write Zeroes."""

    def zeroes(self, lba: int, blocks: int) -> None:
        """Zero, and forget a failure."""
        with suppress(CommandFailed):
            super().zeroes(lba, blocks)


@defect("write/signature:zeroes-16-bit", scenarios=("write/zeroes-many",))
class ZeroesSixteenBits(Namespace):
    """Keeps the number of blocks to zero in 16 bits."""

    def zeroes(self, lba: int, blocks: int) -> None:
        """Send one command, whose NLB keeps the low bits only."""
        self.check_range(lba, blocks)
        self._run([WriteZeroes.of(NSID=self.nsid, SLBA=lba, NLB=(blocks - 1) & 0xFFFF)])


@defect("features/trim-error:ignored", scenarios=("features/trim-error",))
class TrimsAnyway(Namespace):
    """Reports blocks as trimmed, whatever the status of Dataset Management."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim, and forget a failure."""
        with suppress(CommandFailed):
            super().trim(ranges)


@defect("features/set-refused:ignored", scenarios=("features/unsupported",))
class SetsAnyway(Features):
    """Reports a feature as set, whatever the status of Set Features."""

    def set(self, fid: int, value: int, *, save: bool = False, nsid: int = 0, data: bytes = b"") -> int:
        """Set the feature, and return 0 after a failure."""
        with suppress(CommandFailed):
            return super().set(fid, value, save=save, nsid=nsid, data=data)
        return 0


@defect("multi-namespace/second-list:first-only", scenarios=("multi-namespace/hundreds",))
class FirstListOnly(Identification):
    """Reads one list of namespaces."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the ids of the first list."""
        return list(NamespaceList(self.identify(Cns.ACTIVE_NAMESPACES)).ids)


@defect("multi-namespace/second-list:plus-one", scenarios=("multi-namespace/hundreds",))
class OneFurther(Identification):
    """Asks for the ids behind the one that follows the last one of a full list."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the ids of all lists, without one behind each full list."""
        found = list[int]()
        while True:
            part = NamespaceList(self.identify(Cns.ACTIVE_NAMESPACES, found[-1] + 1 if found else 0)).ids
            found += part
            if len(part) < LIST_LENGTH:
                return found


@defect("multiqueue/shadow-doorbells:kept-over-reset", scenarios=("multiqueue/shadow-reset",))
class KeptOverReset(Controller):
    """Takes shadow doorbells for configured after a reset."""

    def configure_shadows(self) -> None:
        """Configure them the first time only."""
        if self._shadows is None:
            super().configure_shadows()
        else:
            self._shadows.clear()
            self.registers.shadows = self._shadows


@defect("reset/aer-again:once", scenarios=("reset/asked",))
class ArmsOnce(Controller):
    """Sends event requests when it comes up, and none after a reset."""

    def restart(self) -> None:
        """Perform the steps again, but for the event requests."""
        arm, self.events.arm = self.events.arm, lambda: None  # type: ignore[method-assign]
        try:
            super().restart()
        finally:
            self.events.arm = arm  # type: ignore[method-assign]


@defect("features/hmb-shape:unaligned", scenarios=LENT)
class LendsPartOfAPage(Controller):
    """Lends memory that begins inside a page."""

    def lending(self, listed: Memory, pages: int) -> SetFeatures:
        """Return the command, with a descriptor that begins 512 bytes into a page."""
        assert self._lent is not None
        address = self._lent[0].address + 512
        listed.write(0, HostMemoryDescriptor.of(BADD=address, BSIZE=pages - 1))
        return super().lending(listed, pages - 1)


@defect("features/hmb-list:twice-the-size", scenarios=LENT)
class SaysMore(Controller):
    """Says that it lends twice as many pages as its descriptors name."""

    def lending(self, listed: Memory, pages: int) -> SetFeatures:
        """Return the command with twice the number of pages."""
        return super().lending(listed, pages).but(CDW12=2 * pages)


@defect("features/hmb-list:again", scenarios=LENT)
class LendsAgain(Controller):
    """Lends memory to a controller that has it already."""

    def lend_memory(self) -> None:
        """Lend twice."""
        super().lend_memory()
        super().lend_memory()


@defect("features/hmb-untouched:given-back", scenarios=LENT)
class GivesBackLent(Controller):
    """Gives memory that it has lent the controller back to the system."""

    def lend_memory(self) -> None:
        """Lend memory, and free it."""
        super().lend_memory()
        if self._lent is not None:
            memory, listed = self._lent
            self.transport.free(memory)
            self._lent = self.ring_memory(self.page_size), listed
