"""Flat badges as SVG, in the form that readers know from many projects."""

from __future__ import annotations

from html import escape

from conformance.judging.models import Results
from conformance.report.conclusion import State, conclude
from conformance.wire.decode import printable

COLOURS = {
    State.QUALIFIES: "#116329", State.SELECTION: "#116329", State.UNPROVEN: "#7d4e00", State.ACCEPTED: "#7d4e00",
    State.FAILS: "#a40e26", State.LAB: "#6639ba", State.SILENT: "#59636e", State.PARTIAL: "#59636e",
}  # fmt: skip
"""How a badge is coloured."""
WORST_FIRST = (
    State.FAILS, State.LAB, State.PARTIAL, State.SILENT, State.ACCEPTED, State.UNPROVEN, State.SELECTION, State.QUALIFIES,
)  # fmt: skip
LABEL = "NVMe Lab"
CHARACTER, PADDING, HEIGHT = 6.6, 12, 20
"""In pixels: an average character of Verdana 11, the space around a text, the height."""
LONGEST = 40
"""Characters of a driver's name."""


def badge(text: str, colour: str, label: str = LABEL) -> str:
    """Return a badge: the label on the left, the text on the right."""
    left, right = (len(part) * CHARACTER + PADDING for part in (label, text))
    shown, about = escape(text), escape(label)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right:.0f}" height="{HEIGHT}" role="img" '
        f'aria-label="{about}: {shown}"><title>{about}: {shown}</title>'
        f'<rect width="{left:.0f}" height="{HEIGHT}" fill="#444c56"/>'
        f'<rect x="{left:.0f}" width="{right:.0f}" height="{HEIGHT}" fill="{colour}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:.0f}" y="14">{about}</text><text x="{left + right / 2:.0f}" y="14">{shown}</text></g></svg>\n'
    )


def badge_of(results: Results) -> str:
    """Return the badge of a result: the driver and how it stands; of several drivers, the worst one."""
    found = [conclude(results, driver) for driver in results.drivers]
    if not found:
        return badge(str(State.SILENT), COLOURS[State.SILENT])
    worst = min(found, key=lambda one: WORST_FIRST.index(one.state))
    name = printable(worst.driver)[:LONGEST] if len(found) == 1 else f"{len(found)} drivers"
    return badge(str(worst.state), COLOURS[worst.state], f"{LABEL} {name}")
