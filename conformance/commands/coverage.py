"""``nvme-lab coverage``: which code of its drivers a run has executed, for people and for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import click

from conformance.judging.coverage import ALL_DEVICES, covered_objects
from conformance.judging.files import read
from conformance.judging.models import Results
from conformance.report.coverage import cobertura, lcov, listing, source_name, text
from conformance.wire.decode import printable_lines
from lab.errors import UsageError

REMEDY = "record it with nvme-lab run --coverage"


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "json", "lcov", "cobertura"]), default="text", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="a file instead of the terminal; with lcov and cobertura the listings of their line numbers are written beside it",
)  # fmt: skip
@click.option("--device", default=ALL_DEVICES, metavar="NAME", help="for lcov and cobertura: this device's [default: all]")
def coverage(result: Path, form: str, output: Path | None, device: str) -> int:
    """Tell which code of its drivers a run has executed. RESULT: a folder that nvme-lab run --coverage wrote.

    \b
    nvme-lab coverage nvme-lab-results/latest
    nvme-lab coverage nvme-lab-results/latest --format lcov -o coverage/linux.info
    """
    results, folder = read(result), result if result.is_dir() else result.parent
    if not results.coverage:
        raise UsageError(f"{result} holds no coverage.", remedy=REMEDY)
    if form in ("lcov", "cobertura"):
        content = _export(results, folder, form, device, output)
    elif form == "json":
        content = json.dumps([entry.model_dump() for entry in results.coverage], indent=1)
    else:
        content = printable_lines(text(results.coverage))
    if output is None:
        click.echo(content.rstrip())
    else:
        _write(output, content.rstrip() + "\n")
    return 0


def _export(results: Results, folder: Path, form: str, device: str, output: Path | None) -> str:
    """Return the export; write the listings beside ``output``."""
    objects, reasons = covered_objects(results.runs, folder)
    joined = {(one.driver, one.name, one.sha256) for one in objects if one.device == ALL_DEVICES}
    chosen = [
        one
        for one in objects
        if one.device == device or (device == ALL_DEVICES and (one.driver, one.name, one.sha256) not in joined)
    ]
    if not chosen:
        why = "; ".join(reasons.values()) or f"the recordings of the device {device!r} are not there, or have none"
        raise UsageError(f"{folder} holds no coverage to export: {why}.", remedy=REMEDY)
    for one in chosen if output else ():
        assert output is not None
        if not one.sources or form == "cobertura":
            _write(output.parent / source_name(one), listing(one))
    return lcov(chosen) if form == "lcov" else cobertura(chosen)


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
