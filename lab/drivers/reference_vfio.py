"""The reference driver by VFIO, a program in a Linux guest: `lab.drivers.reference` has its other transports."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers.base import explicit_arguments
from lab.drivers.bundle import bundle
from lab.drivers.linux_guest import IN_GUEST, connect, linux_guest, linux_spec
from lab.drivers.reference import ReferenceAdapter
from lab.errors import GuestError, GuestPanicError, GuestTimeoutError, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.console import LINUX_PANIC
from lab.guest.machine import Machine
from lab.guest.ssh import Ssh
from lab.guest.template import SnapshotPreparer
from lab.toolchain import Toolchain


class ReferenceVfio(ReferenceAdapter):
    """The driver by VFIO in a Linux guest with an IOMMU: one file, run by the guest's python3."""

    hotplug = True
    panics: tuple[str, ...] = LINUX_PANIC

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Refuse seeded defects: none is pushed into a guest."""
        super().__init__(manifest, toolchain)
        if self.defect:
            raise UsageError(f"{manifest.path}: no defect is pushed into a guest", remedy="seed it in process or over qtest")
        self.refuse_variant()
        self._guest = linux_guest(manifest, toolchain)

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest that the driver needs, if any."""
        return linux_spec(self._manifest, self._guest, scenario, iommu=True, channel=False)

    def snapshot_preparers(self, scenario: Scenario) -> Sequence[SnapshotPreparer]:
        """Return the preparers (`lab.guest.template.Forkable`)."""
        return [self._serving(scenario)]

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> GuestSession:
        """Wait until the driver in the guest answers (`lab.drivers.base.Adapter`)."""
        deadline = Deadline(min(self._manifest.boot.seconds, deadline.remaining()))
        if machine.spec.state is None:  # a booted guest; a forked one was prepared before its snapshot
            self._serving(scenario).prepare(machine, deadline)
        ssh = self.connect(machine, deadline)
        try:
            _run(ssh, f"date -s @{int(time.time())}", deadline)  # a fork starts at the time at which its template was saved
        except BaseException:
            ssh.close()
            raise
        return GuestSession(ssh, scenario)

    def connect(self, machine: Machine, deadline: Deadline) -> Ssh:
        """Connect to the guest by SSH."""
        return connect(self._guest, machine, deadline)

    def _serving(self, scenario: Scenario) -> _Serving:
        settings = self.settings(scenario)
        options = ["--queues", str(settings.io_queues), "--depth", str(settings.depth), *["--poll"] * settings.polling]
        keep_alive = str(settings.keep_alive).lower()
        return _Serving(self, _START.format(options=" ".join(options), folder=IN_GUEST, keep_alive=keep_alive))


class _Serving:
    """Settles a guest with the driver's program, which serves and has not looked for a controller yet."""

    base = None

    def __init__(self, reference: ReferenceVfio, start: str) -> None:
        self._reference, self._start = reference, start
        self.cache_key = sha256(start.encode() + bundle()).hexdigest()

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        """Start the driver in the guest, and wait until it answers (`lab.guest.template.SnapshotPreparer`)."""
        with self._reference.connect(machine, deadline) as ssh:
            _run(ssh, self._start, deadline, bundle())
            _request(ssh, 0, "ready", {}, b"", deadline)  # any answer shows that it serves


_START = """mkdir -p {folder} && cd {folder} && cat > nvmectl.pyz && mkfifo in &&
modprobe vfio_iommu_type1 && modprobe vfio-pci || exit
export NVME_KEEP_ALIVE={keep_alive}
setsid python3 nvmectl.pyz --transport vfio {options} serve {folder} < /dev/null > driver.log 2>&1 &
echo $! > driver.pid"""
_ASK = f"""cd {IN_GUEST} && kill -0 $(cat driver.pid) || {{{{ cat driver.log >&2; exit 1; }}}}
mkfifo out.{{number}} && cat > in && cat out.{{number}} && rm out.{{number}}"""
_COUNT = "cat /sys/bus/pci/devices/*/class | grep -c ^0x0108 || true"


class GuestSession:
    """The service in a guest, where the controllers stay as they are between two actions; see `lab.drivers.base.Session`."""

    def __init__(self, ssh: Ssh, scenario: Scenario) -> None:
        """Take a connection to the guest in which the service runs."""
        self._ssh, self._scenario = ssh, scenario
        self._number = 0

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Wait until the controllers are visible to the driver."""
        while int(_run(self._ssh, _COUNT, deadline)) != controllers:
            if deadline.expired:
                wanted = f"{controllers} NVMe functions in the guest"
                raise GuestTimeoutError(f"Timed out after {deadline.seconds:g} s waiting for {wanted}.")

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer from the guest (`lab.drivers.base.Session`)."""
        self._number += 1
        arguments, payload = explicit_arguments(self._scenario, action, data)
        try:
            answer = _request(self._ssh, self._number, action.name, arguments, payload, deadline)
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})
        line, _, content = answer.partition(b"\n")
        head = json.loads(line)
        if "failure" in head:
            last = head["failure"].strip().splitlines()[-1]
            raise GuestPanicError(f"The driver crashed at {action.name}: {last}", last=head["failure"])
        if len(content) != head["bytes"]:
            raise GuestError(f"The reference driver announced {head['bytes']} bytes at {action.name}, and {len(content)} came")
        return Answer(head["status"], head["fields"], content if head["bytes"] else None)

    def close(self) -> None:
        """Release the function and its memory."""
        self._ssh.close()


def _request(ssh: Ssh, number: int, action: str, arguments: Mapping[str, Any], data: bytes, deadline: Deadline) -> bytes:
    """Return the answer of the service: a line of JSON, and bytes."""
    request = json.dumps({"number": number, "action": action, "arguments": arguments}).encode() + b"\n" + data
    return _run(ssh, _ASK.format(number=number), deadline, request)


def _run(ssh: Ssh, command: str, deadline: Deadline, input: bytes = b"") -> bytes:
    result = ssh.run(command, input, deadline=deadline)
    if result.status:
        last = result.stderr.decode(errors="replace").strip()
        raise GuestError(f"The guest cannot do {command.splitlines()[0]!r}: {last}", last=last)
    return result.stdout
