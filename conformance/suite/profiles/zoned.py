"""Profile zoned: namespaces of zones that are written in order. Zoned Namespace Command Set 1.1.

The specification lays these rules on the controller, which aborts what breaks them; annex A says what they mean for the host.
So they are recommended, and only what loses data is mandatory.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Asked, Record
from conformance.record.zones import ADDRESSED, ZonedCommand, zoned_commands
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import INTEGRITY, ZONED_1_1
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import Completed, Submitted
from lab.data.plan import Action, Fault, Namespace
from lab.nvme.commands import LbaCommand, Write, ZoneAppend, ZoneManagementReceive, ZoneManagementSend
from lab.nvme.status import Status, describe
from lab.nvme.zones import ZoneSendAction

ZONES, MOST_ZONES, ZONE = 8, 72, 2048
"""Zones that each namespace has at least and at most, and blocks of one."""
CAPACITY = 1536
WRITES = (*ADDRESSED, ZoneAppend)


def _zoned(draw: Draw, nsid: int = 1, **more: int) -> Namespace:
    return draw.namespace(nsid, blocks=draw.between(ZONES, MOST_ZONES) * ZONE, zone_blocks=ZONE, areas=(), **more)


def _write(draw: Draw, lba: int, blocks: int) -> Action:
    return do("write", nsid=1, lba=lba, blocks=blocks, fill=draw.fill())


def _read(lba: int, blocks: int) -> Action:
    return do("read", nsid=1, lba=lba, blocks=blocks)


def _zone(operation: str, zone: int | None = None) -> Action:
    where = {} if zone is None else {"lba": zone * ZONE}
    return do("zone", nsid=1, operation=operation, **where)


@scenario("zoned/sequence", "zones of which three quarters can be written are written in order, by commands of 8 KiB at most")
def sequence(draw: Draw) -> Plan:
    first, second = ZONE * draw.between(1, 3), ZONE * draw.between(4, 7)
    lengths = [8 * draw.between(1, 4), 64, 8 * draw.between(1, 4)]
    places = [first + sum(lengths[:number]) for number in range(len(lengths))]
    writes = [_write(draw, lba, length) for lba, length in zip(places, lengths, strict=True)]
    other = _write(draw, second, 16)
    read = _read(first, sum(lengths))
    device = draw.device(_zoned(draw, zone_capacity=CAPACITY), mdts=1)
    report = do("zones", nsid=1)
    return Plan(device, [LOAD, do("list"), report, writes[0], other, *writes[1:], read, _read(second, 16), report])


@scenario("zoned/boundary", "one write, and one read, of the rest of a zone and the beginning of the next")
def boundary_scenario(draw: Draw) -> Plan:
    zone = ZONE * draw.between(1, ZONES - 2)
    begun, rest = 8 * draw.between(1, 4), ZONE + 8 * draw.between(1, 8)
    written = [_write(draw, zone, begun), _write(draw, zone + begun, rest)]
    return Plan(draw.device(_zoned(draw)), [LOAD, *written, _read(zone, begun + rest), do("zones", nsid=1)])


@scenario("zoned/slow", "writes take 20 ms, and long ones are split")
def slow(draw: Draw) -> Plan:
    zone = ZONE * draw.between(1, ZONES - 1)
    late = Fault(name="slow", behaviour="delay", queue="io", opcode=Write.OPCODE, arguments={"ms": 20})
    written = [_write(draw, zone, 64), _write(draw, zone + 64, 8)]
    return Plan(draw.device(_zoned(draw), mdts=1), [LOAD, *written, _read(zone, 72)], [late])


@scenario("zoned/resources", "two zones may be open and three active, and zones are written until one must be finished")
def resources_scenario(draw: Draw) -> Plan:
    device = draw.device(_zoned(draw, max_open_zones=2, max_active_zones=3))
    three = [_write(draw, zone * ZONE, 8) for zone in (1, 2, 3)]
    again = [_write(draw, zone * ZONE + 8, 8) for zone in (1, 2, 3)]
    then = [_zone("finish", 2), _write(draw, 5 * ZONE, 8), _zone("reset", 1), _write(draw, 6 * ZONE, 8)]
    return Plan(device, [LOAD, *three, *again, *then, _read(3 * ZONE, 16), do("zones", nsid=1)])


@scenario("zoned/reset", "zones are opened, closed, finished and reset, one and all, and written anew")
def reset_scenario(draw: Draw) -> Plan:
    kept, lost = draw.between(0, 3), draw.between(4, 7)
    written = [_write(draw, kept * ZONE, 16), _write(draw, lost * ZONE, 16)]
    opened = [_zone("open", lost), _zone("close", lost), _zone("reset", lost), _read(kept * ZONE, 16)]
    anew = [_write(draw, lost * ZONE, 8), _read(lost * ZONE, 8), _write(draw, kept * ZONE + 16, 8), _zone("finish", kept)]
    report = do("zones", nsid=1)
    every = [_read(kept * ZONE, 24), report, _zone("reset"), report, _write(draw, kept * ZONE, 8), _read(kept * ZONE, 8)]
    return Plan(draw.device(_zoned(draw)), [LOAD, *written, *opened, *anew, *every])


@scenario("zoned/append", "blocks are appended to zones, by commands of 8 KiB at most")
def append_scenario(draw: Draw) -> Plan:
    zone = ZONE * draw.between(1, 6)

    def append(blocks: int) -> Action:
        return do("zone-append", nsid=1, lba=zone, blocks=blocks, fill=draw.fill())

    device = draw.device(_zoned(draw, zone_capacity=CAPACITY), mdts=3, zone_append_limit=1)
    report = do("zones", nsid=1)
    return Plan(device, [LOAD, _write(draw, zone, 8), append(8), append(40), _read(zone, 56), report])


@scenario("read/beside-zones", "a zoned namespace beside a conventional one, which is read and written",
          command_seconds=90)  # fmt: skip
def beside(draw: Draw) -> Plan:
    """Ask nothing of the zoned one: a driver may know nothing of zones."""
    lba = draw.between(1, 900)
    device = draw.device(draw.namespace(1), _zoned(draw, 2))
    return Plan(device, [LOAD, do("list"), _read(lba, 8), _write(draw, lba, 8), _read(lba, 8)])


SCENARIOS = tuple(f"zoned/{name}" for name in ("sequence", "boundary", "slow", "resources", "reset", "append"))

# -- where zones are written ----------------------------------------------------------------------------------------------


def _asked(record: Record, event: Submitted) -> Asked | None:
    """Return the action during which the driver sent a command."""
    for asked in record.asked:
        if asked.started.t <= event.t and (asked.ended is None or event.t <= asked.ended.t):
            return asked
    return None


@check("zoned/sequential", cite=ZONED_1_1["A.2"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       scenarios=SCENARIOS)  # fmt: skip
def sequential(record: Record) -> Iterator[Finding]:
    """Begins each write to a zone at its write pointer; the controller would answer Zone Invalid Write."""
    for one in zoned_commands(record):
        if isinstance(one.command, ADDRESSED) and not one.writes_in_flight:
            pointer = one.pointers.at(one.command.SLBA)
            if pointer is not None:
                ok = one.command.SLBA == pointer
                yield Finding(ok, one.event, f"LBA {pointer}", f"LBA {one.command.SLBA}", fields=("SLBA", "NSID"))


@check("zoned/in-order", cite=ZONED_1_1["2.1.2"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       scenarios=SCENARIOS)  # fmt: skip
def in_order(record: Record) -> Iterator[Finding]:
    """Waits for the end of a write before it submits the next one to the same zone: the controller keeps no order."""
    for one in zoned_commands(record):
        if isinstance(one.command, ADDRESSED):
            others = one.writes_in_flight
            shown = f"LBA {one.command.SLBA} behind {len(others)} writes in flight" if others else "none"
            yield Finding(not others, one.event, "no write in flight to this zone", shown, fields=("SLBA", "NSID"))


@check("zoned/boundary", cite=ZONED_1_1["2.1.1"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       scenarios=SCENARIOS)  # fmt: skip
def boundary(record: Record) -> Iterator[Finding]:
    """Keeps each command within one zone, and what it writes within what can be written of the zone."""
    for one in zoned_commands(record):
        if isinstance(one.command, LbaCommand):
            lba, last = one.command.SLBA, one.command.SLBA + one.command.blocks - 1
            end = one.pointers.end(lba) if isinstance(one.command, WRITES) else one.pointers.start(lba) + _size(one)
            yield Finding(last < end, one.event, f"up to LBA {end - 1}", f"LBA {lba} to {last}", fields=("SLBA", "NLB", "NSID"))


def _size(one: ZonedCommand) -> int:
    return one.pointers.namespace.zone_blocks


@check("zoned/limits", cite=ZONED_1_1["A.3"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       scenarios=["zoned/resources"])  # fmt: skip
def limits(record: Record) -> Iterator[Finding]:
    """Keeps no more zones open and active than the namespace has resources for, where its user asks for no more."""
    refusals = (Status.ZONED_TOO_MANY_ACTIVE, Status.ZONED_TOO_MANY_OPEN)
    for state, event in record.walk(Completed):
        sent = state.answered(event)
        if sent is not None and sent.sqid and isinstance(sent.command, (*WRITES, ZoneManagementSend)):
            done = event.completion
            shown = "success" if done.ok else describe(done.SCT, done.SC)
            expected = "not refused for want of resources"
            yield Finding(done.status not in refusals, event, expected, shown, fields=("SC", "SCT"))


@check("zoned/zone-start", cite=ZONED_1_1["3.4.1"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       scenarios=SCENARIOS)  # fmt: skip
def zone_start(record: Record) -> Iterator[Finding]:
    """Names a zone by its first block in Zone Append and in Zone Management Send."""
    for one in zoned_commands(record):
        if not isinstance(one.command, ZoneAppend | ZoneManagementSend):
            continue
        if isinstance(one.command, ZoneAppend) or not one.command.SELECT_ALL:
            start, lba = one.pointers.start(one.command.SLBA), one.command.SLBA
            yield Finding(lba == start, one.event, f"LBA {start}", f"LBA {lba}", fields=("SLBA", "NSID"))


@check("zoned/append-limit", cite=ZONED_1_1["4.1.5"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       uses="Zone Append", scenarios=["zoned/append"])  # fmt: skip
def append_limit(record: Record) -> Iterator[Finding]:
    """Appends no more data by one command than ZASL allows, or MDTS where ZASL is 0."""
    for one in zoned_commands(record):
        power = one.state.spec.zone_append_limit or one.state.spec.mdts
        if isinstance(one.command, ZoneAppend) and power and one.state.cap is not None:
            limit = (4096 << one.state.cap.MPSMIN) << power
            length = one.command.blocks * one.pointers.namespace.block_size
            yield Finding(length <= limit, one.event, f"at most {limit} bytes", f"{length} bytes", fields=("NLB", "NSID"))


# -- what the driver says, and what it keeps ------------------------------------------------------------------------------


@check("zoned/report", cite=ZONED_1_1["3.4.2"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"], needs=["zones"],
       scenarios=SCENARIOS)  # fmt: skip
def report(record: Record) -> Iterator[Finding]:
    """Reports every zone, its capacity, and the write pointer that the device has."""
    known: dict[int, dict[int, int | None]] = {}  # by the number of the report during which they were so
    for one in zoned_commands(record):
        if isinstance(one.command, ZoneManagementReceive) and (asked := _asked(record, one.event)):
            known[asked.number] = {**one.pointers.known}
    for asked in record.answers("zones"):
        namespace = record.controllers[0].namespace(int(asked.arguments["nsid"]))
        if namespace is None or not asked.ok or asked.number not in known:
            continue
        shown = {int(zone["lba"]): (zone["capacity"], zone["pointer"]) for zone in asked.all("zones")}
        starts = range(0, namespace.blocks, namespace.zone_blocks)
        wrong = sorted(set(starts) ^ set(shown))
        told = f"{len(shown)}, and not alike from LBA {wrong[0]} on" if wrong else f"{len(shown)}"
        yield Finding(not wrong, asked.ended, f"{len(starts)} zones", told)
        for start in starts:
            pointer = known[asked.number].get(start, start)
            if start in shown and pointer is not None:
                capacity, reported = shown[start]
                full = pointer == start + namespace.writable_zone  # no write pointer is valid then
                ok = capacity == namespace.writable_zone and (full or reported == pointer)
                expected = f"LBA {start}: {namespace.writable_zone} blocks, pointer {'any' if full else pointer}"
                yield Finding(ok, asked.ended, expected, f"{capacity} blocks, pointer {reported}")


@check("zoned/placed", cite=ZONED_1_1["3.4.1"], level=MANDATORY, why="integrity", witnesses=["out", "wire"],
       needs=["zone-append"], uses="Zone Append", scenarios=["zoned/append"])  # fmt: skip
def placed(record: Record) -> Iterator[Finding]:
    """Reports the blocks that the controller has assigned as the places of what it has appended."""
    for asked in record.answers("zone-append"):
        if not asked.ok:
            continue
        shown = [(place["lba"], place["blocks"]) for place in asked.all("placed")]
        sent = [(event, state.answered(event)) for state, event in record.during(asked, Completed)]
        ended = [(event, one.command) for event, one in sent if one is not None and isinstance(one.command, ZoneAppend)]
        actual = ", ".join(f"LBA {lba}, {blocks} blocks" for lba, blocks in shown) or "nothing"
        for event, command in ended:
            if event.completion.ok:
                lba = event.completion.DW1 << 32 | event.completion.DW0
                end = lba + command.blocks  # one may overtake another, and neighbours may be named as one place
                ok = any(first <= lba and end <= first + blocks for first, blocks in shown)
                yield Finding(ok, event, f"LBA {lba}, {command.blocks} blocks", actual, fields=("DW0", "DW1"))


@check("zoned/kept", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"],
       scenarios=SCENARIOS)  # fmt: skip
def kept(record: Record) -> Iterator[Finding]:
    """Resets no zone that holds data but those that it was asked to reset."""
    for one in zoned_commands(record):
        if not isinstance(one.command, ZoneManagementSend) or one.command.ZSA != ZoneSendAction.RESET:
            continue
        asked = _asked(record, one.event)
        every = bool(one.command.SELECT_ALL)
        lost = [start for start in one.pointers.written() if every or start == one.command.SLBA]
        wanted = asked is not None and asked.action == "zone" and asked.arguments.get("operation") == "reset"
        named = asked.arguments.get("lba") if wanted and asked is not None else None
        spoilt = [start for start in lost if not wanted or (named is not None and start != named)]
        expected = "zones that it was asked to reset"
        shown = f"the zone from LBA {spoilt[0]} on" if spoilt else "no other"
        yield Finding(not spoilt, one.event, expected, shown, fields=("ZSA", "SELECT_ALL", "SLBA", "NSID"))
