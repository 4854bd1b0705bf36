"""Which drivers and adapters there are, and what a wrong name or manifest is answered with."""

import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from lab import extensions
from lab.drivers import adapter, adapters, find, shipped, wants
from lab.errors import LabError, UsageError
from lab.toolchain import Toolchain

NOTHING = Toolchain(qemu=None, linux=None, firmware={}, versions={})


def manifest(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text)
    return path


def test_every_shipped_manifest_is_valid_and_named_like_its_file() -> None:
    assert {"linux", "u-boot"} <= set(shipped())
    for name in shipped():
        assert find(name).name == name
        of_others = {"linux-arm64": ("qemu-aarch64",), "u-boot-arm64": ("qemu-aarch64",), "u-boot-riscv64": ("qemu-riscv64",)}
        qemu = {"reference": (), **of_others}.get(name, ("qemu",))  # the reference runs in process
        assert wants(find(name))[:1] == qemu


def test_an_unknown_driver_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no driver 'u-bot'; did you mean 'u-boot'\?"):
        find("u-bot")


def test_a_path_is_read_and_a_missing_one_named(tmp_path: Path) -> None:
    path = manifest(tmp_path, 'name = "mine"\nadapter = "linux"')
    assert find(str(path)).folder == tmp_path
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/none.toml: the manifest cannot be read")):
        find(f"{tmp_path}/none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('adapter = "linx"', r"my\.toml: adapter: there is no 'linx'; did you mean 'linux'\?"),
        ('adapter = "linux"\n[boot]\nready = "a{4294967296}"', r"boot\.ready: not a regular expression"),
        ('adapter = "linux"\n[boot]\nmemroy = "1G"', r"my\.toml: boot\.memroy: unknown key; did you mean 'memory'\?"),
        (
            'adapter = "generic-serial"\n[actions.info]\ncommand = "x"\npattern = "("',
            r"my\.toml: actions\.info\.pattern: not a regular expression: missing \)",
        ),
        (
            'adapter = "generic-serial"\n[actions.inf]\ncommand = "x"',
            r"my\.toml: actions: there is no 'inf'; did you mean 'info'\?",
        ),
        (
            'adapter = "generic-serial"\n[actions.list]\ncommand = "x"\n[actions.list.lists.namespaces]\neach = "a"\nbesides = ["b"]',  # noqa: E501
            r"my\.toml: actions\.list\.lists\.namespaces\.besides: unknown key; did you mean 'beside'\?",
        ),
    ],
)
def test_a_mistake_names_file_key_and_the_nearest(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find(str(manifest(tmp_path, f'name = "mine"\n{text}')))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[actions.info]\ncommand = "x"', r"boot\.ready: this key is required"),
        (
            '[boot]\nready = "> "\n[actions.read]\ncommand = "r {nsid} {lbs}"',
            r"actions\.read\.command: there is no \{lbs\}; did you mean 'lba'\?",
        ),
        ('[boot]\nready = "> "\n[actions.read]\ncommand = "r {nsid"', r"actions\.read\.command: 'r \{nsid': expected '}'"),
        ('[boot]\nready = "> "\n[actions.write]\ncommand = "w"\nfill = "m {adress}"', r"did you mean 'address'\?"),
        ('[boot]\nready = "> "\nkernel = "no.elf"', r"boot\.kernel: there is no file .*no\.elf"),
        ('[boot]\nready = "> "\nkernel = "{linux-guest}"', r"boot\.kernel: \{linux-guest\} is not booted by name"),
        ('[boot]\nready = "> "\nfirmware = "{u-boot}"', r"boot\.firmware: \{u-boot\} is no firmware of the toolchain"),
    ],
)
def test_a_serial_manifest_that_cannot_work_is_refused_before_anything_starts(tmp_path: Path, text: str, message: str) -> None:
    found = find(str(manifest(tmp_path, f'name = "mine"\nadapter = "generic-serial"\n{text}')))
    with pytest.raises(UsageError, match=message):
        adapter(found, NOTHING)


def test_a_kernel_that_would_not_be_booted_is_refused(tmp_path: Path) -> None:
    text = 'name = "mine"\nadapter = "linux"\n[boot]\nkernel = "my.elf"'
    with pytest.raises(UsageError, match=r"boot\.kernel: the adapter linux boots the lab's own Linux guest"):
        adapter(find(str(manifest(tmp_path, text))), NOTHING)


def test_firmware_that_was_not_prepared_is_the_labs_failure() -> None:
    with pytest.raises(LabError, match="the firmware u-boot was not prepared"):
        adapter(find("u-boot"), NOTHING)


def test_adapters_of_other_packages_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    points = EntryPoints([EntryPoint("theirs", f"{__name__}:Theirs", extensions.ADAPTERS)])
    broken = EntryPoint("broken", "no_such_package:X", extensions.ADAPTERS)

    def entry_points(group: str, **named: Any) -> EntryPoints:
        return EntryPoints([*points, broken]).select(group=group, **named)

    monkeypatch.setattr(extensions, "entry_points", entry_points)
    monkeypatch.syspath_prepend(tmp_path)  # another path: what was found on the one before is not asked
    assert {"theirs", "broken", "linux"} <= set(adapters())
    made = adapter(find(str(manifest(tmp_path, 'name = "mine"\nadapter = "theirs"'))), NOTHING)
    assert isinstance(made, Theirs)
    with pytest.raises(LabError, match=r"'broken' in nvme_lab.adapters \(no_such_package:X\) cannot be imported"):
        adapter(find(str(manifest(tmp_path, 'name = "mine"\nadapter = "broken"'))), NOTHING)


class Theirs:
    """An adapter as another package would bring it."""

    hotplug = False
    actions: frozenset[str] = frozenset()
    panics: tuple[str, ...] = ()
    files: Mapping[str, Path] = {}

    def __init__(self, *given: object) -> None:
        self.given = given
