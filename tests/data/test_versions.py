"""Versions: their order, and ranges of them."""

from __future__ import annotations

import pytest

from lab.data import versions

TABLE = ["1.14", "1.16.2", "1.16.3", "1.17"]


def test_numbers_count_as_numbers_and_words_come_behind() -> None:
    mixed = ["6.12", "6.1", "5.10", "6.1-rt", "7.2"]
    assert sorted(mixed, key=versions.order) == ["5.10", "6.1", "6.1-rt", "6.12", "7.2"]


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ("1.16", {"1.16.2", "1.16.3"}),
        ("1.16.3..", {"1.16.3", "1.17"}),
        ("..1.16", {"1.14", "1.16.2", "1.16.3"}),
        ("1.15..1.16.2", {"1.16.2"}),
        ("", set(TABLE)),
    ],
)
def test_a_range_holds_its_bounds_and_what_begins_with_the_last(wanted: str, holds: set[str]) -> None:
    assert {version for version in TABLE if versions.matches(version, wanted)} == holds


def test_an_unknown_version_is_in_every_range() -> None:
    assert versions.matches("", "2025.02..")


@pytest.mark.parametrize("text", ["2025.02..", "..1.16", "1.14..1.16", "6.1-rt"])
def test_ranges_are_recognised(text: str) -> None:
    assert versions.is_range(text)


@pytest.mark.parametrize("text", ["", ">= 2", "1.14 .. 1.16", "1...2"])
def test_other_texts_are_none(text: str) -> None:
    assert not versions.is_range(text)


def test_versions_are_selected_by_name_pattern_range_or_newest() -> None:
    assert versions.select(reversed(TABLE), "*") == TABLE
    assert versions.select(TABLE, "1.16*") == ["1.16.2", "1.16.3"]
    assert versions.select(TABLE, "..1.16.2") == ["1.14", "1.16.2"]
    assert versions.select(TABLE, "newest") == ["1.17"]
    assert versions.select(TABLE, "1.14") == ["1.14"]
    assert versions.select(TABLE, "2") == []
