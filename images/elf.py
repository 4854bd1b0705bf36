"""What an ELF program needs to run out of an unpacked tree: its loader and its libraries."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from lab.errors import LabError

MAGIC = b"\x7fELF"
LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64", "usr/lib", "lib")
"""Where the loader of Debian looks by default, relative to the root."""
_MACHINE = "EM_X86_64"


@dataclass(frozen=True)
class Header:
    """What a program or a library says about itself."""

    interpreter: str
    """The program loader, as PT_INTERP names it; empty in a library or a static program."""
    needed: tuple[str, ...]
    """The libraries, as DT_NEEDED names them."""
    folders: tuple[str, ...] = ()
    """Where it looks for them first, as DT_RUNPATH or DT_RPATH name it; ``$ORIGIN`` stands for its own folder."""

    def searched(self, path: str) -> Iterator[str]:
        """Yield those folders relative to the root, for the file at ``path`` (relative too)."""
        origin = str(PurePosixPath("/", path).parent)
        for folder in self.folders:
            yield _normal(folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))


def header(content: bytes | BinaryIO) -> Header:
    """Read the program headers and the dynamic section; LabError if this is not an ELF file for x86-64."""
    try:
        elf = ELFFile(io.BytesIO(content) if isinstance(content, bytes) else content)
        if elf["e_machine"] != _MACHINE:
            raise LabError("Not an ELF file for x86-64.")
        interpreter = ""
        values: dict[str, list[str]] = {"needed": [], "runpath": [], "rpath": []}
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                interpreter = segment.get_interp_name()
            elif isinstance(segment, DynamicSegment):
                for tag in segment.iter_tags():
                    for name in values:
                        if tag.entry.d_tag == f"DT_{name.upper()}":
                            values[name].append(getattr(tag, name))
    except (ELFError, UnicodeDecodeError) as error:
        raise LabError(f"Not a readable ELF file: {error}.") from error
    folders = [folder for value in values["runpath"] or values["rpath"] for folder in value.split(":") if folder]
    return Header(interpreter, tuple(values["needed"]), tuple(folders))


def _normal(path: str) -> str:
    """Return the path without ``..`` and without the slash at its beginning."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts = parts[:-1]
        elif part != "/":
            parts.append(part)
    return "/".join(parts)


@dataclass(frozen=True)
class Tree:
    """A root that packages were unpacked to; its absolute links stay inside it."""

    root: Path

    def find(self, path: str) -> Path | None:
        """Return the regular file that ``path`` means in this tree, with or without the merged /usr."""
        parts = PurePosixPath("/", path).relative_to("/").as_posix()
        for candidate in (parts, f"usr/{parts}"):
            file = self._follow(self.root / candidate)
            if file is not None:
                return file
        return None

    def require(self, path: str) -> Path:
        """Return the file; LabError if it is not there."""
        file = self.find(path)
        if file is None:
            raise LabError(f"{path} is in none of the packages under {self.root}.", remedy="name its package in the recipe")
        return file

    def library(self, name: str, folders: Iterable[str] = ()) -> Path:
        """Return the library, or the loader, of that file name; ``folders`` come before those of the system."""
        name = PurePosixPath(name).name
        found = (self.find(f"{folder}/{name}") for folder in (*folders, *LIBRARY_FOLDERS))
        file = next((file for file in found if file is not None), None)
        if file is None:
            raise LabError(f"The library {name} is in none of the packages under {self.root}.")
        return file

    def closure(self, path: str) -> dict[str, Path]:
        """Return all libraries that the program or library needs, and its loader: name and file, sorted by name."""
        return {name: file for name, (file, _) in sorted(self._needed(path).items())}

    def command(self, path: str) -> list[str]:
        """Return the words that run a program of this tree on this machine: by its own loader, with its own libraries."""
        program = self.require(path)
        loader = self.library(self.header(program).interpreter)
        return [str(loader), "--library-path", self.library_path(path), str(program)]

    def library_path(self, path: str) -> str:
        """Return the folders in which the program finds its libraries, and what these name as theirs, joined by colons."""
        private = (str(file.parent) for file, _ in self._needed(path).values())
        usual = (str(self.root / folder) for folder in LIBRARY_FOLDERS)
        return ":".join(folder for folder in dict.fromkeys((*usual, *private)) if Path(folder).is_dir())

    def header(self, file: Path) -> Header:
        """Read the header of a file of this tree."""
        with file.open("rb") as stream:
            return header(stream)

    def _needed(self, path: str) -> dict[str, tuple[Path, Header]]:
        found: dict[str, tuple[Path, Header]] = {}
        program = self.require(path)
        waiting = [(program, self.header(program))]
        while waiting:
            file, info = waiting.pop()
            folders = list(info.searched(str(file.relative_to(self.root))))
            for name in (*info.needed, *filter(None, [info.interpreter])):
                name = PurePosixPath(name).name
                if name not in found:
                    library = self.library(name, folders)
                    found[name] = (library, self.header(library))
                    waiting.append(found[name])
        return found

    def _follow(self, path: Path) -> Path | None:
        for _ in range(8):
            if not path.is_symlink():
                return path if path.is_file() else None
            target = path.readlink()
            path = self.root / target.relative_to("/") if target.is_absolute() else path.parent / target
        return None
