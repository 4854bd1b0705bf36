"""Versions of a driver on the command line: the reference driver with a defect is a version, too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conformance.commands import run_command
from conformance.commands.bisecting import BAD, GOOD, SKIPPED, Change, search

MANIFEST = """\
name = "toy"
adapter = "reference-in-process"
stages = ["detect", "read"]

[versions."1"]

[versions."2"]

[versions."3".variables]
defect = "read/nlb:one-fewer"

[versions."4".variables]
defect = "read/nlb:one-fewer"
"""
SELECTION = ("--check", "read/nlb", "--scenario", "read/basic", "--jobs", "1")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy.toml").write_text(MANIFEST)
    monkeypatch.chdir(tmp_path)
    return Path("./toy.toml")


def test_all_versions_in_one_run_and_their_history(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "--driver", f"{toy}@*", *SELECTION, "--out", "all"]) == 1
    found = json.loads(Path("all/results.json").read_text())
    assert {name: entry["release"] for name, entry in found["drivers"].items()} == {f"toy@{n}": str(n) for n in range(1, 5)}
    capsys.readouterr()
    assert run_command(["history", "all", "--json", "--html", "history.html"]) == 0
    (transition,) = json.loads(capsys.readouterr().out)["transitions"]
    assert (transition["kind"], transition["before"]["version"], transition["after"]["version"]) == ("introduced", "2", "3")
    assert any(line.startswith("<") and "NLB" in line for line in transition["wire"])
    assert any(line.startswith(">") and "NLB" in line for line in transition["wire"])
    page = Path("history.html").read_text()
    assert "read/nlb" in page
    assert "2 → 3" in page
    assert "Verdicts against the driver" in page
    assert run_command(["report", "all", "--format", "html", "-o", "pages/report.html"]) == 4  # there is no such folder
    Path("pages").mkdir()
    assert run_command(["report", "all", "--format", "html", "-o", "pages/report.html"]) == 0
    report = Path("pages/report.html").read_text()
    assert '<h2 id="history">' in report
    assert "2 → 3" in report
    assert "On the wire" in report
    (linked,) = set(re.findall(r'href="([^"]+/toy@3/[^"]+)"', report))
    assert Path("pages", linked, "identity.json").is_file()
    assert run_command(["history", "all"]) == 0
    text = capsys.readouterr().out
    assert "introduced  read/nlb  toy 2 → 3" in text
    assert ["3", "0", "1", "0.0%"] in [line.split()[:4] for line in text.splitlines()]  # the trend
    identity = json.loads(Path(transition["after"]["evidence"], "identity.json").read_text())["driver"]
    assert (identity["name"], identity["base"], identity["release"]) == ("toy@3", "toy", "3")


def test_a_bisection_names_the_version_that_brought_it(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "--driver", f"{toy}@1..4", *SELECTION, "--bisect", "--out", "bisect"]) == 0
    assert "It was introduced between toy.toml@2 and toy.toml@3." in " ".join(capsys.readouterr().out.split())


def test_a_bisection_of_versions_that_are_alike_finds_nothing(toy: Path) -> None:
    assert run_command(["run", "--driver", f"{toy}@1..2", *SELECTION, "--bisect", "--out", "bisect"]) == 3


def test_a_bisection_of_two_drivers_is_wrong_usage(toy: Path) -> None:
    assert run_command(["run", "--driver", f"{toy}@1..2", "--driver", "reference", "--bisect"]) == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((GOOD, GOOD, BAD, BAD), Change("1", "2", BAD)),
        ((BAD, GOOD), Change("0", "1", GOOD)),
        ((GOOD, SKIPPED, SKIPPED, BAD), Change("0", "3", BAD)),
        ((GOOD, SKIPPED, GOOD, BAD), Change("2", "3", BAD)),
        ((GOOD, GOOD), None),
        ((GOOD, SKIPPED), None),
    ],
)
def test_the_search_passes_over_what_cannot_be_tested(words: tuple[str, ...], expected: Change | None) -> None:
    tested: list[str] = []

    def test(name: str) -> str:
        assert name not in tested
        tested.append(name)
        return words[int(name)]

    assert search([str(number) for number in range(len(words))], test) == expected
