"""Runs inside the Linux guest: gives NVMe functions to VFIO and talks with qemu-io, in which QEMU's own NVMe driver runs.

Standard library only; the frames are those of `lab.guest.channel`, and one question is answered after the other.

qemu-io runs already when the first question comes, so a fork need not start it; it opens a namespace as
``driver=nvme,device=ADDRESS,namespace=NSID`` and closes it again before it opens another one.

The kernel is asked by as few system calls as will do: under TCG a fork pays for each piece of code that it runs first.
"""

import ctypes
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

PCI = "/sys/bus/pci"
NVM_CLASS, NVM_EXPRESS = "0x0108", "0x010802"
"""PCI class 01 (mass storage), subclass 08 (NVM); with its programming interface 02."""
LOST_INTERRUPTS = ("0x1b36", "0x0010")
"""Vendor and device of QEMU's own controller (QEMU, docs/specs/pci-ids.rst)."""
CPUCLOCK_SCHED = 2
"""With the complement of a process's id above it: the clock of the processor time of that process (linux/posix-timers.h), which
counts nanoseconds."""
PIDFD_GETFD = 438  # of x86-64, arch/x86/entry/syscalls/syscall_64.tbl
LIBC = ctypes.CDLL(None, use_errno=True)
PROMPT = b"qemu-io> "
DUMPED = re.compile(rb"^[0-9a-f]{8,}:  ((?:[0-9a-f]{2} ){1,16})", re.MULTILINE)
"""A line of ``read -v``: offset, bytes, the same as characters."""
ENDED = re.compile(rb"^read (?:[0-9]+)/(?:[0-9]+) bytes at offset ([0-9]+)", re.MULTILINE)
"""What ``aio_read`` says of itself when it has ended well."""
FAILED = re.compile(r"^(?:qemu-io: .*|\S+ failed: .*|no file open.*)$", re.MULTILINE)
"""Its complaints. No line of a dump looks like one."""
READ_ONLY = "permission"
"""In the complaint of a namespace that cannot be written to, but perhaps be read."""
NOT_YET = "Failed to get device fd: No such device"
"""Of VFIO, before anything has touched the device; seen once in 500 openings."""
PATTERN = "/tmp/pattern"
APPEAR_SECONDS, POLL_SECONDS = 10, 0.01
"""How long the kernel may take to make a device, or its file, and how often is looked for it."""
LISTEN_SECONDS, BUSY_SECONDS, REST_SECONDS = 0.1, 2, 0.4
"""So often it is looked whether a qemu-io that says nothing has run. One that runs for longer waits for a register in a loop,
and is stopped for most of the time: its clock runs on, and others need the host's processors."""
ASLEEP_SECONDS, SILENT_SECONDS, OPEN_SECONDS = 3, 15, 45
"""qemu-io hangs when it says nothing for so long and did not run for a moment either, since the driver has no time-out for a
command; and when it says nothing for so long, whatever it does. Where it opens a namespace it may do both: the driver waits up
to 30 s for CSTS.RDY, and the kernel about as long for a function that is gone."""

Fields = dict[str, Any]


class RefusedError(Exception):
    """The driver, or its loading, failed in its own words."""


class CrashedError(Exception):
    """qemu-io has ended unexpectedly."""


class HungError(Exception):
    """qemu-io says nothing any more."""


class QemuIo:
    """A qemu-io that waits at its prompt."""

    def __init__(self) -> None:
        """Start qemu-io."""
        self.opened, self.refusal = "", ""
        self.started, self.said = list[int](), b""
        """Where the reads begin that nobody has waited for, and what they have said."""
        # it reads as much as there is, uses one line, and waits for more; so no more than a line is there for one read
        self._lines, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self._process = subprocess.Popen(
                ["qemu-io"], stdin=its_end.fileno(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
            )
        self._address, self._writable, self._hung = "", False, ""
        self._prompted("to start", OPEN_SECONDS, OPEN_SECONDS)

    def ask(self, line: str, timeout_seconds: float = SILENT_SECONDS, asleep: float = ASLEEP_SECONDS) -> bytes:
        """Return its output up to the next prompt. Raises Refused for an error message, and Hung; it stays hung."""
        said = self.ask_all([line], timeout_seconds, asleep)
        if complaint := FAILED.search(said[: 1 << 12].decode(errors="replace")):
            raise RefusedError(complaint[0].removeprefix("qemu-io: "))
        return said

    def ask_all(self, lines: Sequence[str], timeout_seconds: float = SILENT_SECONDS, asleep: float = ASLEEP_SECONDS) -> bytes:
        """Give it several lines at once; return its output up to the prompt after the last, complaints among it. HungError."""
        if self._hung:
            raise HungError(f"still hangs in {self._hung!r}")
        for line in lines:
            self._lines.send(line.encode() + b"\n")
        return self._prompted(lines[-1], timeout_seconds, asleep, len(lines))

    def open(self, address: str, nsid: int, writable: bool) -> None:
        """Open the namespace unless it is open: read-only if nothing is written, or if writing is refused."""
        self._address, self._writable = address, writable
        wanted = f"driver=nvme,device={address},namespace={nsid}"
        if self.opened == wanted:
            return
        self.close()
        identity = tuple(text(f"{PCI}/devices/{address}/{name}") for name in ("vendor", "device"))
        with InterruptsFor(self._process.pid, identity == LOST_INTERRUPTS):
            try:
                if writable:
                    self._open(f"-d unmap -o {wanted}")
            except RefusedError as refusal:
                if READ_ONLY not in str(refusal):
                    raise
                self.refusal, writable = str(refusal), False
            if not writable:
                self._open(f"-r -o {wanted}")
        self.opened = wanted

    def turn_to(self, nsid: int) -> None:
        """Open that namespace instead of the one that is open, if one is."""
        if self.opened:
            self.open(self._address, nsid, self._writable)

    def _open(self, options: str) -> None:
        """Open, and try again while VFIO does not have the function yet, which is no error of the driver."""
        end = time.monotonic() + APPEAR_SECONDS
        while True:
            try:
                self.ask(f"open {options}", OPEN_SECONDS, OPEN_SECONDS)
                return
            except RefusedError as refusal:
                if NOT_YET not in str(refusal) or time.monotonic() > end:
                    raise
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End qemu-io."""
        if self.opened:
            self.ask("close")
        self.opened = ""

    def _prompted(self, asked: str, timeout_seconds: float, asleep: float, prompts: int = 1) -> bytes:
        assert self._process.stdout
        said = bytearray()
        while not said.endswith(PROMPT) or said.count(PROMPT) < prompts:
            self._wait(asked, timeout_seconds, asleep)
            found = os.read(self._process.stdout.fileno(), 1 << 16)
            if not found:
                raise CrashedError(f"status {self._process.wait()} at {asked!r}: {said.decode(errors='replace')[-2000:]}")
            said += found
        return bytes(said).replace(PROMPT, b"")

    def _wait(self, asked: str, timeout_seconds: float, asleep: float) -> None:
        """Wait for output. Raises Hung."""
        assert self._process.stdout
        began = ran = time.monotonic()
        work = -1.0
        while not select.select([self._process.stdout], [], [], LISTEN_SECONDS)[0]:
            now, worked = time.monotonic(), time.clock_gettime(~self._process.pid << 3 | CPUCLOCK_SCHED)
            if worked != work:
                work, ran = worked, now
            if now - ran >= asleep or now - began >= timeout_seconds:
                self._hung = asked
                raise HungError(f"no word for {now - began:.1f} s, and asleep for {now - ran:.1f} s, at {asked!r}")
            if ran == now and now - began >= BUSY_SECONDS:
                self._process.send_signal(signal.SIGSTOP)
                time.sleep(REST_SECONDS)
                self._process.send_signal(signal.SIGCONT)


class InterruptsFor:
    """While it is entered, and ``needed``: takes the place of the admin queue's interrupt.

    QEMU's own controller sends that only where MSI-X was on before the controller was enabled, which no specification asks for,
    and this driver turns it on just after. A wait for the first commands then ends by chance or never; so all event
    descriptors of the process are signalled again and again. Once an I/O queue has been created the controller sends them all.
    """

    def __init__(self, process: int, needed: bool) -> None:
        """Watch a process, if that is needed."""
        self._process, self._ended = process, threading.Event()
        self._thread = threading.Thread(target=self._signal) if needed else None

    def __enter__(self) -> None:
        """Start signalling the event descriptors where the device needs it."""
        if self._thread:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._ended.set()
        if self._thread:
            self._thread.join()

    def _signal(self) -> None:
        process = os.pidfd_open(self._process)
        while not self._ended.wait(POLL_SECONDS):
            descriptors = f"/proc/{self._process}/fd"
            for name in os.listdir(descriptors):  # noqa: PTH208 (see the module's text)
                if link(f"{descriptors}/{name}") == "anon_inode:[eventfd]":
                    copy = LIBC.syscall(PIDFD_GETFD, process, int(name), 0)
                    if copy >= 0:  # else it has just been closed
                        os.eventfd_write(copy, 1)
                        os.close(copy)
        os.close(process)


def link(path: str) -> str:
    """Return the target of a symbolic link; "" where there is none any more."""
    try:
        return os.readlink(path)  # noqa: PTH115 (see the module's text)
    except OSError:
        return ""


def text(path: str) -> str:
    """Return a sysfs attribute without its newline; "" where there is none any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 4096).decode().rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def put(path: str, value: str) -> None:
    """Write a sysfs attribute."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


PROGRAMS: dict[int, QemuIo] = {}
"""One for each controller, by its place among them."""


def functions(kind: str = NVM_EXPRESS) -> list[str]:
    """Return the addresses of the PCI functions of that class, in the order of their root ports."""
    devices = f"{PCI}/devices"
    names = os.listdir(devices)  # noqa: PTH208 (see the module's text)
    return sorted(name for name in names if text(f"{devices}/{name}/class").startswith(kind))


def program(request: Fields) -> QemuIo:
    """Return the qemu-io of the request's controller, with the request's namespace open: another one if another is open."""
    if request["place"] not in PROGRAMS:
        raise RefusedError("this controller was never opened")
    running = PROGRAMS[request["place"]]
    running.turn_to(request["nsid"])
    return running


def waited(there: Callable[[], bool], what: str) -> None:
    """Wait until it is there; TimeoutError."""
    end = time.monotonic() + APPEAR_SECONDS
    while not there():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {APPEAR_SECONDS} s for {what}")
        time.sleep(POLL_SECONDS)


def begin(request: Fields) -> Fields:
    """Set the clock to ``time`` (seconds), for a fork wakes up when its template was saved; say which qemu-io this is."""
    time.clock_settime(time.CLOCK_REALTIME, request["time"])
    return {"version": qemu_version()}


@cache
def qemu_version() -> str:
    """Return what qemu-io says of its version; asked once, before the guest is saved."""
    said = subprocess.run(["qemu-io", "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].strip()


def plugged(request: Fields) -> Fields:
    """Wait until the PCI core sees so many functions."""
    while len(functions(NVM_CLASS)) != request["controllers"]:
        time.sleep(POLL_SECONDS)
    return {}


def warm_up(_request: Fields) -> Fields:
    """Do what a scenario does, on a device of zeros without hardware behind it (QEMU, block/null.c).

    Python runs specialised code faster than new code, and memory that was touched once is mapped.
    """
    functions()
    running = PROGRAMS[0]
    running.ask("open -o driver=null-co,size=1M,read-zeroes=on")
    undumped(running.ask("read -v 4096 4096"))
    Path(PATTERN).write_bytes(bytes(4096))
    for line in (f"write -s {PATTERN} 4096 4096", "write -z 4096 4096", "discard 4096 4096", "flush", "close"):
        running.ask(line)
    return {}


def load(request: Fields) -> Fields:
    """Give all controllers to VFIO and open a namespace of each: ``nsids``, in their order, to write to if ``writable``."""
    found = functions()
    if not found:
        raise RefusedError("no NVMe controller")
    for address in found:
        put(f"{PCI}/devices/{address}/driver_override", "vfio-pci")
        put(f"{PCI}/drivers_probe", address)
        group = "/dev/vfio/" + link(f"{PCI}/devices/{address}/iommu_group").rpartition("/")[2]
        waited(partial(os.access, group, os.F_OK), f"the file {group} of {address}")  # a thread of the kernel makes it
    for place, (address, nsid) in enumerate(zip(found, request["nsids"], strict=False)):
        if place not in PROGRAMS:
            PROGRAMS[place] = QemuIo()
        PROGRAMS[place].open(address, nsid, request["writable"])
    return {"log": "\n".join(running.refusal for running in PROGRAMS.values())}


def unload(_request: Fields) -> Fields:
    """Close all namespaces."""
    for running in PROGRAMS.values():
        running.close()
    return {}


def ready(_request: Fields) -> Fields:
    """Return whether a namespace is open."""
    return {"ready": any(running.opened for running in PROGRAMS.values())}


def read(request: Fields) -> bytes:
    """Read blocks."""
    return undumped(program(request).ask(f"read -v {request['at']} {request['length']}"))


def undumped(said: bytes) -> bytes:
    """Return the bytes that ``read -v`` shows."""
    return bytes.fromhex(b"".join(DUMPED.findall(said)).decode())


def submit(request: Fields) -> Fields:
    """Begin reads of ``each`` bytes over a range, and wait for none of them. They end in any order, and say so when they do."""
    running = program(request)
    begun = range(request["at"], request["at"] + request["length"], request["each"])
    running.started += begun
    running.said += running.ask_all([f"aio_read {at} {request['each']}" for at in begun])
    return {}


def collect(_request: Fields) -> Fields:
    """Wait for all that was begun; return the status of each. An error does not say whose it is: it is that of all others."""
    operations: list[Fields] = []
    for running in PROGRAMS.values():
        said = running.said + running.ask_all(["aio_flush"]) if running.started else b""
        ended = {int(offset) for offset in ENDED.findall(said)}
        failure = FAILED.search(said.decode(errors="replace"))
        other = {"words": failure[0] if failure else "it never said what became of it"}
        operations += [{"status": "success" if at in ended else other} for at in running.started]
        running.started, running.said = [], b""
    return {"operations": operations}


def write(request: Fields) -> Fields:
    """Write blocks."""
    Path(PATTERN).write_bytes(request["data"])
    unit_access = "-f " if request.get("fua") else ""
    program(request).ask(f"write {unit_access}-s {PATTERN} {request['at']} {request['length']}")
    return {}


def flush(request: Fields) -> Fields:
    """Flush the namespace, and tell what came of it: ``flush`` keeps that to itself, ``reopen`` flushes first and does not."""
    program(request).ask("reopen")
    return {}


def zeroes(request: Fields) -> Fields:
    """Write zeroes to a range."""
    program(request).ask(f"write -z {request['at']} {request['length']}")
    return {}


def trim(request: Fields) -> Fields:
    """Deallocate a range."""
    program(request).ask(f"discard {request['at']} {request['length']}")
    return {}


OF_THE_LAB: Mapping[str, Callable[[Fields], Fields | bytes]] = {"begin": begin, "plugged": plugged, "warm_up": warm_up}
ACTIONS: Mapping[str, Callable[[Fields], Fields | bytes]] = {
    "load": load, "unload": unload, "ready": ready, "read": read, "write": write, "flush": flush,
    "zeroes": zeroes, "trim": trim, "submit": submit, "collect": collect,
}  # fmt: skip


def served(request: Fields) -> bytes:
    """Return the encoded answer to a request."""
    answer: Fields = {"number": request["number"], "status": "success", "fields": {}, "bytes": 0}
    data = b""
    try:
        found = {**ACTIONS, **OF_THE_LAB}[request["action"]](request)
        if isinstance(found, bytes):
            data, answer["bytes"] = found, len(found)
        else:
            answer["fields"] = found
    except RefusedError as refused:
        answer["status"] = {"words": str(refused)}
    except HungError as hung:
        answer |= {"status": "timeout", "fields": {"log": str(hung)}}
    except CrashedError as crashed:
        answer["crashed"] = str(crashed)
    except Exception:
        answer["failure"] = traceback.format_exc()
    return json.dumps(answer).encode() + b"\n" + data


def find_port(name: str) -> Path:
    """Return the device of the virtio-serial port of that name, which shows up a moment after its driver has been loaded."""

    def ports() -> list[Path]:
        return [path for path in Path("/sys/class/virtio-ports").glob("*") if (path / "name").read_text().strip() == name]

    waited(lambda: bool(ports()), f"the virtio-serial port {name!r}")
    return Path("/dev", ports()[0].name)


if __name__ == "__main__":
    with find_port(sys.argv[1]).open("r+b", buffering=0) as raw, io.BufferedReader(raw) as port:
        news, told = os.pipe()
        if os.fork():  # the caller shall know whether the agent serves
            os.close(told)
            sys.exit(os.read(news, 4096).decode() or None)
        try:
            PROGRAMS[0] = QemuIo()
        except Exception:
            os.write(told, traceback.format_exc().encode()[-4096:])
            sys.exit(1)
        own_log = os.open("agent.log", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2, told):
            os.dup2(own_log, stream)
        while True:
            question = json.loads(port.readline())
            question["data"] = port.read(question["bytes"])
            reply = served(question)
            while reply:
                reply = reply[os.write(port.fileno(), reply) :]
