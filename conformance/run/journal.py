"""The journal of a run: what was judged so far, so that a kill, a crash or a reboot loses nothing.

journal.jsonl   one line per report of a scenario, on the disk before the next one; a later line replaces an earlier one of
                the same scenario, and a line with ``dropped`` removes it

A last line that was cut off is ignored, and overwritten when the run is resumed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from conformance.judging.models import RunEntry, VerdictEntry
from conformance.run.folders import JOURNAL
from conformance.run.plan import Job
from conformance.run.scenario_report import ScenarioReport
from conformance.suite.check import Outcome
from lab.errors import LabError, UsageError, describe_invalid


class Journal:
    """The reports of a run, in memory and in a file. LabError if the file cannot be written.

    Opening the journal of a folder that has one loads it.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the journal in a run's folder, and load what it has. LabError if it cannot be written."""
        self.path = folder / JOURNAL
        self.runs: dict[str, RunEntry] = {}
        """driver/device/scenario → its recording."""
        self.verdicts: dict[str, dict[str, VerdictEntry]] = {}
        """driver/device/scenario → check → its verdict."""
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = self._load()

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def add(self, report: ScenarioReport) -> None:
        """Keep a report."""
        self._keep(report)
        self._append(report.model_dump_json(by_alias=True))

    def drop(self, name: str) -> None:
        """Forget what was reported of a scenario."""
        self._forget(name)
        self._append(json.dumps({"dropped": name}))

    def is_complete(self, job: Job, folder: Path) -> bool:
        """Return whether a scenario needs no recording: every check was judged without error, and the evidence is there."""
        judged, run = self.verdicts.get(job.name, {}), self.runs.get(job.name)
        return (
            run is not None
            and set(job.checks) <= judged.keys()
            and all(verdict.outcome is not Outcome.ERROR for verdict in judged.values())
            and (folder / run.evidence / "end.json").is_file()
        )

    def forget_incomplete(self, jobs: Mapping[str, Job], folder: Path) -> None:
        """Forget scenarios that are recorded again."""
        for name in list(self.verdicts):
            if name not in jobs or not self.is_complete(jobs[name], folder):
                self.drop(name)

    def _keep(self, report: ScenarioReport) -> None:
        if report.run:
            self.runs[report.name] = report.run
        self.verdicts.setdefault(report.name, {}).update({verdict.check: verdict for verdict in report.verdicts})

    def _forget(self, name: str) -> None:
        self.verdicts.pop(name, None)
        self.runs.pop(name, None)

    def _load(self) -> int:
        """Read the file; return where its last whole line ends."""
        end = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    if isinstance(entry, dict) and "dropped" in entry:
                        self._forget(str(entry["dropped"]))
                    else:
                        self._keep(ScenarioReport.model_validate(entry))
                except ValidationError as error:
                    what = describe_invalid(error.errors()[0])
                    raise UsageError(f"{self.path}:{number}: not an entry of a journal: {what}.") from error
                except ValueError as error:
                    raise UsageError(f"{self.path}:{number}: not an entry of a journal: {error}.") from error
                end += len(line)
        return end

    def _append(self, text: str) -> None:
        data = text.encode() + b"\n"
        try:
            if os.pwrite(self._file, data, self._end) != len(data):
                raise OSError(28, "No space left on device")
            os.ftruncate(self._file, self._end + len(data))
            os.fdatasync(self._file)
        except OSError as error:
            raise LabError(
                f"The journal {self.path} cannot be written: {error.strerror}.",
                remedy="free some space, or choose another folder with --out",
            ) from error
        self._end += len(data)
