"""`nvme-lab explain`: the rule, why it matters, wrong and right, bugs of this kind, what to type next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from click.testing import CliRunner

from conformance.commands import nvme_lab
from conformance.suite import findings
from conformance.suite.check import MANDATORY
from conformance.suite.guidance import FILE, KINDS, guidance, table
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.defects import DEFECTS
from lab.errors import UsageError


def explain(*arguments: str) -> str:
    done = CliRunner().invoke(nvme_lab, ["explain", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_check_is_explained_offline() -> None:
    text = explain("read/prp2")
    for part in (
        "read/prp2  mandatory (integrity), stage read",
        "4.1.1 “Physical Region Page Entry and List”",
        "Why it matters",
        "prp2 = pages > 1 ? list : 0;",
        "else                 prp2 = list;",
        "shipped in Linux 5228b3280b9b",
        "nvme-lab run --check read/prp2 --defect ",
    ):
        assert part in text


def test_every_check_can_be_explained() -> None:
    assert all(guidance(check).matters and check.why in KINDS for check in CHECKS.values())


def test_guidance_is_about_checks_and_has_both_sides() -> None:
    assert not table().keys() - CHECKS.keys()
    assert all(entry.matters and entry.wrong and entry.right and entry.wrong != entry.right for entry in table().values())


def test_pseudo_code_fits_a_terminal_of_80_columns() -> None:
    lines = [line for entry in table().values() for line in (*entry.wrong.splitlines(), *entry.right.splitlines())]
    assert max(len(line) for line in lines) <= 76, [line for line in lines if len(line) > 76]


def test_every_mandatory_check_has_guidance_of_its_own() -> None:
    missing = [check.id for check in CHECKS.values() if check.level == MANDATORY and check.id not in table()]
    assert not missing, f"write in {FILE.name} why each matters, and its wrong and right code: {', '.join(missing)}"


def test_what_explain_says_to_type_exists() -> None:
    for line in explain("read/odd-buffer").splitlines():
        command = line.strip().partition("   #")[0]
        if not command.startswith("nvme-lab "):
            continue
        words = shlex.split(command)
        for option, known in (("--check", CHECKS), ("--defect", DEFECTS), ("--scenario", SCENARIOS)):
            if option in words:
                assert words[words.index(option) + 1] in known
        if words[1] == "explain":
            assert explain(words[2]).startswith("# U-Boot hands odd buffers")


def test_pages_are_found_by_check_and_by_a_known_failures_reason() -> None:
    assert len(findings.pages()) == len(list((Path(__file__).parents[2] / "docs" / "findings").glob("*.md"))) - 1
    assert [page.name for page in findings.about("read/odd-buffer")] == ["u-boot-odd-buffer"]
    (page,) = findings.linked("odd buffers are neither bounced nor refused (docs/findings/u-boot-odd-buffer.md)")
    assert page.title == "U-Boot hands odd buffers to the controller"


def test_for_programs_and_for_typing_mistakes() -> None:
    said = json.loads(explain("reset/shutdown", "--json"))
    assert said["id"] == "reset/shutdown"
    assert said["matters"]
    failed = CliRunner().invoke(nvme_lab, ["explain", "read/prp3"]).exception
    assert isinstance(failed, UsageError)
    assert "read/prp2" in str(failed)
