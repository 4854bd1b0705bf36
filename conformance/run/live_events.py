"""``nvme-lab run --json``: a run as it happens, for programs: one JSON object a line (docs/programs.md).

The models are the format; `schema/events.schema.json` is generated from them. Events and fields may be added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from conformance.judging.models import LeftOut, VerdictEntry
from conformance.run.plan import Campaign
from conformance.run.progress import Finished, Tally
from conformance.run.scenario_report import parts_of


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Preparing(_Event):
    """What the lab does before anything is recorded: it fetches, builds, boots."""

    event: Literal["preparing"] = "preparing"
    text: str


class PlannedScenario(_Event):
    """One scenario on one driver and device. ``seconds`` is what it is expected to take."""

    name: str  # driver/device/scenario
    driver: str
    device: str
    scenario: str
    stage: str
    checks: list[str]
    seconds: float


class Planned(_Event):
    """What will be recorded: one event for a run, or for each of its repetitions before the first of them starts."""

    event: Literal["plan"] = "plan"
    schema_: Literal[1] = Field(default=1, alias="schema")
    results: str | None  # the folder; None where nothing is recorded (--dry-run)
    repetition: int
    repetitions: int
    scenarios: list[PlannedScenario]
    left_out: list[LeftOut]
    seconds: float  # from the start to the end, expected


class Started(_Event):
    """A scenario is being recorded. After `lost` it may start again."""

    event: Literal["started"] = "started"
    name: str
    repetition: int = 1


class Judged(_Event):
    """A verdict, as results.json will have it."""

    event: Literal["verdict"] = "verdict"
    verdict: VerdictEntry
    repetition: int = 1


class Done(_Event):
    """All verdicts of a scenario are there. ``counts``: verdicts by outcome in lower case, ``known`` failures apart."""

    event: Literal["finished"] = "finished"
    name: str
    repetition: int = 1
    seconds: float
    counts: dict[str, int]
    again: str  # why the lab failed at the first attempt, where this was the second


class Advanced(_Event):
    """How far it is; ``remaining_seconds`` is None while it is unknown."""

    event: Literal["progress"] = "progress"
    done: int
    total: int
    remaining_seconds: float | None


class Lost(_Event):
    """The worker that recorded a scenario has died; what was said of it does not count."""

    event: Literal["lost"] = "lost"
    name: str
    repetition: int = 1


class Stopping(_Event):
    """The run was interrupted."""

    event: Literal["stopping"] = "stopping"


class Ended(_Event):
    """The last event, always. ``status`` is the exit status, ``results`` the folder, ``error`` what the lab could not do."""

    event: Literal["end"] = "end"
    status: int
    results: str | None = None
    unfinished: str = ""
    error: str = ""


AnyEvent = Annotated[
    Preparing | Planned | Started | Judged | Done | Advanced | Lost | Stopping | Ended, Field(discriminator="event")
]


def schema() -> dict[str, Any]:
    """Return the JSON schema of one line."""
    found = TypeAdapter[Any](AnyEvent).json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def planned(campaign: Campaign, seconds: float, out: Path | None, repetition: int = 1, repetitions: int = 1) -> Planned:
    """Return the event of what a campaign is going to record."""
    return Planned(
        results=str(out) if out else None,
        repetition=repetition,
        repetitions=repetitions,
        scenarios=[
            PlannedScenario(
                name=job.name,
                driver=job.driver.name,
                device=job.device,
                scenario=job.scenario.id,
                stage=job.scenario.stage,
                checks=list(job.checks),
                seconds=round(campaign.costs.get(job.name, 0.0), 2),
            )
            for job in campaign.jobs
        ],
        left_out=list(campaign.left_out),
        seconds=round(seconds, 1),
    )


class Events:
    """A display for programs (`conformance.run.progress.Display`)."""

    def __init__(self, stream: TextIO) -> None:
        """Write one JSON object a line to a stream."""
        self._stream = stream

    def write(self, event: _Event) -> None:
        """Write an event as a line."""
        self._stream.write(event.model_dump_json(by_alias=True) + "\n")
        self._stream.flush()

    def started(self, scope: str) -> None:
        """Write `Started`."""
        name, repetition = parts_of(scope)
        self.write(Started(name=name, repetition=repetition))

    def judged(self, verdict: VerdictEntry, repetition: int = 0) -> None:
        """Write `Judged`."""
        self.write(Judged(verdict=verdict, repetition=repetition or 1))

    def finished(self, tally: Tally, scenario: Finished) -> None:
        """Write `Done` and `Advanced`."""
        name, repetition = parts_of(scenario.scope)
        self.write(
            Done(
                name=name,
                repetition=repetition,
                seconds=round(scenario.seconds, 3),
                counts=dict(scenario.counts),
                again=scenario.retry_reason,
            )
        )
        left = tally.seconds_left()
        self.write(Advanced(done=tally.done, total=tally.total, remaining_seconds=None if left is None else round(left, 1)))

    def lost(self, scope: str) -> None:
        """Write `Lost`."""
        name, repetition = parts_of(scope)
        self.write(Lost(name=name, repetition=repetition))

    def changed(self, tally: Tally) -> None:
        """Write nothing: the other events say it."""

    def stopping(self) -> None:
        """Write `Stopping`."""
        self.write(Stopping())
