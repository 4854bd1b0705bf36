"""A Linux guest that has seen an NVMe device come and go: nothing that the next one needs runs for the first time.

Never for a scenario that is judged: what the kernel and the driver remember of the first device is not what a fresh guest
knows. And in a run it would not pay: to prepare one costs more than the fork that it spares (docs/speed.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.device.qemu import QemuDevice
from lab.drivers.linux import DriverHeld, Linux, LinuxSession
from lab.errors import LabError
from lab.guest.machine import Machine
from lab.guest.template import Template, Templates

BLOCKS = 1 << 11
"""Of the first device's only namespace."""
READ = Action("read", {"nsid": 1, "lba": 0, "blocks": 8})
REHEARSAL = Scenario(
    id="zygote/rehearsal", stage="none", title="a device comes, is read and goes", seed=0, actions=(Action("load"), READ),
    device=DeviceSpec(controllers=(Controller(id="rehearsal", serial="rehearsal", namespaces=(Namespace(blocks=BLOCKS),)),)),
)  # fmt: skip


class Warmed:
    """A guest that stands still, with the driver loaded and no device."""

    def __init__(self, machine: Machine, session: LinuxSession) -> None:
        self.machine = machine
        self._session = session

    def wake(self, scenario: Scenario, deadline: Deadline) -> LinuxSession:
        """Lets it go on, at the right time. Its driver takes what is plugged then."""
        self.machine.qmp("cont")
        agent = self._session.agent
        agent.ask({"action": "begin", "time": time.time_ns(), "parameters": {}}, deadline=deadline)
        return LinuxSession(agent, scenario, [])


@contextmanager
def warmed(
    linux: Linux, templates: Templates, start: Callable[[Template], Machine], folder: Path, deadline: Deadline
) -> Iterator[Warmed]:
    """Such a guest. ``start`` makes a fork of a template; the first device's images are in ``folder``."""
    spec, settler = linux.guest(REHEARSAL), DriverHeld(linux)
    with templates.fork(spec, settler, start) as machine:
        session = linux.open(machine, REHEARSAL, deadline)
        device = QemuDevice(REHEARSAL.device, folder, templates.qemu.version)
        device.create_images(REHEARSAL.seed)
        device.plug(machine, [{"bus": "rp0"}])
        session.plugged(1, deadline)
        for action in REHEARSAL.actions:
            answer = session.perform(action, None, deadline)
            if answer.status != "success":
                raise LabError(f"A guest cannot be warmed: the driver answers {action.name} with {answer.status}.")
        device.unplug(machine, deadline)
        session.plugged(0, deadline)
        machine.qmp("stop")
        yield Warmed(machine, session)
