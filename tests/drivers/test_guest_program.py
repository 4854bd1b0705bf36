"""Drivers that are programs in the guest: the protocols, what a program's end means, and one in C before the suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.judging.judge import judge
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab.data.evidence import Evidence
from lab.data.manifest import parse
from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.drivers import adapters, find, guest_program, guest_program_agent, wants
from lab.drivers.guest_program import GuestProgram, GuestProgramSession
from lab.drivers.guest_program_agent import CrashedError, HungError, Program, SetUpError
from lab.errors import NOT_SET_UP, GuestTimeoutError, UsageError
from lab.guest.channel import Channel, Frame
from lab.recording.record import record
from lab.toolchain import LinuxGuest, Toolchain

VFIO_KO = "NVME_LAB_TEST_VFIO_KO"
"""A variable with the path of a vfio.ko that has VFIO without IOMMU, which Debian builds for none of its kernels."""
EXAMPLES = Path(__file__).parents[2] / "examples" / "guest-program"
NO_GUEST = LinuxGuest(Path(), Path(), append="", release="", modules=(), private_key=Path(), host_key="")
SCENARIO = Scenario(
    id="read/x", stage="read", title="", seed=1, actions=(),
    device=DeviceSpec(controllers=(Controller(serial="S N", namespaces=(Namespace(nsid=2, blocks=64, block_size=4096),)),)),
)  # fmt: skip
FAKE = """
import sys
sys.path.insert(0, {folder!r})
from harness import serve

def give_up(arguments, data): raise RuntimeError("gave up")
def die(arguments, data): sys.exit("assertion failed")
def hang(arguments, data): sys.stdin.buffer.read()
def echo(arguments, data): return data
def info(arguments, data): return arguments
serve({{"echo": echo, "info": info, "fail": give_up, "die": die, "hang": hang}})
"""

Make = Callable[..., Program]


@pytest.fixture
def port() -> Iterator[tuple[int, int]]:
    """Return what the agent waits at, and where the lab speaks to it; it does so after 20 s at the latest."""
    waiting, lab = os.pipe()
    timer = threading.Timer(20, os.write, (lab, b"next"))
    timer.start()
    yield waiting, lab
    timer.cancel()
    timer.join()
    os.close(waiting)
    os.close(lab)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: tuple[int, int]) -> Iterator[Make]:
    """Return a function that makes the agent's view of a program; it is ended at last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guest_program_agent, "functions", lambda: ["0000:00:04.0"])
    made: list[Program] = []

    def make(source: str = FAKE.format(folder=str(EXAMPLES)), **settings: Any) -> Program:
        file = tmp_path / "driver.py"
        file.write_text(source)
        command = [sys.executable, str(file)]
        known = {"command": command, "protocol": "lines", "access": "vfio", "environment": {}, "exit_on_unload": False}
        made.append(Program({**known, **settings}, port[0]))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_lines_carry_arguments_fields_and_bytes(program: Make) -> None:
    running = program()
    assert running.ask("info nsid=2 name='a b'", b"") == (
        {"status": "success", "fields": {"nsid": "2", "name": "a b"}, "bytes": 0},
        b"",
    )
    assert running.ask("echo", b"x\n" * 5000)[1] == b"x\n" * 5000
    assert running.ask("fail", b"")[0]["status"] == {"words": "gave up"}
    assert running.ask("nothing", b"")[0]["status"] == "unsupported"


def test_a_program_that_ends_has_crashed_and_its_last_words_are_told(program: Make) -> None:
    running = program()
    with pytest.raises(CrashedError, match="exit status 1 at 'die'; the end of its stderr: assertion failed"):
        running.ask("die", b"")


def test_a_program_that_says_nothing_hangs_once_the_lab_asks_on(program: Make, port: tuple[int, int]) -> None:
    running = program()
    os.write(port[1], b"next")
    with pytest.raises(HungError, match="no answer to 'hang'"):
        running.ask("hang", b"")
    with pytest.raises(HungError, match="still hangs in 'hang'"):
        running.ask("info", b"")


def test_a_program_that_reads_nothing_hangs_too(program: Make, port: tuple[int, int]) -> None:
    running = program("import time\ntime.sleep(60)")
    threading.Timer(0.3, os.write, (port[1], b"next")).start()
    with pytest.raises(HungError, match="no answer to 'write'"):
        running.ask("write", bytes(1 << 20))


def test_how_long_is_too_long_is_measured_by_the_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waited: list[float] = []

    def late(_channel: Channel, _request: object, _data: bytes, deadline: Deadline) -> Frame:
        waited.append(deadline.seconds)
        raise GuestTimeoutError("late")

    monkeypatch.setattr(guest_program, "ask_agent", late)
    session = GuestProgramSession(None, SCENARIO, 6, tmp_path / "log")  # type: ignore[arg-type]  # nothing is sent
    answer = session.perform(Action("read", {"nsid": 2, "lba": 5, "blocks": 1}), None, Deadline(60))
    assert answer.status == "timeout"
    assert "within 6 s" in answer.fields["log"]
    assert waited == [pytest.approx(6)]


def test_a_command_line_is_started_anew(program: Make) -> None:
    source = (
        "import json, sys\nsent = sys.stdin.buffer.read()\n"
        "print(json.dumps({'fields': {'words': sys.argv[1:]}, 'bytes': len(sent)}), flush=True)\n"
        "sys.stdout.buffer.write(sent)\n"
    )
    running = program(source, protocol="cli")
    for _ in range(2):
        answer, data = running.ask("write nsid=1 name='a b'", b"data")
        assert answer["fields"]["words"] == ["write", "nsid=1", "name=a b"]
        assert data == b"data"


def test_what_is_no_answer_is_said_in_words(program: Make) -> None:
    answer, _ = program("print('hello', flush=True)\nimport sys\nsys.stdin.read()").ask("info", b"")
    assert answer["status"] == {"words": "it answered no JSON object, but 'hello'"}


def test_a_program_that_cannot_be_started_is_no_fault_of_the_driver(program: Make) -> None:
    with pytest.raises(SetUpError, match="cannot be started"):
        program(command=["/nonexistent"]).ask("load", b"")


def test_a_set_up_that_fails_is_told_with_its_output() -> None:
    with pytest.raises(SetUpError, match="'echo no pages; false' ended with 1: no pages"):
        guest_program_agent.run("echo no pages; false")


def test_the_drivers_own_time_out_is_an_answer(program: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_program_agent, "PROGRAMS", [program('print(\'{"status": "timed_out"}\')\ninput()\ninput()')])
    request = {"action": "ask", "number": 1, "line": "read", "data": b""}
    assert b'"words": "the driver gave its command up' in guest_program_agent.served(request)


def test_requests_name_place_and_block_size() -> None:
    session = GuestProgramSession(None, SCENARIO, 1, Path())  # type: ignore[arg-type]  # nothing is sent
    line, _ = session._line(Action("read", {"nsid": 2, "lba": 5, "blocks": 1}), None)
    assert line == "read nsid=2 lba=5 blocks=1 serial='S N' place=0 block_size=4096"


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    def made(**keys: Any) -> GuestProgram:
        manifest = parse({"name": "x", "adapter": "guest-program", **keys}, tmp_path / "x.toml", adapters())
        assert wants(manifest) == ("qemu", "linux-guest")
        return GuestProgram(manifest, Toolchain(None, None))

    with pytest.raises(UsageError, match=r"program\.command: this key is required"):
        made()
    with pytest.raises(UsageError, match=r"push\.files\./run/x: there is no file"):
        made(program={"command": ["/run/x"]}, push={"files": {"/run/x": "x"}})
    with pytest.raises(UsageError, match=r"program\.actions: there is no 'raed'; did you mean 'read'"):
        made(program={"command": ["/run/x"], "actions": ["raed"]})


def test_modules_are_files_and_have_their_parameters(tmp_path: Path) -> None:
    def made(**push: Any) -> GuestProgram:
        keys = {"name": "x", "adapter": "guest-program", "program": {"command": ["/run/x"]}, "push": push}
        return GuestProgram(parse(keys, tmp_path / "x.toml", adapters()), Toolchain(None, NO_GUEST))

    (tmp_path / "vfio.ko").touch()
    found = made(modules=["vfio.ko"], parameters={"vfio": "a=1"})
    assert found._modules == [("/run/nvme-lab/modules/vfio.ko", tmp_path / "vfio.ko", "a=1")]
    assert found.files["/run/nvme-lab/modules/vfio.ko"] == tmp_path / "vfio.ko"
    with pytest.raises(UsageError, match=r"push\.modules: 'uio' is no module's file(?s:.*)modprobe uio"):
        made(modules=["uio"])
    with pytest.raises(UsageError, match=r"push\.parameters: no module 'vfoi' is pushed"):
        made(modules=["vfio.ko"], parameters={"vfoi": "a=1"})


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the manifest of the example in C, beside the program built from it."""
    assert shutil.which("gcc"), "gcc is missing: the example is built from its source (install build-essential)"
    folder = tmp_path_factory.mktemp("guest-program")
    command = ["gcc", "-static", "-O2", "-Wall", "-Wextra", "-Wno-unused-result", "-o", str(folder / "driver"), "driver.c"]
    ran = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    shutil.copy(EXAMPLES / "driver.toml", folder)
    return folder / "driver.toml"


def test_a_manifest_of_ten_lines_is_enough(driver: Path) -> None:
    assert sum(bool(line) for line in driver.read_text().splitlines()) <= 10
    page = (EXAMPLES.parents[1] / "docs" / "guest-programs.md").read_text(encoding="utf-8")
    assert driver.read_text() in page


def test_a_driver_in_c_by_vfio_passes(driver: Path, toolchain: Toolchain, tmp_path: Path) -> None:
    passed(driver, toolchain, tmp_path / "evidence")


def of_access(driver: Path, access: str, **push: str) -> Path:
    """Return the example's manifest for another access, with a huge page."""
    made = driver.with_name(f"{access}.toml")
    pushed = "".join(f"{key} = ['{value}']\n" for key, value in push.items())
    text = driver.read_text().replace("[push]\n", f"[push]\n{pushed}")
    made.write_text(f'{text}access = "{access}"\nhugepages = 1\n')
    return made


def passed(manifest: Path, toolchain: Toolchain, folder: Path) -> None:
    """Record a scenario that reads and writes, and judge it."""
    scenario = SCENARIOS["write/basic"].resolve(3)
    evidence = Evidence(record(find(str(manifest)), scenario, "lab", folder, toolchain=toolchain))
    verdicts = {verdict.check.id: verdict for verdict in judge(evidence, select().checks_of("write/basic"))}
    assert not [verdict for verdict in verdicts.values() if verdict.outcome in (Outcome.FAIL, Outcome.ERROR)]
    for check in ("read/exact", "write/exact", "admin-queue/aqa", "io-queues/live-cq"):
        assert verdicts[check].outcome is Outcome.PASS, check


def test_a_driver_in_c_by_sysfs_passes(driver: Path, toolchain: Toolchain, tmp_path: Path) -> None:
    passed(of_access(driver, "sysfs"), toolchain, tmp_path / "evidence")


def test_vfio_without_iommu_is_not_in_debians_kernel_and_that_is_no_fault_of_the_driver(
    driver: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    manifest = of_access(driver, "vfio-noiommu")
    scenario = SCENARIOS["write/basic"].resolve(3)
    end = Evidence(record(find(str(manifest)), scenario, "lab", tmp_path / "evidence", toolchain=toolchain)).end
    assert end is not None
    assert end.outcome == "lab-error"
    assert NOT_SET_UP in end.reason
    assert "CONFIG_VFIO_NOIOMMU" in end.reason


@pytest.mark.skipif(
    not os.environ.get(VFIO_KO), reason=f"{VFIO_KO} names no vfio.ko that was built as docs/guest-programs.md says"
)
def test_a_driver_in_c_by_vfio_without_iommu_passes(driver: Path, toolchain: Toolchain, tmp_path: Path) -> None:
    passed(of_access(driver, "vfio-noiommu", modules=os.environ[VFIO_KO]), toolchain, tmp_path / "evidence")


@pytest.mark.skipif(not shutil.which("rustc"), reason="rustc is missing: the frame in Rust is built where it is there")
def test_the_frame_in_rust_speaks_the_protocol(program: Make, program_folder: Path) -> None:
    binary = program_folder / "driver"
    subprocess.run(["rustc", "-D", "warnings", "-o", binary, EXAMPLES / "harness.rs"], check=True)
    running = program(command=[str(binary)])
    assert running.ask("read nsid=1 blocks=3 serial='a \"b'", b"")[0]["status"] == {"words": "no driver reads these 1536 bytes"}
    assert running.ask("ready", b"")[0] == {"status": "success", "fields": {"ready": False}}
    assert running.ask("write nsid=1", b"x" * 4096)[0]["status"] == "unsupported"
