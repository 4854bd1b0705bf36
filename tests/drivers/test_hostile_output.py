"""Whatever a guest prints, its answer is read in bounded time, and is an answer or an error of the lab with a reason."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.data import patterns
from lab.data.manifest import ActionSyntax, DriverManifest, parse
from lab.drivers import reading, shape
from lab.drivers.prompt import _of_object
from lab.drivers.registry import find, shipped
from lab.errors import LabError, UsageError

DEEP = '{"a":' * 2_000
PIECES = (
    "=> ", "\n", "\r", " ", "\t", "0x", "9" * 5000, "f" * 5000, "-1", "zz", "00000000: ", "ff ", "de ad", "Device 0: ", ": ",
    "Vendor: 0x1b36 Rev: 8.0.0 Prod: x", "Capacity: 1 (9 x 9)", "ERROR", "ERROR: status = ", "blocks read: OK", "nvme#0",
    "\x00", "\x1b[31m", "\ud7ff", "😀", '{"status": ', '"data": "zz"}', "null", "[]", DEEP, "}", " nvme  0  [ + ]", "#",
    "-- nvme#0.blk#1",
)  # fmt: skip
SECOND = 1.0


def syntaxes() -> Iterator[tuple[str, str, ActionSyntax]]:
    for name in shipped():
        for action, words in find(name).actions.items():
            yield name, action, words


def hostile(chance: random.Random) -> str:
    return "".join(chance.choice(PIECES) * chance.choice((1, 1, 1, 2, 30)) for _ in range(chance.randrange(40)))


def read(words: ActionSyntax, output: str) -> None:
    reading.status(words, output)
    reading.fields(words, output)
    reading.dumped("u-boot", output)
    reading.dumped("xxd", output)
    _of_object(output)
    reading.without_echo(output, "nvme read 2000000 0 8")


def fuzz(seed: int, outputs: int) -> float:
    """Read so many outputs with every action of the shipped manifests; return the most processor time for one."""
    chance, slowest = random.Random(seed), 0.0
    known = [words for _, _, words in syntaxes()]
    for _ in range(outputs):
        output = hostile(chance)
        began = time.thread_time()
        read(chance.choice(known), output)
        slowest = max(slowest, time.thread_time() - began)
    return slowest


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_of_a_guest(seed: int) -> None:
    assert fuzz(seed, 100) < SECOND


@pytest.mark.soak
def test_a_hundred_thousand_outputs() -> None:
    slowest = fuzz(99, 100_000)
    print(f"100000 outputs of a hostile guest: the slowest took {slowest * 1000:.0f} ms of processor time")
    assert slowest < SECOND


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ({"error": r"status = (?P<status>\w+)"}, "status = " + "9" * 5000),
        ({"error": r"(?P<sc>\w+) (?P<sct>\w+)"}, "x y"),
        ({"pattern": r"n=(?P<nsid>\d+)", "bases": {"nsid": 2}}, "n=789"),
    ],
)
def test_a_number_that_is_none_stays_text(words: dict[str, object], output: str) -> None:
    syntax = ActionSyntax.model_validate(words)
    if reading.status(syntax, output) == "success":
        assert reading.fields(syntax, output) == {"nsid": "789"}
    else:
        assert reading.status(syntax, output) == {"words": output}


@pytest.mark.parametrize(
    "output", ['{"a":' * 100_000 + "}", '{"data": 7}', '{"status": [1], "data": "zz"}', '{"status": 5}', "{}" * 9]
)
def test_an_object_that_is_no_answer_is_told_in_words(output: str) -> None:
    assert next(iter(_of_object(output).status)) == "words"


def test_a_pattern_that_does_not_end_is_the_labs_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    words = ActionSyntax(command="x", success="(x+x+)+y")
    with pytest.raises(LabError, match=r"pattern '\(x\+x\+\)\+y'"):
        reading.status(words, "x" * 5000)


def serial(command: str) -> DriverManifest:
    boot = {"kernel": "k", "ready": "> "}
    given = {"name": "x", "adapter": "generic-serial", "boot": boot, "actions": {"read": {"command": command}}}
    return parse(given, Path("x.toml"), ["generic-serial"])


@pytest.mark.parametrize(
    "command", ["read {lba:>99999999999}", "read {lba:{blocks}}", "read {lba:zz}", "read {lba!x}", "read {}"]
)
def test_a_format_that_does_not_work_or_fills_the_memory_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match=r"x\.toml: actions\.read\.command: "):
        shape.check(serial(command))


@pytest.mark.parametrize("command", ["read {lba:x} {blocks:#06x}", "read {lba:>20}", "read {lba!r:>8}"])
def test_formats_that_work_are_taken(command: str) -> None:
    shape.check(serial(command))
