"""The record of QEMU's own device against the device itself: driven by qtest, plugged over QMP."""

from __future__ import annotations

import contextlib
import mmap
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.data.content import blocks, initial
from lab.data.events import (
    Completed,
    ConfigWrite,
    Dma,
    Doorbell,
    Event,
    PrpList,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Submitted,
    Unknown,
)
from lab.data.evidence import Evidence, EvidenceWriter
from lab.data.identity import DriverIdentity, Identity
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.deadline import Deadline
from lab.device.qemu import QemuDevice
from lab.guest.arguments import FIRST_ROOT_PORT, GuestSpec
from lab.guest.machine import Machine
from lab.guest.memory import GuestMemory
from lab.nvme.commands import (
    Command,
    CreateIoCq,
    CreateIoSq,
    DatasetManagement,
    DeleteIoSq,
    Flush,
    GetLogPage,
    Identify,
    Read,
    SetFeatures,
    Write,
    WriteZeroes,
    decode,
)
from lab.nvme.completions import Completion
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, CSTS, VS, doorbell_offset
from lab.toolchain import Qemu, Toolchain
from lab.trace.declarations import Declarations
from lab.trace.reader import TraceReader
from lab.trace.translator import EVENTS, Translator

MEMORY = 32  # MiB
BAR = 0xE000_0000
ACPI_HOTPLUG = 0xCC0
PORT = FIRST_ROOT_PORT << 3
ENTRIES = 16
RINGS = {0: (0x10_0000, 0x10_1000), 1: (0x11_0000, 0x12_0000)}
DATA = 0x20_0000
SEED = 7
BEHIND_A_PORT = DeviceSpec(
    controllers=(
        Controller(
            serial="trace-1",
            mdts=9,  # 2 MiB, the most of 11.1
            namespaces=(Namespace(blocks=8192, areas=((0, 64), (8000, 192))),),
        ),
    )
)


class Host:
    """A driver of a page: registers by qtest, rings in the guest's memory. Not the product's; it may do wrong on purpose."""

    def __init__(self, qtest: socket.socket, memory: Path, seen: Callable[[], str]) -> None:
        """``seen`` is the last line that the reader has dealt with."""
        self._qtest = qtest.makefile("rwb")
        with memory.open("r+b") as file:
            self.ram = mmap.mmap(file.fileno(), MEMORY << 20)
        self.tails = dict.fromkeys(RINGS, 0)
        self.heads = dict.fromkeys(RINGS, 0)
        self.phases = dict.fromkeys(RINGS, 1)
        self.sent: list[tuple[int, Command]] = []
        self.answers: list[tuple[int, Completion]] = []
        self.seen = seen

    def do(self, *words: object) -> int:
        self._qtest.write(" ".join(str(word) for word in words).encode() + b"\n")
        self._qtest.flush()
        while True:
            answer = self._qtest.readline().split()
            assert answer, "QEMU has hung up"
            if answer[0] == b"OK":
                return int(answer[1], 16) if len(answer) > 1 else 0

    def config(self, bdf: int, offset: int, value: int, kind: str = "l") -> None:
        self.do("outl", 0xCF8, 0x8000_0000 | bdf << 8 | offset & ~3)
        self.do(f"out{kind}", 0xCFC + (offset & 3), value)

    def config_read(self, bdf: int, offset: int) -> int:
        self.do("outl", 0xCF8, 0x8000_0000 | bdf << 8 | offset & ~3)
        return self.do("inl", 0xCFC) >> (offset & 3) * 8

    def open_port(self) -> int:
        """Bus 1 behind the root port; returns where the function is."""
        self.config(PORT, 0x18, 0x01_01_00)
        self.config(PORT, 0x20, BAR >> 16 | BAR & 0xFFF0_0000)
        self.config(PORT, 0x04, 7, "w")
        return 1 << 8

    def let_go(self) -> None:
        """Wait until a device is wanted back and eject it: ACPI PCI hot-plug, QEMU's docs/specs/acpi_pci_hotplug."""
        deadline = Deadline(10)
        while True:
            for bus in range(4):
                self.do("outl", ACPI_HOTPLUG + 0x10, bus)
                if slots := self.do("inl", ACPI_HOTPLUG + 4):
                    self.do("outl", ACPI_HOTPLUG + 8, slots)
                    return
            assert not deadline.expired, "no device was asked for"

    def write(self, offset: int, value: int) -> None:
        self.do("writel", BAR + offset, int(value))

    def enable(self) -> None:
        self.write(CC.OFFSET, 0)
        self.write(AQA.OFFSET, AQA.of(ASQS=ENTRIES - 1, ACQS=ENTRIES - 1))
        self.do("writeq", BAR + ASQ.OFFSET, RINGS[0][0])
        self.write(ACQ.OFFSET, RINGS[0][1])
        self.write(ACQ.OFFSET + 4, 0)
        self.write(CC.OFFSET, CC.of(EN=1, IOSQES=6, IOCQES=4))

    def submit(self, qid: int, *commands: Command) -> None:
        """All of them under one doorbell."""
        for command in commands:
            slot = RINGS[qid][0] + self.tails[qid] * 64
            self.ram[slot : slot + 64] = command
            self.tails[qid] = (self.tails[qid] + 1) % ENTRIES
            self.sent.append((qid, command))
        self.write(doorbell_offset(qid, completion=False, dstrd=0), self.tails[qid])

    def reap(self, qid: int, count: int) -> list[Completion]:
        found: list[Completion] = []
        deadline = Deadline(10)
        for _ in range(count):
            slot = RINGS[qid][1] + self.heads[qid] * 16
            while self.ram[slot + 14] & 1 != self.phases[qid]:
                assert not deadline.expired, f"completion {len(found)} of {count} on queue {qid} did not come"
                time.sleep(0.0005)
            found.append(Completion(self.ram[slot : slot + 16]))
            self.answers.append((qid, found[-1]))
            self.heads[qid] = (self.heads[qid] + 1) % ENTRIES
            self.phases[qid] ^= self.heads[qid] == 0
        self.write(doorbell_offset(qid, completion=True, dstrd=0), self.heads[qid])
        acknowledged = f"pci_nvme_mmio_doorbell_cq cqid {qid} new_head {self.heads[qid]}"
        while not self.seen().endswith(acknowledged):  # or a slot might be reused before the reader has sampled it
            assert not deadline.expired, f"the reader has not seen {acknowledged!r}; its last line: {self.seen()!r}"
            time.sleep(0.0005)
        return found

    def ask(self, qid: int, command: Command) -> Completion:
        self.submit(qid, command)
        (answer,) = self.reap(qid, 1)
        return answer

    def make_queues(self) -> None:
        assert self.ask(0, SetFeatures.of(CID=0x101, FID=7, CDW11=0)).ok
        assert self.ask(0, CreateIoCq.of(CID=0x102, PRP1=RINGS[1][1], QID=1, QSIZE=ENTRIES - 1, PC=1)).ok
        assert self.ask(0, CreateIoSq.of(CID=0x103, PRP1=RINGS[1][0], QID=1, QSIZE=ENTRIES - 1, PC=1, CQID=1)).ok

    def close(self) -> None:
        self._qtest.close()
        self.ram.close()


@dataclass
class Run:
    """A QEMU with the device behind ``rp0``, a host that drives it, and in the end its evidence."""

    machine: Machine
    host: Host
    evidence: Evidence
    reader: TraceReader
    device: QemuDevice

    def events(self) -> list[Event]:
        """Return the record, once QEMU has ended (``run`` has been left)."""
        return list(self.evidence.events())


@contextlib.contextmanager
def run(qemu: Qemu, out: Path, spec: DeviceSpec = BEHIND_A_PORT, *, sampling: bool = True) -> Iterator[Run]:
    assert qemu.trace_events
    writer = EvidenceWriter(out / "evidence", Identity(driver=DriverIdentity(name="some"), device="qemu", scenario={}))
    device = QemuDevice(spec, writer.folder / "namespaces", qemu.version)
    device.create_images(SEED)
    declarations = Declarations.load(qemu.trace_events, EVENTS)
    reader = TraceReader(declarations, Translator([c.id for c in spec.controllers]), writer)
    with tempfile.TemporaryDirectory(prefix="trace-") as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/qtest")
        server.listen()
        ram = Path(short) / "ram"
        guest = GuestSpec(
            memory=MEMORY,
            memory_file=ram,
            root_ports=len(spec.controllers),
            trace=EVENTS,
            devices=device.subsystems,
            sandbox=False,
            extra=("-S", "-qtest", f"unix:{short}/qtest", "-qtest-log", "none"),
        )
        writable = [Path(short), writer.folder / "namespaces"]
        machine = Machine(qemu.command, qemu.env, guest, "tcg", trace=reader.write_end, root=Path(short), writable=writable)
        with reader, machine:
            reader.started()
            host = Host(server.accept()[0], ram, lambda: reader.last)
            with GuestMemory(ram, MEMORY) as memory:
                reader.translator.memory = memory if sampling else None
                device.plug(machine, [{"bus": f"rp{n}"} for n in range(len(spec.controllers))])
                yield Run(machine, host, Evidence(writer.folder), reader, device)
                machine.stop()
                reader.close(Deadline(10))
            host.close()
    writer.close("complete")


@pytest.fixture
def qemu(toolchain: Toolchain) -> Qemu:
    assert toolchain.qemu
    return toolchain.qemu


def kinds(events: list[Event], *kinds: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kinds)]


def start(host: Host) -> None:
    bdf = host.open_port()
    assert host.config_read(bdf, 8) >> 8 == 0x01_08_02
    host.config(bdf, 0x10, BAR)
    host.config(bdf, 0x14, 0)
    host.config(bdf, 0x04, 6, "w")


def commands() -> list[Command]:
    """I/O commands of all kinds that fit one lap of the ring; the last fails."""
    return [
        Write.of(CID=1, NSID=1, SLBA=8, NLB=15, PRP1=DATA, PRP2=DATA + 4096, FUA=1),
        Read.of(CID=2, NSID=1, SLBA=8000, NLB=31, PRP1=DATA + 0x4200, PRP2=DATA + 0x3000),
        Flush.of(CID=3, NSID=1),
        WriteZeroes.of(CID=4, NSID=1, SLBA=16, NLB=7),
        DatasetManagement.of(CID=5, NSID=1, NR=0, AD=1, PRP1=DATA + 0x2000),
        Read.of(CID=6, NSID=1, SLBA=8190, NLB=7, PRP1=DATA),
    ]


def fill_memory(host: Host) -> bytes:
    """Put the data to write, a PRP list of four entries and a range to deallocate into memory; return the data."""
    data = blocks(1, 1, 8, 16, 512)
    host.ram[DATA : DATA + len(data)] = data
    list_of_four = b"".join((DATA + 0x1_0000 + n * 0x2000).to_bytes(8, "little") for n in range(4))
    host.ram[DATA + 0x3000 : DATA + 0x3000 + 32] = list_of_four
    host.ram[DATA + 0x2000 : DATA + 0x2010] = bytes(4) + (8).to_bytes(4, "little") + (64).to_bytes(8, "little")
    return data


@pytest.mark.parametrize("sampling", [True, False], ids=["sampled", "exact-only"])
def test_what_the_host_did_is_what_the_record_says(qemu: Qemu, tmp_path: Path, sampling: bool) -> None:
    with run(qemu, tmp_path, sampling=sampling) as it:
        host = it.host
        start(host)
        cap, version = host.do("readq", BAR), host.do("readl", BAR + VS.OFFSET)
        host.enable()
        status = host.do("readl", BAR + CSTS.OFFSET)
        host.make_queues()
        data = fill_memory(host)
        host.submit(1, *commands())
        host.reap(1, 6)
        for number in range(2 * ENTRIES):  # two laps
            assert host.ask(1, Flush.of(CID=0x200 + number, NSID=1)).ok
        read = host.ram[DATA + 0x4200 : DATA + 0x5000] + host.ram[DATA + 0x1_0000 : DATA + 0x1_1000]
        host.write(CC.OFFSET, 0)
    events = it.events()

    assert kinds(events, Unknown) == []
    reads = [(e.offset, e.size, e.value) for e in events if isinstance(e, RegisterRead)]
    assert reads == [(CAP.OFFSET, 8, cap), (VS.OFFSET, 4, version), (CSTS.OFFSET, 4, status)]
    writes = [(e.offset, e.size) for e in events if isinstance(e, RegisterWrite)]
    assert writes == [(0x14, 4), (0x24, 4), (0x28, 8), (0x30, 8), (0x14, 4), (0x14, 4)]
    config = [(e.offset, e.size, e.value) for e in events if isinstance(e, ConfigWrite)]
    assert config == [(0x10, 4, BAR), (0x14, 4, 0), (0x04, 2, 6)]
    assert [e.cause for e in events if isinstance(e, Reset)] == ["power", "cc-en"]

    submitted = [e for e in events if isinstance(e, Submitted)]
    assert [(e.sqid, e.command.CID) for e in submitted] == [(q, c.CID) for q, c in host.sent]
    for event, (qid, sent) in zip(submitted, host.sent, strict=True):
        assert event.exact is not None
        sent = decode(sent, admin=qid == 0)
        assert {name: getattr(event.command, name) for name in event.exact} == {n: getattr(sent, n) for n in event.exact}
        if sampling:
            assert event.raw == bytes(sent)
    slots = [n % ENTRIES for n in range(6 + 2 * ENTRIES)]
    assert [e.slot for e in submitted if e.sqid == 1] == slots
    assert submitted[3].is_exact("SLBA", "NLB", "NSID", "PRP1", "PRP2", "OPC")
    assert not submitted[3].is_exact("FUA")

    completed = [e for e in events if isinstance(e, Completed)]
    for qid in RINGS:
        mine = [e for e in completed if e.cqid == qid]
        answers = [answer for queue, answer in host.answers if queue == qid]
        assert all(e.is_exact("CID", "SQID", "SC", "SCT") for e in mine)
        assert [(e.completion.SQID, e.completion.CID, e.completion.status) for e in mine] == [
            (a.SQID, a.CID, a.status) for a in answers
        ]
        if sampling:
            assert [e.raw for e in mine] == [bytes(a) for a in answers]

    bells = [(e.qid, e.completion, e.value) for e in events if isinstance(e, Doorbell)]
    assert len(bells) == 2 * (3 + 1 + 2 * ENTRIES)
    assert bells[:2] == [(0, False, 1), (0, True, 1)]
    assert bells[6:8] == [(1, False, 6), (1, True, 6)]

    entries = tuple(DATA + 0x1_0000 + n * 0x2000 for n in range(4))
    assert [(e.cid, e.address, e.entries, e.sampled) for e in events if isinstance(e, PrpList)] == [
        (2, DATA + 0x3000, entries, False)
    ]
    moved = {(e.cid, e.to_host): 0 for e in events if isinstance(e, Dma)}
    for e in events:
        if isinstance(e, Dma):
            moved[e.cid, e.to_host] += e.length
    assert moved == {(1, False): 8192, (2, True): 16384, (5, False): 16}

    namespace = BEHIND_A_PORT.controllers[0].namespaces[0]
    image = it.evidence.image("nv0", 1)
    assert image is not None
    disk = image.read_bytes()
    assert len(disk) == 8192 * 512
    assert disk[8 * 512 : 16 * 512] == data[: 8 * 512]
    assert disk[16 * 512 : 24 * 512] == bytes(8 * 512)
    assert disk[64 * 512 : 72 * 512] == bytes(8 * 512)
    expected = b"".join(initial(SEED, namespace, lba) for lba in range(8000, 8032))
    assert read[:3584] == expected[:3584]
    assert read[3584:] == expected[3584:7680]


def test_a_chained_prp_list_is_sampled_and_a_refused_entry_is_shown(qemu: Qemu, tmp_path: Path) -> None:
    pages = 1 + 40
    first, second = DATA + 0xFE0, DATA + 0x1000  # the first list has room for four entries
    targets = [DATA + 0x1_0000 + n * 0x1000 for n in range(pages)]
    bad = targets[2] + 8
    with run(qemu, tmp_path) as it:
        host = it.host
        start(host)
        host.enable()
        host.make_queues()
        words = [*targets[1:4], second, *targets[4:]]
        host.ram[first : first + 8 * len(words)] = b"".join(word.to_bytes(8, "little") for word in words)
        assert host.ask(1, Read.of(CID=1, NSID=1, SLBA=0, NLB=pages * 8 - 1, PRP1=targets[0], PRP2=first)).ok
        host.ram[first + 8 : first + 16] = bad.to_bytes(8, "little")
        assert not host.ask(1, Read.of(CID=2, NSID=1, SLBA=0, NLB=39, PRP1=targets[0], PRP2=first)).ok
    events = it.events()
    assert [(e.cid, e.address, e.entries, e.sampled) for e in events if isinstance(e, PrpList)] == [
        (1, first, (*targets[1:4], second), True),
        (1, second, tuple(targets[4:]), True),
        (2, first, (targets[1], bad), False),
    ]
    assert {e.cid for e in events if isinstance(e, Dma) and e.sqid == 1} == {1}


def test_a_slot_that_was_reused_at_once_is_not_trusted(qemu: Qemu, tmp_path: Path) -> None:
    class Stale:
        """Memory in which every command has been overwritten by the time it is read."""

        def read(self, address: int, length: int) -> bytes | None:
            return b"\xff" * length

    with run(qemu, tmp_path) as it:
        start(it.host)
        it.reader.translator.memory = Stale()
        it.host.enable()
        sent = Identify.of(CID=1, CNS=1, PRP1=DATA, CDW14=5)
        it.host.ask(0, sent)
    events = it.events()
    of_command, of_completion = [e.detail for e in events if isinstance(e, Remark) and e.name == "trace_sample"]
    assert (of_command["sqid"], of_command["slot"]) == (0, 0)
    assert "CID" in of_command["fields"]
    assert (of_completion["cqid"], of_completion["slot"], of_completion["cid"]) == (0, 0, 1)
    (submitted,) = [e for e in events if isinstance(e, Submitted)]
    assert submitted.rebuilt
    assert submitted.raw == bytes(sent.but(CDW14=0))
    assert submitted.is_exact("CID", "CNS", "PRP1")
    (completed,) = [e for e in events if isinstance(e, Completed)]
    assert completed.completion.CID == 1
    assert completed.completion.ok
    assert not completed.is_exact("SQHD")


def test_namespaces_on_a_plugged_controller(qemu: Qemu, tmp_path: Path) -> None:
    spec = DeviceSpec(
        controllers=(
            Controller(
                serial="two-of-them",
                mdts=3,
                namespaces=(
                    Namespace(nsid=3, blocks=4096, areas=((0, 8),), uuid="c2ba58d4-6a3e-4b1f-8f7e-0a1b2c3d4e5f"),
                    Namespace(nsid=7, blocks=513, block_size=4096, areas=((512, 1),), eui64=0x0123456789ABCDEF),
                    Namespace(nsid=9, blocks=1000, metadata_size=8),
                ),
            ),
        )
    )
    with run(qemu, tmp_path, spec) as it:
        host = it.host
        start(host)
        host.enable()
        sizes = {}
        assert host.ask(0, Identify.of(CID=1, CNS=1, PRP1=DATA)).ok
        controller = host.ram[DATA : DATA + 4096]
        assert host.ask(0, Identify.of(CID=2, CNS=2, PRP1=DATA)).ok
        active = host.ram[DATA : DATA + 16]
        for nsid in (3, 7, 9):
            assert host.ask(0, Identify.of(CID=nsid, CNS=0, NSID=nsid, PRP1=DATA)).ok
            raw = host.ram[DATA : DATA + 4096]
            lbaf = raw[128 + 4 * (raw[26] & 15) :][:4]
            sizes[nsid] = (int.from_bytes(raw[0:8], "little"), 1 << lbaf[2], int.from_bytes(lbaf[:2], "little"))
        eui64 = host.ask(0, Identify.of(CID=4, CNS=0, NSID=7, PRP1=DATA)) and host.ram[DATA + 120 : DATA + 128]
        host.make_queues()
        assert host.ask(1, Read.of(CID=5, NSID=7, SLBA=512, NLB=0, PRP1=DATA)).ok
        last = host.ram[DATA : DATA + 4096]
    assert controller[4:24].decode().strip() == "two-of-them"
    assert controller[77] == 3
    assert active == b"".join(n.to_bytes(4, "little") for n in (3, 7, 9, 0))
    assert sizes == {3: (4096, 512, 0), 7: (513, 4096, 0), 9: (1000, 512, 8)}
    assert eui64 == bytes.fromhex("0123456789abcdef")
    assert last == initial(SEED, spec.controllers[0].namespaces[1], 512)
    identified = [e.command for e in it.events() if isinstance(e, Submitted) and isinstance(e.command, Identify)]
    assert [(c.CNS, c.NSID) for c in identified] == [(1, 0), (2, 0), (0, 3), (0, 7), (0, 9), (0, 7)]
    assert {path.name for path in (it.evidence.folder / "namespaces").iterdir()} == {"nv0-3.img", "nv0-7.img", "nv0-9.img"}


def test_deleting_a_queue_and_a_log_page_that_is_none(qemu: Qemu, tmp_path: Path) -> None:
    with run(qemu, tmp_path) as it:
        host = it.host
        start(host)
        host.enable()
        host.make_queues()
        assert host.ask(0, DeleteIoSq.of(CID=9, QID=1)).ok
        assert not host.ask(0, DeleteIoSq.of(CID=10, QID=1)).ok
        assert not host.ask(0, GetLogPage.reading(0xEE, 512, CID=11, PRP1=DATA)).ok
    last = [e for e in it.events() if isinstance(e, Submitted)][-3:]
    assert [type(e.command) for e in last] == [DeleteIoSq, DeleteIoSq, GetLogPage]
    assert all(e.is_exact("QID") and e.command.QID == 1 for e in last[:2] if isinstance(e.command, DeleteIoSq))
    assert last[2].is_exact("LID", "NUMDL", "LPOL")
    assert last[2].raw == bytes(host.sent[-1][1])


@pytest.mark.parametrize("nsid", [1, 2], ids=["nvme", "nvme-ns"])
def test_a_device_is_unplugged_and_plugged_again(qemu: Qemu, tmp_path: Path, nsid: int) -> None:
    spec = DeviceSpec(controllers=(Controller(serial="twice", namespaces=(Namespace(nsid=nsid, blocks=8),)),))
    with run(qemu, tmp_path, spec) as it:
        start(it.host)
        with ThreadPoolExecutor(1) as guest:
            gone = guest.submit(it.device.unplug, it.machine, Deadline(20))
            it.host.let_go()
            gone.result()
        assert it.host.config_read(1 << 8, 0) == 0xFFFF_FFFF
        it.device.plug(it.machine, [{"bus": "rp0"}])
        start(it.host)
        it.host.enable()
        assert it.host.ask(0, Identify.of(CID=1, CNS=1, PRP1=DATA)).ok


def test_controllers_of_one_subsystem_share_a_namespace(qemu: Qemu, tmp_path: Path) -> None:
    shared = Namespace(nsid=5, blocks=2048, areas=((0, 8),), shared=True)
    detached = Namespace(nsid=6, blocks=1024, attached=False)
    spec = DeviceSpec(
        controllers=(
            Controller(id="a", serial="shared", namespaces=(shared, detached)),
            Controller(id="b", serial="shared", namespaces=(shared,)),
        )
    )
    with run(qemu, tmp_path, spec) as it:
        start(it.host)
        it.host.enable()
        assert it.host.ask(0, Identify.of(CID=1, CNS=2, PRP1=DATA)).ok
        attached = it.host.ram[DATA : DATA + 8]
        assert it.host.ask(0, Identify.of(CID=2, CNS=0x10, PRP1=DATA)).ok
        allocated = it.host.ram[DATA : DATA + 12]
        peripherals = {item["name"] for item in it.machine.qmp("qom-list", {"path": "/machine/peripheral"})}
    assert attached == (5).to_bytes(4, "little") + bytes(4)
    assert allocated == (5).to_bytes(4, "little") + (6).to_bytes(4, "little") + bytes(4)
    assert {"a", "b", "a-ns5", "a-ns6", "nvm-subsystem"} <= peripherals
    events = it.events()
    assert {e.controller for e in events} == {""}
    assert not kinds(events, Unknown)
