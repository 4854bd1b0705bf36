"""Code without symbols: UEFI drivers, tables of symbols, functions by disassembly."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest

from lab.coverage.disassembly import Discovery, block_starts, disassemble
from lab.coverage.firmware import read_firmware, read_symbols
from lab.coverage.objects import NoSymbolsError
from lab.coverage.uefi import NoUefiImageError, find_driver
from lab.errors import UsageError
from tests.coverage.tiny_elf import moves
from tests.coverage.tiny_uefi import CODE_AT, firmware, image

GUID = UUID("5be3bdf4-53cf-46a3-a6a9-73c34a6e5ee3")
CALLER = b"\xe8\x05\x00\x00\x00\x74\x01\x90\xc3\x00"
"""call the function behind it; je; nop; ret; a byte that is no code."""
CALLED = moves(1, 2)
POINTED = b"\x55\x31\xc0\x5d\xc3"
"""push rbp; xor eax, eax; pop rbp; ret."""
CODE = CALLER + CALLED + POINTED + b"N\0v\0m\0e\0"


def driver(**more: int) -> bytes:
    pointers = (CODE_AT + len(CALLER + CALLED)).to_bytes(8, "little") + (CODE_AT + len(CODE) - 8).to_bytes(8, "little")
    return firmware(GUID, image(CODE, pointers, **more))


def test_a_driver_is_found_in_a_compressed_volume() -> None:
    found = find_driver(driver(), GUID)
    assert (found.processor, found.entry) == ("x86-64", CODE_AT)
    assert found.content[CODE_AT : CODE_AT + len(CODE)] == CODE


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no firmware volume holds"), (driver()[:-200], "no firmware volume holds|damaged"),
     (firmware(UUID(int=9), image(CODE)), "no firmware volume holds"), (driver(machine=0x1234), "known processor")],
)  # fmt: skip
def test_what_holds_no_such_driver_says_so(content: bytes, says: str) -> None:
    with pytest.raises(NoUefiImageError, match=says):
        find_driver(content, GUID)


def test_functions_are_found_from_their_callers_and_pointers(tmp_path: Path) -> None:
    (tmp_path / "OVMF.fd").write_bytes(driver())
    (item,) = read_firmware(tmp_path / "OVMF.fd", None, GUID)
    begins = [CODE_AT, CODE_AT + len(CALLER), CODE_AT + len(CALLER + CALLED)]
    assert [function.offset for function in item.functions] == begins
    assert [function.name for function in item.functions] == [f"function_{at:x}" for at in begins]
    assert item.functions[0].sizes == "5211"
    assert item.functions[0].blocks == 0b1101  # the beginning, behind the branch, and where it goes to


def test_text_among_the_code_is_no_function() -> None:
    found = Discovery("x86-64", CODE, [(0, len(CODE))]).functions([0], [len(CODE) - 8])
    assert [function.begin for function in found] == [0, len(CALLER)]


def test_blocks_begin_behind_branches_and_at_their_targets() -> None:
    assert block_starts(disassemble("x86-64", CALLER[:9], 0)) == {0, 7, 8}


def table(content: bytes, functions: str) -> str:
    digest = sha256(content).hexdigest()
    return f'[[build]]\nsha256 = "{digest}"\nprocessor = "x86"\n[[build.part]]\nname = "nvme"\nfunctions = {functions}\n'


def test_a_table_names_the_functions_of_a_stripped_firmware(tmp_path: Path) -> None:
    content = bytes(16) + moves(1, 2) + moves(3)
    (tmp_path / "bios.bin").write_bytes(content)
    (tmp_path / "symbols.toml").write_text(table(content, "{ nvme_read = [16, 27], nvme_wait = [27, 33] }"))
    (item,) = read_firmware(tmp_path / "bios.bin", tmp_path / "symbols.toml", None)
    assert (item.name, [function.name for function in item.functions]) == ("nvme", ["nvme_read", "nvme_wait"])
    assert item.extent == (16, 33)


def test_a_firmware_that_no_table_knows_is_not_covered(tmp_path: Path) -> None:
    (tmp_path / "bios.bin").write_bytes(b"another build")
    (tmp_path / "symbols.toml").write_text(table(b"", "{}"))
    with pytest.raises(NoSymbolsError, match=r"bios\.bin has no symbols, and symbols\.toml does not know this build"):
        read_firmware(tmp_path / "bios.bin", tmp_path / "symbols.toml", None)


@pytest.mark.parametrize("content", ["[", "[[build]]\nsha = 1", "[[build]]\nsha256 = ''\nprocessor = 'z80'\npart = []"])
def test_mistakes_in_a_table_name_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "symbols.toml").write_text(content)
    with pytest.raises(UsageError, match=r"symbols\.toml"):
        read_symbols(tmp_path / "symbols.toml")


def test_a_function_outside_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bios.bin").write_bytes(b"1234")
    (tmp_path / "symbols.toml").write_text(table(b"1234", "{ far = [2, 9] }"))
    with pytest.raises(UsageError, match="far is not in the file"):
        read_firmware(tmp_path / "bios.bin", tmp_path / "symbols.toml", None)
