"""What a report takes from the evidence beside the results: what the device saw, and what the drivers were made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from conformance.judging.history import History, Transition
from conformance.judging.models import FindingEntry, Results, VerdictEntry
from conformance.wire.around import Around, around
from conformance.wire.decode import timeline
from conformance.wire.excerpts import Excerpt, Key, excerpts
from lab.data.evidence import Evidence
from lab.errors import LabError

Witness = Callable[[VerdictEntry], Excerpt]
"""What the device saw around the finding that speaks for a verdict; empty where that is not at hand."""


def speaker(verdict: VerdictEntry) -> FindingEntry | None:
    """Return the finding that explains a verdict: its first violation, else its first example."""
    return verdict.violation or next(iter(verdict.findings), None)


def place_of(verdict: VerdictEntry) -> Key | None:
    """Return the key of the event that the finding names."""
    finding = speaker(verdict)
    if finding is None or finding.event is None:
        return None
    record = finding.place.partition(".rec")[0].removeprefix("device/") if finding.event < 0 else ""
    return record, finding.event


def witness_of(results: Results, folder: Path) -> Witness:
    """Return a function that excerpts a verdict's evidence; paths are relative to ``folder``, each recording is read once."""
    wanted: dict[tuple[str, str, str], set[Key]] = {}
    for verdict in results.verdicts:
        if (place := place_of(verdict)) is not None:
            wanted.setdefault(verdict.key[:3], set()).add(place)
    paths = {run.key: folder / run.evidence for run in results.runs}

    @cache
    def seen(run: tuple[str, str, str]) -> Mapping[Key, Excerpt]:
        try:
            evidence = Evidence(paths[run])
            return excerpts(list(timeline(evidence.scenario, evidence.events())), wanted[run])
        except (LabError, KeyError, OSError):  # a result may travel without its evidence
            return {}

    def witness(verdict: VerdictEntry) -> Excerpt:
        place = place_of(verdict)
        return seen(verdict.key[:3]).get(place, ()) if place else ()

    return witness


def hashes_of(results: Results, folder: Path) -> dict[str, dict[str, str]]:
    """Return driver → file → SHA-256, its manifest included, from its first readable recording."""
    found: dict[str, dict[str, str]] = {}
    for run in results.runs:
        if run.driver not in found:
            try:
                driver = Evidence(folder / run.evidence).identity.driver
            except (LabError, KeyError):
                continue
            found[run.driver] = {"manifest": driver.manifest, **driver.files}
    return found


def differences_of(found: History) -> dict[Transition, Around | None]:
    """Return how the recordings of both sides of each transition differ, as far as they are there."""
    return {transition: _difference(transition) for transition in found.transitions}


def _difference(transition: Transition) -> Around | None:
    """Return what the recordings of both sides differ in; None where one is not there, or they do the same."""
    sides = transition.before, transition.after
    if not all(side.evidence and (Path(side.evidence) / "identity.json").is_file() for side in sides):
        return None
    try:
        left, right = (Evidence(Path(side.evidence)) for side in sides)
        return around(left, right, transition.bad.event, of_left=transition.bad is transition.before)
    except LabError:  # damaged evidence: its verdicts say so
        return None
