"""`nvme-lab serve`: a device on a socket, a disk that is served again; `nvme-lab guest`: a script in the guest."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from conformance.commands import run_command
from lab.data.events import Submitted
from lab.data.evidence import Evidence
from lab.deadline import Deadline
from lab.errors import LabError
from lab.nvme.commands import Read
from lab.toolchain import Toolchain

SPEC = "[[controller]]\n[[controller.namespace]]\nblocks = 2048\n"


def served(folder: Path, *options: str) -> tuple[subprocess.Popen[str], list[str]]:
    """Start the command and read what it prints until the device can be connected to."""
    command = [sys.executable, "-m", "conformance.cli", "serve", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if "Ctrl-C" in line:
            break
    return process, lines


def stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=60)[0]


def test_a_device_is_served_and_its_disk_is_kept(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(SPEC)
    options = ["--spec", "d.toml", "--disk", "disk.img"]
    process, lines = served(tmp_path, *options, "--out", "first")
    path = Path(lines[0].partition(": ")[2])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert any("vfio-user-pci" in line and str(path) in line for line in lines)
    said = stop(process)
    assert "Evidence: first" in said
    assert "The conversation: nvme-lab wire first\nThe verdicts: nvme-lab judge first" in said
    assert Evidence(tmp_path / "first").end is not None
    assert not path.exists()
    disk = tmp_path / "disk.img"
    assert disk.stat().st_size == 2048 * 512
    disk.write_bytes(b"kept".ljust(2048 * 512, b"\0"))
    process, _ = served(tmp_path, *options, "--out", "second")
    stop(process)
    assert disk.read_bytes()[:4] == b"kept"


def test_the_line_that_is_printed_connects_a_qemu(toolchain: Toolchain, tmp_path: Path, program_folder: Path) -> None:
    """SeaBIOS, which QEMU starts, brings the controller up and reads the first block."""
    assert toolchain.qemu
    process, lines = served(tmp_path, "--out", "served")
    line = "\n".join(lines[lines.index(next(line for line in lines if line.startswith("QEMU"))) + 1 : -1])
    (program_folder / "qemu-system-x86_64").write_text(
        f'#!/bin/sh\nexec {shlex.join(toolchain.qemu.command)} "$@" -display none\n'
    )
    (program_folder / "qemu-system-x86_64").chmod(0o755)
    environment = {**os.environ, **toolchain.qemu.env, "PATH": f"{program_folder}:{os.environ['PATH']}"}
    machine = subprocess.Popen(["sh", "-c", f"exec {line.strip()}"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = Deadline(120)
        while not has_read(tmp_path / "served") and machine.poll() is None and not deadline.expired:
            time.sleep(0.2)
    finally:
        machine.kill()
        said = machine.communicate()[1]
        stop(process)
    assert has_read(tmp_path / "served"), said
    assert run_command(["judge", str(tmp_path / "served")]) in (0, 1, 3), "SeaBIOS is judged as anybody else"


def has_read(folder: Path) -> bool:
    """Return whether somebody has read block 0, as far as the evidence goes yet."""
    with suppress(LabError):
        sent = [event for event in Evidence(folder).events() if isinstance(event, Submitted)]
        return any(isinstance(event.command, Read) and event.command.SLBA == 0 for event in sent)
    return False


def test_a_disk_of_another_size_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.toml").write_text(SPEC)
    (tmp_path / "disk.img").write_bytes(bytes(512))
    words = ["serve", "--spec", str(tmp_path / "d.toml"), "--disk", str(tmp_path / "disk.img"), "--out", str(tmp_path / "o")]
    assert run_command(words) == 4
    assert "set blocks = 1 in the specification" in capsys.readouterr().err


def test_a_folder_that_exists_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["serve", "--out", str(tmp_path)]) == 4
    assert "exists already" in capsys.readouterr().err


@pytest.mark.usefixtures("toolchain")
def test_a_script_in_the_guest_ends_with_its_status(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    script, spec = tmp_path / "test.sh", tmp_path / "d.toml"
    script.write_text("#!/bin/sh\ncat /sys/block/nvme0n1/size\necho late >&2\nexit 7\n")
    spec.write_text(SPEC)
    out = tmp_path / "out"
    assert run_command(["guest", "--script", str(script), "--spec", str(spec), "--out", str(out)]) == 7
    assert b"2048" in capfdbinary.readouterr().out
    assert (out / "script.err").read_bytes().endswith(b"late\n")
    assert run_command(["judge", str(out), "--json"]) in (0, 3)
    assert json.loads(capfdbinary.readouterr().out)["verdicts"]


def test_a_script_that_is_missing_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["guest", "--script", str(tmp_path / "none")]) == 4
    assert "there is no such file" in capsys.readouterr().err


def test_a_device_is_served_for_some_seconds(tmp_path: Path) -> None:
    process, _ = served(tmp_path, "--seconds", "0.1", "--out", "short")
    assert process.communicate(timeout=60)[0].startswith("Evidence: short")
    assert process.returncode == 0
    assert Evidence(tmp_path / "short").end is not None


def test_a_signal_at_the_first_moment_leaves_whole_evidence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "conformance.cli", "serve", "--out", "early"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    deadline = Deadline(60)
    while not (tmp_path / "early").exists() and not deadline.expired:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    end = Evidence(tmp_path / "early").end
    assert end is not None
    assert end.outcome == "complete"
