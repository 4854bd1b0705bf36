"""The files of a result: results.json and its schema; several results (shards) become one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from conformance.judging.coverage import coverage_entries
from conformance.judging.models import (
    FILE,
    SCHEMA,
    CoverageEntry,
    DriverEntry,
    LeftOut,
    Results,
    RunEntry,
    ShardEntry,
    VerdictEntry,
)
from conformance.judging.summary import severity, stage_index
from conformance.wire.decode import printable_lines
from lab.data.coverage import FILE as COVERAGE
from lab.errors import LabError, UsageError, describe_invalid
from lab.files import write_atomically

_OTHER_ESCAPE = re.compile(r'\\[^"/n]')
"""An escape of JSON that may stand for something unprintable."""


def schema() -> dict[str, Any]:
    """Return the JSON schema of results.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Results.model_json_schema(by_alias=True, mode="serialization"),
    }


def write(results: Results, folder: Path) -> Path:
    """Write results.json atomically; return its path."""
    path = folder / FILE
    try:
        write_atomically(path, results.model_dump_json(by_alias=True, indent=1) + "\n")
    except OSError as error:
        raise LabError(
            f"The results cannot be written to {path}: {error.strerror}.",
            remedy="free some space, or choose another folder with --out",
        ) from error
    return path


def read(path: Path) -> Results:
    """Read the results in a file, or in a folder that a run wrote; UsageError if there are none."""
    file = path / FILE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
        data = json.loads(text)
        if isinstance(data, dict) and data.get("schema") != SCHEMA:
            raise UsageError(f"{file}: results of schema {data.get('schema')!r}; this lab reads {SCHEMA}.")
        return _checked(Results.model_validate(data if _is_printable(text) else _printable(data)))
    except json.JSONDecodeError as error:
        raise UsageError(f"{file} is not JSON: {error}.", remedy="name the folder that nvme-lab run wrote") from error
    except OSError as error:
        raise UsageError(
            f"There are no results at {file}: {error.strerror}.", remedy="name the folder that nvme-lab run wrote"
        ) from error
    except ValidationError as error:
        raise UsageError(f"{file} holds no results: {describe_invalid(error.errors()[0])}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} holds no results: {error}.") from error


def _is_printable(text: str) -> bool:
    """Return whether no string of a JSON text can hold more than printable characters and ends of lines.

    So are nearly all results, and to look at a text once is quicker than to look at a million strings.
    """
    escapes = text.replace(r"\\", "")  # a backslash before another one begins no escape
    return text.replace("\n", "").isprintable() and not _OTHER_ESCAPE.search(escapes)


def _printable(value: Any) -> Any:
    """Return JSON without control characters: its writer must not control a terminal or a page that shows it."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, list):
        return [_printable(one) for one in value]
    return {printable_lines(key): _printable(one) for key, one in value.items()} if isinstance(value, dict) else value


def _checked(results: Results) -> Results:
    """Leave out parts of the lab's description that are not tables, as reports expect them. ValueError for a loose end."""
    for verdict in results.verdicts:
        if verdict.driver not in results.drivers:
            raise ValueError(f"verdicts: the driver {verdict.driver!r} is not among drivers")
    lab = results.lab
    for name in ("qemu", "host", "versions"):
        if not isinstance(lab.get(name), dict):
            lab.pop(name, None)
    if "versions" in lab:
        lab["versions"] = {name: facts for name, facts in lab["versions"].items() if isinstance(facts, dict)}
    return results


def merge(parts: Sequence[tuple[Path, Results]], folder: Path) -> Results:
    """Merge several results (shards) into one, its evidence relative to ``folder``.

    No verdict is lost and none counts twice: of two verdicts about the same, the worse one is kept.
    UsageError for shards that do not belong together.
    """
    if not parts:
        raise ValueError("nothing to merge")
    shards = _shards(parts)
    runs: dict[tuple[str, str, str], RunEntry] = {}
    verdicts: dict[tuple[str, str, str, str], VerdictEntry] = {}
    left_out: dict[tuple[str, str, str], LeftOut] = {}
    drivers: dict[str, DriverEntry] = {}
    for base, part in parts:
        moved = {run.key: run.model_copy(update={"evidence": _relative(base / run.evidence, folder)}) for run in part.runs}
        for verdict in part.verdicts:
            other = verdicts.get(verdict.key)
            if other is None or severity(verdict) < severity(other):
                verdicts[verdict.key] = verdict
                if (key := verdict.key[:3]) in moved:
                    runs[key] = moved[key]  # the evidence belongs to the verdict that is kept
        for key, run in moved.items():
            runs.setdefault(key, run)
        left_out |= {(entry.driver, entry.device, entry.scenario): entry for entry in part.left_out}
        for name, driver in part.drivers.items():
            drivers[name] = _joined(drivers[name], driver) if name in drivers else driver
    results = [part for _, part in parts]
    covered = any(part.coverage for part in results)
    lab = results[0].lab if len(results) == 1 else {**results[0].lab, "merged": [part.lab for part in results]}
    return Results(
        lab=lab,
        drivers=drivers,
        narrowed=any(part.narrowed for part in results),
        strict=any(part.strict for part in results),
        unfinished="; ".join(dict.fromkeys(part.unfinished for part in results if part.unfinished)),
        shards=shards,
        cover=list(dict.fromkeys(entry for part in results for entry in part.cover)),
        runs=list(runs.values()),
        left_out=[entry for key, entry in left_out.items() if key not in runs],
        verdicts=list(verdicts.values()),
        coverage=_coverage(list(runs.values()), list(verdicts.values()), results, folder) if covered else [],
    )


def _coverage(
    runs: Sequence[RunEntry], verdicts: Sequence[VerdictEntry], parts: Sequence[Results], folder: Path
) -> list[CoverageEntry]:
    """Return the coverage of all recordings together; that of a single result where its recordings are not at hand."""
    there = any((folder / run.evidence / COVERAGE).is_file() for run in runs)
    return coverage_entries(runs, folder, verdicts) if there else [entry for part in parts[:1] for entry in part.coverage]


def _shards(parts: Sequence[tuple[Path, Results]]) -> list[ShardEntry]:
    """Return all shards among the parts, each once."""
    found: dict[int, ShardEntry] = {}
    for path, part in parts:
        for shard in part.shards:
            first = next(iter(found.values()), shard)
            if (shard.of, shard.split) != (first.of, first.split):
                raise UsageError(
                    f"{path}: shard {shard.number}/{shard.of} is of another split than shard {first.number}/{first.of}.",
                    remedy="give every shard the same selection, seed, --times file, version of the lab and QEMU",
                )
            found[shard.number] = shard
    if found and not all(part.shards for _, part in parts):
        raise UsageError("Shards and whole results cannot be merged.", remedy="name only the shards of one campaign")
    return [found[number] for number in sorted(found)]


def _joined(one: DriverEntry, other: DriverEntry) -> DriverEntry:
    known = {(entry.check, entry.reason): entry for entry in (*one.known, *other.known)}
    joined = {name: _union(getattr(one, name), getattr(other, name)) for name in ("stages", "profiles", "asked")}
    versions = dict.fromkeys(version for version in (one.version, other.version) if version)
    return one.model_copy(update={**joined, "known": list(known.values()), "version": ", ".join(versions)})


def _union(*lists: Iterable[str]) -> list[str]:
    return sorted({name for names in lists for name in names}, key=stage_index)


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.absolute(), folder.absolute())
