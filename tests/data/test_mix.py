"""The mixed load as data: what its lanes do, and what a driver gets of it."""

from __future__ import annotations

import zlib
from itertools import combinations

import pytest

from lab.data import content
from lab.data.mix import SLOTS, Mix, spelled_out
from lab.data.plan import Namespace

MIX = Mix(nsid=1, lba=100, blocks=8, jobs=2, depth=3, operations=100, seed=7)
NAMESPACE = Namespace(blocks=4096)


def test_lanes_share_out_all_operations() -> None:
    lanes = MIX.lanes()
    assert len(lanes) == 6
    assert [lane.job for lane in lanes] == [0, 0, 0, 1, 1, 1]
    assert sum(len(lane.steps) for lane in lanes) == 100
    assert max(len(lane.steps) for lane in lanes) - min(len(lane.steps) for lane in lanes) <= 1


def test_no_two_lanes_touch_the_same_block_and_each_job_stays_in_its_region() -> None:
    touched = [{step.lba + n for step in lane.steps for n in range(MIX.blocks)} for lane in MIX.lanes()]
    assert all(not one & other for one, other in combinations(touched, 2))
    for lane, blocks in zip(MIX.lanes(), touched, strict=True):
        assert blocks <= set(MIX.region(lane.job))
        assert len(blocks) == SLOTS * MIX.blocks


def test_a_lane_reads_what_it_wrote_last() -> None:
    for lane in MIX.lanes():
        held: dict[int, int] = {}
        assert {step.write for step in lane.steps} == {True, False}
        for step in lane.steps:
            if step.write:
                held[step.lba] = step.fill
            assert held[step.lba] == step.fill
        assert all((range(lba, lba + MIX.blocks), fill) in MIX.final() for lba, fill in held.items())


def test_another_seed_is_another_load() -> None:
    assert MIX.lanes() == Mix.of({**vars(MIX), "more": "ignored"}).lanes()
    assert MIX.lanes() != Mix.of({**vars(MIX), "seed": 8}).lanes()


def test_a_driver_gets_bytes_to_write_and_checksums_to_expect() -> None:
    request, data = spelled_out(MIX, NAMESPACE)
    length, at = MIX.blocks * NAMESPACE.block_size, 0
    for lane, plan in zip(request["lanes"], MIX.lanes(), strict=True):
        for (lba, crc), step in zip(lane["steps"], plan.steps, strict=True):
            held = content.blocks(step.fill, 1, step.lba, MIX.blocks, NAMESPACE.block_size)
            assert lba == step.lba
            if step.write:
                assert crc is None
                assert data[at : at + length] == held
                at += length
            else:
                assert crc == zlib.crc32(held)
    assert at == len(data)
    assert request["regions"] == [[100, 48], [148, 48]]


@pytest.mark.parametrize("missing", ["seed", "jobs"])
def test_an_argument_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        Mix.of({name: value for name, value in vars(MIX).items() if name != missing})
