"""The model of the disks: which namespace an action means, and what must be on it."""

from __future__ import annotations

from pathlib import Path

from conformance.disk import final_disks, replay
from conformance.record import Record
from lab import content
from lab.events import ActionEnded, ActionStarted
from lab.evidence import Evidence, EvidenceWriter
from lab.plan import Action, Controller, DeviceSpec, Namespace, Scenario


def recorded(folder: Path, shared: bool) -> Record:
    """Two controllers with a namespace 1 each, or one that they share; the second one's is written last."""
    namespace = Namespace(blocks=64, shared=shared)
    both = tuple(Controller(id=id, serial=id, namespaces=(namespace,)) for id in ("nv0", "nv1"))
    writes = [Action("write", {"nsid": 1, "lba": 5, "blocks": 1, "fill": n, "controller": f"nv{n}"}) for n in (0, 1)]
    given = Scenario(id="a/b", stage="write", title="", seed=1, device=DeviceSpec(controllers=both), actions=tuple(writes))
    writer = EvidenceWriter(folder, {"device": "lab", "scenario": given.to_json()})
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
