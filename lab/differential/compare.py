"""Runs generated commands on both sides and finds what differs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from lab.differential.differences import DIFFERENCES
from lab.differential.found import Kind, SideDifference
from lab.differential.generate import DrawnStep, Generator
from lab.differential.sides import DATA_PAGES, ENTRIES, PAGE, Host, Pair
from lab.nvme.commands import Command, GetFeatures
from lab.nvme.completions import Completion
from lab.nvme.features import Fid

SEQUENCE = 60
"""Steps from one reset to the next."""
BARRIER_CID = 0xFFFE
"""Of the command that is behind all others at the end of a sequence: what has not come by then does not come."""
PATTERN = Random(0).randbytes((1 + DATA_PAGES) * PAGE)
"""What is in page 0 and the buffers at the start of a sequence."""


@dataclass
class Result:
    """The counts of a comparison, and the differences that it found."""

    steps: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    """How many of each kind were sent."""
    seen: Counter[str] = field(default_factory=Counter)
    """How often each listed difference was met."""
    unlisted: list[SideDifference] = field(default_factory=list)


def compare(pair: Pair, seed: int, enough: Callable[[Result], bool]) -> Result:
    """Compare sequences of steps until ``enough`` returns true between two of them."""
    result = Result()
    generator = Generator(pair.spec.controllers[0], seed)
    while not enough(result):
        _sequence(pair, generator, result)
    return result


def _sequence(pair: Pair, generator: Generator, result: Result) -> None:
    """Run steps from a reset on, until the two sides differ or the sequence is long enough."""
    pair.model.start()
    pair.qemu.start()
    pair.write_data(PATTERN)
    step = DrawnStep(0, ())
    for _ in range(SEQUENCE):
        live = [qid for qid, ring in pair.model.rings.items() if qid and ring.entries == ENTRIES]
        step = generator.step(live)
        if not _together(pair, step, result):
            return
    barrier = DrawnStep(0, (GetFeatures.of(FID=Fid.ARBITRATION, CID=BARRIER_CID),))
    if _together(pair, barrier, result) and (nsid := pair.images_differ()) is not None:
        _note(SideDifference("image", step, step.commands[-1], f"namespace {nsid}", "has other content"), result)
        pair.restore_images()


def _together(pair: Pair, step: DrawnStep, result: Result) -> bool:
    """Do one step; return whether both sides are in the same visible state afterwards."""
    result.steps += 1
    result.commands.update(type(command).__name__ for command in step.commands)
    for address, data in step.memory:
        pair.write(address, data)
    parted = False
    for found in _differences(pair, step):
        _note(found, result)
        parted |= found.parts
    if parted:
        pair.restore_images()
    return not parted


def _note(found: SideDifference, result: Result) -> None:
    difference = next((one for one in DIFFERENCES if one.matches(found)), None)
    if difference is None:
        result.unlisted.append(found)
    else:
        result.seen[difference.id] += 1


def _differences(pair: Pair, step: DrawnStep) -> Iterator[SideDifference]:
    model, qemu = _answers(pair.model, pair.qemu, step)
    commands, parted = {command.CID: command for command in step.commands}, False
    for cid in sorted(model.keys() | qemu.keys()):
        command, ours, theirs = commands.get(cid, Command()), model.get(cid, []), qemu.get(cid, [])
        if len(ours) != len(theirs):
            parted = True
            yield SideDifference("missing", step, command, [c.text for c in ours], [c.text for c in theirs])
            continue
        for mine, its in zip(ours, theirs, strict=True):
            for found in _parts(step, command, mine, its):
                parted |= found.parts
                yield found
    ours_data, theirs_data = pair.data()
    if ours_data != theirs_data and not parted:
        at = next(n for n, (a, b) in enumerate(zip(ours_data, theirs_data, strict=True)) if a != b) // PAGE * PAGE
        yield SideDifference("data", step, step.commands[-1], ours_data[at : at + PAGE], theirs_data[at : at + PAGE])
        pair.write_data(ours_data)


def _parts(step: DrawnStep, command: Command, ours: Completion, theirs: Completion) -> Iterator[SideDifference]:
    """Return the parts of a completion that differ; where the status does the others mean nothing."""
    if ours.status != theirs.status:
        yield SideDifference("status", step, command, ours.status, theirs.status)
        return
    parts: list[tuple[Kind, int, int]] = [("dnr", ours.DNR, theirs.DNR), ("more", ours.M, theirs.M)]
    if ours.ok:  # dword 0 of a command that failed means nothing
        parts.append(("dw0", ours.DW0, theirs.DW0))
    if len(step.commands) == 1:  # with more, it depends on how many were fetched by then
        parts.append(("head", ours.SQHD, theirs.SQHD))
    for kind, mine, its in parts:
        if mine != its:
            yield SideDifference(kind, step, command, mine, its)


def _answers(model: Host, qemu: Host, step: DrawnStep) -> tuple[dict[int, list[Completion]], dict[int, list[Completion]]]:
    """Return the completions of both sides by command identifier; the model is asked first, and determines what to wait for."""
    ours = model.do(step.qid, step.commands, None)
    cids = {command.CID for command in step.commands}
    theirs = qemu.do(step.qid, step.commands, sum(completion.CID in cids for completion in ours))
    return _by_cid(ours), _by_cid(theirs)


def _by_cid(completions: Sequence[Completion]) -> dict[int, list[Completion]]:
    found: dict[int, list[Completion]] = defaultdict(list)
    for completion in sorted(completions, key=lambda c: c.status):
        found[completion.CID].append(completion)
    return found
