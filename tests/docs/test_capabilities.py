"""Every capability has a command that shows it, and the command works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.passthrough.__main__ import main

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (?P<what>[^|]+) \| `(?P<command>[^`]+)` \|$", (ROOT / "docs/capabilities.md").read_text(), re.M)
SECONDS = 500.0


def test_the_page_has_rows() -> None:
    assert len(ROWS) >= 15


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize(("what", "command"), ROWS, ids=[what for what, _ in ROWS])
def test_the_command_of_a_capability_works(what: str, command: str, tmp_path: Path) -> None:
    if "rust_driver" in command and not shutil.which("rustc"):
        pytest.skip("rustc is missing: what is written in Rust is built where it is there")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    ran = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert ran.returncode == 0, f"{what}: $ {command}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"


def test_a_missing_device_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/dev/nvme97n3", "--windows"]) == 0
    output = capsys.readouterr().out
    assert "nvme97n3: namespace of controller 97" in output
    assert "nvme.passthrough: no, there is no device /dev/nvme97n3" in output
    assert "ioctl 0x2dd3c0" in output


def test_a_path_that_is_no_nvme_device_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="4"):
        main(["/dev/sda"])
    assert "no NVMe device" in capsys.readouterr().err
