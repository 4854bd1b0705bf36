"""Every remark of the programmable controller is judged, or is informational for a reason."""

from __future__ import annotations

import re
from pathlib import Path

import lab.controller
from conformance.suite.remarks import INFORMATIONAL, JUDGED
from conformance.suite.selection import CHECKS
from lab.data.events import MEMORY_WATCHED

SOURCES = Path(lab.controller.__file__).parent
SAID = re.compile(r'remark\(\s*"([a-z0-9-]+)"')
RULES = re.compile(r"^\s*rule = (.*)$", re.MULTILINE)
ACCEPTED = re.compile(r'accept\([^)]*?"([a-z0-9-]+)"')


def kinds() -> set[str]:
    """Collect the kinds of remarks that the controller's source makes."""
    text = "\n".join(path.read_text() for path in sorted(SOURCES.glob("*.py")))
    chosen = {kind for line in RULES.findall(text) for kind in re.findall(r'"([a-z0-9-]+)"', line)}
    return {*SAID.findall(text), *chosen, *ACCEPTED.findall(text), MEMORY_WATCHED}


def test_each_kind_is_judged_or_informational() -> None:
    found = kinds()
    assert len(found) > 40
    assert found - set(JUDGED) - set(INFORMATIONAL) == set()


def test_no_kind_is_both_or_none_any_more() -> None:
    assert not set(JUDGED) & set(INFORMATIONAL)
    assert (set(JUDGED) | set(INFORMATIONAL)) - kinds() == set()


def test_each_judge_exists_and_each_reason_is_given() -> None:
    assert set(JUDGED.values()) <= set(CHECKS)
    assert all(reason for reason in INFORMATIONAL.values())
