"""A hostile results.json: whatever its strings hold, no report passes a control character on, and no page runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conformance.judging.files import read
from conformance.judging.models import Results
from conformance.report import terminal
from conformance.report.annotations import github, gitlab
from conformance.report.html import html
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.suite.check import Outcome
from tests.report.test_report import result, verdict

NASTY = "\x1b]0;owned\x07\x1b[2J\u202e<script>alert(1)</script>&'\"`|\x9b31m\r\x00x"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
KEPT = frozenset({"outcome", "level", "stage", "schema", "kind", "check"})
"""Keys whose values the schema restricts, or that other fields refer to."""


def poison(value: Any, key: str = "") -> Any:
    """Replace every string, keys of free tables too."""
    if isinstance(value, dict):
        return {k: poison(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [poison(one, key) for one in value]
    return NASTY if isinstance(value, str) and key not in KEPT else value


@pytest.fixture
def hostile(tmp_path: Path) -> Results:
    """Return what is read of a result with everything that is shown, each string of it hostile."""
    verdicts = [
        verdict(Outcome.FAIL),
        verdict(Outcome.FAIL, "read/exact", known="because"),
        verdict(Outcome.WARN, "read/mptr", level="R"),
        verdict(Outcome.INCONCLUSIVE, "read/past-end", reason="nothing observed"),
        verdict(Outcome.ERROR, "read/prp1", reason="QEMU died"),
        verdict(Outcome.FLAKY, "read/prp2", reason="1 of 2"),
    ]
    data = result(*verdicts).model_dump(mode="json", by_alias=True)
    data["lab"] = {"version": "1", "started": "now", "seed": "7", "qemu": {"version": "1", "origin": "x", "sha256": "0"},
                   "versions": {"kernel": {"version": "1", "sha256": "0"}}, "host": {"system": "x"}}  # fmt: skip
    data["left_out"] = [{"driver": "toy", "device": "qemu", "scenario": "read/x", "reason": "why"}]
    data["unfinished"] = "interrupted"
    poisoned = poison(data)
    known = [{"check": "read/exact", "reason": NASTY, "devices": [NASTY]}]
    poisoned["drivers"] = {NASTY: {**data["drivers"]["toy"], "known": known}}
    poisoned["drivers"][NASTY]["asked"] = data["drivers"]["toy"]["asked"]
    poisoned["drivers"][NASTY]["stages"] = data["drivers"]["toy"]["stages"]
    (tmp_path / "results.json").write_text(json.dumps(poisoned))
    return read(tmp_path)


REPORTS = {
    "text": lambda results: terminal.plain_summary(results, Path("out"), verbose=True),
    "table": terminal.plain_table,
    "header": lambda results: terminal.header(results).plain,
    "markdown": markdown,
    "github": github,
    "gitlab": gitlab,
    "junit": junit,
    "html": html,
}


@pytest.mark.parametrize("form", REPORTS)
def test_no_report_passes_a_control_character_on(hostile: Results, form: str) -> None:
    text = REPORTS[form](hostile)
    assert "owned" in text
    assert not CONTROL.findall(text.replace("\n", ""))


def test_a_page_does_not_hold_what_it_was_given_as_markup(hostile: Results) -> None:
    assert "<script>alert(1)" not in html(hostile)
    outside_code = re.sub(r"(`+).*?\1", "", markdown(hostile))
    assert "<script>alert(1)" not in outside_code


@pytest.mark.parametrize(
    "lab", [{}, {"versions": []}, {"qemu": "x", "versions": {"a": "b"}, "host": 7}, {"qemu": {}, "seed": []}]
)
def test_a_page_is_made_of_any_description_of_the_lab(lab: dict[str, Any], tmp_path: Path) -> None:
    data = result(verdict(Outcome.FAIL)).model_dump(mode="json", by_alias=True)
    (tmp_path / "results.json").write_text(json.dumps({**data, "lab": lab}))
    results = read(tmp_path)
    assert "read/nlb" in html(results)
    assert terminal.header(results).plain.startswith("NVMe Lab")
