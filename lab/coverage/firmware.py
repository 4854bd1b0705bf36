"""The driver's part of a firmware without symbols.

What its functions are is in a file of symbols (TOML): tables ``build``, by the SHA-256 of the firmware, or of the driver's
image in it; in each of them ``part``s, which the firmware may put to different places of memory; in those ``functions``: name
to beginning and end, in bytes from the beginning of the file or image. Of a UEFI driver that no table knows the functions are
found by disassembly, and are called by their offsets.
"""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.coverage.disassembly import PROCESSORS, Discovery, Instruction, disassemble
from lab.coverage.objects import CodeObject, NoSymbolsError, covered_function
from lab.coverage.uefi import NoUefiImageError, UefiImage, find_driver
from lab.data.coverage import FunctionCoverage
from lab.errors import LabError, UsageError, describe_invalid

POINTER_BYTES = 8
MOST_BYTES = 256 << 20


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Table):
    """Functions that stay together in memory."""

    name: str
    functions: Mapping[str, tuple[int, int]]


class Build(_Table):
    """One build of a firmware."""

    sha256: str
    title: str = ""
    processor: str = Field(default="x86-64", pattern="|".join(PROCESSORS))
    part: tuple[Part, ...]


class Symbols(_Table):
    """A file of symbols."""

    build: tuple[Build, ...]

    def find(self, content: bytes) -> Build | None:
        """Return the build of these bytes."""
        digest = sha256(content).hexdigest()
        return next((one for one in self.build if one.sha256 == digest), None)


def read_symbols(path: Path) -> Symbols:
    """Read a file of symbols; UsageError with file and key."""
    try:
        return Symbols(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: no file of symbols: {error}") from error
    except ValidationError as error:
        keys = [key for table in (Symbols, Build, Part) for key in table.model_fields]
        raise UsageError(f"{path}: {describe_invalid(error.errors()[0], lambda _: keys)}") from error


def read_firmware(path: Path, symbols: Path | None, module: UUID | None) -> tuple[CodeObject, ...]:
    """Return the objects of the driver in a firmware. ``module``: the file of a UEFI firmware in which it is.

    NoSymbolsError where it is not known which part of the firmware is the driver.
    """
    try:
        state = path.stat()
        return _read(path, state.st_mtime_ns, state.st_size, symbols, module)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int, symbols: Path | None, module: UUID | None) -> tuple[CodeObject, ...]:
    """Read it once per process; ``changed`` tells one content of a path from the next."""
    del changed
    if size > MOST_BYTES:
        raise NoSymbolsError(f"{path} is too large for a firmware: {size} bytes")
    firmware = path.read_bytes()
    known = read_symbols(symbols) if symbols else Symbols(build=())
    image = None
    if module:
        try:
            image = find_driver(firmware, module)
        except NoUefiImageError as error:
            raise NoSymbolsError(f"{path}: {error.what}") from error
    content = image.content if image else firmware
    build = known.find(content)
    if build:
        return tuple(_named(path, content, build, part) for part in build.part)
    if image:
        return (_discovered(path, image),)
    raise NoSymbolsError(f"{path.name} has no symbols, and {symbols.name if symbols else 'no table'} does not know this build")


def _named(path: Path, content: bytes, build: Build, part: Part) -> CodeObject:
    functions, code = [], {}
    for name, (begin, end) in sorted(part.functions.items(), key=lambda item: item[1]):
        if not 0 <= begin < end <= len(content):
            raise UsageError(f"{path.name}: the symbols of {build.title or build.sha256}: {name} is not in the file")
        instructions = list(disassemble(build.processor, content[begin:end], begin))
        code.update({one.at: one.code for one in instructions})
        functions.append(covered_function(name, begin, instructions))
    return CodeObject(part.name, build.sha256, tuple(functions), code, (), build.processor)


def _discovered(path: Path, image: UefiImage) -> CodeObject:
    """Return a UEFI driver whose functions are called by their offsets."""
    found = Discovery(image.processor, image.content, image.code).functions([image.entry], _pointers(image))
    functions: list[FunctionCoverage] = []
    code: dict[int, bytes] = {}
    for function in found:
        for run in _runs(function.instructions):
            code.update({one.at: one.code for one in run})
            functions.append(covered_function(f"function_{run[0].at:x}", run[0].at, run))
    functions.sort(key=lambda one: one.offset)
    return CodeObject(path.name, sha256(image.content).hexdigest(), tuple(functions), code, (), image.processor)


def _pointers(image: UefiImage) -> Iterator[int]:
    """Yield the pointers into the code that the image's data holds: an image is linked for address 0."""
    data = -(-max(end for _, end in image.code) // POINTER_BYTES) * POINTER_BYTES
    for at in range(data, len(image.content) - POINTER_BYTES + 1, POINTER_BYTES):
        (value,) = struct.unpack_from("<Q", image.content, at)
        if any(begin <= value < end for begin, end in image.code):
            yield value


def _runs(instructions: Iterable[Instruction]) -> Iterator[list[Instruction]]:
    """Yield the parts of a function that stand together: compilers share the ends of functions."""
    run: list[Instruction] = []
    for one in instructions:
        if run and one.at != run[-1].after:
            yield run
            run = []
        run.append(one)
    if run:
        yield run
