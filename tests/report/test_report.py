"""What is shown of a result: terminal, Markdown, JUnit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

from conformance.judging.models import Cite, DriverEntry, FindingEntry, LeftOut, Results, RunEntry, VerdictEntry
from conformance.judging.summary import exit_status, rows, unproven
from conformance.report.annotations import github, gitlab
from conformance.report.cases import cases
from conformance.report.html import html
from conformance.report.junit import LONGEST, junit
from conformance.report.markdown import markdown
from conformance.report.terminal import SHOWN, plain_summary, plain_table
from conformance.suite.check import Outcome

CITE = Cite(revision="NVM Express Base Specification 2.0", section="5.17", title="Identify command")


def verdict(outcome: Outcome, check: str = "read/nlb", **more: Any) -> VerdictEntry:
    findings = [
        FindingEntry(
            ok=outcome is Outcome.PASS, event=7, place="events.jsonl:7", expected="8 blocks", actual="7 <blocks> & [red]more[/]"
        )
    ]
    values: dict[str, Any] = {"scenario": "read/basic", "level": "M", "statement": "Sends NLB 0's based.", **more}
    return VerdictEntry(
        driver="toy", device="qemu", stage=check.partition("/")[0], check=check, outcome=outcome, cite=CITE,
        findings=findings, **values,
    )  # fmt: skip


def result(*verdicts: VerdictEntry, **more: Any) -> Results:
    return Results(
        lab={"version": "0", "seed": 0},
        drivers={"toy": DriverEntry(stages=["read"], asked=["read"])},
        runs=[RunEntry(driver="toy", device="qemu", scenario="read/basic", stage="read", evidence="evidence/r", seconds=2)],
        verdicts=list(verdicts),
        **more,
    )


PASS = verdict(Outcome.PASS, "read/exact")


def test_a_passing_run_is_short_and_qualifies() -> None:
    text = plain_summary(result(PASS), Path("out"))
    assert "toy qualifies: every mandatory check of read passed." in text
    assert len(text.splitlines()) < 10
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_failure_is_shown_with_all_that_is_needed_to_look_into_it() -> None:
    text = plain_summary(result(verdict(Outcome.FAIL), verdict(Outcome.FAIL, scenario="read/more")), Path("out"))
    assert "FAIL  read/nlb  toy on qemu, read/basic and 1 more" in text
    for part in (
        "The driver sends NLB 0's based.",
        "8 blocks",
        "7 <blocks> & [red]more[/]",
        "NVM Express Base Specification 2.0, 5.17 “Identify command”",
        "out/evidence/r/events.jsonl:7",
        "toy does not qualify. Mandatory checks: 1 failed.",
    ):
        assert part in text


def test_of_many_failures_the_later_ones_take_a_line_each() -> None:
    text = plain_summary(result(*(verdict(Outcome.FAIL, f"read/{n}") for n in range(SHOWN + 5))), Path("out"))
    assert text.count("expected") == SHOWN
    assert all(f"FAIL  read/{n} " in text for n in range(SHOWN + 5))


def test_a_known_failure_is_shown_with_its_reason_and_never_qualifies() -> None:
    text = plain_summary(result(PASS, verdict(Outcome.FAIL, known="it was always so")), Path("out"))
    assert "known  read/nlb  toy: it was always so" in text
    assert "qualifies" not in text


@pytest.mark.parametrize(
    ("verdicts", "more", "says"),
    [
        ([PASS, verdict(Outcome.INCONCLUSIVE)], {}, "toy: nothing mandatory failed; not proven: 1 inconclusive."),
        (
            [PASS, verdict(Outcome.INCONCLUSIVE, "read/sgl-shape", unused=True)],
            {},
            "toy qualifies: every mandatory check of read passed; 1 is about what it never used.",
        ),
        ([PASS], {"narrowed": True}, "toy: every mandatory check that was selected passed."),
        ([PASS], {"unfinished": "interrupted: 3 of 4 verdicts are missing"}, "This result is partial. Interrupted: 3 of 4"),
        ([verdict(Outcome.UNSUPPORTED)], {}, "Nothing was judged in stage read (toy)."),
        ([verdict(Outcome.UNSUPPORTED)], {}, "toy: nothing was judged."),
    ],
)
def test_the_conclusion_claims_no_more_than_was_shown(verdicts: list[VerdictEntry], more: dict[str, Any], says: str) -> None:
    text = plain_summary(result(*verdicts, **more), Path("out"))
    assert says in text
    assert ("qualifies:" in text) == ("qualifies:" in says) or "partial" in text


def test_a_driver_qualifies_in_what_was_judged_only() -> None:
    found = result(PASS)
    found.drivers["toy"].asked += ["write", "passthrough"]
    text = plain_summary(found, Path("out"))
    assert "Nothing was judged in stage write (toy), profile passthrough (toy)." in text
    assert "toy qualifies: every mandatory check of read passed." in text


def test_a_rule_about_what_was_never_used_gives_way_to_a_rule_that_nobody_observed() -> None:
    unused = verdict(Outcome.INCONCLUSIVE, unused=True, scenario="read/a", reason="never used: SGLs")
    sampled = verdict(
        Outcome.INCONCLUSIVE, scenario="read/b", reason="a violation was seen only in memory sampled after the fact"
    )
    for order in ([unused, sampled], [sampled, unused]):
        assert unproven(result(PASS, *order)) == [sampled]
    assert unproven(result(PASS, unused)) == []
    assert exit_status(result(PASS, unused, strict=True)) == 0
    assert exit_status(result(PASS, sampled, strict=True)) == 1


def test_the_labs_failure_is_shown_once_for_all_checks() -> None:
    failed = [verdict(Outcome.ERROR, f"read/{n}", reason="QEMU died") for n in range(30)]
    for text in (plain_summary(result(*failed), Path("out")), markdown(result(*failed))):
        assert text.count("QEMU died") == 1
        assert "toy/qemu/read/basic" in text


def test_silent_checks_are_listed_on_request() -> None:
    silent = result(PASS, verdict(Outcome.UNSUPPORTED, reason="the driver cannot be asked to mount"))
    assert "cannot be asked to mount" not in plain_summary(silent, Path())
    assert "unsupported   read/nlb  toy: the driver cannot be asked to mount" in plain_summary(silent, Path(), verbose=True)


def test_what_was_left_out_takes_one_line_and_all_reasons_on_request() -> None:
    left = [LeftOut(driver="toy", device="qemu", scenario=f"read/{n}", reason=f"reason {n}") for n in range(2)]
    text = plain_summary(result(PASS, left_out=left), Path())
    assert "2 scenarios not recorded: reason 0 (and 1 other reasons; -v shows all)" in text
    assert "toy/qemu/read/1: reason 1" in plain_summary(result(PASS, left_out=left), Path(), verbose=True)


def test_the_table_counts_by_outcome() -> None:
    lines = plain_table(result(PASS, verdict(Outcome.FAIL), verdict(Outcome.WARN, "read/mptr", level="R"))).splitlines()
    assert lines[0].split() == [
        "stage", "driver", "device", "pass", "fail", "known", "warn", "unsup.", "inconcl.", "error", "verdict",
    ]  # fmt: skip
    assert lines[1].split() == ["read", "toy", "qemu", "1", "1", "-", "1", "-", "-", "-", "fails"]


def test_junit_can_be_read_back() -> None:
    verdicts = [
        PASS,
        verdict(Outcome.FAIL),
        verdict(Outcome.FAIL, "read/known", known="it was always so"),
        verdict(Outcome.WARN, "read/mptr", level="R"),
        verdict(Outcome.UNSUPPORTED, "read/mount", reason="no mount"),
        verdict(Outcome.INCONCLUSIVE, "read/prp2", reason="nothing observed"),
        verdict(Outcome.ERROR, "read/in-range", reason="x" * 10 * LONGEST),
    ]
    document = JUnitXml.fromstring(junit(result(*verdicts)).encode())
    assert (document.tests, document.failures, document.errors, document.skipped) == (7, 1, 1, 3)
    cases = {case.name: case for suite in document for case in suite}
    failure = cases["read/nlb"].result[0]
    assert "actual: 7 <blocks> & [red]more[/]" in failure.text
    assert "evidence/r/events.jsonl:7" in failure.text
    assert "it was always so" in cases["read/known"].result[0].message
    assert len(cases["read/in-range"].result[0].text) == LONGEST
    assert cases["read/exact"].time == 2


def test_markdown_has_the_table_and_the_failures() -> None:
    text = markdown(result(PASS, verdict(Outcome.FAIL)))
    assert "| read | toy | qemu | 1 | 1 | 0 | 0 | 0 | 0 | 0 | **fails** |" in text
    assert "**FAIL** `read/nlb` — toy on qemu, read/basic" in text


def test_strict_lists_its_reasons_in_every_format() -> None:
    results = result(PASS, verdict(Outcome.INCONCLUSIVE, "read/nlb", reason="nothing observed"), strict=True)
    text = plain_summary(results, Path("out"))
    assert "fails --strict" in text
    assert "Failed by --strict: 1 check\n  read/nlb  toy: mandatory and not proven: nothing observed\n" in text
    for made in (markdown(results), github(results), gitlab(results), junit(results), html(results)):
        assert "read/nlb" in made
        assert "mandatory and not proven: nothing observed" in made
    assert junit(results).count("<failure") == 1
    without = results.model_copy(update={"strict": False})
    assert "Mandatory and not proven: 1 check\n  toy: nothing observed: read/nlb\n" in plain_summary(without, Path("out"))
    assert "<failure" not in junit(without)


@pytest.mark.parametrize(
    ("verdicts", "more", "says"),
    [
        ([PASS], {}, "Gate: green, exit status 0: nothing new failed."),
        ([PASS, verdict(Outcome.FAIL, known="it was always so")], {}, "Gate: green, exit status 0: nothing new failed."),
        ([verdict(Outcome.FAIL)], {}, "Gate: red, exit status 1: 1 check failed."),
        ([PASS, verdict(Outcome.WARN)], {"strict": True}, "Gate: red, exit status 1: 1 check failed by --strict."),
        (
            [verdict(Outcome.FAIL), verdict(Outcome.WARN, "read/b"), verdict(Outcome.INCONCLUSIVE, "read/c", reason="none")],
            {"strict": True},
            "Gate: red, exit status 1: 1 check failed and 2 checks failed by --strict.",
        ),
        (
            [PASS, verdict(Outcome.ERROR, "read/b", reason="lost")],
            {},
            "Gate: red, exit status 2: the lab failed in 1 scenario.",
        ),
        ([PASS], {"unfinished": "interrupted"}, "Gate: red, exit status 2: the result is partial."),
        ([verdict(Outcome.UNSUPPORTED, reason="no")], {}, "Gate: red, exit status 3: a selected stage was not judged."),
    ],
)
def test_the_gate_says_the_exit_status_and_why(verdicts: list[VerdictEntry], more: dict[str, Any], says: str) -> None:
    results = result(*verdicts, **more)
    assert says in plain_summary(results, Path("out")).splitlines()
    assert says.partition(":")[0] in markdown(results)
    assert f"exit status {exit_status(results)}:" in says
    assert says in html(results)


def test_nothing_passes_in_a_run_that_ended_early() -> None:
    results = result(PASS, verdict(Outcome.WARN, "read/b"), unfinished="interrupted: 3 of 5 verdicts are missing")
    assert [row.word for row in rows(results)] == ["partial"]
    text = plain_summary(results, Path("out"))
    assert "toy: nothing new failed so far; the result is partial." in text
    assert "passes" not in text
    assert "partial" in html(results)


def test_what_was_not_seen_of_other_stages_is_no_case_and_no_count() -> None:
    other = verdict(Outcome.INCONCLUSIVE, "write/zeroes", reason="nothing observed")
    results = result(PASS, other, verdict(Outcome.PASS, "write/exact"))
    assert [case.verdict.check for case in cases(results)] == ["read/exact", "write/exact"]
    assert "write/zeroes" not in junit(results)
    assert "| others | toy | qemu | 1 | 0 | 0 | 0 | 0 | 0 | 0 | **passes** |" in markdown(results)
