"""A driver behind a prompt: lines are typed and answers read as the manifest says. Where the line leads is not known here."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
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
ECHO_SECONDS = 0.5
"""Until it is clear whether a guest echoes at all."""
KEY_SECONDS, KEY_ATTEMPTS = 3.0, 3
"""Until the echo of a key is missed, and how often it is typed."""
END_LETTERS = 4
BETWEEN_KEYS = r"(?:\s|\x08|\x1b\[[0-?]*[ -/]*[@-~])*"
"""What a terminal puts between two characters that were typed: spaces, ends of lines, control sequences."""


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
        self._echoes = False  # a line that was typed came back once, while it was typed or after Enter
        self._echo = ""  # what has come of the line that is typed now
        self._echoes_keys: bool | None = None  # it comes back while it is typed; None where that is not known

    def ask(self, line: str, deadline: Deadline) -> str:
        """Run one line of commands and return its output.

        GuestTimeoutError if the prompt does not come back; LabError where the guest was not asked what was typed.
        """
        if self._busy:
            self._console.expect(self._ready, Deadline(0), f"the prompt after {self._busy!r}, which came too late before")
        self._busy = line
        shown = self._type(line, deadline)
        seen = self._console.expect(self._ready, deadline, f"the prompt after {line[:80]!r}")
        self._busy = ""
        said = plain(seen.before)
        if shown is None:
            output = reading.without_echo(said, line)
            first = _first_line(said)
            shown = line if output != said else first if reading.misheard(first, line, has_echoed=self._echoes) else None
        else:
            output = said.lstrip(" ").removeprefix("\n")
            if self._types_by_keys and (more := said.partition("\n")[0].strip()) and not more.strip(line[-1]):
                shown += more  # the last key came more than once
        if shown is not None and shown != line:
            raise LabError(
                f"{line[:80]!r} was typed, and the guest shows {shown[:80]!r}: a key did not arrive, or not once",
                remedy="give boot.pace, the milliseconds between two characters: each one is then typed until it is shown",
            )
        self._echoes = self._echoes or (shown == line and line != "")
        return output

    def _await_prompt(self, deadline: Deadline) -> tuple[str, str]:
        """Wait for the first prompt, and send what each step to it wants; return what was said, and the prompt.

        A step that is not asked for is left out. Raises GuestTimeoutError.
        """
        boot, said = self._manifest.boot, ""
        what = f"its prompt, boot.ready {boot.ready!r}" if boot.input != "none" else f"boot.ready {boot.ready!r}"
        for shown, key in boot.interrupts:
            seen = self._console.expect([self._ready, f"(?m-s:{shown})"], deadline, what)
            said += plain(seen.before)
            if seen.which == 0:
                return said, plain(seen.match[0])
            said += plain(seen.match[0])
            self._send(key)
        seen = self._console.expect(self._ready, deadline, what)
        return said + plain(seen.before), plain(seen.match[0])

    def _type(self, line: str, deadline: Deadline) -> str | None:
        """Type a line and Enter; return what the guest has shown of it by then, None where that is not clear.

        The whole echo is awaited before Enter, so that no earlier prompt is taken for the answer's. On a keyboard, and where
        the manifest gives a pace, each key waits for the echo of the one before.
        """
        boot = self._manifest.boot
        if not line:
            shown: str | None = None
        elif self._types_by_keys:
            shown = self._type_by_keys(line, deadline)
        else:
            shown = self._type_at_once(line, line, deadline)
        self._send(boot.enter)
        return shown

    @property
    def _types_by_keys(self) -> bool:
        boot = self._manifest.boot
        return boot.input == "keyboard" or (boot.pace > 0 and self._echoes_keys is not False)

    def _type_at_once(self, text: str, line: str, deadline: Deadline) -> str | None:
        """Type a text, which ends a line, and wait for the echo of that line."""
        boot = self._manifest.boot
        self._echo = ""
        for part in text if boot.pace else [text]:
            self._send(part)
            self._listen_for_pace()
        if self._echoes_keys is False:
            return None
        if self._has_shown(line, min(ECHO_SECONDS, deadline.remaining())):
            return line
        before, shown = "", self._shown()
        if not shown and self._echoes_keys is None:
            self._echoes_keys = False
        while reading.lost_part(shown, line) and shown != before and not deadline.expired:  # it may only be slow
            if self._has_shown(line, min(KEY_SECONDS, deadline.remaining())):
                return line
            before, shown = shown, self._shown()
        return shown if reading.lost_part(shown, line) else None

    def _has_shown(self, line: str, seconds: float) -> bool:
        """Wait until the guest has shown a line, and forget that; return False if that does not come."""
        deadline, end = Deadline(seconds), _end_of_echo(line)
        with suppress(GuestTimeoutError):
            while not reading.holds_in_order(plain(self._echo), line):
                seen = self._console.expect(end, deadline, f"the echo of {line[:80]!r}")
                self._echo += seen.before + seen.match[0]
            self._echoes_keys = True
            return True
        if not reading.holds_in_order(plain(self._echo + self._console.pending()), line):
            return False
        self._console.forget_pending()  # something was printed while it was shown
        self._echoes_keys = True
        return True

    def _shown(self) -> str:
        """Return the first line that has come since a line was typed."""
        return _first_line(plain(self._echo + self._console.pending()))

    def _type_by_keys(self, line: str, deadline: Deadline) -> str | None:
        """Type one key after the other; one whose echo does not come is typed again."""
        shown = ""
        for character in line:
            seen = self._press(character, deadline)
            if seen is None:  # the guest does not echo, or has lost the very first key
                return self._type_at_once(line[1:], line, deadline)
            shown += seen
        cleaned = plain(shown).strip()
        return cleaned if reading.has_doubles(cleaned, line) else line

    def _press(self, character: str, deadline: Deadline) -> str | None:
        """Type a key until its character is shown; return what came until then.

        None for a guest that does not echo. LabError if a key never is shown: the guest must not be asked something else.
        """
        boot = self._manifest.boot
        may_be_silent = boot.input == "serial" and self._echoes_keys is None
        for _ in range(KEY_ATTEMPTS):
            self._send(character)
            self._listen_for_pace()
            wait = Deadline(min(ECHO_SECONDS if may_be_silent else KEY_SECONDS, deadline.remaining()))
            try:
                seen = self._console.expect(re.escape(character), wait, f"the echo of {character!r}")
                self._echoes_keys = True
                return seen.before + character
            except GuestTimeoutError:
                if deadline.expired:
                    raise
                if may_be_silent:
                    return None
        raise LabError(
            f"the key {character!r} was typed {KEY_ATTEMPTS} times, and the guest shows no such character",
            remedy="give boot.output, where it echoes" + ("" if boot.input == "serial" else ', or boot.input = "serial"'),
        )

    def _listen_for_pace(self) -> None:
        if self._manifest.boot.pace:
            time.sleep(self._manifest.boot.pace / 1000)

    def _send(self, text: str) -> None:
        """Send text as it is."""
        self._console.send(text)


def _end_of_echo(line: str) -> str:
    """Return a pattern for the end of a line's echo, however the guest's terminal wraps it: a short one, quickly made."""
    letters = [character for character in line if not character.isspace()]
    return BETWEEN_KEYS.join(re.escape(character) for character in letters[-END_LETTERS:])


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


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
