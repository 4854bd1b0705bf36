from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lab import confinement
from lab.errors import LabError, UsageError
from lab.toolchain import qemu


def fake_qemu(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian)'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def path(program_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the PATH where a QEMU may be."""
    folder = program_folder / "bin"
    folder.mkdir()
    for name in ("sh", "setpriv"):
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def no_fetch() -> Path:
    raise LabError("the closure cannot be fetched")


def must_not_fetch() -> Path:
    raise AssertionError("fetched without need")


def test_a_named_qemu_comes_first(program_folder: Path, path: Path) -> None:
    fake_qemu(path, "11.1.3")
    named = fake_qemu(program_folder / "own", "7.2.0")
    chosen = qemu.choose(named, must_not_fetch, print)
    assert chosen.command == (str(named),)
    assert chosen.origin == "option"
    assert chosen.version == (7, 2, 0)


@pytest.mark.parametrize(("version", "lacks"), [("10.1.0", 2), ("11.1.3", 0)])
def test_the_machines_qemu_if_it_is_new_enough(path: Path, version: str, lacks: int) -> None:
    fake_qemu(path, version)
    chosen = qemu.choose(None, must_not_fetch, print)
    assert chosen.origin == "machine"
    assert len(chosen.missing) == lacks


def test_an_older_one_serves_if_nothing_can_be_fetched_and_what_it_lacks_is_said(path: Path) -> None:
    fake_qemu(path, "7.2.22")
    said: list[str] = []
    chosen = qemu.choose(None, no_fetch, said.append)
    assert chosen.origin == "machine"
    assert chosen.missing == tuple(qemu.LADDER)
    assert "cannot be fetched" in said[0]
    assert all(feature in said[1] for feature in qemu.LADDER)


@pytest.mark.parametrize("version", ["6.2.0", None])
def test_below_the_floor_the_reason_of_the_failed_fetch_is_reported(path: Path, version: str | None) -> None:
    if version:
        fake_qemu(path, version)
    with pytest.raises(LabError, match="cannot be fetched"):
        qemu.choose(None, no_fetch, print)


def test_a_named_qemu_that_is_no_program(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UsageError, match="is not a program"):
        qemu.choose(tmp_path / "nothing", must_not_fetch, print)


def test_a_program_that_is_no_qemu(path: Path) -> None:
    program = fake_qemu(path, "")
    with pytest.raises(LabError, match="does not say QEMU's version"):
        qemu.choose(program, must_not_fetch, print)


def test_a_qemu_is_asked_without_powers_and_as_no_user_of_this_machine(path: Path, program_folder: Path) -> None:
    """Also below a folder that is closed to others."""
    closed = program_folder / "closed"
    program = fake_qemu(closed, "11.1.3")
    closed.chmod(0o700)
    assert qemu.choose(program, must_not_fetch, print).version == (11, 1, 3)
    program.write_text('#!/bin/sh\nwhile read -r line; do echo "$line"; done < /proc/self/status\n')
    said = confinement.run([str(program)], {}, seconds=60).stdout
    status = dict(line.split(":", 1) for line in said.splitlines())
    for powers in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[powers], 16) == 0, powers
    assert status["NoNewPrivs"].strip() == "1"
    assert set(map(int, status["Uid"].split())) == {confinement.LAST if confinement.can_switch_user() else os.getuid()}


def test_without_setpriv_the_remedy_is_named(path: Path) -> None:
    program = fake_qemu(path, "11.1.3")
    (path / "setpriv").unlink()
    with pytest.raises(LabError, match="setpriv") as error:
        qemu.choose(program, must_not_fetch, print)
    assert "util-linux" in error.value.remedy


def test_a_program_that_does_not_end_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_qemu(path, "11.1.3")
    program.write_text("#!/bin/sh\nwhile :; do :; done\n")
    monkeypatch.setattr(qemu, "VERSION_SECONDS", 0.2)
    with pytest.raises(LabError, match=r"has not ended after 0\.2 s"):
        qemu.choose(program, must_not_fetch, print)
