from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from images.elf import Tree, header
from lab.errors import LabError


def test_the_closure_is_what_ldd_says() -> None:
    said = subprocess.run(["ldd", "/usr/bin/apt-get"], capture_output=True, text=True, check=True).stdout
    libraries = {Path(name).name for name in re.findall(r"^\s+(\S+\.so\S*)", said, re.MULTILINE)}
    libraries -= {"linux-vdso.so.1"}
    assert len(libraries) > 5
    assert set(Tree(Path("/")).closure("/usr/bin/apt-get")) == libraries


def test_a_program_runs_by_its_own_loader() -> None:
    command = Tree(Path("/")).command("/bin/echo")
    assert "ld-linux" in command[0]
    assert subprocess.run([*command, "said"], capture_output=True, text=True, check=True).stdout == "said\n"


def test_no_elf_is_refused() -> None:
    with pytest.raises(LabError, match="ELF"):
        header(b"#!/bin/sh\n")


def test_absolute_links_stay_inside_the_tree(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/real").write_text("x")
    (tmp_path / "usr/bin/link").symlink_to("/usr/bin/real")
    (tmp_path / "usr/bin/outside").symlink_to("/etc/hostname")
    (tmp_path / "usr/bin/loop").symlink_to("loop")
    tree = Tree(tmp_path)
    assert tree.find("/bin/link") == tmp_path / "usr/bin/real"
    assert tree.find("/usr/bin/outside") is None
    assert tree.find("/usr/bin/loop") is None
    with pytest.raises(LabError, match="/bin/none"):
        tree.require("/bin/none")
