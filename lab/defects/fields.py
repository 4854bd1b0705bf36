"""Defects of single fields of commands, each with its legal neighbour."""

from __future__ import annotations

from contextlib import suppress

from lab.defects.defect import defect
from lab.defects.senders import sends
from lab.nvme import commands as c
from lab.nvme.async_events import AsyncEvent
from lab.nvme.commands import Command
from lab.nvme.features import Fid
from lab.nvme.identify import Cns, IdentifyNamespace
from lab.nvme.logs import Lid
from lab.reference.async_events import Events
from lab.reference.controller import LAST, Controller
from lab.reference.data import DataPath
from lab.reference.errors import CommandFailed, DriverError
from lab.reference.identification import Identification, Identifiers
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.ring import CompletionRing
from lab.reference.transport import Memory

SLOT_BYTES = 64


@defect("admin-queue/nsid-unused:create-cq", scenarios=("io-queues/basic",))
class NsidInCreate(Controller):
    """Leaves the namespace id of an earlier command in Create I/O Completion Queue."""

    def create_cq_command(self, pair: QueuePair) -> c.CreateIoCq:
        """Return the command with NSID=1."""
        return super().create_cq_command(pair).but(NSID=1)


@defect("admin-queue/prp2-unused:create-sq", scenarios=("io-queues/basic",))
class Prp2InCreate(Controller):
    """Names the page behind the ring in PRP2 of Create I/O Submission Queue."""

    def create_sq_command(self, pair: QueuePair) -> c.CreateIoSq:
        """Return the command with the page after PRP1 in PRP2."""
        command = super().create_sq_command(pair)
        return command.but(PRP2=command.PRP1 + self.page_size)


@defect("admin-queue/prp2-unused:identify", scenarios=("admin-queue/basic",))
class Prp2InIdentify(DataPath):
    """Names a second page in PRP2, whether the data reaches it or not."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with PRP2 never 0."""
        described = super().describe(command, memory, offset, length, lists)
        return described if described.PRP2 else described.but(PRP2=memory.pages[0])


@defect("admin-queue/mptr-unused:stale", scenarios=("admin-queue/basic",))
class StaleMptr(DataPath):
    """Leaves the metadata pointer of an earlier command in admin commands."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with MPTR set."""
        return super().describe(command, memory, offset, length, lists).but(MPTR=memory.pages[0])


@defect("admin-queue/admin-prp:psdt", scenarios=("admin-queue/basic",))
class AdminSgl(DataPath):
    """Sets PSDT to 01b in admin commands."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with PSDT=01b."""
        return super().describe(command, memory, offset, length, lists).but(PSDT=1)


@defect("admin-queue/cid-ffff:from-the-top", scenarios=("admin-queue/basic",))
class FromTheTop(QueuePair):
    """Counts command identifiers down from FFFFh."""

    def new_cid(self) -> int:
        """Return identifiers from FFFFh down."""
        return 0xFFFF - super().new_cid()


@defect("io-queues/nsqr-max:all-of-them", scenarios=("io-queues/basic",))
class AllQueues(Controller):
    """Asks for as many queues as the field holds."""

    def granted_queues(self) -> int:
        """Ask for 65536 queues of each kind, and then as usual."""
        self.execution.admin(c.SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=0xFFFF_FFFF))
        return super().granted_queues()


@defect("admin-queue/sqe-stable:scrubs", scenarios=("io-queues/watched",))
class Scrubs(QueuePair):
    """Clears the last entry as soon as it has rung for it."""

    def ring(self) -> None:
        """Ring, and then overwrite the entry in the slot before the tail."""
        super().ring()
        if self.qid and self.outstanding:
            last = (self.submission.tail - 1) % self.submission.entries
            self.submission.memory.write(last * SLOT_BYTES, bytes(SLOT_BYTES))


@defect("io-queues/cqe-untouched:clears-ahead", scenarios=("io-queues/watched",))
class ClearsAhead(CompletionRing):
    """Clears the first dword of the slot behind the one that it is about to take."""

    def advance(self) -> None:
        """Move the head, and then clear the slot that it is at."""
        super().advance()
        self.memory.write(self.head * self.size, bytes(4))


@defect("features/event-cleared:retains", scenarios=("reset/events", "features/warning"))
class Retains(Events):
    """Goes on without reading the log page that an event names."""

    def act(self, event: AsyncEvent) -> None:
        """Scan for namespaces without reading the log page, so that the event stays masked."""
        self._rescan()


@defect("identify/cns-by-version:descriptors", scenarios=("identify/version-1.0",))
class DescriptorsAnyway(Identification):
    """Asks for identification descriptors whatever the controller's version."""

    def identifiers(self, nsid: int, identity: IdentifyNamespace) -> Identifiers:
        """Ask for CNS 03h first, and then as usual."""
        with suppress(CommandFailed):
            self.identify(Cns.NAMESPACE_DESCRIPTORS, nsid)
        return super().identifiers(nsid, identity)


class Meanwhile(Controller):
    """The driver that submits an admin command, and I/O before it has ended."""

    admin_command: Command = Command.of()

    def start(self, until: str = LAST) -> None:
        """Start as usual, and send both."""
        super().start(until)
        if until == LAST:
            self.admin.submit(Request(self.admin_command, lambda request: None), self.transport.now())
            self.admin.ring()
            with suppress(DriverError):
                self.execution.run(self.io[0], [c.Flush.of(NSID=1)], retry=False)


@defect("features/format-quiet:busy", scenarios=("features/slow-format",))
class BusyFormat(Meanwhile):
    """Goes on with I/O while a namespace is being formatted."""

    admin_command = c.FormatNvm.of(NSID=1)


@defect("features/sanitize-quiet:busy", scenarios=("features/slow-sanitize",))
class BusySanitize(Meanwhile):
    """Goes on with I/O while it waits for Sanitize."""

    admin_command = c.Sanitize.of(SANACT=2)


# -- by what is sent ------------------------------------------------------------------------------------------------------

sends(
    "admin-queue/nsid-unused:keep-alive",
    "Names a namespace in Keep Alive.",
    lambda driver: [c.KeepAlive.of(NSID=1)],
    lambda driver: [c.KeepAlive.of()],
)
sends(
    "admin-queue/opcode:unknown",
    "Sends an admin command that no controller knows.",
    lambda driver: [Command.of(OPC=0x48)],
    lambda driver: [c.Identify.of(CNS=0xFF)],
)
sends(
    "admin-queue/acl:many",
    "Aborts as many commands at once as it likes.",
    lambda driver: [c.Abort.of(SQID=0, ABORT_CID=n) for n in range(8)],
    lambda driver: [c.Abort.of(SQID=0, ABORT_CID=0)],
    together=True,
    scenarios=("admin-queue/slow-abort",),
)
sends(
    "io-queues/qid0:deletes-all",
    "Deletes all queues, the admin queue too.",
    lambda driver: [c.DeleteIoSq.of(QID=0)],
    lambda driver: [c.DeleteIoSq.of(QID=0x7F)],
    scenarios=("io-queues/basic",),
)
sends(
    "io-queues/ivc-order:all-vectors",
    "Configures vectors that no completion queue uses.",
    lambda driver: [c.SetFeatures.of(FID=Fid.INTERRUPT_VECTOR_CONFIG, CDW11=8)],
    lambda driver: [c.SetFeatures.of(FID=Fid.INTERRUPT_VECTOR_CONFIG, CDW11=driver.io[0].vector or 0)],
    scenarios=("io-queues/basic",),
)
sends(
    "read/sgl-gate:not-offered",
    "Describes data by SGLs to a controller that takes none.",
    lambda driver: [c.Flush.of(NSID=1, PSDT=1)],
    lambda driver: [c.Flush.of(NSID=1)],
    io=True,
    scenarios=("read/basic",),
)
sends(
    "read/sgl-shape:no-such-type",
    "Builds an SGL of a descriptor type that there is not.",
    lambda driver: [_sgl(driver, 0xF0)],
    lambda driver: [_sgl(driver, 0x00)],
    io=True,
    scenarios=("read/sgl-offered",),
)
sends(
    "read/sgl-shape:too-long",
    "Gives an SGL twice the bytes that the command moves, which SGLS does not offer.",
    lambda driver: [_sgl(driver, 0x00, 1024)],
    lambda driver: [_sgl(driver, 0x00)],
    io=True,
    scenarios=("read/sgl-offered",),
)
sends(
    "read/mptr-aligned:odd",
    "Puts metadata at an odd address.",
    lambda driver: [_with_metadata(driver, 1)],
    lambda driver: [_with_metadata(driver, 0)],
    io=True,
    scenarios=("identify/metadata",),
)
sends(
    "features/io-gated:verify",
    "Sends Verify without looking at ONCS.",
    lambda driver: [c.Verify.of(NSID=1)],
    None,
    io=True,
    scenarios=("features/no-optional",),
)
sends(
    "features/admin-gated:self-test",
    "Starts a self-test without looking at OACS.",
    lambda driver: [c.DeviceSelfTest.of(STC=1)],
    None,
    scenarios=("features/no-optional",),
)
sends(
    "write/zeroes-deac:always",
    "Sets DEAC whatever DLFEAT says.",
    lambda driver: [c.WriteZeroes.of(NSID=1, SLBA=900, DEAC=1)],
    lambda driver: [c.WriteZeroes.of(NSID=1, SLBA=900)],
    io=True,
    scenarios=("features/trim-keeps",),
)
sends(
    "write/copy-limits:256-ranges",
    "Copies from as many ranges as the field counts.",
    lambda driver: [c.Copy.of(NSID=1, SDLBA=900, NR=255, DESFMT=15)],
    lambda driver: [c.Copy.of(NSID=1, SDLBA=900, NR=0, PRP1=driver.io[0].submission.memory.address)],
    io=True,
    scenarios=("write/basic",),
)
sends(
    "write/fused-pair:alone",
    "Sends the first command of a fused operation, and no second one.",
    lambda driver: [c.Compare.of(NSID=1, FUSE=1)],
    lambda driver: [c.Compare.of(NSID=1, FUSE=1), c.Write.of(NSID=1, FUSE=2)],
    io=True,
    together=True,
    scenarios=("multi-namespace/one-of-many",),
)
sends(
    "write/directive-enable:streams",
    "Names a stream in a write without having enabled streams.",
    lambda driver: [c.Write.of(NSID=0x77, DTYPE=1, DSPEC=1)],
    lambda driver: [c.Write.of(NSID=0x77)],
    io=True,
    scenarios=("multi-namespace/one-of-many",),
)
sends(
    "features/value-reserved:arbitration",
    "Sets a reserved bit of the Arbitration feature.",
    lambda driver: [c.SetFeatures.of(FID=Fid.ARBITRATION, CDW11=0x87)],
    lambda driver: [c.SetFeatures.of(FID=Fid.ARBITRATION, CDW11=0x07)],
)
sends(
    "features/hmb-shape:empty",
    "Enables a host memory buffer without a list of descriptors.",
    lambda driver: [c.SetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER, CDW11=1, CDW12=16)],
    lambda driver: [c.SetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER, CDW11=1, CDW12=16, CDW13=0x1000, CDW15=1)],
)
sends(
    "features/hmb-wanted:unasked",
    "Lends memory to a controller that asks for none.",
    lambda driver: [c.SetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER, CDW11=1, CDW12=16, CDW13=0x1000, CDW15=1)],
    None,
)
sends(
    "features/apst:not-offered",
    "Enables autonomous power states that the controller does not have.",
    lambda driver: [c.SetFeatures.of(FID=Fid.AUTONOMOUS_POWER_STATE_TRANSITION, CDW11=1)],
    None,
)
sends(
    "features/power-state:last",
    "Selects power state 31, whatever NPSS says.",
    lambda driver: [c.SetFeatures.of(FID=Fid.POWER_MANAGEMENT, CDW11=31)],
    lambda driver: [c.SetFeatures.of(FID=Fid.POWER_MANAGEMENT, CDW11=0)],
)
sends(
    "features/ns-scope:named",
    "Names a namespace where it sets a feature of the whole controller.",
    lambda driver: [c.SetFeatures.of(FID=Fid.ARBITRATION, CDW11=7, NSID=1)],
    lambda driver: [c.SetFeatures.of(FID=Fid.ARBITRATION, CDW11=7, NSID=0xFFFF_FFFF)],
)
sends(
    "features/keep-alive:forgotten",
    "Sets a Keep Alive time-out and forgets it.",
    lambda driver: [c.SetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER, CDW11=1)],
    lambda driver: [c.SetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER, CDW11=100_000), c.KeepAlive.of()],
    scenarios=("io-queues/backlog",),
)
sends(
    "features/log-aligned:odd",
    "Reads a log page from byte 2 on.",
    lambda driver: [_log(driver, 2)],
    lambda driver: [_log(driver, 4)],
)


def _sgl(driver: Controller, kind: int, length: int = 512) -> Command:
    """Return a Read of one block into the admin completion ring's page, by one SGL descriptor of this type and length."""
    at = driver.io[0].completion.memory.address + 3072
    descriptor = at.to_bytes(8, "little") + length.to_bytes(4, "little") + bytes(3) + bytes([kind])
    return c.Read.of(NSID=1, SLBA=0, PSDT=1, SGL1=descriptor)


def _with_metadata(driver: Controller, inside: int) -> Command:
    at = driver.admin.completion.memory.address
    return c.Read.of(NSID=1, SLBA=0, PRP1=at + 2048, MPTR=at + 3072 + inside)


def _log(driver: Controller, offset: int) -> Command:
    at = driver.admin.completion.memory.address + 2048
    return c.GetLogPage.reading(Lid.SMART, 16, offset, PRP1=at)
