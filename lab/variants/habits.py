"""Legal habits of whole systems: what they do around commands, before the first one and after the last."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

from lab.nvme.commands import (
    Abort,
    AsyncEventRequest,
    Command,
    Compare,
    GetLogPage,
    Read,
    SetFeatures,
    Verify,
    WriteZeroes,
)
from lab.nvme.features import Fid, NumberOfQueues
from lab.nvme.identify import Cns
from lab.nvme.logs import ErrorInformation, Lid
from lab.nvme.registers import CC, INTMC, INTMS, VS
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed, CommandTimedOut, DriverError, Refused
from lab.reference.execution import Execution
from lab.reference.namespace import PRACT, Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.variants.reset import BARS, DEVICE_CONTROL, FLR, FLR_SECONDS
from lab.variants.variant import variant

BASIC = ("admin-queue/basic",)
CIDS = 'Base 2.0, 3.3.3.1 "Submission Queue Entry", CID: unique among the outstanding commands of a queue, and no more'
POWER_STATE = 0b11
"""Of PCI's Power Management Control and Status register."""
PM = 0x01
"""The capability of PCI Power Management."""
LISTS_SINCE = VS.of(MJR=1, MNR=1)
"""A controller of 1.0 knows CNS 00h and 01h only; later ones answer what they do not know with Invalid Field."""
WAKE_SECONDS = 0.01
"""From D3hot to D0. PCI Express Base, 5.3.1.4."""


@variant(
    "admin-queue/cid-zero",
    allowed=CIDS,
    scenarios=BASIC,
    settings={"depth": 2, "admin_depth": 2, "events": 0},
    warns=("multiqueue/depth", "multiqueue/scaling", "multiqueue/batch", "reset/aer", "features/critical-warning",
           "multi-namespace/changed", "multi-namespace/resized", "performance/depth"),
)  # fmt: skip
class CidZero(QueuePair):
    """Has one command outstanding on each queue, whose identifier is always 0."""

    def new_cid(self) -> int:
        """Return 0."""
        return 0


@variant(
    "admin-queue/head-each",
    allowed='PCIe 1.0, 3.4.1 "Command Processing", step 8: the host writes the head once it has consumed entries, one at least',
    scenarios=("multiqueue/plain",),
    excludes=("admin-queue/lazy-head", "io-queues/shared-completion-queue", "reset/head-after-shutdown"),
)
class HeadEach(QueuePair):
    """Gives each completion slot back on its own."""

    def match(self, completion):  # type: ignore[no-untyped-def]
        """Match a completion, and give its slot back."""
        found = super().match(completion)
        self._registers.ring(self.qid, completion=True, value=self.completion.head)
        return found

    def give_back(self) -> None:
        """Give nothing back: it is done already."""


@variant(
    "admin-queue/late-vectors",
    allowed='PCIe 1.0, 3.5 "Interrupts": nothing ties MSI-X Enable to CC.EN; a completion waits in memory',
    scenarios=BASIC,
    excludes=("admin-queue/pin", "admin-queue/msi", "admin-queue/polls-masked", "detect/pin-off"),
)
class LateVectors(Controller):
    """Switches on MSI-X only once the controller is ready."""

    ready_for_vectors = False

    def open_vectors(self) -> None:
        """Open the vectors once the controller is ready; it is when it is taken over."""
        if self.ready_for_vectors or not self.vectors or self.registers.read(CC).EN:
            super().open_vectors()

    def wait_ready(self, ready: int) -> None:
        """Wait, and open the vectors when the controller has become ready."""
        super().wait_ready(ready)
        if ready and self.registers.read(CC).EN:
            self.ready_for_vectors = True
            self.open_vectors()
            self.ready_for_vectors = False


@variant(
    "admin-queue/rewrites-cc",
    allowed='Base 2.0, 3.1.3.5 "Offset 14h: CC": no field of it changes',
    scenarios=BASIC,
)
class RewritesCc(Controller):
    """Writes CC once more, as it is, when the controller is ready."""

    def enable(self) -> None:
        """Enable the controller, and write CC as it is."""
        super().enable()
        self.registers.write(self.registers.read(CC))


@variant(
    "admin-queue/masks-by-intms",
    allowed='PCIe 1.0, 3.5.1 "Pin Based, Single MSI, and Multiple MSI Behavior": the host may mask a vector',
    scenarios=("io-queues/pin",),
    warns=("multiqueue/own-vector",),
    excludes=("admin-queue/polling", "admin-queue/pin", "admin-queue/msi", "detect/pin-off", "io-queues/falling-vectors",
              "admin-queue/late-vectors", "admin-queue/polls-masked", "admin-queue/masks-by-intms"),
)  # fmt: skip
class MasksByIntms(Execution):
    """Under INTx: masks the interrupt by INTMS while it looks for completions, and unmasks it by INTMC."""

    def wait(self, pair: QueuePair, in_flight: Collection[Request]) -> list[Request]:
        """Mask and unmask vector 0 before the wait, under INTx."""
        if pci.msix(self._c.transport)[1] or pair.vector is None:
            return super().wait(pair, in_flight)
        with suppress(DriverError):
            self._c.registers.write(INTMS(1))
            self._c.registers.write(INTMC(1))
        return super().wait(pair, in_flight)


@variant(
    "admin-queue/function-reset-first",
    allowed='PCIe 1.0, 3.3 "Resets": a Function Level Reset may be requested at any time, before the first use too',
    scenarios=BASIC,
    excludes=("reset/function-level",),
)
class FunctionResetFirst(Controller):
    """Resets the function when it takes it, before it reads a register."""

    def detect(self) -> None:
        """Reset the function, then detect the controller."""
        transport = self.transport
        at = next((at for kind, at in pci.capabilities(transport) if kind == pci.EXPRESS), 0)
        if at and pci.class_code(transport) == pci.CLASS_NVME:
            bars = {offset: transport.config_read(offset, 4) for offset in BARS}
            transport.config_write(at + DEVICE_CONTROL, 2, transport.config_read(at + DEVICE_CONTROL, 2) | FLR)
            transport.sleep(FLR_SECONDS)
            for offset, value in bars.items():
                transport.config_write(offset, 4, value)
        super().detect()


@variant(
    "reset/sleeps-when-left",
    allowed='PCIe 1.0, 3.6 "Power Management": after a shutdown the host may put the function into D3hot',
    scenarios=("reset/reload",),
    excludes=("admin-queue/function-reset-first",),
)
class SleepsWhenLeft(Controller):
    """Puts the function into D3hot when it leaves it, and wakes it when it takes it again."""

    def power(self, state: int) -> None:
        """Put the function into a power state: 0 for D0, 3 for D3hot."""
        transport = self.transport
        at = next((at for kind, at in pci.capabilities(transport) if kind == PM), 0)
        if at and pci.class_code(transport) == pci.CLASS_NVME:
            before = transport.config_read(at + 4, 2)
            if before & POWER_STATE != state:
                transport.config_write(at + 4, 2, before & ~POWER_STATE | state)
                transport.sleep(WAKE_SECONDS)

    def detect(self) -> None:
        """Wake the function, then detect the controller."""
        self.power(0)
        super().detect()

    def shutdown(self) -> None:
        """Shut the controller down, and put the function to sleep."""
        was_up = self.failed is None and self.stage not in ("", "detect")
        super().shutdown()
        if was_up:
            self.power(POWER_STATE)


@variant(
    "io-queues/created-late",
    allowed='Base 2.0, 5.5 "Create I/O Submission Queue command": queues may be created at any time after RDY=1',
    scenarios=("read/basic",),
    warns=("multiqueue/per-cpu", "multiqueue/scaling", "performance/scaling", "performance/affinity"),
    excludes=("io-queues/shared-completion-queue", "io-queues/completion-queues-first", "io-queues/falling-ids"),
)
class CreatedLate(Controller):
    """Creates one pair of I/O queues when it comes up, and the others one by one as commands come."""

    waiting: tuple[list[int], int] = ([], 0)

    def create_io_queues(self) -> None:
        """Create the first pair, and note the others."""
        entries = self.io_entries()
        granted = self.granted_queues()
        try:
            self.io.append(self.create_pair(1, entries))
        except CommandFailed as failure:
            raise Refused(f"no I/O queue can be created: {failure}") from failure
        self.waiting = list(range(2, granted + 1)), entries

    def pair(self) -> QueuePair:
        """Create one more pair if any is left, and return one to use."""
        qids, entries = self.waiting
        if qids and self.io and self.failed is None:
            with suppress(CommandFailed):
                self.io.append(self.create_pair(qids.pop(0), entries))
        return super().pair()

    def stop(self) -> None:
        """Stop the controller, and forget the pairs that were not created."""
        self.waiting = [], 0
        super().stop()

    def delete_io_queues(self) -> None:
        """Delete the queues, and forget the pairs that were not created."""
        self.waiting = [], 0
        super().delete_io_queues()


@variant(
    "io-queues/most-queues",
    allowed='Base 2.0, 5.27.1.5 "Number of Queues": every value but FFFFh may be asked for; the controller grants less',
    scenarios=("io-queues/basic",),
    excludes=("io-queues/spare-queues",),
)
class MostQueues(Controller):
    """Asks for as many queues as the fields can say, FFFEh, and creates as many as it needs."""

    def granted_queues(self) -> int:
        """Ask for FFFEh queues, and return how many of the granted are wanted."""
        value = NumberOfQueues.of(NSQR=0xFFFE, NCQR=0xFFFE)
        answer = NumberOfQueues(self.execution.admin(SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=value)).DW0)
        return min(self.settings.io_queues, answer.NSQA + 1, answer.NCQA + 1)


@variant(
    "identify/looks-at-errors",
    allowed='Base 2.0, 5.16.1.2 "Error Information (Log Identifier 01h)": it may be read after a command that failed',
    scenarios=("reset/retries",),
)
class LooksAtErrors(Execution):
    """Reads the newest entry of the error log after each I/O command that has failed."""

    def should_retry(self, request: Request) -> bool:
        """Read the error log where a command has failed, and decide as ever."""
        if request.completion is not None and not request.ok and self._c.failed is None and request.command.NSID:
            command = GetLogPage.reading(Lid.ERROR_INFORMATION, ErrorInformation.SIZE, 0, NSID=0xFFFF_FFFF)
            if not isinstance(request.command, GetLogPage | Abort | AsyncEventRequest):
                with suppress(DriverError):
                    self.admin_in(command, ErrorInformation.SIZE)
        return super().should_retry(request)


@variant(
    "identify/by-command-set",
    allowed='Base 2.0, 5.17 "Identify command": CNS 05h to 08h tell of a command set where CSI names it; who asks may',
    scenarios=("identify/basic",),
    excludes=("identify/asks-more",),
)
class ByCommandSet(Controller):
    """Asks for the data structures of the NVM command set too, and takes no for an answer."""

    def scan(self) -> None:
        """Find the namespaces, and ask for CNS 05h of each."""
        super().scan()
        for nsid in self.namespaces if self.version >= LISTS_SINCE else ():
            with suppress(CommandFailed):
                self.identification.identify(Cns.CSI_NAMESPACE, nsid)


@variant(
    "read/tries-block-by-block",
    allowed='NVM 1.0, 3.2.4 "Read command": what a host does about a command that failed is its own matter',
    scenarios=("read/media-error",),
    settings={"retries": 0},
    warns=("reset/crd", "multi-namespace/ana"),
    excludes=("identify/no-retries", "identify/stubborn", "identify/retries-dnr", "write/verifies", "read/ahead"),
)
class TriesBlockByBlock(Namespace):
    """Reads the blocks one by one where a longer Read has failed, and gives up only if one of them fails."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Read the blocks, one by one where they cannot be read together."""
        try:
            return super().read(lba, blocks, offset)
        except CommandTimedOut:
            raise
        except CommandFailed:
            if blocks == 1 or blocks > 16:
                raise
            return b"".join(super(TriesBlockByBlock, self).read(lba + at, 1) for at in range(blocks))


@variant(
    "read/verifies-first",
    allowed='NVM 1.0, 3.2.5 "Verify command": where ONCS offers it, at any time',
    scenarios=("features/claims",),
)
class VerifiesFirst(Namespace):
    """Has the controller verify what it is about to read, where it can."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Verify the blocks, then read them."""
        self.check_range(lba, blocks)
        if self._c.known_identity.ONCS.VERIFY:
            with suppress(CommandFailed):
                self._run([self._verify(at, count) for at, count in self.split(lba, blocks)])
        return super().read(lba, blocks, offset)

    def _verify(self, lba: int, blocks: int) -> Command:
        """Return Verify, which has nothing to insert or strip (PRACT 0)."""
        command = self.command(Verify, lba, blocks, {})
        assert isinstance(command, Verify)
        return command.but(PRINFO=command.PRINFO & ~PRACT)


@variant(
    "write/compares",
    allowed='NVM 1.0, 3.2.1 "Compare command": where ONCS offers it, at any time',
    scenarios=("write/basic",),
)
class ComparesWrites(Namespace):
    """Has the controller compare what it has written with the buffer, where it can."""

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write the blocks, then compare them."""
        super().write(lba, data, fua=fua, offset=offset)
        if self._c.known_identity.ONCS.COMPARE and not self.lba_format.MS:
            with self._data.buffer(len(data)) as memory:
                memory.write(0, data)
                with suppress(CommandFailed):
                    self._transfer(Compare, lba, len(data) // self.block_size, memory, 0, {})


@variant(
    "write/zeroes-deallocate",
    allowed='NVM 1.0, 3.2.8 "Write Zeroes command", DEAC: where DLFEAT says that deallocated blocks read as zeros',
    scenarios=("write/zeroes",),
    excludes=("write/long-zeroes",),
)
class ZeroesDeallocate(Namespace):
    """Sets DEAC in Write Zeroes where the namespace has it."""

    def command(self, kind, lba, blocks, flags):  # type: ignore[no-untyped-def]
        """Return the command; Write Zeroes with DEAC=1 where DLFEAT has it."""
        deallocates = kind is WriteZeroes and self.identity.DLFEAT.WRITE_ZEROES
        return super().command(kind, lba, blocks, {**flags, "DEAC": 1} if deallocates else flags)


@variant(
    "reset/takes-events-back",
    allowed='Base 2.0, 5.1 "Abort command": any outstanding command may be aborted, an Asynchronous Event Request too',
    scenarios=("reset/shutdown",),
)
class TakesEventsBack(Controller):
    """Aborts its event requests before it shuts the controller down."""

    def delete_io_queues(self) -> None:
        """Abort the event requests, then delete the queues."""
        for cid, request in list(self.admin.outstanding.items()):
            if isinstance(request.command, AsyncEventRequest):
                with suppress(DriverError):
                    self.execution.run(self.admin, [Abort.of(SQID=0, ABORT_CID=cid)], retry=False)
        super().delete_io_queues()


@variant(
    "detect/masks-first",
    allowed='Base 2.0, 3.1.3.3 "Offset Ch: INTMS": the host may write it as long as MSI-X is not in use',
    scenarios=BASIC,
    warns=("detect/read-only-stage",),
    excludes=("admin-queue/function-reset-first",),
)
class MasksFirst(Controller):
    """Masks all interrupts by INTMS when it takes the controller, as MSI-X is off still, and clears the mask again."""

    def detect(self) -> None:
        """Detect the controller, and mask and unmask all interrupts."""
        super().detect()
        at, _ = pci.msix(self.transport)
        if not at or not self.transport.config_read(at + 2, 2) & pci.MSIX_ENABLE:
            self.registers.write(INTMS(0xFFFF_FFFF))
            self.registers.write(INTMC(0xFFFF_FFFF))


@variant(
    "detect/stops-mastering",
    allowed='PCIe 1.0, 3.8.1.2 "Offset 04h: CMD - Command": a controller that is disabled needs no Bus Master Enable',
    scenarios=("reset/asked",),
)
class StopsMastering(Controller):
    """Clears Bus Master Enable while the controller is disabled."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Program the admin queues with Bus Master Enable off."""
        pci.clear_command(self.transport, pci.BUS_MASTER)
        super().program_admin_queue(admin)
        pci.set_command(self.transport, pci.BUS_MASTER)


@variant(
    "multi-namespace/one-by-need",
    allowed='Base 2.0, 5.17 "Identify command": a host identifies what it uses, when it uses it',
    scenarios=("multi-namespace/sparse",),
)
class IdentifiesAgain(Namespace):
    """Identifies the namespace again before each transfer, and reads its size from the answer."""

    def check_range(self, lba: int, blocks: int) -> None:
        """Identify the namespace, then check the range."""
        if isinstance(self._c, Controller) and self._c.io:
            with suppress(DriverError):
                self._c.identification.namespace(self.nsid)
        super().check_range(lba, blocks)


@variant(
    "read/looks-behind",
    allowed='NVM 1.0, 3.2.4 "Read command": a host may read a block twice, and by different queues',
    scenarios=("read/basic",),
    warns=("read/extra",),
)
class LooksBehind(Namespace):
    """Reads the first block of the namespace with each read, as one that checks a label does."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Read the first block of the namespace, then those that are wanted."""
        self.check_range(lba, blocks)
        with suppress(CommandFailed), self._data.buffer(self.block_size) as memory:
            self._transfer(Read, 0, 1, memory, 0, {})
        return super().read(lba, blocks, offset)


@variant(
    "read/caches",
    allowed='NVM 1.0, 3.2.4 "Read command": a host that knows what a block holds need not read it',
    scenarios=("write/reread",),
    warns=("reset/spurious-ready", "reset/lost-interrupt"),
    excludes=("read/twice", "read/looks-behind", "read/ahead", "read/discards-into-one-page", "write/verifies",
              "read/verifies-first", "multi-namespace/one-by-need", "read/tries-block-by-block"),
)  # fmt: skip
class Caches(Namespace):
    """Keeps the blocks that it has read until something changes them, and returns them without a command."""

    kept: dict[tuple[int, int], bytes] | None = None

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Return what is kept, else read it and keep it."""
        self.check_range(lba, blocks)
        self.kept = {} if self.kept is None else self.kept
        if (lba, blocks) not in self.kept:
            self.kept[lba, blocks] = super().read(lba, blocks, offset)
        return self.kept[lba, blocks]

    def _transfer(self, kind, lba, blocks, memory, offset, flags):  # type: ignore[no-untyped-def]
        if kind is not Read:
            self.kept = None
        super()._transfer(kind, lba, blocks, memory, offset, flags)

    def zeroes(self, lba: int, blocks: int) -> None:
        """Forget what is kept, and zero blocks."""
        self.kept = None
        super().zeroes(lba, blocks)

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Forget what is kept, and trim blocks."""
        self.kept = None
        super().trim(ranges)

    def format(self, index: int) -> None:
        """Forget what is kept, and format the namespace."""
        self.kept = None
        super().format(index)


# -- drivers that support less ------------------------------------------------------------------------------------------

UNUSUAL = (
    "every/unusual-device", "detect/css-bitmap", "detect/bar64", "io-queues/mqes-min", "io-queues/mqes-max", "io-queues/pin",
    "multiqueue/degrade", "multiqueue/shared-vector", "identify/cns2-by-version", "detect/all-controllers", "reset/reload",
)  # fmt: skip
REFUSES = "no specification obliges a host to support each controller; it says that it does not"


@variant(
    "detect/refuses-the-unusual",
    allowed=f'Base 2.0, 3.1.3.1 "Offset 0h: CAP": it states what a controller needs; {REFUSES}',
    scenarios=("io-queues/smallest",),
    warns=(*UNUSUAL, "io-queues/msi"),
    alone=True,
)
class RefusesTheUnusual(Controller):
    """Takes only controllers with MSI-X, long queues, packed doorbells, 4 KiB pages, one command set, and from 1.2 on."""

    def detect(self) -> None:
        """Detect the controller, and refuse one that is unusual."""
        super().detect()
        cap, version = self.cap, (self.version.MJR, self.version.MNR)
        vectors = pci.msix(self.transport)[1]
        refused = {
            f"queues of {cap.MQES + 1} entries": not 63 <= cap.MQES < 0xFFFF,
            f"doorbells {4 << cap.DSTRD} bytes apart": cap.DSTRD > 0,
            "memory pages above 4 KiB": cap.MPSMIN > 0,
            "several command sets": cap.CSS != 1,
            f"revision {self.version.text}": version < (1, 2),
            f"{vectors} MSI-X vectors": vectors < 3,
        }
        for what, here in refused.items():
            if here:
                raise Refused(f"{self.transport.name} is not supported: {what}")


@variant(
    "identify/refuses-the-unusual",
    allowed=f'Base 2.0, 5.17.2.1 "Identify Controller data structure (CNS 01h)": {REFUSES}',
    scenarios=("read/mdts",),
    warns=UNUSUAL,
    alone=True,
)
class RefusesTransfers(Controller):
    """Takes only controllers that move at least 128 KiB by a command."""

    def identify(self) -> None:
        """Identify the controller, and refuse one that moves little by a command."""
        super().identify()
        if self.max_transfer is not None and self.max_transfer < 1 << 17:
            raise Refused(f"{self.transport.name} is not supported: it moves {self.max_transfer} bytes at most")


@variant(
    "read/refuses-the-unusual",
    allowed=f'NVM 1.0, 3.2.4 "Read command": {REFUSES}, be it a format or blocks beyond what it can name',
    scenarios=("read/block-4096",),
    warns=UNUSUAL,
    alone=True,
)
class RefusesBlocks(Namespace):
    """Serves blocks of 512 bytes only, and only the first 2^32 of them."""

    def check_range(self, lba: int, blocks: int) -> None:
        """Refuse what is not supported, then check the range."""
        if self.block_size != 512:
            raise Refused(f"blocks of {self.block_size} bytes are not supported")
        if lba + blocks > 1 << 32:
            raise Refused("blocks beyond 2^32 are not supported")
        super().check_range(lba, blocks)
