"""Forks of the Linux guest, as the linux adapter makes them: fresh, apart from each other, and like a guest that was booted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from lab.data.plan import Controller, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.drivers import find
from lab.drivers.linux import Agent, Linux, LinuxSession
from lab.errors import GuestPanicError, GuestTimeoutError
from lab.guest.console import plain
from lab.guest.machine import Machine
from lab.guest.memory import ForkMemory, GuestMemory
from lab.guest.ssh import Ssh
from lab.guest.template import RAM, Template, Templates
from lab.toolchain import Toolchain

TCG = "tcg,thread=multi"
SECONDS = 60.0
NOTHING = Scenario(
    id="none/none", stage="none", title="", seed=0, actions=(),
    device=DeviceSpec(controllers=(Controller(serial="s", namespaces=(Namespace(blocks=8),)),)),
)  # fmt: skip
Fork: TypeAlias = Callable[..., AbstractContextManager[Machine]]


@pytest.fixture(scope="session")
def linux(toolchain: Toolchain) -> Linux:
    return Linux(find("linux"), toolchain)


@pytest.fixture
def fork(toolchain: Toolchain, linux: Linux) -> Fork:
    """Forks; their template is the user's own, built once per machine."""

    @contextmanager
    def running(shared_memory: Path | None = None, console_log: Path | None = None, **guest: object) -> Iterator[Machine]:
        qemu, cache = toolchain.qemu, toolchain.cache
        assert qemu
        assert cache
        spec = linux.guest(Scenario(**{**NOTHING.__dict__, "guest": guest}))

        def start(template: Template) -> Machine:
            return Machine(qemu.command, qemu.env, template.forked(spec, shared_memory), TCG, console_log=console_log)

        with Templates(cache, qemu, TCG, print).fork(spec, linux, start) as machine:
            yield machine

    return running


def shell(machine: Machine, command: str) -> str:
    """Return what a short command on the console prints."""
    machine.console.send(f"echo BE''GIN; {command}; echo EN''D\n")
    machine.console.expect("BEGIN\r\n", Deadline(SECONDS), command)
    return plain(machine.console.expect("END", Deadline(SECONDS), command).before).strip()


def test_two_forks_are_two_guests(fork: Fork) -> None:
    with fork() as one, fork() as two:
        for command in ("cat /proc/sys/kernel/random/uuid", "od -An -tx8 -N16 /dev/urandom"):
            drawn = [shell(machine, command) for machine in (one, two)]
            assert all(len(text) > 30 for text in drawn), "they draw the same random numbers"
            assert drawn[0] != drawn[1], "they draw the same random numbers"
        shell(one, "echo one > /root/mine")
        assert shell(two, "ls /root") == ""
        shell(two, "echo two > /root/mine")
        assert shell(one, "cat /root/mine") == "one"
        assert one.ssh_address() != two.ssh_address()
    with fork() as three:
        assert shell(three, "ls /root") == "", "a fork has written to the template"


@pytest.mark.parametrize("shared", [False, True])
def test_the_guests_memory_can_be_read(fork: Fork, tmp_path: Path, shared: bool) -> None:
    ram = tmp_path / "ram" if shared else None
    with fork(shared_memory=ram) as machine, machine.memory() as memory:
        assert isinstance(memory, GuestMemory if shared else ForkMemory)
        shell(machine, "echo 6e766d65206c6162 > /root/secret")
        machine.qmp("stop")
        dump = machine.folder / "dump"
        machine.qmp("pmemsave", {"val": 0, "size": 256 << 20, "filename": str(dump)})
        content = dump.read_bytes()
        place = content.index(b"6e766d65206c6162")
        assert memory.read(place, 16) == b"6e766d65206c6162"
        for address in range(0, len(content), 1 << 20):  # the hole of the legacy video memory is no RAM
            if not 0xA0000 <= address < 0x100000:
                assert memory.read(address, 4096) == content[address : address + 4096]
        assert memory.read(256 << 20, 1) is None
        assert machine.spec.memory_file
        template_ram = machine.spec.state.with_name(RAM) if machine.spec.state else None
        assert template_ram
        assert b"6e766d65206c6162" not in template_ram.read_bytes()


def test_a_forks_memory_ends_with_it(fork: Fork) -> None:
    with ExitStack() as reading:
        with fork() as machine:
            memory = reading.enter_context(machine.memory())
            assert memory.read(1 << 20, 4) is not None
        assert memory.read(1 << 20, 4) is None


def test_the_clock_is_set_and_questions_are_answered(fork: Fork, linux: Linux) -> None:
    with fork() as machine:
        session = linux.open(machine, NOTHING, Deadline(SECONDS))
        before = time.time()
        guest_time = int(shell(machine, "date +%s"))
        assert before - 2 <= guest_time <= time.time() + 2
        answer = session.agent.ask({"action": "plugged", "controllers": 0}, deadline=Deadline(SECONDS))
        assert answer.head["status"] == "success"


def test_its_console_log_begins_at_the_fork(fork: Fork, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    with fork(console_log=log) as machine:
        assert shell(machine, "echo a''b") == "ab"
        template_log = machine.spec.state.with_name("boot.log") if machine.spec.state else None
    assert template_log
    assert "NVME-LAB READY" in template_log.read_text()
    assert "NVME-LAB READY" not in log.read_text()
    assert "ab" in log.read_text()


def test_ssh_is_up_in_a_fork(fork: Fork, toolchain: Toolchain) -> None:
    guest = toolchain.linux
    assert guest
    with (
        fork() as machine,
        Ssh.connect(machine.ssh_address(), guest.private_key, guest.host_key, machine.check, Deadline(SECONDS)) as ssh,
    ):
        assert ssh.run("echo here", deadline=Deadline(SECONDS)).stdout == b"here\n"


def test_a_panic_in_a_fork_is_named(fork: Fork) -> None:
    with fork() as machine:
        session = LinuxSession(Agent(machine), NOTHING, [])
        with pytest.raises(GuestPanicError, match="sysrq triggered crash"):
            session.agent.ask({"action": "put", "path": "/proc/sysrq-trigger", "mode": 0o200}, b"c", deadline=Deadline(SECONDS))


def test_a_late_answer_is_not_the_next_ones(fork: Fork) -> None:
    with fork() as machine:
        session = LinuxSession(Agent(machine), NOTHING, [])
        with pytest.raises(GuestTimeoutError, match="'plugged'"):
            session.agent.ask({"action": "plugged", "controllers": 1}, deadline=Deadline(0.3))  # nothing is plugged
        data = os.urandom(1 << 20)
        session.agent.ask({"action": "put", "path": "/root/data", "mode": 0o600}, data, deadline=Deadline(SECONDS))
        assert shell(machine, "wc -c < /root/data") == str(1 << 20)


@pytest.mark.parametrize("guest", [{"cpus": 2}, {"iommu": True}])
def test_variants(fork: Fork, guest: dict[str, object]) -> None:
    with fork(**guest) as machine:
        assert shell(machine, "nproc") == str(guest.get("cpus", 1))
        units = shell(machine, "ls /sys/class/iommu")
        assert bool(units) == ("iommu" in guest), units


def test_forks_leave_nothing(fork: Fork) -> None:
    with fork():
        pass  # so that the template is there
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with fork() as machine, machine.memory():
        pass
    assert machine.process.status == 0
    assert not machine.folder.exists()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == files
