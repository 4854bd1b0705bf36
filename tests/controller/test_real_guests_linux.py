"""Linux lives on the programmable controller: probe, partitions, verified I/O, time-outs, removal under load, nvme-cli."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.device.images import image
from lab.nvme.commands import Abort, Read
from lab.nvme.identify import Csi
from lab.nvme.logs import KELVIN, CommandsSupported, Smart
from lab.toolchain import Toolchain
from lab.trials.behaviours import TRIALS, Trial, check_complete, show
from lab.trials.live_linux import LiveLinux

BLOCKS = 65536
SPEC = DeviceSpec(
    controllers=(
        Controller(
            serial="REAL-LINUX", cap={"TO": 2}, io_queues=2, vectors=3,
            namespaces=(Namespace(blocks=BLOCKS, areas=((0, 64),), eui64=0x1122334455667788),),
        ),
    )
)  # fmt: skip
DISK = "/dev/nvme0n1"


@contextmanager
def live(toolchain: Toolchain, *faults: Fault, vectors: int = 3) -> Iterator[tuple[LiveLinux, Path]]:
    spec = DeviceSpec(controllers=(replace(SPEC.controllers[0], vectors=vectors),))
    with (
        tempfile.TemporaryDirectory(prefix="live-") as folder,
        LiveLinux(toolchain, spec, Path(folder), faults=faults) as linux,
    ):
        linux.load(io_timeout=2, admin_timeout=2)
        linux.plug()
        linux.appears(DISK + "p1")
        yield linux, Path(folder)


VERIFY = """
import hashlib, json, mmap, os, random, sys
disk, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance, held = random.Random(seed), {}
fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 17)
def content(block, version, count):
    return b"".join(hashlib.shake_128(b"%d.%d" % (block + n, version)).digest(512) for n in range(count))
wrong = 0
for version in range(rounds):
    block, count = chance.randrange(64, 4096), chance.choice((1, 2, 7, 8, 64, 256))
    buffer[: count * 512] = content(block, version, count)
    assert os.pwritev(fd, [memoryview(buffer)[: count * 512]], block * 512) == count * 512
    held.update({block + n: version for n in range(count)})
    if version % 16 == 0:
        os.fsync(fd)
for block, version in held.items():
    assert os.preadv(fd, [memoryview(buffer)[:512]], block * 512) == 512
    wrong += buffer[:512] != content(block, version, 1)
for start in range(64, 4096, 256):  # and in large pieces
    assert os.preadv(fd, [memoryview(buffer)], start * 512) == 1 << 17
    for n in range(256):
        if start + n in held:
            wrong += buffer[n * 512 : n * 512 + 512] != content(start + n, held[start + n], 1)
os.fsync(fd)
print(json.dumps({"blocks": len(held), "wrong": wrong, "last": {str(b): v for b, v in list(held.items())[:50]}}))
"""


def test_probe_partitions_and_verified_io(toolchain: Toolchain) -> None:
    with live(toolchain) as (linux, folder):
        log = "\n".join(linux.log())
        assert re.search(r"nvme nvme0: \d/0/0 default/read/poll queues", log)
        assert "nvme0n1: p1" in log
        assert linux.shell("cat /sys/block/nvme0n1/size /sys/block/nvme0n1/nvme0n1p1/start").split() == [str(BLOCKS), "64"]
        reported = linux.python(VERIFY, DISK, 7, 200)
        assert reported["blocks"] > 1000
        assert reported["wrong"] == 0
        assert [line for line in linux.log() if "error" in line.lower()] == []
        stored = image(folder, "nv0", 1).read_bytes()
    for block, version in reported["last"].items():
        expected = hashlib.shake_128(f"{block}.{version}".encode()).digest(512)
        assert stored[int(block) * 512 : int(block) * 512 + 512] == expected, "the disk holds it too"


def test_reset_by_time_out(toolchain: Toolchain) -> None:
    lost = Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, times=2, armed=False)
    with live(toolchain, lost) as (linux, _):
        read = f"dd if={DISK} of=/dev/null bs=4096 count=1 skip=5 iflag=direct"
        linux.log()
        linux.arm("lost")
        linux.shell(read)  # the driver aborts the Read and tries it again, twice
        log = linux.log()
        assert sum("timeout, aborting" in line for line in log) == 2
        assert any("Abort status: 0x0" in line for line in log)
        assert linux.strikes("lost") == 2
        assert linux.python(VERIFY, DISK, 8, 30)["wrong"] == 0


def test_reset_where_abort_does_not_help(toolchain: Toolchain) -> None:
    lost = Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, times=1, armed=False)
    unheard = Fault(name="unheard", behaviour="drop", queue="admin", opcode=Abort.OPCODE, times=1, armed=False)
    with live(toolchain, lost, unheard) as (linux, _):
        linux.log()
        linux.arm("unheard")
        linux.arm("lost")
        linux.shell(f"dd if={DISK} of=/dev/null bs=4096 count=1 skip=5 iflag=direct")
        log = linux.log()
        assert any("timeout, reset controller" in line for line in log), log
        assert any("default/read/poll queues" in line for line in log), "it came up again"
        assert linux.shell("cat /sys/class/nvme/nvme0/state").strip() == "live"
        assert linux.python(VERIFY, DISK, 8, 30)["wrong"] == 0


LOAD = """
import errno, json, mmap, os, random, sys, threading, time
disk, started, results = sys.argv[1], threading.Event(), []
def work(seed):
    buffer, chance, done = mmap.mmap(-1, 4096), random.Random(seed), 0
    try:
        fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
        while True:
            at = chance.randrange(64, 8000) * 4096
            moved = (os.pwritev if chance.random() < 0.5 else os.preadv)(fd, [buffer], at)
            if moved < 4096:
                raise OSError(errno.ENXIO, "gone")
            done += 1
            if done == 20:
                open("/tmp/loaded", "a").write("x")
    except OSError as error:
        results.append([done, errno.errorcode[error.errno]])
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(results))
"""


@pytest.mark.parametrize("how", ["all ones", "device_del"])
def test_hot_removal_under_load(toolchain: Toolchain, how: str) -> None:
    gone = Fault(name="gone", behaviour="removed", armed=False)
    with live(toolchain, gone, vectors=3 if how == "all ones" else 0) as (linux, _):  # QEMU aborts at unplug with MSI-X
        linux.shell(f"cat > /tmp/load.py; setsid python3 /tmp/load.py {DISK} > /tmp/result 2>&1 < /dev/null &", LOAD.encode())
        linux.until(lambda: linux.run('test "$(cat /tmp/loaded)" = xxxx').status == 0, "four loads on the disk")
        linux.log()
        if how == "all ones":
            linux.arm("gone")
        else:
            linux.unplug()
        linux.until(lambda: linux.run("test -s /tmp/result").status == 0, "the end of the load")
        results = json.loads(linux.shell("cat /tmp/result"))
        ended = {"EIO", "ENXIO", "ENODEV", "ENOSPC"}  # the last one: a write to a disk that has no blocks any more
        assert len(results) == 4, results
        assert all(done >= 20 and error in ended for done, error in results), results
        linux.until(lambda: linux.run(f"test -e {DISK}").status != 0, "the disk to vanish")
        log = linux.log()
        assert any("CSTS=0xffffffff" in line for line in log) == (how == "all ones"), log
        assert linux.shell("echo alive") == "alive\n"


def test_nvme_cli_reads_it_clean(toolchain: Toolchain) -> None:
    with live(toolchain) as (linux, _):
        model = linux.device.server.call(lambda device: device.controllers["nv0"])

        def nvme(command: str) -> Any:
            result = linux.run(f"nvme {command} -o json")
            assert result.status == 0, (command, result)
            assert not result.stderr.strip(), (command, result)
            return json.loads(result.stdout)

        ctrl, mine = nvme("id-ctrl /dev/nvme0"), model.identity
        reported = {name: value for name, value in ctrl.items() if isinstance(value, int)}
        held = {name.lower(): int(value) for name, value in mine.fields().items() if isinstance(value, int)}
        common = reported.keys() & held.keys()
        assert len(common) > 40
        assert {name: reported[name] for name in common} == {name: held[name] for name in common}
        assert (ctrl["sn"].strip(), ctrl["mn"].strip(), ctrl["fr"].strip()) == (mine.SN, mine.MN, mine.FR)
        ns, its = nvme(f"id-ns {DISK}"), model.identify_namespace(1)
        assert (ns["nsze"], ns["ncap"], ns["nlbaf"], ns["flbas"]) == (its.NSZE, its.NCAP, its.NLBAF, its.FLBAS)
        assert ns["eui64"] == "1122334455667788"
        assert [(f["ds"], f["ms"]) for f in ns["lbafs"]] == [(f.LBADS, f.MS) for f in its.LBAF[: its.NLBAF + 1]]
        linux.shell(f"dd if={DISK} of=/dev/null bs=4096 count=10 iflag=direct")
        smart, health = nvme("smart-log /dev/nvme0"), Smart(model.logs.smart())
        assert smart["temperature"] == health.TEMPERATURE == 40 + KELVIN
        assert smart["avail_spare"] == health.AVAILABLE_SPARE
        assert int(smart["host_read_commands"]) == health.HOST_READS >= 10
        assert smart["critical_warning"] == 0
        (listed,) = nvme("list")["Devices"]
        assert (listed["SerialNumber"], listed["MaximumLBA"], listed["SectorSize"]) == ("REAL-LINUX", BLOCKS, 512)
        assert [entry["nsid"] for entry in nvme("list-ns /dev/nvme0")["nsid_list"]] == [1]
        assert all(entry["error_count"] == 0 for entry in nvme("error-log /dev/nvme0 -e 4")["errors"])
        (effects,) = nvme("effects-log /dev/nvme0 --csi=0")  # it has no registers to find out the command set by
        log = CommandsSupported(model.parts.effects[Csi.NVM])
        assert by_opcode(effects["admin_cmd_set"]) == {n: int(found) for n, found in enumerate(log.ACS) if found}
        assert by_opcode(effects["io_cmd_set"]) == {n: int(found) for n, found in enumerate(log.IOCS) if found}
        queues = linux.shell("nvme get-feature /dev/nvme0 -f 7")
        assert "0x00010001" in queues, "two I/O queue pairs, 0's based"
        assert not [line for line in linux.log() if "error" in line.lower()]


def by_opcode(commands: dict[str, int]) -> dict[int, int]:
    """Effects by opcode, of nvme-cli's ``ACS_6 (Identify)``."""
    return {int(name.split()[0].partition("_")[2]): effects for name, effects in commands.items()}


def test_each_behaviour_has_a_trial() -> None:
    check_complete()
    assert len({trial.behaviour for trial in TRIALS}) == len(TRIALS)


@pytest.mark.parametrize(
    ("name", "effects"),
    [("drop", ("Abort",)), ("corrupt", ("wrong data to the caller",)), ("status", ("ENODATA to the caller",)),
     ("fatal", ("reset",))],
)  # fmt: skip
def test_what_linux_makes_of_a_behaviour(toolchain: Toolchain, tmp_path: Path, name: str, effects: tuple[str, ...]) -> None:
    (trial,) = (trial for trial in TRIALS if trial.behaviour == name)
    shown = show(toolchain, trial, tmp_path)
    assert (shown.struck, shown.effects, shown.afterwards) == (1, effects, "success"), shown


@pytest.mark.soak
@pytest.mark.parametrize("trial", TRIALS, ids=[trial.behaviour for trial in TRIALS])
def test_every_behaviour_strikes_a_live_linux(toolchain: Toolchain, tmp_path: Path, trial: Trial) -> None:
    assert show(toolchain, trial, tmp_path).struck >= 1
