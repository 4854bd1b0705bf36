"""Hand-overs from a driver to its successor while the controller goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from lab.data import content
from lab.data.plan import Fault, Namespace
from lab.nvme.commands import Read, Write
from lab.nvme.registers import CC
from lab.reference.document import FORMAT, ServicingError, seal, unseal
from lab.reference.errors import Refused
from lab.reference.settings import Settings
from tests.reference.conftest import Make, Rig

KEEP = Settings(io_queues=2, keep_alive=True, depth=16)
EACH = 8
BLOCKS = 1 << 12


def late(kind: type, ms: int) -> Fault:
    return Fault(name=f"late-{kind.__name__}", behaviour="delay", queue="io", opcode=kind.OPCODE, arguments={"ms": ms})  # type: ignore[attr-defined]


def ok(rig: Rig, action: str, data: bytes | None = None, **arguments: Any) -> Any:
    reply = rig.ask(action, data, **arguments)
    assert reply.status == "success", (action, reply)
    return reply


def saved(rig: Rig) -> dict[str, Any]:
    """Return the saved document of a loaded driver as data."""
    ok(rig, "save")
    document: dict[str, Any] = json.loads(rig.service.saved[0][0])
    return document


def put_back(rig: Rig, document: dict[str, Any], **changes: Any) -> None:
    """Replace the saved document by a changed one whose digest is right."""
    state = {key: value for key, value in document.items() if key not in ("format", "version", "digest")}
    rig.service.saved[0] = (seal({**state, **changes}), rig.service.saved[0][1])


def random_hand_overs(rig: Rig, count: int, seed: int) -> None:
    """Hand the driver over again and again under a random load, and compare every byte."""
    draw = random.Random(seed)
    rig.load()
    held: dict[int, bytes] = {}  # what each slot of EACH blocks must hold
    expected: list[bytes] = []  # of reads and writes that are in flight, in order: what a read must return, b"" for a write
    busy: set[int] = set()
    for number in range(count):
        for _ in range(draw.randrange(6)):
            slot = draw.randrange(BLOCKS // EACH)
            if slot in busy:
                continue
            busy.add(slot)
            if draw.random() < 0.5:
                data = content.blocks(draw.getrandbits(32), 1, slot * EACH, EACH, 512)
                held[slot] = data
                expected.append(b"")
                ok(rig, "submit", data, nsid=1, lba=slot * EACH, blocks=EACH, each=EACH)
            else:
                expected.append(held.get(slot, bytes(EACH * 512)))
                ok(rig, "submit", nsid=1, lba=slot * EACH, blocks=EACH, each=EACH)
        rig.device.wait(draw.choice((0.0, 0.001, 0.02)))
        ok(rig, "save")
        for _ in range(draw.randrange(4)):
            rig.device.wait(draw.choice((0.001, 0.02)))
        ok(rig, "restore")
        if draw.random() < 0.3 or number == count - 1:
            reply = ok(rig, "collect")
            assert [one["status"] for one in reply.fields["operations"]] == ["success"] * len(expected)
            assert (reply.data or b"") == b"".join(expected)
            expected, busy = [], set()
    pool = rig.service.controllers[0].servicing.pool()
    assert pool.check() == []
    assert len(pool) == 6, "the rings of three queue pairs are all that is left"
    enabled = [event for event in rig.events() if getattr(event, "offset", -1) == CC.OFFSET and hasattr(event, "value")]
    assert sum(type(event).__name__ == "RegisterWrite" and bool(event.value & 1) for event in enabled) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_random_hand_overs_lose_and_double_nothing(make: Make, seed: int) -> None:
    random_hand_overs(make(late(Read, 3), late(Write, 7), namespaces=(Namespace(blocks=BLOCKS),), settings=KEEP), 10, seed)


@pytest.mark.soak
def test_a_thousand_random_hand_overs_lose_and_double_nothing(make: Make) -> None:
    random_hand_overs(make(late(Read, 3), late(Write, 7), namespaces=(Namespace(blocks=BLOCKS),), settings=KEEP), 1000, 77)


def test_the_same_state_is_saved_and_restored(make: Make) -> None:
    rig = make(settings=KEEP)
    rig.load()
    before = saved(rig)
    ok(rig, "restore")
    after = saved(rig)
    assert {key: value for key, value in before.items() if key != "digest"} == {
        key: value for key, value in after.items() if key != "digest"
    }
    ok(rig, "restore")


def test_a_controller_that_was_reset_meanwhile_is_not_taken_over(make: Make) -> None:
    rig = make(settings=KEEP)
    rig.load()
    ok(rig, "save")
    rig.device.function.write(CC.OFFSET, 4, 0)
    reply = rig.ask("restore")
    assert "the controller was reset meanwhile" in str(reply.status)
    assert "read" not in str(rig.ask("read", nsid=1, lba=0, blocks=1).data)


def test_memory_that_is_missing_is_noticed_before_anything_is_done(make: Make) -> None:
    rig = make(settings=KEEP)
    rig.load()
    document = saved(rig)
    document["queues"][0]["submission"]["tag"] = "dma-99"
    put_back(rig, document)
    assert "no allocation 'dma-99'" in str(rig.ask("restore").status)


def test_restore_without_save_is_refused(make: Make) -> None:
    rig = make(settings=KEEP)
    rig.load()
    assert "nothing was saved" in str(rig.ask("restore").status)


def test_without_keep_alive_the_controller_is_shut_down(make: Make) -> None:
    rig = make(late(Write, 7), settings=Settings(io_queues=2))
    rig.load()
    ok(rig, "submit", b"\x11" * 4096, nsid=1, lba=0, blocks=8, each=8)
    assert ok(rig, "save").fields == {"keep_alive": False}
    ok(rig, "restore")
    assert [one["status"] for one in ok(rig, "collect").fields["operations"]] == ["success"]
    assert ok(rig, "read", nsid=1, lba=0, blocks=8).data == b"\x11" * 4096


def damage(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {**state, key: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage("format", "other"), f"its format is not '{FORMAT}'"),
        (damage("version", 2), "the saved state has version 2, and this driver reads 1"),
        (damage("stage", "detect"), "damaged: its digest does not match"),
    ],
)
def test_a_document_that_is_not_ours_is_refused(make: Make, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    rig = make(settings=KEEP)
    rig.load()
    with pytest.raises(ServicingError, match=message):
        unseal(json.dumps(change(saved(rig))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("stage"), "stage is missing"),
        (lambda state: state.update(more=1), "more is not known"),
        (lambda state: state["queues"][0].update(qid="0"), r"queues\[0\].qid must be int, but is '0'"),
        (lambda state: state.update(queues={}), "queues must be a list"),
        (lambda state: state["registers"].pop("CC"), "registers.CC is missing"),
    ],
)
def test_a_state_that_does_not_fit_the_schema_names_the_key(
    make: Make, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rig = make(settings=KEEP)
    rig.load()
    state = {key: value for key, value in saved(rig).items() if key not in ("format", "version", "digest")}
    change(state)
    with pytest.raises(ServicingError, match=message):
        seal(state)


def test_no_json_is_no_state() -> None:
    with pytest.raises(ServicingError, match="no JSON"):
        unseal("{")


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(Refused, match="NVME_KEEP_ALIVE=true needs NVME_VFIO=true"):
        Settings(vfio=False, keep_alive=True)
