"""Profile performance: how a driver keeps a device busy, judged from the record on a medium of fixed latency.

What overlaps and in which order is judged, not what takes how long: the answer does not depend on the machine. Base 2.0, 3.3.1.
A driver that cannot be asked to poll, or has no ring with schedulers, is UNSUPPORTED there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from statistics import median, quantiles

from conformance.record.record import Asked, Record
from conformance.suite.check import OPTIONAL, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PRACTICE
from conformance.suite.measure import Axis, Point, Series, measure
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.multiqueue import CPUS, Load, loads
from lab.data.events import Completed, Doorbell, Interrupt, Submitted
from lab.data.mix import SLOTS, Mix
from lab.data.plan import Action, Fault
from lab.nvme.commands import Read

LATENCY_MS = 100
"""Latency of the medium: long enough for a driver in an emulated guest to submit meanwhile all that it is asked for."""
DEPTH, STEPS = 8, 10
GROWTH = 1.5
"""How many times more commands two queues must keep in flight than one."""
FIO_DEPTHS, FIO_STEPS = (1, 8, 32), 5
"""Outstanding reads of fio's load, and how many follow one another at each place."""
CURVE_CPUS = 4
"""Points of the curve of throughput."""
SHARE = 0.3
"""Of what each further queue would add to the throughput at the best, what it must add."""
TAIL = 8
"""How many times the median the 99th percentile of a lane's turnaround may be."""
SHORT = 8
"""Entries of rings in which most operations have to wait."""
WAITING = 24
"""Operations that are submitted to them at once: the first have the lowest class, or the latest deadline."""
FIRST_MS, STEP_MS = 2000, 2000
"""Deadlines: of the operation that is due first, and from each one to the next. Long, so that no busy machine misses them."""
MARGIN = 1.0
"""Seconds between a completion and a deadline that leave no doubt which of them came first."""


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


@scenario("performance/curve", f"the load of one CPU, of two, and so on up to {CURVE_CPUS}", cpus=CURVE_CPUS)
def curve(draw: Draw) -> Plan:
    """Plan the same load on each number of queues."""
    loads_by_cpus = [_load(draw, cpus) for cpus in range(1, CURVE_CPUS + 1)]
    return Plan(draw.device(vectors=1 + CURVE_CPUS), [LOAD, *loads_by_cpus], [_fixed_latency()])


@scenario("performance/fio", f"fio's random reads at the depths {', '.join(map(str, FIO_DEPTHS))}", cpus=CPUS)
def fio_scenario(draw: Draw) -> Plan:
    """Plan the same load as people measure disks by, ever deeper."""
    asked = [do("load-fio", nsid=1, blocks=8, depth=depth, operations=depth * FIO_STEPS) for depth in FIO_DEPTHS]
    return Plan(draw.device(), [LOAD, *asked], [_fixed_latency()])


@scenario("performance/polled", "a load while the driver polls", cpus=CPUS)
def polled(draw: Draw) -> Plan:
    """Plan a load of polled queues."""
    return Plan(draw.device(), [LOAD, do("load-polled"), _load(draw, CPUS)], [_fixed_latency()])


def _ring(draw: Draw, scheduler: str, **arguments: int) -> Plan:
    """Plan more reads at once than short rings hold, in an order that the scheduler has to change."""
    ring = do("load-ring", nsid=1, lba=draw.between(8, 200), blocks=8, operations=WAITING, scheduler=scheduler, **arguments)
    return Plan(draw.device(cap={"MQES": SHORT - 1}), [LOAD, ring], [_fixed_latency()])


@scenario("performance/classes", f"{WAITING} operations of rising priority on rings of {SHORT} entries", cpus=CPUS)
def classes(draw: Draw) -> Plan:
    """Plan operations of four classes, the lowest first."""
    return _ring(draw, "priority")


@scenario("performance/deadlines", f"{WAITING} operations of falling deadlines on rings of {SHORT} entries; one is lost",
          hostile=True, cpus=CPUS)  # fmt: skip
def deadlines(draw: Draw) -> Plan:
    """Plan operations whose deadlines fall in the order of submission; the device loses the first command."""
    plan = _ring(draw, "deadline", first_ms=FIRST_MS, step_ms=STEP_MS)
    lost = Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, nth=1, times=1)
    return replace(plan, faults=[lost, *plan.faults])


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


@check("performance/throughput", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["performance/curve"])  # fmt: skip
def throughput(record: Record) -> Iterator[Finding]:
    """Moves more with every further queue: on a medium of fixed latency the curve of throughput rises to its end.

    A driver that gives a further CPU no further queue is not judged there.
    """
    by_cpus = {int(load.asked.arguments["jobs"]): load for load in loads(record)}
    for cpus, load in sorted(by_cpus.items()):
        fewer = by_cpus.get(cpus - 1)
        if fewer is not None and load.queues > fewer.queues:
            before, rate = _rate(fewer), _rate(load)
            least = before * (1 + SHARE / (cpus - 1))
            expected = f"at least {least:.0f} commands/s from {cpus} CPUs, where {cpus - 1} had {before:.0f}"
            yield Finding(rate >= least, load.asked.ended, expected, f"{rate:.0f} on {load.queues} queues")


def _rate(load: Load) -> float:
    """Return the commands a second that a medium of this latency does with what the driver has in flight: Little's law.

    The most commands that were in flight count, and not the clock: pauses of the machine change nothing.
    """
    return 1000 / LATENCY_MS * load.peak


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


@check("performance/tail", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["performance/equal", "performance/deep"])  # fmt: skip
def tail(record: Record) -> Iterator[Finding]:
    """Lets no lane of a load wait much longer than the others: the 99th percentile of turnaround is near the median.

    Turnaround is counted in completions of the whole load between two of the same lane, and not in seconds.
    """
    for load in loads(record):
        if len(turns := _turnarounds(load)) >= WAITING:
            middle, last = median(turns), quantiles(turns, n=100)[98]
            shown = f"p50 {middle:g}, p99 {last:g} completions: {last / middle:.1f} times"
            yield Finding(last <= TAIL * middle, load.asked.ended, f"p99 of turnaround at most {TAIL} times the median", shown)


def _turnarounds(load: Load) -> list[int]:
    """Return how many commands of the load end from one command of a lane to its next.

    When a lane begins is not the driver's doing: in a guest it is a thread that has to start.
    """
    mix = Mix.of(load.asked.arguments)
    seen: dict[int, int] = {}
    found = []
    for at, (_, lba, *_) in enumerate(load.own):
        lane = (lba - mix.lba) // (SLOTS * mix.blocks)
        if lane in seen:
            found.append(at - seen[lane])
        seen[lane] = at
    return found


@check("performance/polling", cite=BASE_2_0["5.4"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       needs=["load-polled", "load-mix"], scenarios=["performance/polled"])  # fmt: skip
def polling(record: Record) -> Iterator[Finding]:
    """Takes no interrupts for I/O queues that it polls."""
    for asked in record.answers("load-polled"):
        if not asked.ok:
            return
    for load in loads(record):
        count = _interrupts(record, load.asked)
        yield Finding(not count, load.asked.ended, "no interrupt of an I/O queue", f"{count} for {len(load.commands)} commands")


def _interrupts(record: Record, asked: Asked) -> int:
    """Return the interrupts during an action, without those of vectors that no I/O completion queue has."""
    return sum(
        any(cq.qid and cq.vector == event.vector for cq in state.cqs.values()) if event.how != "intx" else bool(event)
        for state, event in record.during(asked, Interrupt)
    )


@dataclass
class Sent:
    """A read of a ring on the wire: its place in the order of submission, and when it was completed."""

    place: int
    event: Submitted
    ended: float | None = None


def _sent(record: Record, asked: Asked) -> dict[int, Sent]:
    """Return the reads that an action sent, by LBA; of several for one LBA the first."""
    found: dict[int, Sent] = {}
    flying: dict[tuple[int, int], Sent] = {}
    for _, event in record.during(asked, Submitted, Completed):
        if isinstance(event, Completed):
            if (sent := flying.pop(event.key, None)) is not None:
                sent.ended = event.t
        elif isinstance(event, Submitted) and isinstance(event.command, Read):
            flying[event.key] = found.setdefault(event.command.SLBA, Sent(len(found), event))
    return found


def _rings(record: Record, *schedulers: str) -> Iterator[tuple[Asked, dict[int, Sent]]]:
    """Yield the rings with one of these schedulers that a driver has completed by commands, with what was sent."""
    for asked in record.answers("load-ring"):
        if asked.ok and asked.arguments["scheduler"] in schedulers and (sent := _sent(record, asked)):
            yield asked, sent


@check("performance/priority", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"],
       needs=["load-ring"], scenarios=["performance/classes"])  # fmt: skip
def priority(record: Record) -> Iterator[Finding]:
    """Submits operations of the highest class while those of the lowest class wait."""
    for asked, seen in _rings(record, "priority"):
        first, blocks = asked.arguments["lba"], asked.arguments["blocks"]
        quarter = WAITING // 4
        low = [seen[lba].place for lba in range(first, first + quarter * blocks, blocks) if lba in seen]
        start = first + (WAITING - quarter) * blocks
        urgent = [seen[lba].place for lba in range(start, start + quarter * blocks, blocks) if lba in seen]
        if low and urgent:
            before = sum(place < max(urgent) for place in low)
            expected = f"at most half of {len(low)} commands of the lowest class before the last of the highest"
            yield Finding(2 * before <= len(low), asked.ended, expected, f"{before}")


@check("performance/deadline", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       needs=["load-ring"], scenarios=["performance/deadlines"])  # fmt: skip
def deadline(record: Record) -> Iterator[Finding]:
    """Sends what is due earliest first, and ends with a time-out what is not done at its deadline."""
    for asked, seen in _rings(record, "deadline"):
        first, blocks, began = asked.arguments["lba"], asked.arguments["blocks"], min(sent.event.t for sent in seen.values())
        overtaken = [sum(other < lba and seen[other].place < sent.place for other in seen) for lba, sent in seen.items()]
        expected = f"no operation after {WAITING // 2} that are due later"
        yield Finding(max(overtaken) <= WAITING // 2, asked.ended, expected, f"one after {max(overtaken)}")
        for operation in asked.all("operations"):
            lba, sent = operation["lba"], seen.get(operation["lba"])
            due = began + (FIRST_MS + (WAITING - 1 - (lba - first) // blocks) * STEP_MS) / 1000
            ended = sent.ended if sent and sent.ended is not None else inf
            if abs(ended - due) > MARGIN:
                right = "success" if ended < due else "timeout"
                yield Finding(operation["outcome"] == right, asked.ended, f"{right} for LBA {lba}", operation["outcome"])


@check("performance/zero-copy", cite=BASE_2_0["4.1.1"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       needs=["load-ring"], scenarios=["performance/classes", "performance/deadlines"])  # fmt: skip
def zero_copy(record: Record) -> Iterator[Finding]:
    """Lets the device move data to the memory that the caller gave, without a copy."""
    for asked, seen in _rings(record, "priority", "deadline"):
        given = {operation["lba"]: operation["address"] for operation in asked.all("operations")}
        for lba, sent in seen.items():
            if lba in given:
                pointer, expected = sent.event.command.PRP1, f"PRP1 {given[lba]:#x}, the caller's"
                yield Finding(pointer == given[lba], sent.event, expected, f"{pointer:#x}", ("PRP1",))


def _read_blocks(record: Record, asked: Asked) -> list[tuple[float, int]]:
    """Return when each read of an action completed with success, and its blocks."""
    flying: dict[tuple[int, int], int] = {}
    done = []
    for _, event in record.during(asked, Submitted, Completed):
        if isinstance(event, Completed):
            blocks = flying.pop(event.key, 0)
            if blocks and event.completion.ok:
                done.append((event.t, blocks))
        elif isinstance(event, Submitted) and isinstance(event.command, Read):
            flying[event.key] = event.command.NLB + 1
    return done


@check("performance/counted", cite=PRACTICE, level=RECOMMENDED, why="integrity", witnesses=["out", "wire"], needs=["load-fio"],
       scenarios=["performance/fio"])  # fmt: skip
def counted(record: Record) -> Iterator[Finding]:
    """Carries out every read that its caller gets: the device has completed as many blocks as fio has counted.

    Reads may be merged or split on the way; the load reads past all caches.
    """
    for asked in record.answers("load-fio"):
        if asked.ok and asked.answer.get("reads"):
            least = int(asked.answer["reads"]) * int(asked.arguments["blocks"])
            seen = sum(blocks for _, blocks in _read_blocks(record, asked))
            yield Finding(seen >= least, asked.ended, f"at least {least} blocks for {asked.answer['reads']} reads", f"{seen}")


# -- figures --------------------------------------------------------------------------------------------------------


@measure("performance/interrupts", title="Interrupts for each command", x=Axis("under load", "CPUs"),
         y=Axis("interrupts", "for each command"), scenarios=["performance/queues"])  # fmt: skip
def interrupts(record: Record) -> Iterator[Series]:
    """How many interrupts the driver takes for a command: commands that end together can share one."""
    yield _series(record, "interrupts", lambda load: _interrupts(record, load.asked) / len(load.commands))


@measure("performance/throughput", title=f"Throughput on a medium of {LATENCY_MS} ms", x=Axis("under load", "CPUs"),
         y=Axis("blocks of 4 KiB moved", "KiB/s"), scenarios=["performance/curve"])  # fmt: skip
def throughput_by_queues(record: Record) -> Iterator[Series]:
    """What the driver moves, by the number of CPUs, each with a queue of its own where the driver has as many."""
    yield _series(record, f"depth {DEPTH} for each CPU", lambda load: 4 * _rate(load))


@measure("performance/in-flight", title=f"Commands in flight on a medium of {LATENCY_MS} ms", x=Axis("under load", "CPUs"),
         y=Axis("in flight on all queues, on average", "commands"), scenarios=["performance/queues"])  # fmt: skip
def in_flight(record: Record) -> Iterator[Series]:
    """How well the driver keeps the device busy, from one CPU to all."""
    yield _series(record, f"depth {DEPTH} for each CPU", lambda load: load.overlap)


@measure("performance/fio", title=f"fio's random reads of 4 KiB on a medium of {LATENCY_MS} ms",
         x=Axis("outstanding", "reads"), y=Axis("reads completed", "reads/s"), scenarios=["performance/fio"])  # fmt: skip
def fio_rate(record: Record) -> Iterator[Series]:
    """What fio gets of Linux, and the same job of a driver that has it, as the device saw it."""
    points = []
    for asked in record.answers("load-fio"):
        done = _read_blocks(record, asked) if asked.ok else []
        if len(done) > 1:
            first = next(event.t for _, event in record.during(asked, Submitted) if isinstance(event.command, Read))
            seconds = max(done[-1][0] - first, 1e-9)
            points.append(Point(int(asked.arguments["depth"]), round(len(done) / seconds, 1)))
    yield Series("seen by the device", tuple(points))


@measure("performance/fio-latency", title=f"Latency of fio's random reads on a medium of {LATENCY_MS} ms",
         x=Axis("outstanding", "reads"), y=Axis("latency", "ms"), scenarios=["performance/fio"])  # fmt: skip
def fio_latency(record: Record) -> Iterator[Series]:
    """What the caller waits for a read, as it counts itself: the driver's and the machine's time is above the medium's."""
    told = [asked for asked in record.answers("load-fio") if asked.ok and asked.answer.get("reads")]
    for name, field in (("average", "average_us"), ("p99", "p99_us")):
        yield Series(name, tuple(Point(int(asked.arguments["depth"]), round(asked.answer[field] / 1000, 1)) for asked in told))


def _series(record: Record, name: str, value: Callable[[Load], float]) -> Series:
    """Return a figure of each load, by the number of CPUs that it comes from."""
    points = sorted((int(load.asked.arguments["jobs"]), value(load)) for load in loads(record))
    return Series(name, tuple(Point(jobs, round(found, 2)) for jobs, found in points))
