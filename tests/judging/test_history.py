"""The history of a driver: transitions between versions, and what is none; the newest release as a baseline."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.judging.compare import baseline
from conformance.judging.history import ALWAYS, NEVER, History, Input, Kind, history
from conformance.judging.models import Cite, DriverEntry, FindingEntry, KnownEntry, Results, RunEntry, VerdictEntry
from conformance.suite.check import Outcome
from lab.errors import UsageError

PASS, FAIL, WARN, SILENT, FLAKY = Outcome.PASS, Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.FLAKY


def results(driver: str, version: str, outcomes: dict[str, Outcome], **entry: object) -> Results:
    """Return the result of one version: scenario → outcome."""
    name = f"{driver}@{version}" if version else driver
    finding = FindingEntry(ok=False, event=7, place="events.jsonl:7", expected="8", actual="7")
    verdicts = [
        VerdictEntry(
            driver=name,
            device="lab",
            scenario=scenario,
            stage="read",
            check="read/nlb",
            level="M",
            outcome=outcome,
            cite=Cite(revision="", section="-", title=""),
            findings=[finding] if outcome in (FAIL, WARN) else [],
        )
        for scenario, outcome in outcomes.items()
    ]
    runs = [
        RunEntry(driver=name, device="lab", scenario=scenario, stage="read", evidence=f"evidence/{scenario}", seconds=2)
        for scenario in outcomes
    ]
    claims = DriverEntry.model_validate({"base": driver, "release": version, "package": f"pkg {version}", **entry})
    return Results(drivers={name: claims}, verdicts=verdicts, runs=runs)


def of(*outcomes: Outcome | None) -> History:
    """Return the history of one scenario: its outcome in version 1, 2 …; None: not recorded."""
    parts = [results("toy", str(n), {"read/basic": one} if one else {}) for n, one in enumerate(outcomes, 1)]
    return history([Input(f"r{n}", Path(f"r{n}"), part) for n, part in enumerate(parts, 1)])


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((PASS, FAIL), [(Kind.INTRODUCED, "1", "2")]),
        ((FAIL, PASS), [(Kind.FIXED, "1", "2")]),
        ((WARN, PASS, WARN), [(Kind.INTRODUCED, "2", "3"), (Kind.FIXED, "1", "2")]),
        ((FAIL, SILENT, PASS), [(Kind.FIXED, "1", "3")]),
        ((FAIL, None, PASS), [(Kind.FIXED, "1", "3")]),
        ((PASS, SILENT, FAIL), [(Kind.INTRODUCED, "1", "3")]),
        ((SILENT, FAIL), [(Kind.UNCOVERED, "1", "2")]),
        ((SILENT, SILENT, FAIL, FAIL), [(Kind.UNCOVERED, "2", "3")]),
        ((FAIL, SILENT), [(Kind.HIDDEN, "1", "2")]),
        ((PASS, FLAKY, PASS), [(Kind.FLAKY, "1", "2")]),
        ((FAIL, FAIL), []),
        ((PASS, SILENT, PASS), []),
        ((FAIL, Outcome.ERROR, FAIL), []),
        ((None, FAIL), []),
    ],
)
def test_what_changed(outcomes: tuple[Outcome | None, ...], expected: list[tuple[Kind, str, str]]) -> None:
    assert [(found.kind, found.before.version, found.after.version) for found in of(*outcomes).transitions] == expected


def test_rows_say_always_and_never() -> None:
    assert of(FAIL, SILENT, FAIL).rows[0].words == (ALWAYS,)
    assert of(PASS, PASS).rows[0].words == (NEVER,)
    assert of(PASS, FAIL).rows[0].words == ("introduced",)


def test_both_sides_name_their_evidence_and_the_bad_one_its_finding() -> None:
    (transition,) = of(FAIL, PASS).transitions
    assert (transition.before.evidence, transition.after.evidence) == ("r1/evidence/read/basic", "r2/evidence/read/basic")
    assert transition.bad is transition.before
    assert (transition.bad.event, transition.bad.place, transition.bad.actual) == (7, "events.jsonl:7", "7")


def test_scenarios_that_change_alike_are_one_transition() -> None:
    old, new = (results("toy", str(n), {"read/a": one, "read/b": one, "read/c": PASS}) for n, one in ((1, FAIL), (2, PASS)))
    found = history([Input("r1", Path("r1"), old), Input("r2", Path("r2"), new)])
    (transition,) = found.transitions
    assert transition.scenarios == ("lab/read/a", "lab/read/b")
    assert [(cell.bad, cell.judged) for cell in found.rows[0].cells.values()] == [(2, 3), (0, 3)]


def test_results_of_one_version_that_contradict_each_other_are_flaky() -> None:
    parts = [results("toy", "1", {"read/a": one}) for one in (FAIL, PASS)]
    found = history([Input(f"r{n}", Path(f"r{n}"), part) for n, part in enumerate(parts)])
    assert [transition.kind for transition in found.transitions] == [Kind.FLAKY]
    assert len(found.releases) == 1


def test_versions_are_in_their_order_and_without_one_results_are_in_theirs() -> None:
    numbered = [results("toy", version, {"read/a": PASS}) for version in ("6.12", "5.10", "6.1")]
    found = history([Input(f"r{n}", Path(), part) for n, part in enumerate(numbered)])
    assert [release.version for release in found.releases] == ["5.10", "6.1", "6.12"]
    unnumbered = [results("toy", "", {"read/a": PASS}) for _ in "ab"]
    found = history([Input(name, Path(), part) for name, part in zip(("monday", "friday"), unnumbered, strict=True)])
    assert [release.version for release in found.releases] == ["monday", "friday"]


def test_a_known_failure_says_where_it_was_seen_and_where_it_is_stale() -> None:
    known = [KnownEntry(check="read/nlb", reason="why", devices=["lab"], versions="1..3")]
    for stages, stale in ((["read"], ("3",)), (["read", "write"], ())):  # a part of a driver's stages makes nothing stale
        claims = {"known": known, "stages": stages, "asked": ["read"]}
        parts = [results("toy", str(n), {"read/a": one}, **claims) for n, one in ((1, FAIL), (2, FAIL), (3, PASS))]
        (entry,) = history([Input(f"r{n}", Path(), part) for n, part in enumerate(parts)]).known
        assert (entry.first, entry.last, entry.stale) == ("1", "2", stale)


def test_the_trend_counts_verdicts_and_seconds() -> None:
    points = of(FAIL, PASS).trend["toy"]
    assert [(point.version, point.passed, point.judged, point.seconds) for point in points] == [("1", 0, 1, 2), ("2", 1, 1, 2)]


def test_a_selection_of_nothing_is_wrong_usage() -> None:
    part = Input("r", Path(), results("toy", "1", {"read/a": PASS}))
    with pytest.raises(UsageError, match="No result is of the driver 'toi'; did you mean 'toy'"):
        history([part], drivers=["toi"])
    with pytest.raises(UsageError, match="None of the results judges"):
        history([part], checks=["read/exact"])


# -- the newest release as a baseline -------------------------------------------------------------------------------


def merged(*parts: Results) -> Results:
    """Return one result of all these drivers."""
    found = Results()
    for part in parts:
        found.drivers |= part.drivers
        found.verdicts += part.verdicts
        found.runs += part.runs
    return found


RELEASES = merged(*(results("toy", version, {"read/a": PASS}) for version in ("1", "2", "10")))


@pytest.mark.parametrize(
    ("driver", "version", "named", "expected"),
    [
        ("toy", "11", "", "toy@10"),
        ("toy", "3", "", "toy@2"),
        ("toy", "", "", "toy@10"),
        ("mine", "", "toy", "toy@10"),
        ("toy", "2", "toy", "toy@10"),
    ],
)
def test_the_newest_release_is_the_baseline(driver: str, version: str, named: str, expected: str) -> None:
    new = results(driver, version, {"read/a": FAIL})
    (name,) = new.drivers
    before, chosen = baseline(RELEASES, new, named)
    assert chosen == {name: expected}
    assert [verdict.driver for verdict in before.verdicts] == [name]


def test_a_driver_under_the_same_name_is_its_own_baseline() -> None:
    before, chosen = baseline(RELEASES, results("toy", "2", {"read/a": FAIL}))
    assert chosen == {}
    assert "toy@2" in before.drivers


def test_a_baseline_without_the_driver_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no version of 'other'"):
        baseline(RELEASES, results("mine", "", {"read/a": FAIL}), "other")
