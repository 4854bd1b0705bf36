"""Forked guests against booted ones: how long from nothing to the first block that was read by NVMe and is right.

Both go the way of a scenario: the guest comes up, the lab's agent answers, the controller is plugged, the driver is loaded,
a block is read and compared. Booted and forked guests take turns, so that a busy machine is equally unkind to both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lab import content
from lab.bench.figures import Figure
from lab.deadline import Deadline
from lab.device.qemu import QemuDevice
from lab.drivers import find
from lab.drivers.linux import Linux, LinuxSession
from lab.errors import LabError
from lab.guest.accelerator import accelerator
from lab.guest.folder import run_folder
from lab.guest.machine import Machine
from lab.guest.template import Template, Templates
from lab.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.toolchain import Toolchain

ROUNDS = 5
SECONDS = 120.0
"""For one guest, from start to end."""
NAMESPACE = Namespace(blocks=1 << 17, areas=((0, 64),))
LBA, BLOCKS = 8, 8


class DriverInTemplate:
    """A settler that also loads the driver, as it may be done for scenarios that are not about detection."""

    def __init__(self, linux: Linux, scenario: Scenario) -> None:
        self._linux = linux
        self._scenario = scenario
        self.settled_by = f"{linux.settled_by}, driver loaded"

    def settle(self, machine: Machine, deadline: Deadline) -> None:
        _load(self._linux.open(machine, self._scenario, deadline), deadline)


def bench(toolchain: Toolchain, rounds: int = ROUNDS) -> list[Figure]:
    """Medians of so many rounds. Templates are built before the clock runs."""
    qemu, cache = toolchain.qemu, toolchain.cache
    if qemu is None or cache is None:
        raise LabError("the benchmark needs QEMU and the Linux guest", remedy="prepare them: nvme-lab fetch")
    name = accelerator(qemu.command, qemu.env, cache.root / "accelerator.json").name
    linux = Linux(find("linux"), toolchain)
    spec = linux.guest(_scenario(0))
    templates = Templates(cache, qemu, name, lambda text: None)
    loaded = DriverInTemplate(linux, _scenario(0))
    templates.get(spec, linux)
    templates.get(spec, loaded)

    def start(template: Template) -> Machine:
        return Machine(qemu.command, qemu.env, template.forked(spec), name)

    def boot() -> Machine:
        return Machine(qemu.command, qemu.env, spec, name)

    runs: dict[str, list[_Run]] = {"boot": [], "fork": [], "fork with the driver": []}
    for number in range(rounds):
        measured = _Measured(linux, qemu.version, number)
        runs["boot"].append(measured.run(boot, load=True))
        runs["fork"].append(measured.run(lambda: templates.fork(spec, linux, start), load=True))
        runs["fork with the driver"].append(measured.run(lambda: templates.fork(spec, loaded, start), load=False))

    def median(kind: str, figure: Callable[[_Run], float]) -> float:
        return statistics.median(map(figure, runs[kind]))

    boot_read = median("boot", lambda run: run.first_read)
    fork_read = median("fork", lambda run: run.first_read)
    return [
        Figure("fork to first verified read", fork_read, "s", "cold boot to first verified read", boot_read),
        Figure("fork to first verified read, driver loaded in the template",
               median("fork with the driver", lambda run: run.first_read), "s",
               "cold boot to first verified read", boot_read),
        Figure("fork to running guest", median("fork", lambda run: run.running), "s",
               "cold boot to answering guest", median("boot", lambda run: run.answering)),
        Figure("pre-warmed fork: plug to first verified read", median("fork", lambda run: run.warm_read), "s",
               "fork to first verified read", fork_read),
        Figure("private memory of a fork", median("fork", lambda run: run.memory), "MB",
               "memory of a booted guest", median("boot", lambda run: run.memory)),
    ]  # fmt: skip


class _Run:
    """One guest's times in seconds since its start, and its memory in MB."""

    running = 0.0
    answering = 0.0
    first_read = 0.0
    warm_read = 0.0
    """From the plug of a second controller, when all that this needs has run once."""
    memory = 0.0


class _Measured:
    def __init__(self, linux: Linux, version: tuple[int, ...], seed: int) -> None:
        self._linux = linux
        self._version = version
        self._scenario = _scenario(seed)

    def run(self, start: Callable[[], AbstractContextManager[Machine]], load: bool) -> _Run:
        run, deadline = _Run(), Deadline(SECONDS)
        with run_folder() as folder:
            first, second = self._device(folder / "first"), self._device(folder / "second")
            began = time.perf_counter()
            with start() as machine:
                run.running = time.perf_counter() - began
                session = self._linux.open(machine, self._scenario, deadline)
                run.answering = time.perf_counter() - began
                first.plug(machine, [{"bus": "rp0"}])
                session.plugged(1, deadline)
                if load:
                    _load(session, deadline)
                self._read(session, deadline)
                run.first_read = time.perf_counter() - began
                run.memory = _private(machine.process.pid)
                first.unplug(machine, deadline)
                session.plugged(0, deadline)
                began = time.perf_counter()
                second.plug(machine, [{"bus": "rp1"}])
                session.plugged(1, deadline)
                self._read(session, deadline)
                run.warm_read = time.perf_counter() - began
        return run

    def _device(self, folder: Path) -> QemuDevice:
        folder.mkdir()
        device = QemuDevice(self._scenario.device, folder, self._version)
        device.create_images(self._scenario.seed)
        return device

    def _read(self, session: LinuxSession, deadline: Deadline) -> None:
        """A loaded driver probes on its own, so the disk may be a moment late."""
        action = Action("read", {"nsid": NAMESPACE.nsid, "lba": LBA, "blocks": BLOCKS})
        answer = session.perform(action, None, deadline)
        while answer.status != "success" and not deadline.expired:
            answer = session.perform(action, None, deadline)
        right = b"".join(content.initial(self._scenario.seed, NAMESPACE, LBA + n) for n in range(BLOCKS))
        if answer.data != right:
            raise LabError(f"The first read of the benchmark is wrong: {answer.status}, {len(answer.data or b'')} bytes.")


def _load(session: LinuxSession, deadline: Deadline) -> None:
    answer = session.perform(Action("load"), None, deadline)
    if answer.status != "success":
        raise LabError(f"The driver of the benchmark cannot be loaded: {answer.status}.")


def _scenario(seed: int) -> Scenario:
    device = DeviceSpec(controllers=(Controller(serial=f"bench-{seed}", namespaces=(NAMESPACE,)),))
    return Scenario(id="bench/fork", stage="read", title="the first read", seed=seed, device=device, actions=())


def _private(pid: int) -> float:
    """MB of memory that nobody else has (proc_pid_smaps_rollup(5)): heap, and the pages that were copied on write."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, *values = line.split()
        if name == "Anonymous:":
            return int(values[0]) * 1024 / 1e6
    raise LabError("This kernel does not tell how much memory a process has of its own.")
