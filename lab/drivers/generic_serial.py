"""Any driver behind a prompt, or one that does its work without being asked.

All of it is in the manifest, from the boot to the last pattern. The prompt is on a serial line, or it writes to a debug
console and its input on a keyboard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.data import patterns
from lab.data.manifest import ActionSyntax, DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers import reading, shape
from lab.drivers.base import mebibytes, own_file, target
from lab.errors import GuestTimeoutError, LabError, UsageError
from lab.guest import keyboard
from lab.guest.arguments import GuestSpec
from lab.guest.console import plain
from lab.guest.machine import Machine
from lab.guest.memory import Ram
from lab.toolchain import Toolchain

NO_SYNTAX = ActionSyntax()
"""Of an action that the manifest does not mention: only ``load`` may be asked all the same."""
ELEMENTS = {"info": "controllers", "identify": "controllers", "list": "namespaces", "rescan": "namespaces"}
"""What an answer lists. A manifest that reads no list speaks of the only element."""
STATUSES = ("success", "timeout", "unsupported")
"""What a printed object may say; else its status is an object too (`lab.data.plan.Status`)."""
POISON = b"\x5a"
_TOOLCHAIN = re.compile(r"\{(.+)\}")


class GenericSerial:
    """See `lab.drivers.base.Adapter`."""

    hotplug = False

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Check the shape of the manifest, and find its files; UsageError."""
        boot = manifest.boot
        shape.check(manifest)
        self.actions = frozenset({"load", *manifest.actions})  # to come up is not a matter of words
        self.panics: tuple[str, ...] = (f"(?m-s:{boot.dead})",) if boot.dead else ()
        named = {key: getattr(boot, key) for key in ("kernel", "initrd", "disk", "iso", "firmware")}
        self.files: Mapping[str, Path] = {
            key: _file(manifest, toolchain, f"boot.{key}", name) for key, name in named.items() if name
        }
        self._manifest = manifest

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device; see `lab.drivers.base.Adapter`."""
        boot = self._manifest.boot
        return GuestSpec(
            arch=boot.arch,
            machine=boot.machine,
            cpu=boot.cpu,
            smp=scenario.guest.get("cpus", boot.cpus),
            memory=mebibytes(boot.memory),
            kernel=self.files.get("kernel"),
            initrd=self.files.get("initrd"),
            append=boot.append,
            disk=self.files.get("disk"),
            iso=self.files.get("iso"),
            bios=self.files.get("firmware"),
            strict_boot=bool(boot.kernel or boot.disk or boot.iso) and not boot.firmware_driver,
            console="debug-console" if boot.output == "debug-console" else "serial",
            debug_exit=boot.exit_success is not None,
            paused=shape.boots_at_load(self._manifest),
            extra=boot.options,
        )

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        words = self._manifest.actions.get(action, NO_SYNTAX)
        return words.seconds if words.commands else self._manifest.boot.seconds

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> SerialSession:
        """Wait until the guest can be talked to; see `lab.drivers.base.Adapter`."""
        session = SerialSession(machine, self._manifest, scenario)
        if not machine.spec.paused:
            session.come_up(Deadline(min(self._manifest.boot.seconds, deadline.remaining())))
        return session


class SerialSession:
    """See `lab.drivers.base.Session`."""

    def __init__(self, machine: Machine, manifest: DriverManifest, scenario: Scenario) -> None:
        """Take a running guest, which may still be coming up."""
        self._machine = machine
        self._console = machine.console
        self._manifest = manifest
        self._scenario = scenario
        self._ready = f"(?m-s:{manifest.boot.ready})"
        self._memory: Ram | None = None  # mapped once it is needed
        self._said: str | None = None  # what the guest said while it came up; None before it has
        self._busy = ""  # what has not come back to the prompt

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Do nothing: its devices are present at start."""

    def come_up(self, deadline: Deadline) -> None:
        """Wait until the guest accepts requests, or has done its work. Raises GuestTimeoutError."""
        boot = self._manifest.boot
        self._busy, self._said = "its boot", ""
        if boot.input == "none" and boot.exit_success is not None:
            self._said = plain(self._console.rest(deadline))
            self._machine.process.wait(deadline)
            self._machine.check("its exit code")
        else:
            self._said = self._until_ready(deadline)
        self._busy = ""

    def _until_ready(self, deadline: Deadline) -> str:
        """Wait until the guest is ready; return its output until then."""
        boot, said = self._manifest.boot, ""
        what = "that it is ready (boot.ready)"
        if boot.interrupt:
            seen = self._console.expect([self._ready, f"(?m-s:{boot.interrupt})"], deadline, what)
            said = plain(seen.before)
            if seen.which == 0:
                return said
            self._send(boot.interrupt_key)
        return said + plain(self._console.expect(self._ready, deadline, what).before)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; see `lab.drivers.base.Session`."""
        words = self._manifest.actions.get(action.name, NO_SYNTAX)
        try:
            if not words.commands:
                return self._unasked(words, action, deadline)
            output = ""
            for line in self._lines(words, action, data):
                output += self._ask(line, deadline)
                if words.error and patterns.search(words.error, output):
                    break
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})
        return self._answer(words, action, output)

    def _unasked(self, words: ActionSyntax, action: Action, deadline: Deadline) -> Answer:
        """Return the answer to ``load`` from the output of the boot."""
        if action.name == "load":
            return self._started(words, action, deadline)
        if self._said is None:
            return Answer("unsupported", {"log": "the guest has not come up yet"})
        if self._busy:
            raise GuestTimeoutError(f"{self._busy} has not ended")
        return self._answer(words, action, self._said)

    def _started(self, words: ActionSyntax, action: Action, deadline: Deadline) -> Answer:
        """Start the guest, once, and return the answer. An exit code can only make it worse."""
        if self._said is not None:
            return Answer("unsupported", {"log": "the driver came up with its guest, which starts once"})
        self._machine.qmp("cont")
        self.come_up(deadline)
        answer, code = self._answer(words, action, self._said or ""), self._machine.exit_code
        if answer.status != "success" or code in (None, self._manifest.boot.exit_success):
            return answer
        return Answer({"words": f"exit code {code:#x}"}, answer.fields)

    def close(self) -> None:
        """Close the guest's memory, if it was mapped."""
        if self._memory:
            self._memory.close()

    def _mapped(self) -> Ram:
        """Return the guest's memory, which the lab reads and writes itself."""
        if self._machine.spec.memory_file is None:
            raise LabError("the manifest wants data by the guest's memory, and this guest does not share it")
        if self._memory is None:
            self._memory = self._machine.memory()
        return self._memory

    def _answer(self, words: ActionSyntax, action: Action, output: str) -> Answer:
        status = reading.status(words, output)
        if status != "success":
            return Answer(status, {"log": output.strip()})
        if words.answer == "json":
            return _of_object(output)
        values = self._values(action)
        if words.memory and action.name == "read":
            return Answer(data=self._mapped().read(values["address"], values["bytes"]))
        if words.hexdump:
            data = reading.dumped(words.hexdump, output)
            expected = values.get("bytes", len(data))
            if len(data) != expected:
                return Answer({"words": f"the hex dump has {len(data)} of {expected} bytes"}, {"log": output.strip()})
            return Answer(data=data)
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
            yield command.format(**values)

    def _values(self, action: Action) -> dict[str, Any]:
        """Return the values of the placeholders in braces."""
        values: dict[str, Any] = {**shape.OPTIONAL, **self._manifest.variables, **action.arguments}
        values["address"] = self._manifest.limits.address + values["offset"]
        if found := target(self._scenario, action):
            values |= {"index": found.index, "block_size": found.namespace.block_size}
            if "blocks" in values:
                values["bytes"] = values["blocks"] * found.namespace.block_size
        return values

    def _ask(self, line: str, deadline: Deadline) -> str:
        """Run one line of commands and return its output."""
        if self._busy:
            self._console.expect(self._ready, Deadline(0), f"the prompt after {self._busy!r}, which came too late before")
        self._busy = line
        self._type(line, deadline)
        seen = self._console.expect(self._ready, deadline, f"the prompt after {line[:80]!r}")
        self._busy = ""
        return reading.without_echo(plain(seen.before), line)

    def _type(self, line: str, deadline: Deadline) -> None:
        """Type a line and Enter. On a keyboard each key waits for the echo of the one before."""
        if self._manifest.boot.input == "serial":
            self._send(line + "\n")
            return
        for character in line:
            self._send(character)
            self._console.expect(re.escape(character), deadline, f"the echo of {character!r}, typed on the keyboard")
        self._send("\n")

    def _send(self, text: str) -> None:
        if self._manifest.boot.input == "serial":
            self._console.send(text)
            return
        for character in text:
            keyboard.press(self._machine, character)


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


def _file(manifest: DriverManifest, toolchain: Toolchain, key: str, name: str) -> Path:
    """Return a file's path: ``{name}`` is a firmware of the toolchain, all else a path."""
    match = _TOOLCHAIN.fullmatch(name)
    if match is None:
        return own_file(manifest, key, name)
    if match[1] not in toolchain.firmware:
        if match[1] in manifest.needs:
            raise LabError(f"the firmware {match[1]} was not prepared", remedy="run nvme-lab fetch")
        raise UsageError(f"{manifest.path}: {key}: {name} is no firmware of the toolchain", remedy=f"add {match[1]!r} to needs")
    return toolchain.firmware[match[1]]
