"""A thousand reads in flight by asyncio.gather, on the programmable controller in this process."""

import asyncio

from lab.drivers.nvmectl import programmable_controller
from lab.reference.futures import AsyncDriver

READS = 1000


async def main() -> None:
    """Read a thousand blocks at once, and say how many commands were in flight."""
    with programmable_controller() as controller:
        namespace = controller.namespaces[1]
        async with AsyncDriver(controller) as driver:
            blocks = await asyncio.gather(*(driver.read(namespace, lba, 1) for lba in range(READS)))
            print(f"{len(blocks)} reads, {max(driver.statistics.depth_counts)} in flight at most")


asyncio.run(main())
