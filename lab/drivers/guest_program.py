"""A driver that is a program in a Linux guest: by VFIO, VFIO without an IOMMU, or sysfs. All of it is in the manifest.

The program is asked by lines on its standard input, or started anew for each action; docs/guest-programs.md has the protocols.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers import guest_program_agent
from lab.drivers.base import explicit_arguments, own_file, target
from lab.drivers.linux_guest import IN_GUEST, KERNEL_OPTIONS, ask_agent, code, connect, linux_guest, linux_spec, start_agent
from lab.errors import NOT_SET_UP, GuestError, GuestNotReadyError, GuestPanicError, GuestTimeoutError, LabError, UsageError
from lab.guest.arguments import CHANNEL, GuestSpec
from lab.guest.channel import Channel
from lab.guest.console import LINUX_PANIC
from lab.guest.machine import Machine
from lab.guest.template import SnapshotPreparer
from lab.toolchain import Toolchain

AGENT = Path(guest_program_agent.__file__)
CLOSE_SECONDS = 5.0
STDERR = "program.log"
"""In the evidence: what the program wrote to stderr."""
_START_AGENT = f"""modprobe virtio_console &&
mkdir -p {IN_GUEST} && cd {IN_GUEST} && cat > agent.py && touch program.log && setsid python3 agent.py {CHANNEL} < /dev/null"""


class GuestProgram:
    """See `lab.drivers.base.Adapter`."""

    hotplug = True
    panics: tuple[str, ...] = LINUX_PANIC
    base: SnapshotPreparer | None = None
    needs = ("linux-guest",)

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Find the program's files; UsageError for what does not fit."""
        self._manifest, program = manifest, manifest.program
        if not program.command:
            raise UsageError(
                f"{manifest.path}: program.command: this key is required", remedy='give ["/run/driver/my-program"], and push it'
            )
        self.actions = frozenset({"load", *program.actions})
        self.files: Mapping[str, Path] = {
            place: own_file(manifest, f"push.files.{place}", name) for place, name in manifest.push.files.items()
        }
        for place in self.files:
            if not PurePosixPath(place).is_absolute():
                raise UsageError(f"{manifest.path}: push.files: {place!r} is no absolute path in the guest")
        self._modules = self._load_order()
        self.files = {**self.files, **{file: path for file, path, _ in self._modules}}
        self._guest = linux_guest(manifest.model_copy(update={"needs": manifest.needs or self.needs}), toolchain)
        content = b"".join(place.encode() + path.read_bytes() for place, path in sorted(self.files.items()))
        described = f"{program.model_dump_json()}{manifest.push.parameters}".encode()
        self.cache_key = sha256(content + described + code(AGENT.read_bytes(), __file__).encode()).hexdigest()

    def _load_order(self) -> list[tuple[str, Path, str]]:
        """Return the modules that are loaded before VFIO's: the place in the guest, the file and the parameters of each."""
        manifest = self._manifest
        for name in manifest.push.modules:
            if not name.endswith(".ko"):
                raise UsageError(
                    f"{manifest.path}: push.modules: {name!r} is no module's file",
                    remedy=f'a module of the guest\'s own kernel is loaded by program.setup = ["modprobe {name}"]',
                )
        paths = [own_file(manifest, "push.modules", name) for name in manifest.push.modules]
        for name in manifest.push.parameters.keys() - {path.stem for path in paths}:
            raise UsageError(f"{manifest.path}: push.parameters: no module {name!r} is pushed (push.modules)")
        return [(f"{IN_GUEST}/modules/{path.name}", path, manifest.push.parameters.get(path.stem, "")) for path in paths]

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device; see `lab.drivers.base.Adapter`."""
        iommu = self._manifest.program.access == "vfio"
        return linux_spec(self._manifest, self._guest, scenario, KERNEL_OPTIONS, iommu=iommu, channel=True)

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        del action  # part of the protocol
        return self._manifest.program.seconds

    def snapshot_preparers(self, scenario: Scenario) -> Sequence[SnapshotPreparer]:
        """Return the preparers (`lab.guest.template.Forkable`)."""
        del scenario  # part of the protocol
        return [self]

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        """Push the files, start the agent and run the set-up (`lab.guest.template.SnapshotPreparer`)."""
        with connect(self._guest, machine, deadline) as ssh:
            for place, path in self.files.items():
                quoted, folder = shlex.quote(place), shlex.quote(str(PurePosixPath(place).parent))
                command = f"mkdir -p {folder} && cat > {quoted} && chmod 755 {quoted}"
                result = ssh.run(command, path.read_bytes(), deadline=deadline)
                if result.status:
                    raise LabError(f"{self._manifest.path}: push.files: {place} cannot be written in the guest")
        start_agent(self._guest, machine, _START_AGENT, AGENT.read_bytes(), deadline)
        described = self._manifest.program.model_dump(mode="json")
        modules = [(file, parameters) for file, _, parameters in self._modules]
        request = {"action": "describe", "program": described, "modules": modules}
        try:
            ask_agent(Channel(machine), request, b"", deadline)
        except GuestTimeoutError:
            raise
        except GuestError as failed:
            where = f"{self._manifest.path}: program"
            raise GuestNotReadyError(
                f"{NOT_SET_UP} {failed.last or failed.what}", last=failed.last, remedy=f"correct {where}"
            ) from failed

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> GuestProgramSession:
        """Wait until the guest can be talked to; see `lab.drivers.base.Adapter`."""
        deadline = Deadline(min(self._manifest.boot.seconds, deadline.remaining()))
        if machine.spec.state is None:  # it was booted; what is forked was prepared before
            self.prepare(machine, deadline)
        channel = Channel(machine)
        ask_agent(channel, {"action": "begin", "time": time.time()}, b"", deadline)
        return GuestProgramSession(channel, scenario, self._manifest.program.seconds, machine.console.log.parent / STDERR)


class GuestProgramSession:
    """See `lab.drivers.base.Session`."""

    def __init__(self, channel: Channel, scenario: Scenario, seconds: float, stderr: Path) -> None:
        """Take the channel of a guest in which the agent has begun."""
        self._channel, self._scenario, self._seconds, self._stderr = channel, scenario, seconds, stderr

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Wait until the guest has followed a plug or unplug; see `lab.drivers.base.Session`."""
        ask_agent(self._channel, {"action": "plugged", "controllers": controllers}, b"", deadline)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; see `lab.drivers.base.Session`."""
        line, sent = self._line(action, data)
        deadline = Deadline(min(self._seconds, deadline.remaining()))
        try:
            answer = ask_agent(self._channel, {"action": "ask", "line": line}, sent, deadline)
        except GuestTimeoutError:
            return Answer("timeout", {"log": f"no answer to {line!r} within {deadline.seconds:g} s"})
        if "crashed" in answer.head:
            self._keep_stderr()
            raise GuestPanicError(f"The program crashed: {answer.head['crashed']}", last=answer.head["crashed"])
        return Answer(answer.head["status"], answer.head["fields"], answer.data or None)

    def close(self) -> None:
        """Keep what the program wrote to stderr."""
        self._keep_stderr()

    def _keep_stderr(self) -> None:
        try:
            answer = ask_agent(self._channel, {"action": "stderr"}, b"", Deadline(CLOSE_SECONDS))
        except (GuestError, OSError):  # the guest is gone, or still waits for the program
            return
        if answer.data:
            self._stderr.write_bytes(answer.data)

    def _line(self, action: Action, data: bytes | None) -> tuple[str, bytes]:
        """Return the request: the action and its arguments, what is no number or word as JSON; and the bytes for it."""
        arguments, sent = explicit_arguments(self._scenario, action, data)
        if found := target(self._scenario, action):
            serials = [controller.serial for controller in self._scenario.device.controllers]
            arguments |= {"place": serials.index(found.serial), "block_size": found.namespace.block_size}
        words = [f"{key}={_word(value)}" for key, value in arguments.items() if value is not None]
        return " ".join([action.name, *words]), sent


def _word(value: Any) -> str:
    """Return a value as one word: no line of the protocol may hold another one's end."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    shown = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return shlex.quote(shown.replace("\n", " "))
