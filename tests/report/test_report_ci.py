"""TAP, CTRF, SARIF, badges, and the lines of a repository that annotations name: each valid by its schema or its reader."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from referencing import Registry
from referencing.jsonschema import DRAFT7

from conformance.judging.models import DriverEntry, KnownEntry, Results
from conformance.report.annotations import github, gitlab
from conformance.report.badge import badge_of
from conformance.report.cases import cases
from conformance.report.ctrf import ctrf
from conformance.report.cyclonedx import cyclonedx
from conformance.report.junit import junit
from conformance.report.sarif import sarif
from conformance.report.tap import tap
from conformance.suite.check import Outcome
from tests.report.test_report import PASS, result, verdict
from tests.report.test_report_exports import EXAMPLES

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "schemas").glob("*.json")}
MIXED = result(
    PASS,
    verdict(Outcome.FAIL, "read/a"),
    verdict(Outcome.FAIL, "read/b", known="bounced # later \\ never"),
    verdict(Outcome.WARN, "read/c", level="R"),
    verdict(Outcome.INCONCLUSIVE, "read/d", reason="nothing observed"),
    verdict(Outcome.ERROR, "read/e", reason="QEMU died"),
)


@pytest.fixture(params=[*EXAMPLES, "mixed"])
def example(request: pytest.FixtureRequest) -> Results:
    return {**EXAMPLES, "mixed": MIXED}[request.param]


def with_manifest(*verdicts: Any) -> Results:
    made = result(*verdicts)
    known = [KnownEntry(check="read/b", reason="why", devices=["qemu"], line=12)]
    made.drivers["toy"] = DriverEntry(
        stages=["read"], asked=["read"], known=known, source="drivers/my,os.toml", manifest="my,os.toml", line=4, version="v1.2"
    )
    return made


# -- TAP --------------------------------------------------------------------------------------------------------------

TEST_LINE = re.compile(r"(?P<ok>ok|not ok) (?P<number>\d+) - (?P<name>(?:[^\\#]|\\.)*?)(?: # (?P<directive>TODO|SKIP) .*)?")


def read_tap(text: str) -> list[tuple[bool, str, Any]]:
    """(ok, directive, YAML) of each case, by the grammar of TAP 13."""
    version, plan, *lines = text.splitlines()
    assert version == "TAP version 13"
    found: list[tuple[bool, str, Any]] = []
    block: list[str] | None = None
    for line in lines:
        if line == "  ---":
            block = []
        elif line == "  ...":
            assert block is not None
            found[-1] = (*found[-1][:2], yaml.safe_load("\n".join(block)))
            block = None
        elif block is not None:
            block.append(line)
        else:
            match = TEST_LINE.fullmatch(line)
            assert match, line
            assert int(match["number"]) == len(found) + 1
            found.append((match["ok"] == "ok", match["directive"] or "", None))
    assert plan == f"1..{len(found)}"
    return found


def test_tap_follows_its_grammar(example: Results) -> None:
    assert len(read_tap(tap(example))) == len(list(cases(example)))


def test_tap_says_what_fails_and_what_does_not() -> None:
    found = read_tap(tap(MIXED))
    assert [(ok, directive) for ok, directive, _ in found] == [
        (False, ""), (False, "TODO"), (True, ""), (True, "SKIP"), (False, ""), (True, ""),
    ]  # fmt: skip
    assert found[0][2]["message"] == "expected 8 blocks, actual 7 <blocks> & [red]more[/]"
    assert "nvme-lab explain read/a" in found[0][2]["explanation"]


@pytest.mark.skipif(not shutil.which("prove"), reason="Perl's prove, a reader of TAP, is not installed")
def test_perls_prove_reads_it(tmp_path: Path) -> None:
    for name, made, status in (("bad", MIXED, 1), ("good", result(PASS), 0)):
        file = tmp_path / f"{name}.tap"
        file.write_text(tap(made))
        done = subprocess.run(["prove", "-e", "cat", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
    assert "Failed 2/6 subtests" in subprocess.run(
        ["prove", "-e", "cat", str(tmp_path / "bad.tap")], capture_output=True, text=True, check=False
    ).stdout  # fmt: skip


# -- CTRF, SARIF ------------------------------------------------------------------------------------------------------


def test_ctrf_is_valid(example: Results) -> None:
    document = json.loads(ctrf(example))
    jsonschema.validate(document, SCHEMAS["ctrf"])
    summary, tests = document["results"]["summary"], document["results"]["tests"]
    counts = Counter(test["status"] for test in tests)
    assert summary["tests"] == len(tests) == sum(counts.values())
    assert all(summary[status] == count for status, count in counts.items())


def test_sarif_is_valid(example: Results) -> None:
    document = json.loads(sarif(example))
    jsonschema.validate(document, SCHEMAS["sarif"], format_checker=jsonschema.FormatChecker())
    rules = [rule["id"] for rule in document["runs"][0]["tool"]["driver"]["rules"]]
    assert all(rules[found["ruleIndex"]] == found["ruleId"] for found in document["runs"][0]["results"])


BOM_LAB = {
    "version": "0.2",
    "started": "2026-01-02T03:04:05Z",
    "host": {"system": "Linux", "release": "6.12", "python": "3.11.2"},
    "versions": {
        "qemu": {"version": "11.1", "sha256": "ab" * 32},
        "qemu/libc6": {"version": "1:2.41+deb13", "sha256": "cd" * 32},
    },
}


def test_the_bill_of_materials_is_valid_and_names_what_was_tested_with_what(example: Results) -> None:
    results = example.model_copy(update={"lab": BOM_LAB})
    text = cyclonedx(results, {"toy": {"driver.ko": "ef" * 32}})
    document = json.loads(text)
    others = [(f"http://cyclonedx.org/schema/{name}.schema.json", DRAFT7.create_resource({})) for name in ("spdx", "jsf-0.82")]
    validator = jsonschema.Draft7Validator(
        SCHEMAS["cyclonedx"], registry=Registry().with_resources(others), format_checker=jsonschema.FormatChecker()
    )
    assert [error.message for error in validator.iter_errors(document)] == []
    assert validator.is_valid(document | {"components": [{"type": "package", "name": "x"}]}) is False
    found = {one["bom-ref"]: one for one in document["components"]}
    assert found["qemu/libc6@1:2.41+deb13"]["purl"] == "pkg:deb/debian/libc6@1%3A2.41%2Bdeb13"
    assert found["qemu@11.1"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert {"host/Linux@6.12", "host/python@3.11.2"} <= found.keys()
    tested = {one["name"]: one for one in document["components"] if one.get("group") == "driver"}
    assert tested.keys() == example.drivers.keys()
    assert all(one["components"][0]["hashes"][0]["content"] == "ef" * 32 for name, one in tested.items() if name == "toy")
    assert cyclonedx(results, {"toy": {"driver.ko": "ef" * 32}}) == text


def test_a_bill_of_materials_of_an_odd_lab_is_valid_too(example: Results) -> None:
    odd = {"started": "", "versions": {"x": {}}, "host": {}, "qemu": {"version": None, "sha256": "short"}}
    components = json.loads(cyclonedx(example.model_copy(update={"lab": odd})))["components"]
    assert {one["name"] for one in components} == {*example.drivers, "x", "qemu"}


def test_sarif_suppresses_what_the_manifest_knows() -> None:
    found = {one["ruleId"]: one for one in json.loads(sarif(MIXED))["runs"][0]["results"]}
    assert found.keys() == {"read/a", "read/b", "read/c", "read/e"}
    assert found["read/b"]["suppressions"][0]["justification"].startswith("bounced")
    assert found["read/a"]["level"] == "error"
    assert "suppressions" not in found["read/a"]


# -- the user's own repository ----------------------------------------------------------------------------------------


def test_annotations_stand_at_the_manifests_line() -> None:
    made = with_manifest(verdict(Outcome.FAIL, "read/a"), verdict(Outcome.FAIL, "read/b", known="why"))
    assert github(made).startswith("::error file=drivers/my%2Cos.toml,line=4,title=read/a%3A toy on qemu::")
    locations = {entry["check_name"]: entry["location"] for entry in json.loads(gitlab(made))}
    assert locations["read/a"] == {"path": "drivers/my,os.toml", "lines": {"begin": 4}}
    assert locations["read/b"] == {"path": "drivers/my,os.toml", "lines": {"begin": 12}}
    places = [one["locations"][0]["physicalLocation"] for one in json.loads(sarif(made))["runs"][0]["results"]]
    assert [place["artifactLocation"]["uri"] for place in places] == ["drivers/my%2Cos.toml"] * 2
    assert json.loads(ctrf(made))["results"]["tests"][0]["filePath"] == "drivers/my,os.toml"


def test_junit_says_what_it_rests_on_and_how_to_record_it_again() -> None:
    made = with_manifest(verdict(Outcome.FAIL, "read/a"))
    made.lab |= {"seed": 7, "asked": {"drivers": ["my,os.toml"], "defect": "read/nlb:one-fewer"}}
    text = junit(made)
    found = {one.attrib["name"]: one.attrib["value"] for one in ElementTree.fromstring(text).iter("property")}
    assert found["driver.version"] == "v1.2"
    assert found["replay"] == (
        "nvme-lab run --driver my,os.toml --device qemu --scenario read/basic --seed 7 --defect read/nlb:one-fewer"
    )
    assert text.count("\n") > 10, "a line an element"


# -- badges -----------------------------------------------------------------------------------------------------------


def test_a_badge_says_how_the_driver_stands(example: Results) -> None:
    root = ElementTree.fromstring(badge_of(example))
    assert root.tag.endswith("svg")
    assert all(element.tag.rpartition("}")[2] in {"svg", "title", "rect", "g", "text"} for element in root.iter())


def test_the_worst_driver_speaks_for_all() -> None:
    assert "qualifies" in badge_of(result(PASS))
    assert "does not qualify" in badge_of(MIXED)
    assert "nothing judged" in badge_of(Results())
