"""A scenario in a file: TOML that says what device and faults there are, and what the driver is asked.

::

    title = "a Read that comes late"
    from = "read/basic"             # a scenario of the suite, whose parts stand where the file has none

    [[fault]]
    name = "late"
    behaviour = "delay"
    queue = "io"
    nth = 3
    arguments = { ms = 500 }

    [[action]]
    do = "load"

    [[action]]
    do = "read"
    nsid = 1
    lba = 8
    blocks = 8

Controllers, namespaces and faults have the keys of `lab.data.device_file`, actions the arguments of `lab.data.actions`. A list
that the file has is the whole list: its tables inherit from the shipped scenario's only what they do not say (controllers and
namespaces from those at the same place, faults from those of the same name). Every mistake is an error that names the file,
the key, what was expected, and the nearest valid name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lab.data.actions import ARGUMENTS
from lab.data.device_file import TABLES, DeviceFile, parse_device, read_toml, tables_at
from lab.data.plan import Action, Controller, Fault, Namespace, Scenario
from lab.errors import UsageError, describe_invalid, nearest

SUFFIX = ".toml"
STAGE = "file"
"""The stage of a scenario that is made from none of the suite's, and the first part of the id of each one in a file."""
REMEDY = "docs/discovery.md shows a scenario file"


COMPUTER = "^([^/,]+/[^/,]+)?$"
"""A maker and a name, as SMBIOS tells them."""


class GuestTable(BaseModel):
    """What the guest must be: `lab.data.plan.Scenario.guest`."""

    model_config = ConfigDict(extra="forbid")

    cpus: Annotated[int, Field(ge=1, le=64)] = 1
    memory: Annotated[int, Field(ge=0)] = 0
    system: Annotated[str, Field(pattern=COMPUTER)] = ""
    board: Annotated[str, Field(pattern=COMPUTER)] = ""
    iommu: bool = False
    command_seconds: Annotated[int | float, Field(gt=0)] = 30
    queue_depth: Annotated[int, Field(ge=2)] = 1024
    polled_queues: Annotated[int, Field(ge=0)] = 0
    write_queues: Annotated[int, Field(ge=0)] = 0
    sgl_bytes: Annotated[int, Field(ge=0)] = 32768
    watch_memory: bool = False
    stale_memory: bool = False
    keep_alive: bool = False
    in_process: bool = False


class Head(BaseModel):
    """The keys of a file before its lists."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    title: Annotated[str, Field(description="what is special about it, in a sentence")] = ""
    origin: Annotated[
        str, Field(alias="from", description="a scenario of the suite, whose parts stand where the file has none")
    ] = ""
    seed: Annotated[int | None, Field(ge=0, description="draws serial numbers, sizes and data of the scenario in `from`")] = (
        None
    )
    content: Annotated[int | None, Field(ge=0, description="selects the bytes that namespaces hold at the start")] = None
    hostile: Annotated[bool | None, Field(description="the device is odd or faulty: a driver may refuse it in good order")] = (
        None
    )
    checks: Annotated[tuple[str, ...] | None, Field(description="checks of single scenarios that judge this one too")] = None
    guest: GuestTable = GuestTable()


HEAD = tuple(field.alias or name for name, field in Head.model_fields.items())


@dataclass(frozen=True)
class ScenarioFile:
    """What a file says: a scenario, the one of the suite that it is made from, and the checks that it names."""

    scenario: Scenario
    origin: Scenario | None = None
    checks: tuple[str, ...] | None = None


def is_file_name(name: str) -> bool:
    """Return whether a name on a command line means a scenario file, and not a scenario of the suite."""
    return name.endswith(SUFFIX)


def read_scenario(path: Path, shipped: Callable[[str, int | None], Scenario], seed: int | None = None) -> ScenarioFile:
    """Read a scenario file. UsageError for a file that is none.

    ``shipped`` returns a scenario of the suite by its id and seed, UsageError if there is none. ``seed`` is used where the file
    says none.
    """
    data = read_toml(path, "the scenario", REMEDY)
    lists = {key: data.pop(key) for key in (*TABLES, "action") if key in data}
    for key in data:
        if key not in HEAD:
            raise UsageError(f"{path}: {key}: unknown key{nearest(key, (*HEAD, *TABLES, 'action'))}")
    try:
        head = Head(**data)
    except ValidationError as error:
        wrong = describe_invalid(error.errors()[0], lambda _: GuestTable.model_fields)
        raise UsageError(f"{path}: {wrong}") from error
    base: Scenario | None = None
    if head.origin:
        try:
            base = shipped(head.origin, seed if head.seed is None else head.seed)
        except UsageError as error:
            raise UsageError(f"{path}: from: {error.what}", remedy=error.remedy) from error
    return ScenarioFile(_scenario(path, head, lists, base), base, head.checks)


def _scenario(path: Path, head: Head, lists: Mapping[str, Any], base: Scenario | None) -> Scenario:
    inherited = DeviceFile(base.device, base.faults) if base else None
    device = parse_device({key: value for key, value in lists.items() if key in TABLES}, path, inherited)
    actions = base.actions if base and "action" not in lists else _actions(path, lists.get("action", ()), device)
    if not actions:
        raise UsageError(f"{path}: action: a scenario asks its driver something", remedy='the first is mostly do = "load"')
    guest = head.guest.model_dump(exclude_unset=True)
    made = base or Scenario(id="", stage=STAGE, title="", seed=0, device=device.device, actions=())
    stricken = any(fault not in made.faults for fault in device.faults)
    return replace(
        made,
        id=f"{STAGE}/{path.stem}",
        title=head.title or (base.title if base else path.stem),
        seed=made.seed if head.content is None else head.content,
        device=device.device,
        faults=device.faults,
        actions=actions,
        guest={**made.guest, **guest},
        hostile=made.hostile or stricken if head.hostile is None else head.hostile,
    )


def _actions(path: Path, value: Any, device: DeviceFile) -> tuple[Action, ...]:
    return tuple(_action(path, f"action[{n}]", table, device) for n, table in enumerate(tables_at(path, "action", value)))


def _action(path: Path, where: str, table: Mapping[str, Any], device: DeviceFile) -> Action:
    given = dict(table)
    name = given.pop("do", None)
    if name is None:
        raise UsageError(f"{path}: {where}.do: this key is required")
    if name not in ARGUMENTS:
        raise UsageError(f"{path}: {where}.do: there is no action {name!r}{nearest(str(name), ARGUMENTS)}")
    known = ARGUMENTS[name]
    for key in given:
        if key not in known:
            raise UsageError(f"{path}: {where}.{key}: unknown key for {name}{nearest(key, known)}")
    for argument in known.values():
        if argument.name not in given:
            if argument.required:
                raise UsageError(f"{path}: {where}.{argument.name}: this key is required for {name}")
            continue
        try:
            given[argument.name] = TypeAdapter(argument.kind).validate_python(given[argument.name])
        except ValidationError as error:
            said = describe_invalid({**error.errors()[0], "loc": (where, argument.name)})
            raise UsageError(f"{path}: {said}") from error
    _check_names(path, where, name, given, device)
    return Action(name, given)


def _check_names(path: Path, where: str, action: str, given: Mapping[str, Any], device: DeviceFile) -> None:
    """Raise UsageError for a controller, namespace or fault that is not there."""
    controllers = {one.id: one for one in device.device.controllers}
    if "controller" in given and given["controller"] not in controllers:
        what = f"there is no controller {given['controller']!r}{nearest(given['controller'], controllers)}"
        raise UsageError(f"{path}: {where}.controller: {what}")
    if "nsid" in given and action != "raw":
        where_from = [controllers[given["controller"]]] if "controller" in given else controllers.values()
        there = sorted({namespace.nsid for one in where_from for namespace in one.namespaces})
        if given["nsid"] not in there:
            listed = ", ".join(map(str, there)) or "none"
            raise UsageError(f"{path}: {where}.nsid: there is no namespace {given['nsid']} (there are: {listed})")
    faults = [one.name for one in device.faults]
    if action in ("fault", "release") and given["name"] not in faults:
        raise UsageError(f"{path}: {where}.name: there is no fault {given['name']!r}{nearest(given['name'], faults)}")


# -- writing --------------------------------------------------------------------------------------------------------


def scenario_toml(scenario: Scenario, checks: Sequence[str] = (), comments: Mapping[str, str] | None = None) -> str:
    """Return a file that holds all of a scenario, and names these checks.

    ``comments`` stand before what they are about: "" for the whole file, "device", "faults", "actions".
    """
    return "\n".join(_lines(scenario, checks, comments or {})) + "\n"


def _lines(scenario: Scenario, checks: Sequence[str], comments: Mapping[str, str]) -> Iterator[str]:
    yield from _comment(comments.get("", ""))
    yield from _keys({"title": scenario.title, "content": scenario.seed, "hostile": scenario.hostile})
    if checks:
        yield f"checks = {_value(tuple(checks))}"
    if scenario.guest:
        yield f"guest = {_value(scenario.guest)}"
    yield from _section(comments.get("device", ""))
    for controller in scenario.device.controllers:
        yield "[[controller]]"
        yield from _keys(_changed(controller, "namespaces"))
        if not controller.namespaces:
            yield "namespace = []"
        for namespace in controller.namespaces:
            yield from ("", "[[controller.namespace]]")
            yield from _keys(_changed(namespace))
    if scenario.faults:
        yield from _section(comments.get("faults", ""))
    for number, fault in enumerate(scenario.faults):
        yield from ([""] if number else [])
        yield "[[fault]]"
        yield from _keys(_changed(fault))
    yield from _section(comments.get("actions", ""))
    for number, action in enumerate(scenario.actions):
        yield from ([""] if number else [])
        yield "[[action]]"
        yield from _keys({"do": action.name, **action.arguments})


def _section(comment: str) -> Iterator[str]:
    yield ""
    yield from _comment(comment)


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"# {line}".rstrip()


def _changed(item: Controller | Namespace | Fault, *without: str) -> dict[str, Any]:
    """Return the fields that are not as they are by default."""
    found = {}
    for one in fields(item):
        value = getattr(item, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if one.name not in without and value != default:
            found[one.name] = value
    return found


def _keys(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))  # an enumeration too
        case float():
            return repr(value)
        case str():  # TOML's basic strings are JSON's, but for DEL
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case Mapping():
            inside = ", ".join(f"{_key(str(key))} = {_value(one)}" for key, one in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case _:
            return f"[{', '.join(_value(one) for one in value)}]"


# -- the schema -----------------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """Return the JSON schema of a scenario file."""
    head = Head.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = head.pop("$defs", {})
    controller = _table_schema(Controller, definitions, without="namespaces")
    controller["properties"]["namespace"] = {"type": "array", "items": _table_schema(Namespace, definitions)}
    lists = {
        "controller": controller,
        "fault": _table_schema(Fault, definitions) | {"required": ["name"]},
        "action": {"oneOf": [_action_schema(name) for name in ARGUMENTS]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A scenario of NVMe Lab in a TOML file",
        "type": "object",
        "additionalProperties": False,
        "properties": head["properties"] | {name: {"type": "array", "items": item} for name, item in lists.items()},
        "$defs": definitions,
    }


def _table_schema(kind: type, definitions: dict[str, Any], without: str = "") -> dict[str, Any]:
    found = TypeAdapter[Any](kind).json_schema(ref_template="#/$defs/{model}")
    inner = found.pop("$defs", {})
    properties = {name: value for name, value in found["properties"].items() if name != without}
    if not without:
        definitions.update(inner)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _action_schema(name: str) -> dict[str, Any]:
    arguments = ARGUMENTS[name].values()
    kinds = {one.name: TypeAdapter[Any](one.kind).json_schema() for one in arguments}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"do": {"const": name}, **kinds},
        "required": ["do", *(one.name for one in arguments if one.required)],
    }
