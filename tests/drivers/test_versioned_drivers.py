"""Drivers in several versions: one manifest, a table in it, and what the toolchain is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from images import recipe
from lab import drivers
from lab.data.manifest import Source, load
from lab.errors import LabError, UsageError
from lab.settings import Settings
from lab.toolchain import prepare
from lab.toolchain.apt import MirrorError
from lab.toolchain.closures import Closures, Fetched

MANIFEST = """\
name = "toy"
adapter = "generic-serial"
release = "2"
needs = ["u-boot"]
stages = ["detect", "read"]

[boot]
firmware = "{u-boot}"
ready = "> "
seconds = 20

[versions."1"]
stages = ["detect"]
boot.ready = "=> "
source.suites = ["bullseye"]

[versions."2"]

[[known]]
check = "read/nlb"
reason = "one block too many"
versions = "..1"

[[known]]
check = "read/exact"
reason = "wrong bytes"
versions = "2.."
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(MANIFEST)
    return path


def test_a_version_is_the_manifest_with_its_table_over_it(toy: Path) -> None:
    old = drivers.find(f"{toy}@1")
    assert (old.name, old.base, old.release) == ("toy@1", "toy", "1")
    assert old.stages == ("detect",)
    assert (old.boot.ready, old.boot.seconds) == ("=> ", 20)


def test_a_version_with_a_source_has_packages_of_its_own(toy: Path) -> None:
    old, new = drivers.find(f"{toy}@1"), drivers.find(f"{toy}@2")
    assert (old.needs, old.boot.firmware) == (("u-boot@1",), "{u-boot@1}")
    assert (new.needs, new.boot.firmware) == (("u-boot",), "{u-boot}")
    assert drivers.sources([old, new]) == {"u-boot@1": Source(suites=("bullseye",))}


def test_failures_are_known_in_their_versions_only(toy: Path) -> None:
    known = [[entry.check for entry in drivers.find(name).known] for name in (f"{toy}@1", f"{toy}@2", str(toy))]
    assert known == [["read/nlb"], ["read/exact"], ["read/exact"]]


def test_names_stand_for_versions(toy: Path) -> None:
    assert drivers.expand(str(toy)) == [str(toy)]
    assert drivers.expand(f"{toy}@*") == [f"{toy}@1", f"{toy}@2"]
    assert drivers.expand(f"{toy}@2..") == drivers.expand(f"{toy}@newest") == [f"{toy}@2"]
    assert drivers.expand("edk2@..2022.11") == ["edk2@2020.11", "edk2@2022.11"]


def test_a_version_that_is_not_there_is_answered_with_those_that_are(toy: Path) -> None:
    with pytest.raises(UsageError, match=r"has no version '3'.*there are: 1, 2"):
        drivers.expand(f"{toy}@3")
    with pytest.raises(UsageError, match="no table of versions"):
        drivers.expand("reference@1")
    with pytest.raises(UsageError, match="there is no version '3'"):
        drivers.find(f"{toy}@3")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('boot.ready = "=> "', 'boot.redy = "=> "', r"boot.redy: unknown key.*ready.*versions\.1"),
        ('stages = ["detect"]\n', 'adapter = "linux"\n', r"versions\.1\.adapter: this key is the same"),
        ('versions = "..1"', 'versions = "< 2"', r"known\.0\.versions: not a range of versions"),
        ('name = "toy"', 'name = "toy@2"', r"name: 'toy@2' names a version"),
        ('needs = ["u-boot"]', "", r"versions\.1\.source: needs names no recipe"),
        ('source.suites = ["bullseye"]', "source.suites = []", r"source\.suites: .*at least 1"),
    ],
)
def test_mistakes_are_named(toy: Path, old: str, new: str, message: str) -> None:
    toy.write_text(MANIFEST.replace(old, new))
    with pytest.raises(UsageError, match=message):
        load(toy, drivers.adapters(), "1")


def test_every_shipped_version_is_a_manifest_that_suits_its_adapter() -> None:
    names = [name for driver in drivers.names() for name in drivers.versions_of(driver)]
    assert {"edk2@2020.11", "u-boot@2025.01", "seabios@1.14", "linux@5.10", "qemu-vfio@5.2"} <= set(names)
    for name in names:
        manifest = drivers.find(name)
        assert manifest.name == name
        assert manifest.source is None or manifest.needs[0].endswith(f"@{manifest.release}")


# -- the toolchain --------------------------------------------------------------------------------------------------


def test_a_version_of_a_recipe_replaces_the_closure_of_the_driver_only() -> None:
    plain = recipe.load("linux")
    old = recipe.of_version(plain, "5.10", {"suites": ("bullseye",), "preload": ("virtio_pci",)})
    assert set(old.closures) == {"linux-kernel@5.10", "linux-tools"}
    assert old.closures["linux-kernel@5.10"].suites == ["bullseye"]
    assert old.closures["linux-kernel@5.10"].packages == plain.closures["linux-kernel"].packages
    assert old.closures["linux-tools"] == plain.closures["linux-tools"]
    assert old.image is not None
    assert plain.image is not None
    assert (old.image.kernel, old.image.preload, old.image.carried) == (
        "linux-kernel@5.10",
        ["virtio_pci"],
        plain.image.carried,
    )


def test_a_program_that_is_foreign_to_the_guest_has_versions_too() -> None:
    old = recipe.of_version(recipe.load("qemu-vfio"), "5.2", {"suites": ("bullseye",)})
    assert old.image is not None
    assert old.image.foreign == {"qemu-tools@5.2": ["/usr/bin/qemu-io"]}
    assert old.image.kernel == "linux-kernel"


SOURCES = {"u-boot@2021.01": Source(suites=("bullseye",))}


def test_a_suite_that_is_not_served_is_named_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Fetched:
        raise MirrorError("the repository has no Release file")

    monkeypatch.setattr(Closures, "fetch", refuse)
    with pytest.raises(LabError, match=r"u-boot@2021\.01 cannot be fetched, which is in Debian's bullseye") as failure:
        prepare(Settings(cache=tmp_path), ["u-boot@2021.01"], lambda _: None, SOURCES)
    assert "--snapshot" in failure.value.remedy


def test_what_has_no_versions_is_named() -> None:
    with pytest.raises(UsageError, match="no versions of 'qemu@7'"):
        prepare(Settings(), ["qemu@7"], lambda _: None, {"qemu@7": Source(suites=("sid",))})
