"""The format of results.json: models from which `schema/results.schema.json` is generated.

A result can be judged without the suite that made it: it holds what was selected, what the drivers claim, and which
failures they know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from conformance.suite.check import Outcome
from conformance.suite.measure import Measurement

FILE = "results.json"
SCHEMA: Literal[1] = 1
MOST_SHARDS = 100_000


class _Model(BaseModel):
    model_config = ConfigDict(populate_by_name=True)


class Cite(_Model):
    """The place of a rule in its specification."""

    revision: str
    section: str
    title: str

    def __str__(self) -> str:
        return self.title if self.section == "-" else f"{self.revision}, {self.section} “{self.title}”"


class FindingEntry(_Model):
    """One observation.

    ``event`` is its line in the evidence's events.jsonl, or minus its number in the device's own record; ``place`` is the same
    in words.
    """

    ok: bool
    event: int | None
    place: str = ""
    expected: str
    actual: str


class Occurrence(_Model):
    """The outcome of one of several recordings. ``evidence`` is relative to the folder of results.json."""

    outcome: Outcome
    evidence: str


class VerdictEntry(_Model):
    """The verdict of one check on one driver, device and scenario."""

    driver: str
    device: str
    scenario: str
    stage: str
    check: str
    level: Literal["M", "R", "O"]
    statement: str = ""
    outcome: Outcome
    reason: str = ""
    because: str = ""
    """The check whose failure this verdict only follows from; it is INCONCLUSIVE then."""
    unused: bool = False
    """The rule is about something that every driver is free to leave out, and nothing of it was seen."""
    known: str | None = None
    witnesses: list[str] = []
    cite: Cite
    judged: int = 0
    seen: str = ""
    """Of an answer that violates the rule: what the device saw meanwhile, in words."""
    wire: list[str] = []
    """The rows of the timeline that lead to the first violation, that one last."""
    findings: list[FindingEntry] = []
    occurrences: list[Occurrence] = []
    """What each of several recordings found; [] where there was one."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return (driver, device, scenario, check)."""
        return self.driver, self.device, self.scenario, self.check

    @property
    def violation(self) -> FindingEntry | None:
        """Return the first finding that violates the rule; None if there is none."""
        return next((finding for finding in self.findings if not finding.ok), None)


class RunEntry(_Model):
    """A recorded scenario. ``evidence`` is relative to the folder of results.json."""

    driver: str
    device: str
    scenario: str
    stage: str
    evidence: str
    seconds: float
    build: str = ""
    """Which build of the driver it was, as that says itself."""
    retry_reason: str = Field(default="", validation_alias="again", serialization_alias="again")
    """Why the lab failed at the first attempt, where this is the second; "" at the first."""
    measurements: list[Measurement] = []
    stops: list[str] = []
    """Where the guest was at the event of ``--stop-at``, in lines for people; backtrace.json in the evidence holds it."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Return (driver, device, scenario)."""
        return self.driver, self.device, self.scenario


class LeftOut(_Model):
    """A scenario that was selected but not recorded, with the reason."""

    driver: str
    device: str
    scenario: str
    reason: str


class KnownEntry(_Model):
    """A known failure of a driver's manifest: who answers for it, until when it is accepted, and where more is said."""

    check: str
    reason: str
    devices: list[str]
    owner: str = ""
    expires: str = ""
    """The last day, as 2027-03-31; "" without an end."""
    expired: bool = False
    """It was over when the driver was recorded: the failure counts as a new one."""
    link: str = ""
    line: int = 0
    """Of the manifest; 0 if unknown."""
    versions: str = ""
    scenarios: list[str] = []
    """Ids, or patterns of them; none: all."""


class DriverEntry(_Model):
    """Which driver it is, and its claims. ``asked`` are the stages and profiles that must get a verdict.

    ``base`` is its name without the version. Which build it is, by its own word, stands at each recording.
    """

    base: str = ""
    release: str = ""
    package: str = ""

    stages: list[str] = []
    profiles: list[str] = []
    asked: list[str] = []
    known: list[KnownEntry] = []
    version: str = ""
    manifest: str = ""
    """As --driver takes it."""
    source: str = ""
    """The manifest's path in its repository; "" for one of the lab's own."""
    line: int = 0
    """Of the manifest: where it claims its stages; 0 if unknown."""


class ShardEntry(_Model):
    """One part of a campaign that was split. Parts of the same campaign have the same ``split``."""

    number: int
    of: Annotated[int, Field(ge=1, le=MOST_SHARDS)]
    split: str


class CoverEntry(_Model):
    """A choice of scenarios that together judge and find all that an earlier result did: how many, of how many."""

    model_config = ConfigDict(frozen=True)

    result: str
    """The name of the earlier result."""
    scenarios: int
    of: int

    def __str__(self) -> str:
        return (
            f"A cover: {self.scenarios} of {self.of} scenarios, "
            f"which together judge and find what all those in {self.result} did"
        )


class CoveredFunction(_Model):
    """One function of an object: its instructions, those that were executed, and the number of scenarios that entered it."""

    name: str
    offset: int
    instructions: int
    executed: int
    scenarios: int
    blocks: int = 0
    """Basic blocks: instructions that are executed one after the other."""
    blocks_executed: int = 0
    source: str = ""
    """File and line of its first instruction, where the object has debug information."""


class CoveredScenario(_Model):
    """How many instructions of an object a scenario executed, and how many of them no other scenario did."""

    scenario: str
    executed: int
    alone: int
    functions: list[str] = []
    """Functions that no other scenario enters."""


class CoveredCheck(_Model):
    """How many instructions of an object were executed in those scenarios in which a check found something to judge."""

    check: str
    scenarios: int
    executed: int


class CoverageEntry(_Model):
    """What was executed of one object of a driver on a device (``all``: on any); ``reason`` says why nothing is known."""

    driver: str
    device: str
    object: str = ""
    sha256: str = ""
    reason: str = ""
    instructions: int = 0
    executed: int = 0
    blocks: int = 0
    blocks_executed: int = 0
    lines: int = 0
    """Source lines with code, where the object has debug information."""
    lines_executed: int = 0
    functions: list[CoveredFunction] = []
    scenarios: list[CoveredScenario] = []
    checks: list[CoveredCheck] = []

    @property
    def key(self) -> tuple[str, str, str]:
        """Return (driver, device, object)."""
        return self.driver, self.device, self.object

    @property
    def entered(self) -> int:
        """Return the number of functions of which anything was executed."""
        return sum(function.executed > 0 for function in self.functions)

    @property
    def never_entered(self) -> list[CoveredFunction]:
        """Return the functions of which nothing was executed, the largest first."""
        return sorted((one for one in self.functions if not one.executed), key=lambda one: -one.instructions)

    @property
    def by_coverage(self) -> list[CoveredFunction]:
        """Return the functions, those that were never entered first, and then those with the smallest share."""
        entered = sorted((one for one in self.functions if one.executed), key=lambda one: one.executed / one.instructions)
        return [*self.never_entered, *entered]


class Results(_Model):
    """The result of a run."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    lab: dict[str, Any] = {}  # version, seed, versions and hashes of the toolchain, host
    drivers: dict[str, DriverEntry] = {}
    narrowed: bool = False  # single checks or scenarios were selected
    strict: bool = False
    unfinished: str = ""  # why the run ended early; "" if it did not
    shards: list[ShardEntry] = []  # which parts of the campaign these are; [] if it was never split
    cover: list[CoverEntry] = []  # of which choice of scenarios these are; [] if all that were selected were recorded
    runs: list[RunEntry] = []
    left_out: list[LeftOut] = []
    verdicts: list[VerdictEntry] = []
    coverage: list[CoverageEntry] = []  # of the drivers' code, where the run recorded it

    def run_of(self, verdict: VerdictEntry) -> RunEntry | None:
        """Return the recording that a verdict judges."""
        return next((run for run in self.runs if run.key == verdict.key[:3]), None)

    @property
    def missing_shards(self) -> list[int]:
        """Return the numbers of the shards that this result lacks."""
        have = {shard.number for shard in self.shards}
        return [number for number in range(1, self.shards[0].of + 1) if number not in have] if self.shards else []

    @property
    def is_complete(self) -> bool:
        """Return whether every claim was judged: not a selection, a shard, or a run that ended early."""
        return not (self.narrowed or self.unfinished or self.missing_shards)
