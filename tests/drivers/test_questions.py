"""What a question to a driver means before an adapter puts it into words: whether it can be asked, and its bytes."""

from __future__ import annotations

import pytest

from lab.data import content
from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.drivers.base import askable, write_payload

SPEC = DeviceSpec(controllers=(Controller(serial="x", namespaces=(Namespace(blocks=64), Namespace(nsid=2, blocks=64))),))
SCENARIO = Scenario(id="a/b", stage="write", title="", seed=1, device=SPEC, actions=())


@pytest.mark.parametrize(
    ("action", "stops", "can"),
    [
        (Action("load"), (), True),
        (Action("load", {"until": "detect"}), (), False),
        (Action("load", {"until": "detect"}), ("identify", "detect"), True),
        (Action("list", {"until": [1, 2]}), (), True),
        (Action("read"), (), False),
    ],
)
def test_a_driver_is_asked_what_it_can_do(action: Action, stops: tuple[str, ...], can: bool) -> None:
    assert askable(action, {"load", "list"}, stops) is can


def test_a_fill_stands_for_bytes() -> None:
    write = Action("write", {"nsid": 2, "lba": 5, "blocks": 3, "fill": 9})
    part = Action("write-bytes", {"nsid": 2, "lba": 5, "at": 100, "length": 1000, "fill": 9})
    whole = content.blocks(9, 2, 5, 3, 512)
    assert write_payload(SCENARIO, write) == whole
    assert write_payload(SCENARIO, part) == whole[100:1100]
    assert write_payload(SCENARIO, Action("read", {"nsid": 2, "lba": 5, "blocks": 3})) is None
