"""What a manifest of `generic-serial` makes of a console's text: each of its patterns and actions, without a guest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from lab.data import patterns
from lab.data.manifest import ActionSyntax, DriverManifest
from lab.drivers import reading
from lab.guest.console import plain

LONGEST = 160
"""Characters of a field's value that are shown."""


@dataclass(frozen=True)
class Outcome:
    """What came of one key; ``ok`` is None where this text shows nothing of it."""

    key: str
    text: str
    ok: bool | None = None


@dataclass(frozen=True)
class _Part:
    """What stands between two prompts: a line that was typed, and what came of it. The first part is the boot."""

    output: str
    is_boot: bool


def rehearse(manifest: DriverManifest, console: str) -> Iterator[Outcome]:
    """Yield what comes of each key of [boot] that is a pattern, and of each action."""
    text, boot = plain(console), manifest.boot
    if boot.dead:
        yield _sign("boot.dead", boot.dead, text, wanted=False)
    for shown, _ in boot.interrupts:
        yield _sign("boot.interrupt", shown, text, wanted=True)
    if boot.ready:
        yield _sign("boot.ready", boot.ready, text, wanted=True)
    parts = list(_parts(text, boot.ready))
    for name, words in manifest.actions.items():
        yield _action(f"actions.{name}", words, parts)


def _sign(key: str, pattern: str, text: str, *, wanted: bool) -> Outcome:
    found = patterns.pattern(pattern).find_all(text)
    if not found:
        return Outcome(key, f"{pattern!r} matches nothing", not wanted)
    line = text.count("\n", 0, found[0].start()) + 1
    shown = text.splitlines()[line - 1].strip()[:LONGEST]
    times = "once" if len(found) == 1 else f"{len(found)} times"
    return Outcome(key, f"matches {times}, first in line {line}: {shown!r}", wanted)


def _parts(text: str, ready: str) -> Iterator[_Part]:
    begin, is_boot = 0, True
    for match in patterns.pattern(ready).find_all(text) if ready else ():
        yield _Part(text[begin : match.start()], is_boot)
        begin, is_boot = match.end(), False
    if text[begin:].strip():
        yield _Part(text[begin:], is_boot)


def _action(key: str, words: ActionSyntax, parts: list[_Part]) -> Outcome:
    """Return what comes of an action: of the last time that its commands were typed, or of the boot where it has none."""
    if not words.commands:
        output = "".join(part.output for part in parts if part.is_boot)
    else:
        heads = [command.partition("{")[0].strip() for command in words.commands]
        typed = [max((n for n, part in enumerate(parts) if _begins(part, head)), default=-1) for head in heads]
        if -1 in typed:
            return Outcome(key, f"{words.commands[typed.index(-1)]!r} is not typed in this text")
        output = "".join(parts[number].output.partition("\n")[2] for number in typed)
    status = reading.status(words, output)
    if status != "success":
        said = f"a failure: {json.dumps(status, ensure_ascii=False)}"
        return Outcome(key, said, ok=False)
    if words.answer == "json":
        fields = reading.printed_object(output)
        return Outcome(key, "success; no JSON object is printed" if fields is None else _shown(fields), fields is not None)
    if words.hexdump:
        data = reading.dumped(words.hexdump, output)
        return Outcome(key, f"success; {len(data)} bytes in its hex dump", bool(data))
    fields = reading.fields(words, output)
    wants = bool(words.pattern or words.patterns or words.lists or words.flags)
    if wants and not fields:
        return Outcome(key, "success, and none of its fields is found", ok=False)
    if empty := [name for name in words.lists if not fields.get(name)]:
        return Outcome(key, f"success, and nothing is listed as {', '.join(empty)}", ok=False)
    return Outcome(key, _shown(fields), ok=True)


def _begins(part: _Part, head: str) -> bool:
    return not part.is_boot and bool(head) and part.output.lstrip().startswith(head)


def _shown(fields: dict[str, object]) -> str:
    if not fields:
        return "success"
    shown = (f"{name}: {json.dumps(value, ensure_ascii=False, default=str)[:LONGEST]}" for name, value in fields.items())
    return f"success; {'; '.join(shown)}"
