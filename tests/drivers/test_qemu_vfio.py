"""QEMU's own driver: the adapter before anything runs, and the agent's parts on a stand-in for qemu-io."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from lab.data.manifest import DriverManifest, parse
from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.drivers import qemu_vfio_agent
from lab.drivers.qemu_vfio import WRITING, QemuVfio, QemuVfioSession
from lab.drivers.qemu_vfio_agent import CrashedError, HungError, InterruptsFor, QemuIo, RefusedError
from lab.errors import GuestPanicError, GuestTimeoutError, LabError
from lab.guest.channel import Channel, Frame
from lab.toolchain import LinuxGuest, Toolchain
from tests.files import python_program

FAKE = """
import sys, time
opened, begun = 0, []
while True:
    print("qemu-io> ", end="", flush=True)
    line = sys.stdin.readline().strip()
    if line.startswith("open -d"):
        print("qemu-io: can't open: " + ("no controller" if "namespace=9" in line else "Cannot get 'write' permission"))
    elif line.startswith("open -r") and "namespace=8" in line:
        opened += 1
        if opened == 1:
            print("qemu-io: can't open: Failed to get device fd: No such device")
    elif line.startswith("read"):
        print("00010000:  61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f 70  abcdefghijklmnop")
        print("00010010:  00 ff                                            ..")
        print("read 18/18 bytes at offset 65536")
    elif line.startswith("write"):
        print("write failed: Input/output error")
    elif line.startswith("flush"):
        sys.stdin.read()
    elif line.startswith("aio_read"):
        begun.append(line.split()[1])
    elif line == "aio_flush":
        for at in reversed(begun):
            print("aio_read failed: Input/output error" if at == "8192" else f"read 4096/4096 bytes at offset {at}")
        begun.clear()
    elif line.startswith("aio_flush"):
        end = time.monotonic() + 2 * float(line.split()[1])
        while time.monotonic() < end:
            time.sleep(0.001)
    elif line.startswith("discard"):
        sys.exit("assertion failed")
"""
CONTROLLERS = tuple(
    Controller(id=f"nv{n}", serial=f"S{n}", namespaces=(Namespace(nsid=n + 3, blocks=64, block_size=4096),)) for n in range(2)
)
SCENARIO = Scenario(
    id="read/x", stage="read", title="", seed=1, actions=(), device=DeviceSpec(controllers=CONTROLLERS), guest={"cpus": 2}
)  # fmt: skip
MANIFEST: dict[str, Any] = {"name": "x", "adapter": "qemu-vfio", "needs": ["qemu-vfio-guest"]}


@pytest.fixture
def qemu_io(tmp_path: Path, program_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QemuIo]:
    python_program(program_folder / "qemu-io", "-c", FAKE)
    for name in ("vendor", "device"):
        (tmp_path / "devices/0000:01:00.0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "devices/0000:01:00.0" / name).write_text("0x1234\n")
    monkeypatch.setenv("PATH", f"{program_folder}:{os.environ['PATH']}")
    monkeypatch.setattr(qemu_vfio_agent, "PCI", str(tmp_path))
    program = QemuIo()
    yield program
    with program._process as process:
        process.kill()


def manifest(folder: Path) -> DriverManifest:
    return parse(MANIFEST, folder / "x.toml", ["qemu-vfio"])


def test_the_guest_has_an_iommu_and_the_tools(tmp_path: Path) -> None:
    guest = LinuxGuest(tmp_path / "vmlinux", tmp_path / "initrd", "quiet", "6.1", (), tmp_path / "key", "ssh-ed25519 A")
    toolchain = Toolchain(qemu=None, linux=None, variants={"qemu-vfio-guest": guest})
    spec = QemuVfio(manifest(tmp_path), toolchain).guest(SCENARIO)
    assert spec.iommu
    assert spec.channel
    assert spec.smp == 2
    assert spec.kernel == guest.vmlinux
    assert "intel_iommu=on" in spec.append
    with pytest.raises(LabError, match="needs a Linux guest"):
        QemuVfio(manifest(tmp_path), Toolchain(qemu=None, linux=guest))  # without the tools


def test_a_namespace_is_opened_for_reading_where_writing_is_refused(qemu_io: QemuIo) -> None:
    qemu_io.open("0000:01:00.0", 1, writable=True)
    assert qemu_io.refusal == "can't open: Cannot get 'write' permission"
    assert qemu_io.opened == "driver=nvme,device=0000:01:00.0,namespace=1"
    qemu_io.close()
    assert not qemu_io.opened


def test_it_is_opened_once_where_nothing_is_written_and_where_reading_would_be_refused_too(qemu_io: QemuIo) -> None:
    qemu_io.open("0000:01:00.0", 1, writable=False)
    assert qemu_io.opened
    assert not qemu_io.refusal
    with pytest.raises(RefusedError, match="no controller"):
        qemu_io.open("0000:01:00.0", 9, writable=True)
    assert not qemu_io.opened
    assert not qemu_io.refusal


def test_what_vfio_does_not_have_yet_is_waited_for(qemu_io: QemuIo, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_io.open("0000:01:00.0", 8, writable=False)
    assert qemu_io.opened
    assert not qemu_io.refusal
    monkeypatch.setattr(qemu_vfio_agent, "NOT_YET", "no controller")
    monkeypatch.setattr(qemu_vfio_agent, "APPEAR_SECONDS", 0.1)
    with pytest.raises(RefusedError, match="no controller"):
        qemu_io.open("0000:01:00.0", 9, writable=True)


def test_another_namespace_of_the_same_controller_is_turned_to(qemu_io: QemuIo) -> None:
    qemu_io.turn_to(2)
    assert len(qemu_io.opened) == 0, "none was open"
    qemu_io.open("0000:01:00.0", 1, writable=False)
    qemu_io.turn_to(2)
    assert qemu_io.opened == "driver=nvme,device=0000:01:00.0,namespace=2"


def test_what_qemu_io_says_is_understood(qemu_io: QemuIo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(qemu_vfio_agent.PROGRAMS, 0, qemu_io)
    request = {"place": 0, "nsid": 1, "at": 65536, "length": 18, "data": b"x"}
    assert qemu_vfio_agent.read(request) == b"abcdefghijklmnop\0\xff"
    with pytest.raises(RefusedError, match=r"^write failed: Input/output error$"):
        qemu_vfio_agent.zeroes(request)
    with pytest.raises(RefusedError, match="never opened"):
        qemu_vfio_agent.read({**request, "place": 1})
    with pytest.raises(CrashedError, match="status 1 at 'discard 65536 18': assertion failed"):
        qemu_vfio_agent.trim(request)


def test_reads_that_are_not_waited_for_are_collected(qemu_io: QemuIo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(qemu_vfio_agent.PROGRAMS, 0, qemu_io)
    good = {"place": 0, "nsid": 1, "at": 16384, "length": 400 * 4096, "each": 4096}
    assert qemu_vfio_agent.submit(good) == {}
    assert qemu_vfio_agent.collect({}) == {"operations": [{"status": "success"}] * 400}
    assert qemu_vfio_agent.collect({}) == {"operations": []}, "they are collected once"


def test_an_error_of_what_was_not_waited_for_is_not_lost(qemu_io: QemuIo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(qemu_vfio_agent.PROGRAMS, 0, qemu_io)
    qemu_vfio_agent.submit({"place": 0, "nsid": 1, "at": 4096, "length": 2 * 4096, "each": 4096})
    failed = {"words": "aio_read failed: Input/output error"}
    assert qemu_vfio_agent.collect({}) == {"operations": [{"status": "success"}, {"status": failed}]}
    assert qemu_vfio_agent.read({"place": 0, "nsid": 1, "at": 65536, "length": 18})[:4] == b"abcd", "the next answer is its own"


def test_a_sleeper_is_woken_in_place_of_a_lost_interrupt() -> None:
    """On a real process, which waits for an event that nothing else sends."""
    waits = "import os; fd = os.eventfd(0); print('waiting', flush=True); os.eventfd_read(fd); print('woken')"
    with subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"waiting\n"
        with InterruptsFor(sleeper.pid, True):
            assert sleeper.stdout.read() == b"woken\n"


class Guest:
    """A channel whose answers are given."""

    def __init__(self, *heads: dict[str, Any] | GuestTimeoutError) -> None:
        self.heads, self.asked = list(heads), list[dict[str, Any]]()

    def ask(self, question: dict[str, Any], data: bytes = b"", *, deadline: Deadline) -> Frame:
        self.asked.append(question)
        head = self.heads.pop(0)
        if isinstance(head, GuestTimeoutError):
            raise head
        return Frame({"status": "success", "fields": {}, **head}, b"")


def session(guest: Guest) -> QemuVfioSession:
    return QemuVfioSession(cast(Channel, guest), SCENARIO)


READ = Action("read", {"nsid": 4, "lba": 2, "blocks": 3})


def test_requests_name_bytes_and_places() -> None:
    guest = Guest({}, {})
    asking = session(guest)
    asking.perform(Action("load"), None, Deadline(1))
    asking.perform(READ, None, Deadline(1))
    assert guest.asked[0]["nsids"] == [3, 4]
    assert not guest.asked[0]["writable"]
    assert (guest.asked[1]["place"], guest.asked[1]["at"], guest.asked[1]["length"]) == (1, 8192, 12288)
    odd = Action("read", {**READ.arguments, "offset": 1})
    assert asking.perform(odd, None, Deadline(1)).status == "unsupported"
    assert len(guest.asked) == 2


@pytest.mark.parametrize("action", sorted(WRITING))
def test_it_is_opened_to_be_written_to_where_the_scenario_does_that(action: str) -> None:
    guest = Guest({})
    scenario = replace(SCENARIO, actions=(Action("load"), Action(action, READ.arguments)))
    QemuVfioSession(cast(Channel, guest), scenario).perform(Action("load"), None, Deadline(1))
    assert guest.asked[0]["writable"]


def test_what_sleeps_in_silence_hangs_and_stays_hung(qemu_io: QemuIo) -> None:
    with pytest.raises(HungError, match=r"asleep for .* s, at 'flush'"):
        qemu_io.ask("flush", asleep=0.2)
    with pytest.raises(HungError, match="still hangs in 'flush'"):
        qemu_io.ask("read")


def test_what_works_in_silence_is_waited_for_but_not_for_ever(qemu_io: QemuIo) -> None:
    assert qemu_io.ask("aio_flush 1", asleep=1) == b""
    with pytest.raises(HungError, match="at 'aio_flush 1000'"):
        qemu_io.ask("aio_flush 1000", timeout_seconds=0.5, asleep=1000)


def test_what_waits_busily_is_stopped_now_and_then(qemu_io: QemuIo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_vfio_agent, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(qemu_vfio_agent, "REST_SECONDS", 0.2)
    signals = list[int]()
    send = qemu_io._process.send_signal

    def sent(number: int) -> None:
        signals.append(number)
        send(number)

    monkeypatch.setattr(qemu_io._process, "send_signal", sent)
    assert qemu_io.ask("aio_flush 0.5") == b""
    assert signals
    assert signals == [signal.SIGSTOP, signal.SIGCONT] * (len(signals) // 2)


def test_what_crashed_is_a_panic_and_what_is_late_a_time_out() -> None:
    assert session(Guest(GuestTimeoutError("late"))).perform(READ, None, Deadline(1)).status == "timeout"
    with pytest.raises(GuestPanicError, match="status -6"):
        session(Guest({"crashed": "status -6"})).perform(READ, None, Deadline(1))
