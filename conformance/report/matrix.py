"""Many results as one static site: drivers and their versions against stages, with a badge for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from conformance.judging.models import Results
from conformance.judging.summary import rows
from conformance.report.badge import COLOURS, badge
from conformance.report.conclusion import Conclusion, conclude
from lab.data.manifest import PARTS

MARKS = {
    "passes": "✓", "partial": "…", "fails": "✗", "known failure": "≈", "flaky": "~", "lab error": "!", "fails --strict": "✗",
}  # fmt: skip
"""What a cell shows beside its word."""
SHORT = {"known failure": "known", "nothing judged": "none", "fails --strict": "strict"}
"""Words that are too long for a cell, and what stands there instead."""
WORST_FIRST = ("fails", "lab error", "fails --strict", "known failure", "flaky", "nothing judged", "partial", "passes")
"""The words of `conformance.judging.summary.Row.word`."""


@dataclass(frozen=True)
class Entry:
    """One driver in one result."""

    name: str  # of the result, as a version or a date
    conclusion: Conclusion
    cells: dict[str, tuple[str, str]]  # stage → (word, numbers)
    lab: str

    @property
    def badge(self) -> str:
        """The file name of the badge."""
        return f"badges/{slug(self.conclusion.driver)}-{slug(self.name)}.svg"


def entries(named: Sequence[tuple[str, Results]]) -> list[Entry]:
    """Return each driver of each result, by driver and in the order of the results."""
    found = []
    for name, results in named:
        table = rows(results)
        for driver in results.drivers:
            cells: dict[str, tuple[str, str]] = {}
            for stage in PARTS:
                own = [row for row in table if row.driver == driver and row.stage == stage]
                if own:
                    worst = min((row.word for row in own), key=WORST_FIRST.index)
                    cells[stage] = worst, ", ".join(f"{row.device}: {row.word}" for row in own)
            found.append(Entry(name, conclude(results, driver), cells, str(results.lab.get("version", ""))))
    return sorted(found, key=lambda entry: entry.conclusion.driver)


def site(named: Sequence[tuple[str, Results]]) -> dict[str, str]:
    """Return the files of the site: path → text. All names in results are escaped."""
    found = entries(named)
    stages = [stage for stage in PARTS if any(stage in entry.cells for entry in found)]
    environment = Environment(loader=PackageLoader("conformance.report", "."), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("matrix.html.j2").render(entries=found, stages=stages, marks=MARKS, short=SHORT)
    badges = {entry.badge: badge(str(entry.conclusion.state), COLOURS[entry.conclusion.state]) for entry in found}
    return {"index.html": page, **badges}


def slug(name: str) -> str:
    """Return a name that is safe as a part of a path."""
    return re.sub(r"[^a-z0-9.+-]+", "-", name.lower()).strip("-.") or "result"


def write(files: dict[str, str], folder: Path) -> None:
    """Write the files of a site."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
