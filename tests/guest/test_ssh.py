from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.deadline import Deadline
from lab.errors import GuestDiedError, GuestError, GuestPanicError, GuestTimeoutError
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.guest.ssh import Ssh
from lab.toolchain import LinuxGuest, Toolchain

SOON = 30.0


def boot(toolchain: Toolchain, root: Path | None = None) -> Machine:
    assert toolchain.qemu
    assert toolchain.linux
    linux = toolchain.linux
    spec = GuestSpec(kernel=linux.vmlinux, initrd=linux.initrd, append=linux.append, network=True, vmgenid=True)
    return Machine(toolchain.qemu.command, toolchain.qemu.env, spec, "tcg,thread=multi", root=root)


def connect(guest: Machine, linux: LinuxGuest | None, host_key: str = "", seconds: float = 60) -> Ssh:
    assert linux
    return Ssh.connect(guest.ssh_address(), linux.private_key, host_key or linux.host_key, guest.check, Deadline(seconds))


@pytest.fixture(scope="module")
def guest(toolchain: Toolchain) -> Iterator[Machine]:
    with boot(toolchain) as guest:
        yield guest


@pytest.fixture(scope="module")
def ssh(guest: Machine, toolchain: Toolchain) -> Iterator[Ssh]:
    with connect(guest, toolchain.linux) as ssh:
        yield ssh


def test_outputs_and_status(ssh: Ssh) -> None:
    result = ssh.run("echo out; echo err >&2; exit 3", deadline=Deadline(SOON))
    assert (result.status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_a_command_that_a_signal_ends(ssh: Ssh) -> None:
    assert ssh.run("kill -9 $$", deadline=Deadline(SOON)).status != 0


def test_input_and_both_outputs_at_once(ssh: Ssh) -> None:
    data = random.Random(1).randbytes(3 << 20)
    result = ssh.run("cat > /tmp/data; cat /tmp/data >&2 & cat /tmp/data; wait", data, deadline=Deadline(SOON))
    assert result.stdout == data
    assert result.stderr == data


def test_a_command_that_does_not_read_its_input(ssh: Ssh) -> None:
    assert ssh.run("echo done", bytes(4 << 20), deadline=Deadline(SOON)).stdout == b"done\n"


def test_put(ssh: Ssh, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "file").write_bytes(data)
    ssh.put(tmp_path / "file", "/tmp/it's here", 0o750, deadline=Deadline(SOON))
    answer = ssh.run('sha256sum < "/tmp/it\'s here"; stat -c %a "/tmp/it\'s here"', deadline=Deadline(SOON)).stdout.split()
    assert answer[0].decode() == hashlib.sha256(data).hexdigest()
    assert answer[-1] == b"750"


def test_put_where_it_cannot_go(ssh: Ssh) -> None:
    with pytest.raises(GuestError, match=r"(?s)Cannot write /no/such/folder/x \(4 bytes\)"):
        ssh.put(b"data", "/no/such/folder/x", deadline=Deadline(SOON))


def test_timeout_says_what_and_what_came_last(ssh: Ssh) -> None:
    with pytest.raises(GuestTimeoutError, match=r"0.5 s .* 'echo begun; sleep 60' .*begun") as caught:
        ssh.run("echo begun; sleep 60", deadline=Deadline(0.5))
    assert caught.value.last == "begun\n"
    assert ssh.run("true", deadline=Deadline(SOON)).status == 0


def test_another_host_key_is_refused(guest: Machine, ssh: Ssh, toolchain: Toolchain) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVYq4sX6K1Q0bMh2w4vYGJmOq3n8f7a1c5e9d2b6a4F"
    with pytest.raises(GuestError, match="do not know each other"):
        connect(guest, toolchain.linux, other)


def test_a_port_without_a_server_is_reported(toolchain: Toolchain) -> None:
    assert toolchain.linux
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(GuestTimeoutError, match="it was silent"):
            Ssh.connect(port, toolchain.linux.private_key, toolchain.linux.host_key, lambda _: None, Deadline(0.3))


class Strikes(Deadline):
    """A deadline that kills a process as soon as somebody asks whether it has expired: the command runs by then."""

    def __init__(self, seconds: float, pid: int) -> None:
        super().__init__(seconds)
        self._pid = pid

    @property
    def expired(self) -> bool:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._pid = 0
        return super().expired


def test_a_guest_that_dies_ends_the_command_at_once(toolchain: Toolchain, root: Path) -> None:
    with boot(toolchain, root) as guest, connect(guest, toolchain.linux) as ssh:
        begin, deadline = time.monotonic(), Strikes(60, guest.process.pid)
        with pytest.raises(GuestDiedError, match="SIGKILL while the lab waited for the command 'sleep 60'"):
            ssh.run("sleep 60", deadline=deadline)
        assert time.monotonic() - begin < 10


def test_a_guest_that_panics_ends_the_command_at_once(toolchain: Toolchain, root: Path) -> None:
    with boot(toolchain, root) as guest, connect(guest, toolchain.linux) as ssh:
        begin = time.monotonic()
        with pytest.raises(GuestPanicError, match="sysrq triggered crash"):
            ssh.run("echo c > /proc/sysrq-trigger; sleep 60", deadline=Deadline(60))
        assert time.monotonic() - begin < 20


WITHOUT_IPV4 = """
ip link set lo up && ip address del 127.0.0.1/8 dev lo && exec "$@"
"""
REACHED = """
import json, sys
from pathlib import Path
from lab.guest import loopback
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
assert not loopback.has_ipv4_loopback()
command, env, root = json.loads(sys.argv[1])
spec = GuestSpec(memory=16, network=True, extra=("-S",))
with Machine(command, env, spec, "tcg", root=Path(root)) as machine:
    address = machine.ssh_address()
    assert isinstance(address, Path)
    loopback.connect(address, 10).close()
    print("reached")
"""


def test_a_guest_is_reached_where_the_loopback_has_no_ipv4(toolchain: Toolchain, root: Path) -> None:
    """In a network namespace whose only address is ::1."""
    namespace = ["unshare", "--net", *(() if os.getuid() == 0 else ("--map-root-user",)), "sh", "-c", WITHOUT_IPV4, "sh"]
    tried = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespace can be made here: {tried.stderr.strip()}")
    assert toolchain.qemu
    given = json.dumps([toolchain.qemu.command, dict(toolchain.qemu.env), str(root)])
    done = subprocess.run(
        [*namespace, sys.executable, "-c", REACHED, given], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "reached\n", done.stderr
