"""What a manifest reads in a console's text, without a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.commands import run_command
from lab.data.manifest import parse
from lab.drivers import adapters
from lab.drivers.rehearsal import Outcome, rehearse

CONSOLE = """booting
> info
version 1.4
> list
disk 1: 100 blocks
disk 2: 200 blocks
> read 5
error: media
> """


def rehearsed(tmp_path: Path, console: str = CONSOLE) -> dict[str, Outcome]:
    (tmp_path / "kernel.elf").write_bytes(b"\x7fELF")
    boot = {"kernel": "kernel.elf", "ready": "^> ", "dead": "PANIC"}
    actions = {
        "info": {"command": "info", "pattern": "version (?P<version>[0-9.]+)"},
        "list": {"command": "list", "lists": {"namespaces": {"each": "disk (?P<nsid>[0-9]+): (?P<blocks>[0-9]+) blocks"}}},
        "read": {"command": "read {lba}", "error": "^error: .*$", "hexdump": "xxd"},
        "flush": {"command": "flush {nsid}"},
        "identify": {"command": "info", "pattern": "model (?P<model>.*)"},
    }
    data = {"name": "x", "adapter": "generic-serial", "stages": ["detect"], "boot": boot, "actions": actions}
    return {outcome.key: outcome for outcome in rehearse(parse(data, tmp_path / "x.toml", adapters()), console)}


def test_each_pattern_and_action_is_tried(tmp_path: Path) -> None:
    found = rehearsed(tmp_path)
    assert found["boot.ready"].text == "matches 4 times, first in line 2: '> info'"
    assert (found["boot.dead"].ok, found["boot.ready"].ok) == (True, True)
    assert found["actions.info"] == Outcome("actions.info", 'success; version: "1.4"', True)
    assert '"nsid": 2, "blocks": 200' in found["actions.list"].text
    assert found["actions.read"] == Outcome("actions.read", 'a failure: {"words": "error: media"}', False)
    assert found["actions.flush"].ok is None
    assert "none of its fields" in found["actions.identify"].text


def test_a_prompt_that_never_comes_and_a_crash_are_told(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, "booting\nPANIC: no root\n")
    assert (found["boot.ready"].ok, found["boot.dead"].ok) == (False, False)
    assert "first in line 2: 'PANIC: no root'" in found["boot.dead"].text


def test_it_is_a_dry_run_that_fails_where_something_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "console.log"
    text.write_text("U-Boot\nHit any key to stop autoboot\n=> nvme info\n nothing\n=> dm tree\nnothing\n=> ")
    words = ("run", "--driver", "u-boot", "--console-text", str(text))
    assert run_command((*words, "--dry-run")) == 1
    assert "no  actions.info" in capsys.readouterr().out
    assert run_command(words) == 4
    assert run_command(("run", "--driver", "linux", "--dry-run", "--console-text", str(text))) == 4
