"""QEMU stands for a real machine: Linux behind its SSH server, on loopback. U-Boot behind a line is in examples/bare-metal."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.judging.judge import judge
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab import drivers
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest
from lab.deadline import Deadline
from lab.guest.remote import NotReachedError, RemoteShell
from lab.recording.record import record
from lab.toolchain import Qemu, Toolchain

BLOCKS = 65536
START_SECONDS = 60.0


@contextmanager
def machine(qemu: Qemu, folder: Path, *options: str) -> Iterator[None]:
    """Run a QEMU with an NVMe disk; its serial line is the pseudo-terminal ``folder``/line."""
    with (folder / "disk.img").open("wb") as disk:
        disk.truncate(BLOCKS * 512)
    command = [
        *qemu.command, "-nodefaults", "-display", "none", "-machine", "q35", "-m", "512", "-cpu", "max",
        "-accel", "tcg,thread=multi",
        "-chardev", "pty,id=line,path=line", "-serial", "chardev:line",
        "-drive", "if=none,id=disk,format=raw,file=disk.img", "-device", "nvme,serial=BARE,drive=disk,addr=5", *options,
    ]  # fmt: skip
    with (folder / "qemu.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, env=dict(qemu.env), stdout=log, stderr=log)
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def outcomes(manifest: DriverManifest, folder: Path) -> dict[str, Outcome]:
    """Record and judge two scenarios; return the outcomes of the profile's checks that were observed."""
    found: dict[str, Outcome] = {}
    for scenario in ("bare-metal/ready", "bare-metal/data"):
        asked = SCENARIOS[scenario].resolve(3)
        evidence = Evidence(record(manifest, asked, "machine", folder / scenario, toolchain=Toolchain(None, None)))
        assert evidence.identity.device == "machine"
        assert evidence.identity.qemu is None
        assert evidence.end is not None
        assert evidence.end.outcome == "complete", evidence.end.reason
        for verdict in judge(evidence, select(profiles_named=["bare-metal"]).checks_of(scenario)):
            if verdict.check.stage == "bare-metal" and verdict.outcome is not Outcome.INCONCLUSIVE:
                found[verdict.check.id] = verdict.outcome
    return found


def until_reached(shell: RemoteShell, deadline: Deadline) -> None:
    """Wait until the machine takes commands."""
    while True:
        try:
            shell.run("true", deadline=deadline)
            return
        except NotReachedError:
            assert not deadline.expired


LINUX = """
name = "linux-box"
adapter = "bare-metal"
stages = []
profiles = ["bare-metal"]

[boot]
seconds = 60

[machine]
ssh = "root@127.0.0.1"
ssh_options = OPTIONS

[machine.disk]
blocks = 65536
scratch = 4096
scratch_blocks = 1024
read = "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/nvme0n1 bs={block_size} skip={lba} count={blocks} 2>/dev/null"

[actions.load]
command = [
    "grep -q ^nvme_core /proc/modules || insmod /tmp/nvme-core.ko",
    'grep -q "^nvme " /proc/modules || insmod /tmp/nvme.ko',
    "until test -b /dev/nvme0n1; do sleep 0.1; done; echo nvme0: Controller Ready",
]
success = 'Controller Ready$'

[actions.ready]
command = "cat /sys/class/nvme/nvme0/state"
truths.ready = '^live'

[actions.list]
command = 'sed "s/^/1 /" /sys/class/block/nvme0n1/size'
lists.namespaces.each = '^(?P<nsid>\\d+) (?P<blocks>\\d+)$'

[actions.read]
command = "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/nvme0n1 bs={block_size} skip={lba} count={blocks} 2>/dev/null | xxd"
hexdump = "xxd"

[actions.write]
command = "dd of=/dev/nvme0n1 bs={block_size} seek={lba} iflag=fullblock conv=fsync"
success = 'records out'
"""


def test_linux_behind_its_ssh_server(tmp_path: Path, toolchain: Toolchain) -> None:
    qemu, guest = toolchain.qemu, toolchain.linux
    assert qemu is not None
    assert guest is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key, known = tmp_path / "key", tmp_path / "known_hosts"
    key.write_bytes(guest.private_key.read_bytes())
    key.chmod(0o600)
    known.write_text(f"[127.0.0.1]:{port} {guest.host_key}\n")
    options = [
        "-F", "none", "-p", str(port), "-i", str(key),
        "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes",
    ]  # fmt: skip
    forwarded = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"
    started = [
        "-kernel", str(guest.vmlinux), "-initrd", str(guest.initrd), "-append", guest.append,
        "-netdev", forwarded, "-device", "virtio-net-pci,netdev=net,romfile=",
    ]  # fmt: skip
    path = tmp_path / "box.toml"
    path.write_text(LINUX.replace("OPTIONS", json.dumps(options)))
    manifest = drivers.find(str(path))
    with machine(qemu, tmp_path, *started):
        shell = RemoteShell("root@127.0.0.1", options)
        deadline = Deadline(START_SECONDS)
        until_reached(shell, deadline)
        for module in guest.modules:
            assert shell.run(f"cat > /tmp/{module.name}", module.read_bytes(), deadline=deadline).status == 0
        found = outcomes(manifest, tmp_path)
    assert found == dict.fromkeys(
        ("bare-metal/says-ready", "bare-metal/is-ready", "bare-metal/capacity", "bare-metal/data", "bare-metal/stored"),
        Outcome.PASS,
    )
