"""The part of a timeline that explains one event: its neighbours, and the whole life of its command."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from conformance.wire.decode import WireLine
from conformance.wire.noise import Noise
from lab.data.events import Barrier, Completed, Dma, Doorbell, Event, Interrupt, MemoryRead, MemoryWrite, PrpList, Submitted

BEFORE, AFTER = 6, 3
"""Rows that an excerpt shows around its event."""
TRANSFERS = 4
"""DMA and PRP list rows of one command that an excerpt shows; a long transfer has hundreds."""
BRIEF = 5
"""Rows that stand inside a failure."""

Key = tuple[str, int]
"""What identifies an event among all others of its evidence: the record ("" for events.jsonl), and the line there."""


@dataclass(frozen=True)
class Gap:
    """So many rows are left out here."""

    rows: int


Excerpt = Sequence[WireLine | Gap]


def key(event: Event) -> Key:
    """Return the event's key."""
    return (event.controller if event.line < 0 else "", event.line)


def excerpts(rows: Sequence[WireLine], wanted: Collection[Key]) -> dict[Key, Excerpt]:
    """Key of an event → its row amid its neighbours and what belongs to its command, in the order of time."""
    return {found: excerpt(rows, at) for at, row in enumerate(rows) if (found := key(row.event)) in wanted}


def excerpt(rows: Sequence[WireLine], at: int) -> Excerpt:
    """Return the row at each place with its neighbours and the rows of its command."""
    chosen = set(range(max(at - BEFORE, 0), min(at + AFTER + 1, len(rows))))
    if (number := rows[at].command) is not None:
        own = sorted(places_of_command(rows, number))
        transfers = [place for place in own if isinstance(rows[place].event, (Dma, PrpList))]
        chosen |= set(own) - set(transfers[TRANSFERS:])
    return with_gaps(rows, sorted(chosen))


def brief(rows: Sequence[WireLine], at: int) -> list[WireLine]:
    """Return up to `BRIEF` rows that lead to one: it, its command's submission and doorbell, and what came before."""
    is_noise = Noise()
    memory = (MemoryRead, MemoryWrite, Barrier)
    quiet = {place for place, row in enumerate(rows) if is_noise(row) or isinstance(row.event, memory)}
    chosen = {at}
    if (number := rows[at].command) is not None:
        own = sorted(place for place in places_of_command(rows, number) if place <= at)
        chosen |= set(own[:2])
    for place in range(at - 1, -1, -1):
        if len(chosen) == BRIEF:
            break
        if place not in quiet:
            chosen.add(place)
    return [rows[place] for place in sorted(chosen)]


def with_gaps(rows: Sequence[WireLine], places: Sequence[int]) -> list[WireLine | Gap]:
    """Return the rows at these ascending places, with a `Gap` between two that are not neighbours."""
    shown: list[WireLine | Gap] = [rows[place] for place in places[:1]]
    for one, other in pairwise(places):
        if other - one > 1:
            shown.append(Gap(other - one - 1))
        shown.append(rows[other])
    return shown


def of_command(rows: Sequence[WireLine], number: int) -> list[WireLine]:
    """Return the rows of a command: its doorbell, all that carries its number, its interrupt and the doorbell that takes it.

    Empty if there is no such command. An interrupt or a doorbell may serve other commands too.
    """
    return [rows[place] for place in sorted(places_of_command(rows, number))]


def places_of_command(rows: Sequence[WireLine], number: int) -> set[int]:
    """Return the indexes of the rows of `of_command`."""
    own = [at for at, row in enumerate(rows) if row.command == number]
    if not own:
        return set()
    submitted = rows[own[0]].event
    assert isinstance(submitted, Submitted)
    chosen = set(own) | _first(rows, range(own[0] - 1, -1, -1), _rings(submitted.controller, submitted.sqid, completion=False))
    for at in own:
        if isinstance(ended := rows[at].event, Completed):
            later = range(at + 1, len(rows))
            chosen |= _first(rows, later, _signals(ended.controller, rows[at].vector))
            chosen |= _first(rows, later, _rings(ended.controller, ended.cqid, completion=True))
    return chosen


def _first(rows: Sequence[WireLine], places: Iterable[int], fits: Callable[[Event], bool]) -> set[int]:
    """Return the first of these places whose event fits; empty if none does."""
    return set(islice((at for at in places if fits(rows[at].event)), 1))


def _rings(controller: str, qid: int, *, completion: bool) -> Callable[[Event], bool]:
    bell = (controller, qid, completion)
    return lambda event: isinstance(event, Doorbell) and (event.controller, event.qid, event.completion) == bell


def _signals(controller: str, vector: int | None) -> Callable[[Event], bool]:
    """Is it the interrupt of a queue with this vector? INTx has no vectors."""
    return lambda event: (
        isinstance(event, Interrupt)
        and vector is not None
        and event.controller == controller
        and (event.how == "intx" or event.vector == vector)
    )
