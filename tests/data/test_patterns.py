"""Patterns of manifests find what they should, and never take longer than they may."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lab.data import patterns
from lab.data.manifest import parse
from lab.data.patterns import LONGEST, SECONDS, SlowPatternError, pattern, search
from lab.errors import UsageError

EVIL = ((r"(x+x+)+y", "x" * 5000), (r"(a|aa)+$", "a" * 5000 + "b"), (r"(?:(?:a{1,100}){1,100}){1,100}b", "a" * 5000))
"""Patterns and texts on which a backtracking search does not end in a lifetime."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("text", "output"), EVIL)
def test_a_search_that_does_not_end_is_given_up(text: str, output: str) -> None:
    began = time.process_time()
    with pytest.raises(SlowPatternError, match=r"pattern .* took more than 0\.1 s of processor time"):
        search(text, output)
    with pytest.raises(SlowPatternError):
        pattern(text).find_all(output)
    assert time.process_time() - began < SECONDS


@pytest.mark.usefixtures("impatient")
def test_others_run_meanwhile() -> None:
    """The interpreter is not held: a signal's handler, the witness and the device go on."""
    turns: list[int] = []
    ended = threading.Event()

    def count() -> None:
        while not ended.wait(0.005):
            turns.append(1)

    counter = threading.Thread(target=count)
    counter.start()
    for text, output in EVIL:
        with pytest.raises(SlowPatternError):
            search(text, output)
    ended.set()
    counter.join()
    assert len(turns) > 1


def test_patterns_are_python_s() -> None:
    output = "=> dm tree\n nvme  0 [ + ] nvme#0\nend$ 7"
    assert search(r"^ nvme +(?P<n>\d+) +\[ \+ \]", output)
    assert search(r"(?m-s:^end\$ \d$)", output)
    assert search(r"(?<=nvme#)\d(?=\n)", output)
    assert search(r"tree.+nvme", output) is None, "the dot matches no end of line"
    assert pattern(r"tree.+nvme", dot_all=True).search(output)
    assert [match[0] for match in pattern(r"nvme").find_all(output)] == ["nvme", "nvme"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(", "missing"),
        ("a{4294967296}", "repeat count too big"),
        ("(" * 2000 + ")" * 2000, "recursion"),
        ("a" * (LONGEST + 1), f"at most {LONGEST}"),
    ],
)
def test_what_is_no_pattern_says_where(text: str, why: str) -> None:
    given: dict[str, Any] = {"name": "x", "adapter": "x", "boot": {"dead": text}}
    with pytest.raises(UsageError, match=rf"my\.toml: boot\.dead: not a regular expression: .*{why}"):
        parse(given, Path("my.toml"), ["x"])
