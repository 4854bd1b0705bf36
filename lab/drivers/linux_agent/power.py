"""Actions in which the system acts on the controllers, and no command: sleep, power-off, resets of function and subsystem."""

import ctypes
import fcntl
import os
import threading
from pathlib import Path

from lab.drivers.linux_agent.answers import Fields, NotOfferedError
from lab.drivers.linux_agent.buffers import OpenFile
from lab.drivers.linux_agent.sysfs import controllers, nvme_functions, wait_settled

SLEEP = Path("/sys/power/state")
SLEEP_TEST, SLEEP_TEST_SECONDS = Path("/sys/power/pm_test"), Path("/sys/module/suspend/parameters/pm_test_delay")
LOW_POWER = "low-power"
"""A scenario's name of the state in which links save power, so that devices stay on and save it too."""
STATES = {"": "freeze", "idle": "freeze", LOW_POWER: "freeze", "memory": "mem", "disk": "disk"}
"""What the states of a scenario are called in /sys/power/state (Documentation/admin-guide/pm/sleep-states.rst)."""
LINK_POLICY = Path("/sys/module/pcie_aspm/parameters/policy")
SUBSYSTEM_RESET = 0x4E45  # linux/nvme_ioctl.h: _IO('N', 0x45)
REBOOT, MAGIC, POWER_OFF = 169, (0xFEE1DEAD, 672274793), 0x4321FEDC  # of x86-64; linux/reboot.h
KEXEC_FILE_LOAD, KEXEC = 320, 0x45584543  # of x86-64; linux/kexec.h, linux/reboot.h
ANSWER_SECONDS = 0.2
"""For the answer to leave the guest before the guest ends."""


def suspend(request: Fields) -> Fields:
    """Let the system sleep as far as its devices sleep, wake it up at once, and wait for the controllers.

    The test of the kernel's own for drivers (Documentation/power/basic-pm-debugging.rst): all is done but the last step.
    """
    state = request.get("state", "")
    if not SLEEP_TEST.exists() or (state == LOW_POWER and not LINK_POLICY.exists()):
        raise NotOfferedError
    if state == LOW_POWER:
        LINK_POLICY.write_text("powersave")
    SLEEP_TEST_SECONDS.write_text("0")
    SLEEP_TEST.write_text("devices")
    SLEEP.write_text(STATES[state])
    wait_settled()
    return {}


def power_off() -> None:
    """Power the machine off, soon, by the system call of poweroff(8)."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_long(number) for number in (REBOOT, *MAGIC, POWER_OFF, 0)]
    threading.Timer(ANSWER_SECONDS, lambda: libc.syscall(*arguments)).start()


def reset_function(_request: Fields) -> Fields:
    """Reset all NVMe functions by PCI, as a user may; return when the controllers are back."""
    for path in nvme_functions():
        if not (path / "reset").exists():
            raise NotOfferedError
        (path / "reset").write_text("1")
    wait_settled()
    return {}


def reset_subsystem(_request: Fields) -> Fields:
    """Reset the NVM subsystem of the first controller."""
    with OpenFile(Path("/dev", controllers()[0].name), os.O_RDWR) as node:
        fcntl.ioctl(node, SUBSYSTEM_RESET)
    wait_settled()
    return {}


def host_memory(request: Fields) -> Fields:
    """Lend the controllers memory of the host, or take it back."""
    shown = [path / "hmb" for path in controllers() if (path / "hmb").exists()]
    if not shown:
        raise NotOfferedError
    for path in shown:
        path.write_text(str(int(request["lent"])))
    return {"lent": all(path.read_text().strip() == "1" for path in shown)}


def kexec(request: Fields) -> Fields:
    """Start the kernel of the files ``kernel`` and ``initrd``, soon, as reboot(2) does: drivers shut their devices down."""
    libc = ctypes.CDLL(None, use_errno=True)
    line = str(request["append"]).encode() + b"\0"
    files = [os.open(request[name], os.O_RDONLY) for name in ("kernel", "initrd")]
    arguments = [ctypes.c_long(number) for number in (KEXEC_FILE_LOAD, *files, len(line))]
    if libc.syscall(*arguments, ctypes.c_char_p(line), ctypes.c_long(0)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    start = [ctypes.c_long(number) for number in (REBOOT, *MAGIC, KEXEC, 0)]
    threading.Timer(ANSWER_SECONDS, lambda: libc.syscall(*start)).start()
    return {}
