"""Runs inside the Linux guest: gives NVMe functions to a driver that is a program, starts it, asks it, and notices its end.

Standard library only; the frames are those of `lab.guest.channel`, and one question is answered after the other. What the
program is asked, and how it answers, is in docs/guest-programs.md.
"""

import io
import json
import os
import select
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

PCI = Path("/sys/bus/pci")
NOIOMMU_MODE = Path("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
NVM_CLASS, NVM_EXPRESS = "0x0108", "0x010802"
"""PCI class 01 (mass storage), subclass 08 (NVM); with its programming interface 02."""
STDERR = Path("program.log")
STDERR_BYTES = 1 << 20
"""Of its stderr, the last ones that are kept as evidence."""
POLL_SECONDS, APPEAR_SECONDS = 0.01, 10.0
LONGEST_LINE = 1 << 20
OWN_TIMEOUTS = ("timeout", "timed_out")
"""What a program says of a command that it has given up. Only the lab says that an action was not answered."""

Fields = dict[str, Any]


class CrashedError(Exception):
    """The program has ended unexpectedly."""


class HungError(Exception):
    """The program does not answer."""


class SetUpError(Exception):
    """The guest could not be made ready for the program: no fault of it."""


class Program:
    """The driver, as the manifest describes it.

    How long it may take for an answer is measured by the lab: on a busy machine the guest's own clock may run wrongly.
    """

    def __init__(self, settings: Fields, given_up: int) -> None:
        """Start nothing yet. ``given_up`` is a descriptor that becomes readable when the lab waits no longer."""
        self.settings = settings
        self._given_up = given_up
        self._process: Piped | None = None
        self._hung = ""
        self._stderr = STDERR.open("ab")

    def ask(self, line: str, data: bytes) -> tuple[Fields, bytes]:
        """Return the program's answer and the bytes behind it."""
        if self._hung:
            raise HungError(f"it still hangs in {self._hung!r}")
        asked_by_lines = self.settings["protocol"] == "lines"
        process = self._running(line) if asked_by_lines else self._once(line)
        try:
            self._send(process, f"{line} nbytes={len(data)}\n".encode() + data if asked_by_lines else data)
            if not asked_by_lines:
                process.stdin.close()
            answer = self._answer(process, line)
            found = self._bytes(process, int(answer.get("bytes", 0)))
            if not asked_by_lines:
                self._wait_for_end(process)
        except (BrokenPipeError, EOFError):
            raise self._ended(process, line) from None
        except TimeoutError:
            self._hung = line
            raise HungError(f"no answer to {line!r}") from None
        return answer, found

    def stop(self) -> None:
        """End the program, if it runs: its input ends, then SIGTERM, then SIGKILL."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.stdin.close()
        for end in (process.terminate, process.kill):
            try:
                process.wait(1)
                return
            except subprocess.TimeoutExpired:
                end()
        process.wait()

    def _running(self, line: str) -> "Piped":
        if self._process is None:
            self._process = self._start(self.settings["command"])
        elif self._process.poll() is not None:
            raise self._ended(self._process, line)
        return self._process

    def _once(self, line: str) -> "Piped":
        return self._start([*self.settings["command"], *shlex.split(line)])

    def _start(self, command: list[str]) -> "Piped":
        found = {"NVME_ADDRESSES": " ".join(functions()), "NVME_ACCESS": self.settings["access"]}
        env = {**os.environ, **self.settings["environment"], **found}
        try:
            return Piped(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0, env=env)
        except OSError as error:
            raise SetUpError(f"the program {command[0]!r} cannot be started: {error}") from error

    def _send(self, process: "Piped", data: bytes) -> None:
        """Write all of it, however slowly it is read."""
        descriptor = process.stdin.fileno()
        os.set_blocking(descriptor, False)
        while data:
            _, writable, _ = select.select([self._given_up], [descriptor], [])
            if not writable:
                raise TimeoutError
            data = data[os.write(descriptor, data) :]

    def _answer(self, process: "Piped", line: str) -> Fields:
        text = bytearray()
        while not text.endswith(b"\n"):
            text += self._some(process, 1)
            if len(text) > LONGEST_LINE:
                raise CrashedError(f"its answer to {line!r} is a line of more than {LONGEST_LINE} bytes")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            shown = bytes(text[:200]).decode(errors="replace").strip()
            return {"status": {"words": f"it answered no JSON object, but {shown!r}"}}
        return found

    def _bytes(self, process: "Piped", count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            found += self._some(process, count - len(found))
        return bytes(found)

    def _some(self, process: "Piped", most: int) -> bytes:
        """Return what the program has written. Raises EOFError at its end, and TimeoutError when the lab has given it up."""
        readable, _, _ = select.select([process.stdout, self._given_up], [], [])
        if process.stdout not in readable:
            raise TimeoutError
        found = os.read(process.stdout.fileno(), most)
        if not found:
            raise EOFError
        return found

    def _wait_for_end(self, process: "Piped") -> None:
        try:
            while True:
                self._some(process, LONGEST_LINE)
        except EOFError:
            process.wait()

    def _ended(self, process: "Piped", line: str) -> Exception:
        try:
            status = process.wait(1)
        except subprocess.TimeoutExpired:
            return CrashedError(f"it closed its output at {line!r} and runs on")
        last = tail(2000).decode(errors="replace").strip()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return CrashedError(f"{how} at {line!r}; the end of its stderr: {last or 'nothing'}")


class Piped(subprocess.Popen[bytes]):
    """A process whose input and output are pipes."""

    stdin: Any
    stdout: Any


def tail(count: int) -> bytes:
    """Return the last bytes of the program's stderr."""
    with STDERR.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - count))
        return file.read()


PROGRAMS: list[Program] = []
"""The one program, once it was described."""


def text(path: Path) -> str:
    """Return a sysfs attribute; "" where there is none any more."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def functions(kind: str = NVM_EXPRESS) -> list[str]:
    """Return the addresses of the PCI functions of that class, in the order of their root ports."""
    return sorted(path.name for path in (PCI / "devices").iterdir() if text(path / "class").startswith(kind))


def run(command: str) -> None:
    """Run a command of the set-up. Raises SetUpError with its output."""
    ran = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if ran.returncode:
        said = ran.stdout.decode(errors="replace").strip()[-2000:]
        raise SetUpError(f"the set-up command {command!r} ended with {ran.returncode}: {said or 'it said nothing'}")


def describe(request: Fields) -> Fields:
    """Take the program's description, and make the guest ready for it: modules, huge pages, its own set-up."""
    PROGRAMS[:] = [Program(request["program"], request["port"])]
    settings = request["program"]
    for file, parameters in request["modules"]:
        run(f"insmod {shlex.quote(file)} {parameters}")
    if settings["access"].startswith("vfio"):
        run("modprobe vfio_iommu_type1 && modprobe vfio-pci")
    if settings["access"] == "vfio-noiommu":
        if not NOIOMMU_MODE.exists():
            raise SetUpError(
                "the guest's kernel has no VFIO without IOMMU (CONFIG_VFIO_NOIOMMU; Debian's have not): "
                'push a vfio.ko that has, by push.modules, or set program.access = "vfio" or "sysfs" (docs/guest-programs.md)'
            )
        NOIOMMU_MODE.write_text("1")
    if settings["hugepages"]:
        wanted = settings["hugepages"]
        run(f"echo {wanted} > /proc/sys/vm/nr_hugepages; [ $(cat /proc/sys/vm/nr_hugepages) -ge {wanted} ]")
        run("mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages")
    for command in settings["setup"]:
        run(command)
    return {}


def begin(request: Fields) -> Fields:
    """Set the clock: a fork wakes up at the time at which its template was saved; ``time`` is in seconds."""
    time.clock_settime(time.CLOCK_REALTIME, request["time"])
    return {}


def plugged(request: Fields) -> Fields:
    """Wait until the PCI core sees so many functions."""
    while len(functions(NVM_CLASS)) != request["controllers"]:
        time.sleep(POLL_SECONDS)
    return {}


def bind(access: str) -> None:
    """Give all NVMe functions to the program. Raises SetUpError."""
    for address in functions():
        device = PCI / "devices" / address
        try:
            if access == "sysfs":
                if (device / "driver").exists():
                    (device / "driver/unbind").write_text(address)
                (device / "enable").write_text("1")
                continue
            if (device / "driver").exists():
                if (device / "driver").resolve().name == "vfio-pci":
                    continue
                (device / "driver/unbind").write_text(address)
            (device / "driver_override").write_text("vfio-pci")
            (PCI / "drivers_probe").write_text(address)
            group = (device / "iommu_group").resolve().name
        except OSError as error:
            raise SetUpError(f"{address} cannot be given to the program: {error}") from error
        name = f"/dev/vfio/{'noiommu-' if access == 'vfio-noiommu' else ''}{group}"
        end = time.monotonic() + APPEAR_SECONDS
        while not os.access(name, os.F_OK):  # a thread of the kernel makes it
            if time.monotonic() > end:
                raise SetUpError(f"the file {name} of {address} did not appear")
            time.sleep(POLL_SECONDS)


def ask(request: Fields) -> tuple[Fields, bytes]:
    """Ask the program; a load binds the functions first, and an unload may end it."""
    program, line = PROGRAMS[0], request["line"]
    action = line.partition(" ")[0]
    if action == "load":
        bind(program.settings["access"])
    if action == "unload" and program.settings["exit_on_unload"]:
        program.stop()
        return {"status": "success"}, b""
    answer, data = program.ask(line, request["data"])
    if answer.get("status") in OWN_TIMEOUTS:
        answer["status"] = {"words": "the driver gave its command up: its own time-out"}
    return answer, data


def stderr(_request: Fields) -> bytes:
    """Return the end of what the program wrote to stderr."""
    return tail(STDERR_BYTES)


OF_THE_LAB: Mapping[str, Callable[[Fields], Fields | bytes]] = {
    "describe": describe, "begin": begin, "plugged": plugged, "stderr": stderr,
}  # fmt: skip


def served(request: Fields) -> bytes:
    """Return the encoded answer to a request."""
    answer: Fields = {"number": request["number"], "status": "success", "fields": {}, "bytes": 0}
    data = b""
    try:
        if request["action"] == "ask":
            said, data = ask(request)
            fields = said.get("fields", {})
            answer |= {"status": said.get("status", "success"), "fields": fields if isinstance(fields, dict) else {}}
        else:
            found = OF_THE_LAB[request["action"]](request)
            if isinstance(found, bytes):
                data = found
    except HungError as hung:
        answer |= {"status": "timeout", "fields": {"log": str(hung)}}
    except CrashedError as crashed:
        answer["crashed"] = str(crashed)
    except SetUpError as wrong:
        answer["failure"] = str(wrong)
    except Exception:
        answer["failure"] = traceback.format_exc()
    answer["bytes"] = len(data)
    return json.dumps(answer).encode() + b"\n" + data


def find_port(name: str) -> Path:
    """Return the device of the virtio-serial port of that name, which shows up a moment after its driver has been loaded."""
    end = time.monotonic() + APPEAR_SECONDS
    while True:
        for path in Path("/sys/class/virtio-ports").glob("*"):
            if text(path / "name") == name:
                return Path("/dev", path.name)
        if time.monotonic() > end:
            raise TimeoutError(f"there is no virtio-serial port {name!r}")
        time.sleep(POLL_SECONDS)


def serve(port: BinaryIO, descriptor: int) -> None:
    """Answer one question after the other."""
    while line := port.readline():
        question = {**json.loads(line), "port": descriptor}
        question["data"] = port.read(question["bytes"])
        reply = served(question)
        while reply:
            reply = reply[os.write(descriptor, reply) :]


if __name__ == "__main__":
    with find_port(sys.argv[1]).open("r+b", buffering=0) as raw, io.BufferedReader(raw) as channel:
        if os.fork() == 0:  # the caller knows now that the agent serves
            own_log = os.open("agent.log", os.O_WRONLY | os.O_CREAT)
            os.dup2(own_log, 1)
            os.dup2(own_log, 2)
            serve(channel, raw.fileno())
