"""A driver behind a prompt: lines are typed and answers read as the manifest says. Where the line leads is not known here."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from lab.data import patterns
from lab.data.manifest import ActionSyntax, DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers import arithmetic, reading, shape
from lab.drivers.base import target
from lab.errors import GuestTimeoutError, LabError
from lab.guest.console import Console, plain
from lab.guest.memory import Ram

NO_SYNTAX = ActionSyntax()
"""Of an action that the manifest does not mention: only ``load`` may be asked all the same."""
ELEMENTS = {"info": "controllers", "identify": "controllers", "list": "namespaces", "rescan": "namespaces"}
"""What an answer lists. A manifest that reads no list speaks of the only element."""
STATUSES = ("success", "timeout", "unsupported")
"""What a printed object may say; else its status is an object too (`lab.data.plan.Status`)."""
POISON = b"\x5a"
NEVER = "(?!)"
"""A pattern that matches nothing."""


class WordsSession(ABC):
    """The part of `lab.drivers.base.Session` that is words: commands are filled in, answers read as the manifest says."""

    def __init__(self, manifest: DriverManifest, scenario: Scenario) -> None:
        """Take the words, and what they are about."""
        self._manifest = manifest
        self._scenario = scenario
        self.build = ""

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Do nothing: its devices are present at start."""
        del controllers, deadline  # part of the protocol

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; see `lab.drivers.base.Session`."""
        words = self._manifest.actions.get(action.name, NO_SYNTAX)
        if self._is_ambiguous(action):
            return Answer("unsupported", {"log": "which disk is which controller's is not known"})
        try:
            if not words.commands:
                return self._unasked(words, action, deadline)
            output = ""
            for line in self._lines(words, action, data):
                output += self.ask(line, deadline)
                if words.error and patterns.search(words.error, output):
                    break
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})
        return self._answer(words, action, output)

    @abstractmethod
    def ask(self, line: str, deadline: Deadline) -> str:
        """Run one line of commands and return its output."""

    @abstractmethod
    def _unasked(self, words: ActionSyntax, action: Action, deadline: Deadline) -> Answer:
        """Return the answer to an action without a command."""

    def _mapped(self) -> Ram:
        """Return the memory of the driver's system, which the lab reads and writes itself. LabError where it cannot."""
        raise LabError("the memory of this system cannot be reached", remedy="remove memory = true from the manifest's actions")

    def _is_ambiguous(self, action: Action) -> bool:
        """Return whether an action names a disk that cannot be told from another controller's."""
        several = len(self._scenario.device.controllers) > 1
        return several and self._manifest.limits.controllers == "any-order" and "nsid" in action.arguments

    def _answer(self, words: ActionSyntax, action: Action, output: str) -> Answer:
        status = reading.status(words, output)
        if status != "success":
            return Answer(status, {"log": output.strip()})
        if words.answer == "json":
            return _of_object(output)
        values = self._values(action)
        if words.memory and action.name == "read":
            return Answer(data=_wanted(values, self._mapped().read(values["address"], values["bytes"])))
        if words.hexdump:
            data = reading.dumped(words.hexdump, output)
            expected = values.get("bytes", len(data))
            if len(data) != expected:
                return Answer({"words": f"the hex dump has {len(data)} of {expected} bytes"}, {"log": output.strip()})
            return Answer(data=_wanted(values, data))
        log = {"log": output.strip()} if action.name == "load" else {}
        fields = reading.fields(words, output)
        if (listed := ELEMENTS.get(action.name)) and fields and not words.lists:
            fields = {listed: [fields]}
        return Answer(fields={**fields, **log})

    def _lines(self, words: ActionSyntax, action: Action, data: bytes | None) -> Iterator[str]:
        values = self._values(action)
        if words.memory:  # a read that does nothing must not show an earlier one's bytes
            self._mapped().write(values["address"], data or POISON * values["bytes"])
        elif words.fill and data is not None:
            yield from filled(words, values["address"], data)
        for command in words.commands:
            yield arithmetic.fill(command, values)

    def _values(self, action: Action) -> dict[str, Any]:
        """Return the values of the placeholders in braces."""
        values: dict[str, Any] = {**shape.OPTIONAL, **self._manifest.variables, **action.arguments}
        values["address"] = self._manifest.limits.address + values["offset"]
        if found := target(self._scenario, action):
            values |= {"index": found.index, "block_size": found.namespace.block_size}
            if action.name == "read" and self._manifest.limits.round:
                values |= _whole_units(values, self._manifest.limits.unit)
            if "blocks" in values:
                values["bytes"] = values["blocks"] * found.namespace.block_size
        return values


class PromptSession(WordsSession):
    """Words that are typed at a prompt."""

    def __init__(self, console: Console, manifest: DriverManifest, scenario: Scenario) -> None:
        """Take a line at whose other end the driver's system is, or will be."""
        super().__init__(manifest, scenario)
        self._console = console
        self._ready = f"(?m-s:{manifest.boot.ready or NEVER})"
        self._busy = ""  # what has not come back to the prompt
        self._echoes = False  # a line that was typed came back once

    def ask(self, line: str, deadline: Deadline) -> str:
        """Run one line of commands and return its output."""
        if self._busy:
            self._console.expect(self._ready, Deadline(0), f"the prompt after {self._busy!r}, which came too late before")
        self._busy = line
        self._type(line, deadline)
        seen = self._console.expect(self._ready, deadline, f"the prompt after {line[:80]!r}")
        self._busy = ""
        said = plain(seen.before)
        output = reading.without_echo(said, line)
        self._check_echo(line, said, came_back=output != said)
        return output

    def _check_echo(self, line: str, said: str, *, came_back: bool) -> None:
        """Raise LabError where the guest shows that a part of the line did not arrive: it was asked something else then."""
        if came_back or not self._echoes or self._manifest.boot.input != "serial":
            self._echoes = self._echoes or came_back
            return
        first = next((text.strip() for text in said.splitlines() if text.strip()), "")
        if reading.lost_part(first, line):
            raise LabError(
                f"{line[:80]!r} was typed, and the guest shows {first[:80]!r}: a key did not arrive",
                remedy="give boot.pace, the milliseconds between two characters",
            )

    def _type(self, line: str, deadline: Deadline) -> None:
        """Type a line and Enter. On a keyboard each key waits for the echo of the one before."""
        boot = self._manifest.boot
        if boot.input == "serial":
            for text in line + boot.enter if boot.pace else [line + boot.enter]:
                self._send(text)
                if boot.pace:
                    self._listen_for_pace()
            return
        for character in line:
            self._press(character, deadline)
        self._send(boot.enter)

    def _listen_for_pace(self) -> None:
        time.sleep(self._manifest.boot.pace / 1000)

    def _press(self, character: str, deadline: Deadline) -> None:
        """Press a key of a keyboard, where that is what is typed on."""
        del deadline
        self._send(character)

    def _send(self, text: str) -> None:
        """Send text as it is."""
        self._console.send(text)


def _whole_units(values: Mapping[str, Any], unit: int) -> dict[str, int]:
    """Return the blocks of whole units that hold the ones wanted, and which bytes of them those are."""
    size = values["block_size"]
    per_unit = max(unit // size, 1)
    first = values["lba"] // per_unit * per_unit
    end = -(-(values["lba"] + values["blocks"]) // per_unit) * per_unit
    return {
        "lba": first, "blocks": end - first, "skip": (values["lba"] - first) * size, "wanted": values["blocks"] * size
    }  # fmt: skip


def _wanted(values: Mapping[str, Any], data: bytes | None) -> bytes | None:
    """Return the bytes that were asked for out of whole units."""
    return data[values["skip"] :][: values["wanted"]] if data is not None and "wanted" in values else data


def _of_object(output: str) -> Answer:
    """Return the answer printed as JSON: its status, its bytes in hexadecimal as ``data``, and its fields."""
    found = reading.printed_object(output)
    if found is None:
        return Answer({"words": "it printed no JSON object"}, {"log": output.strip()})
    status, data = found.pop("status", "success"), found.pop("data", None)
    if not isinstance(status, dict) and status not in STATUSES:
        return Answer({"words": f"its status is none: {status!r:.80}"}, {"log": output.strip()})
    try:
        return Answer(status, found, None if data is None else bytes.fromhex(data))
    except (TypeError, ValueError):
        return Answer({"words": "data is no text of hexadecimal digits"}, {"log": output.strip()})


def filled(words: ActionSyntax, address: int, data: bytes) -> Iterator[str]:
    """Return the commands that put the data into memory word by word; a rest shorter than a word is padded with zeros."""
    line = ""
    for start in range(0, len(data), words.word):
        word = int.from_bytes(data[start : start + words.word], "little")
        command = words.fill.format(address=address + start, word=word)
        if line and len(line) + 1 + len(command) > words.line:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line
