"""Stage 9, multiqueue: many commands on many queues.

What overlaps shows more than what takes how long, so the record is judged, not the clock. Base 2.0, 3.3.1, 5.4 and 5.27.1.5.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import accumulate
from typing import Any

from conformance.record.disk import differences, final_disks, key_of, replay, show
from conformance.record.record import Asked, Record
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, OPTIONAL, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY, PCIE_1_0, PRACTICE
from conformance.suite.measure import Axis, Point, Series, histogram, measure
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.shadow_doorbells import Order
from conformance.suite.stages.reset import NOTHING_DONE, PATIENCE, WAS_RESET, acts, deeds, strikes
from lab.data.events import Completed, Doorbell, Submitted
from lab.data.mix import Mix
from lab.data.plan import Action, Fault
from lab.nvme.commands import CreateIoCq, CreateIoSq, DoorbellBufferConfig, Read, SetFeatures, Write
from lab.nvme.features import Fid

CPUS = 2
DEEP = 32
"""Commands that a driver should be able to keep outstanding on one queue."""
DEPTHS, STEPS = (1, 4, 16), 12
"""What is outstanding on each queue when throughput is measured, and how often."""
MEDIUM_MS = 20
"""Latency of the medium then: long enough for a driver under emulation to submit all that it is asked for meanwhile."""
GROWTH = 1.2
"""What more queues, or more depth, bring at the least."""
SHORT = 4
"""Entries of rings that are soon full."""


def _mix(draw: Draw, jobs: int, depth: int, operations: int, *, blocks: int = 8, **more: Any) -> Action:
    lba, seed = draw.between(8, 200), draw.fill()
    return do("load-mix", nsid=1, lba=lba, blocks=blocks, jobs=jobs, depth=depth, operations=operations, seed=seed, **more)


def _slow(ms: int) -> Fault:
    """Every I/O command takes so long, however many there are."""
    return Fault(name="latency", behaviour="delay", queue="io", arguments={"ms": ms})


@scenario("multiqueue/plain", "a mixed load from each of two CPUs", cpus=CPUS)
def plain(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("queues"), _mix(draw, CPUS, 4, 160)])


@scenario("multiqueue/latency", "a mixed load from each of two CPUs on a medium of fixed latency", cpus=CPUS)
def latency(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("queues"), _mix(draw, CPUS, 4, 160)], [_slow(10)])


@scenario("multiqueue/long", "commands that need PRP lists, many of them at once", cpus=CPUS)
def long(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, _mix(draw, CPUS, 4, 120, blocks=24)], [_slow(5)])


@scenario("multiqueue/few", "one queue pair for two CPUs", cpus=CPUS)
def few(draw: Draw) -> Plan:
    return Plan(draw.device(io_queues=1, vectors=2), [LOAD, do("queues"), _mix(draw, CPUS, 4, 120)], [_slow(5)])


@scenario("multiqueue/fewer", "after a reset the controller grants one queue pair instead of two", cpus=CPUS)
def fewer(draw: Draw) -> Plan:
    """What is granted holds until the next reset (Base 2.0, 5.27.1.5)."""
    granted = Fault(name="fewer", behaviour="edit-completion", queue="admin", opcode=SetFeatures.OPCODE,
                    cdw10=Fid.NUMBER_OF_QUEUES, nth=2, arguments={"fields": {"DW0": 0}})  # fmt: skip
    mixes = [_mix(draw, CPUS, 4, 48) for _ in range(2)]
    return Plan(draw.device(), [LOAD, do("queues"), mixes[0], do("reset"), do("queues"), mixes[1]], [granted])


@scenario("multiqueue/full", f"more commands than rings of {SHORT} entries hold", cpus=CPUS)
def full(draw: Draw) -> Plan:
    return Plan(draw.device(cap={"MQES": SHORT - 1}), [LOAD, _mix(draw, CPUS, 8, 160)], [_slow(5)])


@scenario("multiqueue/deep", f"{DEEP} commands at once from one CPU", cpus=CPUS)
def deep(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, _mix(draw, 1, DEEP, 10 * DEEP)], [_slow(40)])


@scenario("multiqueue/split", "a read of many commands, all known from the start")
def split(draw: Draw) -> Plan:
    """More than Linux takes into one bio, with which alone it would have nothing to plug."""
    return Plan(draw.device(mdts=4), [LOAD, do("read", nsid=1, lba=draw.between(0, 900), blocks=3072)], [_slow(5)])


@scenario("multiqueue/scaling", "more depth and more queues, on a medium of fixed latency", cpus=CPUS)
def scaling_scenario(draw: Draw) -> Plan:
    loads = [_mix(draw, jobs, depth, jobs * depth * STEPS) for jobs in (1, CPUS) for depth in DEPTHS]
    return Plan(draw.device(), [LOAD, *loads], [_slow(MEDIUM_MS)])


@scenario("multiqueue/shadow", "shadow doorbells, and commands that take long enough for some of them to do without doorbells",
          cpus=CPUS, watch_memory=True)  # fmt: skip
def shadow(draw: Draw) -> Plan:
    """Commands of different latencies: while some are in flight, the controller looks for new ones without a doorbell."""
    unlike = [
        Fault(name=f"slow-{kind.__name__}", behaviour="delay", queue="io", opcode=kind.OPCODE, arguments={"ms": ms})
        for kind, ms in ((Read, 2), (Write, 5))
    ]
    return Plan(draw.device(cap={"MQES": 15}, shadow_doorbells=True), [LOAD, _mix(draw, CPUS, 4, 160)], unlike)


@scenario("multiqueue/shadow-refused", "a controller that offers Doorbell Buffer Config, and refuses it", hostile=True,
          cpus=CPUS, watch_memory=True)  # fmt: skip
def shadow_refused(draw: Draw) -> Plan:
    refused = Fault(name="refused", behaviour="status", queue="admin", opcode=DoorbellBufferConfig.OPCODE,
                    arguments={"sc": 2, "dnr": 1})  # fmt: skip
    return Plan(draw.device(shadow_doorbells=True), [LOAD, _mix(draw, CPUS, 4, 80)], [refused])


@scenario("multiqueue/shadow-reset", "shadow doorbells before and after a reset, which ends their use", cpus=CPUS,
          watch_memory=True)  # fmt: skip
def shadow_reset(draw: Draw) -> Plan:
    mixes = [_mix(draw, CPUS, 4, 48) for _ in range(2)]
    return Plan(draw.device(cap={"MQES": 15}, shadow_doorbells=True), [LOAD, mixes[0], do("reset"), mixes[1]], [_slow(2)])


@scenario("multiqueue/gathered", "what all lanes of a CPU want is handed over at once; writes have a queue of their own",
          cpus=CPUS, write_queues=1)  # fmt: skip
def gathered(draw: Draw) -> Plan:
    return Plan(draw.device(cap={"MQES": 15}, shadow_doorbells=True), [LOAD, _mix(draw, CPUS, 4, 160, gathered=1)])


@scenario("multiqueue/gathered-shared", "the same with a namespace beside it that shares the queues", cpus=CPUS, write_queues=1)
def gathered_shared(draw: Draw) -> Plan:
    """Linux hands requests to its driver in another way then."""
    both = draw.namespace(), draw.namespace(nsid=2)
    device = draw.device(*both, cap={"MQES": 15}, shadow_doorbells=True)
    return Plan(device, [LOAD, _mix(draw, CPUS, 4, 160, gathered=1)])


@scenario("multiqueue/spurious", "each Write comes with an interrupt that means nothing", cpus=CPUS)
def spurious(draw: Draw) -> Plan:
    alarms = [
        Fault(name=f"alarm-{vector}", behaviour="spurious-interrupt", queue="io", opcode=Write.OPCODE,
              arguments={"vector": vector, "count": 2})
        for vector in (1, 2)
    ]  # fmt: skip
    return Plan(draw.device(), [LOAD, _mix(draw, CPUS, 4, 160)], [*alarms, _slow(5)])


@scenario("multiqueue/reset-under-load", "the controller fails in the middle of a mixed load", hostile=True, cpus=CPUS,
          command_seconds=PATIENCE)  # fmt: skip
def under_load(draw: Draw) -> Plan:
    fails = Fault(name="fails", behaviour="fatal", queue="io", opcode=Write.OPCODE, nth=draw.between(30, 50), times=1)
    return Plan(draw.device(), [LOAD, _mix(draw, CPUS, 4, 160)], [fails, _slow(5)])


# -- what a load was on the wire ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What the device saw of one action, in the order of completion.

    A command's submission queue, its LBA, how many blocks it moved, and when it came and was completed.
    """

    asked: Asked
    commands: tuple[tuple[int, int, int, float, float], ...]
    most: Counter[int]  # commands in flight at once at most, by submission queue
    peak: int  # and on all queues together

    @cached_property
    def own(self) -> tuple[tuple[int, int, int, float, float], ...]:
        """The commands of the load itself, which is read back when the last of them has ended.

        A driver, or the kernel above it, may make one command of several operations that wait side by side.
        """
        moved = accumulate(blocks for _, _, blocks, *_ in self.commands)
        return self.commands[: next((n for n, blocks in enumerate(moved, 1) if blocks >= self.blocks), len(self.commands))]

    @property
    def blocks(self) -> int:
        """That all operations together must move."""
        return self.wanted * int(self.asked.arguments["blocks"])

    @property
    def seconds(self) -> float:
        """From the first command to the last completion."""
        return max(self.own[-1][-1] - min(begin for *_, begin, _ in self.own), 1e-9)

    @property
    def rate(self) -> float:
        """Commands a second: a figure, which a busy machine makes smaller."""
        return len(self.own) / self.seconds

    @property
    def overlap(self) -> float:
        """Commands in flight on average: a figure too."""
        return sum(end - begin for *_, begin, end in self.own) / self.seconds

    @property
    def queues(self) -> int:
        """Submission queues that it used."""
        return len({sqid for sqid, *_ in self.own})

    @property
    def ended(self) -> int:
        """The number of operations that the driver says have ended."""
        return int(self.asked.answer.get("operations", 0))

    @property
    def wanted(self) -> int:
        """The number of operations that the action asks for."""
        return int(self.asked.arguments["operations"])

    @property
    def figures(self) -> str:
        """What the driver says of it."""
        said = self.asked.answer
        reported = ", ".join(f"{said.get(name, '?')} {name}" for name in ("operations", "errors", "mismatches"))
        return f"{self.asked.said}: {reported}" + (f" ({said['first_error']})" if said.get("first_error") else "")

    @property
    def whole(self) -> bool:
        """Whether every operation succeeded, by the driver's own account and by the device's."""
        said = self.asked.answer
        good = self.asked.ok and not said.get("errors") and not said.get("mismatches")
        return good and self.ended == self.wanted and sum(blocks for _, _, blocks, *_ in self.own) >= self.blocks


def load_of(record: Record, asked: Asked) -> Load | None:
    """Return what an action's Reads and Writes were on the wire; None where there were none."""
    began: dict[tuple[int, int], tuple[int, int, float]] = {}
    commands: list[tuple[int, int, int, float, float]] = []
    flying, most, peak = Counter[int](), Counter[int](), 0
    for _, event in record.during(asked, Submitted, Completed):
        if isinstance(event, Submitted) and isinstance(event.command, Read | Write):
            began[event.key] = event.command.SLBA, event.command.blocks, event.t
            flying[event.sqid] += 1
            most[event.sqid] = max(most[event.sqid], flying[event.sqid])
            peak = max(peak, flying.total())
        elif isinstance(event, Completed) and event.key in began:
            lba, blocks, begin = began.pop(event.key)
            flying[event.key[0]] -= 1
            if event.completion.ok:
                commands.append((event.key[0], lba, blocks, begin, event.t))
    return Load(asked, tuple(commands), most, peak) if commands else None


def loads(record: Record) -> Iterator[Load]:
    """Return the mixed loads that the device saw."""
    for asked in record.answers("load-mix"):
        if (found := load_of(record, asked)) is not None:
            yield found


def done(load: Load) -> Finding:
    """Return the finding on whether every operation of a load succeeded."""
    return Finding(load.whole, load.asked.ended, f"success: {load.wanted} operations, 0 errors, 0 mismatches", load.figures)


# -- checks ---------------------------------------------------------------------------------------------------------


@check("multiqueue/degrade", cite=BASE_2_0["5.27.1.5"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       needs=["load-mix"], scenarios=["multiqueue/few", "multiqueue/fewer"])  # fmt: skip
def degrade(record: Record) -> Iterator[Finding]:
    """Works when it is granted fewer queues than there are CPUs."""
    for asked in record.answers("load"):
        if not asked.ok or record.saw(asked, CreateIoSq):
            yield Finding(asked.ok, asked.ended, "success", asked.said)
    for load in loads(record):
        yield done(load)


@check("multiqueue/per-cpu", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["multiqueue/plain", "multiqueue/latency"])  # fmt: skip
def per_cpu(record: Record) -> Iterator[Finding]:
    """Submits what comes from one CPU to one queue, and to another one than what comes from another CPU."""
    for load in loads(record):
        mix = Mix.of(load.asked.arguments)
        used = [{sqid for sqid, lba, *_ in load.commands if lba in mix.region(job)} for job in range(mix.jobs)]
        for job, queues in enumerate(used):
            others = set[int]().union(*(other for number, other in enumerate(used) if number != job))
            ok = len(queues) == 1 and not queues & others
            rest = listed(sorted(set[int]().union(*(other for n, other in enumerate(used) if n != job))))
            shown = f"SQs {listed(sorted(queues))}; other CPUs: {rest}"
            yield Finding(ok, load.asked.ended, f"one queue of its own for CPU {job}", shown)


@check("multiqueue/own-vector", cite=PCIE_1_0["3.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def own_vector(record: Record) -> Iterator[Finding]:
    """Gives each I/O completion queue a vector of its own where there are enough."""
    for state, event, command in record.commands(CreateIoCq):
        used = [cq.vector for cq in state.cqs.values() if cq.qid and cq.vector is not None]
        by_table = state.spec.msix and state.interrupts in ("", "msix")  # INTx has one vector, and MSI what the host grants
        if command.IEN and used and by_table and len(used) + 1 < state.spec.vectors:
            expected = f"another vector than {listed(sorted(used))}"
            yield Finding(command.IV not in used, event, expected, f"vector {command.IV}", ("IV", "IEN"))


@check("multiqueue/depth", cite=BASE_2_0["3.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["multiqueue/deep"])  # fmt: skip
def depth(record: Record) -> Iterator[Finding]:
    """Keeps as many commands outstanding on a queue as are asked of it, or half of them at the least."""
    sizes = {qid: sq.size for state, _ in record.walk() for qid, sq in state.sqs.items()}
    for load in loads(record):
        for qid, most in load.most.items():
            asked = min(int(load.asked.arguments["depth"]), sizes.get(qid, SHORT) - 1)
            yield Finding(2 * most >= asked, load.asked.ended, f"up to {asked} in flight on SQ {qid}", f"{most}")


@check("multiqueue/batch", cite=PRACTICE, level=OPTIONAL, why="practice", witnesses=["wire"], needs=["read"],
       scenarios=["multiqueue/split"])  # fmt: skip
def batch(record: Record) -> Iterator[Finding]:
    """Announces several commands by one doorbell when it has them."""
    for asked in record.answers("read"):
        rung, sent = Counter[int](), Counter[int]()
        for _, event in record.during(asked, Doorbell, Submitted):
            match event:
                case Doorbell(qid=qid, completion=False) if qid > 0:
                    rung[qid] += 1
                case Submitted(sqid=qid, command=Read()):
                    sent[qid] += 1
        for qid, count in sent.items():
            if count >= SHORT:
                shown = f"{rung[qid]} doorbells for {count} commands"
                yield Finding(2 * rung[qid] <= count, asked.ended, f"a doorbell of SQ {qid} for two commands or more", shown)


@check("multiqueue/shadow-doorbells", cite=BASE_2_0["5.8"], level=OPTIONAL, why="integrity",
       witnesses=["out", "wire", "fault"], needs=["load-mix"],
       scenarios=["multiqueue/shadow", "multiqueue/shadow-refused", "multiqueue/shadow-reset",
                  "multiqueue/gathered", "multiqueue/gathered-shared"])  # fmt: skip
def shadow_doorbells(record: Record) -> Iterator[Finding]:
    """Loses no command by shadow doorbells, and does without them where the controller refuses Doorbell Buffer Config."""
    if not any(record.commands(DoorbellBufferConfig)):
        return
    for asked in record.asked:
        if asked.action == "load":
            yield Finding(asked.ok, asked.ended or asked.started, "success", asked.status or "no answer")
    for asked in record.answers("load-mix"):
        load, acted = load_of(record, asked), deeds(record, asked)
        if load is not None or not asked.ok:
            ok = load is not None and load.whole and acted == NOTHING_DONE
            shown = f"{load.figures if load else asked.status}, {acted}"
            yield Finding(ok, asked.ended, f"all operations, with {NOTHING_DONE}", shown)


@check("multiqueue/shadow-barrier", cite=BASE_2_0["B.5"], level=OPTIONAL, why="integrity", witnesses=["memory", "wire"],
       scenarios=["multiqueue/shadow", "multiqueue/shadow-refused", "multiqueue/shadow-reset"])  # fmt: skip
def shadow_barrier(record: Record) -> Iterator[Finding]:
    """Writes entry, shadow doorbell and, where the EventIdx asks for it, doorbell in this order, with barriers in between; and
    writes nothing into the two buffers but at the places of its queues."""
    order = Order()
    for state, event in record.walk() if len(record.controllers) == 1 else ():
        yield from order.follow(state, event)
    yield from order.end()


@check("multiqueue/back-pressure", cite=BASE_2_0["3.3.1"], level=MANDATORY, why="integrity", witnesses=["out", "wire"],
       needs=["load-mix"], scenarios=["multiqueue/full"])  # fmt: skip
def back_pressure(record: Record) -> Iterator[Finding]:
    """Holds requests back while a ring is full, and loses none."""
    sizes = {qid: sq.size for state, _ in record.walk() for qid, sq in state.sqs.items()}
    for load in loads(record):
        if not load.whole or any(most >= sizes.get(qid, 0) - 1 for qid, most in load.most.items()):
            yield done(load)


@check("multiqueue/shared-cq", cite=BASE_2_0["3.3.3.2"], level=OPTIONAL, why="practice", witnesses=["out", "wire"],
       needs=["load-mix"], scenarios=["multiqueue/plain", "multiqueue/latency", "multiqueue/long"])  # fmt: skip
def shared_cq(record: Record) -> Iterator[Finding]:
    """Distinguishes submission queues that share a completion queue."""
    shared = any(len({sq.cqid for sq in state.sqs.values()}) < len(state.sqs) for state, _ in record.walk())
    for load in loads(record) if shared else ():
        acted = deeds(record, load.asked)
        ok = load.whole and WAS_RESET not in acts(record, load.asked)
        yield Finding(ok, load.asked.ended, "all operations, without a reset", f"{load.figures}, {acted}")


@check("multiqueue/spurious-interrupt", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "fault"],
       needs=["load-mix"], scenarios=["multiqueue/spurious"])  # fmt: skip
def spurious_interrupt(record: Record) -> Iterator[Finding]:
    """Takes an interrupt without a completion for nothing."""
    for load in loads(record) if strikes(record) else ():
        yield done(load)


@check("multiqueue/integrity", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out", "store"],
       needs=["load-mix"], scenarios=["multiqueue/plain", "multiqueue/latency", "multiqueue/long", "multiqueue/few",
                                      "multiqueue/fewer", "multiqueue/full", "multiqueue/spurious", "multiqueue/shadow",
                                      "multiqueue/shadow-reset", "multiqueue/shadow-refused", "multiqueue/gathered",
                                      "multiqueue/gathered-shared", "multiqueue/reset-under-load"])  # fmt: skip
def integrity(record: Record) -> Iterator[Finding]:
    """Corrupts nothing under a mixed load on all queues.

    After a write that failed, and that the driver did not repeat, a read may find either content.
    """
    for load in loads(record):
        mismatches = load.asked.answer.get("mismatches", 0)
        if not (mismatches and load.asked.answer.get("errors")):
            yield Finding(not mismatches, load.asked.ended, "reads of what was written", f"{mismatches} mismatches")
        yield from _read_back(record, load)
        for controller in record.controllers:
            for namespace in controller.namespaces:
                image = record.evidence.image(controller.id, namespace.nsid)
                disk = final_disks(record)[key_of(record, controller, namespace)]
                for found in differences(image, controller.id, disk) if image else ():
                    where = f"namespace {found.nsid}, LBA {found.lba}"
                    yield Finding(False, load.asked.ended, f"{where}: {show(found.expected)}", show(found.actual))


def _read_back(record: Record, load: Load) -> Iterator[Finding]:
    """Judge whether the driver reads back from each job's region what must be there after the load."""
    mix = Mix.of(load.asked.arguments)
    for asked, disk in replay(record):
        if asked.number != load.asked.number:
            continue
        disk.apply(asked)
        for job, found in enumerate(load.asked.answer.get("regions", ())):
            region = mix.region(job)
            held = disk.expect_range(region.start, len(region))
            if held is not None:
                expected = sha256(held).hexdigest()
                yield Finding(found == expected, load.asked.ended, f"job {job}'s region: {expected[:16]}…", f"{found[:16]}…")


@check("multiqueue/reset-under-load", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out", "fault"],
       needs=["load-mix"], scenarios=["multiqueue/reset-under-load"])  # fmt: skip
def reset_under_load(record: Record) -> Iterator[Finding]:
    """Loses no request over a reset under load: each one ends, well or with an error."""
    for load in loads(record) if strikes(record) else ():
        shown = f"{load.figures}, by {deeds(record, load.asked)}"
        ok = load.asked.status != "timeout" and load.ended == load.wanted
        yield Finding(ok, load.asked.ended, f"{load.wanted} operations that end", shown)
        good = load.ended - int(load.asked.answer.get("errors", 0))
        mix, reported = Mix.of(load.asked.arguments), load.asked.answer.get("regions", ())
        read_back = sum(len(mix.region(job)) for job, digest in enumerate(reported) if digest)
        moved = (sum(blocks for _, _, blocks, *_ in load.commands) - read_back) // mix.blocks
        yield Finding(moved >= good, load.asked.ended, f"commands for {good} operations that succeed", f"for {moved}")


@check("multiqueue/scaling", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["load-mix"],
       scenarios=["multiqueue/scaling"])  # fmt: skip
def scaling(record: Record) -> Iterator[Finding]:
    """Keeps more commands in flight with more depth, and more again with more queues."""
    seen = {(load.asked.arguments["jobs"], load.asked.arguments["depth"]): load for load in loads(record)}
    for (jobs, depth), more in seen.items():
        for less in (seen.get((jobs, _before(depth))), seen.get((jobs - 1, depth))):
            if less is not None:
                expected = f"at least {GROWTH} times the {less.peak} in flight of {_named(less)}"
                shown = f"{more.peak} in flight at most, {more.overlap:.1f} on average, {more.rate:.0f} commands/s"
                yield Finding(more.peak > GROWTH * less.peak, more.asked.ended, expected, f"{_named(more)}: {shown}")


def _before(depth: int) -> int:
    """Return the depth that was measured before this one; 0 if none was."""
    return max((other for other in DEPTHS if other < depth), default=0)


def _named(load: Load) -> str:
    jobs, depth = load.asked.arguments["jobs"], load.asked.arguments["depth"]
    return f"{jobs} job{'s' * (jobs > 1)} of depth {depth} on {load.queues} queue{'s' * (load.queues > 1)}"


# -- figures --------------------------------------------------------------------------------------------------------


@measure("multiqueue/throughput", title=f"Throughput on a medium of {MEDIUM_MS} ms", x=Axis("depth of each queue", "commands"),
         y=Axis("commands completed", "commands/s"), scenarios=["multiqueue/scaling"])  # fmt: skip
def throughput(record: Record) -> Iterator[Series]:
    """Commands a second, by what is asked for on each queue: a line for each number of jobs, with the queues that it used."""
    by_jobs: dict[int, list[Load]] = {}
    for load in loads(record):
        by_jobs.setdefault(int(load.asked.arguments["jobs"]), []).append(load)
    for jobs, done in sorted(by_jobs.items()):
        queues = max(load.queues for load in done)
        name = f"{jobs} job{'s' * (jobs > 1)} on {queues} queue{'s' * (queues > 1)}"
        points = sorted((int(load.asked.arguments["depth"]), load.rate) for load in done)
        yield Series(name, tuple(Point(depth, round(rate, 1)) for depth, rate in points))


@measure("multiqueue/in-flight", title=f"Commands in flight on a medium of {MEDIUM_MS} ms",
         x=Axis("depth of each queue", "commands"), y=Axis("in flight on all queues, on average", "commands"),
         scenarios=["multiqueue/scaling"])  # fmt: skip
def in_flight(record: Record) -> Iterator[Series]:
    """How well the driver keeps the device busy."""
    for jobs in range(1, CPUS + 1):
        found = {load.asked.arguments["depth"]: load.overlap for load in loads(record) if load.asked.arguments["jobs"] == jobs}
        yield Series(f"{jobs} job{'s' * (jobs > 1)}", tuple(Point(depth, round(found[depth], 2)) for depth in sorted(found)))


MICROSECONDS = (0.0, *(float(digit * 10**power) for power in range(9) for digit in (1, 2, 5)), 1e9)
"""Where the bars of the histogram begin; the last one ends beyond any scenario."""


@measure("multiqueue/latency", title="Latency that the driver adds", kind="histogram",
         x=Axis("from a completion to its head doorbell", "µs"), y=Axis("completions", "commands"),
         scenarios=["multiqueue/scaling"])  # fmt: skip
def latency_added(record: Record) -> Iterator[Series]:
    """Interrupt, and whatever lies between it and the driver's having taken the completion."""
    for load in loads(record):
        yield Series(_named(load), histogram(sorted(_reactions(record, load.asked)), MICROSECONDS))


def _reactions(record: Record, asked: Asked) -> Iterator[float]:
    """Microseconds from each completion on an I/O queue to the head doorbell that gives its slot back."""
    posted: dict[int, deque[float]] = {}
    for state, event in record.during(asked, Completed, Doorbell):
        match event:
            case Completed(cqid=qid, t=t) if qid > 0:
                posted.setdefault(qid, deque()).append(t)
            case Doorbell(completion=True, qid=qid) if (cq := state.cqs.get(qid)) and state.rings_all(qid):
                waiting = posted.get(qid, deque())
                for _ in range(min(len(waiting), (event.value - cq.head) % cq.size)):
                    yield (event.t - waiting.popleft()) * 1e6
