"""Profile performance: how a driver keeps a device busy, judged from the record on a medium of fixed latency.

What overlaps is judged, not what takes how long: the answer does not depend on the machine. Base 2.0, 3.3.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from conformance.record.record import Record
from conformance.suite.check import OPTIONAL, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.multiqueue import CPUS, Load, loads
from lab.data.events import Doorbell
from lab.data.mix import Mix
from lab.data.plan import Action, Fault

LATENCY_MS = 20
"""Latency of the medium: long enough for a driver under emulation to submit all that it is asked for meanwhile."""
DEPTH, STEPS = 8, 10
GROWTH = 1.5
"""How many times more commands two queues must keep in flight than one."""


def _load(draw: Draw, jobs: int, depth: int = DEPTH) -> Action:
    lba = draw.between(8, 200)
    return do("load-mix", nsid=1, lba=lba, blocks=8, jobs=jobs, depth=depth, operations=jobs * depth * STEPS, seed=draw.fill())


def _fixed_latency() -> Fault:
    """Return a fault by which every I/O command takes the same time, however many there are."""
    return Fault(name="latency", behaviour="delay", queue="io", arguments={"ms": LATENCY_MS})


@scenario("performance/equal", "the same load from each of two CPUs", cpus=CPUS)
def equal(draw: Draw) -> Plan:
    """Plan equal loads, so that shares can be compared."""
    return Plan(draw.device(), [LOAD, _load(draw, CPUS)], [_fixed_latency()])


@scenario("performance/deep", "thirty-two commands at once from one CPU", cpus=CPUS)
def deep(draw: Draw) -> Plan:
    """Plan a load of one CPU that needs a deep queue."""
    return Plan(draw.device(), [LOAD, _load(draw, 1, 32)], [_fixed_latency()])


@scenario("performance/queues", "the load of one CPU, and then of two", cpus=CPUS)
def queues(draw: Draw) -> Plan:
    """Plan the same load on one queue and on two."""
    return Plan(draw.device(), [LOAD, _load(draw, 1), _load(draw, CPUS)], [_fixed_latency()])


def _by_job(load: Load) -> list[list[int]]:
    """Return the submission queues of each job's commands, in the order of completion."""
    mix = Mix.of(load.asked.arguments)
    return [[sqid for sqid, lba, *_ in load.own if lba in mix.region(job)] for job in range(mix.jobs)]


@check("performance/fairness", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["performance/equal"])  # fmt: skip
def fairness(record: Record) -> Iterator[Finding]:
    """Gives equal loads equal shares: when half of all commands have ended, each CPU has at least half of its fair share."""
    for load in loads(record):
        mix, half = Mix.of(load.asked.arguments), load.own[: len(load.own) // 2]
        for job in range(mix.jobs):
            ended = sum(lba in mix.region(job) for _, lba, *_ in half)
            least = len(half) // (2 * mix.jobs)
            expected = f"at least {least} of the first {len(half)} commands from CPU {job}"
            yield Finding(ended >= least, load.asked.ended, expected, f"{ended}")


@check("performance/affinity", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["performance/equal"])  # fmt: skip
def affinity(record: Record) -> Iterator[Finding]:
    """Keeps the commands of a CPU on one queue."""
    for load in loads(record):
        for job, used in enumerate(_by_job(load)):
            counts = Counter(used)
            shown = ", ".join(f"{count} on SQ {sqid}" for sqid, count in sorted(counts.items()))
            yield Finding(len(counts) == 1, load.asked.ended, f"all commands of CPU {job} on one queue", shown or "none")


@check("performance/depth", cite=BASE_2_0["3.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["performance/deep"])  # fmt: skip
def depth(record: Record) -> Iterator[Finding]:
    """Keeps at least half of the commands in flight that are asked of it at once, as far as its queue has room."""
    sizes = {qid: sq.size for state, _ in record.walk() for qid, sq in state.sqs.items()}
    for load in loads(record):
        room = max((sizes.get(qid, 2) - 1 for qid in load.most), default=1)
        wanted = min(int(load.asked.arguments["depth"]), room)
        yield Finding(2 * load.peak >= wanted, load.asked.ended, f"{wanted} in flight, or half of them", f"{load.peak}")


@check("performance/scaling", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["performance/queues"])  # fmt: skip
def scaling(record: Record) -> Iterator[Finding]:
    """Keeps more commands in flight on two queues than on one."""
    seen = {int(load.asked.arguments["jobs"]): load for load in loads(record)}
    if seen.keys() >= {1, CPUS}:
        one, more = seen[1], seen[CPUS]
        expected = f"at least {GROWTH:g} times the {one.peak} of one CPU"
        yield Finding(more.peak >= GROWTH * one.peak, more.asked.ended, expected, f"{more.peak} in flight for {CPUS} CPUs")


@check("performance/doorbells", cite=PRACTICE, level=OPTIONAL, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["performance/equal", "performance/deep"])  # fmt: skip
def doorbells(record: Record) -> Iterator[Finding]:
    """Rings a submission queue at most once for each command."""
    for load in loads(record):
        rung = Counter[int]()
        for _, event in record.during(load.asked, Doorbell):
            if event.qid > 0 and not event.completion:
                rung[event.qid] += 1
        sent = Counter(sqid for sqid, *_ in load.commands)
        for sqid, count in sent.items():
            shown = f"{rung[sqid]} doorbells for {count} commands"
            yield Finding(rung[sqid] <= count, load.asked.ended, f"at most {count} doorbells of SQ {sqid}", shown)
