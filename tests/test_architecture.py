"""Imports point one way, and what judges reaches for nothing that acts."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    {"lab.errors", "lab.deadline", "lab.nvme"},
    {"lab.extensions"},
    {"lab.events", "lab.plan", "lab.settings", "lab.manifest", "lab.reference"},
    {"lab.content", "lab.profile", "lab.stream", "images"},
    {"lab.mix"},
    {"lab.evidence", "lab.mix", "lab.toolchain"},
    {"lab.controller", "lab.trace", "lab.guest", "lab.defects"},
    {"lab.device"},
    {"lab.drivers"},
    {"lab.in_process", "lab.live", "lab.bench", "lab.differential"},
    {"lab.recorder", "lab.behaviours"},
)
"""From the ground up: a part imports parts of lower layers only."""

JUDGING = {
    "conformance.citations", "conformance.check", "conformance.record", "conformance.disk", "conformance.scenario",
    "conformance.rules", "conformance.stages", "conformance.suite", "conformance.judge", "conformance.measure",
    "conformance.shadow", "conformance.memory",
}  # fmt: skip
WHAT_JUDGES_READ = {
    "lab.errors", "lab.nvme", "lab.events", "lab.plan", "lab.evidence", "lab.manifest", "lab.profile", "lab.content",
    "lab.mix", "lab.extensions", "lab.stream",
}  # fmt: skip

OURS = ("lab", "conformance", "images")
RUNS_IN_GUESTS = ("lab/nvme", "lab/reference")


def part(module: str) -> str:
    """The part of the project that a module belongs to: lab.guest.ssh → lab.guest, images.cpio → images."""
    names = module.split(".")
    return names[0] if names[0] == "images" else ".".join(names[:2])


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            bare = node.module in OURS
            yield from (f"{node.module}.{alias.name}" if bare else node.module for alias in node.names)


def edges() -> set[tuple[str, str]]:
    """(importing part, imported part), ours only."""
    found = set()
    for root in OURS:
        for path in (ROOT / root).rglob("*.py"):
            importer = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found |= {(importer, part(name)) for name in imports(path) if name.split(".")[0] in OURS}
    return {(importer, imported) for importer, imported in found if importer != imported}


def test_every_part_of_the_lab_has_its_layer() -> None:
    known = set().union(*LAYERS)
    assert {p for edge in edges() for p in edge if not p.startswith("conformance")} <= known


@pytest.mark.parametrize("level", range(len(LAYERS)))
def test_imports_point_down(level: int) -> None:
    lower = set().union(*LAYERS[:level])
    wrong = sorted((a, b) for a, b in edges() if a in LAYERS[level] and b not in lower)
    assert not wrong


def test_the_lab_never_imports_the_suite() -> None:
    assert not sorted((a, b) for a, b in edges() if not a.startswith("conformance") and b.startswith("conformance"))


def test_what_judges_reads_evidence_and_nothing_that_acts() -> None:
    allowed = WHAT_JUDGES_READ | JUDGING
    assert not sorted((a, b) for a, b in edges() if a in JUDGING and b not in allowed)


@pytest.mark.parametrize("folder", RUNS_IN_GUESTS)
def test_what_runs_in_guests_needs_the_standard_library_only(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            ours = part(name) in ("lab.nvme", "lab.reference")
            assert ours or name.split(".")[0] in sys.stdlib_module_names, f"{path.relative_to(ROOT)} imports {name}"
