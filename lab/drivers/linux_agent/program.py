"""The program: opens its port, and serves it in a process of its own."""

import os
import subprocess

from lab.drivers.linux_agent.buffers import SPARE_BYTES, new_buffer, spare
from lab.drivers.linux_agent.kernel_log import KernelLog
from lab.drivers.linux_agent.port import Port
from lab.drivers.linux_agent.server import Server


def main(name: str) -> None:
    """Serve the virtio-serial port of that name; return once the server runs, which goes on in the background."""
    port = Port(name)
    subprocess.run(["dmesg", "-c"], stdout=subprocess.DEVNULL, check=True)  # see kernel_log
    if os.fork() == 0:  # the caller knows now that the agent serves
        spare.append(new_buffer(SPARE_BYTES))
        own_log = os.open("agent.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(own_log, 1)
        os.dup2(own_log, 2)
        Server(port, KernelLog()).work()
