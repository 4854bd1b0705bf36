"""Actions that change which controllers the driver has: load, unload, plug, reset, rescan, shutdown."""

import subprocess
import threading
import time

from lab.drivers.linux_agent.answers import Fields, RefusedError
from lab.drivers.linux_agent.information import list_
from lab.drivers.linux_agent.modules import NOTHING, insert, remove, wait_for_probes
from lab.drivers.linux_agent.power import power_off
from lab.drivers.linux_agent.sysfs import CLASS, POLL_SECONDS, controllers, names_in, nvme_functions, wait_scanned, wait_settled

PROBE_SECONDS = 2
"""For a loaded driver to take a function that was plugged; one that refuses it does not say so."""
loaded = threading.Event()
"""The driver is loaded."""
preloaded = threading.Event()
"""The driver is loaded before the lab asks for it: there is no device yet."""


def preload(request: Fields) -> Fields:
    """Load the driver before there is a function for it. RefusedError if its modules register no PCI driver."""
    insert(request["modules"])
    if not any(names_in(f"/sys/module/{name}/drivers", "pci:") for name in request["names"]):
        raise RefusedError("none of its modules has registered a driver of PCI functions, which may come later")
    subprocess.run(["modprobe", NOTHING])  # see wait_for_probes
    preloaded.set()
    return {}


def load(request: Fields) -> Fields:
    """Load the driver, or let the loaded one take its functions."""
    if preloaded.is_set():
        preloaded.clear()
        wait_bound()
    else:
        insert(request["modules"])
        wait_settled()  # the call itself waits for the probes, which may leave a reset running
        wait_scanned()
    loaded.set()
    return {}


def unload(request: Fields) -> Fields:
    """Unload the modules, in the order given."""
    for module in request["modules"]:
        remove(module, PROBE_SECONDS)
    loaded.clear()
    return {}


def plugged(request: Fields) -> Fields:
    """Wait until the PCI core sees so many functions, and a loaded driver has had the time to take them."""
    while len(nvme_functions()) != request["controllers"]:
        time.sleep(POLL_SECONDS)
    if loaded.is_set():
        wait_bound()
    return {}


def wait_bound() -> None:
    """Wait until the loaded driver has taken all functions, or has had the time to."""
    end = time.monotonic() + PROBE_SECONDS
    while len(names_in(CLASS, "nvme")) < len(nvme_functions()) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    wait_settled()
    wait_for_probes()
    wait_scanned()


def reset(_request: Fields) -> Fields:
    """Reset all controllers; return when the resets have ended."""
    for path in controllers():
        (path / "reset_controller").write_text("1")
    return {}


def rescan(request: Fields) -> Fields:
    """Let all controllers look for namespaces; return the list."""
    for path in controllers():
        (path / "rescan_controller").write_text("1")
    wait_scanned()
    before, now = None, list_(request)  # two equal lists, for the work may have yet to begin
    while now != before:
        time.sleep(5 * POLL_SECONDS)
        before, now = now, list_(request)
    return now


def shutdown(request: Fields) -> Fields:
    """Take the driver off its functions: it shuts its controllers down as it does when the system halts. ``halt``: let it."""
    if request.get("halt"):
        power_off()
        return {}
    for path in nvme_functions():
        if (path / "driver").exists():
            (path / "driver/unbind").write_text(path.name)
    return {}
