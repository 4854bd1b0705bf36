"""A driver behind a prompt, played by a script: what is typed, what becomes of the output, and what of a late prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.data.manifest import ActionSyntax, parse
from lab.data.patterns import search
from lab.data.plan import Action, Answer, Controller, DeviceSpec, Fault, Namespace, Scenario
from lab.deadline import Deadline
from lab.drivers import reading, serial_session
from lab.drivers.base import Session
from lab.drivers.generic_serial import GenericSerial
from lab.drivers.prompt import NEVER, filled
from lab.errors import GuestNotReadyError, GuestPanicError, GuestTimeoutError, LabError, UsageError
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.console import ConsoleMatch
from lab.guest.idle import AT_PROMPT
from lab.guest.machine import Activity, Machine
from lab.guest.memory import GuestMemory
from lab.toolchain import Toolchain

NAMESPACES = (Namespace(nsid=4, blocks=64, block_size=4096), Namespace(nsid=2, blocks=64))
SCENARIO = Scenario(
    id="read/x", stage="read", title="", seed=1, actions=(),
    device=DeviceSpec(controllers=(Controller(serial="S", namespaces=NAMESPACES),)),
)  # fmt: skip
TOOLCHAIN = Toolchain(qemu=None, linux=None, firmware={"rom": Path("rom")}, versions={})
BOOT: dict[str, Any] = {"firmware": "{rom}", "ready": "^> "}


@dataclass
class Script:
    """A console that answers each line with the next of its outputs; None is a prompt that does not come.

    Keys are shown as they are heard: ``hears`` may make something else of them.
    """

    outputs: list[str | None]
    typed: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    log: Path = Path("console.log")
    shown: str = ""
    line: str = ""
    hears: Callable[[str], str] = str
    echoes: bool = True

    def send(self, text: str) -> None:
        for key in text:
            if key not in "\r\n":
                heard = self.hears(key)
                self.line, self.shown = self.line + heard, self.shown + (heard if self.echoes else "")
                continue
            self.typed.append(self.line)
            output, self.line = self.outputs.pop(0), ""
            if output is not None:
                self.answers.append(f"\r\n{output}\r\n")

    def text(self) -> str:
        return ""

    def last_lines(self) -> str:
        return ""

    def pending(self) -> str:
        return self.shown

    def forget_pending(self) -> None:
        self.shown = ""

    def expect(self, patterns: str | Sequence[str], deadline: Deadline, what: str = "") -> ConsoleMatch:
        wanted = [patterns] if isinstance(patterns, str) else patterns
        if "echo" in what:
            if (found := search(wanted[0], self.shown)) is None:
                raise GuestTimeoutError(f"waited for {what}")
            before, self.shown = self.shown[: found.start()], self.shown[found.end() :]
            return ConsoleMatch(before, found, 0)
        if not self.answers or NEVER in wanted:
            raise GuestTimeoutError(f"waited for {what}")
        match = search("", "")
        assert match
        before, self.shown = self.shown + self.answers.pop(0), ""
        return ConsoleMatch(before, match, 0)


@dataclass
class FakeMachine:
    console: Script
    spec: GuestSpec = field(default_factory=GuestSpec)
    activity: Activity | None = None

    def memory(self) -> GuestMemory:
        assert self.spec.memory_file
        return GuestMemory(self.spec.memory_file, self.spec.memory)


def ask(
    actions: dict[str, Any], *outputs: str | None, action: Action | None = None, data: bytes | None = None, **spec: Any
) -> tuple[Answer, list[str]]:
    """Return the answer to the action (by default the manifest's first), and what was typed for it."""
    script = Script(["", *outputs])
    adapter = GenericSerial(
        parse(
            {"name": "x", "adapter": "x", "boot": BOOT, "limits": {"address": 0x1000}, "actions": actions,
             "variables": {"disk": "hd"}},
            Path("x.toml"), ["x"],
        ),
        TOOLCHAIN,
    )  # fmt: skip
    machine = FakeMachine(script, GuestSpec(**spec))
    script.answers.append("")
    session = adapter.open(cast(Machine, machine), SCENARIO, Deadline(5))
    script.outputs.pop(0)
    answer = session.perform(action or Action(next(iter(actions))), data, Deadline(5))
    return answer, script.typed


def test_arguments_take_their_places() -> None:
    command = "r {disk}{index} {nsid} {lba:#x} {blocks} {block_size} {bytes} {address:x}"
    _, typed = ask({"read": {"command": command}}, "", action=Action("read", {"nsid": 4, "lba": 16, "blocks": 2, "offset": 8}))
    assert typed == ["r hd1 4 0x10 2 4096 8192 1008"]  # namespace 4 is the second of the attached ones


def test_an_error_ends_the_row_of_commands() -> None:
    answer, typed = ask({"load": {"command": ["a", "b", "c"], "error": "bad"}}, "fine", "bad luck", "never")
    assert typed == ["a", "b"]
    assert answer.status == {"words": "bad luck"}


def test_a_short_hex_dump_is_no_data() -> None:
    asked = Action("read", {"nsid": 2, "lba": 0, "blocks": 1})
    answer, _ = ask({"read": {"command": "d", "hexdump": "xxd"}}, "00: 0102", action=asked)
    assert answer.status == {"words": "the hex dump has 2 of 512 bytes"}
    assert answer.data is None


def test_a_hex_dump_is_data() -> None:
    dump = "\r\n".join(f"{n:08x}: " + "5a " * 16 + "  Z" for n in range(0, 512, 16))
    asked = Action("read", {"nsid": 2, "lba": 0, "blocks": 1})
    answer, _ = ask({"read": {"command": "d", "hexdump": "u-boot"}}, dump, action=asked)
    assert answer == Answer(data=b"\x5a" * 512)


@pytest.mark.parametrize(
    ("action", "fields"),
    [("info", {"controllers": [{"version": "1.4"}]}), ("queues", {"version": "1.4"})],
)
def test_a_pattern_without_a_list_is_about_the_only_element(action: str, fields: dict[str, Any]) -> None:
    words = {"command": "x", "pattern": r"version (?P<version>\S+)"}
    assert ask({action: words}, "version 1.4")[0].fields == fields
    assert ask({action: words}, "nothing of the kind")[0].fields == {}


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ('{"pairs": 2}', Answer(fields={"pairs": 2})),
        ('noise\r\n{\r\n "status": "success",\r\n "data": "0a0b"\r\n}\r\n', Answer(data=b"\x0a\x0b")),
        ('{"status": {"sct": 2, "sc": 129}, "log": "x"}', Answer({"sct": 2, "sc": 129}, {"log": "x"})),
        ('{"status": }', Answer({"words": "it printed no JSON object"}, {"log": '{"status": }'})),
        ('{"data": "0g"}', Answer({"words": "data is no text of hexadecimal digits"}, {"log": '{"data": "0g"}'})),
        ("bad: {}", Answer({"words": "bad: {}"}, {"log": "bad: {}"})),
    ],
)
def test_json_is_taken_as_it_is(output: str, answer: Answer) -> None:
    found, _ = ask({"queues": {"command": "q", "answer": "json", "error": "^bad"}}, output)
    assert found == answer


def test_a_write_is_filled_in_word_by_word() -> None:
    asked = Action("write", {"nsid": 2, "lba": 0, "blocks": 1})
    words = {"command": "w {address:x}", "fill": "m {address:x} {word:x}", "word": 4, "line": 21}
    _, typed = ask({"write": words}, "", "", "", "", action=asked, data=bytes(range(1, 11)))
    assert typed == ["m 1000 4030201", "m 1004 8070605", "m 1008 a09", "w 1000"]


@pytest.mark.parametrize(("line", "lines"), [(0, 4), (15, 2), (100, 1)])
def test_fills_share_a_line_up_to_its_length(line: int, lines: int) -> None:
    words = ActionSyntax(command="", fill="m {address} {word}", word=1, line=line)
    found = list(filled(words, 1, bytes([1, 2, 3, 4])))
    assert len(found) == lines
    assert ";".join(found) == "m 1 1;m 2 2;m 3 3;m 4 4"
    assert all(len(text) <= max(line, 5) for text in found)


def test_memory_is_spoilt_before_a_read_and_read_after_it(tmp_path: Path) -> None:
    ram = tmp_path / "ram"
    ram.write_bytes(bytes(MIB))
    asked = Action("read", {"nsid": 2, "lba": 0, "blocks": 1})
    answer, _ = ask({"read": {"command": "r", "memory": True}}, "", action=asked, memory_file=ram, memory=1)
    assert answer.data == b"\x5a" * 512
    assert ram.read_bytes()[0x1000:0x1201] == b"\x5a" * 512 + b"\0"


def test_memory_that_is_not_shared_is_the_labs_failure() -> None:
    with pytest.raises(LabError, match="this guest does not share it"):
        ask({"read": {"command": "r", "memory": True}}, "", action=Action("read", {"nsid": 2, "lba": 0, "blocks": 1}))


def test_a_namespace_that_the_scenario_does_not_have_is_the_labs_failure() -> None:
    with pytest.raises(LabError, match="read names namespace 9, which is not attached"):
        ask({"read": {"command": "r"}}, "", action=Action("read", {"nsid": 9, "lba": 0, "blocks": 1}))


def test_a_prompt_that_does_not_come_is_a_time_out_and_a_late_one_is_waited_for() -> None:
    script = Script(["", None, "three"])
    manifest = parse(
        {"name": "x", "adapter": "x", "boot": BOOT, "actions": {"load": {"command": "l"}, "info": {"command": "i"}}},
        Path("x.toml"), ["x"],
    )  # fmt: skip
    script.answers.append("")
    session = GenericSerial(manifest, TOOLCHAIN).open(cast(Machine, FakeMachine(script)), SCENARIO, Deadline(5))
    assert session.perform(Action("load"), None, Deadline(5)).status == "success"
    assert session.perform(Action("load"), None, Deadline(5)).status == "timeout"
    still = session.perform(Action("info"), None, Deadline(5))
    assert still.status == "timeout"
    assert "came too late before" in still.fields["log"]
    assert script.typed == ["l", "l"]  # it is not typed at while it is busy
    script.answers.append("l\r\nlate\r\n")
    assert session.perform(Action("info"), None, Deadline(5)).status == "success"
    assert script.typed == ["l", "l", "i"]


def test_a_panic_is_not_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def expect(*given: object) -> ConsoleMatch:
        raise GuestPanicError("lost")

    script = Script(["", ""])
    script.answers.append("")
    manifest = parse({"name": "x", "adapter": "x", "boot": BOOT, "actions": {"load": {"command": "l"}}}, Path("x.toml"), ["x"])
    session = GenericSerial(manifest, TOOLCHAIN).open(cast(Machine, FakeMachine(script)), SCENARIO, Deadline(5))
    monkeypatch.setattr(script, "expect", expect)
    with pytest.raises(GuestPanicError, match="lost"):
        session.perform(Action("load"), None, Deadline(5))


# -- other shapes ---------------------------------------------------------------------------------------------------


@dataclass
class FakeGuest:
    """A machine that says something when it starts, echoes what is typed, and may end."""

    console: Script
    spec: GuestSpec
    exit_code: int | None = None
    activity: Activity | None = None
    outputs: dict[str, Path] = field(default_factory=dict)
    process: Any = field(default_factory=lambda: SimpleNamespace(processor_seconds=lambda: 0.0))
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def qmp(self, command: str, arguments: Any = None) -> Any:
        if command.startswith("query-"):
            return []
        self.asked.append((command, arguments))
        if command == "cont":
            self.console.answers.append("version 1.4\r\n")
        else:
            key = arguments["keys"][-1]["data"]
            self.console.send({"ret": "\n", "spc": " "}.get(key, key))
        return []


def opened(boot: dict[str, Any], actions: dict[str, Any], *outputs: str) -> tuple[Session, FakeGuest]:
    manifest = parse({"name": "x", "adapter": "x", "boot": {**BOOT, **boot}, "actions": actions}, Path("x.toml"), ["x"])
    adapter = GenericSerial(manifest, TOOLCHAIN)
    guest = FakeGuest(Script(list(outputs)), adapter.guest(SCENARIO))
    if not guest.spec.paused:
        guest.console.answers.append("")
    return adapter.open(cast(Machine, guest), SCENARIO, Deadline(5)), guest


def test_of_disks_in_any_order_none_is_asked_for() -> None:
    actions = {"read": {"command": "r {index}"}, "list": {"command": "l"}}
    manifest = parse(
        {"name": "x", "adapter": "x", "boot": BOOT, "actions": actions, "limits": {"controllers": "any-order"}},
        Path("x.toml"),
        ["x"],
    )
    pair = Controller(id="nv1", serial="T", namespaces=NAMESPACES)
    for controllers, expected in (
        (SCENARIO.device.controllers, "success"),
        ((*SCENARIO.device.controllers, pair), "unsupported"),
    ):
        scenario = replace(SCENARIO, device=replace(SCENARIO.device, controllers=controllers))
        adapter = GenericSerial(manifest, TOOLCHAIN)
        guest = FakeGuest(Script(["", ""]), adapter.guest(scenario))
        guest.console.answers.append("")
        session = adapter.open(cast(Machine, guest), scenario, Deadline(5))
        session.perform(Action("load"), None, Deadline(5))
        asked = Action("read", {"nsid": 2, "lba": 0, "blocks": 1, "controller": controllers[-1].id})
        assert session.perform(asked, None, Deadline(5)).status == expected
        assert session.perform(Action("list"), None, Deadline(5)).status == "success"


def test_without_a_command_for_load_the_guest_starts_when_it_is_loaded() -> None:
    session, guest = opened({}, {"info": {"lists": {"controllers": {"each": r"version (?P<version>\S+)"}}}})
    assert guest.spec.paused
    assert session.perform(Action("info"), None, Deadline(5)).status == "unsupported", "it has not come up"
    loaded = session.perform(Action("load"), None, Deadline(5))
    assert (loaded.status, loaded.fields) == ("success", {"log": "version 1.4"})
    assert guest.asked == [("cont", None)]
    assert session.perform(Action("info"), None, Deadline(5)).fields == {"controllers": [{"version": "1.4"}]}
    assert session.perform(Action("load"), None, Deadline(5)).status == "unsupported", "it starts once"


def test_a_boot_that_does_not_end_is_a_time_out_for_all_that_follows() -> None:
    session, guest = opened({}, {"info": {}, "queues": {"command": "q"}})
    guest.qmp = lambda *given: None  # type: ignore[method-assign]
    assert [session.perform(Action(name), None, Deadline(5)).status for name in ("load", "info", "queues")] == ["timeout"] * 3
    assert guest.console.typed == []


def test_keys_wait_for_their_echo() -> None:
    session, guest = opened(
        {"output": "debug-console", "input": "keyboard"}, {"load": {"command": "ab", "success": "^fine$"}}, "fine"
    )
    assert guest.spec.console == "debug-console"
    assert session.perform(Action("load"), None, Deadline(5)).status == "success"
    assert [arguments["keys"][0]["data"] for _, arguments in guest.asked] == ["a", "b", "ret"]


def test_a_key_that_does_not_arrive_is_pressed_again_and_then_no_fault_of_the_driver() -> None:
    session, guest = opened({"output": "debug-console", "input": "keyboard"}, {"load": {"command": "ab"}})
    guest.console.hears = lambda key: ""
    with pytest.raises(LabError, match="'a' was typed 3 times"):
        session.perform(Action("load"), None, Deadline(5))
    assert len(guest.asked) == 3


NVME_LOAD = {"load": {"command": "nvme load"}}


@dataclass
class Wire:
    """What the device has seen."""

    accesses: int = 0
    quiet_seconds: float | None = None
    unanswered: bool = False


@pytest.mark.parametrize(
    ("wire", "outcome"),
    [
        (Wire(), "accessed no register"),
        (Wire(9, 5.0), "not waiting for the device"),
        (Wire(9, 5.0, unanswered=True), "timeout"),
        (Wire(9, 0.1), "timeout"),
    ],
)
def test_only_a_driver_that_has_begun_and_not_finished_is_late(wire: Wire, outcome: str) -> None:
    """Obstacle 3 and the false failures of every/load where only ``ready`` was not seen."""
    session, guest = opened({"input": "none"}, {})
    guest.qmp = lambda *given: None  # type: ignore[method-assign]
    guest.activity = wire
    if outcome == "timeout":
        assert session.perform(Action("load"), None, Deadline(5)).status == "timeout"
    else:
        with pytest.raises(GuestNotReadyError, match=outcome):
            session.perform(Action("load"), None, Deadline(5))


def test_the_recording_ends_when_the_wire_is_quiet() -> None:
    """Obstacle 3: drivers work on behind their last words."""
    session, guest = opened({"input": "none", "settle": 0.05}, {})
    guest.activity = Settling()
    assert session.perform(Action("load"), None, Deadline(5)).status == "success"
    assert guest.activity.looks > 3


class Settling:
    """A driver that still works at the first looks."""

    accesses, unanswered = 1, False

    def __init__(self) -> None:
        self.looks = 0

    @property
    def quiet_seconds(self) -> float:
        self.looks += 1
        return 0.001 if self.looks <= 3 else 1.0


def test_a_system_without_output_is_ready_when_it_is_quiet_or_after_a_while() -> None:
    """Obstacle 2."""
    for sign in ({"quiet": 0.01}, {"after": 0.01}):
        session, guest = opened({"input": "none", "ready": "", **sign}, {})
        guest.activity = Wire(3, 1.0)
        guest.console.answers.clear()
        guest.qmp = lambda *given: []  # type: ignore[method-assign]
        assert session.perform(Action("load"), None, Deadline(5)).status == "success"


def test_a_guest_that_waits_to_be_typed_at_is_ready_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_session, "IdleWatch", lambda _: SimpleNamespace(why=AT_PROMPT))
    session, guest = opened({"input": "none", "ready": "", "quiet": 60, "after": 60}, {})
    guest.console.answers.clear()
    guest.qmp = lambda *given: []  # type: ignore[method-assign]
    assert session.perform(Action("load"), None, Deadline(5)).status == "success"


def typist(hears: Callable[[str], str], **boot: Any) -> tuple[Session, Script]:
    """Return a session with a guest that hears what is typed in its own way."""
    manifest = parse(
        {"name": "x", "adapter": "x", "boot": {**BOOT, **boot}, "actions": {"load": {"command": "nvme load"}}},
        Path("x.toml"), ["x"],
    )  # fmt: skip
    script = Script([], hears=hears)
    script.answers.append("")
    session = GenericSerial(manifest, TOOLCHAIN).open(cast(Machine, FakeMachine(script)), SCENARIO, Deadline(5))
    script.outputs = ["done", "done"]
    return session, script


class Losing:
    """A guest that loses some keys, counted from 0."""

    def __init__(self, *lost: int) -> None:
        self.lost, self.keys = lost, 0

    def __call__(self, key: str) -> str:
        self.keys += 1
        return "" if self.keys - 1 in self.lost else key


@pytest.mark.parametrize("pace", [0.0, 0.01])
@pytest.mark.parametrize("echoes", [True, False])
def test_enter_and_pace(pace: float, echoes: bool) -> None:
    """Obstacle 6."""
    session, script = typist(str, enter="\r", pace=pace)
    script.echoes = echoes
    assert session.perform(Action("load"), None, Deadline(5)).fields == {"log": "done"}
    assert script.typed == ["nvme load"]


def test_with_a_pace_a_lost_key_is_typed_again() -> None:
    """Obstacle 6."""
    session, script = typist(Losing(2, 3, 6), pace=0.01)
    assert session.perform(Action("load"), None, Deadline(5)).status == "success"
    assert script.typed == ["nvme load"]


@pytest.mark.parametrize("before", [0, 1], ids=["first line", "later line"])
@pytest.mark.parametrize(
    ("hears", "pace", "heard"),
    [
        (Losing(3), 0.0, "nvm load"),
        (Losing(*range(3, 9)), 0.0, "nvm"),  # its buffer is full
        (Losing(0), 0.01, "vme load"),  # the very first one, of which it is not known yet whether it is shown
        (lambda key: key * 2 if key == "v" else key, 0.01, "nvvme load"),
        (lambda key: key * 2 if key == "d" else key, 0.01, "nvme loadd"),
    ],
)
def test_a_line_that_did_not_arrive_is_no_fault_of_the_driver(
    hears: Callable[[str], str], pace: float, heard: str, before: int
) -> None:
    """Obstacle 6."""
    session, script = typist(str, pace=pace)
    for _ in range(before):
        assert session.perform(Action("load"), None, Deadline(5)).status == "success"
    script.hears = Losing(*hears.lost) if isinstance(hears, Losing) else hears
    if before and pace and isinstance(hears, Losing):
        assert session.perform(Action("load"), None, Deadline(5)).status == "success", "it is typed again"
        return
    with pytest.raises(LabError, match=f"shows {heard!r}: a key did not arrive"):
        session.perform(Action("load"), None, Deadline(5))


def test_a_guest_that_dies_while_it_echoes_is_not_excused() -> None:
    session, script = typist(Losing(*range(3, 9)))
    script.outputs = [None]
    assert session.perform(Action("load"), None, Deadline(5)).status == "timeout"


def test_what_is_printed_meanwhile_is_no_error_of_an_echo() -> None:
    session, script = typist(lambda key: "v\r\n[ 1.0] link up\r\n" if key == "v" else key)
    assert session.perform(Action("load"), None, Deadline(5)).status == "success"
    assert script.typed[0].startswith("nv\r")


@pytest.mark.parametrize(
    ("shown", "typed", "has_echoed", "expected"),
    [
        ("nvm load", "nvme load", False, True),
        ("nvme load", "nvme load", True, False),
        ("nvme 1oad", "nvme load", True, True),
        ("nvme 1oad", "nvme load", False, False),  # an answer of a guest that does not echo
        ("nvme", "nvme load", False, False),
        ("version 1.4", "nvme info", True, False),
        ("nvme [irq] load", "nvme load", True, False),  # something was printed in between
        ("ok", "r 1", True, False),
    ],
)
def test_an_echo_with_an_error_in_it_is_told_from_an_answer(shown: str, typed: str, has_echoed: bool, expected: bool) -> None:
    assert reading.misheard(shown, typed, has_echoed=has_echoed) == expected


def test_words_can_calculate() -> None:
    """Obstacle 10."""
    asked = Action("read", {"nsid": 4, "lba": 16, "blocks": 2})
    _, typed = ask({"read": {"command": "r {lba * block_size // 512:#x} {(blocks + 1) << 1}"}}, "", action=asked)
    assert typed == ["r 0x80 6"]


def test_whole_units_are_asked_for_and_cut() -> None:
    """Obstacle 10: ``limits.round``."""
    data = bytes(range(256)) * 16
    script = Script(["", "0: " + " ".join(f"{byte:02x}" for byte in data)])
    manifest = parse(
        {"name": "x", "adapter": "x", "boot": BOOT, "limits": {"unit": 4096, "round": True},
         "actions": {"read": {"command": "r {lba} {blocks}", "hexdump": "xxd"}}}, Path("x.toml"), ["x"],
    )  # fmt: skip
    script.answers.append("")
    session = GenericSerial(manifest, TOOLCHAIN).open(cast(Machine, FakeMachine(script)), SCENARIO, Deadline(5))
    script.outputs.pop(0)
    answer = session.perform(Action("read", {"nsid": 2, "lba": 9, "blocks": 2}), None, Deadline(5))
    assert script.typed == ["r 8 8"]
    assert answer.data == data[512:1536]


def test_a_clock_of_instructions_is_no_measure_for_a_device_that_takes_its_time() -> None:
    manifest = parse({"name": "x", "adapter": "x", "boot": {**BOOT, "clock": "instructions"}}, Path("x.toml"), ["x"])
    adapter = GenericSerial(manifest, TOOLCHAIN)
    assert adapter.guest(SCENARIO).counted_clock
    late = Fault(name="late", behaviour="slow-ready", arguments={"ms": 500})
    assert not adapter.guest(replace(SCENARIO, faults=(late,))).counted_clock
    assert not adapter.guest(replace(SCENARIO, hostile=True)).counted_clock


class Login:
    """A console that asks for a name and a password before its prompt; a wrong password is asked for again."""

    log = Path("console.log")

    def __init__(self, *shown: str) -> None:
        self.shown, self.sent = list(shown), list[str]()

    def send(self, text: str) -> None:
        self.sent.append(text)

    def last_lines(self) -> str:
        return self.shown[0] if self.shown else "Login incorrect"

    def expect(self, patterns: str | Sequence[str], deadline: Deadline, what: str = "") -> ConsoleMatch:
        wanted = [patterns] if isinstance(patterns, str) else list(patterns)
        if self.shown:
            said = self.shown.pop(0)
            for which, pattern in enumerate(wanted):
                if found := search(pattern, said):
                    return ConsoleMatch(said[: found.start()], found, which)
        raise GuestTimeoutError(f"waited for {what}", last=self.last_lines())


def logged_in(*shown: str) -> list[str]:
    boot = {**BOOT, "interrupt": ["login: $", "Password: $"], "interrupt_key": ["root\n", "secret\n"]}
    manifest = parse({"name": "x", "adapter": "x", "boot": boot, "actions": NVME_LOAD}, Path("x.toml"), ["x"])
    login = Login(*shown)
    GenericSerial(manifest, TOOLCHAIN).open(cast(Machine, FakeMachine(cast(Script, login))), SCENARIO, Deadline(5))
    return login.sent


def test_a_name_and_a_password_are_given_where_they_are_asked_for() -> None:
    assert logged_in("boot\nlogin: ", "Password: ", "\n> ") == ["root\n", "secret\n"]
    assert logged_in("boot\nlogin: ", "\n> ") == ["root\n"]
    assert logged_in("boot\n> ") == []


def test_a_wrong_password_is_the_manifests_fault() -> None:
    with pytest.raises(GuestNotReadyError, match="accessed no register") as failed:
        logged_in("boot\nlogin: ", "Password: ", "Login incorrect\nlogin: ")
    assert "correct boot.ready" in failed.value.remedy


def test_keys_and_steps_are_as_many() -> None:
    boot = {**BOOT, "interrupt": ["login: $", "Password: $"], "interrupt_key": ["root\n"]}
    with pytest.raises(UsageError, match="has 1 of 2 keys"):
        parse({"name": "x", "adapter": "x", "boot": boot}, Path("x.toml"), ["x"])
