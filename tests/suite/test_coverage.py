"""The table of the specification's rules names checks that exist, and leaves no rule without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.suite.check import MANDATORY
from conformance.suite.coverage import DOCUMENTS, Rule, page, rules, walked
from conformance.suite.selection import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "coverage-of-the-specification.md"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: f"{rule.document}-{rule.section}")
def test_a_rule_is_judged_or_has_a_reason(rule: Rule) -> None:
    assert rule.document in DOCUMENTS
    assert bool(rule.checks) != bool(rule.none)
    assert set(rule.checks) <= set(CHECKS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: f"{rule.document}-{rule.section}")
def test_a_rule_stands_in_one_chapter_that_was_read(rule: Rule) -> None:
    chapters = [chapter for chapter in walked() if chapter.holds(rule)]
    assert len(chapters) == 1, rule
    assert not chapters[0].read.startswith("left out")


def test_a_rule_is_listed_once() -> None:
    said = [(rule.document, rule.section, rule.rule) for rule in rules()]
    assert sorted(set(said)) == sorted(said)


def test_every_mandatory_check_is_on_the_page() -> None:
    text = page()
    assert [check.id for check in CHECKS.values() if check.level == MANDATORY and f"[{check.id}]" not in text] == []


def test_what_a_shall_demands_is_in_the_table_itself() -> None:
    named = {check for rule in rules() for check in rule.checks}
    assert [c.id for c in CHECKS.values() if c.level == MANDATORY and c.why == "shall" and c.id not in named] == []


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "python -m conformance.suite.coverage > docs/coverage-of-the-specification.md"
    )
