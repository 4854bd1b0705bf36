"""Which objects of a driver are covered, and at which addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.data.manifest import DriverManifest, parse
from lab.drivers.coverage_targets import LINUX_MODULES, targets
from lab.errors import UsageError
from tests.coverage.tiny_elf import EXEC, elf, moves


class Driver:
    """An adapter's part that is looked at."""

    def __init__(self, **files: Path) -> None:
        self.files: Mapping[str, Path] = files


def manifest(folder: Path, **coverage: Any) -> DriverManifest:
    data = {"name": "toy", "adapter": "generic-serial", "coverage": coverage}
    return parse(data, folder / "toy.toml", ["generic-serial"])


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "kernel.elf"
    path.write_bytes(elf({"main": moves(1, 2, 3)}, kind=EXEC, base=0x100000))
    return path


def named(driver: Driver) -> Any:
    return driver


def test_a_kernel_is_covered_where_it_was_linked_for(kernel: Path) -> None:
    found = targets(manifest(kernel.parent), named(Driver(kernel=kernel)))
    assert (found.addresses, [one.name for one in found.objects], found.reason) == ("0x100000..0x100010", ["kernel.elf"], "")


def test_modules_are_covered_in_their_area(kernel: Path) -> None:
    found = targets(manifest(kernel.parent), named(Driver(**{"modules/kernel.elf": kernel})))
    assert found.addresses == LINUX_MODULES


def test_a_manifest_names_objects_and_addresses(kernel: Path) -> None:
    given = manifest(kernel.parent, objects=["kernel.elf"], addresses="0x7f000000+0x1000000")
    assert targets(given, named(Driver())).addresses == "0x7f000000+0x1000000"


def test_what_has_no_symbols_is_not_covered_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(b"MZ")
    found = targets(manifest(tmp_path), named(Driver(kernel=tmp_path / "bzImage")))
    assert (found.addresses, found.objects) == ("", ())
    assert "bzImage is no ELF file" in found.reason
    assert "symbols" in targets(manifest(tmp_path), named(Driver(firmware=tmp_path / "bzImage"))).reason


@pytest.mark.parametrize(
    ("content", "says"), [(None, "coverage.objects: there is no file"), (b"MZ", "coverage.objects: .* no ELF")]
)
def test_a_manifest_whose_object_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content:
        (tmp_path / "kernel.elf").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        targets(manifest(tmp_path, objects=["kernel.elf"]), named(Driver()))


@pytest.mark.parametrize("coverage", [{"object": []}, {"addresses": "somewhere"}])
def test_mistakes_in_the_table_name_the_key(tmp_path: Path, coverage: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"coverage\.(object|addresses)"):
        manifest(tmp_path, **coverage)
