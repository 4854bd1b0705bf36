from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab.deadline import Deadline
from lab.errors import GuestDiedError, GuestPanicError, GuestTimeoutError, LabError, QmpError
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.guest.memory import GuestMemory
from lab.toolchain import Toolchain

TCG = "tcg,thread=multi"
PAUSED = GuestSpec(memory=16, root_ports=1, extra=("-S",))
"""QEMU alone: its processor never runs."""
PROMPT = r"(?:^|\n)=> "


def machine(toolchain: Toolchain, root: Path, spec: GuestSpec = PAUSED, **options: object) -> Machine:
    assert toolchain.qemu
    return Machine(toolchain.qemu.command, toolchain.qemu.env, spec, TCG, root=root, **options)  # type: ignore[arg-type]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def gone(pid: int) -> bool:
    """No such process, or only its remains for somebody else to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pid: int) -> bool:
    deadline = Deadline(10)
    while not gone(pid) and not deadline.expired:
        time.sleep(0.01)
    return gone(pid)


def assert_nothing_left(guest: Machine, threads: int, root: Path) -> None:
    assert gone(guest.process.pid)
    assert list(root.glob("run-*")) == []
    assert threading.active_count() == threads


def test_runs_answers_and_leaves_nothing(toolchain: Toolchain, root: Path) -> None:
    threads, files = threading.active_count(), open_files()
    with machine(toolchain, root) as guest:
        assert guest.qmp("query-status")["status"] == "prelaunch"
        assert guest.process.alive
    assert guest.process.status == 0
    assert_nothing_left(guest, threads, root)
    assert open_files() == files


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_leaves_nothing_after_an_exception(toolchain: Toolchain, root: Path, error: type[BaseException]) -> None:
    threads = threading.active_count()
    with pytest.raises(error), machine(toolchain, root) as guest:
        raise error
    assert_nothing_left(guest, threads, root)


def test_refused_command_is_named(toolchain: Toolchain, root: Path) -> None:
    with machine(toolchain, root) as guest, pytest.raises(QmpError, match=r"device_add.*rp9") as caught:
        guest.qmp("device_add", {"driver": "pci-testdev", "bus": "rp9"})
    assert caught.value.error_class == "GenericError"


def test_events_are_kept_until_asked_for_and_given_once(toolchain: Toolchain, root: Path) -> None:
    with machine(toolchain, root) as guest:
        guest.qmp("cont")
        guest.qmp("stop")
        assert guest.event("STOP", Deadline(10))["event"] == "STOP"
        assert guest.event("RESUME", Deadline(10))
        with pytest.raises(GuestTimeoutError, match=r"the QMP event STOP"):
            guest.event("STOP", Deadline(0.1))


def test_an_event_with_a_condition_also_after_qemus_end(toolchain: Toolchain, root: Path) -> None:
    with machine(toolchain, root) as guest:
        guest.qmp("cont")
        guest.qmp("system_reset")  # -no-reboot makes it the end
        guest.process.wait(Deadline(10))
        event = guest.event("SHUTDOWN", Deadline(10), lambda event: not event["data"]["guest"])
        assert event["data"]["reason"] == "host-qmp-system-reset"


def test_arguments_that_qemu_refuses_are_shown_at_once(toolchain: Toolchain, root: Path) -> None:
    threads, begin = threading.active_count(), time.monotonic()
    guest = machine(toolchain, root, GuestSpec(devices=({"driver": "no-such-device"},)))
    with pytest.raises(
        GuestDiedError, match=r"(?s)exited with status 1.*QMP greeting.*'no-such-device' is not a valid device"
    ) as caught:
        guest.__enter__()
    assert "no-such-device" in caught.value.last
    assert time.monotonic() - begin < 10
    assert_nothing_left(guest, threads, root)


def test_a_command_that_cannot_be_started(root: Path) -> None:
    with pytest.raises(LabError), Machine(("/no/such/qemu",), {}, PAUSED, TCG, root=root):
        pass
    assert list(root.glob("run-*")) == []


@pytest.mark.parametrize("wait", ["console", "event", "qmp"])
def test_killed_qemu_ends_every_wait_at_once(toolchain: Toolchain, root: Path, wait: str) -> None:
    threads = threading.active_count()
    with machine(toolchain, root) as guest:
        if wait == "qmp":
            os.kill(guest.process.pid, signal.SIGSTOP)  # so that the command is certainly still unanswered
        begin, deadline = time.monotonic(), Strikes(60, guest.process.pid)
        with pytest.raises(GuestDiedError, match="QEMU was killed by SIGKILL while the lab waited for"):  # noqa: PT012
            match wait:
                case "console":
                    guest.console.expect("login:", deadline)
                case "event":
                    guest.event("DEVICE_DELETED", deadline)
                case "qmp":
                    guest.qmp("query-status", deadline=deadline)
        assert time.monotonic() - begin < 10
        with pytest.raises(GuestDiedError):
            guest.check("anything")
    assert_nothing_left(guest, threads, root)


def test_qemus_last_words_are_in_the_error(toolchain: Toolchain, root: Path) -> None:
    with machine(toolchain, root) as guest:
        os.kill(guest.process.pid, signal.SIGTERM)
        with pytest.raises(GuestDiedError, match=r"(?s)exited with status 0.*terminating on signal 15"):
            guest.console.expect("login:", Deadline(60))


CODE = """
b0 15        mov al, 15h
e6 f4        out f4h, al
f4           hlt
"""
RESET = """
b0 06        mov al, 6
ba f9 0c     mov dx, cf9h    ; the chipset's reset register
ee           out dx, al
f4           hlt
"""


def rom(folder: Path, listing: str) -> Path:
    """Return a firmware of 64 KiB that does nothing else, from the processor's first instruction at FFF0h on."""
    code = b"".join(bytes.fromhex(line[:13]) for line in filter(None, listing.splitlines()))
    path = folder / "rom"
    path.write_bytes(bytes(0xFFF0) + code.ljust(16, b"\xf4"))
    return path


@pytest.mark.parametrize(
    ("listing", "code", "said"),
    [(CODE, 0x15, "The guest ended with exit code 0x15 while"), (RESET, None, "The guest reset the machine")],
)
def test_a_guest_that_ends_itself(toolchain: Toolchain, root: Path, listing: str, code: int | None, said: str) -> None:
    spec = GuestSpec(memory=16, bios=rom(root, listing), debug_exit=True, paused=True)
    with machine(toolchain, root, spec) as guest:
        assert guest.exit_code is None
        guest.qmp("cont")
        assert guest.process.wait(Deadline(10))
        assert guest.exit_code == code
        with pytest.raises(GuestPanicError, match=said):
            guest.console.expect("anything", Deadline(10))
        if code is None:
            with pytest.raises(GuestPanicError, match=said):
                guest.check("its end")
        else:
            guest.check("its end")  # which is in order


def test_qemu_that_does_not_listen_is_killed(toolchain: Toolchain, root: Path) -> None:
    threads = threading.active_count()
    with machine(toolchain, root) as guest:
        os.kill(guest.process.pid, signal.SIGSTOP)
        with pytest.raises(GuestTimeoutError, match="query-status"):
            guest.qmp("query-status", deadline=Deadline(0.2))
    assert guest.process.status == -signal.SIGKILL
    assert_nothing_left(guest, threads, root)


class Strikes(Deadline):
    """A deadline that kills a process as soon as somebody waits for it."""

    def __init__(self, seconds: float, pid: int) -> None:
        super().__init__(seconds)
        self._pid = pid

    def remaining(self) -> float:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._pid = 0
        return super().remaining()


OWNER = """
import json, sys
from pathlib import Path
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
command, env, root = json.loads(sys.argv[1])
with Machine(command, env, GuestSpec(memory=16, extra=("-S",)), "tcg", root=Path(root)) as guest:
    print(guest.process.pid, guest.folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_labs_own_end_is_qemus_end(toolchain: Toolchain, root: Path, number: signal.Signals) -> None:
    """Also when it is another user's: to become that forgets to die with its parent, which must be asked for after that."""
    assert toolchain.qemu
    given = json.dumps([toolchain.qemu.command, dict(toolchain.qemu.env), str(root)])
    command = [sys.executable, "-c", OWNER, given]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout
        pid, folder = owner.stdout.readline().split()
        assert not gone(int(pid))
        assert Path(folder).is_dir()
        owner.send_signal(number)
        owner.wait(20)
    assert wait_until_gone(int(pid))
    with machine(toolchain, root) as guest:
        assert list(root.glob("run-*")) == [guest.folder]


def test_trace_comes_through_the_pipe(toolchain: Toolchain, root: Path) -> None:
    reader, writer = os.pipe()
    spec = GuestSpec(memory=16, extra=("-S",), trace=("qmp_job_*", "handle_qmp_command"))
    with os.fdopen(reader, "rb") as trace:
        with machine(toolchain, root, spec, trace=writer) as guest:
            os.close(writer)
            guest.qmp("query-status")
        lines = trace.read().decode()
    assert "handle_qmp_command" in lines
    assert "query-status" in lines


def test_guest_memory_is_what_qemu_sees(toolchain: Toolchain, root: Path, tmp_path: Path) -> None:
    ram = tmp_path / "ram"
    with (
        machine(toolchain, root, GuestSpec(memory=16, memory_file=ram, extra=("-S",))) as guest,
        GuestMemory(ram, 16) as memory,
    ):
        with ram.open("r+b") as file:
            file.seek(0x123000)
            file.write(b"\x11\x22\x33\x44")
        dump = guest.qmp("human-monitor-command", {"command-line": "xp /4xb 0x123000"})
        assert "0x11 0x22 0x33 0x44" in dump
        assert memory.read(0x123000, 4) == b"\x11\x22\x33\x44"


def test_u_boot_comes_to_its_prompt_and_sees_the_nvme(toolchain: Toolchain, root: Path, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    spec = GuestSpec(
        cpu="qemu64",
        bios=toolchain.firmware["u-boot"],
        blockdevs=({"driver": "null-co", "node-name": "disk0", "size": 1 << 26, "read-zeroes": True},),
        devices=({"driver": "nvme", "id": "nvme0", "serial": "cafe", "drive": "disk0", "bus": "pcie.0", "addr": "5"},),
    )
    with machine(toolchain, root, spec, console_log=log) as guest:
        guest.console.expect("Hit any key", Deadline(30))
        guest.console.send("\n")
        guest.console.expect(PROMPT, Deadline(30))
        guest.console.send("nvme scan; nvme info\n")
        assert "131072 x 512" in guest.console.expect(PROMPT, Deadline(30)).before
    assert "131072 x 512" in log.read_text()


def test_a_kernel_panic_is_named(toolchain: Toolchain, root: Path) -> None:
    assert toolchain.linux
    spec = GuestSpec(kernel=toolchain.linux.vmlinux, append=toolchain.linux.append)  # no initramfs: nothing to run
    with machine(toolchain, root, spec) as guest:
        with pytest.raises(GuestPanicError, match="VFS: Unable to mount root fs"):
            guest.console.expect("NVME-LAB READY", Deadline(60))
        with pytest.raises(GuestPanicError, match="VFS: Unable to mount root fs"):
            guest.event("DEVICE_DELETED", Deadline(60))  # panic=-1 resets, and -no-reboot ends QEMU
