"""docs/drivers.md against the code: every manifest in it works, every key and action is in it, and nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from lab.data import manifest as manifests
from lab.data.manifest import ACTIONS, PARTS, DriverManifest, Reading, parse
from lab.device.changes import LAB_ACTIONS
from lab.drivers import adapters, shape
from lab.drivers.generic_serial import GenericSerial
from lab.drivers.reading import TEXT
from lab.toolchain import Toolchain

PAGE = (Path(__file__).parents[2] / "docs/drivers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
TABLES = (
    "DriverManifest",
    "Boot",
    "ActionSyntax",
    "Listing",
    "Disk",
    "Push",
    "Passthrough",
    "Coverage",
    "Program",
    "Python",
    "Limits",
    "Known",
    "Source",
    "RealMachine",
    "MachineDisk",
)


def rows(mark: str) -> list[list[str]]:
    """Return the cells of the table behind a mark, without its head."""
    table = PAGE.split(f"<!-- {mark} -->", 1)[1].lstrip("\n").split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: tomllib.loads(text)["name"])
def test_every_manifest_on_the_page_can_be_used(example: str, tmp_path: Path) -> None:
    manifest = parse(tomllib.loads(example), tmp_path / "my.toml", adapters())
    for name in (getattr(manifest.boot, key) for key in ("kernel", "disk", "iso", "floppy", "firmware")):
        if name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"\x7fELF")
    if manifest.adapter == "generic-serial":
        adapter = GenericSerial(manifest, Toolchain(None, None))
        assert {"load", *manifest.actions} == adapter.actions
    else:
        assert manifest.push.modules


def test_there_is_an_example_of_each_way_to_speak_and_to_listen() -> None:
    boots = [parse(tomllib.loads(example), Path("my.toml"), adapters()).boot for example in EXAMPLES]
    assert {boot.output for boot in boots} == {"serial", "serial2", "debug-console", "exit-code"}
    assert {boot.input for boot in boots} == {"serial", "keyboard", "none"}
    assert {key for boot in boots for key in shape.SOURCES if getattr(boot, key)} == set(shape.SOURCES)


def own_fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a table of the page lists: of a list only what it has beyond patterns; no place in the file system."""
    inherited = Reading.model_fields if model is manifests.Listing else {}
    return {name: field for name, field in model.model_fields.items() if name not in inherited and name != "path"}


def shown(default: Any) -> str:
    """Return a default as TOML has it."""
    return json.dumps(default if not isinstance(default, tuple) else list(default))


@pytest.mark.parametrize("name", TABLES)
def test_the_page_lists_every_key_with_its_default(name: str) -> None:
    fields = own_fields(getattr(manifests, name))
    listed = {code(key)[0]: default for key, default, _ in rows(name)}
    assert listed.keys() == fields.keys()
    for key, field in fields.items():
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            assert listed[key] == "required"
        elif code(listed[key]):
            assert code(listed[key]) == [shown(default)], key


def test_the_page_lists_every_action_with_its_stage_and_arguments() -> None:
    listed = {code(action)[0]: (stage, code(braces)) for action, stage, braces, _ in rows("actions")}
    assert listed.keys() == set(ACTIONS)
    for action, (stage, braces) in listed.items():
        assert stage in PARTS
        assert set(braces) == shape.ARGUMENTS.get(action, frozenset()), action


def test_the_page_lists_what_the_lab_does_itself() -> None:
    assert {name for action, _, _ in rows("the lab's") for name in code(action)} == LAB_ACTIONS


def test_the_page_names_the_fields_that_stay_text() -> None:
    (sentence,) = re.findall(r"Text: ([^.]*)\.", PAGE)
    assert set(code(sentence)) == TEXT


def test_the_tables_are_all_that_a_manifest_has() -> None:
    classes = {name: found for name, found in vars(manifests).items() if isinstance(found, type)}
    models = {name for name, found in classes.items() if issubclass(found, manifests._Table)}
    assert models - {"_Table", "Reading"} == set(TABLES)
    assert DriverManifest.__name__ in TABLES
