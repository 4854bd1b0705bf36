"""Evidence of another lab: what it does not say is no error, and what cannot be judged of it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance.commands import run_command
from tests.files import extract

RECORDING = Path(__file__).parents[1] / "recordings" / "reference-lab-write-basic.tar.xz"

Foreign = Callable[..., Path]


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    """Return a function that makes a recording look like another lab's; a key that is None is left out."""

    def foreign(**identity: Any) -> Path:
        extract(RECORDING, tmp_path)
        folder = next(tmp_path.rglob("identity.json")).parent
        found = {**json.loads((folder / "identity.json").read_text()), "driver": {"name": "theirs"}, **identity}
        (folder / "identity.json").write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
        end = json.loads((folder / "end.json").read_text())
        (folder / "end.json").write_text(
            json.dumps({key: end[key] for key in ("outcome", "reason", "seconds", "events", "unknown")})
        )
        return folder

    return foreign


@pytest.mark.parametrize("scenario", [None, {"id": "their/thing"}])
def test_the_invariants_judge_it_and_the_rest_is_said(
    foreign: Foreign, capsys: pytest.CaptureFixture[str], scenario: Any
) -> None:
    folder = foreign(device="their-board", scenario=scenario)
    assert run_command(("judge", str(folder), "--json")) == 0
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    outcomes = {verdict["check"]: verdict["outcome"] for verdict in verdicts}
    assert outcomes["admin-queue/aqa"] == "PASS"
    assert "ERROR" not in outcomes.values()
    assert run_command(("judge", str(folder))) == 0
    said = capsys.readouterr().out
    assert "judged by the invariants" in said
    assert "'their-board'" in said
    assert "what rests on its answers is not judged" in said
    assert "theirs: every mandatory rule that holds in every stage passed; no stage was judged." in said
    assert "qualifies" not in said


def test_unnamed_controllers_are_an_error_and_no_verdict(foreign: Foreign, capsys: pytest.CaptureFixture[str]) -> None:
    folder = foreign(scenario=None)
    (folder / "device.json").unlink()
    assert run_command(("judge", str(folder), "--json")) == 2
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    assert {verdict["outcome"] for verdict in verdicts} == {"ERROR"}
    assert "which controllers were there" in verdicts[0]["reason"]
