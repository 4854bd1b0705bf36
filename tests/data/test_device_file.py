"""A device specification in a file, and every mistake in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.data.device_file import default_device, parse_device, read_device
from lab.data.plan import Fault
from lab.errors import UsageError

FILE = """
[[controller]]
serial = "ABC"
cap = { MQES = 7 }
[[controller.namespace]]
blocks = 32768
areas = [[0, 10]]
[[controller.namespace]]
block_size = 4096
[[controller]]
[[fault]]
name = "late"
behaviour = "delay"
arguments = { ms = 500 }
"""


def test_a_file_is_a_device_and_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    path.write_text(FILE)
    read = read_device(path)
    first, second = read.device.controllers
    assert (first.id, first.serial, first.cap) == ("nv0", "ABC", {"MQES": 7})
    assert [(one.nsid, one.block_size) for one in first.namespaces] == [(1, 512), (2, 4096)]
    assert first.namespaces[0].areas == ((0, 10),)
    assert (second.id, len(second.namespaces)) == ("nv1", 1)
    assert read.faults == (Fault(name="late", behaviour="delay", arguments={"ms": 500}),)


def test_no_table_is_the_default_device() -> None:
    assert parse_device({}, Path("x")) == default_device()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"controllr": []}, "controllr: unknown key; did you mean 'controller'"),
        ({"controller": 3}, "controller: tables are expected, each begins with [[controller]]"),
        ({"controller": [{"mdst": 1}]}, "controller[0].mdst: unknown key; did you mean 'mdts'"),
        ({"controller": [{"mdts": "x"}]}, "controller[0].mdts: Input should be a valid integer"),
        ({"controller": [{"namespace": [{"block": 1}]}]}, "controller[0].namespace[0].block: unknown key"),
        ({"controller": [{"id": "a"}, {"id": "a"}]}, "the id of controllers: 'a' stands there twice"),
        ({"fault": [{"name": "a"}]}, "fault[0].behaviour: this key is required"),
        ({"fault": [{"name": "a", "behaviour": "delay", "queue": "oi"}]}, "fault[0].queue: Input should be 'admin' or 'io'"),
    ],
)
def test_a_mistake_names_file_key_and_remedy(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_device(data, Path("my.toml"))
    assert str(error.value).startswith(f"my.toml: {message}")


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_device(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[[controller")
    with pytest.raises(UsageError, match="not TOML"):
        read_device(tmp_path / "bad.toml")
