"""Drivers that are programs in the guest: the protocols, what a program's end means, and one in C before the suite."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
from lab.drivers import adapters, find, guest_program_agent, wants
from lab.drivers.guest_program import GuestProgram, GuestProgramSession
from lab.drivers.guest_program_agent import CrashedError, HungError, Program, SetUpError
from lab.errors import UsageError
from lab.recording.record import record
from lab.toolchain import Toolchain

EXAMPLES = Path(__file__).parents[2] / "examples" / "guest-program"
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
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a function that makes the agent's view of a program; it is ended at last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guest_program_agent, "functions", lambda: ["0000:00:04.0"])
    made: list[Program] = []

    def make(source: str = FAKE.format(folder=str(EXAMPLES)), **settings: Any) -> Program:
        file = tmp_path / "driver.py"
        file.write_text(source)
        command = [sys.executable, str(file)]
        made.append(Program({"command": command, "protocol": "lines", "environment": {}, "exit_on_unload": False, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_lines_carry_arguments_fields_and_bytes(program: Make) -> None:
    running = program()
    assert running.ask("info nsid=2 name='a b'", b"", 20) == (
        {"status": "success", "fields": {"nsid": "2", "name": "a b"}, "bytes": 0},
        b"",
    )
    assert running.ask("echo", b"x\n" * 5000, 20)[1] == b"x\n" * 5000
    assert running.ask("fail", b"", 20)[0]["status"] == {"words": "gave up"}
    assert running.ask("nothing", b"", 20)[0]["status"] == "unsupported"


def test_a_program_that_ends_has_crashed_and_its_last_words_are_told(program: Make) -> None:
    running = program()
    with pytest.raises(CrashedError, match="exit status 1 at 'die'; the end of its stderr: assertion failed"):
        running.ask("die", b"", 20)


def test_a_program_that_says_nothing_hangs_and_stays_so(program: Make) -> None:
    running = program()
    with pytest.raises(HungError, match="no answer to 'hang'"):
        running.ask("hang", b"", 0.2)
    with pytest.raises(HungError, match="still hangs in 'hang'"):
        running.ask("info", b"", 20)


def test_a_command_line_is_started_anew(program: Make) -> None:
    source = (
        "import json, sys\nsent = sys.stdin.buffer.read()\n"
        "print(json.dumps({'fields': {'words': sys.argv[1:]}, 'bytes': len(sent)}), flush=True)\n"
        "sys.stdout.buffer.write(sent)\n"
    )
    running = program(source, protocol="cli")
    for _ in range(2):
        answer, data = running.ask("write nsid=1 name='a b'", b"data", 20)
        assert answer["fields"]["words"] == ["write", "nsid=1", "name=a b"]
        assert data == b"data"


def test_what_is_no_answer_is_said_in_words(program: Make) -> None:
    answer, _ = program("print('hello', flush=True)\nimport sys\nsys.stdin.read()").ask("info", b"", 20)
    assert answer["status"] == {"words": "it answered no JSON object, but 'hello'"}


def test_a_program_that_cannot_be_started_is_no_fault_of_the_driver(program: Make) -> None:
    with pytest.raises(SetUpError, match="cannot be started"):
        program(command=["/nonexistent"]).ask("load", b"", 1)


def test_a_set_up_that_fails_is_told_with_its_output() -> None:
    with pytest.raises(SetUpError, match="'echo no pages; false' ended with 1: no pages"):
        guest_program_agent.run("echo no pages; false")


def test_the_drivers_own_time_out_is_an_answer(program: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_program_agent, "PROGRAMS", [program('print(\'{"status": "timed_out"}\')\ninput()\ninput()')])
    request = {"action": "ask", "number": 1, "line": "read", "data": b"", "seconds": 20}
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
    scenario = SCENARIOS["write/basic"].resolve(3)
    evidence = Evidence(record(find(str(driver)), scenario, "lab", tmp_path / "evidence", toolchain=toolchain))
    verdicts = {verdict.check.id: verdict for verdict in judge(evidence, select().checks_of("write/basic"))}
    assert not [verdict for verdict in verdicts.values() if verdict.outcome in (Outcome.FAIL, Outcome.ERROR)]
    for check in ("read/exact", "write/exact", "admin-queue/aqa", "io-queues/live-cq"):
        assert verdicts[check].outcome is Outcome.PASS, check
