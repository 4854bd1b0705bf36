"""The submission and completion rings: batches, zero copies, five schedulers, deadlines, errors, resets, statistics."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from lab.data.events import Doorbell, Submitted
from lab.data.plan import Fault
from lab.nvme.commands import CreateIoSq, Flush, LbaCommand, Read, Write
from lab.reference.errors import CommandFailed, CommandTimedOut, ControllerFailed, Refused
from lab.reference.io_ring import IoRing
from lab.reference.namespace import Namespace
from lab.reference.operation import LOW, PHYSICAL, URGENT, Operation
from lab.reference.settings import SCHEDULERS, Settings

if TYPE_CHECKING:
    from tests.reference.conftest import Make, Rig

BLOCKS = 1 << 15
"""Of the rig's namespace."""

READ, WRITE = Read.OPCODE, Write.OPCODE


def slow(milliseconds: int, **fields: int) -> Fault:
    return Fault(name=f"slow-{milliseconds}", behaviour="delay", queue="io", arguments={"ms": milliseconds}, **fields)  # type: ignore[arg-type]


def one_block(namespace: Namespace, lba: int, address: int, **fields: object) -> Operation:
    return Operation(Read, namespace, lba, 1, address, user_data=lba, **fields)  # type: ignore[arg-type]


def lba_of(event: Submitted) -> int:
    assert isinstance(event.command, LbaCommand)
    return event.command.SLBA


def allocated(controller: Any) -> dict[int, Any]:
    found: dict[int, Any] = controller.transport._allocated
    return found


def io_commands(rig: Rig) -> list[Submitted]:
    return [event for event in rig.events() if isinstance(event, Submitted) and event.sqid]


def test_a_batch_is_written_and_read_back_without_a_copy(make: Make) -> None:
    rig = make(settings=Settings(io_queues=1))
    controller = rig.load()
    namespace = controller.namespaces[1]
    with IoRing(controller) as ring:
        memory = ring.allocate(64 * 512)
        data = bytes(range(256)) * 64
        memory.write(0, data[: 32 * 512])
        for lba in range(32):
            ring.prepare(Operation(Write, namespace, lba, 1, memory.address + lba * 512 | PHYSICAL))
        assert ring.submit() == 32
        assert len(ring.wait(32)) == 32
        for lba in range(32):
            ring.prepare(Operation(Read, namespace, lba, 1, memory.address + (32 + lba) * 512 | PHYSICAL))
        assert all(result.error is None for result in ring.wait(32))
        assert memory.read(32 * 512, 32 * 512) == data[: 32 * 512]
        pages = range(memory.address, memory.address + len(memory))
    events = rig.events()
    prps = [event.command.PRP1 for event in events if isinstance(event, Submitted) and event.sqid]
    assert len(prps) == 64
    assert all(prp in pages for prp in prps), "the device gets the caller's own addresses"
    tails = [event for event in events if isinstance(event, Doorbell) and event.qid == 1 and not event.completion]
    assert len(tails) == 2, "one doorbell for each batch"


@pytest.mark.parametrize("zero_copy", [True, False])
def test_ordinary_buffers_are_copied_and_so_is_dma_memory_without_zero_copy(make: Make, zero_copy: bool) -> None:
    rig = make(settings=Settings(io_queues=1, zero_copy=zero_copy))
    controller = rig.load()
    namespace, buffer = controller.namespaces[1], bytearray(b"x" * 512)
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        address = ring.register(buffer)
        assert not address & PHYSICAL
        ring.prepare(Operation(Write, namespace, 5, 1, address))
        ring.wait()
        ring.prepare(Operation(Read, namespace, 5, 1, memory.address | PHYSICAL))
        ring.wait()
        assert memory.read(0, 512) == b"x" * 512
        buffer[:] = bytes(512)
        ring.prepare(Operation(Read, namespace, 5, 1, address))
        ring.wait()
        assert buffer == b"x" * 512
        theirs = memory.address
    prps = [event.command.PRP1 for event in io_commands(rig)]
    assert [prp == theirs for prp in prps] == [False, zero_copy, False]


@pytest.mark.parametrize(
    "operation", [lambda ns: Operation(Read, ns, 0, 1, 0x1000), lambda ns: Operation(Read, ns, 0, 1, 0x1001)]
)
def test_an_address_outside_the_rings_memory_is_refused(make: Make, operation: Callable[[Namespace], Operation]) -> None:
    controller = make().load()
    with IoRing(controller) as ring:
        ring.allocate(512)
        with pytest.raises(Refused, match=r"512 bytes at 0x1000 are not in (a registered buffer|allocated DMA memory)"):
            ring.prepare(operation(controller.namespaces[1]))
        assert ring.outstanding == 0


def test_reap_does_not_wait_and_wait_returns_when_enough_have_ended(make: Make) -> None:
    controller = make(slow(200, lba=0), slow(900, lba=1)).load()
    with IoRing(controller) as ring:
        memory = ring.allocate(4096)
        for lba in range(2):
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address + 512 * lba | PHYSICAL))
        ring.submit()
        assert ring.reap() == []
        assert ring.depth == 2
        assert ring.wait(2, seconds=0.001) == []
        assert [result.user_data for result in ring.wait(1)] == [0]
        assert [result.user_data for result in ring.wait(1)] == [1]
        assert ring.wait(1) == []


def test_a_full_ring_takes_no_more_until_results_are_reaped(make: Make) -> None:
    controller = make().load()
    with IoRing(controller, entries=4) as ring:
        memory = ring.allocate(512)
        reads = [one_block(controller.namespaces[1], lba, memory.address | PHYSICAL) for lba in range(6)]
        assert [ring.prepare(read) for read in reads] == [True] * 4 + [False] * 2
        assert len(ring.wait(4)) == 4
        assert ring.prepare(reads[4])


def test_more_than_the_queues_hold_waits_for_room(make: Make) -> None:
    controller = make(slow(1), cap={"MQES": 3}, settings=Settings(io_queues=2)).load()
    with IoRing(controller, scheduler="round-robin") as ring:
        memory = ring.allocate(512)
        for lba in range(100):
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL))
        results = ring.wait(100)
        assert sorted(result.user_data for result in results) == list(range(100))
        assert max(ring.statistics.depth_counts) == 6


def test_every_scheduler_ends_everything_once(make: Make) -> None:
    controller = make(settings=Settings(io_queues=3)).load()
    for name in SCHEDULERS:
        with IoRing(controller, scheduler=name) as ring:
            memory = ring.allocate(512)
            for lba in range(50):
                ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL, cpu=lba, priority=lba % 4))
            assert sorted(result.user_data for result in ring.wait(50)) == list(range(50))


@pytest.mark.parametrize(
    ("scheduler", "queues"),
    [("none", [1, 1, 1, 1, 1, 1]), ("round-robin", [1, 2, 3, 1, 2, 3]), ("cpuaffinity", [3, 3, 3, 2, 2, 2])],
)
def test_a_scheduler_chooses_the_queue(make: Make, scheduler: str, queues: list[int]) -> None:
    rig = make(settings=Settings(io_queues=3))
    controller = rig.load()
    with IoRing(controller, scheduler=scheduler) as ring:
        memory = ring.allocate(512)
        for lba in range(6):
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL, cpu=2 if lba < 3 else 4))
            ring.submit()
        ring.wait(6)
    assert [event.sqid for event in io_commands(rig)] == queues


def test_priority_has_a_queue_for_each_class_and_serves_the_higher_class_first(make: Make) -> None:
    rig = make(slow(5), cap={"MQES": 1, "AMS": 1}, settings=Settings(io_queues=4, scheduler="priority"))
    controller = rig.load()
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        for lba in range(8):
            priority = LOW if lba < 4 else URGENT
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL, priority=priority))
        ring.wait(8)
    events = rig.events()
    commands = [event for event in events if isinstance(event, Submitted) and event.sqid]
    assert {event.sqid for event in commands if lba_of(event) >= 4} == {1}
    assert {event.sqid for event in commands if lba_of(event) < 4} == {4}
    order = [lba_of(event) >= 4 for event in commands]
    assert order.index(False) >= 4, "no low one is sent while an urgent one waits"
    created = [event.command for event in events if isinstance(event, Submitted)]
    assert [command.QPRIO for command in created if isinstance(command, CreateIoSq)] == [0, 1, 2, 3]
    assert not rig.broken_rules()


def test_the_earliest_deadline_goes_first_and_an_expired_operation_is_ended_unsent(make: Make) -> None:
    rig = make(slow(200), cap={"MQES": 1}, settings=Settings(io_queues=1, scheduler="deadline"))
    controller = rig.load()
    now = controller.transport.now()
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        ring.prepare(one_block(controller.namespaces[1], 0, memory.address | PHYSICAL))
        ring.submit()
        for lba, deadline in enumerate((inf, now + 30, now + 20, now + 0.1, now + 10), start=1):
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL, deadline=deadline))
        results = {result.user_data: result for result in ring.wait(6)}
        assert [lba for lba, result in results.items() if result.error] == [4]
        assert isinstance(results[4].error, CommandTimedOut)
        assert results[4].seconds < 0.2, "it is ended at its deadline, not when its turn comes"
        assert (ring.statistics.reads.timeouts, ring.statistics.reads.errors) == (1, 1)
    assert [lba_of(event) for event in io_commands(rig)] == [0, 5, 3, 2, 1]


def test_an_operation_in_flight_is_aborted_at_its_deadline(make: Make) -> None:
    controller = make(slow(4000, lba=1), settings=Settings(io_queues=1, scheduler="deadline")).load()
    with IoRing(controller) as ring:
        memory = ring.allocate(1024)
        began = controller.transport.now()
        ring.prepare(one_block(controller.namespaces[1], 1, memory.address | PHYSICAL, deadline=began + 0.5))
        ring.prepare(one_block(controller.namespaces[1], 2, memory.address + 512 | PHYSICAL))
        results = {result.user_data: result for result in ring.wait(2)}
        assert isinstance(results[1].error, CommandTimedOut)
        assert 0.45 < results[1].seconds < 1.5
        assert results[2].error is None
        assert controller.recovery.resets == 0


def test_an_error_is_the_result_of_its_operation(make: Make) -> None:
    fault = Fault(name="e", behaviour="status", queue="io", lba=3, arguments={"sct": 2, "sc": 0x81, "dnr": 1})
    controller = make(fault).load()
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        for lba in range(6):
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL))
        results = {result.user_data: result.error for result in ring.wait(6)}
        assert [lba for lba, error in results.items() if isinstance(error, CommandFailed)] == [3]
        assert sum(error is None for error in results.values()) == 5
        assert ring.statistics.reads.errors == 1


def test_a_transient_error_is_retried(make: Make) -> None:
    fault = Fault(name="e", behaviour="status", queue="io", lba=3, times=2, arguments={"sct": 0, "sc": 0x82})
    controller = make(fault).load()
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        ring.prepare(one_block(controller.namespaces[1], 3, memory.address | PHYSICAL))
        (result,) = ring.wait()
        assert result.error is None


def test_a_reset_by_another_caller_ends_every_operation_once(make: Make) -> None:
    controller = make(slow(200)).load()
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        for lba in range(10):
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL))
        ring.submit()
        controller.recovery.reset("a test")
        results = ring.wait(10)
        assert sorted(result.user_data for result in results) == list(range(10))
        assert all(result.error is None for result in results), "retried after the reset"


def test_a_lost_controller_ends_everything_with_its_reason(make: Make) -> None:
    controller = make(Fault(name="g", behaviour="drop", queue="io"), Fault(name="s", behaviour="stuck-ready"),
                      Fault(name="a", behaviour="drop", queue="admin", opcode=8), cap={"TO": 1, "MQES": 7}).load()  # fmt: skip
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        for lba in range(40):
            ring.prepare(one_block(controller.namespaces[1], lba, memory.address | PHYSICAL))
        results = ring.wait(40)
        assert len(results) == 40
        assert all(isinstance(result.error, ControllerFailed | CommandTimedOut) for result in results)


def test_a_flush_needs_no_memory_and_waits_its_turn(make: Make) -> None:
    controller = make().load()
    with IoRing(controller) as ring:
        ring.prepare(Operation(Flush, controller.namespaces[1]))
        (result,) = ring.wait()
        assert result.error is None
        assert ring.statistics.others.operations == 1


def test_what_one_command_cannot_move_is_refused(make: Make) -> None:
    controller = make(identify={"MDTS": 1}).load()
    with IoRing(controller) as ring:
        memory = ring.allocate(1 << 16)
        with pytest.raises(Refused, match="one command may move 16 blocks, not 17"):
            ring.prepare(Operation(Read, controller.namespaces[1], 0, 17, memory.address | PHYSICAL))
        with pytest.raises(Refused, match="not inside namespace 1"):
            ring.prepare(Operation(Read, controller.namespaces[1], BLOCKS, 1, memory.address | PHYSICAL))


def test_a_long_transfer_has_a_list_that_is_freed_with_it(make: Make) -> None:
    rig = make()
    controller = rig.load()
    with IoRing(controller) as ring:
        memory = ring.allocate(1 << 16)
        before = len(allocated(controller))
        for _ in range(3):
            ring.prepare(Operation(Read, controller.namespaces[1], 0, 128, memory.address | PHYSICAL))
            assert ring.wait()[0].error is None
        assert len(allocated(controller)) == before


def test_a_polled_queue_ends_commands_without_an_interrupt(make: Make) -> None:
    rig = make(slow(5), settings=Settings(io_queues=2, polling=True, poll_interval=1e-3))
    controller = rig.load()
    with IoRing(controller) as ring:
        memory = ring.allocate(512)
        began = controller.transport.now()
        ring.prepare(one_block(controller.namespaces[1], 0, memory.address | PHYSICAL))
        (result,) = ring.wait()
        assert result.error is None
        assert controller.transport.now() - began < 0.3, "it is polled each millisecond, not each half second"
    assert not [event for event in rig.events() if type(event).__name__ == "Interrupt"]


def test_statistics_count_reads_writes_depth_and_latency(make: Make) -> None:
    controller = make(slow(500), settings=Settings(io_queues=1)).load()
    with IoRing(controller) as ring:
        memory = ring.allocate(4096)
        for kind, count in ((Read, 20), (Write, 10)):
            for lba in range(count):
                ring.prepare(Operation(kind, controller.namespaces[1], lba, 8, memory.address | PHYSICAL))
            ring.wait(count)
        found = ring.statistics.summary()
        assert (found["read"]["operations"], found["write"]["operations"]) == (20, 10)
        assert found["read"]["throughput"] == pytest.approx(found["read"]["iops"] * 4096)
        assert found["read"]["p50"] == pytest.approx(500_000, rel=0.2)
        assert found["depth"]["most"] == 20
        assert [depth for _, depth in found["depth"]["over_time"]][:20] == list(range(1, 21))
        assert found["seconds"] == pytest.approx(1.0, rel=0.3)
