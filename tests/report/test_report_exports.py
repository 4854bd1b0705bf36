"""What is exported for other programs: each valid by its schema or its consumer's rules, within the consumer's limits."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
import xmlschema
from click.testing import CliRunner
from markdown_it import MarkdownIt

from conformance.commands import nvme_lab, run_command
from conformance.judging.files import schema, write
from conformance.judging.models import FindingEntry, Results, RunEntry, VerdictEntry
from conformance.report.annotations import SHOWN, github, gitlab
from conformance.report.junit import junit
from conformance.report.markdown import CHANGES, LARGEST, markdown
from conformance.suite.check import Outcome
from tests.report.test_report import PASS, result, verdict
from tests.report.test_report_html import NASTY, thousands

JUNIT = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))
CODE_QUALITY = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^[^/]"},
                    "lines": {"required": ["begin"], "properties": {"begin": {"type": "integer", "minimum": 1}}},
                },
            },
        },
    },
}
"""What GitLab asks of a code quality report."""
GITLAB_OBJECTS = 250_000
"""Objects in a JUnit file above which GitLab refuses it."""


def hostile() -> Results:
    """Whatever a driver or a manifest can name, named badly."""
    finding = FindingEntry(ok=False, event=1, place=f"events.jsonl:{NASTY}", expected=NASTY, actual=f"``` {NASTY}\n::error::x")
    changes = {"findings": [finding], "driver": NASTY, "scenario": NASTY, "statement": NASTY, "check": f"read/{NASTY}"}
    kinds = [
        verdict(Outcome.FAIL).model_copy(update=changes),
        verdict(Outcome.WARN, "read/warn").model_copy(update={**changes, "check": "read/warn"}),
        verdict(Outcome.FAIL, "read/known", known=NASTY),
        verdict(Outcome.ERROR, "read/lab", reason=NASTY),
        verdict(Outcome.INCONCLUSIVE, "read/silent", reason=NASTY),
    ]
    made = result(PASS, *kinds, unfinished=NASTY)
    made.drivers[NASTY] = made.drivers["toy"]
    made.runs.append(RunEntry(driver=NASTY, device="qemu", scenario=NASTY, stage="read", evidence=NASTY, seconds=1))
    return made


EXAMPLES = {"passing": result(PASS), "hostile": hostile(), "large": thousands(), "empty": Results()}


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Results:
    return EXAMPLES[request.param]


# -- JUnit ------------------------------------------------------------------------------------------------------------


def test_junit_is_valid(example: Results) -> None:
    JUNIT.validate(junit(example))


def test_junit_of_a_full_matrix_is_within_gitlabs_limits() -> None:
    drivers = [f"driver-{n}" for n in range(6)]
    verdicts: list[VerdictEntry] = []
    for driver in drivers:  # in the proportions of a real run: 12,000 verdicts, every second one with nothing to say
        for check in range(120):
            for scenario in range(100):
                outcome = Outcome.PASS if (check + scenario) % 2 else Outcome.INCONCLUSIVE
                made = verdict(outcome, f"read/check-{check}", scenario=f"read/scenario-{scenario}", reason="nothing observed")
                verdicts.append(made.model_copy(update={"driver": driver, "findings": []}))
    text = junit(result(*verdicts))
    objects = sum(1 + len(element.attrib) + bool(element.text) for element in ET.fromstring(text).iter())
    assert objects < GITLAB_OBJECTS
    assert len(text.encode()) < 30_000_000
    cases = [(c.attrib["classname"], c.attrib["name"]) for c in ET.fromstring(text).iter("testcase")]
    assert len(cases) == len(set(cases)) == 6 * 120 * 50  # none is lost behind another of its name


def test_junit_leaves_out_only_what_says_nothing() -> None:
    silent = [verdict(Outcome.INCONCLUSIVE, scenario=f"read/{n}", reason="nothing observed") for n in range(3)]
    names = [case.attrib["classname"] for case in ET.fromstring(junit(result(*silent))).iter("testcase")]
    assert names == ["toy.qemu.read/0"]  # nothing was said anywhere: that is shown once
    spoken = verdict(Outcome.FAIL, scenario="read/3")
    names = [case.attrib["classname"] for case in ET.fromstring(junit(result(*silent, spoken))).iter("testcase")]
    assert names == ["toy.qemu.read/3"]


# -- GitHub -----------------------------------------------------------------------------------------------------------


def commands(text: str) -> list[tuple[str, str, str]]:
    """(kind, title, message) of each line, as GitHub's runner takes it apart."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"::(error|warning|notice) title=([^:,\r\n]*)::(.*)", line)
        assert match, line
        kind, title, message = match.groups()
        for code, sign in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            title, message = title.replace(code, sign), message.replace(code, sign)
        found.append((kind, title, message))
    return found


def test_github_gets_each_failed_check_once() -> None:
    results = result(PASS, verdict(Outcome.FAIL), verdict(Outcome.FAIL, scenario="read/more"), verdict(Outcome.WARN, "read/w"))
    (error, warning) = commands(github(results))
    assert error[:2] == ("error", "read/nlb: toy on qemu")
    assert "actual: 7 <blocks> & [red]more[/]" in error[2]
    assert "evidence: evidence/r/events.jsonl:7" in error[2]
    assert warning[:2] == ("warning", "read/w: toy on qemu")
    assert github(result(PASS, verdict(Outcome.FAIL, known="because"))) == ""


def test_what_a_driver_said_is_no_command_of_githubs(example: Results) -> None:
    assert {kind for kind, _, _ in commands(github(example))} <= {"error", "warning"}
    assert all("\x1b" not in message for _, _, message in commands(github(example)))


def test_github_drops_none_without_a_word() -> None:
    shown = commands(github(result(*(verdict(Outcome.FAIL, f"read/{n}") for n in range(30)))))
    assert len(shown) == SHOWN
    assert shown[-1][2].startswith(f"and {30 - SHOWN + 1} more")
    assert len(commands(github(result(*(verdict(Outcome.FAIL, f"read/{n}") for n in range(SHOWN)))))) == SHOWN


# -- GitLab -----------------------------------------------------------------------------------------------------------


def test_gitlabs_report_is_valid(example: Results) -> None:
    jsonschema.validate(json.loads(gitlab(example)), CODE_QUALITY)


def test_gitlab_knows_the_same_failure_again() -> None:
    one = json.loads(gitlab(result(verdict(Outcome.FAIL), verdict(Outcome.WARN, "read/w"))))
    other = json.loads(gitlab(result(verdict(Outcome.FAIL, scenario="read/other", known="because"))))
    assert [entry["severity"] for entry in one] == ["critical", "minor"]
    assert other[0]["severity"] == "info"
    assert one[0]["fingerprint"] == other[0]["fingerprint"] != one[1]["fingerprint"]
    assert one[0]["location"] == {"path": "evidence/r/events.jsonl", "lines": {"begin": 7}}


# -- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_holds_no_html_and_no_link_of_a_drivers(example: Results) -> None:
    text = markdown(example)
    reader = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
    kinds = {token.type for block in reader.parse(text) for token in (block, *(block.children or ()))}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "heading_open"}
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_markdown_is_a_table_to_its_reader() -> None:
    reader = MarkdownIt("commonmark").enable("table")
    html = reader.render(markdown(result(PASS, verdict(Outcome.FAIL))))
    assert html.count("<tr>") == 2
    assert "<code>read/nlb</code>" in html
    assert "toy does not qualify. Mandatory checks: 1 failed." in html


def test_markdown_that_would_be_too_large_is_cut_and_says_so() -> None:
    finding = FindingEntry(ok=False, event=7, place="events.jsonl:7", expected="x" * 5000, actual="y" * 5000)
    many = [verdict(Outcome.FAIL, f"read/{n}").model_copy(update={"findings": [finding]}) for n in range(2000)]
    text = markdown(result(*many))
    assert LARGEST - 20_000 < len(text.encode()) < 1 << 20
    cut = re.search(r"and (\d+) more, for which there is no room here", text)
    assert cut
    assert int(cut[1]) + text.count("**FAIL**") == 2000


def test_markdown_shows_the_difference_from_a_baseline() -> None:
    before = result(verdict(Outcome.PASS), *(verdict(Outcome.PASS, f"read/{n}") for n in range(CHANGES + 5)))
    now = result(verdict(Outcome.FAIL), *(verdict(Outcome.FAIL, f"read/{n}") for n in range(CHANGES + 5)))
    text = markdown(now, before)
    assert f"**{CHANGES + 6} regressions**" in text
    assert "- PASS → **FAIL** `read/nlb`" in text
    assert "- and 6 more" in text
    assert "Since the baseline" not in markdown(now)


# -- JSON, and the command --------------------------------------------------------------------------------------------


def test_json_is_valid(example: Results) -> None:
    jsonschema.validate(json.loads(example.model_dump_json(by_alias=True)), schema())


@pytest.mark.parametrize("form", ["text", "html", "json", "junit", "markdown", "github", "gitlab", "tap", "ctrf", "sarif"])
def test_the_command_writes_every_format(form: str, tmp_path: Path) -> None:
    write(result(PASS, verdict(Outcome.FAIL)), tmp_path)
    file = tmp_path / "out"
    done = CliRunner().invoke(nvme_lab, ["report", str(tmp_path), "--format", form, "-o", str(file)])
    assert done.exit_code == 0
    assert "read/nlb" in file.read_text()


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_the_command_compares_with_a_baseline(form: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, outcome in ((old, Outcome.PASS), (new, Outcome.FAIL)):
        folder.mkdir()
        write(result(PASS, verdict(outcome)), folder)
    said = CliRunner().invoke(nvme_lab, ["report", str(new), "--format", form, "--baseline", str(old)])
    assert said.exit_code == 0
    assert re.search(r"1 regression", said.output)
    assert run_command(["report", str(new), "--format", "junit", "--baseline", str(old)]) == 4
    assert run_command(["report", str(new), "--format", form, "--baseline", str(tmp_path / "nothing")]) == 4
