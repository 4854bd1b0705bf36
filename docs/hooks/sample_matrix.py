"""The sample of ``nvme-lab matrix`` in the documentation, of real results that are kept small.

A matrix needs no more of a result than the worst verdict of each check on each device. To keep another one, of one driver:

    python -m docs.hooks.sample_matrix NAME RESULT DRIVER
"""

from __future__ import annotations

import lzma
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # MkDocs runs hooks as files

from conformance.judging.files import read
from conformance.judging.models import Cite, DriverEntry, Results, VerdictEntry
from conformance.judging.summary import worst_per_device
from conformance.report.matrix import site

KEPT = Path(__file__).with_name("results")
SUFFIX = ".json.xz"
NOWHERE = Cite(revision="", section="", title="")


def small(results: Results, driver: str) -> Results:
    """Return what a matrix shows of a driver in a result: who it is, and the worst verdict of each check on each device."""
    verdicts = [
        VerdictEntry(
            driver=found.driver, device=found.device, scenario="", stage=found.stage, check=found.check, level=found.level,
            outcome=found.outcome, because=found.because, unused=found.unused, known=found.known and "known", cite=NOWHERE,
            witnesses=found.witnesses,
        )
        for found in worst_per_device([verdict for verdict in results.verdicts if verdict.driver == driver]).values()
    ]  # fmt: skip
    entry = results.drivers[driver]
    drivers = {driver: DriverEntry(stages=entry.stages, profiles=entry.profiles, asked=entry.asked, version=entry.version)}
    lab = {"version": results.lab.get("version", "")}
    return Results(lab=lab, drivers=drivers, verdicts=verdicts, narrowed=results.narrowed, strict=results.strict)


def keep(name: str, result: Path, driver: str) -> Path:
    """Write a driver's result as it is kept here; return the file."""
    KEPT.mkdir(exist_ok=True)
    file = KEPT / f"{name}{SUFFIX}"
    text = small(read(result), driver).model_dump_json(exclude_defaults=True, by_alias=True)
    file.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    return file


def kept() -> Iterator[tuple[str, Results]]:
    """Yield the results that are kept, with their names."""
    for file in sorted(KEPT.glob(f"*{SUFFIX}")):
        yield file.name.removesuffix(SUFFIX), Results.model_validate_json(lzma.decompress(file.read_bytes()))


def files() -> dict[str, str]:
    """Return the files of the sample: path → text."""
    return site(list(kept()))


if __name__ == "__main__":
    print(keep(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
