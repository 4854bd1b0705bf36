"""What a sweep has found so far: a line a trial, on the disk before the next one, so that a kill loses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ValidationError

from conformance.discovery.oracles import Failure
from conformance.discovery.trial import Tried
from lab.errors import LabError, UsageError, describe_invalid

FILE = "journal.jsonl"


class Entry(BaseModel):
    """What came of one trial."""

    case: str
    failures: list[Failure] = []
    where: str = ""
    error: str = ""
    seconds: float = 0.0
    """0: no trial of its own, but the mark that all pairs of a case were tried."""

    @classmethod
    def of(cls, case: str, tried: Tried) -> Entry:
        """Return the entry of a trial."""
        seconds = max(round(tried.seconds, 3), 0.001)
        return cls(case=case, failures=list(tried.failures), where=tried.where, error=tried.error, seconds=seconds)


class SweepJournal:
    """The trials of a folder. Only the names of those that found nothing are held in memory."""

    def __init__(self, folder: Path) -> None:
        """Open or create the journal, and load what it has. UsageError for a file that is none."""
        self.path = folder / FILE
        self.done: set[str] = set()
        self.bad: list[Entry] = []
        """Trials in which something failed, or that could not be judged."""
        self.seconds = 0.0
        self.count = 0
        """How many trials there are."""
        for entry in self._entries():
            self._keep(entry)
        self._file = self.path.open("ab")

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Keep a trial. LabError if it cannot be written."""
        self._keep(entry)
        try:
            self._file.write(entry.model_dump_json(exclude_defaults=True).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise LabError(f"{self.path} cannot be written: {error.strerror}.", remedy="free some space") from error

    def _keep(self, entry: Entry) -> None:
        self.done.add(entry.case)
        self.seconds += entry.seconds
        self.count += entry.seconds > 0
        if entry.failures or entry.error:
            self.bad.append(entry)

    def _entries(self) -> Iterator[Entry]:
        """Yield what the file has; a last line that was cut off is removed."""
        if not self.path.exists():
            return
        end = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield Entry.model_validate(json.loads(line))
                except ValidationError as error:
                    what = describe_invalid(error.errors()[0])
                    raise UsageError(f"{self.path}:{number}: not an entry of a journal: {what}.") from error
                except ValueError as error:
                    raise UsageError(f"{self.path}:{number}: not an entry of a journal: {error}.") from error
                end += len(line)
        os.truncate(self.path, end)
