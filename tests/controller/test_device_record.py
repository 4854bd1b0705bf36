"""The controller's record: exact, ordered, whole after a kill, and of bounded memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.controller.dma import DmaRefusedError, HostMemory, LocalMemory
from lab.data.events import (
    Completed,
    ConfigWrite,
    Dma,
    DmaMap,
    Doorbell,
    Event,
    Interrupt,
    PrpList,
    RegisterRead,
    RegisterWrite,
    Remark,
    Submitted,
)
from lab.data.evidence import Evidence, EvidenceWriter
from lab.data.identity import DriverIdentity, Identity
from lab.data.stream import WINDOW, StreamWriter, digest, read_stream
from lab.errors import LabError

SEEN: tuple[Event, ...] = (
    RegisterRead(t=1.0, controller="nv0", offset=0, size=8, value=(1 << 64) - 1),
    RegisterWrite(t=1.0, controller="nv0", offset=20, size=4, value=1),
    Doorbell(t=1.0, controller="nv0", offset=0x1008, size=4, value=3, qid=1, completion=False),
    Doorbell(t=1.0, controller="nv0", offset=0x1002, size=4, value=3, qid=-1, completion=False),
    Submitted(t=1.0, controller="nv0", sqid=1, slot=2, raw=bytes(range(64))),
    Completed(t=1.0, controller="nv0", cqid=1, raw=bytes(range(16))),
    PrpList(t=1.0, controller="nv0", sqid=1, cid=2, address=4096, entries=(1, 2, (1 << 64) - 1)),
    PrpList(t=1.0, controller="nv0", sqid=1, cid=2, address=4096, entries=()),
    Dma(t=1.0, controller="nv0", sqid=1, cid=2, address=8192, length=5, to_host=True, digest=digest(b"hello")),
    Interrupt(t=1.0, controller="nv0", vector=3, how="intx"),
    DmaMap(t=1.0, controller="nv0", address=0, length=1 << 40, mapped=True),
    Remark(t=1.0, controller="nv0", name="rule", detail={"value": 3}),
    ConfigWrite(t=1.0, controller="nv0", offset=4, size=2, value=6),
)


def write_all(writer: StreamWriter) -> None:
    writer.register_read(0, 8, (1 << 64) - 1)
    writer.register_write(20, 4, 1)
    writer.doorbell(0x1008, 4, 3, 1, False)
    writer.doorbell(0x1002, 4, 3, -1, False)
    writer.submitted(1, 2, bytes(range(64)))
    writer.completed(1, bytes(range(16)))
    writer.prp_list(1, 2, 4096, (1, 2, (1 << 64) - 1))
    writer.prp_list(1, 2, 4096, ())
    writer.dma(1, 2, 8192, b"hello", True)
    writer.interrupt(3, "intx")
    writer.dma_map(0, 1 << 40, True)
    writer.event(SEEN[-2])
    writer.event(SEEN[-1])


def test_every_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path / "nv0.rec", lambda: 1.0)
    write_all(writer)
    writer.close()
    events = list(read_stream(tmp_path / "nv0.rec", complete=True))
    assert events == list(SEEN)
    assert [event.line for event in events] == [-n for n in range(1, len(SEEN) + 1)]
    assert (tmp_path / "nv0.rec").stat().st_size < 4096, "what was reserved is given back"


def test_windows_are_seamless(tmp_path: Path) -> None:
    writer = StreamWriter(tmp_path / "nv0.rec")
    count = 5 * WINDOW // 88
    for number in range(count):
        writer.submitted(1, number & 0xFFFF, bytes(64))
    writer.prp_list(1, 1, 0, tuple(range(WINDOW // 4)))  # larger than a window
    writer.close()
    events = list(read_stream(tmp_path / "nv0.rec", complete=True))
    assert [event.slot for event in events if isinstance(event, Submitted)] == [n & 0xFFFF for n in range(count)]
    assert isinstance(events[-1], PrpList)
    assert events[-1].entries == tuple(range(WINDOW // 4))


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from lab.data.stream import StreamWriter
writer = StreamWriter(Path({str(tmp_path)!r}) / "nv0.rec")
for number in range(30000):
    writer.submitted(1, number & 0xFFFF, bytes(64))
print("written", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert sum(1 for _ in read_stream(tmp_path / "nv0.rec", complete=False)) == 30000
    with pytest.raises(LabError, match="record 30001"):
        list(read_stream(tmp_path / "nv0.rec", complete=True))


@pytest.mark.parametrize("cut", [1, 15, 17, 60])
def test_a_record_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "nv0.rec"
    writer = StreamWriter(path)
    for _ in range(3):
        writer.submitted(1, 0, bytes(64))
    writer.close()
    os.truncate(path, path.stat().st_size - cut)
    assert len(list(read_stream(path, complete=False))) == 2
    with pytest.raises(LabError, match="record 3"):
        list(read_stream(path, complete=True))


def test_something_else(tmp_path: Path) -> None:
    (tmp_path / "nv0.rec").write_bytes(b"text" * 10)
    with pytest.raises(LabError, match="no record"):
        list(read_stream(tmp_path / "nv0.rec", complete=True))


def test_evidence_merges_records_and_lines_by_time(tmp_path: Path) -> None:
    writer = EvidenceWriter(tmp_path / "evidence", Identity(driver=DriverIdentity(name="d"), device="lab", scenario={}))
    moment = iter([1.0, 3.0])
    record = StreamWriter(tmp_path / "evidence" / "device" / "nv0.rec", lambda: next(moment))
    record.interrupt(1, "msix")
    record.interrupt(2, "msix")
    for t in (4.0, 2.0):
        writer.record(Remark(t=t, name="lab"))
    record.close()
    writer.close("complete")
    assert [event.t for event in Evidence(tmp_path / "evidence").events()] == [1.0, 2.0, 3.0, 4.0]


def test_a_full_disk_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    program = f"""
import resource
from pathlib import Path
from lab.errors import LabError
from lab.data.stream import StreamWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))  # to the writer, the same as no space left
writer = StreamWriter(Path({str(tmp_path)!r}) / "nv0.rec")
try:
    while True:
        writer.submitted(1, 0, bytes(64))
except LabError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "cannot grow" in said
    assert "--out" in said
    assert len(list(read_stream(tmp_path / "nv0.rec", complete=False))) > 30000


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_record(tmp_path: Path, count: int) -> None:
    program = f"""
import resource
from pathlib import Path
from lab.data.stream import StreamWriter, read_stream
path = Path({str(tmp_path)!r}) / "nv0.rec"
writer = StreamWriter(path)
for number in range(1000):
    writer.submitted(1, 0, bytes(64))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range({count} // 2):
    writer.submitted(1, 0, bytes(64))
    writer.dma(1, 0, 0, bytes(512), True)
writer.close()
assert sum(1 for _ in read_stream(path, complete=True)) == 1000 + {count}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
    assert grown < 8192, f"{grown} KiB more for {count} events"


# -- host memory ----------------------------------------------------------------------------------------------------


def test_accesses_span_adjacent_ranges_and_no_gap() -> None:
    memory, buffers = HostMemory(), [bytearray(4096) for _ in range(3)]
    for index, start in enumerate((0x1000, 0x2000, 0x4000)):
        memory.map(start, memoryview(buffers[index]), 4096)
    memory.write(0x1FFE, b"abcd")
    assert buffers[0][-2:] == b"ab"
    assert buffers[1][:2] == b"cd"
    assert memory.read(0x1FFE, 4) == b"abcd"
    with pytest.raises(DmaRefusedError, match="0x3000") as refused:
        memory.write(0x2FFF, b"xy")
    assert refused.value.length == 1
    assert buffers[1][-1] == 0, "nothing was written"
    with pytest.raises(DmaRefusedError, match="0x0"):
        memory.read(0, 1)


def test_ranges_that_cannot_be() -> None:
    memory = HostMemory()
    memory.map(0x1000, memoryview(bytearray(4096)), 4096)
    for start, length in ((0x1FFF, 2), (0, 0x1001), (0x1000, 4096), (0x5000, 0), ((1 << 64) - 1, 2)):
        with pytest.raises(ValueError, match=r"overlaps|no bytes"):
            memory.map(start, None, length)
    assert memory.ranges == [(0x1000, 4096)]


def test_what_is_unmapped_is_gone_at_once() -> None:
    memory = LocalMemory(1 << 16, strict=True)
    memory.own(memory.base, 4096)
    assert memory.read(memory.base, 4) == bytes(4)
    assert memory.unmap(memory.base, 4096) == [(memory.base, 4096)]
    with pytest.raises(DmaRefusedError):
        memory.read(memory.base, 4)
    memory.own(memory.base, 4096, writable=False)
    with pytest.raises(DmaRefusedError, match="reading only"):
        memory.write(memory.base, b"x")


def test_many_ranges_are_found(tmp_path: Path) -> None:
    memory, path = HostMemory(), tmp_path / "ram"
    path.write_bytes(b"".join(bytes([n & 0xFF]) * 4096 for n in range(256)))
    with path.open("r+b") as file:
        for n in range(256):
            memory.map_file(n * 0x10000, 4096, file.fileno(), n * 4096)
    assert [memory.read(n * 0x10000 + 5, 1)[0] for n in (200, 3, 255, 0)] == [200, 3, 255, 0]
    memory.write(0x50000, b"!")
    assert path.read_bytes()[5 * 4096 : 5 * 4096 + 2] == b"!\x05"
    memory.clear()
    assert memory.ranges == []
