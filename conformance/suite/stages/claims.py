"""Whether what a driver says was done: an answer alone proves nothing where the device must have seen something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from conformance.record.record import Asked, Record
from conformance.suite.check import RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PCIE_1_0, PRACTICE
from conformance.suite.stages.reset import WAS_RESET, acts
from lab.data.events import ActionEnded, RegisterRead, RegisterWrite, Reset, Submitted
from lab.nvme.commands import Command, CreateIoSq, FormatNvm, Sanitize, SetFeatures

Needs = Callable[[Record, Asked], bool]
"""Returns whether the device has seen what an action cannot be done without."""


def _was_reset(record: Record, asked: Asked) -> bool:
    return WAS_RESET in acts(record, asked)


def _sent(*kinds: type[Command]) -> Needs:
    return lambda record, asked: record.saw(asked, *kinds)


def _feature_set(record: Record, asked: Asked) -> bool:
    sent = (event.command for _, event in record.during(asked, Submitted))
    return any(isinstance(command, SetFeatures) and command.FID == asked.arguments.get("feature") for command in sent)


NEEDED: Mapping[str, tuple[str, Needs]] = {
    "reset": ("a reset of the controller", _was_reset),
    "reset-function": ("a reset of the controller", _was_reset),
    "reset-subsystem": ("a reset of the controller", _was_reset),
    "format": ("Format NVM, or Sanitize", _sent(FormatNvm, Sanitize)),
    "set-feature": ("Set Features of that feature", _feature_set),
}
"""Actions that succeed only by something that the device sees."""


@check("every/done", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire"])
def done(record: Record) -> Iterator[Finding]:
    """Says of a reset, a format or a feature that it is done only where the device has seen it."""
    for asked in record.answers(*NEEDED) if record.exact else ():
        what, needs = NEEDED[asked.action]
        if asked.ok:
            seen = needs(record, asked)
            yield Finding(seen, asked.ended, what, "seen" if seen else f"{asked.said}, and nothing of it was seen")


@check(
    "io-queues/reported", cite=BASE_2_0["5.5"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"], needs=["queues"]
)
def reported(record: Record) -> Iterator[Finding]:
    """Reports as many pairs of I/O queues as it has created, and their depth."""
    for asked in record.answers("queues"):
        sizes: list[int] = []
        created = False
        for state, event in record.walk(Submitted, ActionEnded):
            created |= isinstance(event, Submitted) and isinstance(event.command, CreateIoSq)
            if event is asked.ended:
                sizes = [queue.size for qid, queue in state.sqs.items() if qid]
                break
        if not asked.ok or not created or not sizes or len(record.controllers) > 1:
            continue
        if (pairs := asked.answer.get("pairs")) is not None:
            yield Finding(pairs == len(sizes), asked.ended, f"{len(sizes)} pairs", f"{pairs} pairs")
        if (depth := asked.answer.get("depth")) is not None:
            ok = any(depth in (size, size - 1) for size in sizes)  # one slot stays empty: some leave it out
            yield Finding(ok, asked.ended, f"{max(sizes)} entries", f"{depth} entries")


FLR_SECONDS, ENOUGH = 0.1, 0.25
"""How long a function may take for a reset (PCI Express Base, 6.6.2), and how much of it counts: emulated clocks differ."""


@check("reset/flr-wait", cite=PCIE_1_0["3.3"], level=RECOMMENDED, why="should", witnesses=["wire"], timed=True)
def flr_wait(record: Record) -> Iterator[Finding]:
    """Gives a function the 100 ms that it may take for a reset before it accesses a register."""
    begun: dict[str, Reset] = {}
    for state, event in record.walk(Reset, RegisterRead, RegisterWrite):
        match event:
            case Reset(cause="flr"):
                begun[state.spec.id] = event
            case RegisterRead() | RegisterWrite() if (reset := begun.pop(state.spec.id, None)) is not None:
                waited = event.t - reset.t
                shown = f"register {event.offset:#x} accessed after {waited * 1000:.0f} ms"
                yield Finding(waited >= FLR_SECONDS * ENOUGH, event, "100 ms after the reset of the function", shown)
