"""Imports point down the declared layers, and what judges reaches for nothing that acts. Type-only imports count."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "lab.errors",
        "lab.files",
        "lab.log",
        "lab.version",
        "lab.deadline",
        "lab.confinement",
        "lab.architectures",
        "lab.nvme",
    ),
    ("images", "lab.extensions", "lab.settings", "lab.data", "lab.reference", "lab.passthrough"),
    ("lab.controller", "lab.coverage", "lab.trace", "lab.defects", "lab.variants", "lab.toolchain"),
    ("lab.guest",),
    ("lab.device",),
    ("lab.drivers", "lab.differential"),
    ("lab.recording", "lab.trials", "lab.bench", "lab.testing"),
    ("conformance.record",),
    ("conformance.suite", "conformance.wire"),
    ("conformance.judging",),
    ("conformance.report",),
    ("conformance.run",),
    ("conformance.onboarding", "conformance.proof"),
    ("conformance.discovery",),
    ("conformance.commands",),
    ("conformance.cli", "conformance.plugin", "conformance.api"),
)
"""From the ground up: a room imports rooms of lower layers, or of its own where that makes no circle."""

JUDGING = ("conformance.record", "conformance.suite", "conformance.judging", "conformance.wire", "conformance.report")
"""Pure rooms: they read evidence and start nothing."""
PURE = ("lab.errors", "lab.files", "lab.architectures", "lab.nvme", "lab.data", "lab.extensions")
"""What pure rooms may import of the lab."""

PACKAGES = ("lab", "conformance", "images")
RUNS_IN_GUESTS = ("lab/nvme", "lab/reference", "lab/passthrough", "lab/drivers/linux_agent")
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room(module: str) -> str:
    """Return the room of a module: lab.guest.ssh → lab.guest, images.cpio → images."""
    names = module.split(".")
    return names[0] if names[0] == "images" else ".".join(names[:2])


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            bare = node.module in PACKAGES
            yield from (f"{node.module}.{alias.name}" if bare else node.module for alias in node.names)


@cache
def edges() -> set[tuple[str, str]]:
    """Return all pairs (importing room, imported room) of the project."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            importer = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found |= {(importer, room(name)) for name in imports(path) if name.split(".")[0] in PACKAGES}
    roots = {f"{package}.__init__" for package in PACKAGES}
    return {(importer, imported) for importer, imported in found if importer != imported and importer not in roots}


def reachable(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    """Return the rooms that `start` imports, directly or through others."""
    found: set[str] = set()
    pending = [start]
    while pending:
        current = pending.pop()
        new = {imported for importer, imported in arrows if importer == current} - found
        found |= new
        pending += new
    return found


def test_every_room_has_a_layer() -> None:
    assert {name for edge in edges() for name in edge} <= LEVEL.keys()


def test_every_import_names_a_module_that_exists() -> None:
    for package in (*PACKAGES, "tests"):
        for path in (ROOT / package).rglob("*.py"):
            for name in imports(path):
                place = ROOT.joinpath(*name.split("."))
                ours = name.split(".")[0] in PACKAGES and name not in PACKAGES
                assert not ours or place.is_dir() or place.with_suffix(".py").is_file(), (
                    f"{path.relative_to(ROOT)} imports {name}"
                )


def test_the_architecture_page_describes_every_folder_and_no_other() -> None:
    _, _, page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Rooms of the lab")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    described = {name.replace("/", ".") for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    assert described == {name for name in LEVEL if ROOT.joinpath(*name.split(".")).is_dir()}


def test_the_architecture_page_names_the_rooms_that_only_import_below_them() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    flow = [line for line in page.splitlines() if re.match(r"\| \d\. ", line)]
    named = {name.replace("/", ".") for line in flow for name in re.findall(r"`([\w/]+)`", line)}
    assert named <= LEVEL.keys()


@pytest.mark.parametrize("name", LEVEL)
def test_imports_point_down(name: str) -> None:
    arrows = edges()
    assert not sorted(imported for importer, imported in arrows if importer == name and LEVEL[imported] > LEVEL[name])
    assert name not in reachable(name, arrows), f"{name} imports itself through other rooms"


def test_no_module_of_the_suite_stands_outside_a_room() -> None:
    assert {path.name for path in (ROOT / "conformance").glob("*.py")} == {"__init__.py", "api.py", "cli.py", "plugin.py"}


def test_the_sample_package_uses_only_the_public_names() -> None:
    for path in (ROOT / "tests/sample_package").rglob("*.py"):
        ours = {name for name in imports(path) if name.split(".")[0] in PACKAGES}
        assert ours <= {"conformance.api"}, path


def test_the_lab_never_imports_the_suite() -> None:
    assert not sorted(edge for edge in edges() if not edge[0].startswith("conformance") and edge[1].startswith("conformance"))


def test_what_judges_reads_evidence_and_nothing_that_acts() -> None:
    allowed = {*JUDGING, *PURE}
    assert not sorted(edge for edge in edges() if edge[0] in JUDGING and edge[1] not in allowed)


@pytest.mark.parametrize("folder", RUNS_IN_GUESTS)
def test_what_runs_in_guests_needs_the_standard_library_only(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            ours = name.startswith(("lab.nvme", folder.replace("/", ".")))
            assert ours or name.split(".")[0] in sys.stdlib_module_names, f"{path.relative_to(ROOT)} imports {name}"


def test_images_need_nothing_of_the_lab_but_its_errors() -> None:
    assert {imported for importer, imported in edges() if importer == "images"} == {"lab.errors"}
