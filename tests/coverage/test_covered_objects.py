from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from lab.coverage.log import ExecutedCode
from lab.coverage.objects import NoSymbolsError, read_object
from lab.coverage.places import cover, last_function
from lab.data.coverage import ObjectCoverage, RecordingCoverage, read_coverage, write_coverage
from lab.errors import LabError
from tests.coverage.tiny_elf import AARCH64, EXEC, elf, log, moves

PROBE, READ, SUSPEND = moves(*range(100, 120)), moves(*range(200, 210)), moves(1, 2, 3)
FUNCTIONS = {"probe": PROBE, "read": READ, "suspend": SUSPEND}
PLACE = 0xFFFFFFFFC0275000


def ko(folder: Path, **more: bytes) -> Path:
    path = folder / "some.ko"
    path.write_bytes(elf({**FUNCTIONS, **more}))
    return path


def executed(*blocks: bytes) -> dict[int, bytes]:
    found = ExecutedCode()
    for line in b"".join(blocks).split(b"\n"):
        assert found.take(line)
    return found.code


def counts(covered: ObjectCoverage) -> dict[str, int]:
    return {function.name: function.executed.bit_count() for function in covered.functions}


def test_an_object_has_functions_and_instructions(tmp_path: Path) -> None:
    item = read_object(ko(tmp_path))
    assert [(f.name, f.offset, f.instructions) for f in item.functions] == [
        ("probe", 0, 21),
        ("read", 101, 11),
        ("suspend", 152, 4),
    ]
    assert list(item.functions[2].offsets()) == [152, 157, 162, 167]
    packed = tmp_path / "some.ko.xz"
    packed.write_bytes(lzma.compress(ko(tmp_path).read_bytes()))
    assert (read_object(packed).name, read_object(packed).functions) == ("some.ko", item.functions)


def test_kernels_are_read_at_the_addresses_that_they_were_linked_for(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(elf(FUNCTIONS, kind=EXEC, base=0x100000))
    assert read_object(tmp_path / "kernel").extent == (0x100000, 0x100000 + 168)


def test_labels_stand_for_functions_where_nothing_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(elf(FUNCTIONS, kind=EXEC, info=0x10))
    assert [f.name for f in read_object(tmp_path / "kernel").functions] == list(FUNCTIONS)


def test_other_processors_are_known(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(elf({"f": bytes.fromhex("1f2003d5c0035fd6")}, kind=EXEC, machine=AARCH64))
    assert read_object(tmp_path / "kernel").functions[0].sizes == "44"


@pytest.mark.parametrize(("content", "says"), [(b"MZ no ELF", "no ELF file"), (elf({}), "no symbols of functions")])
def test_what_has_no_symbols_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "firmware").write_bytes(content)
    with pytest.raises(NoSymbolsError, match=says):
        read_object(tmp_path / "firmware")


def test_code_is_found_where_it_was_loaded(tmp_path: Path) -> None:
    covered = cover(read_object(ko(tmp_path)), executed(log(PROBE, 0, PLACE), log(READ[:25], 101, PLACE)))
    assert covered.places == (PLACE,)
    assert counts(covered) == {"probe": 21, "read": 5, "suspend": 0}


def test_instructions_that_loading_changed_count_too(tmp_path: Path) -> None:
    changed = PROBE[:10] + b"\xe8\x01\x02\x03\x04" + PROBE[15:]
    assert counts(cover(read_object(ko(tmp_path)), executed(log(changed, 0, PLACE))))["probe"] == 21


def test_a_module_that_was_loaded_twice_is_found_at_both_places(tmp_path: Path) -> None:
    code = executed(log(PROBE, 0, PLACE), log(PROBE, 0, PLACE + 0x9000), log(SUSPEND, 152, PLACE + 0x9000))
    covered = cover(read_object(ko(tmp_path)), code)
    assert set(covered.places) == {PLACE, PLACE + 0x9000}
    assert counts(covered) == {"probe": 21, "read": 0, "suspend": 4}


def test_the_code_of_others_is_not_taken_for_the_object(tmp_path: Path) -> None:
    covered = cover(read_object(ko(tmp_path)), executed(log(moves(*range(5000, 5100)), 0, PLACE)))
    assert (covered.places, set(counts(covered).values())) == ((), {0})


def test_coverage_is_read_as_it_was_written(tmp_path: Path) -> None:
    covered = cover(read_object(ko(tmp_path)), executed(log(PROBE, 0, PLACE)))
    assert read_coverage(tmp_path) is None
    for coverage in (RecordingCoverage((covered,)), RecordingCoverage((covered,), last="probe [a.ko]")):
        write_coverage(tmp_path, coverage)
        assert read_coverage(tmp_path) == coverage


def test_how_far_a_driver_came_is_the_function_with_the_newest_code(tmp_path: Path) -> None:
    code = executed(log(PROBE, 0, PLACE), log(READ[:25], 101, PLACE), log(PROBE, 0, PLACE))
    item = cover(read_object(ko(tmp_path)), code)
    assert last_function([item], {**code, 0x1234: b"\x90"}) == f"read [{item.name}]"
    assert last_function([item], {0x1234: b"\x90"}) == ""


DOCUMENT = (
    '{"schema": 2, "reason": "", "objects": [{"name": "a", "sha256": "", "places": [], "sources": [], "functions": [%s]}]}'
)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"schema": 1}',
        '{"schema": 2, "reason": "", "objects": [{"name": "a"}]}',
        DOCUMENT % '["f", 0, "55", "4", "1"]',
        DOCUMENT % '["f", 0, "55", "1", "4"]',
        DOCUMENT % '["f", 0, "55", "1", "1", [[0, 0, 7]]]',
    ],
)
def test_broken_coverage_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "coverage.json").write_text(content)
    with pytest.raises(LabError, match=r"coverage\.json holds no coverage"):
        read_coverage(tmp_path)
