"""The Linux driver, Debian's or the user's own .ko: loaded when asked, and asked by an agent that runs in the guest."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.deadline import Deadline
from lab.drivers import linux_agent
from lab.drivers.base import mebibytes, own_file, target
from lab.errors import GuestError, LabError, Timeout, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.console import LINUX_PANIC
from lab.guest.machine import Machine
from lab.guest.ssh import Ssh
from lab.manifest import DriverManifest, nearest
from lab.plan import Action, Answer, Scenario
from lab.toolchain import LinuxGuest, Toolchain

AGENT = Path(linux_agent.__file__)
IN_GUEST = "/run/nvme-lab"
"""The folder in the guest for all that is pushed."""
SECONDS = 60.0
"""For any action: above the driver's own time-out of 30 s for a command, so that its answer to that is heard."""
_START_AGENT = f"""mkdir -p {IN_GUEST} && cd {IN_GUEST} && cat > agent.py && mkfifo in || exit
setsid python3 agent.py < /dev/null > agent.log 2>&1 &
echo $! > agent.pid"""
_ASK_AGENT = f"""cd {IN_GUEST} && kill -0 $(cat agent.pid) || {{ cat agent.log >&2; exit 1; }}
mkfifo out.%(number)d && cat > in && cat out.%(number)d && rm out.%(number)d"""
OF_THE_LAB = frozenset({"plugged"})
"""What the agent does for the lab, not for the driver."""


class Linux:
    """See `lab.drivers.base.Adapter`."""

    hotplug = True
    panics: tuple[str, ...] = LINUX_PANIC
    actions = frozenset(linux_agent.ACTIONS) - OF_THE_LAB

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        if toolchain.linux is None:
            raise LabError(
                f"{manifest.path}: the linux adapter needs the Linux guest, which was not prepared",
                remedy='add needs = ["linux-guest"] to the manifest',
            )
        if manifest.actions:
            raise UsageError(f"{manifest.path}: actions: the linux adapter knows its own words; remove this table")
        self._manifest = manifest
        self._guest = toolchain.linux
        self._modules = [_module(manifest, toolchain.linux, name) for name in manifest.push.modules]
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
            append=f"{self._guest.append} oops=panic {boot.append}".rstrip(),  # a driver that crashed is not asked on
            root_ports=len(scenario.device.controllers),
            iommu=guest.get("iommu", False),
            network=True,
            vmgenid=True,
            extra=boot.options,
        )

    def seconds(self, action: str) -> float:
        return SECONDS

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> LinuxSession:
        deadline = Deadline(min(self._manifest.boot.seconds, deadline.remaining()))
        key, host_key = self._guest.private_key, self._guest.host_key
        ssh = Ssh.connect(machine.ssh_port(), key, host_key, machine.check, deadline)
        try:
            _run(ssh, _START_AGENT, deadline, AGENT.read_bytes())
            for path in self._modules:
                ssh.put(path, f"{IN_GUEST}/{path.name}", deadline=deadline)
            for destination in self._manifest.push.files:
                _run(ssh, f"mkdir -p {shlex.quote(str(Path(destination).parent))}", deadline)
                ssh.put(self.files[destination], destination, mode=0o755, deadline=deadline)
        except BaseException:
            ssh.close()
            raise
        return LinuxSession(ssh, scenario, self._load_order)

    def _ordered(self) -> list[tuple[str, str]]:
        """(file in the guest, parameters) of every module."""
        parameters = {_plain(name): text for name, text in self._manifest.push.parameters.items()}
        loaded = {_plain(path.stem) for path in self._modules}
        for name in parameters.keys() - loaded:
            raise UsageError(f"{self._manifest.path}: push.parameters: no module {name!r} is pushed{nearest(name, loaded)}")
        return [(f"{IN_GUEST}/{path.name}", parameters.get(_plain(path.stem), "")) for path in self._modules]


class LinuxSession:
    """See `lab.drivers.base.Session`."""

    def __init__(self, ssh: Ssh, scenario: Scenario, modules: list[tuple[str, str]]) -> None:
        self._ssh = ssh
        self._scenario = scenario
        self._modules = modules
        self._number = 0  # of the last request to the agent
        self._log_end = -1  # the number of the last record of the kernel log that was seen

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        self._ask({"action": "plugged", "controllers": controllers}, b"", deadline)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        request = {**action.arguments, "action": action.name}
        if found := target(self._scenario, action):
            request["serial"] = found.serial
        if action.name == "load":
            request["modules"] = self._modules
        if action.name == "unload":
            request["modules"] = [_plain(Path(file).stem) for file, _ in reversed(self._modules)]
        try:
            answer, read = self._ask(request, data or b"", deadline)
        except Timeout as late:
            return Answer("timeout", {"log": late.what})
        log = {"log": "\n".join(answer["log"])} if action.name == "load" or answer["log"] else {}
        return Answer(answer["status"], {**answer["fields"], **log}, read if action.name == "read" and read else None)

    def close(self) -> None:
        self._ssh.close()

    def _ask(self, request: Mapping[str, Any], data: bytes, deadline: Deadline) -> tuple[Mapping[str, Any], bytes]:
        """The agent's answer and the bytes after it."""
        self._number += 1
        line = json.dumps({**request, "number": self._number, "log_after": self._log_end})
        result = self._ssh.run(_ASK_AGENT % {"number": self._number}, line.encode() + b"\n" + data, deadline=deadline)
        if result.status:
            raise _failed(str(request["action"]), result.stderr.decode(errors="replace"))
        head, _, read = result.stdout.partition(b"\n")
        answer: Mapping[str, Any] = json.loads(head)
        if "failure" in answer:
            raise _failed(str(request["action"]), answer["failure"])
        if len(read) != answer["bytes"]:
            raise _failed(str(request["action"]), f"it announced {answer['bytes']} bytes, and {len(read)} came")
        self._log_end = answer["log_end"]
        return answer, read


def _failed(action: str, last: str) -> GuestError:
    return GuestError(f"The lab's agent in the guest failed at {action}: {last.strip()}", last=last)


def _run(ssh: Ssh, command: str, deadline: Deadline, input: bytes = b"") -> None:
    result = ssh.run(command, input, deadline=deadline)
    if result.status:
        last = result.stderr.decode(errors="replace").strip()
        raise GuestError(f"The guest cannot do {command!r}: {last}", last=last)


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
