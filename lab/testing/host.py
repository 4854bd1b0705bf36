"""A host in front of one controller in process: memory, registers, rings, commands. It can send anything and break any rule."""

from __future__ import annotations

from typing import Self, TypeVar

from lab.controller.in_process import Function, InProcess
from lab.nvme import commands as nvme
from lab.nvme.commands import Command
from lab.nvme.completions import Completion
from lab.nvme.features import Fid, NumberOfQueues
from lab.nvme.fields import Register
from lab.nvme.registers import ACQ, AQA, ASQ, CC, CSTS, doorbell_offset

PAGE = 4096
"""Bytes of a memory page."""
ENTRIES = 16
"""Entries of a queue unless others are wanted."""
SECONDS = 60.0
"""How long `Host.do` waits for a completion, by the device's own clock, which costs no time."""
READY = CC.of(EN=1, IOSQES=6, IOCQES=4)
"""The value of CC that `Host.enable` writes: 64-byte submissions and 16-byte completions. Base 2.0, 3.1.3.5."""
COMMAND_REGISTER, MEMORY_SPACE, BUS_MASTER = 4, 0b010, 0b100

R = TypeVar("R", bound=Register)


class NoCompletionError(AssertionError):
    """A command that was not completed in time."""


class Ring:
    """The host's side of a queue pair: the addresses of its two queues, and where it is in them."""

    def __init__(self, sq: int, cq: int, entries: int) -> None:
        """Begin at the first slot of both queues, which have ``entries`` slots each."""
        self.sq, self.cq, self.entries = sq, cq, entries
        self.tail = self.head = 0
        self.phase = 1


class Host:
    """The host of one function. Pages are allocated one after the other and never freed.

    Addresses are bus addresses. Nothing is checked before it reaches the controller: what a driver must not do can be done.
    """

    def __init__(self, device: InProcess, function: Function) -> None:
        """Drive one function of a device; its memory space is enabled, as firmware leaves it."""
        self.device, self.function = device, function
        self.memory = device.memory
        self.rings: dict[int, Ring] = {}
        """The queue pairs by queue identifier; 0 is the admin queue pair."""
        self._cid = 0
        self.memory_space()

    # -- memory -----------------------------------------------------------------------------------------------------

    def pages(self, count: int = 1) -> int:
        """Allocate ``count`` zeroed pages and return their address."""
        used = getattr(self.memory, "used", 0)
        if used + count * PAGE > self.memory.size:
            raise MemoryError(f"the host's memory has {self.memory.size} bytes, and they are all allocated")
        self.memory.used = used + count * PAGE  # type: ignore[attr-defined]  # several hosts allocate from one memory
        return self.memory.base + used

    def poke(self, address: int, data: bytes) -> None:
        """Write memory as the host, whatever the device may access."""
        at = address - self.memory.base
        self.memory.arena[at : at + len(data)] = data

    def peek(self, address: int, length: int) -> bytes:
        """Read memory as the host."""
        at = address - self.memory.base
        return bytes(self.memory.arena[at : at + length])

    # -- registers --------------------------------------------------------------------------------------------------

    def read(self, register: type[Register], size: int = 4) -> int:
        """Read ``size`` bytes of a register as a number."""
        return self.function.read(register.OFFSET, size)

    def register(self, register: type[R]) -> R:
        """Read a whole register, decoded."""
        return register(self.function.read(register.OFFSET, register.SIZE))

    def write(self, value: Register) -> None:
        """Write a whole register."""
        self.function.write(value.OFFSET, value.SIZE, int(value))

    @property
    def csts(self) -> CSTS:
        """Controller Status as it is now."""
        return CSTS(self.read(CSTS))

    def memory_space(self) -> None:
        """Enable the function's memory space alone, as firmware does."""
        self.function.config_write(COMMAND_REGISTER, 2, MEMORY_SPACE)

    def bus_master(self) -> None:
        """Enable the function's memory space and its DMA."""
        self.function.config_write(COMMAND_REGISTER, 2, MEMORY_SPACE | BUS_MASTER)

    def enable(self, entries: int = ENTRIES, cc: int = READY) -> CSTS:
        """Enable the controller with admin queues of ``entries`` slots; return CSTS right afterwards."""
        self.bus_master()
        ring = self.rings[0] = Ring(self.pages(-(-entries * 64 // PAGE)), self.pages(-(-entries * 16 // PAGE)), entries)
        self.function.write(AQA.OFFSET, 4, AQA.of(ASQS=entries - 1, ACQS=entries - 1))
        self.function.write(ASQ.OFFSET, 8, ring.sq)
        self.function.write(ACQ.OFFSET, 8, ring.cq)
        self.function.write(CC.OFFSET, 4, cc)
        return self.csts

    def disable(self) -> CSTS:
        """Clear CC.EN; return CSTS right afterwards. All queues are gone."""
        self.function.write(CC.OFFSET, 4, 0)
        self.rings.clear()
        return self.csts

    def up(self) -> Self:
        """Enable the controller, create one I/O queue pair, and return the host."""
        assert self.enable().RDY, f"the controller is not ready: {self.csts}"
        self.admin(nvme.SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=NumberOfQueues.of(NSQR=0, NCQR=0)))
        self.create_queues()
        return self

    # -- queues -----------------------------------------------------------------------------------------------------

    def create_queues(self, qid: int = 1, entries: int = ENTRIES, vector: int = 1) -> Ring:
        """Create an I/O queue pair whose completion queue interrupts by ``vector``."""
        ring = Ring(self.pages(-(-entries * 64 // PAGE)), self.pages(-(-entries * 16 // PAGE)), entries)
        self.admin(nvme.CreateIoCq.of(QID=qid, QSIZE=entries - 1, PC=1, IEN=1, IV=vector, PRP1=ring.cq))
        self.admin(nvme.CreateIoSq.of(QID=qid, QSIZE=entries - 1, PC=1, CQID=qid, PRP1=ring.sq))
        self.rings[qid] = ring
        return ring

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Write a doorbell."""
        dstrd = self.function.controller.registers.cap.DSTRD
        self.function.write(doorbell_offset(qid, completion=completion, dstrd=dstrd), 4, value)

    def submit(self, command: Command, qid: int = 0, *, ring: bool = True) -> int:
        """Put a command into a queue and return its identifier; a CID of 0 is replaced by a fresh one.

        Without ``ring`` the controller does not know of it before a later doorbell.
        """
        if not command.CID:
            self._cid = self._cid % 0xFFFE + 1
            command = command.but(CID=self._cid)
        queue = self.rings[qid]
        self.poke(queue.sq + 64 * queue.tail, command)
        queue.tail = (queue.tail + 1) % queue.entries
        if ring:
            self.ring(qid, completion=False, value=queue.tail)
        return command.CID

    def completions(self, qid: int = 0, *, ring: bool = True) -> list[Completion]:
        """Return what was posted and not taken yet; the slots are given back unless ``ring`` is false."""
        queue, found = self.rings[qid], []
        while True:
            entry = Completion(self.peek(queue.cq + 16 * queue.head, 16))
            if entry.P != queue.phase:
                break
            found.append(entry)
            queue.head += 1
            if queue.head == queue.entries:
                queue.head, queue.phase = 0, queue.phase ^ 1
        if found and ring:
            self.ring(qid, completion=True, value=queue.head)
        return found

    # -- commands ---------------------------------------------------------------------------------------------------

    def do(self, command: Command, qid: int = 0, *, seconds: float = SECONDS) -> Completion:
        """Send a command and return its completion, which must be the only one that comes.

        NoCompletionError after ``seconds`` of the device's time: delays cost no real time.
        """
        cid = self.submit(command, qid)
        deadline = self.device.device.clock.now() + seconds
        while not (found := self.completions(qid)):
            left = deadline - self.device.device.clock.now()
            if left <= 0 or not self.device.wait(left):
                raise NoCompletionError(f"{type(command).__name__} was not completed within {seconds:g} s")
        assert [(one.SQID, one.CID) for one in found] == [(qid, cid)], f"not the completion of command {cid}: {found}"
        return found[0]

    def admin(self, command: Command, qid: int = 0) -> Completion:
        """Send a command that must succeed, and return its completion."""
        completion = self.do(command, qid)
        assert completion.ok, completion.text
        return completion

    def data(self, command: Command, length: int = PAGE, qid: int = 0) -> bytes:
        """Return the data of a command that must succeed: ``length`` bytes, two pages at most, from a buffer of its own."""
        assert length <= 2 * PAGE
        buffer = self.pages(-(-length // PAGE))
        self.admin(command.but(PRP1=buffer, PRP2=buffer + PAGE if length > PAGE else 0), qid)
        return self.peek(buffer, length)

    def send(self, command: Command, data: bytes, qid: int = 0) -> Completion:
        """Send a command with data for the controller, two pages at most; it must succeed."""
        assert len(data) <= 2 * PAGE
        buffer = self.pages(-(-len(data) // PAGE))
        self.poke(buffer, data)
        return self.admin(command.but(PRP1=buffer, PRP2=buffer + PAGE if len(data) > PAGE else 0), qid)
