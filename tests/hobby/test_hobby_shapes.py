"""The hobby kernel in every boot shape: what is booted, where its output comes from, and how it is asked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lab.data import content
from lab.data.events import ActionEnded, RegisterWrite
from lab.data.evidence import Evidence
from lab.data.manifest import ActionSyntax, DriverManifest
from lab.data.plan import Action, Controller, DeviceKind, DeviceSpec, Fault, Namespace, Scenario
from lab.drivers import adapter
from lab.nvme.registers import CC
from lab.toolchain import Toolchain
from tests.hobby.conftest import MANIFEST, Build, Recorded, manifest
from tests.hobby.iso import bootable

DISK = Namespace(blocks=65536, areas=((0, 64),))
SERIAL = "SERIAL-OF-20-LETTERS"
HEXDUMP = {
    "command": ["read {nsid} {lba} {blocks} {address:#x}", "dump {address:#x} {bytes}"],
    "hexdump": "xxd",
    "success": "^ok$",
    "error": "^error: ",
}
"""As far as the console: the bytes come as text."""


def scenario(*actions: Action, **more: Any) -> Scenario:
    device = DeviceSpec(controllers=(Controller(serial=SERIAL, namespaces=(DISK,), **more.pop("of", {})),))
    return Scenario(id="read/test", stage="read", title="", seed=5, device=device, actions=actions, **more)


ASKED = scenario(Action("load"), Action("info"), Action("list"), Action("read", {"nsid": 1, "lba": 3, "blocks": 2}))
UNASKED = scenario(*(Action(name) for name in ("load", "info", "ready", "identify", "list", "queues", "load")))


def answers(evidence: Evidence) -> list[dict[str, Any]]:
    end = evidence.end
    assert end is not None
    assert (end.outcome, end.reason) == ("complete", "")
    return [dict(event.answer) for event in evidence.events() if isinstance(event, ActionEnded)]


def assert_asked(evidence: Evidence) -> None:
    """Check that it was loaded with its disk, and read what the disk holds."""
    said = answers(evidence)
    assert [answer["status"] for answer in said] == ["success"] * 4
    assert said[1]["controllers"][0]["doorbell_stride"] == 4
    assert said[2]["namespaces"] == [{"controller": SERIAL, "nsid": 1, "blocks": 65536, "block_size": 512}]
    assert evidence.answer_bytes(said[3]) == content.initial(5, DISK, 3) + content.initial(5, DISK, 4)


def enables(evidence: Evidence) -> list[RegisterWrite]:
    """Who else enabled the controller? Firmware must not, or it would be taken for the driver."""
    return [e for e in evidence.events() if isinstance(e, RegisterWrite) and e.offset == CC.OFFSET and CC(e.value).EN]


@pytest.mark.parametrize(("source", "device"), [("disk", "qemu"), ("iso", "lab")])
def test_booted_from(build: Build, recorded: Recorded, tmp_path: Path, source: str, device: DeviceKind) -> None:
    image = build() / "disk.img"
    before = image.read_bytes()
    if source == "iso":
        image = tmp_path / "hobby.iso"
        image.write_bytes(bootable((build() / "boot.img").read_bytes()))
    evidence = recorded(manifest({"kernel": None, source: str(image)}), ASKED, device)
    assert_asked(evidence)
    assert len(enables(evidence)) == 1
    assert (build() / "disk.img").read_bytes() == before


def test_output_by_debug_console_and_input_by_keyboard(build: Build, recorded: Recorded) -> None:
    kernel = build(flags="-DDEBUG_CONSOLE -DKEYBOARD") / "kernel.elf"
    driver = manifest({"kernel": str(kernel), "output": "debug-console", "input": "keyboard"})
    words = {**driver.actions, "read": driver.actions["read"].model_validate(HEXDUMP)}
    assert_asked(recorded(driver.model_copy(update={"actions": words}), ASKED, "lab"))


def test_a_prompt_on_the_screen_and_a_keyboard(build: Build, recorded: Recorded) -> None:
    """Obstacle 2: nothing else is said anywhere. The answers scroll, and data are taken from the memory."""
    kernel = build(flags="-DSCREEN -DKEYBOARD") / "kernel.elf"
    driver = manifest({"kernel": str(kernel), "output": "screen", "input": "keyboard"})
    evidence = recorded(driver, ASKED, "lab")
    assert_asked(evidence)
    assert not (evidence.folder / "console.log").read_bytes()


def unasked(kernel: Path, **boot: Any) -> DriverManifest:
    """Return the manifest of a kernel that runs without a prompt."""
    words = tomllib.loads(MANIFEST.read_text())["actions"]
    printed = ("load", "info", "ready", "identify", "list", "queues")
    actions = {name: {key: words[name][key] for key in words[name] if key != "command"} for name in printed}
    return manifest({"kernel": str(kernel), "input": "none", **boot}, actions=actions, stops=[])


@pytest.mark.parametrize("boot", [{"exit_success": 0x10, "ready": None}, {"ready": "^done: "}], ids=["exit", "last-words"])
def test_a_driver_without_prompt_is_read_from_what_it_prints(build: Build, recorded: Recorded, boot: dict[str, Any]) -> None:
    evidence = recorded(unasked(build(flags="-DONE_SHOT") / "kernel.elf", **boot), UNASKED, "qemu")
    *said, again = answers(evidence)
    assert [answer["status"] for answer in said] == ["success"] * 6
    assert "done: " not in said[0]["log"] or boot.get("exit_success")
    assert said[2]["ready"] is True
    assert said[3]["controllers"][0]["serial"] == SERIAL
    assert said[4]["namespaces"][0]["blocks"] == 65536
    assert said[5]["pairs"] == 1
    assert again["status"] == "unsupported", "its guest starts once"
    began = next(event.t for event in evidence.events() if isinstance(event, RegisterWrite))
    loaded = next(event for event in evidence.events() if isinstance(event, ActionEnded))
    assert loaded.action == "load"
    assert began < loaded.t


@pytest.mark.parametrize("dead", [False, True])
def test_an_exit_code_is_an_answer(build: Build, recorded: Recorded, dead: bool) -> None:
    kernel = build(flags="-DONE_SHOT") / "kernel.elf"
    driver = manifest(
        {"kernel": str(kernel), "output": "exit-code", "input": "none", "exit_success": 0x10, "ready": None},
        actions={},
        stops=[],
    )
    faults = (Fault(name="dead", behaviour="never-ready"),) if dead else ()
    given = scenario(Action("load"), Action("info"), faults=faults, of={"cap": {"TO": 1}})
    load, info = answers(recorded(driver, given, "lab"))
    assert load["status"] == ({"words": "exit code 0x11"} if dead else "success")
    assert info["status"] == "unsupported"


def test_a_processor_that_cannot_go_on_is_the_drivers_death(build: Build, recorded: Recorded) -> None:
    """The kernel handles no exceptions: memory that is not mapped is a triple fault, which resets the machine."""
    driver = manifest({"kernel": str(build() / "kernel.elf")})
    words = {**driver.actions, "info": ActionSyntax(command="dump 0x7f0000000000 16")}
    end = recorded(driver.model_copy(update={"actions": words}), scenario(Action("load"), Action("info")), "lab").end
    assert end is not None
    assert end.outcome == "panic"
    assert "The guest reset the machine" in end.reason
    assert "'dump 0x7f0000000000 16'" in end.reason


def test_a_kernel_that_is_not_built_is_said_so(toolchain: Toolchain) -> None:
    with pytest.raises(Exception, match=re.escape("hobby.toml: boot.kernel: there is no file ") + "(.|\n)*remedy: build it"):
        adapter(manifest({"kernel": "build/not-built.elf"}), toolchain)
