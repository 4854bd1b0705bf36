"""The driver for asyncio: many operations in flight, each with its own future."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from lab.data.plan import Fault
from lab.nvme.commands import Read
from lab.reference.errors import CommandFailed, Refused
from lab.reference.futures import AsyncDriver
from lab.reference.settings import Settings

if TYPE_CHECKING:
    from tests.reference.conftest import Make

BLOCKS = 1 << 15
"""Of the rig's namespace."""

SLOW = Fault(name="slow", behaviour="delay", queue="io", opcode=Read.OPCODE, arguments={"ms": 500})
ERROR = Fault(
    name="error", behaviour="status", queue="io", opcode=Read.OPCODE, lba=7, arguments={"sct": 2, "sc": 0x81, "dnr": 1}
)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_a_thousand_reads_are_in_flight_at_once_and_return_their_own_blocks(make: Make) -> None:
    controller = make(settings=Settings(io_queues=2)).load()
    namespace, deepest = controller.namespaces[1], 0

    async def work() -> list[bytes]:
        nonlocal deepest
        async with AsyncDriver(controller) as driver:
            await asyncio.gather(*(driver.write(namespace, lba, lba.to_bytes(512, "little")) for lba in range(1000)))
            found = await asyncio.gather(*(driver.read(namespace, lba, 1) for lba in range(1000)))
            deepest = max(driver.statistics.depth_counts)
            return list(found)

    assert run(work()) == [lba.to_bytes(512, "little") for lba in range(1000)]
    assert deepest == 1000


def test_other_tasks_run_while_reads_are_outstanding(make: Make) -> None:
    controller = make(SLOW).load()

    async def work() -> tuple[int, bytes]:
        turns = 0
        async with AsyncDriver(controller) as driver:
            reading = asyncio.create_task(driver.read(controller.namespaces[1], 0, 1))
            while not reading.done():
                turns += 1
                await asyncio.sleep(0)
            return turns, reading.result()

    turns, found = run(work())
    assert turns > 10
    assert len(found) == 512


def test_an_error_reaches_the_caller_of_that_read_only(make: Make) -> None:
    controller = make(ERROR).load()

    async def work() -> list[bytes | BaseException]:
        async with AsyncDriver(controller) as driver:
            reads = (driver.read(controller.namespaces[1], lba, 1) for lba in range(10))
            return list(await asyncio.gather(*reads, return_exceptions=True))

    found = run(work())
    assert [lba for lba, one in enumerate(found) if isinstance(one, CommandFailed)] == [7]
    assert sum(isinstance(one, bytes) for one in found) == 9


def test_a_cancelled_read_disturbs_no_other(make: Make) -> None:
    controller = make(SLOW).load()

    async def work() -> bytes:
        async with AsyncDriver(controller, entries=2) as driver:
            cancelled = asyncio.create_task(driver.read(controller.namespaces[1], 0, 1))
            await asyncio.sleep(0)
            cancelled.cancel()
            found = await asyncio.gather(*(driver.read(controller.namespaces[1], lba, 1) for lba in range(4)))
            assert cancelled.cancelled()
            return found[3]

    assert len(run(work())) == 512


def test_a_bad_range_is_refused_at_once_and_leaves_room(make: Make) -> None:
    controller = make().load()

    async def work() -> bytes:
        async with AsyncDriver(controller, entries=1) as driver:
            with pytest.raises(Refused, match=f"LBA {BLOCKS} to {BLOCKS}"):
                await driver.read(controller.namespaces[1], BLOCKS, 1)
            return await driver.read(controller.namespaces[1], 0, 1)

    assert len(run(work())) == 512
