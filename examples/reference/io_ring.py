"""Reads by the submission and completion rings, with each scheduler, without a copy; and the statistics of each run."""

from lab.drivers.nvmectl import programmable_controller
from lab.nvme.commands import Read
from lab.reference.io_ring import IoRing
from lab.reference.operation import PHYSICAL, Operation
from lab.reference.settings import SCHEDULERS, Settings

BLOCKS = 8
READS = 64

with programmable_controller(Settings(io_queues=4)) as controller:
    namespace = controller.namespaces[1]
    for scheduler in SCHEDULERS:
        with IoRing(controller, scheduler=scheduler) as ring:
            memory = ring.allocate(READS * 4096)
            soon = controller.transport.now() + 60
            for n in range(READS):
                address = memory.address + n * 4096 | PHYSICAL
                ring.prepare(Operation(Read, namespace, n * BLOCKS, BLOCKS, address, cpu=n, priority=n % 4, deadline=soon))
            ring.submit()
            results = ring.reap(8)
            results += ring.wait(READS - len(results))
            summary = ring.statistics.summary()
            figures = summary["read"]
            print(
                f"{scheduler}: {figures['operations']} reads, {figures['iops']:.0f} IOPS, "
                f"{figures['throughput'] / 1e6:.1f} MB/s, "
                f"average {figures['average']:.0f} µs, p50 {figures['p50']:.0f} µs, p99 {figures['p99']:.0f} µs, "
                f"p99.9 {figures['p99.9']:.0f} µs, depth {summary['depth']['most']}, "
                f"{figures['errors']} errors, {figures['timeouts']} time-outs"
            )
