"""Fifty hand-overs of the driver under load: the controller is not reset, and every byte is compared."""

import random
import tempfile
from pathlib import Path

from lab.controller.in_process import InProcess
from lab.data.plan import Fault
from lab.drivers.reference_in_process import Host, InProcessTransport
from lab.reference.service import Service
from lab.reference.settings import Settings
from lab.testing import device

HAND_OVERS, BLOCK = 50, 512

host, draw = Host(), random.Random(1)
late = Fault(name="late", behaviour="delay", queue="io", arguments={"ms": 5})
with tempfile.TemporaryDirectory() as folder, InProcess(device(), Path(folder), faults=[late], memory=host.memory) as process:
    service = Service(lambda: [InProcessTransport(host, process, process.function)], Settings(io_queues=2, keep_alive=True))
    service.perform("load", {})
    held: dict[int, bytes] = {}
    for _ in range(HAND_OVERS):
        written = {lba: draw.randbytes(BLOCK) for lba in draw.sample(range(1000), 8)}
        for lba, data in written.items():
            service.perform("submit", {"nsid": 1, "lba": lba, "blocks": 1, "each": 1}, data)
        process.wait(draw.choice((0.0, 0.01)))
        service.perform("save", {})
        process.wait(draw.choice((0.0, 0.01)))
        assert service.perform("restore", {}).status == "success"
        assert {one["status"] for one in service.perform("collect", {}).fields["operations"]} == {"success"}
        held |= written
    for lba, data in held.items():
        assert service.perform("read", {"nsid": 1, "lba": lba, "blocks": 1}).data == data
    pool = service.controllers[0].servicing.pool()
    print(f"{HAND_OVERS} hand-overs, {len(held)} blocks right, {len(pool)} allocations, damaged: {pool.check() or 'none'}")
    service.close()
