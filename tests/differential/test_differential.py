"""The programmable controller and QEMU's own device give the same answers, or the table says why not."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.controller import io
from lab.controller.fetched import CommandStatusError
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.differential.compare import Result, compare
from lab.differential.differences import DIFFERENCES
from lab.differential.sides import DATA, Pair, pair
from lab.nvme.commands import Compare, Copy, Read
from lab.nvme.ranges import CopyRange
from lab.nvme.status import Status
from lab.toolchain import Toolchain

SPEC = DeviceSpec(
    controllers=(
        Controller(
            serial="DIFF", mdts=3,
            namespaces=(
                Namespace(nsid=1, blocks=4096, areas=((0, 4096),)),
                Namespace(nsid=3, blocks=512, block_size=4096, areas=((0, 256),)),
            ),
        ),
    )
)  # fmt: skip
LISTED = {difference.id for difference in DIFFERENCES}
LEAST, MOST = 2000, 40000
"""Steps: so many at least, and so many at most until each listed difference has been met: `SEED` needs few."""
SEED = 2
SOAK_SECONDS = 600


@contextmanager
def both(toolchain: Toolchain) -> Iterator[Pair]:
    assert toolchain.qemu is not None
    with tempfile.TemporaryDirectory(prefix="differential-") as folder, pair(toolchain.qemu, SPEC, Path(folder), 5) as opened:
        yield opened


def judged(result: Result) -> None:
    shown = "\n".join(str(found) for found in result.unlisted[:10])
    assert not result.unlisted, f"{len(result.unlisted)} differences are not in the table:\n{shown}"
    assert LISTED == result.seen.keys(), "these no longer occur: take them out of the table"


def test_generated_commands_have_the_same_answers(toolchain: Toolchain) -> None:
    with both(toolchain) as opened:
        judged(compare(opened, SEED, lambda r: r.steps >= LEAST and (LISTED <= r.seen.keys() or r.steps >= MOST)))


@pytest.mark.soak
def test_generated_commands_for_a_long_time(toolchain: Toolchain) -> None:
    seed, end = time.time_ns(), time.monotonic() + SOAK_SECONDS
    print(f"seed {seed}")
    with both(toolchain) as opened:
        judged(compare(opened, seed, lambda r: time.monotonic() > end))


REFUSED: tuple[tuple[str, tuple[int, ...], dict[str, int], int, int | None], ...] = (
    ("the target passes the end", (7,), {"SDLBA": 4090}, Status.LBA_OUT_OF_RANGE, None),
    ("a source passes the end", (7,), {"SLBA": 4090}, Status.LBA_OUT_OF_RANGE, None),
    ("a range is too long", (129,), {}, Status.COMMAND_SIZE_LIMIT_EXCEEDED, None),
    ("all of it is too long", (100, 100), {}, Status.COMMAND_SIZE_LIMIT_EXCEEDED, None),
    # OCFS announces format 1h, which is for wide tags; QEMU finds that the namespace has none. The model has format 0h only.
    ("the other descriptor format", (7,), {"DESFMT": 1}, Status.INVALID_FIELD, Status.FORMAT_INVALID),
)


@pytest.mark.parametrize(("sizes", "fields", "ours", "theirs"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_copies(
    toolchain: Toolchain, sizes: tuple[int, ...], fields: dict[str, int], ours: int, theirs: int | None
) -> None:
    """One by one, since QEMU 11.1.3 can abort at a refused Copy: it accounts for a request that it has not begun."""
    source, others = fields.get("SLBA", 0), {name: value for name, value in fields.items() if name != "SLBA"}
    command = Copy.of(NSID=1, NR=len(sizes) - 1, PRP1=DATA, CID=1, **others)
    with both(toolchain) as opened:
        for host, expected in ((opened.model, ours), (opened.qemu, ours if theirs is None else theirs)):
            host.start()
            opened.write(DATA, b"".join(CopyRange.of(SLBA=source, NLB=size - 1) for size in sizes))
            (completion,) = host.do(1, [command], 1)
            assert completion.status == expected, host.side.name
        assert opened.images_differ() is None


def test_a_controller_that_answers_wrongly_is_found(toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail."""
    monkeypatch.setattr(io, "_readable", refuse)
    with both(toolchain) as opened:
        result = compare(opened, SEED, lambda r: r.steps >= 200)
    assert {found.kind for found in result.unlisted} == {"status"}
    assert {type(found.command) for found in result.unlisted} <= {Read, Compare, Copy}


def refuse(ns: object, lba: int, blocks: int) -> None:
    if blocks > 1:
        raise CommandStatusError(Status.READ_ERROR)


def test_every_difference_is_listed_once_and_in_full() -> None:
    assert len(LISTED) == len(DIFFERENCES)
    for difference in DIFFERENCES:
        assert difference.what
        assert difference.why
        assert difference.cite
        assert difference.right in ("model", "qemu", "both")
