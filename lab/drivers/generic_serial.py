"""Any driver behind a prompt on a serial line: all of it is in the manifest, from the boot to the last pattern."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from lab.deadline import Deadline
from lab.drivers import reading
from lab.drivers.base import mebibytes, own_file, target
from lab.errors import LabError, Timeout, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.console import plain
from lab.guest.machine import Machine
from lab.manifest import DriverManifest, Words, nearest
from lab.plan import Action, Answer, Scenario
from lab.toolchain import Toolchain

ALWAYS = frozenset({"address"})
"""Names in braces that every command may hold: where buffers may lie (limits.address) plus the action's ``offset``."""
OF_A_NAMESPACE = frozenset({"nsid", "index", "block_size"})
"""With an ``nsid``: itself, its place among the attached namespaces from 0, and its block size in bytes."""
OF_BLOCKS = OF_A_NAMESPACE | {"lba", "blocks", "bytes", "offset"}
ARGUMENTS: Mapping[str, frozenset[str]] = {
    "noop": OF_A_NAMESPACE, "flush": OF_A_NAMESPACE, "mount": OF_A_NAMESPACE | {"file"},
    "read": OF_BLOCKS, "write": OF_BLOCKS, "zeroes": OF_BLOCKS, "trim": OF_BLOCKS,
    "write-bytes": OF_A_NAMESPACE | {"lba", "at", "length", "offset"},
    "raw": OF_A_NAMESPACE | {"queue", "command"}, "load-mix": frozenset({"jobs", "depth", "operations", "seed"}),
    "get-feature": frozenset({"feature"}), "set-feature": frozenset({"feature", "value"}),
}  # fmt: skip
POISON = b"\x5a"
_TOOLCHAIN = re.compile(r"\{(.+)\}")


class GenericSerial:
    """See `lab.drivers.base.Adapter`."""

    hotplug = False

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        boot = manifest.boot
        if not boot.ready:
            raise UsageError(f"{manifest.path}: boot.ready: this key is required, it is how the lab knows the prompt")
        _check_names(manifest)
        self.actions = frozenset(manifest.actions)
        self.panics: tuple[str, ...] = (f"(?m-s:{boot.dead})",) if boot.dead else ()
        named = {"kernel": boot.kernel, "initrd": boot.initrd, "firmware": boot.firmware}
        self.files: Mapping[str, Path] = {
            key: _file(manifest, toolchain, f"boot.{key}", name) for key, name in named.items() if name
        }
        self._manifest = manifest

    def guest(self, scenario: Scenario) -> GuestSpec:
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
            bios=self.files.get("firmware"),
            extra=boot.options,
        )

    def seconds(self, action: str) -> float:
        return self._manifest.actions[action].seconds

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> SerialSession:
        boot = self._manifest.boot
        ready = f"(?m-s:{boot.ready})"
        deadline = Deadline(min(boot.seconds, deadline.remaining()))
        if boot.interrupt:
            seen = machine.console.expect([ready, f"(?m-s:{boot.interrupt})"], deadline, "that it is ready (boot.ready)")
            if seen.which == 0:
                return SerialSession(machine, self._manifest, scenario, ready)
            machine.console.send(boot.interrupt_key)
        machine.console.expect(ready, deadline, "that it is ready (boot.ready)")
        return SerialSession(machine, self._manifest, scenario, ready)


class SerialSession:
    """See `lab.drivers.base.Session`."""

    def __init__(self, machine: Machine, manifest: DriverManifest, scenario: Scenario, ready: str) -> None:
        self._console = machine.console
        self._manifest = manifest
        self._scenario = scenario
        self._ready = ready
        self._memory = _Memory(machine)
        self._busy = ""  # the command that has not come back to the prompt

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Its devices are there at start."""

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        words = self._manifest.actions[action.name]
        output = ""
        try:
            for line in self._lines(words, action, data):
                output += self._ask(line, deadline)
                if words.error and re.search(words.error, output, re.MULTILINE):
                    break
        except Timeout as late:
            return Answer("timeout", {"log": late.what})
        return self._answer(words, action, output)

    def close(self) -> None: ...

    def _answer(self, words: Words, action: Action, output: str) -> Answer:
        status = reading.status(words, output)
        if status != "success":
            return Answer(status, {"log": output.strip()})
        values = self._values(action)
        if words.memory and action.name == "read":
            return Answer(data=self._memory.read(values["address"], values["bytes"]))
        if words.hexdump:
            data = reading.dumped(words.hexdump, output)
            expected = values.get("bytes", len(data))
            if len(data) != expected:
                return Answer({"words": f"the hex dump has {len(data)} of {expected} bytes"}, {"log": output.strip()})
            return Answer(data=data)
        log = {"log": output.strip()} if action.name == "load" else {}
        return Answer(fields={**reading.fields(words, output), **log})

    def _lines(self, words: Words, action: Action, data: bytes | None) -> Iterator[str]:
        values = self._values(action)
        if words.memory:  # a read that does nothing must not show an earlier one's bytes
            self._memory.write(values["address"], data or POISON * values["bytes"])
        elif words.fill and data is not None:
            yield from filled(words, values["address"], data)
        commands = [words.command] if isinstance(words.command, str) else words.command
        for command in commands:
            yield command.format(**values)

    def _values(self, action: Action) -> dict[str, Any]:
        """What the braces stand for."""
        values: dict[str, Any] = {**self._manifest.variables, **action.arguments}
        values["offset"] = values.get("offset", 0)
        values["address"] = self._manifest.limits.address + values["offset"]
        if found := target(self._scenario, action):
            values |= {"index": found.index, "block_size": found.namespace.block_size}
            if "blocks" in values:
                values["bytes"] = values["blocks"] * found.namespace.block_size
        return values

    def _ask(self, line: str, deadline: Deadline) -> str:
        """The output of one line of commands."""
        if self._busy:
            self._console.expect(self._ready, Deadline(0), f"the prompt after {self._busy!r}, which came too late before")
        self._busy = line
        self._console.send(line + "\n")
        seen = self._console.expect(self._ready, deadline, f"the prompt after {line[:80]!r}")
        self._busy = ""
        return reading.without_echo(plain(seen.before), line)


class _Memory:
    """The guest's memory as physical addresses, by the file that QEMU shares; they are in one range."""

    def __init__(self, machine: Machine) -> None:
        self._file = machine.spec.memory_file
        self._base = machine.spec.ram_base

    def read(self, address: int, length: int) -> bytes:
        with self._opened("rb") as memory:
            memory.seek(address - self._base)
            return memory.read(length)

    def write(self, address: int, data: bytes) -> None:
        with self._opened("r+b") as memory:
            memory.seek(address - self._base)
            memory.write(data)

    def _opened(self, mode: Literal["rb", "r+b"]) -> BinaryIO:
        if self._file is None:
            raise LabError("the manifest wants data by the guest's memory, and this guest does not share it")
        return self._file.open(mode)


def filled(words: Words, address: int, data: bytes) -> Iterator[str]:
    """Lines of commands that put the data into memory word by word; a rest shorter than a word is padded with zeros."""
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


def _check_names(manifest: DriverManifest) -> None:
    """UsageError for a name in braces that stands for nothing, or a command that cannot be formatted."""
    for action, words in manifest.actions.items():
        known = ALWAYS | ARGUMENTS.get(action, frozenset()) | manifest.variables.keys()
        commands = (words.command,) if isinstance(words.command, str) else words.command
        _check_braces(manifest, f"actions.{action}.command", commands, known)
        _check_braces(manifest, f"actions.{action}.fill", (words.fill,), {"address", "word"})


def _check_braces(manifest: DriverManifest, key: str, commands: tuple[str, ...], known: frozenset[str] | set[str]) -> None:
    for command in commands:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(command) if name is not None]
        except ValueError as error:
            raise UsageError(f"{manifest.path}: {key}: {command!r}: {error} (a brace itself is written twice)") from error
        for name in names:
            if name not in known:
                raise UsageError(f"{manifest.path}: {key}: there is no {{{name}}}{nearest(name, known)}")


def _file(manifest: DriverManifest, toolchain: Toolchain, key: str, name: str) -> Path:
    """``{name}`` is a firmware of the toolchain, all else a path."""
    match = _TOOLCHAIN.fullmatch(name)
    if match is None:
        return own_file(manifest, key, name)
    if match[1] not in toolchain.firmware:
        if match[1] in manifest.needs:
            raise LabError(f"the firmware {match[1]} was not prepared", remedy="run nvme-lab fetch")
        raise UsageError(f"{manifest.path}: {key}: {name} is no firmware of the toolchain", remedy=f"add {match[1]!r} to needs")
    return toolchain.firmware[match[1]]
