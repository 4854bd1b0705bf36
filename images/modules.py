"""Kernel modules: what they depend on, by their own .modinfo section, and in which order they load."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from lab.errors import LabError


class Modules:
    """The modules under one ``lib/modules/RELEASE`` folder. Names use underscores, as the kernel's own do."""

    def __init__(self, folder: Path) -> None:
        """Take the folder ``lib/modules/RELEASE``."""
        self.folder = folder

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {_normal(f.name.split(".ko")[0]): f for f in sorted(self.folder.rglob("*.ko*"))}

    @cached_property
    def _builtin(self) -> set[str]:
        listing = (self.folder / "modules.builtin").read_text().splitlines()
        return {_normal(Path(line).name.removesuffix(".ko")) for line in listing}

    def content(self, name: str) -> bytes:
        """Return the module itself, uncompressed."""
        file = self._files[_normal(name)]
        return lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()

    def path(self, name: str) -> str:
        """Return the path relative to the folder, ending in .ko."""
        return str(self._files[_normal(name)].relative_to(self.folder)).removesuffix(".xz")

    def order(self, names: Iterable[str]) -> list[str]:
        """Return ``names`` with all that they need, each after what it needs. Built-in modules are left out."""
        ordered: list[str] = []
        for name in names:
            self._visit(_normal(name), ordered)
        return ordered

    def depends(self, name: str) -> list[str]:
        """Return the modules that ``name`` needs directly: its depends and those it wants before it (softdep pre)."""
        content = self.content(name)
        hard = [d for value in modinfo(content, "depends") for d in value.split(",") if d]
        return [d for d in map(_normal, hard + _before(content)) if d in self._files]

    def aliases(self, name: str) -> list[str]:
        """Return the device patterns that a module says it is for; KeyError for an unknown module."""
        return modinfo(self.content(name), "alias")

    def _visit(self, name: str, ordered: list[str]) -> None:
        if name in ordered or name in self._builtin:
            return
        if name not in self._files:
            raise LabError(f"The kernel package under {self.folder} has no module {name}.")
        for needed in self.depends(name):
            self._visit(needed, ordered)
        ordered.append(name)


def modinfo(content: bytes, key: str) -> list[str]:
    """Return all values of a key in the .modinfo strings of a module."""
    return list(_values(content, b"\0" + key.encode() + b"="))


def _values(content: bytes, marker: bytes) -> Iterator[str]:
    at = content.find(marker)
    while at >= 0:
        end = content.index(b"\0", at + len(marker))
        yield content[at + len(marker) : end].decode()
        at = content.find(marker, end)


def _before(content: bytes) -> list[str]:
    # "pre: a b post: c": what follows "post:" comes later.
    return [word for value in modinfo(content, "softdep") for word in value.partition("post:")[0].removeprefix("pre:").split()]


def _normal(name: str) -> str:
    return name.replace("-", "_")
