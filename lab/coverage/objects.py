"""An object's functions and instructions: ELF modules (compressed ones too), kernels and firmware with symbols."""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from lab.coverage.disassembly import Instruction, block_starts, disassemble
from lab.coverage.source_lines import SourceLines, read_source_lines
from lab.data.coverage import FunctionCoverage
from lab.errors import LabError

PROCESSORS = {"EM_X86_64": "x86-64", "EM_386": "x86", "EM_AARCH64": "arm64"}
"""ELF's machines (System V ABI, "ELF Header", e_machine) as `lab.coverage.disassembly` calls them."""
RELOCATABLE = "ET_REL"
MODULE_SECTION = ".text"
"""Of a relocatable object: its other code is put elsewhere, and freed once it is initialised (.init.text)."""
EXECUTABLE = 0x4
"""SHF_EXECINSTR (System V ABI, "Sections")."""
PADDING = "__pfx_"
"""What Linux names the padding before a function."""
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class CodeObject:
    """One object: its functions with nothing executed, and the bytes of each instruction by offset."""

    name: str
    sha256: str
    functions: tuple[FunctionCoverage, ...]
    code: Mapping[int, bytes]
    sources: tuple[str, ...] = ()
    processor: str = "x86-64"
    """As `lab.coverage.disassembly` calls it."""

    @property
    def extent(self) -> tuple[int, int]:
        """Return the offset of the first byte of code, and the one after the last."""
        return min(self.code), max(at + len(instruction) for at, instruction in self.code.items())


class NoSymbolsError(LabError):
    """The object is no ELF file with the symbols of functions, so that nothing can be said of it."""


def covered_function(
    name: str, offset: int, instructions: Sequence[Instruction], lines: SourceLines | None = None
) -> FunctionCoverage:
    """Return a function of which nothing is executed yet."""
    starts = block_starts(instructions)
    blocks = sum(1 << number for number, one in enumerate(instructions) if one.at in starts)
    sizes = "".join(f"{len(one.code):x}" for one in instructions)
    return FunctionCoverage(name, offset, sizes, 0, blocks, lines.of([one.at for one in instructions]) if lines else ())


def read_object(path: Path, wanted: Iterable[str] = ()) -> CodeObject:
    """Read an object, of its functions those whose names match a pattern of ``wanted``, or all.

    NoSymbolsError for what is no ELF file with symbols; LabError if it cannot be read.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error
    return _read(path, state.st_mtime_ns, state.st_size, tuple(wanted))


@lru_cache(maxsize=16)
def _read(path: Path, changed: int, size: int, wanted: tuple[str, ...]) -> CodeObject:
    """Read it once per process; ``changed`` and ``size`` tell one content of a path from the next."""
    del changed
    if size > MOST_BYTES:
        raise NoSymbolsError(f"{path} is too large for an object with code: {size} bytes")
    try:
        data = path.read_bytes()
        content = lzma.decompress(data) if path.suffix == ".xz" else data
        elf = ELFFile(io.BytesIO(content))
        found = [one for one in _functions(elf, path) if not wanted or any(fnmatchcase(one[0], p) for p in wanted)]
        lines = read_source_lines(elf, [(at, at + len(machine_code)) for _, at, machine_code in found])
        functions, code = [], {}
        for name, offset, machine_code in found:
            instructions = list(disassemble(PROCESSORS[elf["e_machine"]], machine_code, offset))
            code.update({one.at: one.code for one in instructions})
            functions.append(covered_function(name, offset, instructions, lines))
    except (ELFError, DWARFError, lzma.LZMAError, ValueError, UnicodeDecodeError) as error:
        raise NoSymbolsError(f"{path} is no ELF file: {error}") from error
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error
    if not code:
        named = f" that are called {', '.join(wanted)}" if wanted else ""
        raise NoSymbolsError(f"{path} has no symbols of functions{named}")
    name = path.name.removesuffix(".xz")
    sources, processor = lines.sources if lines else (), PROCESSORS[elf["e_machine"]]
    return CodeObject(name, sha256(data).hexdigest(), tuple(functions), code, sources, processor)


def _functions(elf: ELFFile, path: Path) -> Iterator[tuple[str, int, bytes]]:
    """Yield (name, offset, bytes) in the order of offsets; a function inside of another one is left out."""
    if elf["e_machine"] not in PROCESSORS:
        raise NoSymbolsError(f"{path} is for a processor that is not known here: {elf['e_machine']}")
    for number, section in enumerate(elf.iter_sections()):
        wanted = section.name == MODULE_SECTION if elf["e_type"] == RELOCATABLE else bool(section["sh_flags"] & EXECUTABLE)
        if not wanted or section["sh_type"] != "SHT_PROGBITS":
            continue
        symbols, content, begin = sorted(_symbols(elf, number)), section.data(), section["sh_addr"]
        done = 0
        ends = [*(at for at, _, _ in symbols[1:]), begin + len(content)]
        for (at, minus_size, name), following in zip(symbols, ends, strict=False):  # one end too many where there is no symbol
            first = at - begin
            last = first - minus_size if minus_size else following - begin
            if done <= first < last <= len(content):
                yield name, at, content[first:last]
                done = last


def _symbols(elf: ELFFile, number: int) -> list[tuple[int, int, str]]:
    """Return (address, minus size, name) of all functions in a section; of all its labels where none is called a function."""
    kinds: dict[str, list[tuple[int, int, str]]] = {"STT_FUNC": [], "STT_NOTYPE": []}
    for table in elf.iter_sections():
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                kind = symbol["st_info"]["type"]
                named = symbol.name and not symbol.name.startswith((PADDING, ".L", "$"))
                if symbol["st_shndx"] == number and kind in kinds and named:
                    kinds[kind].append((symbol["st_value"], -symbol["st_size"], symbol.name))
    return list(
        {at: (at, size, name) for at, size, name in sorted(kinds["STT_FUNC"] or kinds["STT_NOTYPE"], reverse=True)}.values()
    )
