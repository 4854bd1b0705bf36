"""One controller, from the bus to its shutdown: the steps that bring it up, in the order in which a driver is built.

Each step needs those before it and none after it; `Controller.start` can stop after any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from lab.nvme.commands import CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq, DoorbellBufferConfig, SetFeatures
from lab.nvme.features import Fid, NumberOfQueues
from lab.nvme.identify import IdentifyController
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, CSTS, VS
from lab.reference import pci
from lab.reference.errors import CommandFailed, CommandLost, ControllerFailed, DriverError, Refused
from lab.reference.namespace import Namespace
from lab.reference.parts import Parts
from lab.reference.queue_pair import QueuePair
from lab.reference.ring import CQE_SIZE, SQE_SIZE
from lab.reference.settings import Settings
from lab.reference.shadow import ShadowDoorbells
from lab.reference.transport import Memory, Transport

STAGES = (
    "detect", "admin-queue", "identify", "io-queues", "read", "write", "multi-namespace", "reset", "multiqueue", "features",
)  # fmt: skip
"""The ten steps of building a driver."""
LAST = STAGES[-1]

TIMEOUT_UNIT = 0.5
"""Seconds of CAP.TO."""
FIRST_LOOK, LAST_LOOK = 0.001, 0.05
"""Seconds between two looks at CSTS: each waits twice as long as the one before, up to the last."""
CSS_NVM, CSS_ALL_SETS = 0b000, 0b110
"""CC.CSS: the NVM command set; all command sets that the controller supports."""
CAP_CSS_NVM, CAP_CSS_SETS = 1 << 0, 1 << 6
"""Bits of CAP.CSS. Base 2.0, 3.1.3.1."""
SHN_NORMAL, SHST_COMPLETE = 0b01, 0b10


class Controller:
    """The driver of one controller."""

    parts = Parts()
    """Other parts make another driver: a subclass names them here."""

    def __init__(self, transport: Transport, settings: Settings | None = None) -> None:
        self.transport, self.settings = transport, settings or Settings()
        self.registers = self.parts.registers(transport)
        self.data = self.parts.data(self)
        self.execution = self.parts.execution(self)
        self.recovery = self.parts.recovery(self)
        self.identification = self.parts.identification(self)
        self.events = self.parts.events(self)
        self.features = self.parts.features(self)
        self.health = self.parts.health(self)
        self.load = self.parts.load(self)
        self.stage = ""
        """The last step that was gone through; "" before the first."""
        self.failed: ControllerFailed | None = None
        """Why nothing more is asked of the controller."""
        self.cap, self.version = CAP(), VS()
        self.identity: IdentifyController | None = None
        self.namespaces: dict[int, Namespace] = {}
        self.unusable: dict[int, str] = {}
        """Active namespaces that cannot be used, and why."""
        self.io: list[QueuePair] = []
        self._pairs: dict[int, QueuePair] = {}
        self._shadows: ShadowDoorbells | None = None
        self._turn = 0

    # -- the steps --------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        """What is done at each stage; at the others the driver can do more, and has nothing to prepare."""
        return {
            "detect": self.detect,
            "admin-queue": self.enable,
            "identify": self.identify,
            "io-queues": self.create_io_queues,
            "reset": self.events.arm,
            "multiqueue": self.configure_shadows,
        }

    def start(self, until: str = LAST) -> None:
        """Goes through the steps up to a stage; from then on what the stage offers can be used."""
        for stage in STAGES[: STAGES.index(until) + 1]:
            self.steps.get(stage, _nothing)()
            self.stage = stage

    def restart(self) -> None:
        """The steps anew after a reset, as far as they had got; what was detected stays."""
        for stage in STAGES[1 : STAGES.index(self.stage) + 1]:
            self.steps.get(stage, _nothing)()

    def require(self, stage: str) -> None:
        """Refused where the driver has stopped before this stage, or the controller is lost."""
        if self.failed is not None:
            raise self.failed
        if not self.stage:
            raise Refused("the controller is shut down, or was never brought up")
        if STAGES.index(self.stage) < STAGES.index(stage):
            raise Refused(f"the driver was stopped after {self.stage}, and this needs {stage}")

    # -- step 1: detect. Base 2.0, 3.1.3 "Controller Properties" ----------------------------------------------------

    def detect(self) -> None:
        """Is it an NVMe controller, and one that we can drive? Nothing is written but the PCI Command register."""
        found = pci.class_code(self.transport)
        if found != pci.CLASS_NVME:
            raise Refused(f"{self.transport.name} is no NVMe controller: its class code is {found:06X}h")
        pci.set_command(self.transport, pci.MEMORY_SPACE)
        self.cap = self.registers.capabilities()
        self.version = self.registers.read(VS)
        self.command_set()

    @property
    def page_size(self) -> int:
        """The smallest memory page that the controller takes, in bytes. Base 2.0, 3.1.3.1: CAP.MPSMIN."""
        return 4096 << self.cap.MPSMIN

    @property
    def ready_seconds(self) -> float:
        """How long CSTS.RDY may take to follow CC.EN. Base 2.0, 3.1.3.1: CAP.TO."""
        return max(self.cap.TO, 1) * TIMEOUT_UNIT

    @property
    def max_queue_entries(self) -> int:
        """Slots that an I/O queue may have: CAP.MQES is 0's based."""
        return self.cap.MQES + 1

    def command_set(self) -> int:
        """CC.CSS for the NVM command set: CAP.CSS is a bitmap."""
        if self.cap.CSS & CAP_CSS_NVM:
            return CSS_NVM
        if self.cap.CSS & CAP_CSS_SETS:
            return CSS_ALL_SETS
        raise Refused(f"{self.transport.name} does not support the NVM command set: CAP.CSS is {self.cap.CSS:08b}b")

    # -- step 2: admin queue. Base 2.0, 3.5.1 "Memory-based Controller Initialization" ------------------------------

    def enable(self) -> None:
        """The controller comes up and can be asked on the admin queue."""
        pci.set_command(self.transport, pci.MEMORY_SPACE | pci.BUS_MASTER)
        self.stop()
        self.open_vectors()
        admin = self.make_pair(0, self.settings.admin_depth, self.vector_of(0))
        self.program_admin_queue(admin)
        self.registers.write(self.configuration())
        try:
            self.wait_ready(1)
        except ControllerFailed:
            self.registers.write(self.configuration().but(EN=0))  # it shall not come up behind our back
            raise
        admin.live = True

    def open_vectors(self) -> None:
        """Handlers first: a queue is never created before its interrupt can be taken. Whoever polls wants no INTx either.

        MSI-X is on before CC.EN, because QEMU's device otherwise never signals the admin queue's vector.
        """
        if self.vectors:
            self.transport.open_vectors(self.vectors)
        else:
            pci.set_command(self.transport, pci.INTX_DISABLE)

    @property
    def vectors(self) -> int:
        """Interrupt vectors in use: one for the admin queue and one for each I/O queue, as far as there are."""
        return 0 if self.settings.polling else min(self.transport.vectors, 1 + self.settings.io_queues)

    def vector_of(self, qid: int) -> int | None:
        """The vector of a completion queue; I/O queues share those that are left beside vector 0."""
        if not self.vectors:
            return None
        return 0 if qid == 0 or self.vectors == 1 else 1 + (qid - 1) % (self.vectors - 1)

    def program_admin_queue(self, admin: QueuePair) -> None:
        """AQA, ASQ and ACQ. Base 2.0, 3.1.3.8 to 3.1.3.10; the sizes are 0's based."""
        submission, completion = admin.submission, admin.completion
        self.registers.write(AQA.of(ASQS=submission.entries - 1, ACQS=completion.entries - 1))
        self.registers.write(ASQ(submission.memory.address))
        self.registers.write(ACQ(completion.memory.address))

    def configuration(self) -> CC:
        """Controller Configuration with EN=1. Base 2.0, 3.1.3.5; entry sizes are powers of two."""
        return CC.of(
            EN=1,
            CSS=self.command_set(),
            MPS=self.cap.MPSMIN,
            AMS=0,
            IOSQES=SQE_SIZE.bit_length() - 1,
            IOCQES=CQE_SIZE.bit_length() - 1,
        )

    def stop(self) -> None:
        """CC.EN=0, and CSTS.RDY=0 is waited for: until then the controller may reach for memory. Base 2.0, 3.5.1."""
        for pair in self._pairs.values():
            pair.live = False
        self.io = []
        self.registers.shadows = None
        cc, csts = self.registers.read(CC), self.registers.status()
        if cc.EN:
            if not csts.RDY and not csts.CFS and not csts.SHST:  # on its way up; to turn it back there is undefined
                with suppress(ControllerFailed):
                    self.wait_ready(1)
            self.registers.write(cc.but(EN=0, SHN=0))
        self.wait_ready(0)

    def wait_ready(self, ready: int) -> None:
        """Until CSTS.RDY is this, within CAP.TO. ControllerFailed where it does not come, or CSTS.CFS does on the way up."""
        until, looks = self.transport.now() + self.ready_seconds, _looks()
        while (csts := self.registers.status()).RDY != ready:
            if ready and csts.CFS:
                raise ControllerFailed(f"{self.transport.name}: CSTS.CFS is set while the controller starts")
            if self.transport.now() >= until:
                raise ControllerFailed(
                    f"{self.transport.name}: CSTS.RDY is not {ready} after {self.ready_seconds:g} s (CAP.TO); {csts}"
                )
            self.transport.sleep(next(looks))

    @property
    def admin(self) -> QueuePair:
        return self._pairs[0]

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        """A queue pair with empty rings; after a reset the one that there was, as new."""
        pair = self._pairs.get(qid)
        if pair is None:
            submission = self.parts.submission_ring(self.ring_memory(entries * SQE_SIZE), entries)
            completion = self.parts.completion_ring(self.ring_memory(entries * CQE_SIZE), entries)
            pair = self._pairs[qid] = self.parts.queue_pair(self.registers, qid, submission, completion, vector)
        pair.restart()
        return pair

    def ring_memory(self, length: int) -> Memory:
        """Memory for a ring: page aligned and in one piece."""
        return self.transport.allocate(length, self.page_size, contiguous=True)

    # -- step 3: identify. Base 2.0, 5.17 ---------------------------------------------------------------------------

    def identify(self) -> None:
        """Who the controller is, and which namespaces it has."""
        self.identity = self.identification.controller()
        self.scan()

    def scan(self) -> None:
        """Finds the namespaces anew. One that fails Identify hides no other."""
        assert self.identity is not None
        self.namespaces, self.unusable = {}, {}
        for nsid in self.identification.active(self.identity):
            try:
                found = self.identification.namespace(nsid)
                if found is not None:
                    names = self.identification.identifiers(nsid, found)
                    self.namespaces[nsid] = self.parts.namespace(self, nsid, found, names)
            except CommandFailed as failure:
                self.unusable[nsid] = str(failure)

    @property
    def max_transfer(self) -> int | None:
        """Bytes that one command may move; None for no limit. Base 2.0, 5.17.2.1: MDTS counts in pages of MPSMIN."""
        assert self.identity is not None
        return self.identity.max_transfer(self.cap.MPSMIN)

    # -- steps 4 and 9: I/O queues. Base 2.0, 5.27.1.5, 5.4 and 5.5 -------------------------------------------------

    def create_io_queues(self) -> None:
        """As many pairs as we want and the controller grants. Fewer than wanted are enough; none are not."""
        entries = self.io_entries()
        for qid in range(1, self.granted_queues() + 1):
            try:
                self.io.append(self.create_pair(qid, entries))
            except CommandFailed as failure:
                if not self.io:
                    raise ControllerFailed(f"{self.transport.name}: no I/O queue can be created: {failure}") from failure
                break

    def io_entries(self) -> int:
        """Slots of an I/O ring."""
        return min(self.settings.depth, self.max_queue_entries)

    def granted_queues(self) -> int:
        """Negotiates Number of Queues, which is 0's based both ways and comes before any queue. Base 2.0, 5.27.1.5."""
        wanted = self.settings.io_queues
        value = NumberOfQueues.of(NSQR=wanted - 1, NCQR=wanted - 1)
        answer = NumberOfQueues(self.execution.admin(SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=value)).DW0)
        return min(wanted, answer.NSQA + 1, answer.NCQA + 1)

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """The completion queue first, for the submission queue names it. What a failure leaves half done is deleted."""
        pair = self.make_pair(qid, entries, self.vector_of(qid))
        self.execution.admin(self.create_cq_command(pair))
        try:
            self.execution.admin(self.create_sq_command(pair))
        except CommandFailed:
            self.execution.admin(DeleteIoCq.of(QID=qid))
            raise
        pair.live = True
        return pair

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Base 2.0, 5.4. Physically contiguous (PC), which suits every controller, those with CAP.CQR too."""
        ring = pair.completion
        interrupt = {} if pair.vector is None else {"IEN": 1, "IV": pair.vector}
        return CreateIoCq.of(QID=pair.qid, QSIZE=ring.entries - 1, PC=1, PRP1=ring.memory.address, **interrupt)

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Base 2.0, 5.5."""
        ring = pair.submission
        return CreateIoSq.of(QID=pair.qid, QSIZE=ring.entries - 1, PC=1, CQID=pair.qid, PRP1=ring.memory.address)

    def configure_shadows(self) -> None:
        """Shadow doorbells, where the controller has them: it need not be told of everything by its registers. Base 2.0, 5.8.

        A controller that offers them and then refuses is told by doorbells, as any other.
        """
        if self.identity is None or not self.identity.OACS.DOORBELL_BUFFER:
            return
        if self._shadows is None:
            doorbells, indexes = self.ring_memory(self.page_size), self.ring_memory(self.page_size)
            self._shadows = self.parts.shadow_doorbells(self.transport, doorbells, indexes, self.cap.DSTRD)
        self._shadows.clear()
        with suppress(CommandFailed):
            self.execution.admin(self.shadow_command(self._shadows))
            self.registers.shadows = self._shadows

    def shadow_command(self, shadows: ShadowDoorbells) -> DoorbellBufferConfig:
        """Base 2.0, 5.8. Each buffer is a page, so that no list is needed."""
        return DoorbellBufferConfig.of(PRP1=shadows.doorbells.address, PRP2=shadows.indexes.address)

    def pair(self) -> QueuePair:
        """The I/O queues to use next. A kernel takes those of the CPU it runs on; Python has one CPU and takes turns."""
        if not self.io:
            raise self.failed or CommandLost("there are no I/O queues")
        self._turn += 1
        return self.io[self._turn % len(self.io)]

    # -- step 8: the end, wanted or not. Base 2.0, 3.6.1 "Memory-based Controller Shutdown" ------------------------

    def shutdown(self) -> None:
        """Orderly: I/O queues deleted, CC.SHN=01b, CSTS.SHST=10b waited for. After that the driver is silent."""
        if self.failed is None and self.stage not in ("", "detect"):
            self.delete_io_queues()
            self.registers.write(self.registers.read(CC).but(SHN=SHN_NORMAL))
            self.wait_shut_down()
            self.abandon(CommandLost("the controller was shut down"))
        self.stage = ""

    def delete_io_queues(self) -> None:
        """Submission queues before the completion queues that they name. Base 2.0, 5.6 and 5.7."""
        pairs, self.io = self.io, []
        for command in (DeleteIoSq, DeleteIoCq):
            for pair in pairs:
                self.execution.admin(command.of(QID=pair.qid))
        for pair in pairs:
            pair.live = False

    def wait_shut_down(self) -> None:
        """RTD3E, where the controller tells it, is how long a shutdown may take (microseconds)."""
        told = self.identity.RTD3E / 1e6 if self.identity else 0.0
        seconds = max(self.settings.shutdown_seconds, told)
        until, looks = self.transport.now() + seconds, _looks()
        while self.registers.status().SHST != SHST_COMPLETE:
            if self.transport.now() >= until:
                raise ControllerFailed(f"{self.transport.name}: the shutdown was not complete after {seconds:g} s")
            self.transport.sleep(next(looks))

    def close(self) -> None:
        """Leaves the controller, in order where it still answers, and gives everything back."""
        try:
            with suppress(DriverError):
                self.shutdown()
        finally:
            self.abandon(CommandLost("the driver was unloaded"))
            self.transport.close()

    def abandon(self, why: DriverError) -> None:
        """Ends all that is outstanding, once, without a completion."""
        for pair in self._pairs.values():
            pair.live = False
            pair.abandon(why)

    def give_up(self, why: DriverError) -> None:
        """The controller is lost: every command ends now, and none is sent any more."""
        self.failed = why if isinstance(why, ControllerFailed) else ControllerFailed(str(why))
        self.io = []
        self.abandon(self.failed)

    def status(self) -> CSTS:
        """Controller Status, for people."""
        return self.registers.status()


def _nothing() -> None:
    pass


def _looks() -> Iterator[float]:
    seconds = FIRST_LOOK
    while True:
        yield seconds
        seconds = min(2 * seconds, LAST_LOOK)
