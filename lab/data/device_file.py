"""A device specification in a file: TOML that says what controllers, namespaces and faults there are.

::

    [[controller]]
    serial = "ABC"
    mdts = 5
    cap = { MQES = 7 }

    [[controller.namespace]]
    blocks = 32768

    [[fault]]
    name = "late"
    behaviour = "delay"
    queue = "io"
    nth = 3
    arguments = { ms = 500 }

The keys are those of `lab.data.plan`'s `Controller`, `Namespace` and `Fault`. Every mistake is an error that names the file,
the key, what was expected, and the nearest valid name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.errors import UsageError, describe_invalid, nearest

T = TypeVar("T")

SERIAL = "NVME-LAB"
"""The serial number of a controller whose table has none."""
BLOCKS = 1 << 17
"""The blocks of a namespace whose table does not say how many: 64 MiB of 512 bytes."""
TABLES = ("controller", "fault")


@dataclass(frozen=True)
class DeviceFile:
    """What a file holds."""

    device: DeviceSpec
    faults: tuple[Fault, ...] = ()


def default_device(blocks: int = BLOCKS) -> DeviceFile:
    """Return the device of no file: one controller with one namespace."""
    return DeviceFile(DeviceSpec(controllers=(Controller(serial=SERIAL, namespaces=(Namespace(blocks=blocks),)),)))


def read_device(path: Path) -> DeviceFile:
    """Read a device specification. UsageError for a file that is none."""
    return parse_device(read_toml(path, "the device specification", "docs/testing.md shows a device specification"), path)


def read_toml(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Return the data of a TOML file. UsageError, which says ``what`` it should be, where it cannot be read or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {what} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}", remedy=remedy) from error


def parse_device(data: Mapping[str, Any], path: Path, base: DeviceFile | None = None) -> DeviceFile:
    """Return what a file's data say; see `read_device`. ``path`` is for messages.

    With a ``base``, tables inherit what they do not say: controllers and namespaces from those at the same place, faults from
    those of the same name. A list that the file does not have is that of the base.
    """
    for key in data:
        if key not in TABLES:
            raise UsageError(f"{path}: {key}: unknown key{nearest(key, TABLES)}")
    plain = base or default_device()
    if base and "controller" not in data:
        controllers = base.device.controllers
    else:
        tables = tables_at(path, "controller", data.get("controller", ({},)))
        inherited = base.device.controllers if base else ()
        controllers = tuple(_controller(path, f"controller[{n}]", one, n, _at(inherited, n)) for n, one in enumerate(tables))
    faults = plain.faults if "fault" not in data else _faults(path, tables_at(path, "fault", data["fault"]), plain.faults)
    _unique(path, "the id of controllers", [one.id for one in controllers])
    _unique(path, "the name of faults", [one.name for one in faults])
    ids = [one.id for one in controllers]
    for n, one in enumerate(faults):
        if one.controller is not None and one.controller not in ids:
            raise UsageError(
                f"{path}: fault[{n}].controller: there is no controller {one.controller!r}{nearest(one.controller, ids)}"
            )
    return DeviceFile(DeviceSpec(controllers=controllers), faults)


def _faults(path: Path, tables: Sequence[Mapping[str, Any]], inherited: Sequence[Fault]) -> tuple[Fault, ...]:
    known = {one.name: vars(one) for one in inherited}
    return tuple(
        make(path, f"fault[{n}]", Fault, {**known.get(str(table.get("name")), {}), **table}) for n, table in enumerate(tables)
    )


def _controller(path: Path, where: str, table: Mapping[str, Any], number: int, base: Controller | None) -> Controller:
    defaults = {"id": f"nv{number}", "serial": f"{SERIAL}-{number}" if number else SERIAL}
    rest = {**(vars(base) if base else defaults), **table}
    for key, value in vars(base).items() if base else ():
        if isinstance(value, Mapping) and isinstance(table.get(key), Mapping):
            rest[key] = {**value, **table[key]}
    inherited: Sequence[Namespace] = rest.pop("namespaces", ())
    if base and "namespace" not in table:
        return make(path, where, Controller, {**rest, "namespaces": inherited}, hidden=("namespaces",))
    listed = tables_at(path, f"{where}.namespace", rest.pop("namespace", ({},)))
    namespaces = tuple(
        make(path, f"{where}.namespace[{n}]", Namespace, {**_namespace_defaults(_at(inherited, n), n), **one})
        for n, one in enumerate(listed)
    )
    _unique(path, f"{where}: nsid", [one.nsid for one in namespaces])
    return make(path, where, Controller, {**rest, "namespaces": namespaces}, hidden=("namespaces",))


def _namespace_defaults(base: Namespace | None, number: int) -> Mapping[str, Any]:
    return vars(base) if base else {"nsid": number + 1, "blocks": BLOCKS}


def _at(sequence: Sequence[T], number: int) -> T | None:
    return sequence[number] if number < len(sequence) else None


def make(path: Path, where: str, kind: type[T], values: Mapping[str, Any], hidden: Sequence[str] = ()) -> T:
    """Return an object of a plain class from its values, whose types are checked."""
    known = [one.name for one in fields(kind) if one.name not in hidden]  # type: ignore[arg-type]
    for key in values:
        if key not in known and key not in hidden:
            raise UsageError(f"{path}: {where}.{key}: unknown key{nearest(key, known)}")
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name not in values and one.default is MISSING and one.default_factory is MISSING:
            raise UsageError(f"{path}: {where}.{one.name}: this key is required")
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise UsageError(f"{path}: {where}.{describe_invalid(error.errors()[0])}") from error


def tables_at(path: Path, where: str, value: Any) -> Sequence[Mapping[str, Any]]:
    """Return the tables of a list; UsageError where there is something else."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, dict) for one in value):
        name = where.rpartition(".")[2]
        raise UsageError(f"{path}: {where}: tables are expected, each begins with [[{name}]]")
    return value


def _unique(path: Path, what: str, values: Sequence[Any]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise UsageError(f"{path}: {what}: {value!r} stands there twice")
