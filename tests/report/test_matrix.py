"""``nvme-lab matrix``: many results as one static site with badges."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conformance.commands import run_command
from conformance.judging.files import write
from conformance.judging.models import Cite, DriverEntry, FindingEntry, Results, VerdictEntry
from conformance.report.badge import badge
from conformance.report.matrix import entries, site, slug
from conformance.suite.check import Outcome
from docs.hooks import sample_matrix

EVIL = "<script>alert(1)</script>"


def results(driver: str = "mine", **outcomes: Outcome) -> Results:
    verdicts = [
        VerdictEntry(
            driver=driver, device=device, scenario=f"{stage}/basic", stage=stage, check=f"{stage}/x", level="M",
            outcome=outcome if device == "lab" else Outcome.PASS, cite=Cite(revision="2.0", section="1", title="x"),
        )
        for stage, outcome in outcomes.items()
        for device in ("qemu", "lab")
    ]  # fmt: skip
    stages = list(outcomes)
    return Results(lab={"version": "1"}, drivers={driver: DriverEntry(stages=stages, asked=stages)}, verdicts=verdicts)


def test_a_row_for_each_driver_and_result_and_the_worst_word_in_a_cell() -> None:
    one, two = entries([("6.1", results(read=Outcome.FAIL, detect=Outcome.PASS)), ("6.12", results(read=Outcome.PASS))])
    assert (one.name, two.name) == ("6.1", "6.12")
    assert one.cells["read"] == ("fails", "qemu: passes, lab: fails")
    assert one.cells["detect"][0] == two.cells["read"][0] == "passes"
    assert (one.badge, two.badge) == ("badges/mine-6.1.svg", "badges/mine-6.12.svg")


def test_names_are_escaped_and_safe_in_paths() -> None:
    files = site([(EVIL, results(EVIL, read=Outcome.PASS))])
    assert EVIL not in "".join(files.values())
    assert all(".." not in name and "<" not in name for name in files)
    assert slug("../../etc") == "etc"


def test_a_badge_is_svg_with_a_text_for_readers() -> None:
    root = ElementTree.fromstring(badge("does not qualify & more", "#a40e26"))
    assert root.attrib["aria-label"] == "NVMe Lab: does not qualify & more"


def test_the_command_takes_folders_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, outcome in (("6.1", Outcome.FAIL), ("6.12", Outcome.PASS)):
        (tmp_path / "all" / name).mkdir(parents=True)
        write(results(read=outcome), tmp_path / "all" / name)
    assert run_command(("matrix", "all", "-o", "site")) == 0
    page = (tmp_path / "site/index.html").read_text()
    assert page.index("6.1<") < page.index("6.12<")
    assert {path.name for path in (tmp_path / "site/badges").iterdir()} == {"mine-6.1.svg", "mine-6.12.svg"}
    assert run_command(("matrix", "site", "-o", "other")) == 4
    assert "There is no result in site" in capsys.readouterr().err


def test_the_sample_of_the_documentation_is_what_the_whole_results_would_show() -> None:
    whole = results(read=Outcome.FAIL, detect=Outcome.PASS)
    whole.verdicts[0].known = "a reason that is not shown"
    whole.verdicts[1].findings = [FindingEntry(ok=False, event=1, expected="1", actual="2")]
    whole.verdicts.append(
        whole.verdicts[0].model_copy(update={"scenario": "read/other", "outcome": Outcome.PASS, "known": None})
    )
    assert site([("x", sample_matrix.small(whole, "mine"))]) == site([("x", whole)])


def test_the_sample_holds_our_drivers_and_nothing_of_the_machine() -> None:
    kept = dict(sample_matrix.kept())
    drivers = {name.partition("@")[0] for result in kept.values() for name in result.drivers}
    assert drivers == {"edk2", "linux", "qemu-vfio", "reference", "seabios", "u-boot", "u-boot-riscv64"}
    for result in kept.values():
        assert "/" not in json.dumps(result.lab)
        assert not any(driver.manifest or driver.source for driver in result.drivers.values())
    files = sample_matrix.files()
    assert {"index.html", "badges/linux-linux-6.1.svg"} <= set(files)
