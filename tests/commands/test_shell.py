"""``nvme-lab shell`` on a pseudo terminal, and what shells complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from conformance.commands import COMMANDS, run_command
from conformance.commands.shell import DEFAULT_SCENARIO, _until_loaded
from conformance.run.plan import RunRequest, plan
from conformance.suite.selection import SCENARIOS
from lab.data.events import ActionEnded, Submitted
from lab.data.evidence import Evidence
from lab.nvme.commands import Read
from lab.toolchain import Toolchain

COMMAND = [sys.executable, "-m", "conformance.cli"]
LEAVE = "\x1d"


def test_a_guest_is_talked_to_and_recorded(toolchain: Toolchain, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}
    child: pexpect.spawn[str] = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "shell", "--driver", "u-boot", "--scenario", "read/high-lba"],
        cwd=tmp_path, env=environment, encoding="utf-8", timeout=120, dimensions=(40, 200),
    )  # fmt: skip
    child.expect("u-boot/qemu/read/high-lba: ")
    child.expect("leaves, Enter shows the prompt")
    child.expect("=> ")
    child.send("nvme read 0x1000000 0 2\r")
    child.expect(r"2 blocks read: OK\r\n")
    child.send(f"echo never{LEAVE}")
    child.expect(r"Evidence: (nvme-lab-results/shell-\S+)")
    assert isinstance(child.match, re.Match)
    folder = tmp_path / child.match[1]
    child.expect_exact(f"The conversation: nvme-lab wire {child.match[1]}")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    evidence = Evidence(folder)
    assert evidence.identity.shell
    assert evidence.end is not None
    assert evidence.end.outcome == "complete"
    events = list(evidence.events())
    assert [event.action for event in events if isinstance(event, ActionEnded)] == ["load"]
    reads = [event.command for event in events if isinstance(event, Submitted) and isinstance(event.command, Read)]
    assert (reads[-1].SLBA, reads[-1].NLB) == (0, 1)
    assert b"2 blocks read: OK" in (folder / "console.log").read_bytes()


@pytest.mark.parametrize(
    ("scenario", "before"), [("read/basic", []), ("detect/basic", ["load"]), ("detect/all-ones", ["fault"])]
)
def test_a_shell_starts_with_the_driver_loaded(scenario: str, before: list[str]) -> None:
    actions = _until_loaded(SCENARIOS[scenario].resolve(0)).actions
    assert [action.name for action in actions] == [*before, "load"]
    assert "until" not in actions[-1].arguments


def test_without_a_terminal_there_is_no_shell() -> None:
    asked = [*COMMAND, "shell"]
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 4
    assert "A shell needs a terminal." in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert run_command(("completion", shell)) == 0
    assert f"_NVME_LAB_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("", set(COMMANDS)),
        ("run --driver re", {"reference", "reference-qtest", "reference-vfio"}),
        ("run --check read/nl", {"read/nlb"}),
        ("run --scenario read/high", {"read/high-lba"}),
        ("judge x --stage multi", {"multi-namespace", "multiqueue"}),
        ("run --device ", {"qemu", "lab", "machine"}),
    ],
)
def test_names_are_completed(line: str, offers: set[str]) -> None:
    words = f"nvme-lab {line}".split(" ")
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "_NVME_LAB_COMPLETE": "bash_complete"}
    done = subprocess.run(COMMAND, env={**os.environ, **asked}, capture_output=True, text=True, check=True, timeout=60)
    found = [item.split(",", 1) for item in done.stdout.splitlines()]
    assert offers == {name for kind, name in found if kind == "plain"}


def test_bash_completes_by_the_script() -> None:
    bash = shutil.which("bash")
    assert bash, "the tests run on Debian, where bash is essential"
    script = 'eval "$(nvme-lab completion bash)"; COMP_WORDS=(nvme-lab run --check read/prp-c); COMP_CWORD=3; ' \
             '_nvme_lab_completion nvme-lab; echo "${COMPREPLY[@]}"'  # fmt: skip
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["read/prp-chain"], done.stderr


def test_a_script_is_typed_without_a_terminal(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del toolchain  # its fixture has fetched QEMU
    monkeypatch.chdir(tmp_path)
    Path("lines").write_text("nvme read 0x1000000 0 2\necho over\n")
    assert run_command(("shell", "--driver", "u-boot", "--script", "lines", "--out", "out", "--offline")) == 0
    said = capsys.readouterr().out
    assert "> nvme read 0x1000000 0 2" in said
    assert "2 blocks read: OK" in said
    assert said.index("2 blocks read") < said.index("\nover\n")
    assert run_command(("shell", "--script", "nothing")) == 4


def test_a_shell_needs_no_claim_of_the_stage(tmp_path: Path) -> None:
    manifest = tmp_path / "my-os.toml"
    manifest.write_text(
        'name = "my-os"\nadapter = "generic-serial"\nneeds = ["u-boot"]\nstages = ["detect"]\n'
        '[boot]\nfirmware = "{u-boot}"\nready = "^=> "\n[actions.load]\ncommand = "nvme scan"\n'
    )
    request = RunRequest(drivers=(str(manifest),), scenarios=(DEFAULT_SCENARIO,))
    assert not plan(request).jobs
    assert [job.scenario.id for job in plan(request, only_claimed=False).jobs] == [DEFAULT_SCENARIO] * 2
