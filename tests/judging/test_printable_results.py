"""Results without anything that a terminal would obey are taken as they are: a text tells it at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conformance.judging.files import _is_printable, _printable


@pytest.mark.parametrize(
    "value", ["\x1b[2J", "\x7f", "\t", "\r", "\b", "\x9b31m", "\u202egnol", "\\\x1b", "\\\\\x00", ["a", {"\x07": 1}], "\ud800"]
)
@pytest.mark.parametrize("ascii", [True, False])
def test_whatever_is_unprintable_shows_in_the_text(value: Any, ascii: bool) -> None:
    assert not _is_printable(json.dumps({"reason": value}, ensure_ascii=ascii, indent=1))


@pytest.mark.parametrize("value", ["two\nlines", 'a "word"', "\\", "\\u001b", "\\\\t", "“Identify”, 3 × 4 KiB", 'a/"\\"'])
def test_what_is_printable_is_left_as_it_is(value: str) -> None:
    text = json.dumps({"reason": value}, ensure_ascii=False, indent=1)
    assert _is_printable(text)
    assert _printable(json.loads(text)) == {"reason": value}
