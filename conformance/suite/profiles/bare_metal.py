"""Profile bare-metal: a driver on a real machine, where nobody sees the wire.

Two witnesses are left: what the machine says, and what its disk holds. The disk is read by the driver itself, or past it
(``inspect``: the lab, by SSH or from the image of an emulated device). Where there is a wire too, a driver that only talks
is not believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.record.disk import Disk, replay, show
from conformance.record.record import Asked, Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import INTEGRITY, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.plan import Action
from lab.nvme.commands import Write

BLOCKS = 8
"""Of most writes."""
LONG = 17
"""Blocks of the longest: more than two pages. Bytes that are typed on a serial line take their time."""
AROUND = 4
"""Blocks on each side of a write whose content is known before it."""
HIGHEST = 900
"""No LBA is above 1024: so many blocks of a real disk are given to scenarios (docs/bare-metal.md)."""


def _blocks(lba: int, blocks: int = BLOCKS) -> dict[str, Any]:
    return {"nsid": 1, "lba": lba, "blocks": blocks}


def _write(draw: Draw, lba: int, blocks: int = BLOCKS) -> Action:
    return do("write", **_blocks(lba, blocks), fill=draw.fill())


@scenario("bare-metal/ready", "the machine is started, says that its controller is ready, and is asked")
def ready(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("ready"), do("list"), do("read", **_blocks(draw.between(0, HIGHEST), 1))])


@scenario("bare-metal/data", "writes of several lengths are read back, by the driver and past it")
def data_scenario(draw: Draw) -> Plan:
    first = draw.between(0, HIGHEST - 64)
    parts = [(first, 1), (first + 8, BLOCKS), (first + 32, LONG)]
    writes = [_write(draw, lba, blocks) for lba, blocks in parts]
    reads = [do(how, **_blocks(lba, blocks)) for how in ("read", "inspect") for lba, blocks in parts]
    return Plan(draw.device(), [LOAD, *writes, do("flush", nsid=1), *reads])


@scenario("bare-metal/beside", "a few blocks are written in the midst of others that are known")
def beside_scenario(draw: Draw) -> Plan:
    lba = draw.between(0, HIGHEST - 64)
    whole = _blocks(lba, AROUND + BLOCKS + AROUND)
    before = do("write", **whole, fill=draw.fill())
    actions = [before, _write(draw, lba + AROUND), do("flush", nsid=1), do("read", **whole), do("inspect", **whole)]
    return Plan(draw.device(), [LOAD, *actions])


@scenario("bare-metal/restart", "the machine is switched off and on after a flush")
def restart(draw: Draw) -> Plan:
    lba = draw.between(0, HIGHEST)
    kept = [_write(draw, lba), do("flush", nsid=1), do("cut-power"), do("unload")]
    return Plan(draw.device(), [LOAD, *kept, LOAD, do("ready"), do("read", **_blocks(lba))])


@check("bare-metal/says-ready", cite=PRACTICE, level=MANDATORY, why="practice", witnesses=["out"],
       scenarios=["bare-metal/ready", "bare-metal/restart"])  # fmt: skip
def says_ready(record: Record) -> Iterator[Finding]:
    """Says that the controller is ready, in time, each time that it is started."""
    for asked in record.answers("load", "ready"):
        told = asked.ok and (asked.action == "load" or asked.answer.get("ready") is True)
        yield Finding(
            told, asked.ended, "a controller that is ready", asked.said if not asked.ok else "ready" if told else "not"
        )


@check("bare-metal/is-ready", cite=PRACTICE, level=MANDATORY, why="integrity", witnesses=["out"], needs=["read"],
       scenarios=["bare-metal/ready", "bare-metal/data", "bare-metal/beside", "bare-metal/restart"])  # fmt: skip
def is_ready(record: Record) -> Iterator[Finding]:
    """Serves the first command that it is asked for once it has said that the controller is ready."""
    said = False
    for asked in record.answers("load", "read", "write"):
        if asked.action == "load":
            said = asked.ok
        elif said:
            yield Finding(asked.ok, asked.ended, f"a {asked.action} that succeeds", asked.said)
            said = False


def _known_reads(record: Record, *actions: str) -> Iterator[tuple[Asked, Disk, bytes]]:
    """Yield the reads that succeeded of blocks whose content is known, with the disk before them, and that content."""
    for asked, disk in replay(record):
        if asked.action in actions and asked.ok:
            expected = disk.expect_range(int(asked.arguments["lba"]), int(asked.arguments["blocks"]))
            if expected is not None:
                yield asked, disk, expected


def _compare(asked: Asked, disk: Disk, expected: bytes, blocks: range) -> Finding:
    """Compare some blocks of a read, counted from its first one; name the first that differs."""
    size, found = disk.namespace.block_size, asked.data or b""
    first = int(asked.arguments["lba"])
    for block in blocks:
        wanted, came = (data[block * size : (block + 1) * size] for data in (expected, found))
        if wanted != came:
            return Finding(False, asked.ended, f"LBA {first + block}: {show(wanted)}", show(came) or "no data")
    return Finding(True, asked.ended, f"the content of {len(blocks)} blocks", "the same")


@check("bare-metal/data", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out"], needs=["read", "write"],
       scenarios=["bare-metal/data"])  # fmt: skip
def data(record: Record) -> Iterator[Finding]:
    """Returns the bytes that it was given for the blocks, of every length."""
    for asked, disk, expected in _known_reads(record, "read"):
        yield _compare(asked, disk, expected, range(int(asked.arguments["blocks"])))


@check("bare-metal/beside", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out"], needs=["read", "write"],
       scenarios=["bare-metal/beside"])  # fmt: skip
def beside(record: Record) -> Iterator[Finding]:
    """Leaves the blocks before and behind those that it writes as they are."""
    for asked, disk, expected in _known_reads(record, "read"):
        yield _compare(asked, disk, expected, range(AROUND))
        yield _compare(asked, disk, expected, range(AROUND + BLOCKS, int(asked.arguments["blocks"])))


@check("bare-metal/kept", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out"],
       needs=["read", "write", "flush"], scenarios=["bare-metal/restart"])  # fmt: skip
def kept(record: Record) -> Iterator[Finding]:
    """Returns what was written and flushed after the machine was switched off and on."""
    cut = min((asked.started.t for asked in record.answers("cut-power") if asked.ok), default=float("inf"))
    for asked, disk, expected in _known_reads(record, "read"):
        if asked.started.t > cut:
            yield _compare(asked, disk, expected, range(int(asked.arguments["blocks"])))


@check("bare-metal/stored", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["store"], needs=["write"],
       scenarios=["bare-metal/data", "bare-metal/beside"])  # fmt: skip
def stored(record: Record) -> Iterator[Finding]:
    """Has on the disk what it has written, as the disk is read past the driver."""
    sent = not record.has_wire or any(record.commands(Write))  # else it wrote by nothing that we know
    for asked, disk, expected in _known_reads(record, "inspect"):
        found = _compare(asked, disk, expected, range(int(asked.arguments["blocks"])))
        yield found if sent or not found.ok else Finding(False, asked.ended, "a Write that the device saw", "none")


@check("bare-metal/capacity", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out"], needs=["list"],
       scenarios=["bare-metal/ready"])  # fmt: skip
def capacity(record: Record) -> Iterator[Finding]:
    """Shows the namespace with the size of its blocks and their number."""
    for asked in record.answers("list") if record.controllers else ():
        for namespace in record.controllers[0].namespaces:
            shown = next((one for one in asked.all("namespaces") if one.get("nsid") == namespace.nsid), {})
            for field, value in (("blocks", namespace.blocks), ("block_size", namespace.block_size)):
                if field in shown or not shown:
                    wanted = f"namespace {namespace.nsid}: {field} {value}"
                    yield Finding(shown.get(field) == value, asked.ended, wanted, shown.get(field, "not listed"))
