"""A scenario in a file: what it says, what it inherits, what is written, and every mistake in one."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import conformance
from conformance.run.scenario_files import load_scenario, load_scenarios
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.data.actions import ARGUMENTS
from lab.data.manifest import ACTIONS
from lab.data.plan import Action
from lab.data.scenario_file import scenario_toml, schema
from lab.device.changes import LAB_ACTIONS
from lab.errors import UsageError

SCHEMA = Path(conformance.__file__).parent / "schema" / "scenario.schema.json"
LOAD = '[[action]]\ndo = "load"\n'
FAULT = '[[fault]]\nname = "late"\nbehaviour = "delay"\n'


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_arguments_are_those_of_all_actions() -> None:
    assert ARGUMENTS.keys() == {*ACTIONS, *LAB_ACTIONS}


def test_the_published_schema_is_that_of_the_models() -> None:
    assert json.loads(SCHEMA.read_text()) == schema()


def test_every_scenario_of_the_suite_can_be_written_and_read(tmp_path: Path) -> None:
    for template in SCENARIOS.values():
        scenario = template.resolve(7)
        text = scenario_toml(scenario, ["read/nlb"], {"": "what it is\n\nfor", "device": "a device", "actions": "asked"})
        expected = replace(scenario, id="file/mine", stage="file", checks=("read/nlb",))
        read = load_scenario(written(tmp_path, text))
        assert json.dumps(read.to_json(), sort_keys=True) == json.dumps(expected.to_json(), sort_keys=True), template.id


@pytest.mark.parametrize("name", ["reset/stall", "identify/administrative", "reset/asked"])
def test_what_is_written_is_what_the_schema_says(name: str) -> None:
    jsonschema.validate(tomllib.loads(scenario_toml(SCENARIOS[name].resolve(7))), json.loads(SCHEMA.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads("[[action]]\ndo = 'read'"), json.loads(SCHEMA.read_text()))


def test_a_scenario_of_its_own(tmp_path: Path) -> None:
    read = load_scenario(written(tmp_path, LOAD))
    assert (read.id, read.stage, read.hostile) == ("file/mine", "file", False)
    assert read.actions == (Action("load"),)
    assert load_scenario(written(tmp_path, FAULT + LOAD)).hostile


def test_what_the_file_does_not_say_is_the_shipped_scenarios(tmp_path: Path) -> None:
    origin = SCENARIOS["reset/stall"].resolve(3)
    read = load_scenario(written(tmp_path, 'from = "reset/stall"\n'), seed=3)
    assert (read.device, read.actions, read.faults, read.stage) == (origin.device, origin.actions, origin.faults, "reset")
    changed = load_scenario(
        written(tmp_path, 'from = "reset/stall"\nseed = 3\n[[controller]]\nmdts = 1\n[[fault]]\nname = "drop"\nnth = 2\n')
    )
    assert changed.device.controllers[0] == replace(origin.device.controllers[0], mdts=1)
    assert changed.faults == (replace(origin.faults[1], nth=2),)


def test_checks_of_the_shipped_scenario_judge_what_still_asks_their_question(tmp_path: Path) -> None:
    tied = tuple(check.id for check in CHECKS.values() if "reset/stall" in check.scenarios)
    assert load_scenario(written(tmp_path, 'from = "reset/stall"')).checks == tied
    assert load_scenario(written(tmp_path, f'from = "reset/stall"\n{LOAD}')).checks == ()
    assert load_scenario(written(tmp_path, 'from = "reset/stall"\n[[fault]]\nname = "drop"')).checks == ()
    assert load_scenario(written(tmp_path, f'checks = ["reset/stall"]\n{LOAD}')).checks == ("reset/stall",)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [written(tmp_path, LOAD), written(tmp_path / "other", LOAD)]
    with pytest.raises(UsageError, match="two scenarios are named 'file/mine'"):
        load_scenarios(map(str, files))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML"),
        ("tilte = 'x'", "tilte: unknown key; did you mean 'title'"),
        ("from = 'read/basik'", "from: there is no scenario 'read/basik'; did you mean 'read/basic'"),
        ("seed = -1\n" + LOAD, "seed: Input should be greater"),
        ("guest = { cpu = 2 }\n" + LOAD, "guest.cpu: unknown key; did you mean 'cpus'"),
        ("checks = ['read/nbl']\n" + LOAD, "checks[0]: there is no check 'read/nbl'"),
        ("", "action: a scenario asks its driver something"),
        ("action = 3", "action: tables are expected, each begins with [[action]]"),
        ("[[action]]\nnsid = 1", "action[0].do: this key is required"),
        ("[[action]]\ndo = 'raed'", "action[0].do: there is no action 'raed'; did you mean 'read'"),
        ("[[action]]\ndo = 'read'\nnsid = 1\nlba = 0", "action[0].blocks: this key is required for read"),
        ("[[action]]\ndo = 'read'\nnsid = 1\nlba = 'x'\nblocks = 1", "action[0].lba: Input should be a valid integer"),
        ("[[action]]\ndo = 'read'\nnsid = 2\nlba = 0\nblocks = 1", "action[0].nsid: there is no namespace 2 (there are: 1)"),
        ("[[action]]\ndo = 'flush'\nnsid = 1\nblock = 1", "action[0].block: unknown key for flush"),
        ("[[action]]\ndo = 'noop'\nnsid = 1\ncontroller = 'nv1'", "action[0].controller: there is no controller 'nv1'"),
        (FAULT + "[[action]]\ndo = 'fault'\nname = 'lat'\narmed = true", "action[0].name: there is no fault 'lat'"),
        ("[[fault]]\nname = 'a'\nbehaviour = 'dealy'\n" + LOAD, "fault[0]: fault 'a': there is no behaviour 'dealy'"),
        (FAULT + "arguments = { s = 1 }\n" + LOAD, "fault[0]: fault 'late': delay has no argument 's'"),
        ("[[controller]]\nmdst = 1\n" + LOAD, "controller[0].mdst: unknown key; did you mean 'mdts'"),
    ],
)
def test_a_mistake_names_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as error:
        load_scenario(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the scenario cannot be read: No such file"):
        load_scenario(tmp_path / "none.toml")
