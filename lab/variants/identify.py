"""Legal ways to ask a controller who it is, what it holds, and how it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from lab.nvme.commands import BROADCAST_NSID, Command, GetLogPage
from lab.nvme.identify import Cns, Csi, IdentifyController, IdentifyNamespace, NamespaceList
from lab.nvme.logs import Lid, Smart
from lab.reference.controller import CAP_CSS_SETS, Controller
from lab.reference.errors import CommandFailed
from lab.reference.execution import Execution
from lab.reference.health import Health
from lab.reference.identification import ACTIVE_LIST_SINCE, Identification, Identifiers
from lab.reference.request import Request
from lab.reference.transport import Memory
from lab.variants.variant import variant

BASIC = ("identify/basic",)
RETRY = 'Base 2.0, 9.1 "Command and Queue Error Handling": the host may retry a command that failed; nothing obliges it to'


@variant(
    "identify/each-id",
    allowed='Base 2.0, 5.17.2.1 "Identify Controller", NN: every id up to NN may be asked for by CNS 00h',
    scenarios=("multi-namespace/sparse",),
)
class EachId(Identification):
    """Asks CNS 00h for every id up to NN instead of reading the list of active ones."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return all ids up to NN, or the list where NN is beyond 1024."""
        return list(range(1, identity.NN + 1)) if identity.NN <= 1024 else super().active_namespaces(identity)


@variant(
    "identify/one-by-one",
    allowed='Base 2.0, 5.17.2.2 "Active Namespace ID list": ids greater than NSID, so that a list may be asked from any id on',
    scenarios=("multi-namespace/sparse",),
    excludes=("identify/each-id",),
)
class OneByOne(Identification):
    """Takes one id of each list of active namespaces and asks again from that id on."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the active ids, each from a list that begins after the one before."""
        if self._c.version < ACTIVE_LIST_SINCE:
            return super().active_namespaces(identity)
        found = [0]
        while ids := NamespaceList(self.identify(Cns.ACTIVE_NAMESPACES, found[-1])).ids:
            found.append(ids[0])
        return found[1:]


@variant(
    "identify/no-descriptors",
    allowed='Base 2.0, 5.17.2.3 "Namespace Identification Descriptor list": the host may do without it',
    scenarios=BASIC,
)
class NoDescriptors(Identification):
    """Takes the identifiers from CNS 00h only and never asks for the descriptors of CNS 03h."""

    def identifiers(self, nsid: int, identity: IdentifyNamespace) -> Identifiers:
        """Return NGUID and EUI64 as Identify Namespace has them."""
        names = {name: raw.hex() if any(raw) else "" for name, raw in (("nguid", identity.NGUID), ("eui64", identity.EUI64))}
        zoned: Sequence[int] = ()
        if self._c.cap.CSS & CAP_CSS_SETS:
            with suppress(CommandFailed):
                zoned = NamespaceList(self.identify_zoned(Cns.CSI_ACTIVE_NAMESPACES)).ids
        return Identifiers(**names, csi=Csi.ZONED if nsid in zoned else Csi.NVM)


@variant(
    "identify/list-first",
    allowed='Base 2.0, 3.5.1 "Memory-based Controller Initialization": nothing orders the Identify commands among themselves',
    scenarios=BASIC,
)
class ListFirst(Controller):
    """Reads the list of active namespaces before it asks who the controller is."""

    def identify(self) -> None:
        """Read the list of active namespaces where the version has it, and identify."""
        if self.version >= ACTIVE_LIST_SINCE:
            with suppress(CommandFailed):
                self.identification.identify(Cns.ACTIVE_NAMESPACES)
        super().identify()


@variant(
    "identify/two-pages",
    allowed='Base 2.0, 5.17 "Identify command": the buffer is PRP1 and PRP2, so that it may begin inside a page',
    scenarios=BASIC,
)
class TwoPages(Execution):
    """Reads what admin commands return into buffers that begin in the middle of a page."""

    def admin_in(self, command: Command, length: int) -> bytes:
        """Return the data, read through a buffer that begins in the middle of a page."""
        offset = self._c.page_size // 2
        lists = list[Memory]()
        try:
            with self._data.buffer(offset + length) as memory:
                self.admin(self._data.describe(command, memory, offset, length, lists))
                return memory.read(offset, length)
        finally:
            for page in lists:
                self._data.release(page)


@variant(
    "identify/asks-more",
    allowed='Base 2.0, 5.17 "Identify command": a controller answers a CNS that it does not support with Invalid Field',
    scenarios=BASIC,
)
class AsksMore(Controller):
    """Asks for Identify data that only newer controllers have, and takes no for an answer."""

    def identify(self) -> None:
        """Identify, and ask for four further structures whose refusal does not matter."""
        super().identify()
        if self.version < ACTIVE_LIST_SINCE:
            return
        for cns in (Cns.CSI_CONTROLLER, Cns.IO_COMMAND_SETS, Cns.ALLOCATED_NAMESPACES, Cns.CONTROLLERS):
            with suppress(CommandFailed):
                self.identification.identify(cns)


@variant(
    "identify/asks-twice",
    allowed='Base 2.0, 5.17 "Identify command": it may be sent as often as the host likes',
    scenarios=BASIC,
)
class AsksTwice(Identification):
    """Asks who the controller is twice, as firmware and a system behind it do."""

    def controller(self) -> IdentifyController:
        """Return the second answer."""
        super().controller()
        return super().controller()


@variant(
    "identify/no-retries", allowed=RETRY, scenarios=("reset/retries",), warns=("multi-namespace/ana",), settings={"retries": 0}
)
class NoRetries(Controller):
    """Tries no command a second time."""


@variant("identify/stubborn", allowed=RETRY, scenarios=("reset/retries",), settings={"retries": 8})
class Stubborn(Controller):
    """Tries a failed command nine times."""


@variant(
    "identify/retries-at-once",
    allowed='Base 2.0, 3.3.3.2.1 "Status Field Definition", CRD: the host should wait, so that it need not',
    scenarios=("reset/retry-delay",),
    warns=("reset/crd", "multi-namespace/ana"),
)
class RetriesAtOnce(Execution):
    """Retries without the delay that the controller asks for by CRD."""

    def retry_delay(self, request: Request) -> float:
        """Return 0 s."""
        return 0.0


@variant("identify/retries-dnr", allowed=RETRY, scenarios=("reset/retries",), warns=("reset/retries",))
class RetriesDnr(Execution):
    """Tries a command once more although DNR says that it will fail again."""

    def should_retry(self, request: Request) -> bool:
        """Return True also after a first attempt that ended with DNR=1."""
        final = request.completion is not None and bool(request.completion.DNR)
        return super().should_retry(request) or (final and self._c.failed is None and request.attempts < 2)


@variant(
    "identify/polls-health",
    allowed='Base 2.0, 5.16 "Get Log Page command": SMART may be read at any time',
    scenarios=BASIC,
)
class PollsHealth(Controller):
    """Reads the SMART log whenever it comes up, and after each scan."""

    def scan(self) -> None:
        """Scan, and read the SMART log."""
        super().scan()
        with suppress(CommandFailed):
            self.health.smart()


@variant(
    "identify/smart-of-nsid-0",
    allowed='Base 2.0, 5.16.1.3 "SMART / Health Information": NSID 0h and FFFFFFFFh both ask for the controller\'s log page',
    scenarios=("features/smart",),
)
class SmartOfNone(Health):
    """Asks for the controller's SMART log with NSID 0 instead of FFFFFFFFh."""

    def command(self, lid: int, length: int, offset: int, nsid: int) -> GetLogPage:
        """Return the command; for the controller's SMART log with NSID 0."""
        return super().command(lid, length, offset, 0 if lid == Lid.SMART and nsid == BROADCAST_NSID else nsid)


@variant(
    "identify/log-in-parts",
    allowed='Base 2.0, 5.16 "Get Log Page command": a page may be read in parts, by the offset, where LPA bit 2 is 1',
    scenarios=("features/smart",),
)
class LogInParts(Health):
    """Reads log pages in parts of 64 bytes."""

    def log(self, lid: int, length: int, *, nsid: int = BROADCAST_NSID) -> bytes:
        """Return the log page, read 64 bytes at a time where LPA allows offsets."""
        if not self.offsets or length <= 64:
            return super().log(lid, length, nsid=nsid)
        parts = []
        for at in range(0, length, 64):
            size = min(64, length - at)
            parts.append(self._execution.admin_in(self.command(lid, size, at, nsid), size))
        return b"".join(parts)


@variant(
    "identify/keeps-event",
    allowed='Base 2.0, 5.16 "Get Log Page command", RAE: the event may be retained, and cleared by a later command with RAE 0',
    scenarios=("features/smart",),
    excludes=("identify/log-in-parts",),
)
class KeepsEvent(Health):
    """Reads a log page with Retain Asynchronous Event first, and a second time to clear the event."""

    def log(self, lid: int, length: int, *, nsid: int = BROADCAST_NSID) -> bytes:
        """Read up to 512 bytes with RAE=1, and return the log page."""
        size = min(length, Smart.SIZE)
        kept = self.command(lid, size, 0, nsid)
        self._execution.admin_in(kept.but(RAE=1), size)
        return super().log(lid, length, nsid=nsid)


@variant(
    "identify/rounds-up",
    allowed='Base 2.0, 5.16 "Get Log Page command", NUMDL: more than the page has may be asked for',
    scenarios=("features/smart",),
    excludes=("identify/log-in-parts", "identify/keeps-event"),
)
class RoundsUp(Health):
    """Asks for SMART with a length of 4096 bytes, into a buffer of that size."""

    def smart(self) -> Smart:
        """Return the log from a transfer of 4096 bytes."""
        return Smart(self.log(Lid.SMART, 4096)[: Smart.SIZE])
