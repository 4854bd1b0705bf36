"""The model of the disks: which namespace an action means, and what must be on it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from conformance.record.disk import Disk, differences, final_disks, replay
from conformance.record.record import Record
from lab.data import content
from lab.data.events import ActionEnded, ActionStarted
from lab.data.evidence import Evidence, EvidenceWriter
from lab.data.identity import DriverIdentity, Identity
from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario


def recorded(folder: Path, shared: bool) -> Record:
    """Two controllers with a namespace 1 each, or one that they share; the second one's is written last."""
    namespace = Namespace(blocks=64, shared=shared)
    both = tuple(Controller(id=id, serial=id, namespaces=(namespace,)) for id in ("nv0", "nv1"))
    writes = [Action("write", {"nsid": 1, "lba": 5, "blocks": 1, "fill": n, "controller": f"nv{n}"}) for n in (0, 1)]
    given = Scenario(id="a/b", stage="write", title="", seed=1, device=DeviceSpec(controllers=both), actions=tuple(writes))
    writer = EvidenceWriter(folder, Identity(driver=DriverIdentity(name="some"), device="lab", scenario=given.to_json()))
    for number, action in enumerate(writes):
        writer.record(ActionStarted(t=number, number=number, action=action.name, arguments=action.arguments))
        writer.record(ActionEnded(t=number, number=number, action=action.name, answer={"status": "success"}))
    writer.close("complete")
    return Record(Evidence(folder))


def test_private_namespaces_of_the_same_id_are_two_disks(tmp_path: Path) -> None:
    record = recorded(tmp_path / "e", shared=False)
    disks = final_disks(record)
    assert {key: disk.expect(5) for key, disk in disks.items()} == {
        ("nv0", 1): content.block(0, 1, 5, 512),
        ("nv1", 1): content.block(1, 1, 5, 512),
    }


def test_a_shared_namespace_is_one_disk(tmp_path: Path) -> None:
    record = recorded(tmp_path / "e", shared=True)
    assert {key: disk.expect(5) for key, disk in final_disks(record).items()} == {("nv0", 1): content.block(1, 1, 5, 512)}
    before = [disk.expect(5) for _, disk in replay(record)]
    assert before == [bytes(512), content.block(0, 1, 5, 512)]


Question = tuple[str, dict[str, Any]]
Ends = tuple[str, ...]


def after(folder: Path, *asked: Question, cached: bool = True) -> Disk:
    """Return a disk of two areas after actions that all succeeded."""
    record = recorded_of(folder, Namespace(blocks=64, areas=((0, 64),)), *asked, cached=cached)
    return final_disks(record)["nv0", 1]


def recorded_of(folder: Path, namespace: Namespace, *asked: Question, cached: bool = True, ends: Ends = ()) -> Record:
    """Return the record of actions that all succeeded; ``ends`` are the statuses of what was started and collected."""
    device = Controller(serial="x", namespaces=(namespace,), write_cache=cached)
    actions = tuple(Action(name, arguments) for name, arguments in asked)
    given = Scenario(id="a/b", stage="write", title="", seed=1, device=DeviceSpec(controllers=(device,)), actions=actions)
    writer = EvidenceWriter(folder, Identity(driver=DriverIdentity(name="some"), device="lab", scenario=given.to_json()))
    for number, action in enumerate(actions):
        writer.record(ActionStarted(t=number, number=number, action=action.name, arguments=action.arguments))
        collected = {"operations": [{"status": status} for status in ends]} if action.name == "collect" else {}
        writer.record(ActionEnded(t=number, number=number, action=action.name, answer={"status": "success", **collected}))
    writer.close("complete")
    return Record(Evidence(folder))


WRITE: Question = ("write", {"nsid": 1, "lba": 5, "blocks": 1, "fill": 7})
DURABLE: Question = ("write", {"nsid": 1, "lba": 5, "blocks": 1, "fill": 8, "fua": True})
FLUSH: Question = ("flush", {"nsid": 1})
CUT: Question = ("cut-power", {})


@pytest.mark.parametrize(
    ("asked", "cached", "fill"),
    [
        ([WRITE, CUT], True, None),
        ([WRITE, FLUSH, CUT], True, 7),
        ([FLUSH, WRITE, CUT], True, None),
        ([WRITE, DURABLE, CUT], True, 8),
        ([DURABLE, WRITE, CUT], True, None),
        ([WRITE, CUT], False, 7),
        ([WRITE, FLUSH, CUT, WRITE], True, 7),
    ],
    ids=["lost", "flushed", "too early", "fua", "after fua", "no cache", "anew"],
)
def test_what_was_not_flushed_may_be_lost_with_the_power(
    tmp_path: Path, asked: list[Question], cached: bool, fill: int | None
) -> None:
    disk = after(tmp_path / "e", *asked, cached=cached)
    assert disk.expect(5) == (None if fill is None else content.block(fill, 1, 5, 512))
    assert disk.expect(6) == content.initial(1, disk.namespace, 6)


def test_a_part_of_a_block_leaves_the_rest(tmp_path: Path) -> None:
    disk = after(tmp_path / "e", ("write-bytes", {"nsid": 1, "lba": 5, "at": 500, "length": 524, "fill": 7}))
    old = b"".join(content.initial(1, disk.namespace, lba) for lba in (5, 6))
    new = content.blocks(7, 1, 5, 2, 512)
    assert disk.expect_range(5, 2) == old[:500] + new[500:1024]
    assert disk.expect(7) == content.initial(1, disk.namespace, 7)


def test_blocks_that_are_cleared_hold_the_bytes_of_the_first_one(tmp_path: Path) -> None:
    disk = after(tmp_path / "e", ("clear", {"nsid": 1, "lba": 0, "blocks": 64, "fill": 7}))
    block = content.block(7, 1, 0, 512)
    assert disk.expect(63) == block
    assert disk.expect_range(0, 8) == block * 8, "the partition table in block 0 is overwritten too"


def test_a_part_of_unknown_data_is_unknown(tmp_path: Path) -> None:
    trimmed: Question = ("trim", {"nsid": 1, "lba": 5, "blocks": 1})
    disk = after(tmp_path / "e", trimmed, ("write-bytes", {"nsid": 1, "lba": 5, "at": 10, "length": 600, "fill": 7}))
    assert disk.expect(5) is None
    assert disk.expect(6) is not None


@pytest.mark.parametrize("action", ["trim", "zeroes"])
def test_four_billion_blocks_cost_no_more_than_one(tmp_path: Path, action: str) -> None:
    """Row 24 of the attacks: the judge once needed 190 bytes for each trimmed block."""
    namespace = Namespace(blocks=(1 << 32) + 8, areas=((0, 64),))
    disk = Disk(1, namespace)
    whole: Question = (action, {"nsid": 1, "lba": 0, "blocks": 1 << 32})
    actions = recorded_of(tmp_path / "e", namespace, whole, WRITE, FLUSH, CUT, whole, CUT, WRITE).asked
    tracemalloc.start()
    for asked in actions:
        disk.apply(asked)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 18
    assert disk.expect(5) == content.block(7, 1, 5, 512)
    assert disk.expect(6) is None
    assert disk.was_changed((1 << 32) - 1, 1)
    assert not disk.was_changed(1 << 32, 8)
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(namespace.blocks * 512)
        file.seek(9 << 30)
        file.write(b"x" * 512)
    assert [found.lba for found in differences(image, "nv0", disk)] == [5]


def test_differences_are_found_in_and_out_of_what_was_written(tmp_path: Path) -> None:
    namespace = Namespace(blocks=64, areas=((0, 8),))
    disk = Disk(1, namespace)
    zeroes: Question = ("zeroes", {"nsid": 1, "lba": 1, "blocks": 2})
    for asked in recorded_of(tmp_path / "e", namespace, WRITE, zeroes, ("trim", {"nsid": 1, "lba": 3, "blocks": 1})).asked:
        disk.apply(asked)
    image = tmp_path / "image"
    right = [disk.expect(lba) or b"?" * 512 for lba in range(64)]
    image.write_bytes(b"".join(right))
    assert list(differences(image, "nv0", disk)) == []
    wrong = {1: b"a", 3: b"b", 5: b"c", 7: b"d", 60: b"e"}
    image.write_bytes(b"".join(wrong[lba] * 512 if lba in wrong else right[lba] for lba in range(64)))
    assert [found.lba for found in differences(image, "nv0", disk)] == [1, 5, 7, 60]  # what 3 holds, nobody knows


@pytest.mark.parametrize(
    ("ends", "fill"), [(("success", "success"), 7), (("success", "it was lost"), None)], ids=["all", "not all"]
)
def test_writes_that_are_collected_later_are_known_then(tmp_path: Path, ends: Ends, fill: int | None) -> None:
    started: Question = ("submit", {"nsid": 1, "lba": 4, "blocks": 4, "each": 2, "fill": 7})
    record = recorded_of(tmp_path / "e", Namespace(blocks=64), started, ("collect", {}), ends=ends)
    disk = final_disks(record)["nv0", 1]
    assert disk.expect(5) == (None if fill is None else content.block(fill, 1, 5, 512))
    assert disk.expect(8) == bytes(512)


def test_writes_that_nobody_has_collected_are_unknown(tmp_path: Path) -> None:
    disk = after(tmp_path / "e", ("submit", {"nsid": 1, "lba": 4, "blocks": 4, "each": 2, "fill": 7}))
    assert disk.expect(5) is None


def test_nothing_is_known_of_a_disk_that_a_system_may_mount() -> None:
    mounted = Disk(1, Namespace(blocks=1 << 21, filesystem="gpt"))
    assert mounted.expect(0) is None
    assert mounted.expect_range(0, 8) is None
    assert not list(mounted.expected_ranges())
