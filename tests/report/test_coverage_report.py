"""Coverage on the page, on the terminal, and for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from conformance.commands.coverage import coverage
from conformance.judging.coverage import coverage_entries
from conformance.judging.files import write
from conformance.judging.models import CoverageEntry, Results, RunEntry
from conformance.report import coverage as rendered
from conformance.report.html import html
from conformance.report.terminal import plain_summary
from lab.data.coverage import FunctionCoverage, ObjectCoverage, RecordingCoverage, write_coverage
from lab.errors import UsageError


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """Return a folder of results with two functions, one of which a scenario executed in part."""
    functions = (FunctionCoverage("nvme_probe", 0, "313", 0b101), FunctionCoverage("nvme_suspend", 16, "22"))
    evidence = tmp_path / "evidence/toy/lab/read/one"
    evidence.mkdir(parents=True)
    write_coverage(evidence, RecordingCoverage((ObjectCoverage("toy.ko", "aa", functions, (0xC000,)),)))
    where = str(evidence.relative_to(tmp_path))
    runs = [RunEntry(driver="toy", device="lab", scenario="read/one", stage="read", evidence=where, seconds=1.0)]
    write(Results(runs=runs, coverage=coverage_entries(runs, tmp_path)), tmp_path)
    return tmp_path


def asked(*arguments: str) -> str:
    done = CliRunner().invoke(coverage, arguments, catch_exceptions=False, standalone_mode=False)
    return done.output


def test_people_read_what_was_never_entered_first(result: Path) -> None:
    said = asked(str(result))
    assert "toy on lab: toy.ko: 40 % of its instructions (2 of 5), 1 of 2 functions" in said
    assert said.index("nvme_suspend") < said.index("nvme_probe (2 of 3; 1 scenario)") < said.index("read/one")


def test_lcov_counts_scenarios_and_has_a_listing_for_its_lines(result: Path, tmp_path: Path) -> None:
    asked(str(result), "--format", "lcov", "-o", str(tmp_path / "out/toy.info"))
    lines = (tmp_path / "out/toy.info").read_text().splitlines()
    assert lines[:4] == ["TN:toy_lab", "SF:toy-lab-toy.ko.lst", "FN:1,nvme_probe", "FN:4,nvme_suspend"]
    assert {"FNDA:1,nvme_probe", "FNDA:0,nvme_suspend", "DA:1,1", "DA:2,0", "DA:3,1", "LF:5", "LH:2"} <= set(lines)
    listing = (tmp_path / "out/toy-lab-toy.ko.lst").read_text().splitlines()
    assert listing[2] == "0x00000004  nvme_probe+0x4"
    assert len(listing) == 5


def test_cobertura_has_lines_and_rates(result: Path) -> None:
    root = ElementTree.fromstring(asked(str(result), "--format", "cobertura"))
    assert (root.get("lines-covered"), root.get("lines-valid"), root.get("line-rate")) == ("2", "5", "0.4000")
    assert [line.get("hits") for line in root.iterfind("packages/package/classes/class/lines/line")] == list("10100")
    assert [one.get("name") for one in root.iter("method")] == ["nvme_probe", "nvme_suspend"]


def test_programs_get_the_figures(result: Path) -> None:
    (entry,) = json.loads(asked(str(result), "--format", "json"))
    assert (entry["object"], entry["executed"], entry["instructions"]) == ("toy.ko", 2, 5)


def test_a_result_without_coverage_says_how_to_get_it(tmp_path: Path) -> None:
    write(Results(), tmp_path)
    with pytest.raises(UsageError, match="holds no coverage") as error:
        asked(str(tmp_path))
    assert "run --coverage" in str(error.value)


def test_an_unknown_device_is_no_empty_export(result: Path) -> None:
    with pytest.raises(UsageError, match="no coverage to export"):
        asked(str(result), "--format", "lcov", "--device", "qemu")


def test_the_page_and_the_summary_tell_it() -> None:
    hostile = CoverageEntry(driver="toy", device="lab", reason="<script>no symbols")
    entry = CoverageEntry.model_validate(
        {
            "driver": "toy", "device": "qemu", "object": "toy.ko", "instructions": 10, "executed": 4,
            "functions": [{"name": "a<b>", "offset": 0, "instructions": 10, "executed": 4, "scenarios": 1}],
            "scenarios": [{"scenario": "read/one", "executed": 4, "alone": 4}],
        }
    )  # fmt: skip
    results = Results(coverage=[entry, hostile])
    page = html(results)
    assert 'id="coverage"' in page
    assert "a&lt;b&gt;" in page
    assert "<script>no" not in page
    assert "coverage  toy on qemu: toy.ko: 40 % of its instructions" in plain_summary(results, Path())
    assert rendered.sentence(hostile).endswith("not covered: <script>no symbols")
    assert 'id="coverage"' not in html(Results())


def test_never_entered_functions_come_first_and_scenarios_name_what_they_alone_enter() -> None:
    entry = CoverageEntry.model_validate(
        {
            "driver": "toy", "device": "all", "object": "toy.ko", "instructions": 12, "executed": 4, "blocks": 3,
            "blocks_executed": 1, "lines": 6, "lines_executed": 2,
            "functions": [
                {"name": "probe", "offset": 0, "instructions": 10, "executed": 4, "scenarios": 1, "source": "toy.c:7"},
                {"name": "suspend", "offset": 20, "instructions": 2, "executed": 0, "scenarios": 0},
            ],
            "scenarios": [{"scenario": "read/one", "executed": 4, "alone": 4, "functions": ["probe"]}],
            "checks": [{"check": "read/nlb", "scenarios": 1, "executed": 4}],
        }
    )  # fmt: skip
    page = html(Results(coverage=[entry]))
    assert page.index("Never entered: 1 function<") < page.index("<code>suspend</code>") < page.index("<td><code>probe</code>")
    assert all(text in page for text in ("toy.c:7", "33 %", "source lines", "functions that no other enters", "#read/nlb"))


def test_stops_are_told_on_the_page_and_the_terminal() -> None:
    stops = ["stopped at fault drop", "processor 0 at 0x7: nvme_irq+0x1 [nvme.ko] < <b>"]
    run = RunEntry(driver="toy", device="lab", scenario="read/one", stage="read", evidence="", seconds=1.0, stops=stops)
    results = Results(runs=[run])
    assert "<h3>toy/lab/read/one</h3>" in html(results)
    assert "&lt; &lt;b&gt;" in html(results)
    assert "  stopped at fault drop\n  processor 0 at 0x7: nvme_irq+0x1 [nvme.ko]" in plain_summary(results, Path())
