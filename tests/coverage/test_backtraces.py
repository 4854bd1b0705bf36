"""From addresses to functions: processors that were stopped, and what a guest has printed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lab.coverage.objects import read_object
from lab.coverage.symbols import Symbols
from lab.data.backtrace import Backtrace, Frame, ProcessorStop, read_backtraces, write_backtraces
from lab.errors import LabError
from tests.coverage.tiny_elf import elf, moves

PLACE = 0xFFFFFFFFC0275000
INNER = moves(1, 2, 3)
OUTER = moves(1)[:-1] + b"\xe8" + struct.pack("<i", -(len(INNER) + 10)) + b"\xc3"
"""mov; call INNER; ret."""
BEHIND_CALL = PLACE + len(INNER) + 10


@pytest.fixture
def symbols(tmp_path: Path) -> Symbols:
    (tmp_path / "nvme-core.ko").write_bytes(elf({"inner": INNER, "outer": OUTER}))
    return Symbols([(read_object(tmp_path / "nvme-core.ko"), (PLACE,))])


def test_an_address_is_in_a_function_or_in_none(symbols: Symbols) -> None:
    assert symbols.frame(PLACE + 7) == Frame("inner", 7, "nvme-core.ko", PLACE + 7)
    assert symbols.frame(PLACE + len(INNER) + len(OUTER)) is None
    assert symbols.frame(PLACE - 1) is None


def test_a_backtrace_takes_of_the_stack_only_what_lies_behind_calls(symbols: Symbols) -> None:
    stack = [0, PLACE + 5, 0x1234, BEHIND_CALL, BEHIND_CALL - 5, 7]
    found = symbols.backtrace(PLACE + 5, stack)
    assert [str(frame) for frame in found] == ["inner+0x5 [nvme-core.ko]", "outer+0xa [nvme-core.ko]"]
    assert symbols.backtrace(0x1000, [BEHIND_CALL])[0].function == "outer"


def test_what_a_kernel_prints_of_its_modules_is_read(symbols: Symbols) -> None:
    text = """[ 1.0] RIP: 0010:nvme_irq+0x12/0x40 [nvme_core]
[ 1.1]  nvme_probe+0x1/0x2 [nvme_core 0123]
[ 1.1]  other+0x1/0x2 [ext4]
[ 1.2]  nvme_irq+0x12/0x40 [nvme_core]"""
    assert [(one.function, one.offset) for one in symbols.spoken(text)] == [("nvme_irq", 0x12), ("nvme_probe", 1)]


def test_bare_addresses_of_a_firmware_are_decoded(symbols: Symbols) -> None:
    text = f"!!!! X64 Exception\nRIP  - {PLACE + 5:016X}, CS  - 0000000000000038\nRAX  - 0000000000000001"
    assert [str(frame) for frame in symbols.spoken(text)] == ["inner+0x5 [nvme-core.ko]"]


def test_backtraces_are_read_as_they_were_written(tmp_path: Path) -> None:
    frame = Frame("nvme_irq", 18, "nvme.ko", PLACE)
    stops = (Backtrace("fault drop", 1.5, (ProcessorStop(0, PLACE, (frame,)), ProcessorStop(1, 7)), (frame,), ""),)
    assert read_backtraces(tmp_path) == ()
    write_backtraces(tmp_path, stops)
    assert read_backtraces(tmp_path) == stops
    assert list(stops[0].lines()) == [
        "stopped at fault drop",
        f"processor 0 at {PLACE:#x}: nvme_irq+0x12 [nvme.ko]",
        "processor 1 at 0x7: nothing of the driver on its stack",
        "the guest's own words: nvme_irq+0x12 [nvme.ko]",
    ]
    (tmp_path / "backtrace.json").write_text("{}")
    with pytest.raises(LabError, match=r"backtrace\.json holds no backtraces"):
        read_backtraces(tmp_path)
