"""What came of a scenario, on its way from the process that has judged it to the one that keeps the results."""

from __future__ import annotations

from pydantic import BaseModel

from conformance.judging.models import RunEntry, VerdictEntry

WORKER_DIED = "the worker that recorded it died"


class ScenarioReport(BaseModel):
    """Verdicts of a scenario, and its recording where they are the first of it."""

    run: RunEntry | None
    verdicts: list[VerdictEntry]
    repetition: int = 0  # as in `conformance.run.plan.Job`

    @property
    def name(self) -> str:
        """Return driver/device/scenario."""
        return "/".join(self.verdicts[0].key[:3])

    @property
    def scope(self) -> str:
        """Return the same with the number of the repetition, as `conformance.run.plan.Job` has it."""
        return scope(self.name, self.repetition)


def scope(name: str, repetition: int) -> str:
    """Return what distinguishes a recording of a scenario from its other repetitions."""
    return f"{name}#{repetition}" if repetition else name


def parts_of(scope: str) -> tuple[str, int]:
    """Return the name and the repetition of a scope; the first one where there is no other."""
    name, _, number = scope.partition("#")
    return name, int(number or 1)
