"""Linux's own driver in the guest of a benchmark: loaded, with its disks, and asked by fio."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from lab.bench.fio import BLOCK, Fio, FioInGuest, FioJob, install
from lab.data.plan import Action, DeviceSpec, Scenario
from lab.deadline import Deadline
from lab.device.qemu import QemuDevice
from lab.drivers import find
from lab.drivers.linux import Linux, LinuxSession
from lab.drivers.linux_guest import connect
from lab.errors import LabError
from lab.guest.accelerator import accelerator
from lab.guest.folder import run_folder
from lab.guest.machine import Machine
from lab.guest.ssh import Ssh
from lab.toolchain import Toolchain

MEMORY = 512
"""MiB of the guest, a sixth of which fio's libraries take."""
WARM_UP = 1024
"""I/Os from which the length of the others is estimated."""
SECONDS = 120.0
"""For the guest to come up, and for each fio beyond the time of its job."""


def load(session: LinuxSession, deadline: Deadline) -> None:
    """Load the driver. LabError if it cannot be."""
    answer = session.perform(Action("load"), None, deadline)
    if answer.status != "success":
        raise LabError(f"The driver of the benchmark cannot be loaded: {answer.status}.")


def disks(ssh: Ssh, serials: Sequence[str], deadline: Deadline) -> dict[str, str]:
    """Return the block device of each controller's only namespace, on which neighbours are not merged: one I/O is one command.

    The driver may still be on its way to it.
    """
    missing = list(serials)
    while not deadline.expired:
        said = ssh.run("grep -H . /sys/block/nvme*n*/device/serial", deadline=deadline).stdout.decode()
        found = {serial: f"/dev/{name}" for name, serial in re.findall(r"^/sys/block/(\w+)/\S+:(\S+)", said, re.M)}
        missing = [serial for serial in serials if serial not in found]
        if not missing:
            ssh.run("for merges in /sys/block/nvme*n*/queue/nomerges; do echo 2 > $merges; done", deadline=deadline)
            return found
    raise LabError(f"The guest shows no disk of {', '.join(missing)}.")


@contextmanager
def reads_by_linux(
    toolchain: Toolchain, spec: DeviceSpec, fio: Fio, seconds: float, seed: int
) -> Iterator[Callable[[int], float]]:
    """Yield what measures direct random reads of a depth on QEMU's own device for about so long, in reads a second.

    ``spec`` has one controller with one namespace.
    """
    qemu, linux = toolchain.qemu, toolchain.linux
    if qemu is None or linux is None:
        raise LabError("the benchmark needs QEMU and the Linux guest", remedy="prepare them: nvme-lab fetch")
    driver, deadline = Linux(find("linux"), toolchain), Deadline(SECONDS)
    guest = {"memory": MEMORY}
    scenario = Scenario(id="bench/linux", stage="read", title="reads", seed=seed, device=spec, actions=(), guest=guest)
    (controller,) = spec.controllers
    (namespace,) = controller.namespaces
    with run_folder() as folder, ExitStack() as cleanup:
        device = QemuDevice(spec, folder, qemu.version)
        device.create_images(seed)
        name = accelerator(qemu.command, qemu.env).name
        machine = cleanup.enter_context(Machine(qemu.command, qemu.env, driver.guest(scenario), name, writable=[folder]))
        session = driver.open(machine, scenario, deadline)
        device.plug(machine, [{"bus": "rp0"}])
        session.plugged(1, deadline)
        load(session, deadline)
        ssh = cleanup.enter_context(connect(linux, machine, deadline))
        (disk,) = disks(ssh, [controller.serial], deadline).values()
        install(fio, session, deadline)
        in_guest, most = FioInGuest(ssh), namespace.blocks * namespace.block_size // BLOCK
        estimates: dict[int, float] = {}

        def rate(depth: int, blocks: int) -> float:
            before = reads_of(machine)
            done = in_guest.run(FioJob(f"random reads, QD{depth}", "read", depth), disk, blocks, Deadline(SECONDS + seconds))
            if (seen := reads_of(machine) - before) < done.reads:
                raise LabError(f"fio counts {done.reads} reads, and the device saw {seen}")
            return done.rate

        def measure(depth: int) -> float:
            if depth not in estimates:
                estimates[depth] = rate(depth, min(most, WARM_UP))
            return rate(depth, min(most, max(WARM_UP, round(estimates[depth] * seconds))))

        yield measure


def reads_of(machine: Machine) -> int:
    """Return the reads that QEMU's device, the only one, has carried out."""
    return sum(one["stats"]["rd_operations"] for one in machine.qmp("query-blockstats"))
