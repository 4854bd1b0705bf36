"""A program of another system in a guest: it is started by its own loader, with the options that this one has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from images.builder import _add_foreign
from images.cpio import Archive
from images.elf import Tree

Parse = Callable[[bytes], dict[str, tuple[list[int], bytes]]]


@pytest.mark.parametrize(("loader", "started"), [
    (b"an option --argv0 it has", "exec /opt/x/{} --library-path /opt/x --argv0 echo /opt/x/echo"),
    (b"glibc 2.31", "exec /opt/x/{} --library-path /opt/x /opt/x/echo"),
])  # fmt: skip
def test_the_name_of_a_program_is_told_to_a_loader_that_takes_it(
    tmp_path: Path, parse_cpio: Parse, loader: bytes, started: str
) -> None:
    other = tmp_path / "loader"
    other.write_bytes(loader)

    class OtherLoader(Tree):
        def closure(self, path: str) -> dict[str, Path]:
            return {name: other if name.startswith("ld-") else file for name, file in super().closure(path).items()}

    archive = Archive()
    _add_foreign(archive, OtherLoader(Path("/")), "opt/x", "/bin/echo")
    script = parse_cpio(archive.to_bytes())["usr/bin/echo"][1].decode()
    name = next(file for file in OtherLoader(Path("/")).closure("/bin/echo") if file.startswith("ld-"))
    assert started.format(name) in script
