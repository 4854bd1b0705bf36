"""Four controllers by PCI address, one of which never answers: the others go on."""

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from lab.controller.in_process import InProcess
from lab.data.plan import Namespace
from lab.drivers.reference_in_process import Host, InProcessTransport
from lab.reference.manager import DeviceManager
from lab.reference.transport import Transport
from lab.testing import device

STUCK = "0000:04:00.0"
ADDRESSES = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", STUCK]
released = threading.Event()


class Silent(InProcessTransport):
    """A function whose registers do not answer."""

    def read32(self, offset: int) -> int:
        """Wait until the example ends."""
        released.wait()
        return super().read32(offset)


with ExitStack() as cleanup:
    functions: dict[str, Transport] = {}
    for number, address in enumerate(ADDRESSES):
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        host, uuid = Host(), f"{number:08x}-0000-4000-8000-000000000000"
        process = cleanup.enter_context(InProcess(device(Namespace(blocks=2048, uuid=uuid)), folder, memory=host.memory))
        functions[address] = (Silent if address == STUCK else InProcessTransport)(host, process, process.function)
    manager = DeviceManager(functions.__getitem__)
    started = [manager.add(address) for address in ADDRESSES]
    for future in started[:-1]:
        future.result()
    print(manager.states())
    print(manager.find("00000002-0000-4000-8000-000000000000"))
    print(len(manager.run(ADDRESSES[0], lambda controller: controller.namespaces[1].read(0, 8)).result()), "bytes read")
    print("did not answer:", manager.close(seconds=0.5))
    released.set()
    started[-1].exception()
