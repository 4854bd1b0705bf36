"""Citations name a document, a section and a title, and nothing is cited from memory."""

from __future__ import annotations

import re

import pytest

from conformance.suite.check import Check
from conformance.suite.citations import BASE_2_0, NVM_1_0, PCIE_1_0
from conformance.suite.selection import CHECKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
def test_a_citation_names_a_section_that_was_read(check: Check) -> None:
    assert "?" not in f"{check.cite.section} {check.cite.title}"
    assert check.cite.section == "-" or re.fullmatch(r"[0-9A-Z]+(\.\d+)*", check.cite.section)
    assert check.cite.title
    assert check.cite.revision


@pytest.mark.parametrize("document", [BASE_2_0, NVM_1_0, PCIE_1_0], ids=["base", "nvm", "pcie"])
def test_every_cited_section_is_used(document: dict[str, object]) -> None:
    used = {str(check.cite) for check in CHECKS.values()}
    unused = sorted(section for section, cite in document.items() if str(cite) not in used)
    assert not unused, f"delete what no check cites: {unused}"
