"""What a passthrough SDK was asked to send, beside what the device received and answered.

Steps and answers have the form of docs/passthrough.md. A step is paired with a submission by its bytes; what is left over is
paired in order, so that a command which arrived changed shows how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.record.record import Asked, Record
from lab.data.events import Completed, Submitted
from lab.nvme.commands import Abort, AsyncEventRequest, Command, LbaCommand, Read, Write, decode

DWORDS = (2, 3, *range(10, 16))
"""Those of a command that its sender chooses, besides opcode and namespace."""
OF_THE_DRIVER = (Abort.OPCODE, AsyncEventRequest.OPCODE)
"""Admin commands that a driver sends whenever it likes."""
COMMANDS = ("command", "read", "write")
"""Steps that send one command."""


@dataclass(frozen=True)
class SdkStep:
    """One command that an SDK was asked to send, and its answer; {} if none came."""

    asked: Asked
    about: Mapping[str, Any]
    answer: Mapping[str, Any]

    @property
    def admin(self) -> bool:
        """Return whether it is for the admin queue."""
        return bool(self.about.get("queue") == "admin")

    @property
    def status(self) -> int | None:
        """All 15 status bits that the caller got; None if the answer is no completion."""
        return self.answer.get("status")

    @property
    def error(self) -> str:
        """Why it was refused; "" if it was not."""
        return str(self.answer.get("error", ""))

    @property
    def command(self) -> Command:
        """The command that should go out, without what the operating system sets."""
        return decode(Command.of(**self._fields()), admin=self.admin)

    def _fields(self) -> dict[str, int]:
        about = self.about
        if about["do"] == "command":
            names = {"opcode": "OPC", "nsid": "NSID"}
            return {names.get(name, name.upper()): value for name, value in about["fields"].items()}
        blocks = about["blocks"] if about["do"] == "read" else about["send"]["blocks"]
        lba, opcode = about["lba"], Read.OPCODE if about["do"] == "read" else Write.OPCODE
        assert opcode is not None
        return {"OPC": opcode, "NSID": about["nsid"], "CDW10": lba & 0xFFFF_FFFF, "CDW11": lba >> 32, "CDW12": blocks - 1}


@dataclass(frozen=True)
class Pair:
    """A step with the submission that came of it, and its completion, as far as the device saw them."""

    step: SdkStep
    submitted: Submitted | None
    completed: Completed | None
    split: bool = False  # into several commands, of which `submitted` is the first


def sdk_steps(asked: Asked) -> Iterator[SdkStep]:
    """Yield every command of an action, those that were sent together too."""
    answers = asked.all("answers")
    for number, about in enumerate(asked.arguments["steps"]):
        answer = answers[number] if number < len(answers) else {}
        if about["do"] in COMMANDS:
            yield SdkStep(asked, about, answer)
        elif about["do"] == "together":
            parts = list(answer.get("answers", ()))
            for place, part in enumerate(about["steps"]):
                yield SdkStep(asked, part, parts[place] if place < len(parts) else {})


def sdk_actions(record: Record) -> Iterator[Asked]:
    """Yield the actions in which an SDK was asked."""
    yield from record.answers("passthrough")


def refused_steps(record: Record, reason: str = "") -> Iterator[SdkStep]:
    """Yield the steps that must be refused, for this reason if one is named."""
    for asked in sdk_actions(record):
        yield from (
            step for step in sdk_steps(asked) if step.about.get("refused", "") and reason in ("", step.about["refused"])
        )


def received(record: Record, asked: Asked) -> list[Submitted]:
    """Return what the device received meanwhile, but for what the driver itself may send at any time."""
    return [
        event for _, event in record.during(asked, Submitted) if not (event.sqid == 0 and event.command.OPC in OF_THE_DRIVER)
    ]


def arrived(record: Record, step: SdkStep, *, any_namespace: bool = False) -> Iterator[Submitted]:
    """Yield the submissions that are, by what is known of them, this very command."""
    expected = step.command
    for event in received(record, step.asked):
        if (event.sqid == 0) == step.admin and not _differ(expected, event, any_namespace=any_namespace):
            yield event


def pairs(record: Record, asked: Asked) -> list[Pair]:
    """Return the steps of an action that were not refused, each with what the device saw of it."""
    left = received(record, asked)
    steps = [step for step in sdk_steps(asked) if not step.error and not step.about.get("refused")]
    found: dict[int, list[Submitted]] = {}
    for search in (_whole, _parts, _changed):
        for place, step in enumerate(steps):
            if place not in found and (events := search(step, left)):
                found[place] = events
                left = [event for event in left if event not in events]
    done = _completions(record)
    return [_pair(step, found.get(place, ()), done) for place, step in enumerate(steps)]


def _pair(step: SdkStep, events: Sequence[Submitted], done: Mapping[int, Completed]) -> Pair:
    if len(events) > 1:
        return Pair(step, events[0], None, split=True)
    return Pair(step, events[0], done.get(id(events[0]))) if events else Pair(step, None, None)


def _whole(step: SdkStep, left: Sequence[Submitted]) -> list[Submitted]:
    """Return the command itself."""
    return [event for event in left if (event.sqid == 0) == step.admin and not _differ(step.command, event)][:1]


def _parts(step: SdkStep, left: Sequence[Submitted]) -> list[Submitted]:
    """Return the commands into which an SDK has cut a read or write of many blocks: together they are its blocks, once each."""
    whole = step.command
    if step.about["do"] == "command" or not isinstance(whole, LbaCommand):
        return []
    end, missing, parts = whole.SLBA + whole.blocks, {*range(whole.SLBA, whole.SLBA + whole.blocks)}, []
    for event in left:
        part = event.command
        if not isinstance(part, type(whole)) or part.NSID != whole.NSID or not whole.SLBA <= part.SLBA < end:
            continue
        blocks = {*range(part.SLBA, part.SLBA + part.blocks)}
        if blocks <= missing:
            missing -= blocks
            parts.append(event)
    return [] if missing else parts


def _changed(step: SdkStep, left: Sequence[Submitted]) -> list[Submitted]:
    """Return a command that has at least the opcode."""
    return [event for event in left if (event.sqid == 0) == step.admin and event.command.OPC == step.command.OPC][:1]


def _completions(record: Record) -> dict[int, Completed]:
    """Return completions by the identity of their submissions."""
    return {id(owner): event for event in record.all(Completed) if (owner := record.owner(event)) is not None}


def _differ(expected: Command, event: Submitted, *, any_namespace: bool = False) -> bool:
    ignored = ("NSID",) if any_namespace else ()
    return any(name not in ignored for name, _, _ in differences(expected, event))


def differences(expected: Command, event: Submitted) -> list[tuple[str, Any, Any]]:
    """Return (field, expected, actual) for what arrived otherwise, as far as anybody saw it."""
    actual = event.command
    names = ["OPC", "FUSE", "NSID", *_named(expected), *(f"CDW{number}" for number in DWORDS)]
    if type(actual) is not type(expected):
        names = ["OPC", "FUSE", "NSID", *(f"CDW{number}" for number in DWORDS)]
    found = []
    reported: set[int] = set()
    for name in names:
        dword = type(expected).FIELDS[name].start // 32
        if dword in reported or not event.is_known(name) or getattr(expected, name) == getattr(actual, name):
            continue
        found.append((name, getattr(expected, name), getattr(actual, name)))
        if dword not in (0, 1):
            reported.add(dword)
    return found


def _named(command: Command) -> Sequence[str]:
    """Return the fields that the command itself declares in the dwords that its sender chooses."""
    return [name for name, field in type(command).FIELDS.items() if not field.shared and field.start // 32 in DWORDS]
