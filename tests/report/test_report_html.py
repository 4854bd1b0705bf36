"""The HTML report: what it says, and that nothing hostile gets out of its text."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.commands import nvme_lab
from conformance.judging.files import write
from conformance.judging.models import FindingEntry, KnownEntry, LeftOut, Results, RunEntry, VerdictEntry
from conformance.report.cards import EXCERPTS
from conformance.report.html import Material, html
from conformance.report.witness import hashes_of, witness_of
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS
from conformance.wire.excerpts import AFTER, BEFORE
from lab.data.events import RegisterWrite, Submitted
from tests.record.recordings import unpack
from tests.report.test_report import PASS, result, verdict
from tests.toy.fixtures import MakeEvidence

NASTY = "</td></script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e{{ 7 * 7 }}'\""


class Page(HTMLParser):
    """Tags, attributes and text of a page; an end tag that fits no open one is a mistake of the page."""

    EMPTY = frozenset({"meta", "input", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(results: Results, folder: Path = Path(), before: Results | None = None) -> Page:
    return Page(html(results, Material(witness_of(results, folder), {}, "the release" if before else "", before)))


def test_a_passing_driver_qualifies() -> None:
    text = page(result(PASS)).text
    assert "toy: qualifies" in text
    assert "Every mandatory check of read passed." in text
    assert "Everything that was selected was judged." in text


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([PASS, verdict(Outcome.FAIL)], "toy: does not qualify"),
        ([PASS, verdict(Outcome.FAIL, known="because")], "toy: no new failures"),
        ([PASS, verdict(Outcome.ERROR, reason="QEMU died")], "toy: the lab failed"),
        ([PASS, verdict(Outcome.INCONCLUSIVE)], "toy: not proven"),
        ([verdict(Outcome.INCONCLUSIVE)], "toy: nothing judged"),
    ],
)
def test_otherwise_what_is_missing_stands_first(verdicts: list[VerdictEntry], said: str) -> None:
    text = page(result(*verdicts)).text
    assert said in text
    assert "What is in the way: 1 mandatory check" in text
    assert text.index("What is in the way") < text.index("Drivers and devices by stage")


def test_a_selection_does_not_qualify() -> None:
    text = page(result(PASS, narrowed=True)).text
    assert "qualifies" not in text
    assert "toy: selection passed" in text


def test_reasons_are_shown() -> None:
    silent = verdict(Outcome.UNSUPPORTED, "read/sizes", reason="cannot be asked to read").model_copy(update={"findings": []})
    left = LeftOut(driver="toy", device="lab", scenario="read/past-end", reason="no faults there")
    results = result(PASS, verdict(Outcome.FAIL, known="the vendor knows"), silent, left_out=[left], unfinished="interrupted")
    results.drivers["toy"].known.append(KnownEntry(check="read/nlb", reason="the vendor knows", devices=["qemu"]))
    text = page(results).text
    for said in ("the vendor knows", "cannot be asked to read", "1 scenario not recorded: no faults", "partial: interrupted"):
        assert said in text


def test_nothing_hostile_gets_out_of_its_text() -> None:
    finding = FindingEntry(ok=False, event=1, place=NASTY, expected=NASTY, actual=NASTY)
    changes = {"findings": [finding], "driver": NASTY, "scenario": NASTY, "reason": NASTY, "statement": NASTY}
    bad = verdict(Outcome.FAIL).model_copy(update=changes)
    results = result(PASS, bad, unfinished=NASTY)
    results.drivers[NASTY] = results.drivers["toy"]
    results.runs.append(RunEntry(driver=NASTY, device="qemu", scenario=NASTY, stage="read", evidence="e", seconds=1))
    results.lab["host"] = {NASTY: NASTY}
    clean, attacked = page(result(PASS, verdict(Outcome.FAIL))), page(results)
    assert {tag for tag, _ in attacked.tags} == {tag for tag, _ in clean.tags}
    assert len(attacked.all("script")) == 1
    assert not any(name.startswith("on") for _, names in attacked.tags for name in names)
    assert "{{ 7 * 7 }}" in attacked.text
    assert "\x1b" not in attacked.text
    assert "\u202e" not in attacked.text


def test_it_loads_nothing_and_runs_only_its_own_script() -> None:
    text = html(result(PASS))
    made = Page(text)
    assert not any({"src", "srcset", "action", "onclick", "style"} & names.keys() for _, names in made.tags)
    assert all(str(link["href"]).startswith("#") for link in made.all("a"))
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "url(" not in text
    assert "@import" not in text
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    own = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = next(meta["content"] for meta in made.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert f"script-src 'sha256-{own}'" in policy
    assert "default-src 'none'" in policy


def test_every_control_has_a_label_and_every_link_a_target() -> None:
    made = page(result(PASS, verdict(Outcome.FAIL)))
    ids = [names["id"] for _, names in made.tags if "id" in names]
    assert len(ids) == len(set(ids))
    assert {str(link["href"])[1:] for link in made.all("a")} <= set(ids)
    labels, fields = made.all("label"), made.all("input") + made.all("select")
    assert len(labels) == len(fields) > 0
    assert all("scope" in head for head in made.all("th"))


def test_a_failure_shows_what_the_device_saw(make_evidence: MakeEvidence) -> None:
    events = [RegisterWrite(t=n, controller="nv0", offset=0x14, size=4, value=n) for n in range(40)]
    evidence = make_evidence(events)
    finding = FindingEntry(ok=False, event=21, place="events.jsonl:21", expected="x", actual="y")
    results = result(verdict(Outcome.FAIL).model_copy(update={"findings": [finding]}))
    results.runs[0].evidence = evidence.folder.name
    made = page(results, evidence.folder.parent)
    assert [names.get("aria-current") for names in made.all("tr")].count("true") == 1
    assert made.text.count("write CC") == 2 * (BEFORE + 1 + AFTER)
    assert "20.000000" in made.text
    drawings = [svg for svg in made.all("svg") if "ladder diagram" in str(svg["aria-label"])]
    assert len(drawings) == 1
    lost = page(results, evidence.folder)  # the evidence is somewhere else: shown without it
    assert "write CC" not in lost.text
    assert "events.jsonl:21" in lost.text


def test_however_much_fails_the_page_stays_small(make_evidence: MakeEvidence) -> None:
    events = [RegisterWrite(t=n, controller="nv0", offset=0x14, size=4, value=n) for n in range(40)]
    evidence = make_evidence(events)
    findings = [FindingEntry(ok=False, event=21, place="events.jsonl:21", expected="x", actual="y")]
    bad = [verdict(Outcome.FAIL, f"read/{n}").model_copy(update={"findings": findings}) for n in range(EXCERPTS + 50)]
    results = result(*bad)
    results.runs[0].evidence = evidence.folder.name
    made = page(results, evidence.folder.parent)
    assert [names.get("aria-current") for names in made.all("tr")].count("true") == EXCERPTS
    assert made.text.count("events.jsonl:21") == EXCERPTS + 50


def test_what_passes_has_an_example() -> None:
    text = page(result(PASS)).text
    assert "An example" in text
    assert "8 blocks" in text
    assert "evidence/r/events.jsonl:7" in text


def test_changes_since_a_baseline_are_shown() -> None:
    better = verdict(Outcome.FAIL, "read/exact")
    before = result(better, verdict(Outcome.PASS), verdict(Outcome.PASS, "read/lost"))
    text = page(result(PASS, verdict(Outcome.FAIL)), before=before).text
    assert "1 regression, 1 fixed, 0 newly known, 0 new, 1 lost" in text
    assert "Changes since the release" in text
    assert "▲ 1 regression" in text
    assert "Changes" not in page(result(PASS)).text


def test_several_drivers_are_shown_side_by_side() -> None:
    results = result(PASS, verdict(Outcome.FAIL).model_copy(update={"driver": "other"}))
    results.drivers["other"] = results.drivers["toy"]
    assert "1 of 2 drivers qualify" in page(results).text
    assert "not compared" in page(results, before=result(PASS)).text  # the baseline knows nothing of the other


def test_requirements_without_a_verdict_are_listed() -> None:
    text = page(result(PASS, verdict(Outcome.INCONCLUSIVE, "read/sizes", reason="nothing observed"))).text
    assert "1 requirement without a verdict: nothing observed" in text
    assert f"toy: {len(CHECKS.keys() - {'read/exact', 'read/sizes'})} requirements of this lab are not in this result" in text


def thousands() -> Results:
    outcomes = [Outcome.FAIL, *[Outcome.PASS] * 8]
    verdicts = [
        verdict(outcomes[(check + scenario) % 9], f"read/check-{check}", scenario=f"read/s{scenario}")
        for check in range(100)
        for scenario in range(100)
    ]
    runs = [
        RunEntry(driver="toy", device="qemu", scenario=f"read/s{n}", stage="read", evidence=f"evidence/{n}", seconds=n / 10)
        for n in range(100)
    ]
    return result(*verdicts).model_copy(update={"runs": runs})


def test_ten_thousand_verdicts_are_a_small_page() -> None:
    began = time.process_time()
    text = html(thousands())
    assert len(text.encode()) < 2_500_000
    assert time.process_time() - began < 20
    assert sum("data-word" in names for names in Page(text).all("tbody")) == 100


def test_a_full_matrix_with_much_amiss_is_below_seventeen_kilobytes_a_check(tmp_path: Path) -> None:
    """Six drivers on two devices, every check in 75 scenarios, a fifth of them failed with real recordings as evidence."""
    evidence = unpack("linux-lab-read-basic", tmp_path / "evidence")
    event = [event.line for event in evidence.events() if isinstance(event, Submitted)][-1]
    finding = FindingEntry(ok=False, event=event, place=f"device/nv0.rec, record {-event}", expected="x" * 80, actual="y" * 80)
    drivers, scenarios = [f"driver-{n}" for n in range(6)], [f"multi-namespace/scenario-{n}" for n in range(75)]
    results = result()
    results.drivers = dict.fromkeys(drivers, results.drivers["toy"])
    for driver in drivers:
        for device in ("qemu", "lab"):
            results.runs += [
                RunEntry(driver=driver, device=device, scenario=name, stage="read", evidence="evidence", seconds=1)
                for name in scenarios
            ]
            for at, check in enumerate(CHECKS.values()):
                model = verdict(Outcome.FAIL if at % 5 == 0 else Outcome.PASS, check.id, statement=check.statement).model_copy(
                    update={"driver": driver, "device": device, "findings": [finding] if at % 5 == 0 else []}
                )
                results.verdicts += [model.model_copy(update={"scenario": name}) for name in scenarios]
    text = html(results, Material(witness_of(results, tmp_path)))
    assert len(results.verdicts) > 100_000
    assert text.count('<svg class="ladder"') == EXCERPTS
    assert len(text.encode()) < 17_000 * len(CHECKS)  # of twelve matrices; 6 MB in all


def test_what_a_driver_said_at_length_is_cut() -> None:
    finding = FindingEntry(ok=False, event=1, place="events.jsonl:1", expected="x" * 10_000_000, actual="y")
    text = html(result(verdict(Outcome.FAIL).model_copy(update={"findings": [finding]})))
    assert len(text) < 200_000
    assert "… (10000000 characters)" in text


def test_the_command_writes_it(tmp_path: Path) -> None:
    write(result(PASS, verdict(Outcome.FAIL)), tmp_path)
    file = tmp_path / "report.html"
    done = CliRunner().invoke(nvme_lab, ["report", str(tmp_path), "--format", "html", "-o", str(file)])
    assert done.exit_code == 0, done.output
    assert "toy: does not qualify" in Page(file.read_text()).text


def test_the_files_of_a_driver_are_named_with_their_hashes(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence(driver={"name": "toy", "manifest": "ab12", "files": {"nvme.ko": "cd34", NASTY: NASTY}})
    results = result(PASS)
    results.runs[0].evidence = evidence.folder.name
    hashes = hashes_of(results, evidence.folder.parent)
    assert hashes["toy"]["nvme.ko"] == "cd34"
    assert hashes["toy"]["manifest"] == "ab12"
    made = Page(html(results, Material(hashes=hashes)))
    assert "toynvme.kocd34" in made.text
    assert not made.all("img")
    assert hashes_of(results, evidence.folder) == {}  # the evidence is somewhere else


def test_merged_results_list_each_environment() -> None:
    results = result(PASS)
    parts = [{"version": "0", "started": f"on day {n}", "qemu": {"version": f"11.{n}"}, "versions": {}} for n in (1, 2)]
    results.lab["merged"] = parts
    text = page(results).text
    assert "run of on day 1" in text
    assert "run of on day 2" in text
    assert "11.2" in text
    assert "{'" not in text  # nothing is shown in Python's words
