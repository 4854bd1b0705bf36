"""The report as a document: who is what version, who answers for known failures, traceability, a company's own template."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.commands import nvme_lab
from conformance.judging.files import write
from conformance.judging.models import DriverEntry, KnownEntry, Results
from conformance.report.html import html
from conformance.report.traceability import COLUMNS, traceability
from conformance.report.waivers import waivers
from conformance.suite.check import Outcome
from lab.errors import UsageError
from tests.report.test_report import PASS, result, verdict

KNOWN = KnownEntry(
    check="read/b", reason="bounced later (docs/findings/u-boot-odd-buffer.md)", devices=["qemu"], owner="storage team",
    expires="2027-03-31", link="https://bugs.example/1",
)  # fmt: skip
EXPIRED = KnownEntry(check="read/c", reason="was accepted", devices=["qemu"], expires="2026-10-01", expired=True)
UNJUDGED = KnownEntry(check="read/d", reason="elsewhere", devices=["lab"])


@pytest.fixture(scope="module")
def results() -> Results:
    made = result(PASS, verdict(Outcome.FAIL, "read/b", known=KNOWN.reason), verdict(Outcome.FAIL, "read/c"))
    known = [KNOWN, EXPIRED, UNJUDGED]
    made.drivers["toy"] = DriverEntry(stages=["read", "write"], asked=["read"], known=known, version="v1.4-12-g3f2a9c1d2e4b")
    return made


def test_the_first_page_says_what_exactly_was_tested_and_how_it_stands(results: Results) -> None:
    page = html(results)
    summary = page[page.index('id="glance"') : page.index('id="stages"')]
    for part in (
        "v1.4-12-g3f2a9c1d2e4b",
        "✗ red",
        "not conformant",
        "claims 2 of 10 stages",
        "Gate: red, exit status 1: ",
        "Approved by",
        "Signature",
    ):
        assert part in summary


def test_facts_of_a_run_are_words_and_no_values_of_a_programming_language(results: Results) -> None:
    asked = {"drivers": ["toy", "other"], "defect": "", "variant": None, "files": []}
    made = results.model_copy(update={"lab": {**results.lab, "asked": asked, "replays": None, "host": {"cpus": 2}}})
    page = html(made)
    environment = page[page.index('id="environment"') : page.index("<script>")]
    assert "drivers: toy, other" in environment
    assert not [word for word in ("{", "[", "None", "replays", "defect") if word in environment]


def test_rules_about_what_was_never_used_are_one_line(results: Results) -> None:
    silent = [verdict(Outcome.INCONCLUSIVE, f"read/{what}", reason=f"never used: {what}") for what in ("SGLs", "directives")]
    page = html(result(PASS, *silent))
    assert "2 requirements without a verdict: about what the driver never used" in page
    assert "(never used: SGLs)" in page


def test_known_failures_have_an_owner_an_end_and_a_page(results: Results) -> None:
    page = html(results)
    table = page[page.index('id="known"') : page.index('id="stages"')]
    for part in ("storage team", "2027-03-31", 'href="https://bugs.example/1"', "U-Boot hands odd buffers", "nobody named"):
        assert part in table
    assert [(one.entry.check, one.state) for one in waivers(results)] == [
        ("read/b", "fails, as known"), ("read/c", "fails, and is no longer excused"), ("read/d", "not judged here"),
    ]  # fmt: skip


def test_known_failures_that_did_not_come_are_folded_below_those_that_did(results: Results) -> None:
    page = html(results)
    table = page[page.index('id="known"') : page.index('id="stages"')]
    assert table.index("read/c") < table.index("1 more did not fail in this result") < table.index("read/d")
    assert "Known, and not failed in this result: read/d." in table  # printed, where nothing can be opened


def test_a_link_of_a_manifest_is_a_link_only_to_the_web(results: Results) -> None:
    evil = KNOWN.model_copy(update={"link": "javascript:alert(1)"})
    made = results.model_copy(update={"drivers": {"toy": results.drivers["toy"].model_copy(update={"known": [evil]})}})
    assert 'href="javascript' not in html(made)


def test_what_passed_is_folded_away(results: Results) -> None:
    page = html(results)
    assert page.index('id="read/c"') < page.index('id="quiet"') < page.index('id="read/exact"')


def test_traceability_goes_from_section_to_evidence(results: Results) -> None:
    header, *rows = csv.reader(io.StringIO(traceability(results)))
    assert tuple(header) == COLUMNS
    found = {row[3]: dict(zip(header, row, strict=True)) for row in rows}
    assert len(rows) == len(results.verdicts)
    assert found["read/c"] | {"section": "5.17", "outcome": "FAIL", "scenario": "read/basic"} == found["read/c"]
    assert found["read/c"]["evidence"] == "evidence/r/events.jsonl:7"
    assert found["read/b"]["known failure"] == KNOWN.reason
    assert found["read/b"]["version"] == "v1.4-12-g3f2a9c1d2e4b"


def test_a_spreadsheet_computes_nothing_that_a_driver_said() -> None:
    made = verdict(Outcome.FAIL, "read/c")
    made.findings[0].actual = "=HYPERLINK(1)"
    assert "'=HYPERLINK(1)" in traceability(result(made))


def test_a_company_may_bring_its_own_template(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path)
    own = tmp_path / "ours.html.j2"
    own.write_text(
        '{% extends "report.html.j2" %}{% block header %}<h1>ACME: {{ conclusions[0].driver }}</h1>{% endblock %}'
        "{% block footer %}<footer>confidential</footer>{% endblock %}"
    )
    done = CliRunner().invoke(nvme_lab, ["report", str(tmp_path), "--format", "html", "--template", str(own)])
    assert done.exit_code == 0, done.output
    assert "<h1>ACME: toy</h1>" in done.output
    assert "<footer>confidential</footer>" in done.output
    assert "v1.4-12-g3f2a9c1d2e4b" in done.output, "what is not replaced stays"
    own.write_text("{% extends 'report.html.j2' %}\n{% block header %}")
    with pytest.raises(UsageError, match=r"ours\.html\.j2:2: not a template"):
        html(results, template=own)
    wrong = CliRunner().invoke(nvme_lab, ["report", str(tmp_path), "--format", "junit", "--template", str(own)])
    assert isinstance(wrong.exception, UsageError)
