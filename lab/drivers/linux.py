"""The Linux driver, Debian's or the user's own .ko: loaded when asked, and asked by an agent that runs in the guest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from images.modules import modinfo
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers import fio, passthrough
from lab.drivers.base import explicit_arguments, own_file, target
from lab.drivers.bundle import linux_agent_program
from lab.drivers.linux_agent import server
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
from lab.errors import GuestError, GuestTimeoutError, UsageError, nearest
from lab.guest.arguments import CHANNEL, GuestSpec
from lab.guest.channel import Channel, Frame
from lab.guest.console import LINUX_PANIC
from lab.guest.machine import Machine
from lab.guest.template import ForkError, SnapshotPreparer
from lab.toolchain import LinuxGuest, Toolchain

SECONDS = 60.0
"""For any action: above the driver's own time-out of 30 s for a command, so that its answer to that is received."""
PARAMETERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "command_seconds": ("nvme_core", ("io_timeout", "admin_timeout")),
    "queue_depth": ("nvme", ("io_queue_depth",)),
    "polled_queues": ("nvme", ("poll_queues",)),
    "write_queues": ("nvme", ("write_queues",)),
    "sgl_bytes": ("nvme", ("sgl_threshold",)),
}
"""What a scenario wants of the guest → module, as the kernel writes it, and parameters (drivers/nvme/host/core.c and pci.c)."""
WARM_UP: tuple[Mapping[str, Any], ...] = (
    {"action": "plugged", "controllers": 0},
    *({"action": name} for name in ("ready", "identify", "list")),
)
_START_AGENT = f"mkdir -p {IN_GUEST} && cd {IN_GUEST} && cat > agent.pyz && setsid python3 agent.pyz {CHANNEL} < /dev/null"


class Linux:
    """See `lab.drivers.base.Adapter`."""

    hotplug = True
    needs = ("linux-guest",)
    """What a manifest that names no guest gets."""
    programs: Mapping[str, str] = MappingProxyType({fio.ACTION: fio.PROGRAM})
    """What the toolchain prepares for an action, where a scenario has it."""
    panics: tuple[str, ...] = LINUX_PANIC
    base = None

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Find the modules and files of the manifest; UsageError."""
        if manifest.actions:
            raise UsageError(f"{manifest.path}: actions: the linux adapter knows its own words; remove this table")
        self._manifest = manifest
        self._guest = linux_guest(manifest, toolchain)
        self.cache_key = code(linux_agent_program(), __file__)
        self._modules = [_module(manifest, self._guest, name) for name in manifest.push.modules]
        pushed = {f"modules/{path.name}": path for path in self._modules}
        self.load_order = self._ordered()
        others = {destination: own_file(manifest, "push.files", name) for destination, name in manifest.push.files.items()}
        self.sdk = passthrough.Sdk(manifest) if passthrough.PROFILE in manifest.profiles else None
        self.files: Mapping[str, Path] = {**pushed, **others, **(self.sdk.files if self.sdk else {})}
        self.fio = toolchain.programs.get(fio.PROGRAM, {})
        self.actions = frozenset(server.ACTIONS) | (passthrough.ACTIONS if self.sdk else frozenset())
        self.actions |= {fio.ACTION} if self.fio else frozenset()

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device; see `lab.drivers.base.Adapter`."""
        iommu = bool(scenario.guest.get("iommu"))
        return linux_spec(self._manifest, self._guest, scenario, KERNEL_OPTIONS, iommu=iommu, channel=True)

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        del action  # part of the protocol
        return SECONDS

    def snapshot_preparers(self, scenario: Scenario) -> Sequence[SnapshotPreparer]:
        """Return the preparers (`lab.guest.template.Forkable`)."""
        return [PreloadedDriver(self), self] if can_preload(scenario) else [self]

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        """Start the agent (`lab.guest.template.SnapshotPreparer`)."""
        self.start(machine, deadline).warm_up(deadline)

    def start(self, machine: Machine, deadline: Deadline) -> Agent:
        """Start the agent, and return it once it alone is busy."""
        start_agent(self._guest, machine, _START_AGENT, linux_agent_program(), deadline)
        agent = Agent(machine)
        agent.ask({"action": "quiet"}, deadline=deadline)
        return agent

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> LinuxSession:
        """Wait until the guest can be talked to; see `lab.drivers.base.Adapter`."""
        deadline = Deadline(min(self._manifest.boot.seconds, deadline.remaining()))
        if machine.spec.state is None:  # it was booted; what is forked was settled before
            self.prepare(machine, deadline)
        return self.session(machine, scenario, deadline)

    def session(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> LinuxSession:
        """Return the session of a guest whose agent answers."""
        agent = Agent(machine)
        settings = module_parameters(self.load_order, scenario)
        parameters = {f"{module}/parameters/{name}": v for module, values in settings.items() for name, v in values.items()}
        begun = agent.ask({"action": "begin", "time": time.time_ns(), "parameters": parameters}, deadline=deadline)
        preloaded = begun.head["fields"]["preloaded"]
        if not preloaded:
            self.push(agent, deadline)
        modules = with_parameters(self.load_order, settings)
        said = begun.head["log"] if preloaded else ()
        build = ", ".join((begun.head["fields"]["kernel"], *self._source_versions))
        return LinuxSession(agent, scenario, modules, self.sdk, preloaded, said, machine, build, self.fio)

    @cached_property
    def _source_versions(self) -> list[str]:
        """Return the digests of the modules' sources that they carry (modinfo), where the kernel was built to have them."""
        return [f"{path.stem} {value}" for path in self._modules for value in modinfo(path.read_bytes(), "srcversion")]

    def push(self, agent: Agent, deadline: Deadline) -> None:
        """Write modules and files into the guest."""
        for path in self._modules:
            agent.put(path, f"{IN_GUEST}/{path.name}", 0o644, deadline)
        for destination in self._manifest.push.files:
            agent.put(self.files[destination], destination, 0o755, deadline)

    def preload(self, agent: Agent, deadline: Deadline) -> None:
        """Load the driver without a function: it gets one when it is asked to load."""
        self.push(agent, deadline)
        names = [_plain(path.stem) for path in self._modules]
        answer = agent.ask({"action": "preload", "modules": self.load_order, "names": names}, deadline=deadline)
        if answer.head["status"] != "success":
            raise GuestError(f"Linux refused it: {answer.head['status']}.")
        agent.warm_up(deadline)

    def _ordered(self) -> list[tuple[str, str]]:
        """Return (file in the guest, parameters) of every module."""
        parameters = {_plain(name): text for name, text in self._manifest.push.parameters.items()}
        loaded = {_plain(path.stem) for path in self._modules}
        for name in parameters.keys() - loaded:
            raise UsageError(f"{self._manifest.path}: push.parameters: no module {name!r} is pushed{nearest(name, loaded)}")
        return [(f"{IN_GUEST}/{path.name}", parameters.get(_plain(path.stem), "")) for path in self._modules]


class PreloadedDriver:
    """Settles a guest with the driver loaded already, but not bound to anything (`lab.guest.template.SnapshotPreparer`)."""

    def __init__(self, linux: Linux) -> None:
        """Digest all that the template depends on."""
        self._linux = linux
        self.base = linux
        digest = sha256(repr((linux.cache_key, linux.load_order)).encode())
        for name, path in sorted(linux.files.items()):
            digest.update(f"{name} {sha256(path.read_bytes()).hexdigest()}".encode())
        self.cache_key = digest.hexdigest()

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        """Load the driver, which finds no device; ForkError where it cannot be loaded so."""
        try:
            self._linux.preload(Agent(machine), Deadline(min(SECONDS, deadline.remaining())))
        except GuestError as failure:  # a scenario shall see that, and record it
            raise ForkError(f"The driver cannot be loaded beforehand: {failure}") from failure


def can_preload(scenario: Scenario) -> bool:
    """Return whether this scenario only loads the driver once, before all else, for one controller.

    For that the device can be plugged into a guest that has the driver: it sees the same. What is about detection or loading
    sees the driver loaded, and so do several controllers, which loading would probe side by side.
    """
    names = [action.name for action in scenario.actions]
    loads_once = names[:1] == ["load"] and not {"load", "unload", "shutdown", "plug", "unplug"} & set(names[1:])
    return loads_once and scenario.stage != "detect" and len(scenario.device.controllers) == 1


class Agent:
    """The agent in the guest, and how far its kernel's log has been read."""

    def __init__(self, machine: Machine) -> None:
        """Take a guest in which the agent runs."""
        self._channel = Channel(machine)
        self._log_end = -1  # the number of the last record of the kernel log that was seen

    def ask(self, request: Mapping[str, Any], data: bytes = b"", *, deadline: Deadline) -> Frame:
        """Ask the agent; return its answer and the bytes after it."""
        answer = ask_agent(self._channel, {**request, "log_after": self._log_end}, data, deadline)
        self._log_end = answer.head["log_end"]
        return answer

    def warm_up(self, deadline: Deadline) -> None:
        """Ask the agent so often that no fork runs its code for the first time."""
        for question in WARM_UP * WARM_UP_ROUNDS:
            self.ask(question, deadline=deadline)

    def put(self, file: Path, destination: str, mode: int, deadline: Deadline) -> None:
        """Copy a file of this machine into the guest."""
        self.put_bytes(file.read_bytes(), destination, mode, deadline)

    def put_bytes(self, data: bytes, destination: str, mode: int, deadline: Deadline) -> None:
        """Write bytes into a file of the guest."""
        self.ask({"action": "put", "path": destination, "mode": mode}, data, deadline=deadline)


class LinuxSession:
    """See `lab.drivers.base.Session`."""

    def __init__(
        self,
        agent: Agent,
        scenario: Scenario,
        modules: list[tuple[str, str]],
        sdk: passthrough.Sdk | None = None,
        loaded: bool = False,
        said: Sequence[str] = (),
        machine: Machine | None = None,
        build: str = "",
        fio_files: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """Take a guest whose agent answers.

        ``loaded``: the driver is there already, and takes its controller when that is plugged. ``said`` is the
        kernel's log of that. ``machine`` is the guest, for what ends it. ``fio_files`` are copied into it when they are needed.
        """
        self._fio_files = fio_files
        self._machine = machine
        self.agent = agent
        self.build = build
        self.loaded = loaded
        self._scenario = scenario
        self._modules = modules
        self._sdk = sdk
        self._sdk_pushed = False
        self._said = list(said)

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Wait until the guest has followed a plug or unplug; see `lab.drivers.base.Session`."""
        answer = self.agent.ask({"action": "plugged", "controllers": controllers}, deadline=deadline)
        if self.loaded:
            self._said += answer.head["log"]

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; see `lab.drivers.base.Session`."""
        if self._sdk and action.name in passthrough.ACTIONS:
            return self._passthrough(self._sdk, action, deadline)
        if action.name == fio.ACTION:
            return self._load_fio(action, deadline)
        if action.name == "shutdown" and action.arguments.get("halt") and self._machine:
            self._machine.qmp("set-action", {"shutdown": "pause"})  # QEMU stays, for the lab to see what it was
        arguments, payload = explicit_arguments(self._scenario, action, data)
        request = {**arguments, "action": action.name}
        if action.name == "load":
            request["modules"] = self._modules
        if action.name == "unload":
            request["modules"] = [_plain(Path(file).stem) for file, _ in reversed(self._modules)]
        try:
            answer, read = self.agent.ask(request, payload, deadline=deadline)
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})
        lines = answer["log"]
        if action.name == "load":
            lines, self._said, self.loaded = [*self._said, *lines], [], False
        log = {"log": "\n".join(lines)} if action.name == "load" or lines else {}
        if action.name == "shutdown" and action.arguments.get("halt") and self._machine and answer["status"] == "success":
            return _powered_off(self._machine, log, deadline)
        is_file = action.name == "mount" and answer["status"] == "success"  # which may hold no byte
        has_data = is_file or (action.name in ("read", "raw") and read)
        return Answer(answer["status"], {**answer["fields"], **log}, read if has_data else None)

    def _load_fio(self, action: Action, deadline: Deadline) -> Answer:
        """Ask fio for a load on the node of a namespace."""
        files, self._fio_files = self._fio_files, {}
        found = target(self._scenario, action)
        assert found is not None, "a load is on a namespace"
        node = self._asked({"action": "node", "serial": found.serial, "nsid": found.namespace.nsid}, deadline)["namespace"]
        try:
            return fio.perform(
                lambda request: self._asked(request, deadline),
                lambda file, destination: self.agent.put(file, destination, 0o755, deadline),
                files, node, found.namespace.block_size, action,
            )  # fmt: skip
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})

    def _asked(self, request: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        """Return the fields of the agent's answer. GuestError if it could not do what was asked."""
        answer = self.agent.ask(request, deadline=deadline).head
        if answer["status"] != "success":
            raise GuestError(f"{request['action']} failed in the guest: {answer['status']}")
        fields: Mapping[str, Any] = answer["fields"]
        return fields

    def _passthrough(self, sdk: passthrough.Sdk, action: Action, deadline: Deadline) -> Answer:
        """Ask the SDK and return its answer. Its program is copied into the guest on first use."""
        if not self._sdk_pushed:
            self.agent.put_bytes(sdk.program, passthrough.PROGRAM, 0o755, deadline)
            self._sdk_pushed = True

        def ask(request: Mapping[str, Any]) -> Mapping[str, Any]:
            answer = self.agent.ask(request, deadline=deadline).head
            if answer["status"] != "success" and request["action"] == "node":
                raise passthrough.NodeError(answer["status"]["words"])
            if answer["status"] != "success":
                raise GuestError(f"{request['action']} failed in the guest: {answer['status']}")
            fields: Mapping[str, Any] = answer["fields"]
            return fields

        try:
            return passthrough.perform(sdk, ask, self._scenario, action)
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})

    def close(self) -> None:
        """Do nothing: the channel belongs to the machine."""


def _powered_off(machine: Machine, log: Mapping[str, Any], deadline: Deadline) -> Answer:
    """Wait until the guest has powered its machine off."""
    try:
        machine.event("SHUTDOWN", deadline)
    except GuestTimeoutError as late:
        return Answer("timeout", {"log": late.what})
    return Answer("success", log)


def module_parameters(modules: list[tuple[str, str]], scenario: Scenario) -> dict[str, dict[str, int]]:
    """Return what the scenario wants of the driver, as module → parameter → value, for modules that are pushed."""
    pushed = {_plain(Path(file).stem) for file, _ in modules}
    found: dict[str, dict[str, int]] = {}
    for wish, (module, names) in PARAMETERS.items():
        if wish in scenario.guest and module in pushed:
            found.setdefault(module, {}).update(dict.fromkeys(names, scenario.guest[wish]))
    return found


def with_parameters(modules: list[tuple[str, str]], settings: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    """Return the modules with these parameters besides their own."""
    done = []
    for file, text in modules:
        more = " ".join(f"{name}={value}" for name, value in settings.get(_plain(Path(file).stem), {}).items())
        done.append((file, f"{text} {more}".strip()))
    return done


def _module(manifest: DriverManifest, guest: LinuxGuest, name: str) -> Path:
    """Return a module's file: a bare name is in the guest's kernel package, all else is a path relative to the manifest."""
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
    """Return a module's name as the kernel writes it."""
    return name.replace("-", "_")
