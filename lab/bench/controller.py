"""The programmable controller against QEMU's own device: 4 KiB direct I/O by fio, in one guest and one run, in turns.

Three devices in front of one Linux guest: the programmable controller with its full record; QEMU's own device as such, which
is the measure; and QEMU's own device recorded by its trace, as the lab does it otherwise. Each does the same jobs for about
the same time, round after round, so that a busy machine affects all alike. Every block that is written is read back and
verified, and the devices' own counters must tell of as many commands as fio does.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lab.bench.figures import Figure, Say, no_progress, numbered_rounds
from lab.bench.fio import Done, Fio, FioInGuest, FioJob, install
from lab.bench.linux import disks, load
from lab.data.evidence import EvidenceWriter
from lab.data.identity import DriverIdentity, Identity
from lab.data.plan import Controller, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.device.lab import LabDevice
from lab.device.qemu import QemuDevice
from lab.drivers import find
from lab.drivers.linux import Linux
from lab.drivers.linux_guest import connect
from lab.errors import LabError
from lab.guest.accelerator import accelerator
from lab.guest.folder import run_folder
from lab.guest.machine import Machine
from lab.toolchain import LinuxGuest, Qemu, Toolchain
from lab.trace.declarations import Declarations
from lab.trace.reader import TraceReader
from lab.trace.translator import EVENTS, Translator

JOBS = (
    FioJob("verified random writes, QD1", "write", 1),
    FioJob("random reads, QD1", "read", 1),
    FioJob("verified random writes, QD32", "write", 32),
    FioJob("random reads, QD32", "read", 32),
)
"""Writes come first, so that reads find what was written."""
ROUNDS = 5
SECONDS = 1.0
"""For each job of each device in each round."""
SETTLING = 120.0
"""Seconds for the guest to come up, and for each fio beyond the time of its job."""
WARM_UP = 1024
"""I/Os of the round that is not counted, from which the length of the others is estimated."""
BLOCKS = 1 << 16
"""Of 4 KiB: the most that a job touches."""
MEMORY = 512
"""MiB of the guest, a sixth of which fio's libraries take."""
LAB, OWN, TRACED = "the programmable controller, recording", "QEMU's own device", "QEMU's own device, traced"


def bench(
    toolchain: Toolchain, fio: Fio, folder: Path, *, rounds: int = ROUNDS, seconds: float = SECONDS, say: Say = no_progress
) -> list[Figure]:
    """Return the medians of so many rounds. ``folder`` keeps what was written and recorded: ``lab/lab.rec`` and ``traced``."""
    qemu, linux = toolchain.qemu, toolchain.linux
    if qemu is None or linux is None:
        raise LabError("the benchmark needs QEMU and the Linux guest", remedy="prepare them: nvme-lab fetch")
    with ExitStack() as cleanup:
        devices, bencher = cleanup.enter_context(_guest(toolchain, qemu, linux, fio, folder))
        first = {(device.name, job): bencher.measure(device, job, WARM_UP) for device in devices for job in JOBS}
        starts = {device.name: bencher.measure(device, JOBS[0], 1) for device in devices}
        found: _Found = {key: [] for key in first}
        for number in numbered_rounds(rounds, "reading and writing", say):
            for device in devices if number % 2 == 0 else devices[::-1]:
                for job in JOBS:
                    blocks = min(BLOCKS, max(WARM_UP, round(first[device.name, job].rate() * seconds)))
                    found[device.name, job].append(bencher.measure(device, job, blocks).without(starts[device.name]))
    return list(_figures(found))


def _figures(found: _Found) -> Iterator[Figure]:
    def median(name: str, job: FioJob, value: Callable[[_Measured], float]) -> float:
        return statistics.median(map(value, found[name, job]))

    for other in (OWN, TRACED):
        for job in JOBS:
            yield Figure(
                job.name, median(LAB, job, _Measured.rate), "I/O per s",
                other, median(other, job, _Measured.rate), more_is_better=True,
            )  # fmt: skip
    for job in (job for job in JOBS if job.direction == "read"):
        for what, other, value in (
            ("QEMU's CPU time", OWN, _Measured.qemu_each),
            ("the lab's CPU time", TRACED, _Measured.lab_each),
        ):
            yield Figure(
                f"{what} for each of: {job.name}", 1e6 * median(LAB, job, value), "µs", other, 1e6 * median(other, job, value)
            )


@dataclass(frozen=True)
class _Measured:
    """One job on one device."""

    done: Done
    qemu: float
    """CPU seconds of QEMU, the guest's included."""
    lab: float
    """CPU seconds of this process, which serves the programmable controller and reads the trace."""

    def without(self, start: _Measured) -> _Measured:
        """Without what it costs to start fio."""
        return replace(self, qemu=max(0.0, self.qemu - start.qemu), lab=max(0.0, self.lab - start.lab))

    def rate(self) -> float:
        """I/Os a second."""
        return self.done.rate

    def qemu_each(self) -> float:
        """CPU seconds for an I/O."""
        return self.qemu / self.done.count

    def lab_each(self) -> float:
        return self.lab / self.done.count


_Found = dict[tuple[str, FioJob], list[_Measured]]
"""What was measured of a device and a job, round by round."""


class _Device(Protocol):
    """One of the devices that are compared."""

    name: str
    serial: str

    def counted(self) -> tuple[int, int]:
        """Return the reads and writes that it has carried out."""

    def active(self) -> AbstractContextManager[None]:
        """Measure this side within the ``with`` block; no other side runs."""


class _Lab:
    name, serial = LAB, "lab"

    def __init__(self, device: LabDevice) -> None:
        self._device = device

    def counted(self) -> tuple[int, int]:
        logs = self._device.server.call(lambda device: device.controllers[self.serial].logs)
        return logs.reads, logs.writes

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Own:
    name, serial = OWN, "own"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def counted(self) -> tuple[int, int]:
        for one in self._machine.qmp("query-blockstats"):
            if self.serial in one.get("qdev", "").split("/"):
                return one["stats"]["rd_operations"], one["stats"]["wr_operations"]
        raise LabError(f"QEMU has no statistics of {self.serial}.")

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Traced(_Own):
    name, serial = TRACED, "traced"

    def __init__(self, machine: Machine, trace: TraceReader) -> None:
        super().__init__(machine)
        self._trace = trace

    @contextmanager
    def active(self) -> Iterator[None]:
        """Trace this device only, since the trace covers all of QEMU's own devices."""
        self._switch(True)
        yield
        self._switch(False)
        self._trace.caught_up(Deadline(SETTLING))

    def _switch(self, on: bool) -> None:
        for pattern in EVENTS:
            self._machine.qmp("trace-event-set-state", {"name": pattern, "enable": on})


class _Fio(Protocol):
    """What runs a job in the guest (`lab.bench.fio.FioInGuest`)."""

    def run(self, job: FioJob, disk: str, blocks: int, deadline: Deadline) -> Done:
        """Run the job on the first ``blocks`` blocks of a disk."""


class _Bencher:
    """Measures one job on one device."""

    def __init__(self, qemu_pid: int, fio: _Fio, disks: Mapping[str, str]) -> None:
        self._qemu_pid, self._fio, self._disks = qemu_pid, fio, disks

    def measure(self, device: _Device, job: FioJob, blocks: int) -> _Measured:
        """Run fio and measure it. LabError if the device has carried out less than fio reports."""
        before, began = device.counted(), self._cpu()
        with device.active():
            done = self._fio.run(job, self._disks[device.serial], blocks, Deadline(SETTLING + blocks / 100))
        ended, after = self._cpu(), device.counted()
        seen = after[0] - before[0], after[1] - before[1]
        if seen[0] < done.reads or seen[1] < done.writes:
            raise LabError(f"fio counts {done.reads} reads and {done.writes} writes on {device.name}, which saw {seen}.")
        return _Measured(done, *(to - since for since, to in zip(began, ended, strict=True)))

    def _cpu(self) -> tuple[float, float]:
        """Return the CPU seconds of QEMU (proc_pid_stat(5), utime and stime) and of this process so far."""
        fields = Path(f"/proc/{self._qemu_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.process_time()


@contextmanager
def _guest(
    toolchain: Toolchain, qemu: Qemu, guest: LinuxGuest, fio: Fio, folder: Path
) -> Iterator[tuple[Sequence[_Device], _Bencher]]:
    """Return the guest with its driver loaded, fio in it, and the three devices in front of it."""
    linux, deadline = Linux(find("linux"), toolchain), Deadline(SETTLING)
    scenario = _scenario(Controller(id="lab", serial="lab", namespaces=(Namespace(blocks=BLOCKS * 8),)))
    with ExitStack() as cleanup:
        enter = cleanup.enter_context
        scratch = enter(run_folder())
        trace = enter(_trace(qemu, folder))
        (folder / "lab").mkdir()
        lab = enter(LabDevice(scenario.device, folder, qemu.version, sockets=scratch, records=folder / "lab"))
        name = accelerator(qemu.command, qemu.env).name
        spec = replace(linux.guest(scenario), memory_file=scratch / "memory")
        own, seen = (_own(serial, folder, qemu) for serial in ("own", "traced"))
        machine = enter(Machine(qemu.command, qemu.env, spec, name, trace=trace.write_end, writable=[scratch, folder]))
        trace.started()
        trace.translator.memory = enter(machine.memory())
        session = linux.open(machine, scenario, deadline)
        lab.plug(machine, [{"bus": "rp0"}])
        own.plug(machine, [{"bus": "rp1"}])
        session.plugged(2, deadline)
        load(session, deadline)
        traced = _Traced(machine, trace)
        with traced.active():  # the translator has to see how its queues are made
            seen.plug(machine, [{"bus": "rp2"}])
            session.plugged(3, deadline)
        ssh = enter(connect(guest, machine, deadline))
        devices = _Lab(lab), _Own(machine), traced
        found = disks(ssh, [device.serial for device in devices], deadline)
        install(fio, session, deadline)
        yield devices, _Bencher(machine.process.pid, FioInGuest(ssh), found)


@contextmanager
def _trace(qemu: Qemu, folder: Path) -> Iterator[TraceReader]:
    """Yield a reader of the trace, with its evidence in ``traced``. QEMU must have ended before this does."""
    if qemu.trace_events is None:
        raise LabError("the declarations of QEMU's trace events (trace-events-all) were not found")
    evidence = EvidenceWriter(folder / "traced", Identity(driver=DriverIdentity(name="linux"), device="qemu", scenario={}))
    with TraceReader(Declarations.load(qemu.trace_events, EVENTS), Translator(["traced"]), evidence) as reader:
        yield reader
    evidence.close("complete")


def _own(id: str, folder: Path, qemu: Qemu) -> QemuDevice:
    spec = _scenario(Controller(id=id, serial=id, namespaces=(Namespace(blocks=BLOCKS * 8),))).device
    device = QemuDevice(spec, folder, qemu.version)
    device.create_images(0)
    return device


def _scenario(controller: Controller) -> Scenario:
    device = DeviceSpec(controllers=(controller,))
    return Scenario(
        id="bench/controller", stage="read", title="direct I/O", seed=0, device=device, actions=(), guest={"memory": MEMORY}
    )
