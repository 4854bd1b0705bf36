"""The program: finds its port, and serves it in a process of its own."""

import io
import os
import subprocess
import time
from pathlib import Path

from lab.drivers.linux_agent.buffers import SPARE_BYTES, new_buffer, spare
from lab.drivers.linux_agent.kernel_log import KernelLog
from lab.drivers.linux_agent.server import Server
from lab.drivers.linux_agent.sysfs import POLL_SECONDS, read_attribute

PORT_SECONDS = 10
"""How long the device of the port may take to show up."""


def main(name: str) -> None:
    """Serve the virtio-serial port of that name; return once the server runs, which goes on in the background."""
    with find_port(name).open("r+b", buffering=0) as raw, io.BufferedReader(raw) as port:
        subprocess.run(["dmesg", "-c"], stdout=subprocess.DEVNULL, check=True)  # see kernel_log
        if os.fork() == 0:  # the caller knows now that the agent serves
            spare.append(new_buffer(SPARE_BYTES))
            own_log = os.open("agent.log", os.O_WRONLY | os.O_CREAT)
            os.dup2(own_log, 1)
            os.dup2(own_log, 2)
            Server(port, KernelLog()).work()


def find_port(name: str) -> Path:
    """Return the device of the virtio-serial port of that name, which shows up a moment after its driver has been loaded."""
    subprocess.run(["modprobe", "virtio_console"])  # which fails where it is built in
    end = time.monotonic() + PORT_SECONDS
    while True:
        ports = {read_attribute(path / "name"): path.name for path in Path("/sys/class/virtio-ports").glob("*")}
        if name in ports:
            return Path("/dev", ports[name])
        if time.monotonic() > end:
            raise SystemExit(f"waited {PORT_SECONDS} s for the virtio-serial port {name!r}; there are: {', '.join(ports)}")
        time.sleep(POLL_SECONDS)
