"""A host for the controller in process: just enough of a driver to send any command and to break any rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.controller.in_process import Function, InProcess
from lab.controller.memory import LocalMemory
from lab.data.events import Event, FaultInjected, Remark
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.data.stream import read_stream
from lab.nvme import commands as nvme
from lab.nvme.commands import Command
from lab.nvme.completions import Completion
from lab.nvme.registers import ACQ, AQA, ASQ, CC, CSTS, doorbell_offset

PAGE = 4096
ENTRIES = 16
READY = CC.of(EN=1, IOSQES=6, IOCQES=4)


class Ring:
    """The host's side of a queue pair."""

    def __init__(self, sq: int, cq: int, entries: int) -> None:
        self.sq, self.cq, self.entries = sq, cq, entries
        self.tail = self.head = 0
        self.phase = 1


class Host:
    """Drives one function; memory is handed out page by page and never taken back."""

    def __init__(self, device: InProcess, function: Function, records: Path) -> None:
        self.device, self.function, self._records = device, function, records
        self.memory = device.memory
        self.rings: dict[int, Ring] = {}
        self._cid = 0
        self.memory_space()

    # -- memory and registers

    def pages(self, count: int = 1) -> int:
        """Return the address of fresh pages, zeroed."""
        used = getattr(self.memory, "used", 0)
        self.memory.used = used + count * PAGE  # type: ignore[attr-defined]
        return self.memory.base + used

    def poke(self, address: int, data: bytes) -> None:
        """Write memory as the host, whatever the device may reach."""
        at = address - self.memory.base
        self.memory.arena[at : at + len(data)] = data

    def peek(self, address: int, length: int) -> bytes:
        at = address - self.memory.base
        return bytes(self.memory.arena[at : at + length])

    def read(self, register: type, size: int = 4) -> int:
        return self.function.read(register.OFFSET, size)  # type: ignore[attr-defined]

    @property
    def csts(self) -> CSTS:
        return CSTS(self.read(CSTS))

    def memory_space(self) -> None:
        """Enable the function's memory space, as firmware does."""
        self.function.config_write(4, 2, 0b010)

    def bus_master(self) -> None:
        """Enable its memory space and its DMA."""
        self.function.config_write(4, 2, 0b110)

    def enable(self, entries: int = ENTRIES, cc: int = READY) -> CSTS:
        """Brings the controller up with admin queues of so many entries."""
        self.bus_master()
        ring = self.rings[0] = Ring(self.pages(-(-entries * 64 // PAGE)), self.pages(-(-entries * 16 // PAGE)), entries)
        self.function.write(AQA.OFFSET, 4, AQA.of(ASQS=entries - 1, ACQS=entries - 1))
        self.function.write(ASQ.OFFSET, 8, ring.sq)
        self.function.write(ACQ.OFFSET, 8, ring.cq)
        self.function.write(CC.OFFSET, 4, cc)
        return self.csts

    def disable(self) -> CSTS:
        self.function.write(CC.OFFSET, 4, 0)
        self.rings.clear()
        return self.csts

    # -- queues

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Write a doorbell."""
        dstrd = self.function.controller.registers.cap.DSTRD
        self.function.write(doorbell_offset(qid, completion=completion, dstrd=dstrd), 4, value)

    def submit(self, command: Command, qid: int = 0, *, ring: bool = True) -> int:
        """Put a command into a queue and return its identifier; a CID of 0 is replaced by a fresh one."""
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
        """Return what has been posted and not been seen; the slots are given back unless ``ring`` is false."""
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

    def do(self, command: Command, qid: int = 0) -> Completion:
        """Send a command and return its completion, the only one that comes."""
        cid = self.submit(command, qid)
        (completion,) = self.completions(qid)
        assert completion.CID == cid
        assert completion.SQID == qid
        return completion

    def admin(self, command: Command, qid: int = 0) -> Completion:
        """Do the same for a command that must succeed."""
        completion = self.do(command, qid)
        assert completion.ok, completion.text
        return completion

    def data(self, command: Command, length: int = PAGE, qid: int = 0) -> bytes:
        """Return the data of a command that must succeed, from a buffer of its own."""
        buffer = self.pages(-(-length // PAGE))
        assert length <= 2 * PAGE
        self.admin(command.but(PRP1=buffer, PRP2=buffer + PAGE if length > PAGE else 0), qid)
        return self.peek(buffer, length)

    def create_queues(self, qid: int = 1, entries: int = ENTRIES, vector: int = 1) -> Ring:
        """Create an I/O queue pair."""
        ring = Ring(self.pages(-(-entries * 64 // PAGE)), self.pages(-(-entries * 16 // PAGE)), entries)
        self.admin(nvme.CreateIoCq.of(QID=qid, QSIZE=entries - 1, PC=1, IEN=1, IV=vector, PRP1=ring.cq))
        self.admin(nvme.CreateIoSq.of(QID=qid, QSIZE=entries - 1, PC=1, CQID=qid, PRP1=ring.sq))
        self.rings[qid] = ring
        return ring

    def up(self) -> Host:
        """Enable the controller and create one I/O queue pair."""
        assert self.enable().RDY
        self.create_queues()
        return self

    # -- the record

    def events(self) -> list[Event]:
        """Everything recorded; ends the device."""
        self.device.close()
        return list(read_stream(self._records / f"{self.function.controller.spec.id}.rec", complete=True))

    def remarks(self) -> list[str]:
        """Return the rules that were broken, in order; ends the device."""
        return [event.name for event in self.events() if isinstance(event, Remark)]

    def strikes(self) -> list[str]:
        """Return the faults that struck, in order; ends the device."""
        return [event.fault for event in self.events() if isinstance(event, FaultInjected)]


class MakeHost:
    """Makes devices and hosts for them; everything is closed when the test ends."""

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        self._folder, self._cleanup = folder, cleanup
        self._count = 0

    def __call__(
        self, *faults: Fault, namespaces: tuple[Namespace, ...] = (Namespace(blocks=4096),), strict: bool = False, **fields: Any
    ) -> Host:
        """Return a host of a device with one controller; ``fields`` are those of `lab.data.plan.Controller`."""
        controller = Controller(**{"serial": "LAB1", "namespaces": namespaces, **fields})
        (host,) = self.many(DeviceSpec(controllers=(controller,)), *faults, strict=strict)
        return host

    def many(self, spec: DeviceSpec, *faults: Fault, strict: bool = False) -> list[Host]:
        """Return a host for each controller of a device."""
        self._count += 1
        folder = self._folder / f"device{self._count}"
        folder.mkdir()
        device = InProcess(spec, folder, records=folder, faults=faults, memory=LocalMemory(16 << 20, strict=strict))
        self._cleanup.callback(device.close)
        return [Host(device, function, folder) for function in device.functions.values()]


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    with ExitStack() as cleanup:
        yield MakeHost(tmp_path, cleanup)


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """Return a plain device's host: enabled, with one I/O queue pair and a namespace of 4096 blocks."""
    return make_host().up()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits for a condition that another thread brings about."""
    import time

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "timed out after 10 s"
            time.sleep(0.001)

    return wait
