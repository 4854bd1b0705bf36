"""The scenario files of docs/findings: what they ask for is no driver's duty alone, for the reference driver passes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.discovery.trial import attempt, reference_bench
from conformance.run.scenario_files import load_scenario

FINDINGS = Path(__file__).parents[2] / "docs" / "findings"
FILES = sorted((FINDINGS / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_reference_driver_passes_what_another_one_fails(file: Path) -> None:
    tried = attempt(reference_bench(), load_scenario(file))
    assert not tried.error
    assert not tried.failures


def test_each_page_names_scenarios_that_there_are_and_each_scenario_has_a_page() -> None:
    pages = " ".join(page.read_text(encoding="utf-8") for page in FINDINGS.glob("*.md"))
    assert all(f"docs/findings/scenarios/{file.name}" in pages for file in FILES)
    assert pages.count("docs/findings/scenarios/") == sum(pages.count(f"docs/findings/scenarios/{file.name}") for file in FILES)
