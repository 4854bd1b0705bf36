"""Situations of any stage that go beyond the plain device: other kinds of devices, an earlier owner, combinations of faults.

Each scenario has a defect that fails in it and a legal neighbour that does not (`lab.defects`, `lab.variants`).
"""

from __future__ import annotations

from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.plan import Action

BLOCKS = 8
"""Of each small transfer."""


def _read(lba: int, blocks: int = BLOCKS, **more: int) -> Action:
    return do("read", nsid=1, lba=lba, blocks=blocks, **more)


def _write(draw: Draw, lba: int, blocks: int = BLOCKS) -> Action:
    return do("write", nsid=1, lba=lba, blocks=blocks, fill=draw.fill())


# -- kinds of devices -----------------------------------------------------------------------------------------------


@scenario("read/sgl-offered", "SGLs are offered: reads and writes of one page to many")
def sgl_offered(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    long = do("write", nsid=1, lba=lba, blocks=200, fill=draw.fill())
    return Plan(draw.device(sgl=True), [LOAD, _read(lba), _write(draw, lba), long, _read(lba, 200), _read(lba + 1, 3)])


@scenario("reset/subsystem", "a controller with NVM Subsystem Reset is reset between reads")
def subsystem(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    return Plan(draw.device(cap={"NSSRS": 1}), [LOAD, _read(lba), do("reset"), _read(lba), _write(draw, lba), _read(lba)])


@scenario("write/zeroes-long", "more blocks are zeroed than MDTS would let a Write move")
def zeroes_long(draw: Draw) -> Plan:
    lba = draw.between(1, 300)
    return Plan(draw.device(mdts=1), [LOAD, do("zeroes", nsid=1, lba=lba, blocks=64), _read(lba - 1, 66)])
