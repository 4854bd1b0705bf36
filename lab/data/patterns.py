"""Regular expressions of manifests, over what guests print: neither may keep the lab busy for longer than a bounded time.

Python's own `re` backtracks for hours on some patterns and texts. The package `regex` takes the same patterns, and gives up
when asked to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import regex

from lab.errors import LabError

LONGEST = 4096
"""Characters of a pattern: what is longer could take seconds to compile."""
SECONDS = 2.0
"""Processor time of the process (clock(3)) that one search may take, so that the load of the machine does not count."""

Match: TypeAlias = "regex.Match[str]"


class SlowPatternError(LabError):
    """A search that was given up."""


class Pattern:
    """A regular expression that is searched for in bounded time; ``^`` and ``$`` match at each line."""

    def __init__(self, text: str, *, dot_all: bool = False) -> None:
        """Compile it; `invalid` is the error, if any. With ``dot_all`` the dot matches ends of lines too."""
        self.pattern = text
        self._regex = regex.compile(text, regex.MULTILINE | (regex.DOTALL if dot_all else 0))

    @property
    def groups(self) -> int:
        """Return the number of groups."""
        return int(self._regex.groups)

    def search(self, text: str, start: int = 0) -> Match | None:
        """Return the first match from ``start`` on. Raises SlowPatternError."""
        try:
            return self._regex.search(text, start, timeout=SECONDS)
        except TimeoutError:
            raise self._slow(text) from None

    def find_all(self, text: str) -> list[Match]:
        """Return all matches. Raises SlowPatternError."""
        try:
            return list(self._regex.finditer(text, timeout=SECONDS))
        except TimeoutError:
            raise self._slow(text) from None

    def _slow(self, text: str) -> SlowPatternError:
        return SlowPatternError(
            f"The search for the manifest's pattern {self.pattern[:200]!r} in {len(text)} characters of output took more than "
            f"{SECONDS:g} s of processor time.",
            remedy="write the pattern so that a repetition has one way to match, without (a+)+ or .*.*",
        )


@lru_cache(maxsize=1024)
def pattern(text: str, *, dot_all: bool = False) -> Pattern:
    """Return the compiled pattern, which is kept."""
    return Pattern(text, dot_all=dot_all)


def search(text: str, output: str) -> Match | None:
    """Return the first match of the pattern ``text`` in the output. Raises SlowPatternError."""
    return pattern(text).search(output)


def invalid(text: str) -> str:
    """Return why this is no regular expression that the lab takes; "" if it is one."""
    if len(text) > LONGEST:
        return f"it has {len(text)} characters, and at most {LONGEST} are taken"
    try:
        regex.compile(text, regex.MULTILINE)
    except (regex.error, OverflowError, RecursionError) as error:
        return str(error)
    return ""
