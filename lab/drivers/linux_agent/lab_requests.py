"""Requests of the lab itself, which are no actions of the driver: the clock, files, device nodes, programs."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from lab.drivers.linux_agent.answers import Fields
from lab.drivers.linux_agent.lifecycle import preloaded
from lab.drivers.linux_agent.sysfs import POLL_SECONDS, find_disk, numbers_of, read_attribute


def begin(request: Fields) -> Fields:
    """Set the clock to ``time`` (ns): a fork wakes up at the time at which its template was saved.

    ``parameters`` are the values of module parameters by their paths below /sys/module, for a driver that is loaded already;
    the answer says whether there is one, and which kernel this is.
    """
    time.clock_settime_ns(time.CLOCK_REALTIME, request["time"])
    if preloaded.is_set():
        for name, value in request["parameters"].items():
            Path("/sys/module", name).write_text(str(value))
    kernel = os.uname()
    return {"preloaded": preloaded.is_set(), "kernel": f"{kernel.release} {kernel.version}"}


def quiet(_request: Fields) -> Fields:
    """Wait until no other process is busy, such as to end the SSH session that started us: each fork would repeat it."""
    while read_attribute(Path("/proc/loadavg")).split()[3].split("/")[0] != "1" or len(_sessions()) > 1:
        time.sleep(POLL_SECONDS)
    return {}


def _sessions() -> list[Path]:
    """Return the processes of the SSH server: one that listens, and one for each connection."""
    return [path for path in Path("/proc").glob("[0-9]*/comm") if read_attribute(path) == "dropbear"]


def put(request: Fields) -> Fields:
    """Write the bytes of the request to ``path``, with the permissions ``mode``."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(request["data"])
    path.chmod(request["mode"])
    return {}


def node(request: Fields) -> Fields:
    """Return the names of the device nodes for ``serial`` and ``nsid``."""
    name = Path(find_disk(request)[0]).name
    return {"namespace": name, "generic": f"ng{name.removeprefix('nvme')}", "controller": f"nvme{numbers_of(name)[0]}"}


def run(request: Fields) -> Fields:
    """Run a program until it ends; return its exit status, None if it was killed after ``seconds``, and its output.

    With ``await_ready`` it gets ``input`` after its first line. As ``user`` (a number) it has no privileges. Every
    ``signal_ms`` it gets SIGUSR1.
    """
    pipe, user = subprocess.PIPE, request.get("user")
    groups: list[int] | None = None if user is None else []
    with subprocess.Popen(
        request["program"], stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", user=user, group=user, extra_groups=groups
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline() if request.get("await_ready") else b""
        ended = threading.Event()
        if "signal_ms" in request:
            threading.Thread(target=_disturb, args=(process, request["signal_ms"] / 1000, ended)).start()
        try:
            out, err = process.communicate(request.get("input", "").encode(), request["seconds"])
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return {"exit": None, "out": (first + out).decode(errors="replace"), "err": err.decode(errors="replace")}
        finally:
            ended.set()
    return {"exit": process.returncode, "out": (first + out).decode(errors="replace"), "err": err.decode(errors="replace")}


def _disturb(process: subprocess.Popen[bytes], seconds: float, ended: threading.Event) -> None:
    """Send signals until the program has ended."""
    while not ended.wait(seconds):
        process.send_signal(signal.SIGUSR1)
