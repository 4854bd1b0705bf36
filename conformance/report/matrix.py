"""Many results as one static site: drivers and their versions against stages, with a badge for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from conformance.judging.models import Results
from conformance.judging.summary import rows
from conformance.report.conclusion import Conclusion, State, conclude
from lab.data.manifest import PARTS

COLOURS = {
    State.QUALIFIES: "#116329", State.SELECTION: "#116329", State.UNPROVEN: "#7d4e00", State.ACCEPTED: "#7d4e00",
    State.FAILS: "#a40e26", State.LAB: "#6639ba", State.SILENT: "#59636e",
}  # fmt: skip
"""How a badge is coloured."""
MARKS = {"passes": "✓", "fails": "✗", "known failure": "≈", "flaky": "~", "lab error": "!", "fails --strict": "✗"}
"""What a cell shows beside its word."""
WORST_FIRST = ("fails", "lab error", "fails --strict", "known failure", "flaky", "nothing judged", "passes")
"""The words of `conformance.judging.summary.Row.word`."""
LABEL = "NVMe Lab"
CHARACTER, PADDING, HEIGHT = 6.6, 12, 20
"""Of a badge, in pixels: an average character of Verdana 11, the space around a text, the height."""


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
    page = environment.get_template("matrix.html.j2").render(entries=found, stages=stages, marks=MARKS)
    badges = {entry.badge: badge(str(entry.conclusion.state), COLOURS[entry.conclusion.state]) for entry in found}
    return {"index.html": page, **badges}


def badge(text: str, colour: str) -> str:
    """Return a flat badge as SVG: the lab's name on the left, the text on the right."""
    left, right = (len(part) * CHARACTER + PADDING for part in (LABEL, text))
    shown = escape(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right:.0f}" height="{HEIGHT}" role="img" '
        f'aria-label="{LABEL}: {shown}"><title>{LABEL}: {shown}</title>'
        f'<rect width="{left:.0f}" height="{HEIGHT}" fill="#444c56"/>'
        f'<rect x="{left:.0f}" width="{right:.0f}" height="{HEIGHT}" fill="{colour}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:.0f}" y="14">{LABEL}</text><text x="{left + right / 2:.0f}" y="14">{shown}</text></g></svg>\n'
    )


def slug(name: str) -> str:
    """Return a name that is safe as a part of a path."""
    return re.sub(r"[^a-z0-9.+-]+", "-", name.lower()).strip("-.") or "result"


def write(files: dict[str, str], folder: Path) -> None:
    """Write the files of a site."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
