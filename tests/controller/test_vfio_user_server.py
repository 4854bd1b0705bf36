"""The vfio-user server against a client of our own: the protocol, descriptors, and everything that is no protocol."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.controller.server import DeviceServer
from lab.controller.vfio_user import HEADER, Command, DeviceInfo, DmaMap, DmaUnmap, IrqInfo, IrqSet, RegionInfo, Version
from lab.data.events import Completed, Event, Remark, Reset
from lab.data.events import DmaMap as Mapped
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.data.stream import read_stream
from lab.errors import LabError, UsageError
from lab.nvme import commands as nvme
from lab.nvme.completions import Completion
from lab.nvme.registers import CAP, CSTS
from tests.controller.bounds import Bounds

SPEC = DeviceSpec(controllers=(Controller(serial="LAB1", namespaces=(Namespace(blocks=4096),)),))
RAM = 1 << 20
Until = Callable[[Callable[[], bool]], None]


class Client:
    """Speaks the wire as QEMU does, or as it never would."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self._id = 0

    def send(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = (), flags: int = 0) -> int:
        self._id = self._id + 1 & 0xFFFF
        raw = HEADER.pack(self._id, command, HEADER.size + len(payload), flags, 0) + payload
        socket.send_fds(self.socket, [raw], fds)
        return self._id

    def receive(self) -> tuple[int, int, int, int, bytes]:
        """(id, command, flags, errno, payload) of the next reply."""
        id, command, size, flags, error = HEADER.unpack(self._exactly(HEADER.size))
        return id, command, flags, error, self._exactly(size - HEADER.size)

    def ask(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> bytes:
        """Return the reply to a message that must succeed."""
        id = self.send(command, payload, fds)
        got, echoed, flags, error, reply = self.receive()
        assert (got, echoed, flags, error) == (id, command, 1, 0), f"{Command(command).name}: errno {error}"
        return reply

    def refused(self, command: int, payload: bytes = b"", fds: tuple[int, ...] = ()) -> int:
        """Return the errno of a message that must fail, by its header alone."""
        self.send(command, payload, fds)
        _, _, flags, error, reply = self.receive()
        assert flags == 0x21
        assert reply == b""
        return error

    def read(self, region: int, offset: int, count: int) -> bytes:
        return self.ask(Command.REGION_READ, struct.pack("<QII", offset, region, count))[16:]

    def write(self, region: int, offset: int, data: bytes) -> None:
        self.ask(Command.REGION_WRITE, struct.pack("<QII", offset, region, len(data)) + data)

    def register(self, offset: int, value: int, size: int = 4) -> None:
        self.write(0, offset, value.to_bytes(size, "little"))

    def negotiate(self) -> dict[str, Any]:
        reply = self.ask(Command.VERSION, Version() + b'{"capabilities":{"max_msg_fds":8}}\0')
        assert Version(reply) == Version.of(MAJOR=0, MINOR=0)
        assert reply.endswith(b"\0")
        capabilities = json.loads(reply[4:-1])["capabilities"]
        assert isinstance(capabilities, dict)
        return capabilities

    def closed(self) -> bool:
        """Return whether the server hangs up, now or within the time-out; replies before that are skipped."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            data = self.socket.recv(size - len(got))
            if not data:
                raise EOFError("the server hung up")
            got += data
        return got


class Bench:
    """A running server, its clients, and its record once it has stopped."""

    def __init__(self, folder: Path, spec: DeviceSpec = SPEC, faults: tuple[Fault, ...] = ()) -> None:
        self.folder = folder
        self.server = DeviceServer(spec, folder, folder, records=folder, faults=faults)
        self.clients: list[Client] = []
        self.server.start()

    def connect(self, id: str = "nv0", *, negotiate: bool = True) -> Client:
        client = Client(self.server.sockets[id])
        self.clients.append(client)
        if negotiate:
            client.negotiate()
            client.write(7, 4, b"\x02\x00")  # Memory Space Enable
        return client

    def events(self, id: str = "nv0") -> list[Event]:
        self.server.stop()
        return list(read_stream(self.folder / f"{id}.rec", complete=True))

    def remarks(self) -> list[str]:
        return [event.name for event in self.events() if isinstance(event, Remark)]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for sockets, whatever pytest's own folders are called."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="vu-") as name:
        yield Path(name)


@pytest.fixture
def bench(folder: Path) -> Iterator[Bench]:
    found = Bench(folder)
    yield found
    found.close()


def open_files() -> int:
    """File descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def ram() -> tuple[int, int]:
    """Return a descriptor of guest memory of this length."""
    fd = os.memfd_create("ram")
    os.ftruncate(fd, RAM)
    return fd, RAM


def map_ram(client: Client, address: int = 0) -> int:
    fd, size = ram()
    client.ask(Command.DMA_MAP, DmaMap.of(ARGSZ=32, READABLE=1, WRITEABLE=1, ADDRESS=address, LENGTH=size), (fd,))
    return fd


def enable(client: Client, entries: int = 16) -> None:
    client.write(7, 4, b"\x06\x00")
    client.register(0x24, (entries - 1) * 0x10001)
    client.register(0x28, 0x1000, 8)
    client.register(0x30, 0x2000, 8)
    client.register(0x14, 0x460001)
    assert CSTS(int.from_bytes(client.read(0, 0x1C, 4), "little")).RDY


# -- the protocol ---------------------------------------------------------------------------------------------------


def test_what_the_device_says_of_itself(bench: Bench) -> None:
    client = bench.connect(negotiate=False)
    assert client.negotiate()["write_multiple"] is True
    info = DeviceInfo(client.ask(Command.DEVICE_GET_INFO, DeviceInfo.of(ARGSZ=16)))
    assert (info.PCI, info.RESET, info.NUM_REGIONS, info.NUM_IRQS) == (1, 1, 9, 5)
    regions = [RegionInfo(client.ask(Command.DEVICE_GET_REGION_INFO, RegionInfo.of(ARGSZ=32, INDEX=n))) for n in range(9)]
    assert [region.LENGTH for region in regions] == [0x4000, 0, 0, 0, 0x2000, 0, 0, 4096, 0]
    irqs = [IrqInfo(client.ask(Command.DEVICE_GET_IRQ_INFO, IrqInfo.of(ARGSZ=16, INDEX=n))) for n in range(5)]
    assert [irq.COUNT for irq in irqs] == [1, 16, 9, 0, 0]
    client.write(7, 4, b"\x02\x00")
    assert CAP(int.from_bytes(client.read(0, 0, 8), "little")).MQES == 2047
    assert client.read(7, 0, 4) == b"\x34\x12VN"


def test_a_command_from_doorbell_to_interrupt(bench: Bench) -> None:
    client = bench.connect()
    fd = map_ram(client)
    interrupt = os.eventfd(0, os.EFD_NONBLOCK)
    client.ask(Command.DEVICE_SET_IRQS, IrqSet.of(ARGSZ=20, EVENTFD=1, TRIGGER=1, INDEX=2, START=0, COUNT=1), (interrupt,))
    client.write(7, 0x72, b"\x00\x80")
    enable(client)
    os.pwrite(fd, nvme.Identify.of(CNS=1, CID=7, PRP1=0x3000), 0x1000)
    client.register(0x1000, 1)
    assert Completion(os.pread(fd, 16, 0x2000)).CID == 7
    assert os.pread(fd, 4, 0x3004) == b"LAB1"
    assert os.eventfd_read(interrupt) == 1
    client.ask(Command.DEVICE_SET_IRQS, IrqSet.of(ARGSZ=20, NONE=1, TRIGGER=1, INDEX=2))
    client.register(0x1004, 1)
    os.pwrite(fd, nvme.GetFeatures.of(FID=7, CID=8), 0x1040)
    client.register(0x1000, 2)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(interrupt)
    client.ask(Command.DEVICE_SET_IRQS, IrqSet.of(ARGSZ=20, EVENTFD=1, TRIGGER=1, INDEX=2, START=0, COUNT=1), (interrupt,))
    assert os.eventfd_read(interrupt) == 1, "what was signalled meanwhile is delivered later"
    assert bench.remarks() == ["interrupt-unhandled", "interrupt-late"]


def test_a_pin_is_masked_by_itself_and_signalled_again(bench: Bench) -> None:
    client = bench.connect()
    fd = map_ram(client)
    pin = os.eventfd(0, os.EFD_NONBLOCK)
    client.ask(Command.DEVICE_SET_IRQS, IrqSet.of(ARGSZ=20, EVENTFD=1, TRIGGER=1, COUNT=1), (pin,))
    enable(client)
    for slot in range(2):
        os.pwrite(fd, nvme.GetFeatures.of(FID=7, CID=slot + 1), 0x1000 + 64 * slot)
        client.register(0x1000, slot + 1)
    assert os.eventfd_read(pin) == 1, "once, until it is unmasked"
    client.ask(Command.DEVICE_SET_IRQS, IrqSet.of(ARGSZ=20, NONE=1, UNMASK=1, COUNT=1))
    assert os.eventfd_read(pin) == 1, "its reason is still there"
    client.register(0x1004, 2)
    client.ask(Command.DEVICE_SET_IRQS, IrqSet.of(ARGSZ=20, NONE=1, UNMASK=1, COUNT=1))
    with pytest.raises(BlockingIOError):
        os.eventfd_read(pin)


def test_several_writes_in_one_message(bench: Bench) -> None:
    client = bench.connect()
    writes = [(0x24, 0, 4, 0x000F000F), (0x28, 0, 8, 0x1000), (4, 7, 2, 6)]
    payload = struct.pack("<Q", len(writes)) + b"".join(struct.pack("<QIIQ", *one) for one in writes)
    client.ask(Command.REGION_WRITE_MULTI, payload)
    assert client.read(0, 0x24, 4) == b"\x0f\x00\x0f\x00"
    assert client.read(0, 0x28, 8) == b"\x00\x10" + bytes(6)
    assert client.read(7, 4, 2) == b"\x06\x00"


def test_messages_without_a_reply(bench: Bench) -> None:
    client = bench.connect()
    client.send(Command.REGION_WRITE, struct.pack("<QII", 0x24, 0, 4) + b"\x03\x00\x03\x00", flags=0x10)
    client.send(0x7777, flags=0x10)
    assert client.read(0, 0x24, 4) == b"\x03\x00\x03\x00", "the next reply is the next question's"


def test_reset(bench: Bench) -> None:
    client = bench.connect()
    map_ram(client)
    enable(client)
    client.ask(Command.DEVICE_RESET)
    client.write(7, 4, b"\x02\x00")
    assert client.read(0, 0x14, 4) == bytes(4)
    assert [event.cause for event in bench.events() if isinstance(event, Reset)] == ["bus", "unplug"]


# -- memory and descriptors -----------------------------------------------------------------------------------------


def test_ranges_come_and_go(bench: Bench) -> None:
    client = bench.connect()
    for address in (0, 0x10_0000, 0x8000_0000):
        os.close(map_ram(client, address))
    rom = DmaMap.of(ARGSZ=32, READABLE=1, ADDRESS=0xC000_0000, LENGTH=4096)
    client.ask(Command.DMA_MAP, rom)
    assert client.refused(Command.DMA_MAP, rom) == errno.EEXIST
    unmap = DmaUnmap.of(ARGSZ=24, ADDRESS=0x10_0000, LENGTH=RAM)
    assert client.ask(Command.DMA_UNMAP, unmap) == unmap
    ranges = bench.server.call(lambda device: device.controllers["nv0"].memory.ranges)
    assert ranges == [(0, RAM), (0x8000_0000, RAM), (0xC000_0000, 4096)]
    client.ask(Command.DMA_UNMAP, DmaUnmap.of(ARGSZ=24, ALL=1))
    assert bench.server.call(lambda device: device.controllers["nv0"].memory.ranges) == []
    mapped = [(event.address, event.mapped) for event in bench.events() if isinstance(event, Mapped)]
    assert mapped[:5] == [(0, True), (0x10_0000, True), (0x8000_0000, True), (0xC000_0000, True), (0x10_0000, False)]
    assert sorted(mapped[5:]) == [(0, False), (0x8000_0000, False), (0xC000_0000, False)]


def test_descriptors_belong_to_the_message_that_carries_them(bench: Bench) -> None:
    """Messages in one burst: each range must hold its own file's bytes."""
    client, files = bench.connect(), []
    for number in range(8):
        fd, _ = ram()
        os.pwrite(fd, bytes([number + 1]), 0)
        files.append(fd)
    for number, fd in enumerate(files):
        message = DmaMap.of(ARGSZ=32, READABLE=1, WRITEABLE=1, ADDRESS=number * RAM, LENGTH=RAM)
        client.send(Command.DMA_MAP, message, (fd,) if number != 3 else ())
        client.send(Command.REGION_READ, struct.pack("<QII", 0, 7, 4))
    for _ in range(16):
        assert client.receive()[3] == 0

    def first_bytes(device: Any) -> list[int]:
        memory = device.controllers["nv0"].memory
        return [memory.read(number * RAM, 1)[0] for number in range(8) if number != 3]

    assert bench.server.call(first_bytes) == [1, 2, 3, 5, 6, 7, 8]


def test_no_descriptor_is_leaked(bench: Bench) -> None:
    client = bench.connect()
    before = open_files()
    for _ in range(20):
        fd, _ = ram()
        client.send(Command.DMA_MAP, b"short", (fd,))
        client.send(Command.DEVICE_GET_INFO, DeviceInfo.of(ARGSZ=16), (fd, fd, fd))
        client.send(0x99, b"", (fd,))
        client.send(Command.DEVICE_SET_IRQS, IrqSet.of(EVENTFD=1, TRIGGER=1, INDEX=2, COUNT=2), (fd,))
        for _ in range(4):
            client.receive()
        os.close(fd)
    assert open_files() == before


def test_a_range_beyond_its_file_is_refused(bench: Bench) -> None:
    client = bench.connect()
    fd, size = ram()
    message = DmaMap.of(ARGSZ=32, READABLE=1, WRITEABLE=1, OFFSET=4096, LENGTH=size)
    assert client.refused(Command.DMA_MAP, message, (fd,)) == errno.EINVAL, "it would be a SIGBUS at the first access"
    assert client.refused(Command.DMA_MAP, message.but(OFFSET=0), (fd, fd)) == errno.EINVAL
    assert client.refused(Command.DMA_MAP, message.but(OFFSET=0, LENGTH=0), (fd,)) == errno.EINVAL


# -- nonsense -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "payload", "code"),
    [
        (Command.DMA_MAP, b"", errno.EINVAL),
        (Command.DMA_UNMAP, bytes(23), errno.EINVAL),
        (Command.DEVICE_GET_INFO, b"", errno.EINVAL),
        (Command.DEVICE_GET_REGION_INFO, RegionInfo.of(INDEX=9), errno.EINVAL),
        (Command.DEVICE_GET_IRQ_INFO, IrqInfo.of(INDEX=5), errno.EINVAL),
        (Command.DEVICE_SET_IRQS, IrqSet.of(EVENTFD=1, TRIGGER=1, INDEX=2, START=8, COUNT=2), errno.EINVAL),
        (Command.DEVICE_SET_IRQS, IrqSet.of(INDEX=2, COUNT=1), errno.ENOTSUP),
        (Command.REGION_READ, struct.pack("<QII", 0x4000, 0, 4), errno.EINVAL),
        (Command.REGION_READ, struct.pack("<QII", 0, 0, 3), errno.EINVAL),
        (Command.REGION_READ, struct.pack("<QII", 0, 7, 0), errno.EINVAL),
        (Command.REGION_READ, struct.pack("<QII", 0, 7, 0xFFFF_FFFF), errno.EINVAL),
        (Command.REGION_READ, struct.pack("<QII", (1 << 64) - 4, 7, 8), errno.EINVAL),
        (Command.REGION_READ, struct.pack("<QII", 0, 3, 4), errno.EINVAL),
        (Command.REGION_WRITE, struct.pack("<QII", 0, 0, 4), errno.EINVAL),
        (Command.REGION_WRITE, struct.pack("<QII", 0, 0, 4) + bytes(5), errno.EINVAL),
        (Command.REGION_WRITE_MULTI, struct.pack("<Q", 1 << 60), errno.EINVAL),
        (Command.REGION_WRITE_MULTI, struct.pack("<QQIIQ", 1, 0, 0, 9, 0), errno.EINVAL),
        (Command.VERSION, Version(), errno.EINVAL),
        (Command.DMA_READ, bytes(16), errno.ENOTSUP),
        (0xFFFF, b"x" * 1000, errno.ENOTSUP),
    ],
)
def test_messages_that_cannot_be_are_answered_and_the_next_one_works(
    bench: Bench, command: int, payload: bytes, code: int
) -> None:
    client = bench.connect()
    assert client.refused(command, payload) == code
    assert client.read(7, 0, 2) == b"\x34\x12"
    assert bench.remarks() == ["vfio-user"]


def test_nothing_before_the_version(bench: Bench) -> None:
    client = bench.connect(negotiate=False)
    assert client.refused(Command.DEVICE_RESET) == errno.EINVAL
    assert client.refused(Command.VERSION, b"\0") == errno.EINVAL
    client.negotiate()


@pytest.mark.parametrize(
    "raw",
    [
        HEADER.pack(1, Command.DEVICE_RESET, 15, 0, 0),
        HEADER.pack(1, Command.DEVICE_RESET, 0xFFFF_FFFF, 0, 0),
        HEADER.pack(1, Command.DEVICE_RESET, 16, 1, 0),
        HEADER.pack(1, Command.VERSION, 20, 0, 0) + Version.of(MAJOR=9),
    ],
)
def test_what_is_no_message_ends_the_connection_and_not_the_server(bench: Bench, raw: bytes) -> None:
    client = bench.connect(negotiate=raw[2] == Command.DEVICE_RESET)
    client.socket.sendall(raw)
    assert client.closed()
    assert bench.connect().read(7, 0, 2) == b"\x34\x12"
    assert "vfio-user-closed" in bench.remarks()


def test_too_many_descriptors_end_the_connection(bench: Bench) -> None:
    client = bench.connect()
    fd, _ = ram()
    before = open_files()
    client.send(Command.DEVICE_RESET, b"", (fd,) * 100)
    assert client.closed()
    bench.connect()
    assert open_files() <= before + 2


def test_a_message_in_pieces(bench: Bench) -> None:
    client = bench.connect()
    raw = HEADER.pack(7, Command.REGION_READ, 32, 0, 0) + struct.pack("<QII", 0, 7, 4)
    for byte in raw:
        client.socket.sendall(bytes([byte]))
        time.sleep(0)
    assert client.receive()[0] == 7


def test_half_a_message_does_not_block_other_clients(bench: Bench) -> None:
    client = bench.connect()
    client.socket.sendall(HEADER.pack(7, Command.REGION_READ, 32, 0, 0)[:9])
    assert bench.server.call(lambda device: list(device.controllers)) == ["nv0"]
    client.close()
    assert bench.connect().read(7, 0, 2) == b"\x34\x12"
    assert "vfio-user-closed" in bench.remarks()


def test_a_client_that_reads_no_replies_is_hung_up(bench: Bench) -> None:
    client = bench.connect()
    client.socket.settimeout(0.2)
    question = HEADER.pack(7, Command.REGION_READ, 32, 0, 0) + struct.pack("<QII", 0, 7, 4096)
    flood = question * 100_000
    with pytest.raises((ConnectionError, TimeoutError)):
        client.socket.sendall(flood)
    assert bench.connect().read(7, 0, 2) == b"\x34\x12"


# -- clients come and go --------------------------------------------------------------------------------------------


def test_a_disconnect_is_an_unplug(bench: Bench) -> None:
    client = bench.connect()
    map_ram(client)
    enable(client)
    client.close()
    again = bench.connect()
    assert again.read(7, 4, 2) == b"\x02\x00", "what connecting wrote"
    assert again.read(0, 0x14, 4) == bytes(4)
    assert bench.server.call(lambda device: device.controllers["nv0"].memory.ranges) == []


def test_a_second_client_waits_its_turn(bench: Bench) -> None:
    first = bench.connect()
    second = bench.connect(negotiate=False)
    second.send(Command.VERSION, Version())
    assert first.read(7, 0, 2) == b"\x34\x12"
    first.close()
    assert second.receive()[3] == 0


def test_two_controllers_of_one_device(folder: Path) -> None:
    shared = Namespace(blocks=64, shared=True)
    spec = DeviceSpec(controllers=tuple(Controller(id=id, serial="S", namespaces=(shared,)) for id in ("nv0", "nv1")))
    bench = Bench(folder, spec)
    try:
        first, second = bench.connect("nv0"), bench.connect("nv1")
        for client in (first, second):
            map_ram(client)
            enable(client)
        first.close()
        assert CSTS(int.from_bytes(second.read(0, 0x1C, 4), "little")).RDY
    finally:
        bench.close()


def test_a_delayed_command_completes_without_being_asked(folder: Path, until: Until) -> None:
    bench = Bench(folder, faults=(Fault(name="late", behaviour="delay", arguments={"ms": 30}, queue="admin"),))
    try:
        client = bench.connect()
        fd = map_ram(client)
        enable(client)
        os.pwrite(fd, nvme.GetFeatures.of(FID=7, CID=3), 0x1000)
        client.register(0x1000, 1)
        assert os.pread(fd, 16, 0x2000) == bytes(16)
        until(lambda: Completion(os.pread(fd, 16, 0x2000)).P == 1)
        assert any(isinstance(event, Completed) for event in bench.events())
    finally:
        bench.close()


# -- the face towards the lab ---------------------------------------------------------------------------------------


def test_calls_run_in_the_device_thread_and_raise_what_they_raise(bench: Bench) -> None:
    names = bench.server.call(lambda _: threading.current_thread().name)
    assert names == "nvme-device"
    with pytest.raises(UsageError, match="no fault"):
        bench.server.arm("nothing")
    with pytest.raises(ZeroDivisionError):
        bench.server.call(lambda _: 1 // 0)
    assert bench.server.call(lambda _: 5) == 5


def test_start_says_what_is_wrong(folder: Path) -> None:
    with pytest.raises(LabError, match="socket"):
        DeviceServer(SPEC, folder, folder / "not there").start()
    bad = Controller(serial="x", namespaces=(Namespace(blocks=8),), cap={"MQUES": 1})
    server = DeviceServer(DeviceSpec(controllers=(bad,)), folder, folder)
    with pytest.raises(UsageError, match="MQUES"):
        server.start()


def test_after_the_end_nothing_is_left(bench: Bench) -> None:
    client = bench.connect()
    map_ram(client)
    bench.server.stop()
    bench.server.stop()
    assert client.closed()
    assert not list(bench.folder.glob("*.sock"))
    with pytest.raises(LabError, match="not running"):
        bench.server.call(lambda _: None)


def test_an_error_of_the_device_is_reported_and_not_swallowed(bench: Bench) -> None:
    client = bench.connect()

    def spoil(device: Any) -> None:
        device.controllers["nv0"].read = None

    bench.server.call(spoil)
    client.send(Command.REGION_READ, struct.pack("<QII", 0, 0, 4))
    assert client.closed()
    assert bench.connect().read(7, 0, 2) == b"\x34\x12", "the thread goes on"
    with pytest.raises(LabError, match="programmable controller failed: TypeError"):
        bench.server.stop()
    bench.server._failure = None  # it was reported


# -- fuzz -----------------------------------------------------------------------------------------------------------

INTERESTING = (0, 1, 4, 8, 16, 20, 24, 32, 0x1000, 0x1004, 0x1008, 0x4000, 1 << 20, (1 << 32) - 1, (1 << 64) - 1)


def nonsense(chance: random.Random) -> tuple[int, bytes, int]:
    """Return a message: mostly of the right form, with fields out of hand."""
    command = chance.choice([*Command, chance.randrange(1 << 16)])

    def wide() -> int:
        return chance.choice(INTERESTING)

    def small() -> int:
        return wide() & 0xFFFF_FFFF

    payload = {
        Command.VERSION: Version.of(MINOR=chance.randrange(3)) + chance.randbytes(chance.randrange(20)),
        Command.DMA_MAP: struct.pack("<IIQQQ", 32, chance.randrange(4), wide(), wide(), wide()),
        Command.DMA_UNMAP: struct.pack("<IIQQ", 24, chance.randrange(4), wide(), wide()),
        Command.DEVICE_SET_IRQS: struct.pack("<IIIII", 20, chance.randrange(64), chance.randrange(6), small(), small()),
        Command.REGION_READ: struct.pack("<QII", wide(), chance.randrange(10), small()),
        Command.REGION_WRITE: struct.pack("<QII", chance.randrange(0x1100), chance.choice([0, 4, 7]), 4) + chance.randbytes(4),
        Command.REGION_WRITE_MULTI: struct.pack("<QQIIQ", chance.choice([0, 1, 2, 1 << 63]), 0x14, 0, 4, wide()),
    }.get(command, chance.randbytes(chance.choice([0, 16, 32])))
    if chance.random() < 0.1:
        payload = payload[: chance.randrange(len(payload) + 1)]
    return command, payload, 0x10 if chance.random() < 0.2 else 0


def fuzz(bench: Bench, seed: int, messages: int) -> None:
    """So many messages; the server answers each that wants it, neither grows nor stalls, and is there afterwards."""
    chance, fd = random.Random(seed), ram()[0]
    client = bench.connect()
    bounds = Bounds("messages of a hostile client", messages, bench.server._thread)
    for _ in range(messages):
        command, payload, flags = nonsense(chance)
        fds = (fd,) * chance.choice([0, 0, 0, 1, 1, 2])
        try:
            id = client.send(command, payload, fds, flags)
            if not flags:
                assert client.receive()[0] == id
        except (EOFError, ConnectionError):  # it was no message at all
            client.close()
            client = bench.connect()
        bounds.step()
    bounds.check()
    client.close()
    os.close(fd)
    assert bench.connect().read(7, 0, 2) == b"\x34\x12"


@pytest.mark.parametrize("seed", range(4))
def test_nonsense_neither_crashes_nor_hangs_it(bench: Bench, seed: int) -> None:
    fuzz(bench, seed, 500)


@pytest.mark.soak
def test_a_million_messages(bench: Bench) -> None:
    fuzz(bench, 1234, 1_000_000)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300))
def test_any_bytes(bench: Bench, raw: bytes) -> None:
    client = bench.connect()
    client.socket.sendall(raw)
    client.close()
    assert bench.server.call(lambda device: len(device.controllers)) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=14))
def test_any_submissions(bench: Bench, entries: list[bytes]) -> None:
    """A driver gone mad: every 64 bytes are a command, and each gets its completion or stays in flight."""
    client = bench.connect()
    fd = map_ram(client)
    enable(client)
    os.pwrite(fd, b"".join(entries), 0x1000)
    client.register(0x1000, len(entries))
    assert client.read(7, 0, 2) == b"\x34\x12"
    posted = sum(os.pread(fd, 1, 0x2000 + 16 * slot + 14)[0] & 1 for slot in range(16))
    assert posted <= len(entries)
    os.close(fd)
    client.close()


# -- hostile clients ------------------------------------------------------------------------------------------------


def test_descriptors_that_cannot_be_signalled_are_refused(bench: Bench) -> None:
    client = bench.connect()
    path = os.open("/tmp", os.O_PATH)
    asked = IrqSet.of(ARGSZ=20, EVENTFD=1, TRIGGER=1, INDEX=2, START=0, COUNT=1)
    assert client.refused(Command.DEVICE_SET_IRQS, asked, (path,)) == errno.EINVAL
    assert client.read(7, 0, 2) == b"\x34\x12"
    assert "vfio-user" in bench.remarks()


@pytest.mark.parametrize("writing", [False, True])
def test_memory_that_shrinks_under_the_device_ends_the_connection_only(bench: Bench, writing: bool) -> None:
    client = bench.connect()
    fd = map_ram(client)
    enable(client)
    os.pwrite(fd, nvme.Identify.of(CNS=1, CID=7, PRP1=0x3000) if writing else nvme.GetFeatures.of(FID=7, CID=7), 0x1000)
    os.ftruncate(fd, 0x3000 if writing else 0x1000)
    client.send(Command.REGION_WRITE, struct.pack("<QIII", 0x1000, 0, 4, 1))
    assert client.closed()
    assert bench.connect().read(7, 0, 2) == b"\x34\x12"
    (closed,) = [event for event in bench.events() if isinstance(event, Remark) and event.name == "vfio-user-closed"]
    assert "cut off" in closed.detail["why"]
