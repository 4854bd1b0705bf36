"""Pages that are made of the code say what the code says."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from conformance.commands import nvme_lab

DOCS = Path(__file__).parents[2] / "docs"


def test_the_check_reference_is_that_of_the_checks(tmp_path: Path) -> None:
    written = tmp_path / "checks.md"
    done = CliRunner().invoke(nvme_lab, ["list", "checks", "--write", str(written)])
    assert done.exit_code == 0, done.output
    assert written.read_text() == (DOCS / "checks.md").read_text(), "nvme-lab list checks --write docs/checks.md"
