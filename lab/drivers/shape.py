"""What `generic-serial` can make of a manifest: how its guest is booted, read and typed at, and what contradicts itself there.

Every mistake is a UsageError that names the file, the key and the remedy, before anything starts.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from lab.architectures import ARCHITECTURES
from lab.data.manifest import DriverManifest
from lab.drivers.arithmetic import names_in
from lab.errors import UsageError, nearest
from lab.guest.arguments import OUTPUTS
from lab.guest.keyboard import KEYS

ALWAYS = frozenset({"address"})
"""Names in braces that every command may hold: where buffers may lie (limits.address) plus the action's ``offset``."""
OF_A_NAMESPACE = frozenset({"nsid", "index", "block_size"})
"""With an ``nsid``: itself, its place among the attached namespaces from 0, and its block size in bytes."""
OF_BLOCKS = OF_A_NAMESPACE | {"lba", "blocks", "bytes", "offset"}
ARGUMENTS: Mapping[str, frozenset[str]] = {
    "load": frozenset({"until"}),
    "noop": OF_A_NAMESPACE, "flush": OF_A_NAMESPACE, "format": OF_A_NAMESPACE | {"format"},
    "mount": OF_A_NAMESPACE | {"file", "filesystem"},
    "read": OF_BLOCKS | {"polled", "parts"}, "write": OF_BLOCKS | {"fua", "parts"}, "zeroes": OF_BLOCKS, "trim": OF_BLOCKS,
    "clear": OF_BLOCKS,
    "write-bytes": OF_A_NAMESPACE | {"lba", "at", "length"},
    "raw": frozenset({"queue", "opcode", "nsid"}),
    "load-ring": OF_A_NAMESPACE | {"lba", "blocks", "operations", "scheduler", "first_ms", "step_ms"},
    "load-mix": frozenset({"nsid", "lba", "blocks", "jobs", "depth", "operations", "seed", "gathered"}),
    "load-fio": OF_A_NAMESPACE | {"blocks", "depth", "operations"},
    "get-feature": frozenset({"feature"}), "set-feature": frozenset({"feature", "value", "save"}),
    "smart": frozenset({"errors"}), "shutdown": frozenset({"halt"}), "suspend": frozenset({"state"}),
    "host-memory": frozenset({"lent"}),
    "submit": frozenset({"nsid", "lba", "blocks", "each", "pairs"}), "save": frozenset({"during"}),
    "zones": OF_A_NAMESPACE, "zone": OF_A_NAMESPACE | {"lba", "operation"}, "zone-append": OF_A_NAMESPACE | {"lba", "blocks"},
}  # fmt: skip
"""What the braces in an action's commands may hold beyond that."""
OPTIONAL: Mapping[str, Any] = {
    "until": "", "offset": 0, "nsid": 0, "fua": 0, "save": 0, "errors": 0, "pairs": 0, "during": "",
    "first_ms": 0, "step_ms": 0, "halt": 0, "state": "", "polled": 0, "parts": 0, "gathered": 0,
}  # fmt: skip
"""Arguments that a scenario may leave out, and what they are then."""
ANSWERABLE_UNASKED = frozenset({"load", "info", "ready", "identify", "list", "queues"})
"""Actions without arguments of their own, whose answer a guest can print before it is asked."""
WIDEST = 128
"""Characters of a formatted value."""
SOURCES = ("kernel", "disk", "iso", "floppy")
SIGNS = ("ready", "ready_screen", "quiet", "after")
"""Keys of [boot] of which any one says when the guest is ready."""
OF_A_PC: Mapping[str, tuple[Any, ...]] = {
    "floppy": ("",), "screen": (False,), "output": ("serial",), "input": ("serial", "none"), "exit_success": (None,),
}  # fmt: skip
"""Keys of [boot] that need devices of a PC, and their values that do not."""


class Mistake(NamedTuple):
    """A key that does not fit the others, and why."""

    key: str
    what: str
    remedy: str = ""


def boots_at_load(manifest: DriverManifest) -> bool:
    """Return whether the driver comes up with its guest, which is then started by ``load`` and not before."""
    words = manifest.actions.get("load")
    return words is None or not words.commands


def heard(manifest: DriverManifest) -> tuple[str, ...]:
    """Return the outputs that are recorded beside the one that the manifest names: all that a PC has."""
    boot = manifest.boot
    if not ARCHITECTURES[boot.arch].is_pc or boot.firmware_driver:
        return ()
    return tuple(output for output in OUTPUTS if output != console(manifest))


def console(manifest: DriverManifest) -> Literal["serial", "serial2", "debug-console"]:
    """Return the output that is waited at, or recorded first where the answers come from elsewhere."""
    output = manifest.boot.output
    return "serial" if output == "exit-code" or output == "screen" else output  # mypy narrows so


def check(manifest: DriverManifest) -> None:
    """Raise UsageError for the first mistake."""
    for mistake in (*_heard_and_typed_at(manifest), *words(manifest), *_booted(manifest), *_asked(manifest)):
        raise UsageError(f"{manifest.path}: {mistake.key}: {mistake.what}", remedy=mistake.remedy)


def _heard_and_typed_at(manifest: DriverManifest) -> Iterator[Mistake]:
    boot = manifest.boot
    silent, deaf = boot.output == "exit-code", boot.input == "none"
    has_sign = any(getattr(boot, key) for key in SIGNS)
    if boot.output == "screen" and boot.input == "serial":
        yield Mistake(
            "boot.input", "where answers are read from the screen, keys are typed on a keyboard",
            'set input = "keyboard" or "none"',
        )  # fmt: skip
    if boot.ready_screen and not (boot.screen or boot.output == "screen"):
        yield Mistake("boot.ready_screen", "the guest has no screen", "give boot.screen = true")
    if not boot.ready and not deaf and not silent:
        yield Mistake("boot.ready", "this key is required, it is how the lab knows the prompt")
    if not has_sign and boot.exit_success is None and not silent:
        yield Mistake(
            "boot.ready", "nothing says when the guest has done its work",
            "give the pattern of its last words here, or boot.ready_screen, boot.quiet (seconds without an access), "
            "boot.after (seconds), or the code that it ends with as boot.exit_success",
        )  # fmt: skip
    if silent and boot.exit_success is None:
        yield Mistake(
            "boot.exit_success", 'this key is required where boot.output is "exit-code"', "give the code that means success"
        )
    if silent and not deaf:
        yield Mistake(
            "boot.input",
            f"a guest that only gives an exit code cannot answer what is typed on its {boot.input}",
            'set input = "none"',
        )
    if boot.output == "debug-console" and boot.input == "serial":
        yield Mistake(
            "boot.input", "a debug console is no serial line: nothing can be typed there",
            'set input = "keyboard" or "none", or output = "serial"',
        )  # fmt: skip
    if deaf and boot.interrupts:
        yield Mistake("boot.interrupt", 'no key can be sent where boot.input is "none"', "remove this key, or give an input")


def _booted(manifest: DriverManifest) -> Iterator[Mistake]:
    boot = manifest.boot
    named = [key for key in SOURCES if getattr(boot, key)]
    if len(named) > 1:
        yield Mistake(f"boot.{named[1]}", f"the guest cannot be booted from {' and '.join(named)} at once", "keep one of them")
    if not named and not boot.firmware and not boot.nvme:
        yield Mistake("boot", "nothing says what is booted", f"give {', '.join(SOURCES)}, firmware or nvme")
    if boot.nvme and named:
        yield Mistake(
            "boot.nvme", f"the guest cannot be booted from {named[0]} and from its NVMe disk at once", "keep one of them"
        )
    if boot.nvme and not manifest.disk.contents:
        yield Mistake("disk.contents", "this key is required where the guest boots from its NVMe disk", "name its image")
    for key in ("initrd", "append"):
        if getattr(boot, key) and not boot.kernel:
            yield Mistake(f"boot.{key}", "only a kernel takes it", "give boot.kernel, or remove this key")
    place = ARCHITECTURES[boot.arch]
    if not place.is_pc and (boot.disk or boot.iso or boot.nvme) and not boot.firmware:
        yield Mistake(
            "boot.firmware", f"a guest of {boot.arch} has no firmware of its own that boots a disk",
            f'give firmware = "{{{place.edk2}}}" and needs = ["{place.edk2}"]',
        )  # fmt: skip
    for key, without in OF_A_PC.items() if not place.is_pc else ():
        if getattr(boot, key) not in without:
            yield Mistake(
                f"boot.{key}", f"it needs a PC, and the guest is {boot.arch}", "say it by boot.options, if QEMU can do it"
            )
    if boots_at_load(manifest) and manifest.stops:
        yield Mistake(
            "stops",
            "a driver that comes up with its guest cannot stop on the way",
            "remove this key, or give actions.load.command",
        )


def _asked(manifest: DriverManifest) -> Iterator[Mistake]:
    boot = manifest.boot
    for action, words in manifest.actions.items():
        key = f"actions.{action}.command"
        if words.commands and boot.input == "none":
            yield Mistake(
                key,
                'nothing can be typed where boot.input is "none"',
                "remove this key: the answer is read from what the boot prints",
            )
        if not words.commands and action not in ANSWERABLE_UNASKED:
            yield Mistake(key, "this key is required: the boot cannot have answered a question that was not asked yet")
        if boot.output == "exit-code" and action != "load":
            yield Mistake(f"actions.{action}", "an exit code answers nothing but load", "remove this table, or set an output")
        for character in "".join(words.commands) if boot.input == "keyboard" else "":
            if character not in KEYS:
                yield Mistake(key, f"a US keyboard has no {character!r}")


def words(manifest: DriverManifest) -> Iterator[Mistake]:
    """Return unknown names in braces, and commands that cannot be formatted."""
    for action, syntax in manifest.actions.items():
        known = ALWAYS | ARGUMENTS.get(action, frozenset()) | manifest.variables.keys()
        yield from braces(f"actions.{action}.command", syntax.commands, known)
        yield from braces(f"actions.{action}.fill", (syntax.fill,), {"address", "word"})


def braces(key: str, commands: tuple[str, ...], known: frozenset[str] | set[str]) -> Iterator[Mistake]:
    """Return what is wrong with the braces of commands that may hold these names."""
    for command in commands:
        try:
            fields = [field[1:] for field in string.Formatter().parse(command) if field[1] is not None]
            names = [names_in(f"{{{name}}}") for name, _, _ in fields]
            unknown = [word for found in names for word in found if word not in known]
        except ValueError as error:
            yield Mistake(key, f"{command!r}: {error} (a brace itself is written twice)")
            continue
        for word in unknown:
            yield Mistake(key, f"there is no {{{word}}}{nearest(word, known)}")
        for name, form, conversion in fields if not unknown else ():
            if not _formats(form or "", conversion or ""):
                yield Mistake(
                    key,
                    f"{command!r}: {{{name}}} cannot be formatted so",
                    remedy="write it like {lba:x}, {lba:#x} or {lba:8}",
                )


def _formats(form: str, conversion: str) -> bool:
    """Return whether a number or a text can be formatted so, in at most `WIDEST` characters."""
    if any(int(digits) > WIDEST for digits in re.findall(r"[0-9]{1,9}", form)) or conversion not in ("", "r", "s", "a"):
        return False
    for value in (0, ""):
        with suppress(ValueError):
            format(str(value) if conversion else value, form)
            return True
    return False
