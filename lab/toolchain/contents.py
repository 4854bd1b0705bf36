"""What an unpacked closure holds, and the proof that nothing in it lacks anything.

Three things are proven as soon as a closure is unpacked, so that what is missing is named at once, and not by a later stranger:

- each program and library finds its loader and its libraries (DT_NEEDED);
- each package has what it depends on (Debian Policy Manual, 7 "Declaring relationships between packages");
- each file that the recipe names is there.

What the recipe leaves out on purpose (``keep``, ``drop``, ``base``) is excused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path, PurePosixPath

from debian.deb822 import Deb822, PkgRelation
from pydantic import BaseModel

from images.elf import LIBRARY_FOLDERS, MAGIC, Tree, header
from images.recipe import Closure
from lab.errors import LabError

FILE = ".nvme-lab-contents.json"
"""Its name at the root of each unpacked closure."""


class Elf(BaseModel):
    """What a program or library needs: its libraries and loader by file name, and the folders where it looks first."""

    needed: list[str]
    folders: list[str]


class PackageContents(BaseModel):
    """One package: its relationships as sets of alternatives, and its files that were unpacked, relative to the root."""

    depends: list[list[str]]
    provides: list[str]
    files: list[str]


class Contents(BaseModel):
    """An unpacked closure: its packages by name, and those of its files that are ELF for x86-64 by path."""

    packages: dict[str, PackageContents]
    programs: dict[str, Elf]

    def without(self, package: str) -> Contents:
        """Return the contents as they would be without one package."""
        left = set(self.packages[package].files)
        return Contents(
            packages={name: facts for name, facts in self.packages.items() if name != package},
            programs={path: elf for path, elf in self.programs.items() if path not in left},
        )

    @property
    def files(self) -> set[str]:
        """All files, relative to the root."""
        return set(chain.from_iterable(package.files for package in self.packages.values()))

    @property
    def library_folders(self) -> list[str]:
        """The folders, relative to the root, in which its programs look for libraries: the system's, then their own."""
        private = chain.from_iterable(elf.folders for elf in self.programs.values())
        return list(dict.fromkeys((*LIBRARY_FOLDERS, *private)))


def read(root: Path) -> Contents:
    """Return the contents of a closure that was unpacked to ``root``."""
    return Contents.model_validate_json((root / FILE).read_bytes())


def inspect(root: Path, files: Mapping[str, list[str]], controls: Mapping[str, str]) -> Contents:
    """Look at what was unpacked. ``files`` and ``controls``: per package its paths, and its relationships as control fields."""
    tree = Tree(root)
    packages = {}
    for name, fields in controls.items():
        stanza = Deb822(fields)
        depends = [*_relations(stanza.get("Pre-Depends", "")), *_relations(stanza.get("Depends", ""))]
        provides = [alternative for group in _relations(stanza.get("Provides", "")) for alternative in group]
        present = [path for path in files[name] if tree.find(path) is not None]  # not a link to nowhere
        packages[name] = PackageContents(depends=depends, provides=provides, files=present)
    paths = sorted(set(chain.from_iterable(package.files for package in packages.values())))
    programs = {path: elf for path in paths if (elf := _elf(root, path)) is not None}
    return Contents(packages=packages, programs=programs)


def problems(closure: Closure, contents: Contents) -> Iterator[str]:
    """Yield a sentence for each thing that is missing."""
    yield from _missing_files(closure, contents)
    yield from _missing_libraries(closure, contents)
    yield from _missing_packages(closure, contents)


def prove(name: str, closure: Closure, contents: Contents) -> None:
    """Raise a LabError that says what the closure lacks, if anything."""
    lacks = list(problems(closure, contents))
    if lacks:
        more = f" (and {len(lacks) - 3} more)" if len(lacks) > 3 else ""
        raise LabError(
            f"The packages of {name} are not complete: {'; '.join(lacks[:3])}{more}.",
            remedy=f"add what is missing to the closure {name} in its recipe (keep, drop, base), or try another mirror",
        )


def kept(closure: Closure, package: str) -> bool:
    """Return whether the closure holds a package of that name if something in it depends on it."""
    return any(fnmatch(package, pattern) for pattern in closure.keep) and not _dropped(closure, package)


def _dropped(closure: Closure, package: str) -> bool:
    return any(fnmatch(package, pattern) for pattern in closure.drop)


def _missing_files(closure: Closure, contents: Contents) -> Iterator[str]:
    files = contents.files
    for pattern in closure.files:
        if pattern not in files and not any(fnmatch(file, pattern) for file in files):
            yield f"{pattern} is in none of them"


def _missing_libraries(closure: Closure, contents: Contents) -> Iterator[str]:
    files = {_merged(file) for file in contents.files}
    for path, elf in contents.programs.items():
        for name in elf.needed:
            folders = (*elf.folders, *LIBRARY_FOLDERS)
            if name not in closure.base and not any(_merged(f"{folder}/{name}") in files for folder in folders):
                yield f"{path} needs the library {name}"


def _missing_packages(closure: Closure, contents: Contents) -> Iterator[str]:
    there = set(contents.packages).union(*(package.provides for package in contents.packages.values()))
    for name in closure.packages:
        if kept(closure, name) and name not in there:
            yield f"the package {name} is not among them"
    for name, package in contents.packages.items():
        for alternatives in package.depends:
            if there.isdisjoint(alternatives) and all(kept(closure, alternative) for alternative in alternatives):
                yield f"{name} depends on {' or '.join(alternatives)}"


def _relations(field: str) -> list[list[str]]:
    """Return the names in a relationship field, by alternatives; versions were apt's business."""
    if not field:
        return []
    return [[str(alternative["name"]) for alternative in group] for group in PkgRelation.parse_relations(field)]


def _elf(root: Path, path: str) -> Elf | None:
    """Return what the file needs; None if it is a link, no ELF for x86-64, or needs nothing."""
    file = root / path
    if file.is_symlink():
        return None
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return None
        try:
            info = header(stream)
        except LabError:  # for the guest's processor, or firmware
            return None
    needed = [PurePosixPath(name).name for name in (*info.needed, *filter(None, [info.interpreter]))]
    return Elf(needed=needed, folders=list(info.searched(path))) if needed else None


def _merged(path: str) -> str:
    """Return the path as it is where /lib is /usr/lib."""
    return path if path.startswith("usr/") else f"usr/{path}"
