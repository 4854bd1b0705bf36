"""Legal questions and settings that few drivers have: whatever a controller may be asked, it answers or refuses."""

from __future__ import annotations

from contextlib import suppress

from lab.nvme import commands as c
from lab.nvme.features import Fid, HostMemoryDescriptor
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid
from lab.nvme.registers import VS
from lab.reference.async_events import Events
from lab.reference.controller import LAST, Controller
from lab.reference.errors import CommandFailed, DriverError
from lab.reference.namespace import Namespace
from lab.reference.shadow_doorbells import ShadowDoorbells
from lab.reference.transport import Memory
from lab.variants.variant import variant

EVERYTHING = c.BROADCAST_NSID
LISTS_SINCE = VS.of(MJR=1, MNR=1)
"""A controller of 1.0 knows the first two structures only."""
LENT = ("features/host-memory",)
LENDING = 'Base 2.0, 5.27.1.10 "Host Memory Buffer": '
DESCRIBED = 16
"""Bytes of a descriptor of lent memory."""
HEALTHY_TEMPERATURE, ALL_SENSORS, UNDER = 350, 0xF << 16, 1 << 20
LOGS = {
    Lid.SUPPORTED_LOG_PAGES: (1024, 0), Lid.ERROR_INFORMATION: (64, EVERYTHING), Lid.FIRMWARE_SLOT: (512, EVERYTHING),
    Lid.COMMANDS_SUPPORTED: (4096, EVERYTHING), Lid.DEVICE_SELF_TEST: (564, EVERYTHING),
}  # fmt: skip
"""Log pages: their bytes, and the namespace id that means the whole controller."""


@variant(
    "features/asks-for-everything",
    allowed="Base 2.0, 5.15 to 5.17 and 5.27: a host may ask for any of them; what is not there is refused",
    scenarios=("admin-queue/basic",),
    warns=("features/log-gated",),
)
class AsksForEverything(Controller):
    """Asks, once it is up, for lists, log pages and features, and sets features to values that change little."""

    asked: Memory | None = None

    def start(self, until: str = LAST) -> None:
        """Start as usual, and ask then."""
        super().start(until)
        if until == LAST and not self.is_administrative and self.version >= LISTS_SINCE:
            self.asked = self.asked or self.ring_memory(self.page_size)
            for command in (*self.structures(), *self.logs(), *self.settable()):
                with suppress(DriverError):
                    self.execution.run(self.admin, [command], retry=False)

    def structures(self) -> list[c.Command]:
        """Return Identify of structures that need a selector or belong to namespace management."""
        assert self.asked is not None
        asked: list[dict[str, int]] = [
            {"CNS": Cns.ATTACHED_CONTROLLERS, "NSID": next(iter(self.namespaces), 1)}, {"CNS": Cns.CONTROLLERS, "CNTID": 1},
            {"CNS": Cns.IO_COMMAND_SETS, "CNTID": 0xFFFF}, {"CNS": Cns.CSI_ACTIVE_NAMESPACES},
        ]  # fmt: skip
        if self.known_identity.OACS.NAMESPACE_MANAGEMENT:
            asked += [{"CNS": Cns.ALLOCATED_NAMESPACES}, {"CNS": Cns.NAMESPACE, "NSID": EVERYTHING}]
        return [c.Identify.of(PRP1=self.asked.address, **one) for one in asked]

    def logs(self) -> list[c.Command]:
        """Return Get Log Page of what has no event."""
        assert self.asked is not None
        return [c.GetLogPage.reading(lid, n, NSID=nsid, PRP1=self.asked.address) for lid, (n, nsid) in LOGS.items()]

    def settable(self) -> list[c.Command]:
        """Return Get Features of the whole controller, and Set Features of what changes nothing that matters."""
        wanted = Fid.ARBITRATION, Fid.TEMPERATURE_THRESHOLD, Fid.VOLATILE_WRITE_CACHE, Fid.NUMBER_OF_QUEUES
        values = [
            (Fid.POWER_MANAGEMENT, 0), (Fid.WRITE_ATOMICITY, 1), (Fid.TEMPERATURE_THRESHOLD, HEALTHY_TEMPERATURE),
            (Fid.TEMPERATURE_THRESHOLD, ALL_SENSORS | HEALTHY_TEMPERATURE), (Fid.TEMPERATURE_THRESHOLD, UNDER),
        ]  # fmt: skip
        used = {pair.vector for pair in self.io if pair.vector is not None}
        values += [(Fid.INTERRUPT_VECTOR_CONFIG, 1 << 16 | vector) for vector in sorted(used)]
        if self.known_identity.KAS:
            values += [(Fid.KEEP_ALIVE_TIMER, 0)]
        return [
            *(c.GetFeatures.of(FID=fid, NSID=EVERYTHING) for fid in wanted),
            *(c.SetFeatures.of(FID=fid, CDW11=value) for fid, value in values),
        ]


@variant(
    "features/events-after-requests",
    allowed='Base 2.0, 5.27.1.8 "Asynchronous Event Configuration": the feature may be set at any time',
    scenarios=("admin-queue/basic",),
)
class EventsAfterRequests(Events):
    """Sends its event requests first, and says then which events it wants."""

    def arm(self) -> None:
        """Send the requests, and set the feature."""
        self._outstanding = 0
        self.fill()
        with suppress(CommandFailed):
            self._execution.admin(c.SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=self.wanted()))


@variant("features/lends-in-two", allowed=LENDING + "the list has any number of descriptors", scenarios=LENT)
class LendsInTwo(Controller):
    """Lends memory by two descriptors."""

    def lending(self, listed: Memory, pages: int) -> c.SetFeatures:
        """Return the command for two descriptors of half of the memory each."""
        assert self._lent is not None
        half, address = pages // 2, self._lent[0].address
        listed.write(0, HostMemoryDescriptor.of(BADD=address, BSIZE=half))
        listed.write(DESCRIBED, HostMemoryDescriptor.of(BADD=address + half * self.page_size, BSIZE=pages - half))
        return super().lending(listed, pages).but(CDW15=2)


@variant("features/lends-again", allowed=LENDING + "what was taken back is the host's, and may be lent again", scenarios=LENT)
class LendsAgain(Controller):
    """Takes lent memory back as soon as it has lent it, writes to it, and lends it once more."""

    def lend_memory(self) -> None:
        """Lend, take back, and lend."""
        super().lend_memory()
        if self._lent is not None:
            memory, listed = self._lent
            with suppress(CommandFailed):
                self.execution.admin(c.SetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER))
                memory.write(0, bytes(memory.page_size))
                self.execution.admin(self.lending(listed, len(memory) // memory.page_size))


@variant(
    "write/zeroes-unprotected",
    allowed='NVM 1.0, 3.2.8 "Write Zeroes command": with PRACT=0 the protection information is all ones',
    scenarios=("read/protected",),
)
class ZeroesUnprotected(Namespace):
    """Has no protection information made by Write Zeroes."""

    def protection(self, kind: type[c.LbaCommand], lba: int) -> dict[str, int]:
        """Return nothing for Write Zeroes."""
        return {} if kind is c.WriteZeroes else super().protection(kind, lba)


@variant(
    "multi-namespace/identifies-together",
    allowed='Base 2.0, 3.3.3.1 "Submission Queue Entry": commands are independent of each other, also those of the admin queue',
    scenarios=("multi-namespace/many",),
)
class IdentifiesTogether(Controller):
    """Identifies namespaces by commands that are in flight together."""

    def scan(self) -> None:
        """Find the namespaces, and identify the first few once more, together."""
        super().scan()
        some = list(self.namespaces)[:6]
        buffers = [self.transport.allocate(self.page_size, self.page_size) for _ in some]
        together = [c.Identify.of(NSID=nsid, PRP1=one.address) for nsid, one in zip(some, buffers, strict=True)]
        with suppress(CommandFailed):
            self.execution.run(self.admin, together, depth=3)
        for one in buffers:
            self.data.release(one)


@variant(
    "multiqueue/rings-always",
    allowed='Base 2.0, B.5 "Shadow Doorbell Buffer Overview": a doorbell may be written unasked',
    scenarios=("multiqueue/shadow",),
)
class RingsAlways(ShadowDoorbells):
    """Writes each doorbell beside its shadow."""

    def must_ring(self, qid: int, *, completion: bool, value: int) -> bool:
        """Write the shadow, and return that the doorbell is wanted."""
        super().must_ring(qid, completion=completion, value=value)
        return True
