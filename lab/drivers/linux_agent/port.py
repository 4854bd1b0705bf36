"""The guest's end of the virtio-serial port on which the lab asks."""

import io
import json
import os
import select
import subprocess
import threading
import time
from pathlib import Path

from lab.drivers.linux_agent.answers import Fields
from lab.drivers.linux_agent.sysfs import POLL_SECONDS, names_in, read_attribute

PORT_SECONDS = 10
"""How long the device of the port may take to show up."""
HOST_SECONDS = 0.5
"""How long the driver may take to learn that the lab has opened its end."""
PORTS, DRIVER = "/sys/class/virtio-ports", Path("/sys/bus/virtio/drivers/virtio_console")
DECODE = json.JSONDecoder().raw_decode
"""`json.loads` without its regular expressions, which each fork would have to translate first."""


class Port:
    """Requests and answers on a port that is found by its name. One thread may read while another one writes."""

    def __init__(self, name: str) -> None:
        """Open the port; SystemExit where none of that name shows up."""
        subprocess.run(["modprobe", "virtio_console"])  # which fails where it is built in
        self._name = name
        self._exchanged = threading.Condition()
        self._open()

    def _open(self) -> None:
        self._node = find_port(self._name)
        self._device = io.BufferedReader(Path("/dev", self._node).open("r+b", buffering=0))  # noqa: SIM115 (served to the end)
        self._state = select.poll()
        self._state.register(self._device, 0)

    def read(self) -> Fields:
        """Wait for a request, and return it with its bytes as ``data``."""
        while True:
            device = self._device
            try:
                if line := device.readline():
                    request: Fields = DECODE(line.decode())[0]
                    request["data"] = device.read(request["bytes"])
                    return request
            except OSError:  # the port has gone
                pass
            with self._exchanged:
                while self._device is device:
                    self._exchanged.wait()

    def write(self, answer: bytes) -> None:
        """Write an answer; bind the port's driver anew where it believes that nobody reads it.

        After a sleep the driver asks whether the lab's end is open, and Linux 7.3 loses what QEMU answers.
        """
        if not self._is_open():
            with self._exchanged:
                bind_anew(self._node)
                self._open()
                self._exchanged.notify_all()
        while answer:
            answer = answer[os.write(self._device.fileno(), answer) :]

    def _is_open(self) -> bool:
        """Return whether the driver learns in time that the lab's end is open."""
        end = time.monotonic() + HOST_SECONDS
        while any(events & select.POLLHUP for _, events in self._state.poll(0)):
            if time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS)
        return True


def find_port(name: str) -> str:
    """Return what the virtio-serial port of that name is called, which shows up a moment after its driver has been loaded."""
    end = time.monotonic() + PORT_SECONDS
    while True:
        ports = {read_attribute(f"{PORTS}/{port}/name"): port for port in names_in(PORTS, "vport")}
        if name in ports:
            return ports[name]
        if time.monotonic() > end:
            raise SystemExit(f"waited {PORT_SECONDS} s for the virtio-serial port {name!r}; there are: {', '.join(ports)}")
        time.sleep(POLL_SECONDS)


def bind_anew(node: str) -> None:
    """Take the device of a port from its driver and give it back."""
    device = Path(PORTS, node, "device").resolve().name
    for order in "unbind", "bind":
        (DRIVER / order).write_text(device)
