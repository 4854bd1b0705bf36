"""The driver of one controller, from the bus to its shutdown: the ten steps, in the order in which a driver is built.

Each step needs those before it and none after it; `Controller.start` can stop after any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from lab.nvme.commands import CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq, DoorbellBufferConfig, SetFeatures
from lab.nvme.features import Fid, HostBehavior, HostMemoryBuffer, HostMemoryDescriptor, NumberOfQueues
from lab.nvme.identify import Csi, IdentifyNamespace
from lab.nvme.registers import ACQ, AQA, ASQ, CC, CRTO, CSTS, VS
from lab.reference import pci
from lab.reference.core import Core
from lab.reference.errors import (
    CommandFailed,
    CommandLost,
    CommandTimedOut,
    ControllerFailed,
    ControllerGone,
    DriverError,
    Refused,
)
from lab.reference.identification import Identifiers
from lab.reference.namespace import Namespace
from lab.reference.parts import Parts
from lab.reference.queue_pair import QueuePair
from lab.reference.ring import CQE_SIZE, SQE_SIZE
from lab.reference.settings import Settings
from lab.reference.shadow_doorbells import ShadowDoorbells
from lab.reference.transport import Memory, Transport

STAGES = (
    "detect", "admin-queue", "identify", "io-queues", "read", "write", "multi-namespace", "reset", "multiqueue", "features",
)  # fmt: skip
"""The ten steps of building a driver."""
LAST = STAGES[-1]

FIRST_POLL_SECONDS, LAST_POLL_SECONDS, POLLS = 0.001, 0.05, 200
"""Delay between two reads of CSTS: it doubles each time, up to the last, or to that part of the time that a reset may take."""
CSS_NVM, CSS_ALL_SETS, CSS_ADMIN_ONLY = 0b000, 0b110, 0b111
"""CC.CSS: the NVM command set; all command sets that the controller supports; only the admin command set."""
CAP_CSS_NVM, CAP_CSS_SETS, CAP_CSS_ADMIN = 1 << 0, 1 << 6, 1 << 7
"""Bits of CAP.CSS. Base 2.0, 3.1.3.1."""
HMB_UNIT, MOST_LENT = 4096, 256
"""Bytes of one unit of HMPRE, and units that are lent at most."""
ADMINISTRATIVE = 3
"""CNTRLTYPE of an administrative controller."""
AMS_WEIGHTED = 0b001
"""CC.AMS and CAP.AMS: weighted round robin with urgent priority class. Base 2.0, 3.4.4."""
CLASSES = 4
"""Urgent, high, medium and low (QPRIO)."""
SHN_NORMAL, SHST_COMPLETE = 0b01, 0b10


class Controller(Core):
    """One controller: the shared state, the parts that act on it, and the steps that bring both up."""

    parts = Parts()
    """The classes of the parts. A subclass that names others is another driver."""

    def __init__(self, transport: Transport, settings: Settings | None = None) -> None:
        """Make the parts of the driver; nothing is sent before `start`."""
        super().__init__(transport, settings or Settings(), self.parts.registers(transport))
        self.data = self.parts.data(self)
        self.execution = self.parts.execution(self, self.data)
        self.recovery = self.parts.recovery(self, self.execution, stop=self.stop, restart=self.restart)
        self.execution.recovery = self.recovery
        self.identification = self.parts.identification(self, self.execution)
        self.features = self.parts.features(self, self.data, self.execution)
        self.health = self.parts.health(self, self.execution)
        self.events = self.parts.events(self, self.execution, self.health, rescan=self.scan)
        self.load = self.parts.load(self, self.data, self.execution)
        self.management = self.parts.management(self, self.data, self.execution)
        self.own_memory = self.parts.controller_memory(transport, self.registers)
        self.pending = self.parts.pending(self, self.data, self.execution)
        self.servicing = self.parts.servicing(self, self.execution, self)
        self.stage = ""
        """The last completed step; "" before the first."""
        self.namespaces: dict[int, Namespace] = {}
        self.unusable: dict[int, str] = {}
        """Active namespaces that cannot be used, and why."""
        self.notes: dict[str, str] = {}
        """Settings that were reduced to what the controller grants, by name."""
        self._before_sleep = ""
        self._power_awake = 0
        self._shadows: ShadowDoorbells | None = None
        self._lent: tuple[Memory, Memory] | None = None
        """The host memory buffer and its list, while the controller has them."""

    # -- the steps --------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        """The work of each stage; a stage without an entry needs no preparation."""
        return {
            "detect": self.detect,
            "admin-queue": self.enable,
            "identify": self.identify,
            "io-queues": self.prepare_io,
            "reset": self.events.arm,
            "multiqueue": self.configure_shadows,
        }

    def start(self, until: str = LAST) -> None:
        """Perform the steps up to a stage, which can be used from then on."""
        for stage in STAGES[: STAGES.index(until) + 1]:
            self.perform(stage)
            self.stage = stage

    def perform(self, stage: str) -> None:
        """Perform a step; once more from its beginning if the controller was reset meanwhile and has come back.

        What a reset takes with it, such as Number of Queues before queues are created, is part of the same step.
        """
        resets = self.recovery.resets
        try:
            self.steps.get(stage, _nothing)()
        except (CommandLost, CommandTimedOut):
            if self.failed is not None or self.recovery.resets == resets:
                raise
            self.steps.get(stage, _nothing)()

    def restart(self) -> None:
        """Perform the completed steps again after a reset, except detection: new firmware may have other capabilities."""
        self.cap = self.registers.capabilities()
        for stage in STAGES[1 : STAGES.index(self.stage) + 1]:
            self.steps.get(stage, _nothing)()

    def require(self, stage: str) -> None:
        """Raise Refused if the driver was stopped before this stage, or the controller's failure if it is lost."""
        if self.failed is not None:
            raise self.failed
        if not self.stage:
            raise Refused("the controller is shut down, or was never brought up")
        if STAGES.index(self.stage) < STAGES.index(stage):
            raise Refused(f"the driver was stopped after {self.stage}, and this needs {stage}")

    # -- step 1: detect. Base 2.0, 3.1.3 "Controller Properties" ----------------------------------------------------

    def detect(self) -> None:
        """Check that this is an NVMe controller which the driver supports; write nothing but the PCI Command register."""
        class_code = pci.class_code(self.transport)
        if class_code != pci.CLASS_NVME:
            raise Refused(f"{self.transport.name} is no NVMe controller: its class code is {class_code:06X}h")
        pci.set_command(self.transport, pci.MEMORY_SPACE)
        self.cap = self.registers.capabilities()
        self.version = self.registers.read(VS)
        if self.cap.CRMS:
            self.crto = self.registers.read(CRTO)
        self.command_set()

    def command_set(self) -> int:
        """Return CC.CSS: all command sets where there are several, else the only one, or none. Base 2.0, 3.5.1."""
        if self.cap.CSS & CAP_CSS_ADMIN:
            return CSS_ADMIN_ONLY
        if self.cap.CSS & CAP_CSS_SETS:
            return CSS_ALL_SETS
        if self.cap.CSS & CAP_CSS_NVM:
            return CSS_NVM
        raise Refused(f"{self.transport.name} does not support the NVM command set: CAP.CSS is {self.cap.CSS:08b}b")

    # -- step 2: admin queue. Base 2.0, 3.5.1 "Memory-based Controller Initialization" ------------------------------

    def enable(self) -> None:
        """Bring the controller up, so that it takes commands on the admin queue."""
        pci.set_command(self.transport, pci.MEMORY_SPACE | pci.BUS_MASTER)
        self.stop()
        self.open_vectors()
        admin = self.make_pair(0, self.settings.admin_depth, self.vector_of(0))
        self.program_admin_queue(admin)
        self.registers.write(self.configuration())
        try:
            self.wait_ready(1)
        except ControllerFailed:
            self.registers.write(self.configuration().but(EN=0))  # it must not become ready later
            raise
        admin.live = True

    def open_vectors(self) -> None:
        """Install the interrupt handlers, before any queue that uses them exists. A driver that polls disables INTx.

        MSI-X is enabled before CC.EN, because QEMU's device otherwise never signals the admin queue's vector.
        """
        if self.vectors:
            self.transport.open_vectors(self.vectors)
        else:
            pci.set_command(self.transport, pci.INTX_DISABLE)

    @property
    def vectors(self) -> int:
        """The number of interrupt vectors in use: one for the admin queue and one for each I/O queue, if there are enough."""
        return 0 if self.settings.polling else min(self.transport.vectors, 1 + self.settings.io_queues)

    def vector_of(self, qid: int) -> int | None:
        """Return the vector of a completion queue; I/O queues share those that vector 0 leaves."""
        if not self.vectors or self.settings.polls(qid):
            return None
        return 0 if qid == 0 or self.vectors == 1 else 1 + (qid - 1) % (self.vectors - 1)

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Write AQA, ASQ and ACQ. Base 2.0, 3.1.3.8 to 3.1.3.10; the sizes are 0's based."""
        submission, completion = admin.submission, admin.completion
        self.registers.write(AQA.of(ASQS=submission.entries - 1, ACQS=completion.entries - 1))
        self.registers.write(ASQ(submission.memory.address))
        self.registers.write(ACQ(completion.memory.address))

    def configuration(self) -> CC:
        """Return Controller Configuration with EN=1. Base 2.0, 3.1.3.5; entry sizes are powers of two."""
        return CC.of(
            EN=1,
            CSS=self.command_set(),
            MPS=self.cap.MPSMIN,
            AMS=AMS_WEIGHTED if self.has_classes else 0,
            IOSQES=SQE_SIZE.bit_length() - 1,
            IOCQES=CQE_SIZE.bit_length() - 1,
        )

    @property
    def has_classes(self) -> bool:
        """Whether queues get priority classes: the scheduler has them, and so has the controller (CAP.AMS)."""
        return self.settings.scheduler == "priority" and bool(self.cap.AMS & AMS_WEIGHTED)

    def stop(self) -> None:
        """Clear CC.EN and wait for CSTS.RDY=0: until then the controller may access memory. Base 2.0, 3.5.1."""
        for pair in self._pairs.values():
            pair.live = False
        self.io = []
        self.registers.shadows = None
        cc, csts = self.registers.read(CC), self.registers.status()
        if cc.EN:
            if not csts.RDY and not csts.CFS and not csts.SHST:  # starting; to clear EN then is undefined
                with suppress(ControllerFailed):
                    self.wait_ready(1)
            self.registers.write(cc.but(EN=0, SHN=0))
        self.wait_ready(0)

    def wait_ready(self, ready: int) -> None:
        """Wait until CSTS.RDY has this value. ControllerFailed after CAP.TO, or on CSTS.CFS while the controller starts."""
        start, delays = self.transport.now(), self.poll_delays()
        deadline, blind_until = start + self.ready_seconds, start + self.settings.blind_seconds
        while (csts := self.status_until(blind_until)).RDY != ready:
            if ready and csts.CFS:
                raise ControllerFailed(f"{self.transport.name}: CSTS.CFS is set while the controller starts")
            if self.transport.now() >= deadline:
                raise ControllerFailed(
                    f"{self.transport.name}: CSTS.RDY is not {ready} after {self.ready_seconds:g} s (CAP.TO); {csts}"
                )
            self.transport.sleep(next(delays))

    def status_until(self, blind_until: float) -> CSTS:
        """Read CSTS. ControllerGone if it reads all ones until that moment: a controller may be blind during a reset."""
        delays = self.poll_delays()
        while True:
            try:
                return self.registers.status()
            except ControllerGone:
                if self.transport.now() >= blind_until:
                    raise
            self.transport.sleep(next(delays))

    def poll_delays(self) -> Iterator[float]:
        """Yield the delays between two reads of CSTS."""
        seconds = FIRST_POLL_SECONDS
        while True:
            yield seconds
            seconds = min(2 * seconds, max(LAST_POLL_SECONDS, self.ready_seconds / POLLS))

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        """Return a queue pair with empty rings; after a reset the previous one, cleared, where it is as long."""
        pair = self._pairs.get(qid)
        if pair is None or pair.submission.entries != entries:
            submission = self.parts.submission_ring(self.submission_memory(qid, entries * SQE_SIZE), entries)
            completion = self.parts.completion_ring(self.ring_memory(entries * CQE_SIZE), entries)
            pair = self._pairs[qid] = self.parts.queue_pair(self.registers, qid, submission, completion, vector)
        pair.restart()
        return pair

    def adopt_pair(
        self, qid: int, submission: tuple[Memory, int], completion: tuple[Memory, int], vector: int | None
    ) -> QueuePair:
        """Return a queue pair in memory that holds a predecessor's rings of so many entries, as they are."""
        rings = self.parts.submission_ring(*submission), self.parts.completion_ring(*completion)
        pair = self._pairs[qid] = self.parts.queue_pair(self.registers, qid, *rings, vector)
        return pair

    def ring_memory(self, length: int) -> Memory:
        """Allocate memory for a ring: page aligned and contiguous."""
        return self.transport.allocate(length, self.page_size, contiguous=True)

    def submission_memory(self, qid: int, length: int) -> Memory:
        """Return memory for a submission ring: the controller's own, where it has some that may be used."""
        own = self.own_memory.take(length, self.page_size) if qid else None
        return own or self.ring_memory(length)

    # -- step 3: identify. Base 2.0, 5.17 ---------------------------------------------------------------------------

    def identify(self) -> None:
        """Read Identify Controller and the limits of the NVM command set, promise to honour CRD, and find the namespaces."""
        self.identity = self.identification.controller()
        if not self.is_administrative:
            self.limits = self.identification.nvm_limits()
            self.enable_retry_delays()
            self.lend_memory()
        self.scan()

    @property
    def is_administrative(self) -> bool:
        """Whether the controller has no I/O queues and no namespaces. Base 2.0, 3.1.2.2 "Administrative Controller"."""
        return self.known_identity.CNTRLTYPE == ADMINISTRATIVE or bool(self.cap.CSS & CAP_CSS_ADMIN)

    def enable_retry_delays(self) -> None:
        """Let the controller name delays by CRD, where it has any. Base 2.0, 3.3.3.2.1 and 5.27.1.18."""
        identity = self.known_identity
        if identity.CRDT1 or identity.CRDT2 or identity.CRDT3:
            with suppress(CommandFailed):
                self.execution.admin_out(SetFeatures.of(FID=Fid.HOST_BEHAVIOR_SUPPORT), HostBehavior.of(ACRE=1))
                self.honours_retry_delays = True

    def lend_memory(self) -> None:
        """Lend the memory that the controller would like (HMPRE); it works without it too. Base 2.0, 5.27.1.10 and 8.9."""
        units = min(self.known_identity.HMPRE, MOST_LENT)
        if units and units >= self.known_identity.HMMIN:  # with less the controller can do nothing
            pages = -(-units * HMB_UNIT // self.page_size)
            if self._lent is None:
                self._lent = self.ring_memory(pages * self.page_size), self.ring_memory(self.page_size)
                memory, listed = self._lent
                listed.write(0, HostMemoryDescriptor.of(BADD=memory.address, BSIZE=pages))
            with suppress(CommandFailed):
                self.execution.admin(self.lending(self._lent[1], pages))

    def lending(self, listed: Memory, pages: int) -> SetFeatures:
        """Return Set Features that lends so many pages, of whatever content (MR=0)."""
        low, high = listed.address & 0xFFFF_FFFF, listed.address >> 32
        return SetFeatures.of(
            FID=Fid.HOST_MEMORY_BUFFER, CDW11=HostMemoryBuffer.of(EHM=1), CDW12=pages, CDW13=low, CDW14=high, CDW15=1
        )

    def take_memory_back(self) -> None:
        """Have the controller release what it was lent; only then it may be written. Base 2.0, 8.9."""
        if self._lent is not None:
            with suppress(CommandFailed):
                self.execution.admin(SetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER))
                for memory in self._lent:
                    self.data.release(memory)
                self._lent = None

    def scan(self) -> None:
        """Find the namespaces again. One that fails Identify hides no other."""
        self.namespaces, self.unusable = {}, {}
        for nsid in self.identification.active_namespaces(self.known_identity):
            try:
                identity = self.identification.namespace(nsid)
                if identity is not None:
                    names = self.identification.identifiers(nsid, identity)
                    zoned = names.csi == Csi.ZONED and self.command_set() == CSS_ALL_SETS
                    make = self.make_zoned_namespace if zoned else self.make_namespace
                    self.namespaces[nsid] = make(nsid, identity, names)
            except CommandFailed as failure:
                self.unusable[nsid] = str(failure)

    def make_namespace(self, nsid: int, identity: IdentifyNamespace, names: Identifiers) -> Namespace:
        """Return a namespace that was identified, now or by a predecessor."""
        return self.parts.namespace(self, self.data, self.execution, nsid, identity, names)

    def make_zoned_namespace(self, nsid: int, identity: IdentifyNamespace, names: Identifiers) -> Namespace:
        """Identify what only a zoned namespace has, and return it."""
        zoned = self.identification.zoned(nsid)
        return self.parts.zoned_namespace(self, self.data, self.execution, nsid, identity, names, zoned)

    # -- steps 4 and 9: I/O queues. Base 2.0, 5.27.1.5, 5.4 and 5.5 -------------------------------------------------

    def prepare_io(self) -> None:
        """Create I/O queues, unless the controller has none."""
        if not self.is_administrative:
            if not self.settings.keep_alive:  # a successor finds the queues in the driver's memory only
                self.own_memory.claim(self.cap)
            self.create_io_queues()

    def create_io_queues(self) -> None:
        """Create as many pairs as are wanted and granted. Fewer are enough; none is a failure."""
        entries = self.io_entries()
        for qid in self.queue_ids():
            try:
                self.io.append(self.create_pair(qid, entries))
            except CommandFailed as failure:
                if not self.io:
                    raise ControllerFailed(f"{self.transport.name}: no I/O queue can be created: {failure}") from failure
                break

    def queue_ids(self) -> Sequence[int]:
        """Return the ids of the queues to create, in this order."""
        return range(1, self.granted_queues() + 1)

    def io_entries(self) -> int:
        """Return the number of slots of an I/O ring."""
        entries = min(self.settings.depth, self.max_queue_entries)
        self.note("NVME_QUEUE_DEPTH", self.settings.depth, entries, "entries of a queue")
        return entries

    def granted_queues(self) -> int:
        """Negotiate Number of Queues, 0's based both ways, before any queue exists. Base 2.0, 5.27.1.5."""
        wanted = self.settings.io_queues
        value = NumberOfQueues.of(NSQR=wanted - 1, NCQR=wanted - 1)
        answer = NumberOfQueues(self.execution.admin(SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=value)).DW0)
        granted = min(wanted, answer.NSQA + 1, answer.NCQA + 1)
        self.note("NVME_NUM_QUEUES", wanted, granted, "I/O queue pairs")
        return granted

    def note(self, setting: str, wanted: int, granted: int, unit: str) -> None:
        """Note a setting that was reduced to what the controller grants."""
        if granted < wanted:
            self.notes[setting] = f"{setting}: {wanted} {unit} are wanted, the controller allows {granted}"

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create the completion queue, then the submission queue that names it; delete the first if the second fails."""
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
        """Return Create I/O CQ. Base 2.0, 5.4. PC=1 suits every controller, also one with CAP.CQR."""
        ring = pair.completion
        interrupt = {} if pair.vector is None else {"IEN": 1, "IV": pair.vector}
        return CreateIoCq.of(QID=pair.qid, QSIZE=ring.entries - 1, PC=1, PRP1=ring.memory.address, **interrupt)

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return Create I/O SQ. Base 2.0, 5.5."""
        ring = pair.submission
        classes = {"QPRIO": min(pair.qid - 1, CLASSES - 1)} if self.has_classes else {}
        return CreateIoSq.of(QID=pair.qid, QSIZE=ring.entries - 1, PC=1, CQID=pair.qid, PRP1=ring.memory.address, **classes)

    def configure_shadows(self) -> None:
        """Use shadow doorbells where the controller supports them, to save register writes. Base 2.0, 5.8.

        If the controller refuses the command, the driver keeps to the doorbell registers. It does so too where a successor
        must be able to take its queues over.
        """
        if self.identity is None or not self.identity.OACS.DOORBELL_BUFFER or self.settings.keep_alive:
            return
        if self._shadows is None:
            doorbells, indexes = self.ring_memory(self.page_size), self.ring_memory(self.page_size)
            self._shadows = self.parts.shadow_doorbells(self.transport, doorbells, indexes, self.cap.DSTRD)
        self._shadows.clear()
        with suppress(CommandFailed):
            self.execution.admin(self.shadow_command(self._shadows))
            self.registers.shadows = self._shadows

    def shadow_command(self, shadows: ShadowDoorbells) -> DoorbellBufferConfig:
        """Return Doorbell Buffer Config. Base 2.0, 5.8. Each buffer is one page, so that no PRP list is needed."""
        return DoorbellBufferConfig.of(PRP1=shadows.doorbells.address, PRP2=shadows.indexes.address)

    # -- step 8: shutdown. Base 2.0, 3.6.1 "Memory-based Controller Shutdown" ------------------------

    def shutdown(self) -> None:
        """Delete the I/O queues, set CC.SHN=01b, wait for CSTS.SHST=10b. The driver sends nothing after that."""
        if self.failed is None and self.stage not in ("", "detect"):
            self.take_memory_back()
            self.delete_io_queues()
            self.registers.write(self.registers.read(CC).but(SHN=SHN_NORMAL))
            self.wait_shut_down()
            self.abandon(CommandLost("the controller was shut down"))
        self.stage = ""

    def sleep(self) -> None:
        """Shut the controller down, as before the system sleeps: it may lose its power then."""
        self._before_sleep = self.stage
        self.shutdown()

    def wake(self) -> None:
        """Perform the completed steps again after a sleep, detection too: the function may have lost its power."""
        self.stage = self._before_sleep
        try:
            self.detect()
            self.restart()
        except DriverError as failure:
            self.give_up(failure)
            raise

    def rest(self) -> bool:
        """Select the lowest power state before the system sleeps; return False where it must be shut down."""
        if self.identity is None or not self.identity.NPSS or self._lent is not None:
            return False
        try:
            self._power_awake, _ = self.features.get(Fid.POWER_MANAGEMENT)
            self.features.set(Fid.POWER_MANAGEMENT, self.identity.NPSS)
        except CommandFailed:
            return False
        return True

    def rouse(self) -> None:
        """Select the power state of before `rest`; a controller that refuses it is reset."""
        try:
            self.features.set(Fid.POWER_MANAGEMENT, self._power_awake)
        except CommandFailed as refused:
            self.recovery.reset(f"no power state after a sleep: {refused}")

    def delete_io_queues(self) -> None:
        """Delete submission queues before the completion queues that they name. Base 2.0, 5.6 and 5.7."""
        pairs, self.io = self.io, []
        deleted = pairs
        for command in (DeleteIoSq, DeleteIoCq):
            deleted = [pair for pair in deleted if self.was_deleted(command.of(QID=pair.qid))]
        for pair in pairs:
            pair.live = False

    def was_deleted(self, command: DeleteIoSq | DeleteIoCq) -> bool:
        """Delete a queue; return False where the controller refuses: what stays there ends with the shutdown."""
        try:
            self.execution.admin(command)
        except CommandFailed:
            return False
        return True

    def wait_shut_down(self) -> None:
        """Wait for CSTS.SHST=10b, as long as RTD3E (microseconds) says if that is longer than the setting."""
        reported = self.identity.RTD3E / 1e6 if self.identity else 0.0
        seconds = max(self.settings.shutdown_seconds, reported)
        deadline, delays = self.transport.now() + seconds, self.poll_delays()
        while self.registers.status().SHST != SHST_COMPLETE:
            if self.transport.now() >= deadline:
                raise ControllerFailed(f"{self.transport.name}: the shutdown was not complete after {seconds:g} s")
            self.transport.sleep(next(delays))

    def close(self) -> None:
        """Shut the controller down if it still answers, and release all resources."""
        try:
            with suppress(DriverError):
                self.shutdown()
        finally:
            self.abandon(CommandLost("the driver was unloaded"))
            self.transport.close()


def _nothing() -> None:
    pass
