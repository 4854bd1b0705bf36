"""QEMU's own NVMe driver (QEMU, block/nvme.c), in user space by VFIO: inside qemu-io, in a Linux guest with an IOMMU."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers import qemu_vfio_agent
from lab.drivers.base import target
from lab.drivers.linux_guest import (
    IN_GUEST,
    KERNEL_OPTIONS,
    WARM_UP_ROUNDS,
    ask_agent,
    code,
    linux_guest,
    linux_spec,
    start_agent,
)
from lab.errors import GuestPanicError, GuestTimeoutError
from lab.guest.arguments import CHANNEL, GuestSpec
from lab.guest.channel import Channel
from lab.guest.console import LINUX_PANIC
from lab.guest.machine import Machine
from lab.guest.template import SnapshotPreparer
from lab.toolchain import Toolchain

AGENT = Path(qemu_vfio_agent.__file__).read_bytes()
SECONDS = 120.0
"""For any action: far above the time after which the agent says that the driver hangs."""
WRITING = frozenset({"write", "flush", "zeroes", "trim"})
"""Actions that need a namespace that was opened to be written to."""
_START_AGENT = f"""modprobe vfio_iommu_type1 && modprobe vfio-pci && modprobe virtio_console &&
mkdir -p {IN_GUEST} && cd {IN_GUEST} && cat > agent.py && setsid python3 agent.py {CHANNEL} < /dev/null"""


class QemuVfio:
    """See `lab.drivers.base.Adapter`."""

    hotplug = True
    panics: tuple[str, ...] = LINUX_PANIC
    actions = frozenset(qemu_vfio_agent.ACTIONS)
    files: Mapping[str, Path] = {}
    cache_key = code(AGENT, __file__)
    base: SnapshotPreparer | None = None

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Take the guest that the manifest needs."""
        self._manifest = manifest
        self._guest = linux_guest(manifest, toolchain)

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device; see `lab.drivers.base.Adapter`."""
        return linux_spec(self._manifest, self._guest, scenario, KERNEL_OPTIONS, iommu=True, channel=True)

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        del action  # part of the protocol
        return SECONDS

    def snapshot_preparers(self, scenario: Scenario) -> Sequence[SnapshotPreparer]:
        """Return the preparers (`lab.guest.template.Forkable`)."""
        del scenario  # part of the protocol
        return [self]

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        """Start the agent, and with it qemu-io, and rehearse (`lab.guest.template.SnapshotPreparer`)."""
        start_agent(self._guest, machine, _START_AGENT, AGENT, deadline)
        channel = Channel(machine)
        _begin(channel, deadline)
        for _ in range(WARM_UP_ROUNDS):
            ask_agent(channel, {"action": "warm_up"}, b"", deadline)

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> QemuVfioSession:
        """Wait until the guest can be talked to; see `lab.drivers.base.Adapter`."""
        deadline = Deadline(min(self._manifest.boot.seconds, deadline.remaining()))
        if machine.spec.state is None:  # it was booted; what is forked was settled before
            self.prepare(machine, deadline)
        channel = Channel(machine)
        return QemuVfioSession(channel, scenario, _begin(channel, deadline))


class QemuVfioSession:
    """See `lab.drivers.base.Session`."""

    def __init__(self, channel: Channel, scenario: Scenario, build: str = "") -> None:
        """Take the channel of a guest in which the agent has begun; ``build`` is what qemu-io says of itself."""
        self._channel, self._scenario, self.build = channel, scenario, build

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Wait until the guest has followed a plug or unplug; see `lab.drivers.base.Session`."""
        ask_agent(self._channel, {"action": "plugged", "controllers": controllers}, b"", deadline)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; see `lab.drivers.base.Session`."""
        if action.arguments.get("offset") or (action.name == "submit" and "fill" in action.arguments):
            return Answer(
                "unsupported"
            )  # qemu-io's buffers begin where it likes, and hold what it likes where it does not wait
        try:
            answer = ask_agent(self._channel, self._request(action), data or b"", deadline)
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})
        if "crashed" in answer.head:
            raise GuestPanicError(f"The driver crashed: {answer.head['crashed']}", last=answer.head["crashed"])
        return Answer(answer.head["status"], answer.head["fields"], answer.data or None)

    def close(self) -> None:
        """Do nothing: the channel belongs to the machine."""

    def _request(self, action: Action) -> dict[str, Any]:
        """Return the agent's request; a load opens what is attached first.

        It has bytes in place of blocks, and a controller's place in place of its id.
        """
        request = {**action.arguments, "action": action.name}
        controllers = self._scenario.device.controllers
        if action.name == "load":
            attached = [sorted(n.nsid for n in c.namespaces if n.attached) for c in controllers]
            writable = not WRITING.isdisjoint(asked.name for asked in self._scenario.actions)
            return {**request, "nsids": [nsids[0] if nsids else 1 for nsids in attached], "writable": writable}
        found = target(self._scenario, action)
        if found is None:
            return request
        request["place"] = [c.serial for c in controllers].index(found.serial)
        if "lba" in request:
            size = found.namespace.block_size
            request |= {"at": request["lba"] * size, "length": request["blocks"] * size}
            request["each"] = request.get("each", 0) * size
        return request


def _begin(channel: Channel, deadline: Deadline) -> str:
    """Set the guest's clock; return which qemu-io is there."""
    answer = ask_agent(channel, {"action": "begin", "time": time.time()}, b"", deadline)
    return str(answer.head["fields"]["version"])
