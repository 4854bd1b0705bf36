"""Forked guests against booted ones: how long from nothing to the first block that was read by NVMe and is right.

All go the way of a scenario: the guest comes up, the lab's agent answers, the controller is plugged, the driver takes it, a
block is read and compared. They take turns, so that a busy machine affects all alike. What is reported:

- a guest that is booted;
- a fork with the driver loaded in the template, as nearly all scenarios get it (`lab.drivers.linux.can_preload`);
- a fork into which the driver is pushed and loaded, as scenarios about detection and loading get it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from lab.bench.figures import Figure, Say, no_progress, numbered_rounds
from lab.bench.linux import load
from lab.data import content
from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.device.qemu import QemuDevice
from lab.drivers import find
from lab.drivers.linux import Linux, LinuxSession, PreloadedDriver
from lab.errors import LabError
from lab.guest.accelerator import accelerator
from lab.guest.arguments import GuestSpec
from lab.guest.folder import run_folder
from lab.guest.machine import Machine
from lab.guest.template import SnapshotPreparer, Templates
from lab.toolchain import Toolchain

ROUNDS = 5
SECONDS = 120.0
"""For one guest, from start to end."""
NAMESPACE = Namespace(blocks=1 << 17, areas=((0, 64),))
LBA, BLOCKS = 8, 8
Way: TypeAlias = Callable[[Path], AbstractContextManager[Machine]]
"""Brings up a guest whose images are in a folder."""


def bench(toolchain: Toolchain, rounds: int = ROUNDS, say: Say = no_progress) -> list[Figure]:
    """Return the medians of so many rounds. Templates are built before the clock runs."""
    qemu, cache = toolchain.qemu, toolchain.cache
    if qemu is None or cache is None:
        raise LabError("the benchmark needs QEMU and the Linux guest", remedy="prepare them: nvme-lab fetch")
    name = accelerator(qemu.command, qemu.env, cache.root / "accelerator.json").name
    linux = Linux(find("linux"), toolchain)
    spec = linux.guest(_scenario(0))
    templates = Templates(cache, qemu, name, lambda _: None)
    preparers: dict[str, SnapshotPreparer] = {"fork": PreloadedDriver(linux), "fork and load": linux}

    def boot(spec: GuestSpec, images: Path) -> Machine:
        return Machine(qemu.command, qemu.env, spec, name, writable=[images])

    def fork(preparer: SnapshotPreparer) -> Way:
        return lambda images: templates.fork(spec, preparer, lambda template: boot(template.forked(spec), images))

    ways: dict[str, Way] = {name: fork(one) for name, one in preparers.items()}
    ways["boot"] = lambda images: boot(spec, images)
    say("templates of guests")
    for preparer in preparers.values():
        templates.get(spec, preparer)
    runs: dict[str, list[_Run]] = {way: [] for way in ways}
    for number in numbered_rounds(rounds, "forking and booting", say):
        measured = _Measured(linux, qemu.version, number)
        for way, begin in ways.items():
            runs[way].append(measured.run(begin))
    return _figures(runs)


def _figures(runs: Mapping[str, Sequence[_Run]]) -> list[Figure]:
    def median(way: str, figure: Callable[[_Run], float]) -> float:
        return statistics.median(map(figure, runs[way]))

    def first_read(way: str) -> float:
        return median(way, lambda run: run.first_read)

    def spent(way: str) -> float:
        return median(way, lambda run: run.processor)

    booted = "cold boot to first verified read", first_read("boot")
    return [
        Figure("fork to first verified read", first_read("fork"), "s", *booted),
        Figure("the same, driver pushed and loaded", first_read("fork and load"), "s", *booted),
        Figure("fork to running guest", median("fork", lambda run: run.running), "s",
               "cold boot to answering guest", median("boot", lambda run: run.answering)),
        Figure("QEMU's processor time of a fork", spent("fork"), "s", "that of a booted guest", spent("boot")),
        Figure("private memory of a fork", median("fork", lambda run: run.memory), "MB",
               "memory of a booted guest", median("boot", lambda run: run.memory)),
    ]  # fmt: skip


class _Run:
    """One guest's times in seconds since its start, until the first read is right."""

    running = 0.0
    answering = 0.0
    first_read = 0.0
    processor = 0.0
    """Of QEMU's threads, until then."""
    memory = 0.0
    """MB."""


class _Measured:
    def __init__(self, linux: Linux, version: tuple[int, ...], seed: int) -> None:
        self._linux = linux
        self._version = version
        self._scenario = _scenario(seed)

    def run(self, start: Way) -> _Run:
        run, deadline = _Run(), Deadline(SECONDS)
        with run_folder() as folder:
            device = self._device(folder)
            began = time.perf_counter()
            with start(folder) as machine:
                run.running = time.perf_counter() - began
                session = self._linux.open(machine, self._scenario, deadline)
                run.answering = time.perf_counter() - began
                device.plug(machine, [{"bus": "rp0"}])
                session.plugged(1, deadline)
                load(session, deadline)
                self._read(session, deadline)
                run.first_read = time.perf_counter() - began
                run.processor, run.memory = _processor(machine.process.pid), _private(machine.process.pid)
        return run

    def _device(self, folder: Path) -> QemuDevice:
        device = QemuDevice(self._scenario.device, folder, self._version)
        device.create_images(self._scenario.seed)
        return device

    def _read(self, session: LinuxSession, deadline: Deadline) -> None:
        """Wait for the disk: a loaded driver probes asynchronously."""
        action = Action("read", {"nsid": NAMESPACE.nsid, "lba": LBA, "blocks": BLOCKS})
        answer = session.perform(action, None, deadline)
        while answer.status != "success" and not deadline.expired:
            answer = session.perform(action, None, deadline)
        right = b"".join(content.initial(self._scenario.seed, NAMESPACE, LBA + n) for n in range(BLOCKS))
        if answer.data != right:
            raise LabError(f"The first read of the benchmark is wrong: {answer.status}, {len(answer.data or b'')} bytes.")


def _scenario(seed: int) -> Scenario:
    device = DeviceSpec(controllers=(Controller(serial=f"bench-{seed}", namespaces=(NAMESPACE,)),))
    return Scenario(id="bench/fork", stage="read", title="the first read", seed=seed, device=device, actions=())


def _processor(pid: int) -> float:
    """Return the run time of all threads of a process in seconds (Documentation/scheduler/sched-stats.rst, schedstat)."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _private(pid: int) -> float:
    """Return the MB of private memory (proc_pid_smaps_rollup(5)): heap, and the pages that were copied on write."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, *values = line.split()
        if name == "Anonymous:":
            return int(values[0]) * 1024 / 1e6
    raise LabError("This kernel does not tell how much memory a process has of its own.")
