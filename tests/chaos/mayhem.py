"""Strikes at what records: QEMU, the controller's thread, its socket, the worker. Not a test: it is put in a child's way.

Importing it into the process that runs `nvme-lab` is enough: workers import it because the campaign that they are sent holds a
`StruckQemu`. Who is struck, and when, is drawn from MAYHEM_SEED and the scenario, so that a bad campaign can be seen again.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import conformance.run.prepare
import lab.recording.record
from lab.controller.server import DeviceServer
from lab.controller.vfio_user import Connection
from lab.guest.process import Process
from lab.toolchain import Qemu, Toolchain, prepare

LOG = Path(os.environ["MAYHEM_LOG"])
"""A line for every strike: victim, driver/device/scenario."""
SEED = os.environ["MAYHEM_SEED"]
LATEST_SECONDS = 0.8
"""From the begin of a recording; a scenario of U-Boot takes about as long."""
SPARED, SPARED_AGAIN = 0.2, 0.6
"""Of the first and of the second attempts at a scenario."""

_processes: list[Process] = []
_servers: list[DeviceServer] = []
_sockets: list[socket.socket] = []


@dataclass(frozen=True)
class StruckQemu(Qemu):
    pass


def strike_qemu() -> bool:
    alive = [process.pid for process in _processes if process.alive and process.status is None]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    return bool(alive)


def strike_thread() -> bool:
    def end(device: object) -> None:
        raise RuntimeError("struck")

    for server in _servers:
        server._calls.append(end)
        os.eventfd_write(server._wake, 1)
    return bool(_servers)


def strike_socket() -> bool:
    for connection in _sockets:
        connection.shutdown(socket.SHUT_RDWR)
    return bool(_sockets)


def strike_worker() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


VICTIMS = {"qemu": strike_qemu, "thread": strike_thread, "socket": strike_socket, "worker": strike_worker}


def note(text: str) -> None:
    with LOG.open("a") as log:
        log.write(f"{text}\n")


def strike(victim: str, name: str) -> None:
    """Note it first: a worker has no time to do so after."""
    note(f"{victim} {name}")
    try:
        VICTIMS[victim]()
    except (OSError, ValueError) as too_late:  # the one of what is closed, the other of a descriptor that no longer is one
        note(f"missed {name}: {too_late}")


_record = lab.recording.record.record


def record(manifest: Any, scenario: Any, device: str, folder: Path, **more: Any) -> Path:
    """Return the recorder, and perhaps an accident."""
    name = f"{manifest.name}/{device}/{scenario.id}"
    second = f" {name}\n" in (LOG.read_text() if LOG.exists() else "")
    draw = random.Random(f"{SEED} {name} {second}")
    for known in (_processes, _servers, _sockets):
        known.clear()
    victims = [victim for victim in VICTIMS if device == "lab" or victim in ("qemu", "worker")]
    victim, seconds, spared = draw.choice(victims), draw.uniform(0, LATEST_SECONDS), draw.random()
    if spared < (SPARED_AGAIN if second else SPARED):
        return _record(manifest, scenario, device, folder, **more)  # type: ignore[arg-type]
    timer = threading.Timer(seconds, strike, (victim, name))
    timer.daemon = True
    timer.start()
    try:
        return _record(manifest, scenario, device, folder, **more)  # type: ignore[arg-type]
    finally:
        timer.cancel()


def remembering(owner: type, method: str, known: list[Any], what: Any = lambda one: one) -> None:
    original = getattr(owner, method)

    def remember(self: Any, *arguments: Any, **more: Any) -> None:
        original(self, *arguments, **more)
        known.append(what(self))

    mock.patch.object(owner, method, remember).start()


def prepare_struck(*arguments: Any) -> Toolchain:
    prepared = prepare(*arguments)
    assert prepared.qemu
    return replace(prepared, qemu=StruckQemu(**vars(prepared.qemu)))


mock.patch.object(conformance.run.prepare, "prepare", prepare_struck).start()
mock.patch.object(lab.recording.record, "record", record).start()
remembering(Process, "start", _processes)
remembering(DeviceServer, "start", _servers)
remembering(Connection, "__init__", _sockets, lambda connection: connection._sock)
