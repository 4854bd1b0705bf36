"""Each published finding stands on a section of a specification, and each known failure has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance.suite.check import MANDATORY
from conformance.suite.citations import BASE_2_0, NVM_1_0, PCIE_1_0
from conformance.suite.selection import CHECKS
from lab import drivers

FOLDER = Path(__file__).parents[2] / "docs" / "findings"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
DOCUMENT = r"(?:Base 2\.0|NVM Command Set 1\.0|NVMe over PCIe Transport 1\.0|PCIe Transport 1\.0|PCIe 1\.0|PCI Express Base)"
CITED = re.compile(rf"({DOCUMENT}), ([0-9A-Z]+(?:\.\d+)+) [“\"]([^”\"]+)[”\"]")
"""A document, a section of it, and that section's title."""
DOCUMENTS = {
    "Base 2.0": BASE_2_0, "NVM Command Set 1.0": NVM_1_0,
    "NVMe over PCIe Transport 1.0": PCIE_1_0, "PCIe Transport 1.0": PCIE_1_0,
}  # fmt: skip
CHECK = re.compile(r"\b([a-z-]+/[a-z0-9-]+)\b")
NAMED = re.compile(r"docs/findings/([a-z0-9-]+\.md)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_finding_quotes_a_document_a_section_and_its_title(page: Path) -> None:
    found = CITED.findall(" ".join(page.read_text(encoding="utf-8").split()))
    assert found, "which sentence of which specification?"
    for document, section, title in found:
        assert document not in DOCUMENTS or DOCUMENTS[document][section].title == title


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_finding_says_whose_it_is_and_which_check_finds_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\*\*(Drivers?|Device)\*\*", text)
    assert any(name in CHECKS for name in CHECK.findall(text)) or "no check fails" in text


@pytest.mark.parametrize("name", sorted({name.partition("@")[0] for name in drivers.names()}))
def test_a_known_failure_names_pages_that_are_there(name: str) -> None:
    for entry in drivers.find(name).known:
        assert entry.check in CHECKS
        pages = NAMED.findall(entry.reason)
        assert pages, f"{name}: {entry.check}: the reason names no page of docs/findings"
        assert CHECKS[entry.check].level == MANDATORY, f"{name}: {entry.check} is a warning, which needs no entry"
        named = "".join((FOLDER / page).read_text(encoding="utf-8") for page in pages)
        assert entry.check in CHECK.findall(named), f"{name}: {', '.join(pages)} does not name {entry.check}"
