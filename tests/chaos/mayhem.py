"""Strikes at what records, from QEMU to the machine. Not a test: it is put in a child's way.

Importing it into the process that runs `nvme-lab` is enough: workers import it because the campaign that they are sent holds a
`StruckQemu`. Who is struck, and when, is drawn from MAYHEM_SEED and the scenario, so that a bad campaign can be seen again.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
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
VICTIMS = os.environ["MAYHEM_VICTIMS"].split()
"""Of `STRIKES`."""
MORE = int(os.environ.get("MAYHEM_MORE", "0"))
"""At most so many further strikes at a recording that is struck."""
CACHE = Path(os.environ["MAYHEM_CACHE"]) if "MAYHEM_CACHE" in os.environ else None
"""A copy of the cache in which bits may be flipped."""
LATEST_SECONDS = 0.8
"""From the begin of a recording; a scenario of U-Boot takes about as long."""
SPARED, SPARED_AGAIN = 0.2, 0.6
"""Of the first and of the second attempts at a scenario."""
STOPPED_SECONDS = (0.5, 5.0)
FULL_BYTES = 1 << 14
"""No file grows beyond that on a full disk."""
LOOPS = 3 * len(os.sched_getaffinity(0))
"""Processes that never rest, where the machine is overloaded."""
LOOP = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"
CONTINUE = """
import contextlib, os, signal, sys, time
time.sleep(float(sys.argv[1]))
for pid in sys.argv[2:]:
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid), signal.SIGCONT)
"""

_processes: list[Process] = []
_servers: list[DeviceServer] = []
_sockets: list[socket.socket] = []
_after: list[Callable[[], object]] = []
"""What ends a strike, at the end of the recording."""


@dataclass(frozen=True)
class StruckQemu(Qemu):
    pass


def qemus() -> list[int]:
    return [process.pid for process in _processes if process.alive and process.status is None]


def strike_qemu(chance: random.Random) -> str:
    alive = qemus()
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    return "" if alive else "no QEMU"


def strike_thread(chance: random.Random) -> str:
    def end(device: object) -> None:
        raise RuntimeError("struck")

    for server in _servers:
        server._calls.append(end)
        os.eventfd_write(server._wake, 1)
    return "" if _servers else "no thread"


def strike_socket(chance: random.Random) -> str:
    for connection in _sockets:
        connection.shutdown(socket.SHUT_RDWR)
    return "" if _sockets else "no socket"


def strike_worker(chance: random.Random) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def stop(pids: list[int], chance: random.Random) -> str:
    """Stop processes, and let another one continue them later."""
    if pids:
        seconds = chance.uniform(*STOPPED_SECONDS)
        helper = subprocess.Popen([sys.executable, "-c", CONTINUE, str(seconds), *map(str, pids)], start_new_session=True)
        _after.append(helper.wait)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    return "" if pids else "no QEMU"


def strike_stop(chance: random.Random) -> str:
    return stop(qemus(), chance)


def strike_suspend(chance: random.Random) -> str:
    return stop([*qemus(), os.getpid()], chance)


def strike_disk(chance: random.Random) -> str:
    """Let no file of the lab or QEMU grow any more: the kernel then refuses like a full disk, with another error number."""
    for pid in (*qemus(), os.getpid()):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
    _after.append(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))
    return ""


def strike_load(chance: random.Random) -> str:
    for _ in range(LOOPS):
        loop = subprocess.Popen([sys.executable, "-c", LOOP, str(os.getpid())])
        _after.extend((loop.kill, loop.wait))
    return ""


def strike_bit(chance: random.Random) -> str:
    """Flip a bit of any file of the cache."""
    assert CACHE
    names = [path for path in CACHE.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".lock"]
    if not (held := [path for path in sorted(names) if path.stat().st_blocks]):
        return "no file"
    path = chance.choice(held)
    with suppress(FileNotFoundError), path.open("r+b") as file:
        end = os.fstat(file.fileno()).st_size
        at = os.lseek(file.fileno(), chance.randrange(end), os.SEEK_SET)
        with suppress(OSError):  # behind the last data
            at = max(at, os.lseek(file.fileno(), at, os.SEEK_DATA))
        (byte,) = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([byte ^ 1 << chance.randrange(8)]), at)
        note(f"flipped {path.relative_to(CACHE)} {at} {byte}")
    return ""


STRIKES: dict[str, Callable[[random.Random], str]] = {
    "qemu": strike_qemu, "thread": strike_thread, "socket": strike_socket, "worker": strike_worker, "stop": strike_stop,
    "suspend": strike_suspend, "disk": strike_disk, "load": strike_load, "bit": strike_bit,
}  # fmt: skip
"""Each returns why it missed, or ""."""
OF_THE_LABS_DEVICE = {"thread", "socket"}
OF_A_QEMU = {"qemu", "stop", *OF_THE_LABS_DEVICE}
IN_PROCESS = "reference-in-process"
"""The adapter of a driver that needs no QEMU."""


def note(text: str) -> None:
    with LOG.open("a") as log:
        log.write(f"{text}\n")


_striking = threading.Lock()
"""So that what is noted of a strike stands together."""


def strike(victim: str, name: str, chance: random.Random) -> None:
    """Note it first: a worker has no time to do so after."""
    with _striking:
        note(f"{victim} {name}")
        try:
            missed = STRIKES[victim](chance)
        except (OSError, ValueError) as too_late:  # the one of what is closed, the other of a descriptor that no longer is one
            missed = str(too_late)
        if missed:
            note(f"missed {name}: {missed}")


_record = lab.recording.record.record


def record(manifest: Any, scenario: Any, device: str, folder: Path, **more: Any) -> Path:
    """Return the recorder, and perhaps an accident."""
    name = f"{manifest.name}/{device}/{scenario.id}"
    second = f" {name}\n" in (LOG.read_text() if LOG.exists() else "")
    chance = random.Random(f"{SEED} {name} {second}")
    for known in (_processes, _servers, _sockets):
        known.clear()
    out = OF_A_QEMU if manifest.adapter == IN_PROCESS else set() if device == "lab" else OF_THE_LABS_DEVICE
    victims = [victim for victim in VICTIMS if victim not in out]
    victim, seconds, spared = chance.choice(victims), chance.uniform(0, LATEST_SECONDS), chance.random()
    if spared < (SPARED_AGAIN if second else SPARED):
        return _record(manifest, scenario, device, folder, **more)  # type: ignore[arg-type]
    scale = 1 / 100 if manifest.adapter == IN_PROCESS else 1  # it needs some ms
    strikes = [(seconds, victim)]
    strikes += [(chance.uniform(0, LATEST_SECONDS), chance.choice(victims)) for _ in range(chance.randint(0, MORE))]
    timers = [
        threading.Timer(at * scale, strike, (struck, name, random.Random(f"{SEED} {name} {second} {number}")))
        for number, (at, struck) in enumerate(strikes)
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        return _record(manifest, scenario, device, folder, **more)  # type: ignore[arg-type]
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
        with ExitStack() as ends:
            while _after:
                ends.callback(_after.pop())


def remembering(owner: type, method: str, known: list[Any], what: Any = lambda one: one) -> None:
    original = getattr(owner, method)

    def remember(self: Any, *arguments: Any, **more: Any) -> None:
        original(self, *arguments, **more)
        known.append(what(self))

    mock.patch.object(owner, method, remember).start()


def prepare_struck(*arguments: Any) -> Toolchain:
    prepared = prepare(*arguments)
    return replace(prepared, qemu=StruckQemu(**vars(prepared.qemu))) if prepared.qemu else prepared


mock.patch.object(conformance.run.prepare, "prepare", prepare_struck).start()
mock.patch.object(lab.recording.record, "record", record).start()
remembering(Process, "start", _processes)
remembering(DeviceServer, "start", _servers)
remembering(Connection, "__init__", _sockets, lambda connection: connection._sock)
