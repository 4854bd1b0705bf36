"""Whatever a closure lacks is found when it is unpacked, and named."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from images import recipe
from images.recipe import Closure
from lab.errors import LabError
from lab.settings import Settings
from lab.toolchain import Toolchain, contents
from lab.toolchain.closures import Closures
from lab.toolchain.contents import Contents

CLOSURE = Closure(suites=["stable"], packages=["program"], base=["libc.so.6", "ld-linux-x86-64.so.2"], files=["usr/bin/*"])
SHIPPED = {name: closure for file in recipe.names() for name, closure in recipe.load(file).closures.items()}


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Return a program and a private library, as if two packages had been unpacked."""
    library, program = tmp_path / "usr/lib/own/libown.so.1", tmp_path / "usr/bin/program"
    for file in (library, program):
        file.parent.mkdir(parents=True)
    compile_c("int own(void) { return 42; }", library, "-shared", "-Wl,-soname,libown.so.1")
    compile_c("int own(void); int main(void) { return own(); }", program, str(library), "-Wl,-rpath,$ORIGIN/../lib/own")
    return tmp_path


def compile_c(source: str, output: Path, *options: str) -> None:
    subprocess.run(["gcc", "-x", "c", "-", "-x", "none", *options, "-o", output], input=source, text=True, check=True)


def inspected(root: Path, controls: Mapping[str, str] | None = None) -> Contents:
    files = {"program": ["usr/bin/program"], "libown": ["usr/lib/own/libown.so.1"]}
    return contents.inspect(root, files, controls or {"program": "Depends: libown (>= 1)\n", "libown": ""})


def test_a_whole_closure_has_no_problems(unpacked: Path) -> None:
    found = inspected(unpacked)
    assert list(contents.problems(CLOSURE, found)) == []
    assert found.programs["usr/bin/program"].needed == ["libown.so.1", "libc.so.6", "ld-linux-x86-64.so.2"]
    assert "usr/lib/own" in found.library_folders


def test_a_library_that_is_not_there_is_named_with_the_file_that_needs_it(unpacked: Path) -> None:
    (unpacked / "usr/lib/own/libown.so.1").unlink()
    with pytest.raises(LabError, match=r"packages of some are not complete: usr/bin/program needs the library libown\.so\.1"):
        contents.prove("some", CLOSURE, inspected(unpacked))


def test_a_library_where_no_loader_would_look_does_not_count(unpacked: Path) -> None:
    elsewhere = unpacked / "opt/libown.so.1"
    elsewhere.parent.mkdir()
    shutil.move(unpacked / "usr/lib/own/libown.so.1", elsewhere)
    files = {"program": ["usr/bin/program"], "libown": ["opt/libown.so.1"]}
    found = contents.inspect(unpacked, files, {"program": "", "libown": ""})
    assert list(contents.problems(CLOSURE, found)) == ["usr/bin/program needs the library libown.so.1"]


def test_a_library_outside_the_declared_base_is_a_problem(unpacked: Path) -> None:
    closure = CLOSURE.model_copy(update={"base": ["ld-linux-x86-64.so.2"]})
    lacks = list(contents.problems(closure, inspected(unpacked)))
    assert "usr/bin/program needs the library libc.so.6" in lacks


def test_a_link_to_nowhere_is_no_library(unpacked: Path) -> None:
    library = unpacked / "usr/lib/own/libown.so.1"
    library.unlink()
    library.symlink_to("/etc/alternatives/libown.so.1")
    assert "usr/bin/program needs the library libown.so.1" in contents.problems(CLOSURE, inspected(unpacked))


def test_a_file_that_the_recipe_names_must_be_there(unpacked: Path) -> None:
    closure = CLOSURE.model_copy(update={"files": ["usr/bin/program", "usr/share/*/firmware.bin"]})
    assert list(contents.problems(closure, inspected(unpacked))) == ["usr/share/*/firmware.bin is in none of them"]


@pytest.mark.parametrize(
    ("depends", "drop", "lacks"),
    [
        ("other", [], ["program depends on other"]),
        ("other | another", [], ["program depends on other or another"]),
        ("other | libown", [], []),
        ("virtual", [], []),
        ("other", ["oth*"], []),
        ("other | another", ["another"], []),
    ],
)
def test_what_a_package_depends_on_is_there_or_left_out_on_purpose(
    unpacked: Path, depends: str, drop: list[str], lacks: list[str]
) -> None:
    found = inspected(unpacked, {"program": f"Depends: libown,\n {depends}\n", "libown": "Provides: virtual (= 1)\n"})
    assert list(contents.problems(CLOSURE.model_copy(update={"drop": drop}), found)) == lacks


def test_what_was_asked_for_is_there(unpacked: Path) -> None:
    closure = CLOSURE.model_copy(update={"packages": ["program", "second"]})
    assert list(contents.problems(closure, inspected(unpacked))) == ["the package second is not among them"]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_package_can_be_taken_out_of_a_shipped_closure_unnoticed(name: str, toolchain: Toolchain) -> None:
    assert toolchain.cache is not None
    fetched = Closures(Settings(cache=toolchain.cache.root), toolchain.cache, print).fetch(name, SHIPPED[name])
    found = contents.read(fetched.root)
    assert list(contents.problems(SHIPPED[name], found)) == []
    unnoticed = [package for package in found.packages if not any(contents.problems(SHIPPED[name], found.without(package)))]
    assert unnoticed == []


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_that_a_recipe_asks_for_can_be_forgotten_unnoticed(name: str, toolchain: Toolchain) -> None:
    """Without one of the requested packages, and without what only it depends on, a file is missing that the recipe names."""
    assert toolchain.cache is not None
    closure = SHIPPED[name]
    found = contents.read(Closures(Settings(cache=toolchain.cache.root), toolchain.cache, print).fetch(name, closure).root)
    for forgotten in closure.packages:
        if contents.kept(closure, forgotten):
            left = reachable(found, [package for package in closure.packages if package != forgotten])
            smaller = found
            for package in set(found.packages) - left:
                smaller = smaller.without(package)
            request = closure.model_copy(update={"packages": [p for p in closure.packages if p != forgotten]})
            assert any(contents.problems(request, smaller)), f"{name} has no file that only {forgotten} brings"


def reachable(found: Contents, names: list[str]) -> set[str]:
    """Return the packages on which these depend, directly or not, and they themselves."""
    waiting, seen = [name for name in names if name in found.packages], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [a for group in found.packages[name].depends for a in group if a in found.packages]
    return seen
