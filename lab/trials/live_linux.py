"""A forked Linux guest with the programmable controller in it, and a shell: for looking at what Linux does, not for judging.

Nothing is plugged and no driver is loaded at the start; `LiveLinux.plug` and `LiveLinux.load` do that, in either order.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.data.events import Remark
from lab.data.plan import DeviceSpec, Fault, Scenario
from lab.data.stream import read_stream
from lab.deadline import Deadline
from lab.device.lab import LabDevice
from lab.drivers.linux import Linux
from lab.drivers.linux_guest import IN_GUEST, connect
from lab.drivers.registry import find
from lab.errors import GuestError, GuestTimeoutError, LabError
from lab.guest.accelerator import accelerator
from lab.guest.folder import run_folder, shared_root
from lab.guest.machine import Machine
from lab.guest.ssh import Result, Ssh
from lab.guest.template import Template, Templates
from lab.toolchain import Toolchain

SECONDS = 60.0
"""For a command in the guest."""
BOOT_SECONDS = 120.0
POLL_SECONDS = 0.05

_STAMP = re.compile(r"^\[ *\d+\.\d+\] ")


class LiveLinux:
    """Use it in a ``with`` block. ``folder`` gets the namespaces' images and the device's records."""

    machine: Machine
    ssh: Ssh
    device: LabDevice

    def __init__(
        self, toolchain: Toolchain, spec: DeviceSpec, folder: Path, *, faults: Iterable[Fault] = (), seed: int = 1
    ) -> None:
        """Start nothing yet; LabError if the toolchain lacks QEMU or the guest."""
        if toolchain.qemu is None or toolchain.linux is None or toolchain.cache is None:
            raise LabError("a live Linux needs QEMU and the Linux guest", remedy="prepare qemu and linux-guest")
        self._toolchain, self._qemu, self._guest, self._cache = toolchain, toolchain.qemu, toolchain.linux, toolchain.cache
        self.spec, self._folder, self._faults, self._seed = spec, folder, tuple(faults), seed
        self._cleanup = ExitStack()

    def __enter__(self) -> LiveLinux:
        """Start the guest with its device, and return it."""
        with ExitStack() as cleanup:
            scratch = cleanup.enter_context(run_folder(shared_root()))
            self.device = LabDevice(
                self.spec, self._folder, self._qemu.version, sockets=scratch, records=self._folder, faults=self._faults
            )
            self.device.create_images(self._seed)
            cleanup.enter_context(self.device)
            driver = Linux(find("linux"), self._toolchain)
            scenario = Scenario(id="live", stage="", title="", seed=self._seed, device=self.spec, actions=())
            guest, chosen = driver.guest(scenario), accelerator(self._qemu.command, self._qemu.env).name

            def start(template: Template) -> Machine:
                forked = template.forked(guest, scratch / "memory")
                log = self._folder / "console.log"
                return Machine(self._qemu.command, self._qemu.env, forked, chosen, console_log=log, writable=[scratch])

            templates = Templates(self._cache, self._qemu, chosen, lambda _: None)
            self.machine = cleanup.enter_context(templates.fork(guest, driver, start))
            deadline = Deadline(BOOT_SECONDS)
            driver.open(self.machine, scenario, deadline)  # pushes the modules
            self.ssh = cleanup.enter_context(connect(self._guest, self.machine, deadline))
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End the guest and the device."""
        self._cleanup.close()

    # -- the device -------------------------------------------------------------------------------------------------

    def plug(self) -> None:
        """Hot-plug all controllers, one to a root port."""
        self.device.plug(self.machine, [{"bus": f"rp{n}"} for n in range(len(self.spec.controllers))])

    def unplug(self) -> None:
        """Ask the guest for them and wait until it has released them."""
        self.device.unplug(self.machine, Deadline(SECONDS))

    def arm(self, fault: str, armed: bool = True) -> None:
        """Flip the switch of a fault."""
        self.device.arm(fault, armed)

    def strikes(self, fault: str) -> int:
        """Return how often a fault has struck."""
        return self.device.server.call(lambda device: device.strikes(fault))

    def remarks(self, controller: str = "nv0") -> list[str]:
        """Return the rules that the driver has broken so far, as the device remarks on them."""
        recorded = read_stream(self._folder / f"{controller}.rec", complete=False)
        return [event.name for event in recorded if isinstance(event, Remark)]

    # -- the guest --------------------------------------------------------------------------------------------------

    def load(self, **parameters: int) -> None:
        """Load nvme-core and nvme; the parameters are nvme-core's, such as ``io_timeout`` and ``admin_timeout`` in seconds."""
        arguments = " ".join(f"{name}={value}" for name, value in parameters.items())
        self.shell(f"insmod {IN_GUEST}/nvme-core.ko {arguments} && insmod {IN_GUEST}/nvme.ko")

    def run(self, command: str, input: bytes = b"", seconds: float = SECONDS) -> Result:
        """Run a command and return its output, whatever its status."""
        return self.ssh.run(command, input, deadline=Deadline(seconds))

    def shell(self, command: str, input: bytes = b"", seconds: float = SECONDS) -> str:
        """Run a command that must succeed and return its output."""
        result = self.run(command, input, seconds)
        if result.status:
            last = (result.stderr or result.stdout).decode(errors="replace").strip()
            raise GuestError(f"{command.splitlines()[0][:80]!r} failed in the guest with {result.status}: {last}", last=last)
        return result.stdout.decode(errors="replace")

    def python(self, program: str, *arguments: object, seconds: float = SECONDS) -> Any:
        """Run a program in the guest; what it prints is JSON."""
        words = " ".join(str(argument) for argument in arguments)
        return json.loads(self.shell(f"python3 - {words}", program.encode(), seconds))

    def log(self) -> list[str]:
        """Return the kernel's messages since the last call, without their times."""
        return [_STAMP.sub("", line) for line in self.shell("dmesg -c").splitlines()]

    def until(self, condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
        """Wait for something in the guest or in the device; GuestTimeoutError says what was waited for."""
        deadline = Deadline(seconds)
        while not condition():
            self.machine.check(what)
            if deadline.expired:
                raise GuestTimeoutError(
                    f"Timed out after {seconds:g} s waiting for {what}; the kernel's last messages: {self.log()[-5:]}"
                )
            time.sleep(POLL_SECONDS)

    def appears(self, path: str, seconds: float = SECONDS) -> None:
        """Wait until a file is there."""
        self.until(lambda: self.run(f"test -e {path}").status == 0, f"{path} in the guest", seconds)
