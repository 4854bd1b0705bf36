"""Runs inside the Linux guest: asks the kernel by sysfs, block devices and its log. Standard library only.

A server, since Python takes a quarter of a second to start in there, behind a virtio-serial port (`lab.guest.channel`). A
question is a line of JSON (``action``, its arguments, ``number``, ``bytes``: how many follow) and then bytes. It is served by
a thread of its own, so that one which hangs in the kernel holds up no other. The answer is a line of JSON (``number``,
``status``, ``fields``, ``log``, ``bytes``; or ``failure``: the server's own) and then bytes. Each action is a function of that
name below; what the kernel refuses comes back as its errno.
"""

import ctypes
import errno
import fcntl
import hashlib
import io
import json
import mmap
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

DECODE = json.JSONDecoder().raw_decode
"""`json.loads` without its regular expressions: under TCG a fork pays for each piece of code that it runs first, so what is
asked in every scenario shall need little of Python and of the kernel."""
BLKDISCARD, BLKZEROOUT = 0x1277, 0x127F  # linux/fs.h: _IO(0x12, 119) and _IO(0x12, 127)
LIBC = ctypes.CDLL(None, use_errno=True)
FINIT_MODULE, DELETE_MODULE = 313, 176  # of x86-64, arch/x86/entry/syscalls/syscall_64.tbl
MODULE_ERRORS = {
    errno.ENOEXEC: "not a module for this kernel",
    errno.ENOENT: "unknown symbol, or unknown parameter",
    errno.ESRCH: "wrong version of a symbol",
    errno.EBUSY: "in use",
    errno.EAGAIN: "in use",
}
"""What these mean for a module (init_module(2)); all others are as everywhere."""
ADMIN_COMMAND, IO_COMMAND = 0xC0484E41, 0xC0484E43  # linux/nvme_ioctl.h: _IOWR('N', 0x41 and 0x43, 72 bytes)
PASSTHROUGH = struct.Struct("<BBHIIIQQII6III")
PAGE = 4096
POISON = b"\x5a"
NVME_CLASS = "0x0108"
CLASS, BLOCK, FUNCTIONS = "/sys/class/nvme", "/sys/block", "/sys/bus/pci/devices"
NOTHING = "nls_ascii"
"""A module that does nothing and that is not needed."""
VOLATILE_WRITE_CACHE = 0x06
QUEUE_DEPTH = Path("/sys/module/nvme/parameters/io_queue_depth")
UNSETTLED = {"", "new", "connecting", "resetting", "deleting", "deleting (no IO)"}
"""States of a controller on its way to another one (drivers/nvme/host/sysfs.c, nvme_sysfs_show_state); none yet, or none any
more, while the kernel adds or removes it: it is listed before it has attributes (drivers/base/core.c, device_add)."""
POLL_SECONDS = 0.01
PORT_SECONDS = 10
PROBE_SECONDS = 2
"""For a loaded driver to take a function that was plugged; one that refuses it does not say so."""

Fields = dict[str, Any]

SPARE_BYTES = 1 << 14
spare: list[mmap.mmap] = []
"""Buffers of at least so many bytes that are free, also for the kernel: one whose command hangs does not come back here
(see DECODE)."""

loaded = threading.Event()
"""The driver is loaded."""
preloaded = threading.Event()
"""The driver is loaded before the lab asks for it: there is no device yet."""


class RefusedError(Exception):
    """The driver, or its loading, failed in its own words."""


class CompletedWithError(Exception):
    """The controller completed a command with another status than success, which the driver hands through."""


def words(error: OSError) -> str:
    """Return an errno's symbolic name."""
    return f"{errno.errorcode.get(error.errno or 0, error.errno)}: {error.strerror}"


class NotOfferedError(Exception):
    """Linux has no words for that: nvme-cli's passthrough would say it, and that is not the driver's own."""


def text(path: str | Path) -> str:
    """Return a sysfs attribute without its newline; "" where there is none.

    Three system calls and nothing else, here and in `named` (see DECODE).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(descriptor, PAGE).decode().rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def named(folder: str, prefix: str) -> list[str]:
    """Return the names in a folder that begin with ``prefix``."""
    try:
        return [name for name in os.listdir(folder) if name.startswith(prefix)]  # noqa: PTH208 (see text)
    except OSError:
        return []


def controllers() -> list[Path]:
    """Return the driver's controllers."""
    return [Path(CLASS, name) for name in sorted(named(CLASS, "nvme"), key=_numbers)]


def disks() -> list[Path]:
    """Return the disks of all namespaces."""
    return [Path(BLOCK, name) for name in sorted(visible(), key=_numbers)]


def visible() -> list[str]:
    """Return the names of all disks; the paths of a multipath disk (nvme0c0n1) are not among them."""
    return [name for name in named(BLOCK, "nvme") if "c" not in name]


def _numbers(name: str) -> list[int]:
    """Return ``nvme1n2`` as 1, 2."""
    return [int(number) for number in name.removeprefix("nvme").split("n")]


def functions() -> list[Path]:
    """Return the PCI functions of class 01 (mass storage), subclass 08 (NVM)."""
    return [Path(FUNCTIONS, name) for name in named(FUNCTIONS, "") if text(f"{FUNCTIONS}/{name}/class").startswith(NVME_CLASS)]


def settled() -> None:
    """Wait until no controller is between two states. The lab's deadline bounds it."""
    while any(text(f"{CLASS}/{name}/state") in UNSETTLED for name in named(CLASS, "nvme")):
        time.sleep(POLL_SECONDS)


def disk(request: Fields) -> tuple[str, int]:
    """Return the node of the namespace that the request means by ``serial`` and ``nsid``, and its block size."""
    wanted = str(request["nsid"]), request["serial"].strip()
    for name in visible():
        about = f"{BLOCK}/{name}"
        size = text(f"{about}/queue/logical_block_size")  # "" while the disk is still being made
        if size and (text(f"{about}/nsid"), text(f"{about}/device/serial").strip()) == wanted:
            return f"/dev/{name}", int(size)
    raise RefusedError(f"no disk for namespace {request['nsid']} of {request['serial']}")


# -- what the lab itself needs --------------------------------------------------------------------------------------


def begin(request: Fields) -> Fields:
    """Return a fork wakes up at the time at which its template was saved; ``time`` is the right one in ns.

    ``parameters`` are for a driver that was loaded by then.
    """
    time.clock_settime_ns(time.CLOCK_REALTIME, request["time"])
    if preloaded.is_set():
        for name, value in request["parameters"].items():
            Path("/sys/module", name).write_text(str(value))
    return {"preloaded": preloaded.is_set()}


def preload(request: Fields) -> Fields:
    """Load the driver before there is anything for it."""
    _insert(request["modules"])
    if not any(named(f"/sys/module/{name}/drivers", "pci:") for name in request["names"]):
        raise RefusedError("none of its modules has registered a driver of PCI functions, which may come later")
    subprocess.run(["modprobe", NOTHING])  # see wait_for_probes
    preloaded.set()
    return {}


def quiet(_request: Fields) -> Fields:
    """Wait until no other process is busy, such as to end the SSH session that started us: each fork would repeat it."""
    while text(Path("/proc/loadavg")).split()[3].split("/")[0] != "1" or len(_sessions()) > 1:
        time.sleep(POLL_SECONDS)
    return {}


def _sessions() -> list[Path]:
    """Return the processes of the SSH server: one that listens, and one for each connection."""
    return [path for path in Path("/proc").glob("[0-9]*/comm") if text(path) == "dropbear"]


def put(request: Fields) -> Fields:
    """Write a file."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(request["data"])
    path.chmod(request["mode"])
    return {}


def node(request: Fields) -> Fields:
    """Return the names of the device nodes for ``serial`` and ``nsid``."""
    name = Path(disk(request)[0]).name
    return {"namespace": name, "generic": f"ng{name.removeprefix('nvme')}", "controller": f"nvme{_numbers(name)[0]}"}


def run(request: Fields) -> Fields:
    """Run a program until it ends: its exit status, or None if it had to be killed, and what it said.

    With ``await_ready`` it gets ``input`` after its first line. As ``user`` it has no privileges. Every ``signal_ms`` it gets
    SIGUSR1 meanwhile.
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


def plugged(request: Fields) -> Fields:
    """Wait until the PCI core sees so many functions, and a loaded driver has had the time to take them."""
    while len(functions()) != request["controllers"]:
        time.sleep(POLL_SECONDS)
    if loaded.is_set():
        taken()
    return {}


def taken() -> None:
    """Wait until the loaded driver has taken all functions, or has had the time to."""
    end = time.monotonic() + PROBE_SECONDS
    while len(named(CLASS, "nvme")) < len(functions()) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    settled()
    wait_for_probes()


def wait_for_probes() -> None:
    """Wait until the kernel has ended all probes, the search for namespaces included.

    The kernel waits itself whenever a module is removed or loaded (kernel/module/main.c), so an empty one is loaded.
    """
    if LIBC.syscall(DELETE_MODULE, NOTHING.encode(), os.O_NONBLOCK):
        subprocess.run(["modprobe", NOTHING])


# -- actions --------------------------------------------------------------------------------------------------------


def load(request: Fields) -> Fields:
    """Load the driver, or let the loaded one take its functions."""
    if preloaded.is_set():
        preloaded.clear()
        taken()
    else:
        _insert(request["modules"])
        settled()  # the call itself waits for the probes, which may leave a reset running
    loaded.set()
    return {}


def _insert(modules: list[tuple[str, str]]) -> None:
    for module, parameters in modules:
        with Opened(Path(module), os.O_RDONLY) as file:
            _module_call(FINIT_MODULE, module, file, parameters.encode(), 0)


def unload(request: Fields) -> Fields:
    """Unload the modules."""
    for module in request["modules"]:
        _module_call(DELETE_MODULE, module, module.encode(), os.O_NONBLOCK, timeout_seconds=PROBE_SECONDS)
    loaded.clear()
    return {}


def _module_call(call: int, module: str, *arguments: int | bytes, timeout_seconds: float = 0) -> None:
    """Make the system call of insmod and rmmod.

    To run these programs would double the time that a fork takes to load a driver.

    For so many seconds a module that is in use is waited for, as ``modprobe -r --wait`` does: newer kernels read the partitions
    of a disk and close it again on a work queue, after its driver has been loaded.
    """
    end = time.monotonic() + timeout_seconds
    while LIBC.syscall(call, *arguments):
        number = ctypes.get_errno()
        if number != errno.EAGAIN or time.monotonic() > end:
            raise RefusedError(f"{Path(module).name}: {MODULE_ERRORS.get(number, os.strerror(number))}")
        time.sleep(POLL_SECONDS)


def info(_request: Fields) -> Fields:
    """Return what is known of the controllers without Identify."""
    return {"controllers": [_informed(path) for path in controllers()]}


def _informed(path: Path) -> Fields:
    """Return what the driver shows of CAP: MQES alone, and that only where it is less than the driver's own limit.

    The smaller one becomes sqsize, which is 0's based (drivers/nvme/host/pci.c, nvme_pci_enable).
    """
    entries, limit = int(text(path / "sqsize") or 0) + 1, int(text(QUEUE_DEPTH) or 0)
    return {"address": text(path / "address"), **({"max_queue_entries": entries} if 1 < entries < limit else {})}


def ready(_request: Fields) -> Fields:
    """Return whether all controllers live."""
    states = [text(path / "state") for path in controllers()]
    return {"ready": bool(states) and all(state == "live" for state in states), "states": states}


def identify(_request: Fields) -> Fields:
    """Return what the driver shows of Identify."""
    return {"controllers": [_identified(path) for path in controllers()]}


def _identified(path: Path) -> Fields:
    """Return what the driver shows of Identify; limits and optional commands show in the queues of the controller's disks."""
    found: Fields = {
        "serial": text(path / "serial"),
        "model": text(path / "model"),
        "firmware": text(path / "firmware_rev"),
    }
    queue = next((disk / "queue" for disk in disks() if (disk / "device").samefile(path)), None)
    if queue:
        found["max_transfer_bytes"] = int(text(queue / "max_hw_sectors_kb")) * 1024
        optional = {"dataset-management": "discard_max_bytes", "write-zeroes": "write_zeroes_max_bytes"}
        found["optional_commands"] = [name for name, limit in optional.items() if int(text(queue / limit) or 0)]
        found["optional_commands_shown"] = list(optional)
    return found


def list_(_request: Fields) -> Fields:
    """Return the namespaces that have disks."""
    return {"namespaces": [found for path in disks() if (found := _listed(path))]}


def _listed(path: Path) -> Fields:
    """Return what a disk shows; nothing of one that is being added or removed."""
    block_size, nsid, size = (text(path / name) for name in ("queue/logical_block_size", "nsid", "size"))
    if not (block_size and nsid and size):
        return {}
    found: Fields = {
        "controller": text(path / "device/serial"),
        "nsid": int(nsid),
        "blocks": int(size) * 512 // int(block_size),  # sysfs counts in 512 bytes, whatever the block size
        "block_size": int(block_size),
    }
    nguid, uuid = text(path / "nguid"), text(path / "uuid")
    shown = {"nguid": nguid, "eui64": text(path / "eui"), "uuid": "" if uuid == nguid else uuid}  # no UUID: it shows the NGUID
    return {**found, **{name: value for name, value in shown.items() if value}}


def queues(_request: Fields) -> Fields:
    """Return the number and depth of the queues, and the interrupt vectors."""
    first = next(iter(controllers()), None)
    if first is None:
        raise RefusedError("no controller")
    return {
        "pairs": int(text(first / "queue_count")) - 1,  # one of them is the admin queue
        "depth": int(text(first / "sqsize")) + 1,  # 0's based
        "vectors": len(re.findall(rf"\b{first.name}q\d+\b", Path("/proc/interrupts").read_text())),
    }


def read(request: Fields) -> bytes:
    """Read blocks past the page cache."""
    node, size = disk(request)
    length, offset = request["blocks"] * size, request.get("offset", 0)
    buffer = _any_buffer(length + offset)
    buffer[:] = POISON * len(buffer)
    with Opened(node, os.O_RDONLY | os.O_DIRECT) as source, memoryview(buffer)[offset : offset + length] as view:
        done = 0
        while done < length:
            count = os.preadv(source, [view[done:]], request["lba"] * size + done)
            if count == 0:
                raise RefusedError(f"the disk ends after {done} of {length} bytes")
            done += count
        found = bytes(view)
    spare.append(buffer)
    return found


def write(request: Fields) -> Fields:
    """Write blocks past the page cache."""
    node, size = disk(request)
    data, offset = request["data"], request.get("offset", 0)
    buffer = _any_buffer(len(data) + offset)
    flags = os.RWF_DSYNC if request.get("fua") else 0  # with O_DIRECT: Force Unit Access, where the write cache is volatile
    with Opened(node, os.O_WRONLY | os.O_DIRECT) as sink, memoryview(buffer)[offset : offset + len(data)] as view:
        view[:] = data
        done = 0
        while done < len(data):
            done += os.pwritev(sink, [view[done:]], request["lba"] * size + done, flags)
    spare.append(buffer)
    return {}


def write_bytes(request: Fields) -> Fields:
    """Write by the page cache, which completes blocks that are written in part."""
    node, size = disk(request)
    with Opened(node, os.O_RDWR) as sink:
        done = 0
        while done < len(request["data"]):
            done += os.pwrite(sink, request["data"][done:], request["lba"] * size + request["at"] + done)
        os.fsync(sink)
    return {}


def flush(request: Fields) -> Fields:
    """Flush the disk."""
    with Opened(disk(request)[0], os.O_WRONLY) as node:
        os.fsync(node)
    return {}


def zeroes(request: Fields) -> Fields:
    """Write zeroes to a range."""
    return _range(request, BLKZEROOUT)


def trim(request: Fields) -> Fields:
    """Deallocate a range."""
    return _range(request, BLKDISCARD)


def _range(request: Fields, code: int) -> Fields:
    node, size = disk(request)
    with Opened(node, os.O_WRONLY) as target:
        fcntl.ioctl(target, code, struct.pack("QQ", request["lba"] * size, request["blocks"] * size))
    return {}


def load_mix(request: Fields) -> Fields:
    """Run all lanes of a load at once (see `lab.data.mix`), each a thread on its job's CPU; report which CPUs there are."""
    node, size = disk(request)
    length, at, lanes = request["blocks"] * size, 0, []
    cpus = sorted(os.sched_getaffinity(0))
    for lane in request["lanes"]:
        steps: list[tuple[int, int | bytes]] = []
        for lba, crc in lane["steps"]:
            steps.append((lba * size, request["data"][at : at + length] if crc is None else crc))
            at += length if crc is None else 0
        lanes.append(_Lane(node, length, cpus[lane["job"] % len(cpus)], steps))
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    found: Fields = {"operations": sum(lane.ended for lane in lanes), "cpus": len(cpus)}
    found |= {"errors": sum(len(lane.errors) for lane in lanes), "mismatches": sum(lane.mismatches for lane in lanes)}
    found["first_error"] = next((lane.errors[0] for lane in lanes if lane.errors), "")
    found["regions"] = []
    try:
        for job, (lba, blocks) in enumerate(request["regions"]):
            os.sched_setaffinity(0, {cpus[job % len(cpus)]})
            found["regions"].append(_digest(node, lba * size, blocks * size))
    finally:
        os.sched_setaffinity(0, cpus)
    return found


class _Lane(threading.Thread):
    """One step after the other: (byte offset, bytes to write or the CRC-32 of what must be read)."""

    def __init__(self, node: str, length: int, cpu: int, steps: list[tuple[int, int | bytes]]) -> None:
        super().__init__()
        self._node, self._cpu, self._steps = node, cpu, steps
        self._buffer = _buffer(length)
        self._view = memoryview(self._buffer)[:length]
        self.ended, self.mismatches, self.errors = 0, 0, list[str]()

    def run(self) -> None:
        os.sched_setaffinity(0, {self._cpu})
        with Opened(self._node, os.O_RDWR | os.O_DIRECT) as node:
            for at, what in self._steps:
                try:
                    self._step(node, at, what)
                except OSError as error:
                    self.errors.append(words(error))
                self.ended += 1

    def _step(self, node: int, at: int, what: int | bytes) -> None:
        if isinstance(what, bytes):
            self._view[:] = what
            moved = os.pwritev(node, [self._view], at)
        else:
            moved = os.preadv(node, [self._view], at)
            self.mismatches += zlib.crc32(self._view) != what
        if moved != len(self._view):
            raise OSError(errno.EIO, f"{moved} of {len(self._view)} bytes were moved")


def _digest(node: str, at: int, length: int) -> str:
    """Return the SHA-256 of what the disk holds there; "" where it cannot be read."""
    buffer = _buffer(length)
    with Opened(node, os.O_RDONLY | os.O_DIRECT) as source, memoryview(buffer)[:length] as view:
        try:
            moved = os.preadv(source, [view], at)
        except OSError:
            return ""
        return hashlib.sha256(view[:moved]).hexdigest()


def raw_(request: Fields) -> Fields | bytes:
    """Send one command unchanged (linux/nvme_ioctl.h, nvme_passthru_cmd): ``opcode``, ``nsid``, ``cdw10`` to ``cdw15``."""
    admin = request.get("queue", "admin") == "admin"
    node = f"/dev/{controllers()[0].name}" if admin else disk(request)[0]
    length = request.get("length", 0)
    buffer = _buffer(max(length, 1))
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if length else 0
    dwords = [request.get(f"cdw{number}", 0) for number in range(10, 16)]
    command = bytearray(PASSTHROUGH.pack(request["opcode"], 0, 0, request.get("nsid", 0), 0, 0, 0, address, 0, length, *dwords,
                                         0, 0))  # fmt: skip
    with Opened(node, os.O_RDWR) as target:
        status = fcntl.ioctl(target, ADMIN_COMMAND if admin else IO_COMMAND, command)
    if status:
        raise CompletedWithError(status)
    return bytes(buffer[:length]) if length else {"result": PASSTHROUGH.unpack(command)[-1]}


def get_feature(request: Fields) -> Fields:
    """Return the volatile write cache, which Linux shows for each disk of a controller; it shows no other feature."""
    if request["feature"] != VOLATILE_WRITE_CACHE:
        raise NotOfferedError
    caches = {text(path / "queue/write_cache") for path in disks()}
    if len(caches) != 1:
        raise RefusedError(f"{len(caches)} answers: {', '.join(sorted(caches))}")
    return {"value": int(caches == {"write back"})}


def smart(_request: Fields) -> Fields:
    """Return the composite temperature as the driver's sensor shows it, and its alarm.

    See Documentation/hwmon/sysfs-interface; the unit is m°C.
    """
    sensor = next((path for controller in controllers() for path in controller.glob("hwmon*")), None)
    if sensor is None:
        raise NotOfferedError
    return {"temperature": round(int(text(sensor / "temp1_input")) / 1000), "alarm": text(sensor / "temp1_alarm") == "1"}


def reset(_request: Fields) -> Fields:
    """Reset all controllers."""
    for path in controllers():
        (path / "reset_controller").write_text("1")  # returns when the reset has ended
    return {}


def rescan(request: Fields) -> Fields:
    """Let all controllers look for namespaces; return the list."""
    for path in controllers():
        (path / "rescan_controller").write_text("1")
    # The kernel scans on a work queue and does not report its end: two equal lists are the best sign of it.
    before, now = None, list_(request)
    while now != before:
        time.sleep(5 * POLL_SECONDS)
        before, now = now, list_(request)
    return now


def shutdown(_request: Fields) -> Fields:
    """Take the driver off its functions: it shuts its controllers down as it does when the system halts."""
    for path in functions():
        if (path / "driver").exists():
            (path / "driver/unbind").write_text(path.name)
    return {}


class Opened:
    """A file descriptor while it is entered; a class, since each end of a generator is an exception (see DECODE)."""

    def __init__(self, path: str | Path, flags: int) -> None:
        """Open the file."""
        self._descriptor = os.open(path, flags)

    def __enter__(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        """Close it."""
        os.close(self._descriptor)


def _buffer(length: int) -> mmap.mmap:
    return mmap.mmap(-1, -(-length // PAGE) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _any_buffer(length: int) -> mmap.mmap:
    """Return a buffer with any content. Its user puts it into `spare` when it is no longer needed."""
    return spare.pop() if length <= SPARE_BYTES and spare else _buffer(max(length, SPARE_BYTES))


# -- requests -------------------------------------------------------------------------------------------------------

OF_THE_LAB: Mapping[str, Callable[[Fields], Fields | bytes]] = {
    "begin": begin, "quiet": quiet, "put": put, "plugged": plugged, "preload": preload,
    "node": node, "run": run,
}  # fmt: skip
ACTIONS: Mapping[str, Callable[[Fields], Fields | bytes]] = {
    "load": load, "unload": unload, "info": info, "ready": ready, "identify": identify, "list": list_,
    "queues": queues, "noop": flush, "read": read, "write": write,
    "write-bytes": write_bytes, "flush": flush, "zeroes": zeroes, "trim": trim,
    "reset": reset, "rescan": rescan, "get-feature": get_feature, "smart": smart, "shutdown": shutdown,
    "raw": raw_, "load-mix": load_mix,
}  # fmt: skip


class KernelLog:
    """The kernel's log since the boot, which was cleared (Documentation/ABI/testing/dev-kmsg)."""

    def __init__(self) -> None:
        """Open the kernel's log at its end."""
        self._source = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._source, 0, os.SEEK_DATA)
        self._more = select.poll()
        self._more.register(self._source, select.POLLIN)
        self._records: list[tuple[int, str]] = []
        self._reading = threading.Lock()

    def after(self, number: int) -> list[tuple[int, str]]:
        """Yield (sequence number, line) of the records after that one."""
        with self._reading:
            while record := self._next():
                prefix, _, message = record.partition(";")
                self._records.append((int(prefix.split(",")[1]), message.partition("\n")[0]))
            return [record for record in self._records if record[0] > number]

    def _next(self) -> str:
        while self._more.poll(0):
            try:
                return os.read(self._source, 8192).decode(errors="replace")
            except BrokenPipeError:  # records were overwritten before they were read: go on with the oldest one there is
                continue
        return ""


def served(request: Fields, kernel_log: KernelLog) -> bytes:
    """Return the encoded answer to a request."""
    answer: Fields = {"number": request["number"], "status": "success", "fields": {}, "bytes": 0}
    data = b""
    try:
        action = request["action"]
        found = (ACTIONS.get(action) or OF_THE_LAB[action])(request)
        if isinstance(found, bytes):
            data = found
            answer["bytes"] = len(data)
        else:
            answer["fields"] = found
    except RefusedError as refused:
        answer["status"] = {"words": str(refused)}
    except NotOfferedError:
        answer["status"] = "unsupported"
    except OSError as error:
        answer["status"] = {"words": words(error)}
    except CompletedWithError as status:
        answer["status"] = {"sct": status.args[0] >> 8 & 7, "sc": status.args[0] & 0xFF}
    except Exception:
        answer["failure"] = traceback.format_exc()
    log = kernel_log.after(request["log_after"])
    answer["log"] = [line for _, line in log]
    answer["log_end"] = log[-1][0] if log else request["log_after"]
    return json.dumps(answer).encode() + b"\n" + data


class Server:
    """Its threads take turns in reading questions; a new one is made only where no other is left to read the next."""

    def __init__(self, port: BinaryIO, kernel_log: KernelLog) -> None:
        """Serve a port."""
        self._port = port
        self._kernel_log = kernel_log
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._counting = threading.Lock()
        self._idle = 0

    def work(self) -> None:
        """Serve questions for ever."""
        while True:
            with self._counting:
                self._idle += 1
            with self._reading:
                request, _ = DECODE(self._port.readline().decode())
                request["data"] = self._port.read(request["bytes"])
            with self._counting:
                self._idle -= 1
                if not self._idle:
                    threading.Thread(target=self.work).start()
            answer = served(request, self._kernel_log)
            with self._writing:
                while answer:
                    answer = answer[os.write(self._port.fileno(), answer) :]


def find_port(name: str) -> Path:
    """Return the device of the virtio-serial port of that name, which shows up a moment after its driver has been loaded."""
    subprocess.run(["modprobe", "virtio_console"])  # which fails where it is built in
    end = time.monotonic() + PORT_SECONDS
    while True:
        ports = {text(path / "name"): path.name for path in Path("/sys/class/virtio-ports").glob("*")}
        if name in ports:
            return Path("/dev", ports[name])
        if time.monotonic() > end:
            raise SystemExit(f"waited {PORT_SECONDS} s for the virtio-serial port {name!r}; there are: {', '.join(ports)}")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    with find_port(sys.argv[1]).open("r+b", buffering=0) as raw, io.BufferedReader(raw) as port:
        subprocess.run(["dmesg", "-c"], stdout=subprocess.DEVNULL, check=True)  # see kernel_log
        if os.fork() == 0:  # the caller knows now that the agent serves
            spare.append(_buffer(SPARE_BYTES))
            own_log = os.open("agent.log", os.O_WRONLY | os.O_CREAT)
            os.dup2(own_log, 1)
            os.dup2(own_log, 2)
            Server(port, KernelLog()).work()
