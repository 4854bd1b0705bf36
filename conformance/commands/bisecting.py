"""``nvme-lab run --bisect`` between two versions of a driver: which of them changed the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from conformance.judging.files import read
from conformance.judging.models import FILE, Results
from conformance.judging.summary import NOTHING_JUDGED, UNTESTABLE
from conformance.run.folders import default_folder, shown
from conformance.suite.check import Outcome
from lab import drivers
from lab.data import versions
from lab.errors import UsageError

GOOD, BAD = "good", "bad"
SKIPPED = "not testable"

RunOne = Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True)
class Change:
    """Two neighbours of those that can be tested, of which one is good and one is bad."""

    before: str
    after: str
    word: str
    """Of the later one."""


def bisected_driver(options: Mapping[str, Any]) -> str:
    """Return the range of versions that is to be bisected; "" where --bisect speaks of one version, as for git bisect run."""
    ranges = [name for name in options["drivers"] if versions.TO in drivers.split(name)[1]]
    if ranges and len(options["drivers"]) > 1:
        raise UsageError("--bisect goes through the versions of one driver.", remedy=f"leave only --driver {ranges[0]}")
    if ranges and (options["resume"] or options["dry_run"] or options["last_failed"] or options["as_json"]):
        raise UsageError(
            "--bisect over versions cannot go with --resume, --last-failed, --dry-run or --json.",
            remedy="leave that option out",
        )
    return ranges[0] if ranges else ""


def bisect_versions(name: str, options: Mapping[str, Any], run_one: RunOne, console: Console) -> int:
    """Record the ends of a range, then the middle of what is in question, until two neighbours differ.

    A failure counts though the manifest knows it. Return 0 if a change was found, 3 if both ends are alike, 125 if an end
    cannot be tested.
    """
    names = drivers.expand(name)
    if len(names) < 2:
        raise UsageError(f"{name} is {' and '.join(names)} only: nothing lies between.", remedy="name a longer range")
    out: Path = options["out"] or default_folder(Path.cwd())
    words: dict[str, str] = {}

    def test(driver: str) -> str:
        folder = out / drivers.find(driver).name
        run_one({**options, "drivers": (driver,), "out": folder, "bisect": False, "confirm": False})
        words[driver] = word(read(folder), strict=options["strict"]) if (folder / FILE).is_file() else SKIPPED
        console.print(Text(f"{driver} is {words[driver]}", style="bold"))
        return words[driver]

    found = search(names, test)
    console.print(Text("\n" + ", ".join(f"{driver}: {words[driver]}" for driver in names if driver in words)))
    console.print(f"Compare them with: nvme-lab history {shown(out)}/{drivers.find(names[0]).base}@*", style="dim")
    if SKIPPED in (words[names[0]], words[names[-1]]):
        console.print("An end of the range cannot be tested.", style="bold magenta")
        return UNTESTABLE
    if found is None:
        console.print(f"Both ends are {words[names[0]]}: nothing to find between them.", style="bold yellow")
        return NOTHING_JUDGED
    what = "was introduced" if found.word == BAD else "was fixed"
    console.print(f"It {what} between {found.before} and {found.after}.", style="bold")
    return 0


def search(names: list[str], test: Callable[[str], str]) -> Change | None:
    """Return neighbours of which one is good and one bad, passing over what cannot be tested; None if the ends are alike."""
    first, last = test(names[0]), test(names[-1])
    if first == last or SKIPPED in (first, last):
        return None
    low, high = 0, len(names) - 1
    skipped: set[int] = set()
    while open_places := [place for place in range(low + 1, high) if place not in skipped]:
        middle = open_places[len(open_places) // 2]
        found = test(names[middle])
        if found == SKIPPED:
            skipped.add(middle)
        elif found == first:
            low = middle
        else:
            high = middle
    return Change(names[low], names[high], last)


def word(results: Results, *, strict: bool) -> str:
    """Return whether a version is good or bad; `SKIPPED` where the lab failed or nothing was judged."""
    outcomes = {verdict.outcome for verdict in results.verdicts}
    if Outcome.FAIL in outcomes or (strict and Outcome.WARN in outcomes):
        return BAD
    if Outcome.ERROR in outcomes or results.unfinished:
        return SKIPPED
    return GOOD if outcomes & {Outcome.PASS, Outcome.WARN} else SKIPPED
