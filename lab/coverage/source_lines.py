"""Source lines of machine code, from an object's debug information (DWARF)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from elftools.elf.elffile import ELFFile

RELOCATABLE = "ET_REL"
FIRST_VERSION_FROM_0 = 5
"""From this version of DWARF on files and folders are numbered from 0."""


class SourceLines:
    """Where source lines begin in an object's code."""

    def __init__(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Take (address, source file, line); line 0 is code of no line."""
        ordered = sorted({at: (file, line) for at, file, line in rows}.items())
        self.sources = tuple(sorted({file for _, (file, line) in ordered if line}))
        numbers = {file: number for number, file in enumerate(self.sources)}
        self._addresses = [at for at, _ in ordered]
        self._lines = [(numbers[file], line) if line else None for _, (file, line) in ordered]

    def of(self, addresses: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
        """Return (instruction, source file, line) where another line begins, for the instructions of a function."""
        found: list[tuple[int, int, int]] = []
        for number, at in enumerate(addresses):
            row = bisect_right(self._addresses, at) - 1
            line = self._lines[row] if row >= 0 else None
            if line and (not found or found[-1][1:] != line):
                found.append((number, *line))
        return tuple(found)


def read_source_lines(elf: ELFFile, extents: Sequence[tuple[int, int]]) -> SourceLines | None:
    """Return the lines of code in ``extents``, in the order of addresses; None for an object without debug information."""
    if elf["e_type"] == RELOCATABLE or not elf.has_dwarf_info(strict=True):
        return None
    lines = SourceLines(row for row in _rows(elf) if _inside(row[0], extents))
    return lines if lines.sources else None


def _inside(at: int, extents: Sequence[tuple[int, int]]) -> bool:
    number = bisect_right(extents, (at, 1 << 64)) - 1
    return number >= 0 and at < extents[number][1]


def _rows(elf: ELFFile) -> Iterator[tuple[int, str, int]]:
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        folder = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
        names = _files(program.header, folder.value.decode("utf-8", "replace") if folder else "")
        for entry in program.get_entries():
            state = entry.state
            if state is not None and not state.end_sequence and state.file in names:
                yield state.address, names[state.file], state.line


def _files(header: Any, folder: str) -> dict[int, str]:
    """Return the paths of a line program's files by number, without the folder in which the compiler ran."""
    from_0 = header["version"] >= FIRST_VERSION_FROM_0
    folders = [name.decode("utf-8", "replace") for name in header["include_directory"]]
    if not from_0:
        folders = [folder, *folders]
    names = {}
    for number, entry in enumerate(header["file_entry"], 0 if from_0 else 1):
        path = PurePosixPath(folder, folders[entry.dir_index] if entry.dir_index < len(folders) else "",
                             entry.name.decode("utf-8", "replace"))  # fmt: skip
        names[number] = str(path.relative_to(folder)) if folder and path.is_relative_to(folder) else str(path)
    return names
