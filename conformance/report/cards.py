"""The checks as a page shows them: a card a check, a line for each driver and device, the worst first.

Verdicts of one check on one driver and device share a line, so that thousands of them stay a small page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import severity, stage_index
from conformance.report.witness import Witness, place_of
from conformance.suite.check import Outcome
from conformance.wire.excerpts import Excerpt, Key
from conformance.wire.ladder import Ladder, ladder

KNOWN = "known"
ORDER = ("FAIL", "ERROR", "FLAKY", KNOWN, "WARN", "PASS", "UNSUPPORTED", "INCONCLUSIVE")
"""Outcomes and known failures: what needs a look comes first."""
DETAILED_SCENARIOS = 6
"""Failed scenarios of a line that are shown in full; further ones are named."""
EXCERPTS = 250
"""Excerpts of recordings that a page holds at most, so that it stays small even where everything fails."""


@dataclass(frozen=True)
class VerdictDetail:
    """A verdict with its findings. ``excerpt`` is what the device saw; empty without evidence or room for it."""

    verdict: VerdictEntry
    excerpt: Excerpt = ()
    place: Key | None = None

    @property
    def ladder(self) -> Ladder:
        """Return the excerpt as a drawing."""
        return ladder(self.excerpt, self.place)


@dataclass(frozen=True)
class Line:
    """The verdict of one check on one driver and device. ``others`` are scenarios that end like the line, without details."""

    driver: str
    device: str
    word: str
    counts: Mapping[str, int]
    details: list[VerdictDetail]
    others: list[str]
    reasons: list[str]


@dataclass(frozen=True)
class Card:
    """A check, with a line for each driver and device."""

    about: VerdictEntry
    lines: list[Line]

    @property
    def worst(self) -> str:
        """Return the worst word of its lines."""
        return min((line.word for line in self.lines), key=ORDER.index)


def word(verdict: VerdictEntry) -> str:
    """Return the outcome, or ``known`` for a known failure."""
    return KNOWN if verdict.known is not None else str(verdict.outcome)


def cards(results: Results, witness: Witness) -> list[Card]:
    """All checks of the results."""
    by_check: dict[str, dict[tuple[str, str], list[VerdictEntry]]] = {}
    for verdict in results.verdicts:
        by_check.setdefault(verdict.check, {}).setdefault((verdict.driver, verdict.device), []).append(verdict)
    made = [
        Card(next(iter(machines.values()))[0], [_line(*machine, verdicts) for machine, verdicts in machines.items()])
        for machines in by_check.values()
    ]
    made.sort(key=lambda card: (ORDER.index(card.worst), stage_index(card.about.stage), card.about.check))
    _show_what_was_seen(made, witness)
    return made


def _line(driver: str, device: str, verdicts: list[VerdictEntry]) -> Line:
    best = min(verdicts, key=severity)
    same = [verdict for verdict in verdicts if word(verdict) == word(best)]
    if best.outcome is Outcome.PASS:
        details = [verdict for verdict in same if verdict.findings][:1]
    else:
        details = [verdict for verdict in verdicts if verdict.violation][:DETAILED_SCENARIOS]
    return Line(
        driver=driver,
        device=device,
        word=word(best),
        counts=Counter(sorted(map(word, verdicts), key=ORDER.index)),
        details=[VerdictDetail(verdict) for verdict in details],
        others=[verdict.scenario for verdict in same if verdict not in details],
        reasons=list(dict.fromkeys(v.known or v.reason for v in same if v.known or v.reason)),
    )


def _show_what_was_seen(made: list[Card], witness: Witness) -> None:
    """Fill in excerpts while there is room: each line's first before any second; one line's of a check that passes."""
    wanted = []
    for card_at, card in enumerate(made):
        example = next((line for line in card.lines if line.word == Outcome.PASS), None)
        for line in card.lines:
            if line.word != Outcome.PASS or line is example:
                wanted += [(at, card_at, line) for at in range(len(line.details))]
    wanted.sort(key=lambda one: one[:2])
    left = EXCERPTS
    for at, _, line in wanted:
        verdict = line.details[at].verdict
        if left and (excerpt := witness(verdict)):
            line.details[at] = VerdictDetail(verdict, excerpt, place_of(verdict))
            left -= 1
