"""The reference driver on its three transports: reads a second, one at a time and 32 at once, against the same run's floor.

The floor is what a transport cannot do without: in process and by VFIO the copy of 4 KiB from one place to another by the same
interpreter, over qtest a register read, which is a round trip over the socket. A floor is measured beside each of its rates.

By VFIO it is measured against Linux's own driver too, which fio asks in a guest beside it, in turns: on the same kind of
device, but without an IOMMU, which only VFIO needs.
"""

from __future__ import annotations

import inspect
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lab.bench.figures import Figure, Say, no_progress, numbered_rounds
from lab.bench.fio import Fio
from lab.bench.linux import reads_by_linux, reads_of
from lab.controller.in_process import InProcess
from lab.data import content
from lab.data.plan import Controller, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.device.images import create_images
from lab.device.qemu import QemuDevice
from lab.drivers import find
from lab.drivers.bundle import bundle
from lab.drivers.linux_guest import connect
from lab.drivers.reference import QTEST_MEMORY
from lab.drivers.reference_in_process import Host, InProcessTransport
from lab.drivers.reference_qtest import Ram
from lab.drivers.reference_qtest import find as find_by_qtest
from lab.drivers.reference_vfio import ReferenceVfio
from lab.errors import GuestError, LabError
from lab.guest.accelerator import accelerator
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.folder import run_folder
from lab.guest.machine import Machine
from lab.guest.qtest import Qtest
from lab.guest.ssh import Ssh
from lab.reference.bench import FIRST_ROUND, TRANSFER, reads
from lab.reference.service import Service
from lab.reference.transport import Transport
from lab.toolchain import LinuxGuest, Qemu, Toolchain

DEPTHS = 1, 32
ROUNDS = 5
SECONDS = 1.0
"""For each rate and each floor in each round."""
GUEST_SECONDS = 120.0
"""For the guest to come up, and for what is asked of it beyond the measurement."""
SEED = 1
NAMESPACE = Namespace(blocks=1 << 18, areas=((0, 64),))
DEVICE = DeviceSpec(controllers=(Controller(serial="BENCH", namespaces=(NAMESPACE,)),))
FIRST = b"".join(content.initial(SEED, NAMESPACE, lba) for lba in range(TRANSFER // NAMESPACE.block_size))
"""What the first 4 KiB must be."""
LEAST = 2 * FIRST_ROUND * len(DEPTHS)
"""Reads that a device must have carried out for one round."""
LINUX = "Linux's own driver, by fio"
COPY, ROUND_TRIP, INTERRUPTS = "a bare copy of 4 KiB", "a bare round trip", "the same with interrupts"


@dataclass(frozen=True)
class Round:
    """What was measured on one transport at about the same time, all a second."""

    rates: tuple[float, ...]
    """Reads of 4 KiB, for each of `DEPTHS`."""
    floor: float
    polled: tuple[float, ...] = ()
    """The same while the driver polls, where that is measured."""
    linux: tuple[float, ...] = ()
    """The same of Linux's own driver, where that is measured."""


def bench(
    toolchain: Toolchain, fio: Fio, *, rounds: int = ROUNDS, seconds: float = SECONDS, say: Say = no_progress
) -> list[Figure]:
    """Return the medians of so many rounds on each transport."""
    qemu, linux = toolchain.qemu, toolchain.linux
    if qemu is None or linux is None:
        raise LabError("the benchmark needs QEMU and the Linux guest", remedy="prepare them: nvme-lab fetch")
    found: list[Figure] = []
    for name, floor, opened in (
        ("in process", COPY, _in_process(seconds)),
        ("over qtest", ROUND_TRIP, _over_qtest(qemu, seconds)),
        ("by VFIO", COPY, _by_vfio_and_linux(toolchain, qemu, linux, fio, seconds)),
    ):
        with opened as measure:
            done = [measure() for _ in numbered_rounds(rounds, f"reading {name}", say)]
        for at, depth in enumerate(DEPTHS):
            rate = statistics.median(one.rates[at] for one in done)
            least = statistics.median(one.floor for one in done)
            found.append(Figure(f"reads {name}, QD{depth}", rate, "per s", floor, least, more_is_better=True))
            if done[0].polled:
                polled = statistics.median(one.polled[at] for one in done)
                found.append(Figure(f"reads {name}, polled, QD{depth}", polled, "per s", INTERRUPTS, rate, more_is_better=True))
                linux_rate = statistics.median(one.linux[at] for one in done)
                found += [
                    Figure(f"reads {name}{how}, QD{depth}", value, "per s", LINUX, linux_rate, more_is_better=True)
                    for how, value in (("", rate), (", polled", polled))
                ]
    return found


def copies(seconds: float) -> float:
    """Return how often a second 4 KiB are copied in memory. It also runs in the guest, so it uses no other module."""
    source, target = memoryview(bytes(4096)), memoryview(bytearray(4096))
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(1000):
            target[:] = source
        count += 1000
    return count / passed


def _round_trips(transport: Transport, seconds: float) -> float:
    """Return how often a second a register is read."""
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        transport.read32(0)
        count += 1
    return count / passed


# -- the transports -------------------------------------------------------------------------------------------------


@contextmanager
def _in_process(seconds: float) -> Iterator[Callable[[], Round]]:
    """Measure on the programmable controller with its full record."""
    host = Host()
    with run_folder() as folder:
        create_images(DEVICE, folder, SEED)
        with InProcess(DEVICE, folder, records=folder, memory=host.memory) as device:
            logs = device.function.controller.logs
            transport = InProcessTransport(host, device, device.function)
            with _loaded(transport) as service:
                yield lambda: _counted(lambda: logs.reads, lambda: _local(service, seconds, copies(seconds)))


@contextmanager
def _over_qtest(qemu: Qemu, seconds: float) -> Iterator[Callable[[], Round]]:
    """Measure on QEMU's own device in a stopped machine."""
    with run_folder() as folder:
        device = QemuDevice(DEVICE, folder, qemu.version)
        device.create_images(SEED)
        guest = GuestSpec(
            memory=QTEST_MEMORY, memory_file=folder / "memory", blockdevs=device.blockdevs,
            devices=device.devices([{"bus": "pcie.0", "addr": "4"}]), extra=("-S",),
        )  # fmt: skip
        with Machine(qemu.command, qemu.env, guest, "tcg", writable=[folder]) as machine, Qtest(machine) as qtest:
            (transport,) = find_by_qtest(qtest, Ram(folder / "memory", QTEST_MEMORY * MIB))
            with _loaded(transport) as service:
                yield lambda: _counted(
                    lambda: reads_of(machine), lambda: _local(service, seconds, _round_trips(transport, seconds))
                )


@contextmanager
def _by_vfio(toolchain: Toolchain, qemu: Qemu, linux: LinuxGuest, seconds: float) -> Iterator[Callable[[], Round]]:
    """Measure on QEMU's own device in a Linux guest with an IOMMU: nvmectl, run by the guest's python3."""
    scenario = Scenario(id="bench/reference", stage="read", title="reads", seed=SEED, device=DEVICE, actions=())
    with run_folder() as folder, ExitStack() as cleanup:
        device = QemuDevice(DEVICE, folder, qemu.version)
        device.create_images(SEED)
        spec = replace(ReferenceVfio(find("reference-vfio"), toolchain).guest(scenario), memory_file=folder / "memory")
        name = accelerator(qemu.command, qemu.env).name
        machine = cleanup.enter_context(Machine(qemu.command, qemu.env, spec, name, writable=[folder]))
        deadline = Deadline(GUEST_SECONDS)
        guest = _Guest(cleanup.enter_context(connect(linux, machine, deadline)), seconds)
        guest.prepare()
        device.plug(machine, [{"bus": "rp0"}])
        guest.wait_for_controller()
        yield lambda: _counted(lambda: reads_of(machine), guest.measure)


@contextmanager
def _by_vfio_and_linux(
    toolchain: Toolchain, qemu: Qemu, linux: LinuxGuest, fio: Fio, seconds: float
) -> Iterator[Callable[[], Round]]:
    """Measure both, each in a guest of its own, in turns."""
    with (
        _by_vfio(toolchain, qemu, linux, seconds) as by_vfio,
        reads_by_linux(toolchain, DEVICE, fio, seconds, SEED) as by_linux,
    ):
        yield lambda: replace(by_vfio(), linux=tuple(by_linux(depth) for depth in DEPTHS))


class _Guest:
    """A guest in which the driver is a program that is called."""

    def __init__(self, ssh: Ssh, seconds: float) -> None:
        self._ssh, self._seconds = ssh, seconds

    def prepare(self) -> None:
        self._run("modprobe vfio_iommu_type1 && modprobe vfio-pci && cat > /run/nvmectl.pyz", bundle())

    def wait_for_controller(self) -> None:
        """Wait until the guest has the plugged controller."""
        deadline = Deadline(GUEST_SECONDS)
        while not int(self._run("cat /sys/bus/pci/devices/*/class | grep -c ^0x0108 || true")):
            if deadline.expired:
                raise LabError(f"the guest has not found the controller in {deadline.seconds:g} s")

    def measure(self) -> Round:
        _check(bytes.fromhex(self._nvmectl(f"read 1 0 {TRANSFER // NAMESPACE.block_size}")["data"]))
        copying = f"import time\n{inspect.getsource(copies)}\nprint(copies({self._seconds}))\n"
        floor = float(self._run("python3 -", copying.encode()))
        return Round(self._rates(), floor, polled=self._rates("--poll"))

    def _rates(self, option: str = "") -> tuple[float, ...]:
        figures = self._nvmectl(f"bench --prepared --seconds {self._seconds} {option}")["figures"]
        if [figure["name"] for figure in figures] != [f"read 4 KiB QD{depth}" for depth in DEPTHS]:
            raise LabError(f"nvmectl has measured something else: {figures}")
        return tuple(figure["value"] for figure in figures)

    def _nvmectl(self, words: str) -> Any:
        return json.loads(self._run(f"python3 /run/nvmectl.pyz --transport vfio --json {words}"))

    def _run(self, command: str, input: bytes = b"") -> bytes:
        result = self._ssh.run(command, input, deadline=Deadline(GUEST_SECONDS + len(DEPTHS) * self._seconds))
        if result.status:
            last = (result.stderr or result.stdout).decode(errors="replace").strip()
            raise GuestError(f"The guest cannot do {command!r}: {last}", last=last)
        return result.stdout


@contextmanager
def _loaded(transport: Transport) -> Iterator[Service]:
    """Yield the driver in this process, with its controller brought up."""
    service = Service(lambda: [transport])
    reply = service.perform("load", {})
    if reply.status != "success":
        raise LabError(f"the reference driver cannot be loaded: {reply}")
    try:
        yield service
    finally:
        service.close()


def _local(service: Service, seconds: float, floor: float) -> Round:
    _check(service.perform("read", {"nsid": 1, "lba": 0, "blocks": TRANSFER // NAMESPACE.block_size}).data)
    controller = service.controller_for({}, "read")
    namespace = service.namespace({"nsid": 1}, "read")
    return Round(tuple(reads(controller, namespace, depth, seconds).rate for depth in DEPTHS), floor)


# -- what makes a figure one ----------------------------------------------------------------------------------------


def _check(data: bytes | None) -> None:
    if data != FIRST:
        raise LabError(f"the first {TRANSFER} bytes that the benchmark read are wrong: {(data or b'')[:16].hex()}…")


def _counted(count: Callable[[], int], measure: Callable[[], Round]) -> Round:
    """Return the round, if the device counted its reads too."""
    before = count()
    done = measure()
    if (seen := count() - before) < LEAST:
        raise LabError(f"the device saw {seen} reads of a benchmark that makes at least {LEAST}")
    return done
