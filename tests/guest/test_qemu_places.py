"""All places of the project that start a program: where root runs the lab, no QEMU is root's, and none is forgotten."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from lab.drivers import nvmectl
from lab.guest import user
from lab.guest.machine import Machine
from lab.guest.process import Process

ROOT = Path(__file__).parents[2]
STARTERS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_output", "subprocess.check_call",
            "os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.posix_spawn", "pty.spawn"}  # fmt: skip
PLACES: Mapping[str, str] = {
    "conformance/commands/project.py": "pytest, for the tests",
    "conformance/commands/verify.py": "ssh-keygen",
    "conformance/onboarding/own_source.py": "git",
    "conformance/proof/loop.py": "nvme-lab, to measure it",
    "conformance/run/driver_versions.py": "git",
    "conformance/run/scheduler.py": "tar",
    "images/builder.py": "busybox and python of the guest image",
    "lab/bench/virtme.py": "virtme-ng, which root does not run",
    "lab/confinement.py": "QEMU --version, confined",
    "lab/drivers/guest_program_agent.py": "what it is told, in a guest",
    "lab/drivers/linux_agent/files.py": "modprobe, in a guest",
    "lab/drivers/linux_agent/lab_requests.py": "what it is told, in a guest",
    "lab/drivers/linux_agent/lifecycle.py": "modprobe, in a guest",
    "lab/drivers/linux_agent/modules.py": "modprobe, in a guest",
    "lab/drivers/linux_agent/port.py": "modprobe, in a guest",
    "lab/drivers/linux_agent/program.py": "what it is told, in a guest",
    "lab/drivers/qemu_vfio_agent.py": "qemu-io, in a guest",
    "lab/guest/process.py": "QEMU, confined",
    "lab/guest/remote.py": "ssh, to a real machine",
    "lab/guest/template.py": "fallocate",
    "lab/toolchain/apt.py": "apt",
    "lab/toolchain/debs.py": "dpkg and tar",
}
"""What starts programs on this machine or in a guest, and which."""
CONFINING = {"lab/guest/machine.py", "lab/guest/accelerator.py"}
"""What makes a `Process`: it gives QEMU a user of its own."""


def calling(names: set[str]) -> set[str]:
    """Return the files that call one of these names, in full or as an attribute."""
    return {file for file, tree in _trees().items() if names & set(_calls(tree))}


@cache
def _trees() -> Mapping[str, ast.Module]:
    """Return the syntax of all files that may call something of `STARTERS`, or make a `Process`."""
    words = {name.partition(".")[0] for name in STARTERS} | {Process.__name__}
    texts = {
        str(file.relative_to(ROOT)): file.read_text()
        for room in ("lab", "conformance", "images")
        for file in (ROOT / room).rglob("*.py")
    }
    return {file: ast.parse(text) for file, text in texts.items() if any(word in text for word in words - {"os"} | {"os."})}


def _calls(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_every_place_that_starts_a_program_is_known() -> None:
    assert calling(STARTERS) == set(PLACES), "write into PLACES what starts which program; a QEMU is started by Machine only"


def test_only_what_confines_it_makes_a_process_of_qemu() -> None:
    assert calling({Process.__name__, f"process.{Process.__name__}"}) == CONFINING


def test_none_of_them_is_the_import_of_a_name_alone() -> None:
    """`STARTERS` are found by their full names, so nothing may import them otherwise."""
    modules = {name.partition(".")[0] for name in STARTERS}
    found = [
        f"{file}: {ast.unparse(node)}"
        for file, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in modules
        and {f"{node.module}.{one.name}" for one in node.names} & STARTERS
    ]  # fmt: skip
    assert not found


@pytest.mark.usefixtures("toolchain")
def test_nvmectl_writes_a_users_image_by_a_qemu_that_is_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image lies in a folder that is closed to QEMU's user; it is its owner's alone again at the end."""
    image, block = tmp_path / "closed/disk.img", bytes(range(256)) * 2
    image.parent.mkdir(mode=0o700)
    image.write_bytes(bytes(1 << 20))
    image.chmod(0o600)
    (tmp_path / "block").write_bytes(block)
    users: list[int] = []
    start = Machine._start

    def noting(machine: Machine) -> None:
        start(machine)
        users.append(Path(f"/proc/{machine.process.pid}").stat().st_uid)

    monkeypatch.setattr(Machine, "_start", noting)
    assert nvmectl.main(["--transport", "qtest", "--image", str(image), "write", "1", "8", str(tmp_path / "block")]) == 0
    assert image.read_bytes()[8 * 512 : 9 * 512] == block
    status = image.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (os.getuid(), os.getgid(), 0o600)
    assert [number in range(user.FIRST, user.LAST) for number in users] == [user.can_switch_user()]
