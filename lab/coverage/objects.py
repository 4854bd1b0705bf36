"""An object's functions and instructions: ELF modules (compressed ones too), kernels and firmware with symbols."""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from capstone import CS_ARCH_ARM64, CS_ARCH_X86, CS_MODE_32, CS_MODE_64, CS_MODE_LITTLE_ENDIAN, Cs
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from lab.data.coverage import FunctionCoverage
from lab.errors import LabError

MODES = {
    "EM_X86_64": (CS_ARCH_X86, CS_MODE_64),
    "EM_386": (CS_ARCH_X86, CS_MODE_32),
    "EM_AARCH64": (CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN),
}
"""The disassembler's words for ELF's machines (System V ABI, "ELF Header", e_machine)."""
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
    code: dict[int, bytes]
    extent: tuple[int, int]
    """The offset of the first byte of code, and the one after the last."""


class NoSymbolsError(LabError):
    """The object is no ELF file with the symbols of functions, so that nothing can be said of it."""


def read_object(path: Path) -> CodeObject:
    """Read an object. NoSymbolsError for what is no ELF file with symbols; LabError if it cannot be read."""
    try:
        state = path.stat()
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, changed: int, size: int) -> CodeObject:
    """Read it once per process; ``changed`` and ``size`` tell one content of a path from the next."""
    del changed
    if size > MOST_BYTES:
        raise NoSymbolsError(f"{path} is too large for an object with code: {size} bytes")
    try:
        data = path.read_bytes()
        content = lzma.decompress(data) if path.suffix == ".xz" else data
        elf = ELFFile(io.BytesIO(content))
        functions, code = [], {}
        for name, offset, machine_code in _functions(elf, path):
            sizes = []
            for at, instruction in _instructions(elf, offset, machine_code):
                code[at] = instruction
                sizes.append(f"{len(instruction):x}")
            functions.append(FunctionCoverage(name, offset, "".join(sizes)))
    except (ELFError, lzma.LZMAError, ValueError, UnicodeDecodeError) as error:
        raise NoSymbolsError(f"{path} is no ELF file: {error}") from error
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error
    if not code:
        raise NoSymbolsError(f"{path} has no symbols of functions")
    extent = min(code), max(at + len(instruction) for at, instruction in code.items())
    return CodeObject(path.name.removesuffix(".xz"), sha256(data).hexdigest(), tuple(functions), code, extent)


def _functions(elf: ELFFile, path: Path) -> Iterator[tuple[str, int, bytes]]:
    """Yield (name, offset, bytes) in the order of offsets; a function inside of another one is left out."""
    if elf["e_machine"] not in MODES:
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


def _instructions(elf: ELFFile, offset: int, machine_code: bytes) -> Iterator[tuple[int, bytes]]:
    disassembler = Cs(*MODES[elf["e_machine"]])
    disassembler.skipdata = True
    at = offset
    for address, size, _, _ in disassembler.disasm_lite(machine_code, offset):
        at = address + size
        yield address, bytes(machine_code[address - offset : at - offset])
