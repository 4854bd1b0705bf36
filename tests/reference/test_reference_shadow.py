"""Shadow doorbells in the reference driver, and a driver that is watched in its own memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from lab.controller.in_process import InProcess
from lab.data.events import (
    MEMORY_WATCHED,
    Barrier,
    Doorbell,
    Event,
    Interrupt,
    MemoryRead,
    MemoryWrite,
    Remark,
    ShadowDoorbell,
    Submitted,
)
from lab.data.mix import Mix, spelled_out
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.data.stream import read_stream
from lab.drivers.reference_in_process import FEW, Host, InProcessTransport
from lab.nvme.commands import DoorbellBufferConfig
from lab.reference.settings import Settings
from lab.reference.shadow_doorbells import INDEXES, passes

if TYPE_CHECKING:
    from tests.reference.conftest import Make, Rig

VALUES = st.integers(0, INDEXES - 1)
SLOW = (
    Fault(name="read", behaviour="delay", queue="io", opcode=2, arguments={"ms": 2}),
    Fault(name="write", behaviour="delay", queue="io", opcode=1, arguments={"ms": 3}),
)


@given(VALUES, VALUES, st.integers(0, INDEXES - 1))
def test_the_doorbell_is_wanted_for_what_leads_beyond_the_index(index: int, old: int, steps: int) -> None:
    """In other words: the index is one of the values that are left behind on the way."""
    new = (old + steps) % INDEXES
    assert passes(index, old, new) == ((index - old) % INDEXES < steps)


@given(st.integers(2, 5000), st.data())
def test_the_specifications_example_agrees_for_rings_of_any_size(entries: int, data: st.DataObject) -> None:
    """Base 2.0, B.5.2; where the index is the new value itself the example rings for nothing."""
    index, old, new = (data.draw(st.integers(0, entries - 1)) for _ in range(3))
    example = (new - index) % entries <= (new - old) % entries
    assert passes(index, old, new) == (example and index != new)


def load(rig: Rig) -> None:
    """Write and read on two queues, four at a time on each."""
    mix = Mix(nsid=1, lba=8, blocks=8, jobs=2, depth=4, operations=160, seed=1)
    reported, data = spelled_out(mix, rig.device.device.spec.controllers[0].namespaces[0])
    done = rig.ask("load-mix", data, nsid=1, blocks=mix.blocks, **reported).fields
    assert (done["operations"], done["errors"], done["mismatches"]) == (160, 0, 0)


def test_with_them_data_arrives_through_wraps_and_a_reset(make: Make) -> None:
    rig = make(*SLOW, shadow_doorbells=True, cap={"MQES": 7}, mdts=1)
    rig.load()
    load(rig)
    assert rig.ask("reset").status == "success"
    load(rig)
    events = rig.events()
    assert len([e for e in events if isinstance(e, Submitted) and isinstance(e.command, DoorbellBufferConfig)]) == 2
    assert not [e for e in events if isinstance(e, Remark)]
    reported = [e for e in events if isinstance(e, ShadowDoorbell)]
    rung = [e for e in events if isinstance(e, Doorbell) and e.qid > 0]
    assert 0 < 2 * len(rung) < len(reported), "most need no doorbell"


def test_without_them_nothing_is_asked_for(make: Make) -> None:
    rig = make()
    rig.load()
    assert not [e for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, DoorbellBufferConfig)]


def test_where_they_are_refused_doorbells_do(make: Make) -> None:
    rig = make(Fault(name="no", behaviour="status", opcode=0x7C, arguments={"sc": 2, "dnr": 1}), shadow_doorbells=True)
    assert rig.load().registers.shadows is None
    load(rig)
    assert rig.broken_rules() == set()


def test_a_driver_that_stops_before_has_none(make: Make) -> None:
    rig = make(shadow_doorbells=True)
    assert rig.ask("load", until="reset").status == "success"
    assert rig.service.controllers[0].registers.shadows is None
    assert rig.ask("read", nsid=1, lba=0, blocks=1).status == "success"


# -- watched --------------------------------------------------------------------------------------------------------


def transport(folder: Path, *, watched: bool) -> tuple[InProcess, InProcessTransport]:
    host = Host()
    spec = DeviceSpec(controllers=(Controller(serial="S", namespaces=(Namespace(blocks=64),)),))
    device = InProcess(spec, folder, records=folder, memory=host.memory)
    return device, InProcessTransport(host, device, device.function, watched=watched)


def recorded(device: InProcess, folder: Path) -> list[Event]:
    device.close()
    return list(read_stream(folder / "nv0.rec", complete=True))


def test_every_access_to_dma_memory_is_recorded_where_it_is_wanted(tmp_path: Path) -> None:
    device, watched = transport(tmp_path, watched=True)
    memory = watched.allocate(3 * 4096, 4096)
    memory.write(4090, bytes(range(10)))
    watched.publish()
    assert memory.read(8190, 4) == bytes(4)
    memory.write(0, bytes(FEW + 1))
    seen = [e for e in recorded(device, tmp_path) if isinstance(e, MemoryRead | MemoryWrite | Barrier | Remark)]
    first, second, third = memory.pages
    assert isinstance(seen[0], Remark)
    assert seen[0].name == MEMORY_WATCHED
    accesses = [(type(e), e.address, e.length, e.raw) for e in seen if isinstance(e, MemoryRead | MemoryWrite)]
    assert accesses == [
        (MemoryWrite, first + 4090, 6, bytes(range(6))), (MemoryWrite, second, 4, bytes(range(6, 10))),
        (MemoryRead, second + 4094, 2, bytes(2)), (MemoryRead, third, 2, bytes(2)),
        (MemoryWrite, first, FEW + 1, b""),
    ]  # fmt: skip
    assert isinstance(seen[3], Barrier), "in the order in which it happened"


def test_nothing_of_it_is_recorded_where_it_is_not(tmp_path: Path) -> None:
    device, plain = transport(tmp_path, watched=False)
    memory = plain.allocate(4096, 4096)
    memory.write(0, memory.read(0, 16))
    plain.publish()
    assert not [e for e in recorded(device, tmp_path) if isinstance(e, MemoryRead | MemoryWrite | Barrier | Remark)]


def test_an_interrupt_before_its_handler_is_lost_and_remarked(tmp_path: Path) -> None:
    device, plain = transport(tmp_path, watched=False)
    plain.open_vectors(1)
    for vector in (0, 1):
        device.function.controller.interrupts.raise_vector(vector)
    assert plain.wait(0, 0.1)
    assert not plain.wait(1, 0.1)
    plain.open_vectors(2)
    assert not plain.wait(1, 0.1)
    device.function.controller.interrupts.raise_vector(1)
    assert plain.wait(1, 0.1)
    events = recorded(device, tmp_path)
    assert [e.vector for e in events if isinstance(e, Interrupt)] == [0, 1, 1]
    (lost,) = [e for e in events if isinstance(e, Remark)]
    assert (lost.name, lost.detail) == ("interrupt-unhandled", {"how": "msix", "vector": 1})


def test_a_polling_driver_misses_no_completion(make: Make) -> None:
    """A polling driver has no handlers, and nothing is remarked of the INTx that it has switched off."""
    rig = make(settings=Settings(io_queues=1, polling=True))
    rig.load()
    assert rig.broken_rules() == set()
