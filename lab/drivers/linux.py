"""The Linux driver, Debian's or the user's own .ko: loaded when asked, and asked by an agent that runs in the guest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lab.deadline import Deadline
from lab.drivers import linux_agent
from lab.drivers.base import linux_guest, mebibytes, own_file, told
from lab.errors import GuestError, Timeout, UsageError
from lab.guest.arguments import CHANNEL, GuestSpec
from lab.guest.channel import Channel, Frame
from lab.guest.console import LINUX_PANIC
from lab.guest.machine import Machine
from lab.guest.ssh import Ssh
from lab.manifest import DriverManifest, nearest
from lab.plan import Action, Answer, Scenario
from lab.toolchain import LinuxGuest, Toolchain

AGENT = Path(linux_agent.__file__)
IN_GUEST = "/run/nvme-lab"
"""The folder in the guest for all that is pushed."""
KERNEL_OPTIONS = "oops=panic ipv6.disable=1 pci=no_e820"
"""A driver that crashed is not asked on; a network that has no IPv6 is not searched for it, at each fork anew. Firmware puts
prefetchable memory where QEMU's map of a computer with an AMD processor has a reserved hole; without the last Linux would not
use it, and no BAR would lie above 4 GiB."""
ROOT_PORTS = 4
"""More than most scenarios need, so that they are forks of one template."""
SECONDS = 60.0
"""For any action: above the driver's own time-out of 30 s for a command, so that its answer to that is heard."""
CORE = "nvme_core"
"""The module that knows time-outs, as the kernel writes its name."""
TIMEOUTS = "io_timeout={0} admin_timeout={0}"
"""Its parameters, in seconds (drivers/nvme/host/core.c)."""
_START_AGENT = f"mkdir -p {IN_GUEST} && cd {IN_GUEST} && cat > agent.py && setsid python3 agent.py {CHANNEL} < /dev/null"


class Linux:
    """See `lab.drivers.base.Adapter`."""

    hotplug = True
    panics: tuple[str, ...] = LINUX_PANIC
    actions = frozenset(linux_agent.ACTIONS)
    settled_by = sha256(AGENT.read_bytes()).hexdigest()

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        if manifest.actions:
            raise UsageError(f"{manifest.path}: actions: the linux adapter knows its own words; remove this table")
        self._manifest = manifest
        self._guest = linux_guest(manifest, toolchain)
        self._modules = [_module(manifest, self._guest, name) for name in manifest.push.modules]
        pushed = {f"modules/{path.name}": path for path in self._modules}
        self._load_order = self._ordered()
        others = {destination: own_file(manifest, "push.files", name) for destination, name in manifest.push.files.items()}
        self.files: Mapping[str, Path] = {**pushed, **others}

    def guest(self, scenario: Scenario) -> GuestSpec:
        boot, guest = self._manifest.boot, scenario.guest
        return GuestSpec(
            machine=boot.machine,
            cpu=boot.cpu,
            smp=guest.get("cpus", boot.cpus),
            memory=guest.get("memory", mebibytes(boot.memory)),
            kernel=self._guest.vmlinux,
            initrd=self._guest.initrd,
            append=f"{self._guest.append} {KERNEL_OPTIONS} {boot.append}".rstrip(),
            root_ports=max(ROOT_PORTS, len(scenario.device.controllers)),
            iommu=guest.get("iommu", False),
            network=True,
            channel=True,
            vmgenid=True,
            extra=boot.options,
        )

    def seconds(self, action: str) -> float:
        return SECONDS

    def settle(self, machine: Machine, deadline: Deadline) -> None:
        """Starts the agent (`lab.guest.template.Settler`)."""
        key, host_key = self._guest.private_key, self._guest.host_key
        with Ssh.connect(machine.ssh_port(), key, host_key, machine.check, deadline) as ssh:
            result = ssh.run(_START_AGENT, AGENT.read_bytes(), deadline=deadline)
        if result.status:
            last = result.stderr.decode(errors="replace").strip()
            raise GuestError(f"The lab's agent does not start in the guest: {last}", last=last)
        Channel(machine).ask({"action": "quiet", "log_after": -1}, deadline=deadline)

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> LinuxSession:
        deadline = Deadline(min(self._manifest.boot.seconds, deadline.remaining()))
        if machine.spec.state is None:  # it was booted; what is forked was settled before
            self.settle(machine, deadline)
        session = LinuxSession(machine, scenario, patient(self._load_order, scenario))
        session.ask({"action": "begin", "time": time.time()}, deadline=deadline)
        for path in self._modules:
            session.put(path, f"{IN_GUEST}/{path.name}", 0o644, deadline)
        for destination in self._manifest.push.files:
            session.put(self.files[destination], destination, 0o755, deadline)
        return session

    def _ordered(self) -> list[tuple[str, str]]:
        """(file in the guest, parameters) of every module."""
        parameters = {_plain(name): text for name, text in self._manifest.push.parameters.items()}
        loaded = {_plain(path.stem) for path in self._modules}
        for name in parameters.keys() - loaded:
            raise UsageError(f"{self._manifest.path}: push.parameters: no module {name!r} is pushed{nearest(name, loaded)}")
        return [(f"{IN_GUEST}/{path.name}", parameters.get(_plain(path.stem), "")) for path in self._modules]


class LinuxSession:
    """See `lab.drivers.base.Session`."""

    def __init__(self, machine: Machine, scenario: Scenario, modules: list[tuple[str, str]]) -> None:
        self._channel = Channel(machine)
        self._scenario = scenario
        self._modules = modules
        self._log_end = -1  # the number of the last record of the kernel log that was seen

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        self.ask({"action": "plugged", "controllers": controllers}, deadline=deadline)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        arguments, given = told(self._scenario, action, data)
        request = {**arguments, "action": action.name}
        if action.name == "load":
            request["modules"] = self._modules
        if action.name == "unload":
            request["modules"] = [_plain(Path(file).stem) for file, _ in reversed(self._modules)]
        try:
            answer, read = self.ask(request, given, deadline=deadline)
        except Timeout as late:
            return Answer("timeout", {"log": late.what})
        log = {"log": "\n".join(answer["log"])} if action.name == "load" or answer["log"] else {}
        return Answer(answer["status"], {**answer["fields"], **log}, read if action.name in ("read", "raw") and read else None)

    def close(self) -> None:
        """The channel is the machine's."""

    def put(self, file: Path, destination: str, mode: int, deadline: Deadline) -> None:
        """Writes a file of ours into the guest."""
        self.ask({"action": "put", "path": destination, "mode": mode}, file.read_bytes(), deadline=deadline)

    def ask(self, request: Mapping[str, Any], data: bytes = b"", *, deadline: Deadline) -> Frame:
        """The agent's answer and the bytes after it."""
        answer = self._channel.ask({**request, "log_after": self._log_end}, data, deadline=deadline)
        if "failure" in answer.head:
            raise _failed(str(request["action"]), answer.head["failure"])
        self._log_end = answer.head["log_end"]
        return answer


def patient(modules: list[tuple[str, str]], scenario: Scenario) -> list[tuple[str, str]]:
    """The modules, and how long commands may take where the scenario says so: no fault shall cost half a minute."""
    if "command_seconds" not in scenario.guest:
        return modules
    seconds = TIMEOUTS.format(scenario.guest["command_seconds"])
    return [(file, f"{text} {seconds}".lstrip() if _plain(Path(file).stem) == CORE else text) for file, text in modules]


def _failed(action: str, last: str) -> GuestError:
    return GuestError(f"The lab's agent in the guest failed at {action}: {last.strip()}", last=last)


def _module(manifest: DriverManifest, guest: LinuxGuest, name: str) -> Path:
    """A bare name is a module of the guest's kernel package, all else a path relative to the manifest."""
    if "/" in name or name.endswith(".ko"):
        return own_file(manifest, "push.modules", name)
    packaged = {_plain(path.stem): path for path in guest.modules}
    if _plain(name) not in packaged:
        raise UsageError(
            f"{manifest.path}: push.modules: {name!r} is no module of the guest's kernel package{nearest(name, packaged)}",
            remedy="give the path of a .ko file",
        )
    return packaged[_plain(name)]


def _plain(name: str) -> str:
    """A module's name as the kernel writes it."""
    return name.replace("-", "_")
