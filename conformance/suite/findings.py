"""The pages about faults that were found in drivers of others, as they lie beside the suite: docs/findings in a checkout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance.suite.selection import CHECKS

FOLDER = Path(__file__).parents[1] / "findings"
INDEX = "README"
LINK = re.compile(r"docs/findings/([\w.-]+)\.md")
"""A page, as a manifest's reason names it."""
MENTION = re.compile(r"\b[a-z0-9-]+/[a-z0-9-]+\b")
HEAD_LINES = 6
"""Lines of a page among which its drivers and checks stand."""


@dataclass(frozen=True)
class Page:
    """A page: its name, its heading, the checks that it is about, and its text."""

    name: str
    title: str
    checks: tuple[str, ...]
    text: str


@cache
def pages() -> tuple[Page, ...]:
    """Return all pages by name; none where they were not installed."""
    return tuple(_page(path) for path in sorted(FOLDER.glob("*.md")) if path.stem != INDEX)


def about(check: str) -> list[Page]:
    """Return the pages about a check."""
    return [page for page in pages() if check in page.checks]


def linked(text: str) -> list[Page]:
    """Return the pages that a text names, as the reason of a known failure does."""
    names = LINK.findall(text)
    return [page for page in pages() if page.name in names]


def _page(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    head = " ".join(lines[1:HEAD_LINES])
    checks = dict.fromkeys(name for name in MENTION.findall(head) if name in CHECKS)
    return Page(path.stem, lines[0].removeprefix("# "), tuple(checks), text)
