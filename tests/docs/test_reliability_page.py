"""Each attack of the page on reliability has the test that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (?P<attack>[^|]+) \| `(?P<file>tests/[^`:]+)::(?P<test>\w+)` \|$", (ROOT / "docs/reliability.md").read_text(), re.M
)


def test_the_page_has_all_attacks() -> None:
    assert len(ROWS) >= 32
    assert len({attack for attack, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("file", "test"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_an_attack_has_its_test(file: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.M), f"{file} has no {test}"
