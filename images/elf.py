"""What an x86-64 ELF program needs to run out of an unpacked tree: its loader and its libraries (ELF gABI, chapter 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lab.errors import LabError

_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64", "usr/lib", "lib")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


@dataclass(frozen=True)
class Header:
    interpreter: str
    """The program loader, as PT_INTERP names it; empty in a library or a static program."""
    needed: tuple[str, ...]
    """The libraries, as DT_NEEDED names them."""


def header(content: bytes) -> Header:
    """Read PT_INTERP and DT_NEEDED; LabError if this is not a 64-bit little-endian ELF file."""
    if content[:6] != b"\x7fELF\x02\x01":
        raise LabError("Not a 64-bit little-endian ELF file.")
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    segments = [struct.unpack_from("<IIQQQQ", content, offset + i * size) for i in range(count)]
    loads = [(address, at, length) for kind, _, at, address, _, length in segments if kind == _PT_LOAD]
    interpreter = next((_text(content, at) for kind, _, at, *_ in segments if kind == _PT_INTERP), "")
    dynamic = next((content[at : at + n // 16 * 16] for kind, _, at, _, _, n in segments if kind == _PT_DYNAMIC), b"")
    entries = list(struct.iter_unpack("<QQ", dynamic))
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    table = next((at + strings - base for base, at, length in loads if base <= strings < base + length), 0)
    return Header(interpreter, tuple(_text(content, table + value) for tag, value in entries if tag == _DT_NEEDED))


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode()


@dataclass(frozen=True)
class Tree:
    """A root that packages were unpacked to; its absolute links stay inside it."""

    root: Path

    def find(self, path: str) -> Path | None:
        """The regular file that ``path`` means in this tree, with or without the merged /usr."""
        parts = PurePosixPath("/", path).relative_to("/").as_posix()
        for candidate in (parts, f"usr/{parts}"):
            file = self._follow(self.root / candidate)
            if file is not None:
                return file
        return None

    def require(self, path: str) -> Path:
        file = self.find(path)
        if file is None:
            raise LabError(f"{path} is in none of the packages under {self.root}.", remedy="name its package in the recipe")
        return file

    def library(self, name: str) -> Path:
        """The library, or the loader, of that file name."""
        found = (self.find(f"{folder}/{PurePosixPath(name).name}") for folder in _LIBRARY_FOLDERS)
        file = next((file for file in found if file is not None), None)
        if file is None:
            raise LabError(f"The library {name} is in none of the packages under {self.root}.")
        return file

    def closure(self, path: str) -> dict[str, Path]:
        """All libraries that the program or library needs, and its loader: name and file, sorted by name."""
        found: dict[str, Path] = {}
        waiting = [self.require(path)]
        while waiting:
            info = header(waiting.pop().read_bytes())
            for name in (*info.needed, *filter(None, [info.interpreter])):
                name = PurePosixPath(name).name
                if name not in found:
                    found[name] = self.library(name)
                    waiting.append(found[name])
        return dict(sorted(found.items()))

    def command(self, path: str) -> list[str]:
        """The words that run a program of this tree on this machine: by its own loader, with its own libraries."""
        program = self.require(path)
        loader = self.library(header(program.read_bytes()).interpreter)
        folders = [str(self.root / folder) for folder in _LIBRARY_FOLDERS if (self.root / folder).is_dir()]
        return [str(loader), "--library-path", ":".join(folders), str(program)]

    def _follow(self, path: Path) -> Path | None:
        for _ in range(8):
            if not path.is_symlink():
                return path if path.is_file() else None
            target = path.readlink()
            path = self.root / target.relative_to("/") if target.is_absolute() else path.parent / target
        return None
