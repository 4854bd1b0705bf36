"""A sweep: every behaviour at every place of some scenarios, then pairs; what fails is seen twice, grouped and kept."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from conformance.discovery.cases import Case, Followed, followed, following, prepared, select, singles
from conformance.discovery.groups import Control, Group, grouped, joined
from conformance.discovery.journal import Entry, SweepJournal
from conformance.discovery.oracles import Failure
from conformance.discovery.places import places
from conformance.discovery.pool import Workers, workers
from conformance.discovery.trial import REFERENCE, Bench, Tried, attempt, reference_bench
from lab import drivers
from lab.data.events import Event
from lab.data.plan import Scenario
from lab.data.scenario_file import scenario_toml
from lab.errors import LabError
from lab.files import write_atomically

REPORT = "sweep.json"
FINDINGS = "findings"
MOST_KEPT = 50
"""Groups whose evidence is kept."""

Calm: TypeAlias = tuple[Scenario, tuple[Event, ...]]


class SweepRequest(BaseModel):
    """What a sweep was asked for."""

    model_config = ConfigDict(frozen=True)

    driver: str
    device: str
    scenarios: tuple[str, ...]
    behaviours: tuple[str, ...] = ()
    pairs: int = 0
    limit: int | None = None
    seed: int = 0
    defect: str = ""
    recovery: bool = True
    """Whether the driver is unloaded and loaded again at the end."""
    shard: tuple[int, int] = (1, 1)
    version: str = ""
    manifest: str = ""
    """The digest of the manifest: with another one the sweep does not go on."""


class SweepReport(BaseModel):
    """The format of sweep.json."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    request: SweepRequest
    total: int = 0
    done: int = 0
    seconds: float = 0.0
    """Of all trials together; several run at once."""
    elapsed: float = 0.0
    errors: dict[str, int] = {}
    """Why trials could not be judged, and how many."""
    ignored: list[str] = []
    """Checks that fail without any fault too."""
    groups: list[Group] = []
    unfinished: str = ""


class Display(Protocol):
    """What follows a sweep."""

    def began(self, total: int, done: int) -> None:
        """Follow so many trials, of which some are done already."""

    def tried(self, count: int) -> None:
        """Count so many trials that have ended."""

    def found(self, group: Group) -> None:
        """Show a new group, whose first case was tried once more."""


@dataclass(frozen=True)
class Retrial:
    """A case that could not be judged, once more and alone on this machine."""

    case: Case


@dataclass(frozen=True)
class Confirmation:
    """The first case of a group, which is tried once more with its evidence kept in ``folder``."""

    case: Case
    key: tuple[str, str, str, str]
    folder: Path


@dataclass
class Setting:
    """What each process knows of a sweep: bench, calm recordings by scenario, checks that fail without a fault."""

    bench: Bench
    calms: Mapping[str, Calm]
    ignored: frozenset[str]
    request: SweepRequest


Piece: TypeAlias = Case | Followed | Retrial | Confirmation
Judged: TypeAlias = tuple[Case, Entry]


@dataclass
class Sweep:
    """One sweep in a folder. ``minutes`` bounds its time."""

    request: SweepRequest
    bench: Bench
    scenarios: Sequence[Scenario]
    out: Path
    jobs: int
    display: Display
    minutes: float | None = None
    report: SweepReport = field(init=False)
    _confirmed: dict[tuple[str, str, str, str], Group] = field(init=False, default_factory=dict)

    def run(self) -> SweepReport:
        """Sweep; what the folder holds already is not tried again. An interrupted sweep has written what it found."""
        began = time.monotonic()
        self.report = SweepReport(request=self.request)
        self._confirmed = {group.key: group for group in read_report(self.out).groups} if (self.out / REPORT).exists() else {}
        setting = self._setting()
        self.report.ignored = sorted(setting.ignored)
        cases = self._cases(setting)
        with SweepJournal(self.out) as journal:
            self.report.total = sum(case.count if isinstance(case, Followed) else 1 for case in cases)
            self._write(journal)
            self.display.began(self.report.total, journal.count)
            try:
                self._try_all(cases, setting, journal, began)
            except BaseException as error:
                self.report.unfinished = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
                raise
            finally:
                self.report.elapsed = time.monotonic() - began
                self._write(journal)
        return self.report

    def _setting(self) -> Setting:
        """Record each scenario without a fault of ours. LabError where one cannot be recorded."""
        known = drivers.adapter(self.bench.driver, self.bench.toolchain).actions
        actions = known if self.request.recovery else frozenset[str]()
        calms, ignored = dict[str, Calm](), set[str]()
        for scenario in self.scenarios:
            ready = prepared(scenario, actions)
            tried = attempt(self.bench, ready, events=True)
            if tried.error:
                raise LabError(f"{scenario.id} cannot be recorded without faults: {tried.error}")
            calms[scenario.id] = ready, tried.events
            ignored |= {failure.check for failure in tried.failures}
        return Setting(self.bench, calms, frozenset(ignored), self.request)

    def _cases(self, setting: Setting) -> list[Case | Followed]:
        """Return the single faults, then the pairs."""
        request = self.request
        alone = [
            case
            for scenario, events in setting.calms.values()
            for case in singles(scenario, places(events, scenario.device.controllers[0].id), request.behaviours)
        ]
        chosen = select(alone, request.seed, request.limit, request.shard)
        number, of = request.shard
        return [*chosen, *followed(alone, request.pairs, request.seed)[number - 1 :: of]]

    def _try_all(self, cases: Sequence[Case | Followed], setting: Setting, journal: SweepJournal, began: float) -> None:
        left = iter([case for case in cases if case.name not in journal.done])
        again: deque[Confirmation] = deque()
        retrials: deque[Retrial] = deque()

        def take() -> Piece | None:
            if again:
                return again.popleft()
            if self.minutes is not None and time.monotonic() - began > 60 * self.minutes:
                self.report.unfinished = f"its {self.minutes:g} minutes are over"
                return None
            return next(left, None) or (retrials.popleft() if retrials else None)

        pool: Workers[Piece, list[Judged] | Group] = workers(work, self.jobs, self.bench, _prepare, setting)
        with pool.running():
            for piece, result in pool.each(take):
                if isinstance(result, Group):
                    assert isinstance(piece, Confirmation)
                    self._confirmed[piece.key] = result
                    self.display.found(result)
                    self._write(journal)
                    continue
                for case, entry in result:
                    if entry.error and not isinstance(piece, Retrial):
                        retrials.append(Retrial(case))
                        continue
                    journal.add(entry)
                    again.extend(self._new(case, entry))
                if isinstance(piece, Followed):
                    journal.add(Entry(case=piece.name))
                    self.report.total -= piece.count - len(result)
                self.display.tried(len(result))

    def _new(self, case: Case, entry: Entry) -> Iterator[Confirmation]:
        """Yield what of a trial's failures begins a group, while evidence of more groups is kept."""
        for group in grouped([entry]):
            if group.key in self._confirmed or len(self._confirmed) >= MOST_KEPT:
                continue
            self._confirmed[group.key] = group
            number = len(self._confirmed)
            yield Confirmation(case, group.key, self.out / FINDINGS / f"{number:03}-{group.check.replace('/', '-')}")

    def _write(self, journal: SweepJournal) -> None:
        report = self.report
        report.done, report.seconds = journal.count, journal.seconds
        report.errors = {}
        for entry in journal.bad:
            if entry.error:
                report.errors[entry.error] = report.errors.get(entry.error, 0) + 1
        report.groups = joined(_with_confirmation(group, self._confirmed.get(group.key)) for group in grouped(journal.bad))
        write_atomically(self.out / REPORT, report.model_dump_json(by_alias=True, indent=1) + "\n")


def read_report(folder: Path) -> SweepReport:
    """Return the report of a sweep's folder. LabError if it is none."""
    try:
        return SweepReport.model_validate_json((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(f"{folder / REPORT} is no report of a sweep: {error}") from error


def _with_confirmation(group: Group, kept: Group | None) -> Group:
    if kept is None:
        return group
    found = {name: getattr(kept, name) for name in ("confirmed", "control", "function", "evidence", "scenario")}
    return group.model_copy(update=found)


# -- in the processes ---------------------------------------------------------------------------------------------------

_setting: Setting


def _prepare(setting: Setting) -> None:
    global _setting
    _setting = setting


def work(piece: Piece) -> list[Judged] | Group:
    """Do one piece of a sweep's work."""
    match piece:
        case Confirmation():
            return _confirmed(piece, _try(piece.case, keep=piece.folder / "evidence", cover=True))
        case Retrial():
            return [(piece.case, Entry.of(piece.case.name, _try(piece.case, alone=True)))]
        case Followed():
            return list(_pairs(piece))
    return [(piece, Entry.of(piece.name, _try(piece)))]


def _try(case: Case, *, keep: Path | None = None, events: bool = False, alone: bool = False, cover: bool = False) -> Tried:
    calm = _setting.calms[case.scenario.id]
    recovers = not case.lasts
    tried = attempt(
        _setting.bench,
        case.stricken,
        case.effects,
        recovers=recovers,
        keep=keep,
        calm=calm,
        events=events,
        alone=alone,
        cover=cover,
    )
    return replace(tried, failures=tuple(one for one in tried.failures if one.check not in _setting.ignored))


def _pairs(piece: Followed) -> Iterator[Judged]:
    """Record the first case, and try so many others with a second fault after it."""
    seen = _try(piece.first, events=True).events
    controller = piece.first.scenario.device.controllers[0].id
    request = _setting.request
    cases = following(piece.first, places(seen, controller, struck=True), request.behaviours)
    for case in random.Random(f"{request.seed} {piece.name}").sample(cases, min(piece.count, len(cases))):
        yield case, Entry.of(case.name, _try(case))


def _confirmed(piece: Confirmation, tried: Tried) -> Group:
    check, *_ = piece.key
    same = next((one for one in tried.failures if one.check == check), None)
    shown = same or Failure(check, "FAIL")
    text = scenario_toml(piece.case.stricken, comments={"": f"{piece.case.name}\n{check}: {shown.actual}"})
    piece.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(piece.folder / "scenario.toml", text)
    return Group(
        check=check,
        outcome=shown.outcome,
        expected=shown.expected,
        actual=shown.actual,
        where=tried.where,
        function=tried.function,
        cases=[piece.case.name],
        confirmed=same is not None,
        control=_control(piece.case, check) if same else "",
        evidence=f"{FINDINGS}/{piece.folder.name}/evidence",
        scenario=f"{FINDINGS}/{piece.folder.name}/scenario.toml",
    )


def _control(case: Case, check: str) -> Control:
    """Return what the reference driver makes of a case."""
    if _setting.bench.driver.name == REFERENCE:
        return ""
    tried = attempt(reference_bench(), case.stricken, case.effects, recovers=not case.lasts, events=True)
    if any(one.check == check for one in tried.failures):
        return "fails too"
    return "passes" if tried.struck else "is not struck"
