"""What a guest's QEMU may do on this machine: as little as the lab can arrange."""

from __future__ import annotations

from pathlib import Path

from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.toolchain import Toolchain

TCG = "tcg,thread=multi"


def test_qemu_has_no_capabilities_cannot_gain_any_and_is_filtered(toolchain: Toolchain) -> None:
    qemu = toolchain.qemu
    assert qemu
    with Machine(qemu.command, qemu.env, GuestSpec(memory=16, extra=("-S",)), TCG) as machine:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{machine.process.pid}/status").read_text().splitlines())
    for powers in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[powers], 16) == 0, powers
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_only_way_into_the_guest_is_a_loopback_port(toolchain: Toolchain) -> None:
    qemu = toolchain.qemu
    assert qemu
    with Machine(qemu.command, qemu.env, GuestSpec(memory=16, network=True, extra=("-S",)), TCG) as machine:
        port = machine.ssh_port()
        inodes = {link.readlink().name for link in Path(f"/proc/{machine.process.pid}/fd").iterdir() if link.is_symlink()}
        listening = []
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[9]}]" in inodes:
                    listening.append((table, fields[1]))
    assert listening == [("tcp", f"0100007F:{port:04X}")]
