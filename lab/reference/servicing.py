"""Servicing: the driver is replaced while the controller goes on. Save in the predecessor, restore in the successor.

The controller is not reset: CC.EN stays 1, queues and namespaces stay known, commands in flight end in the successor's hands.
What the controller is, and whether it is still as it was left, is read from its registers before the saved state is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lab.nvme.async_events import AsyncEvent
from lab.nvme.commands import Abort, AsyncEventRequest, Command, CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq, decode
from lab.nvme.identify import Csi, IdentifyController, IdentifyNamespace
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, VS
from lab.reference import pci
from lab.reference.async_events import Events
from lab.reference.core import Core
from lab.reference.document import ServicingError, seal, unseal
from lab.reference.errors import CommandFailed, CommandLost
from lab.reference.execution import Execution
from lab.reference.identification import Identifiers
from lab.reference.namespace import Namespace
from lab.reference.pending import Pending, PendingOperation
from lab.reference.pool import DmaPool
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.ring import Ring
from lab.reference.transport import Memory

OPERATION, EVENT, CREATE_CQ, CREATE_SQ, ABORT = "operation", "event", "create-cq", "create-sq", "abort"
POLLED = -1


class Serviced(Protocol):
    """The controller's own steps and parts that servicing uses (`lab.reference.controller.Controller`)."""

    stage: str
    namespaces: dict[int, Namespace]
    pending: Pending
    events: Events

    def open_vectors(self) -> None:
        """Install the interrupt handlers."""

    def adopt_pair(
        self, qid: int, submission: tuple[Memory, int], completion: tuple[Memory, int], vector: int | None
    ) -> QueuePair:
        """Return a queue pair in a predecessor's memory."""

    def make_namespace(self, nsid: int, identity: IdentifyNamespace, names: Identifiers) -> Namespace:
        """Return a namespace that was identified."""

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        """Return a queue pair with empty rings."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return Create I/O CQ for a pair."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return Create I/O SQ for a pair."""


class Servicing:
    """Saves and restores one controller."""

    def __init__(self, core: Core, execution: Execution, controller: Serviced) -> None:
        """Begin with nothing under way."""
        self._c, self._execution, self._controller = core, execution, controller
        self.creating: dict[int, str] = {}
        """Queue pairs that are being created, and what was sent for them last."""

    # -- commands that are sent without waiting ---------------------------------------------------------------------

    def begin_recreation(self) -> None:
        """Delete the last I/O queue pair, and begin to create it again, without waiting.

        Nothing is done if it is the only one, has commands in flight, or shares its completion queue.
        """
        last = self._c.io[-1]
        if len(self._c.io) < 2 or last.outstanding or self._controller.create_sq_command(last).CQID != last.qid:
            return
        pair = self._c.io.pop()
        for command in (DeleteIoSq, DeleteIoCq):
            self._execution.admin(command.of(QID=pair.qid))
        pair.live = False
        pair.restart()
        self.send(self._controller.create_cq_command(pair), CREATE_CQ)

    def begin_abort(self) -> None:
        """Send Abort for the oldest operation in flight, without waiting."""
        for pair in self._c.io:
            for cid in pair.outstanding:
                self.send(Abort.of(SQID=pair.qid, ABORT_CID=cid), ABORT)
                return

    def send(self, command: Command, purpose: str) -> Request:
        """Send an admin command without waiting."""
        request = Request(command, lambda ended: self.ended(ended, purpose))
        self._c.admin.submit(request, self._c.transport.now())
        if purpose in (CREATE_CQ, CREATE_SQ):
            self.creating[command.QID] = purpose  # type: ignore[attr-defined]
        self._c.admin.ring()
        return request

    def ended(self, request: Request, purpose: str) -> None:
        """Note the end of a command of `send`; `finish` goes on from there."""
        if purpose in (CREATE_CQ, CREATE_SQ) and not request.ok:
            self.creating.pop(request.command.QID, None)  # type: ignore[attr-defined]

    def finish(self) -> None:
        """Wait for the commands of `send`, and complete the creation of queue pairs."""
        admin = self._c.admin
        mine = [one for one in admin.outstanding.values() if isinstance(one.command, Abort | CreateIoCq | CreateIoSq)]
        deadline = self._c.transport.now() + self._c.settings.command_seconds
        while not all(one.done for one in mine) and self._c.failed is None:
            if self._c.transport.now() >= deadline:
                self._execution.recovery.reset("a command of the predecessor was not completed in time")
                return
            if not admin.reap():
                self._c.transport.wait(admin.vector, self._c.settings.check_seconds)
        for qid, purpose in sorted(self.creating.items()):
            pair = self._c.known_pair(qid)
            try:
                if purpose == CREATE_CQ:
                    self._execution.admin(self._controller.create_sq_command(pair))
            except CommandFailed:
                self._execution.admin(DeleteIoCq.of(QID=qid))
                continue
            pair.live = True
            self._c.io.append(pair)
            self._c.io.sort(key=lambda one: one.qid)
        self.creating.clear()

    # -- save -------------------------------------------------------------------------------------------------------

    def save(self) -> str:
        """Return the document of the state. The driver must do nothing more with the controller or its memory."""
        pool, registers = self.pool(), self._c.registers
        if zoned := [nsid for nsid, one in self._controller.namespaces.items() if one.names.csi == Csi.ZONED]:
            raise ServicingError(f"namespace {zoned[0]} has zones, of which this driver saves nothing")
        for pair in self._c.pairs():
            if pair.live:
                pair.settle()
        return seal(
            {
                "address": self._c.transport.name,
                "stage": self._controller.stage,
                "registers": {
                    "CAP": int(self._c.cap), "VS": int(self._c.version), "CC": int(registers.read(CC)),
                    "AQA": int(registers.read(AQA)), "ASQ": int(registers.read(ASQ)), "ACQ": int(registers.read(ACQ)),
                },
                "controller": self._c.known_identity.hex(),
                "namespaces": [
                    {"nsid": nsid, "identify": one.identity.hex(), **one.names.saved}
                    for nsid, one in self._controller.namespaces.items()
                ],
                "queues": [self.save_pair(pool, pair) for pair in self._c.pairs()],
                "operations": [self.save_operation(pool, one) for one in self._controller.pending.operations.values()],
                "next_ticket": self._controller.pending.next_ticket,
                "events": [int(event) for event in self._controller.events.received],
                "creating": sorted(qid for qid, purpose in self.creating.items() if purpose == CREATE_CQ),
            }
        )  # fmt: skip

    def pool(self) -> DmaPool:
        """Return the pool that outlives the driver. ServicingError without one."""
        pool = getattr(self._c.transport, "pool", None)
        if not isinstance(pool, DmaPool):
            raise ServicingError("the driver's memory does not outlive it: keep-alive is off")
        return pool

    def save_pair(self, pool: DmaPool, pair: QueuePair) -> dict[str, Any]:
        """Return the state of a queue pair."""
        return {
            "qid": pair.qid,
            "vector": POLLED if pair.vector is None else pair.vector,
            "live": pair.live,
            "next_cid": pair.next_cid,
            "submission": _ring(pool, pair.submission),
            "completion": _ring(pool, pair.completion),
            "commands": [self.save_command(cid, request) for cid, request in pair.outstanding.items()],
        }

    def save_command(self, cid: int, request: Request) -> dict[str, Any]:
        """Return a command in flight: what it is for, and the operation that it belongs to."""
        operations = self._controller.pending.operations.values()
        ticket = next((one.ticket for one in operations if one.request is request), 0)
        return {"cid": cid, "purpose": purpose(request.command), "ticket": ticket, "command": request.command.hex()}

    def save_operation(self, pool: DmaPool, one: PendingOperation) -> dict[str, Any]:
        """Return an operation with the tags of its memory."""
        return {
            "ticket": one.ticket,
            "command": one.command.hex(),
            "buffer": pool.tag_of(one.memory),
            "length": one.length,
            "lists": [pool.tag_of(memory) for memory in one.lists],
            "status": one.status,
        }

    # -- restore ----------------------------------------------------------------------------------------------------

    def restore(self, document: str) -> None:
        """Take the controller over as the document describes it. ServicingError, and nothing is done, if that cannot be."""
        state, pool = unseal(document), self.pool()
        self.check_controller(state)
        found = self.find_memory(state, pool)
        self.restore_state(state)
        self.restore_interrupts()
        for saved in state["queues"]:
            self.restore_pair(saved, found)
        self.restore_operations(state, found)
        self.restore_commands(state)
        self._controller.stage = state["stage"]
        self.take_over()

    def check_controller(self, state: Mapping[str, Any]) -> None:
        """Raise ServicingError unless the controller is as it was left: enabled, healthy, with the same admin queues."""
        registers = self._c.registers
        cap = registers.capabilities()
        found = {
            "CAP": int(cap), "VS": int(registers.read(VS)), "CC": int(registers.read(CC)),
            "AQA": int(registers.read(AQA)), "ASQ": int(registers.read(ASQ)), "ACQ": int(registers.read(ACQ)),
        }  # fmt: skip
        for name, value in found.items():
            if value != state["registers"][name]:
                was = state["registers"][name]
                raise ServicingError(f"{name} is {value:#x}, and was {was:#x}: the controller was reset meanwhile")
        status = registers.status()
        if not status.RDY or status.CFS:
            raise ServicingError(f"the controller does not run any more: {status}")

    def find_memory(self, state: Mapping[str, Any], pool: DmaPool) -> dict[str, Memory]:
        """Return all memory of the predecessor by its tag. PoolError if some is missing."""
        rings = [queue[ring]["tag"] for queue in state["queues"] for ring in ("submission", "completion")]
        buffers = [tag for one in state["operations"] for tag in (one["buffer"], *one["lists"])]
        return {tag: pool.find(tag) for tag in (*rings, *buffers)}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Take over what the registers and Identify said."""
        self._c.cap, self._c.version = CAP(state["registers"]["CAP"]), VS(state["registers"]["VS"])
        self._c.identity = IdentifyController(bytes.fromhex(state["controller"]))
        for one in state["namespaces"]:
            names = Identifiers(uuid=one["uuid"], nguid=one["nguid"], eui64=one["eui64"])
            identity = IdentifyNamespace(bytes.fromhex(one["identify"]))
            self._controller.namespaces[one["nsid"]] = self._controller.make_namespace(one["nsid"], identity, names)

    def restore_interrupts(self) -> None:
        """Install the handlers of the interrupts again; the function's own settings stay."""
        pci.set_command(self._c.transport, pci.MEMORY_SPACE | pci.BUS_MASTER)
        self._controller.open_vectors()

    def restore_pair(self, saved: Mapping[str, Any], found: Mapping[str, Memory]) -> None:
        """Take a queue pair over, with its indexes."""
        submission, completion = saved["submission"], saved["completion"]
        vector = None if saved["vector"] == POLLED else saved["vector"]
        rings = [(found[ring["tag"]], ring["entries"]) for ring in (submission, completion)]
        pair = self._controller.adopt_pair(saved["qid"], rings[0], rings[1], vector)
        for ring, was in ((pair.submission, submission), (pair.completion, completion)):
            ring.head, ring.tail, ring.phase = was["head"], was["tail"], was["phase"]
        pair.resume(next_cid=self.restore_cid(saved))
        pair.live = saved["live"]
        if pair.live and pair.qid:
            self._c.io.append(pair)

    def restore_cid(self, saved: Mapping[str, Any]) -> int:
        """Return the command identifier to continue with."""
        return int(saved["next_cid"])

    def restore_operations(self, state: Mapping[str, Any], found: Mapping[str, Memory]) -> None:
        """Take the started operations over."""
        operations = [
            PendingOperation(
                one["ticket"], decode(bytes.fromhex(one["command"]), admin=False), found[one["buffer"]], one["length"],
                [found[tag] for tag in one["lists"]], one["status"],
            )
            for one in state["operations"]
        ]  # fmt: skip
        self._controller.pending.adopt(operations, state["next_ticket"])

    def restore_commands(self, state: Mapping[str, Any]) -> None:
        """Put the commands in flight back to their queue pairs, each with what follows its end."""
        now = self._c.transport.now()
        self.creating = dict.fromkeys(state["creating"], CREATE_CQ)
        events = self._controller.events
        events.adopt([AsyncEvent(value) for value in state["events"]], 0)
        for saved in state["queues"]:
            pair = self._c.known_pair(saved["qid"])
            for one in saved["commands"]:
                request = Request(decode(bytes.fromhex(one["command"]), admin=pair.qid == 0), self.on_end(one))
                request.attempts, request.started_at = 1, now
                pair.outstanding[one["cid"]] = request
                if one["purpose"] == EVENT:
                    events.count_outstanding()
                if one["ticket"]:
                    self._controller.pending.operations[one["ticket"]].request = request

    def on_end(self, one: Mapping[str, Any]) -> Callable[[Request], None]:
        """Return what follows the end of a command in flight."""
        pending = self._controller.pending
        if one["purpose"] == EVENT:
            return self._controller.events.ended
        if one["purpose"] == OPERATION:
            operation = pending.operations[one["ticket"]]
            return lambda request: pending.ended(operation, request)
        return lambda request: self.ended(request, one["purpose"])

    def take_over(self) -> None:
        """Look at all completion queues, for interrupts that came in between are gone; finish what was begun."""
        for pair in self._c.pairs():
            pair.reap()
        self.finish()
        if self._c.failed is None:
            self._controller.events.handle()
            self._controller.events.fill()

    def shut_down_before(self) -> None:
        """End all operations before an orderly shutdown, when keep-alive is off."""
        self._controller.pending.collect()
        self._c.abandon(CommandLost("the driver is replaced"))


def purpose(command: Command) -> str:
    """Return what a command in flight without a waiting caller is for."""
    kinds: Mapping[type[Command], str] = {
        AsyncEventRequest: EVENT, CreateIoCq: CREATE_CQ, CreateIoSq: CREATE_SQ, Abort: ABORT,
    }  # fmt: skip
    return kinds.get(type(command), OPERATION)


def _ring(pool: DmaPool, ring: Ring) -> dict[str, Any]:
    return {
        "tag": pool.tag_of(ring.memory), "entries": ring.entries, "head": ring.head, "tail": ring.tail, "phase": ring.phase,
    }  # fmt: skip
