"""Evidence and results from others, with anything anywhere in them, are errors of the lab with a reason, or are judged."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.judging.files import read
from conformance.judging.judge import judge
from conformance.judging.models import FILE
from conformance.report import terminal
from conformance.report.html import html
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.suite.check import CHECKS, Outcome
from lab.data.evidence import Evidence
from lab.data.seal import seal
from lab.errors import LabError
from tests.record.recordings import unpack
from tests.report.test_report import result, verdict

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1 << 70, float("inf"), "", "x", "\x1b[2J", "../../etc/passwd", "9" * 5000, [], {}, [[]],
    {"a": None},
)  # fmt: skip
DOCUMENTS = ("identity.json", "end.json", "events.jsonl")
SECONDS = 20.0


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of everything inside a document."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, part in pairs:
        yield value, key
        yield from places(part)


def spoil(document: Any, chance: random.Random) -> None:
    """Replace, remove or double something anywhere in a document."""
    container, key = chance.choice(list(places(document)))
    how = chance.randrange(5)
    if how == 0:
        del container[key]
    elif how == 1 and isinstance(container, list):
        container.append(container[key])
    else:
        container[key] = chance.choice(VALUES)


def spoil_evidence(folder: Path, chance: random.Random) -> None:
    """Spoil one of the documents, and seal the evidence as its author could."""
    name = chance.choice(DOCUMENTS)
    lines = (folder / name).read_text().splitlines() if name.endswith("l") else [(folder / name).read_text()]
    at = chance.randrange(len(lines))
    document = [json.loads(lines[at])]
    spoil(document, chance)
    lines[at] = "\n".join(map(json.dumps, document))
    (folder / name).write_text("\n".join(lines) + "\n")
    end = json.loads((folder / "end.json").read_text()) if name != "end.json" else None
    if isinstance(end, dict):
        end |= {"files": seal(folder), "events": (folder / "events.jsonl").read_text().count("\n")}
        (folder / "end.json").write_text(json.dumps(end))


def fuzz_evidence(whole: Path, scratch: Path, seed: int, times: int) -> set[str]:
    """Judge spoilt copies; return how it ended."""
    chance, ends = random.Random(seed), set()
    for _ in range(times):
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(whole, scratch)
        spoil_evidence(scratch, chance)
        began = time.thread_time()
        try:
            found = {one.outcome for one in judge(Evidence(scratch), CHECKS.values())}
        except LabError:
            ends.add("error")
        else:
            ends.add("damaged" if found == {Outcome.ERROR} else "judged")
        assert time.thread_time() - began < SECONDS
    return ends


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("reference-lab-write-basic", tmp_path_factory.mktemp("whole") / "evidence").folder


def test_spoilt_evidence_is_an_error_or_is_judged(whole: Path, tmp_path: Path) -> None:
    assert "error" in fuzz_evidence(whole, tmp_path / "spoilt", 1, 12)


@pytest.mark.soak
def test_a_thousand_spoilt_recordings(whole: Path, tmp_path: Path) -> None:
    assert fuzz_evidence(whole, tmp_path / "spoilt", 2, 1000) == {"error", "damaged", "judged"}


REPORTS: tuple[Callable[[Any], object], ...] = (
    html, markdown, junit, terminal.plain_table, lambda results: terminal.plain_summary(results, Path("out"), verbose=True),
)  # fmt: skip


def fuzz_results(folder: Path, seed: int, times: int) -> set[str]:
    """Read and report spoilt results; return how it ended."""
    chance, ends = random.Random(seed), set()
    verdicts = [verdict(Outcome.FAIL), verdict(Outcome.WARN, "read/mptr"), verdict(Outcome.ERROR, "read/prp1", reason="died")]
    good = result(*verdicts).model_dump_json(by_alias=True)
    for _ in range(times):
        document = json.loads(good)
        spoil(document, chance)
        (folder / FILE).write_text(json.dumps(document))
        try:
            results = read(folder)
        except LabError:
            ends.add("error")
            continue
        ends.add("reported")
        chance.choice(REPORTS)(results)
    return ends


def test_spoilt_results_are_an_error_or_are_reported(tmp_path: Path) -> None:
    assert fuzz_results(tmp_path, 1, 150) == {"error", "reported"}


@pytest.mark.soak
def test_ten_thousand_spoilt_results(tmp_path: Path) -> None:
    assert fuzz_results(tmp_path, 2, 10_000) == {"error", "reported"}
