"""A fault that strikes one controller of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.controller.in_process import InProcess
from lab.data.device_file import read_device
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.errors import UsageError
from lab.nvme.registers import VS

ALL_ONES = 0xFFFF_FFFF
COMMAND, MEMORY_SPACE = 4, 2


def two(folder: Path, controller: str) -> InProcess:
    """Return two controllers, of which one will be gone once the fault is armed."""
    held = (Namespace(nsid=1, blocks=64),)
    spec = DeviceSpec(controllers=tuple(Controller(id=id, serial=id, namespaces=held) for id in ("nv0", "nv1")))
    gone = Fault(name="gone", behaviour="removed", controller=controller, armed=False)
    return InProcess(spec, folder, faults=[gone])


def test_only_the_named_controller_is_struck(tmp_path: Path) -> None:
    with two(tmp_path, "nv0") as device:
        for function in device.functions.values():
            function.config_write(COMMAND, 2, MEMORY_SPACE)
        device.device.arm("gone")
        first, second = (function.read(VS.OFFSET, 4) for function in device.functions.values())
        assert first == ALL_ONES
        assert second != ALL_ONES
        assert device.device.strikes("gone") == 1


def test_a_controller_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"fault 'gone': there is no controller 'nv9'"):
        two(tmp_path, "nv9")


def test_a_file_names_the_key(tmp_path: Path) -> None:
    file = tmp_path / "device.toml"
    file.write_text('[[controller]]\nid = "a"\n[[fault]]\nname = "gone"\nbehaviour = "removed"\ncontroller = "b"\n')
    with pytest.raises(UsageError, match=r"fault\[0\]\.controller: there is no controller 'b'"):
        read_device(file)
