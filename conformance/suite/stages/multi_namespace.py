"""Stage 7, multi-namespace: namespaces and controllers, several and changing. Base 2.0, 3.2.1, 5.16, 5.17."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from conformance.record.disk import CHANGES, differences, final_disks, meant, replay, show
from conformance.record.record import Asked, Record
from conformance.record.state import State
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, OPTIONAL, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.read import returned
from lab.data.events import Completed, Event, Submitted
from lab.data.plan import Action, Controller, DeviceSpec, Fault
from lab.nvme.async_events import AsyncEvent
from lab.nvme.commands import (
    BROADCAST_NSID,
    AsyncEventRequest,
    Command,
    DatasetManagement,
    Flush,
    GetLbaStatus,
    GetLogPage,
    Identify,
    NamespaceAttachment,
    NamespaceManagement,
    Read,
    Write,
    WriteZeroes,
)
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid

FLUSH_BROADCAST_REFUSED = 2
"""VWC bits 2:1 of a controller whose Flush does not take NSID FFFFFFFFh."""


RESHAPED, FORMAT_4096 = 4096, 1
"""Blocks of 512 bytes of a namespace that changes, and the programmable controller's LBA format of 4096 bytes."""
RESHAPES = ("resize", "reformat")
"""Actions of the lab that change a namespace in use."""


def _read(nsid: int, lba: int, blocks: int, **more: str) -> Action:
    return do("read", nsid=nsid, lba=lba, blocks=blocks, **more)


def _round(draw: Draw, nsids: Sequence[int], **more: str) -> list[Action]:
    """Return writes to the same blocks of each namespace, and then reads of all of them."""
    lba = draw.between(8, 100)
    writes = [do("write", nsid=nsid, lba=lba, blocks=4, fill=draw.fill(), **more) for nsid in nsids]
    return [*writes, *(_read(nsid, lba - 1, 6, **more) for nsid in nsids)]


@scenario("multi-namespace/sparse", "namespaces with gaps between their ids, and none with id 1")
def sparse_scenario(draw: Draw) -> Plan:
    nsids = 2, draw.between(4, 9), draw.between(20, 200)
    device = draw.device(*map(draw.namespace, nsids))
    return Plan(device, [LOAD, do("list"), *(_read(n, draw.between(1, 900), 8) for n in nsids)])


@scenario("multi-namespace/sparse-1.0", "the same on a controller of 1.0, which has no list of them")
def sparse_1_0(draw: Draw) -> Plan:
    nsids = 2, draw.between(4, 9), draw.between(11, 16)
    device = draw.device(*map(draw.namespace, nsids), version="1.0", identify={"NN": 16})
    return Plan(device, [LOAD, do("list"), *(_read(n, draw.between(1, 900), 8) for n in nsids)])


@scenario("multi-namespace/same-blocks", "the same blocks of namespaces of 512-byte and of 4096-byte blocks")
def same_blocks(draw: Draw) -> Plan:
    held = draw.namespace(1), draw.namespace(2, block_size=4096), draw.namespace(3)
    return Plan(draw.device(*held), [LOAD, do("list"), *_round(draw, (3, 1, 2)), do("flush", nsid=2)])


@scenario("multi-namespace/one-of-many", "one namespace, although the controller knows ids for hundreds")
def one_of_many_scenario(draw: Draw) -> Plan:
    return Plan(draw.device(draw.namespace(draw.between(30, 200))), [LOAD, do("list")])


@scenario("multi-namespace/one-of-256", "one namespace of 256 on a controller of 1.0, which has no list of them")
def one_of_256(draw: Draw) -> Plan:
    device = draw.device(draw.namespace(draw.between(30, 200)), version="1.0", identify={"NN": 256})
    return Plan(device, [LOAD, do("list")])


@scenario("multi-namespace/bad-neighbour", "Identify Namespace fails for the one in the middle", hostile=True)
def bad_neighbour_scenario(draw: Draw) -> Plan:
    return _one_fails(draw, Cns.NAMESPACE)


@scenario("multi-namespace/bad-descriptors", "the list of its identifiers fails for the one in the middle", hostile=True)
def bad_descriptors(draw: Draw) -> Plan:
    return _one_fails(draw, Cns.NAMESPACE_DESCRIPTORS)


def _one_fails(draw: Draw, cns: Cns) -> Plan:
    fails = Fault(
        name="fails", behaviour="status", queue="admin", opcode=Identify.OPCODE, cdw10=cns, nsid=2,
        arguments={"sc": 0x06, "dnr": 1},
    )  # fmt: skip
    held = draw.namespace(1), draw.namespace(2), draw.namespace(3)
    return Plan(draw.device(*held), [LOAD, do("list"), _read(1, 5, 4), _read(3, 5, 4)], [fails])


@scenario("multi-namespace/many", "forty namespaces")
def many_scenario(draw: Draw) -> Plan:
    nsids = [draw.between(1, 4)]
    while len(nsids) < 40:
        nsids.append(nsids[-1] + draw.between(1, 5))
    held = [draw.namespace(n, blocks=draw.between(2048, 8192), areas=((0, 32),)) for n in nsids]
    return Plan(draw.device(*held), [LOAD, do("list"), _read(nsids[17], 3, 4), _read(nsids[-1], 7, 4)])


@scenario("multi-namespace/changed", "a namespace is detached from the running controller, and attached again")
def changed_scenario(draw: Draw) -> Plan:
    return _comes_and_goes(draw)


def _comes_and_goes(draw: Draw, *faults: Fault) -> Plan:
    held = draw.namespace(1), draw.namespace(2), draw.namespace(3)
    away = [do("detach", nsid=2), do("list", until=[1, 3])]
    back = [do("attach", nsid=2), do("list", until=[1, 2, 3])]
    return Plan(draw.device(*held), [LOAD, do("list"), *away, *back, _read(2, draw.between(1, 900), 8)], faults)


def _reshaped(draw: Draw, change: Action, blocks: int, *then: Action) -> Plan:
    """Return a plan in which the first of two namespaces changes, and has so many blocks then."""
    device = draw.device(draw.namespace(1, blocks=RESHAPED), draw.namespace(2))
    asked = [LOAD, do("list"), _read(1, draw.between(1, 900), 4), change, do("list", until=[1, 2], blocks=blocks)]
    return Plan(device, [*asked, *then, _read(2, 3, 4)])


@scenario("multi-namespace/grown", "a namespace in use becomes twice as large", hostile=True)
def grown(draw: Draw) -> Plan:
    lba = RESHAPED + draw.between(8, 900)
    written = do("write", nsid=1, lba=lba, blocks=4, fill=draw.fill())
    return _reshaped(draw, do("resize", nsid=1, blocks=2 * RESHAPED), 2 * RESHAPED, written, _read(1, lba - 1, 6))


@scenario("multi-namespace/shrunk", "a namespace in use becomes half as large", hostile=True)
def shrunk(draw: Draw) -> Plan:
    half = RESHAPED // 2
    return _reshaped(draw, do("resize", nsid=1, blocks=half), half, _read(1, RESHAPED - 8, 4), _read(1, 5, 4))


@scenario(
    "multi-namespace/reformatted", "a namespace in use is formatted by another host, with blocks of 4096 bytes", hostile=True
)
def reformatted(draw: Draw) -> Plan:
    return _reshaped(draw, do("reformat", nsid=1, format=FORMAT_4096), RESHAPED // 8)


@scenario("multi-namespace/changed-many", "the same, and the log says that more have changed than it can hold")
def changed_many(draw: Draw) -> Plan:
    overflow = BROADCAST_NSID.to_bytes(4, "little") + bytes(4092)
    many = Fault(name="many", behaviour="replace", queue="admin", opcode=GetLogPage.OPCODE, cdw10=Lid.CHANGED_NAMESPACES,
                 arguments={"hex": overflow.hex()})  # fmt: skip
    return _comes_and_goes(draw, many)


@scenario("multi-namespace/gone", "blocks of a namespace that has been detached", hostile=True)
def gone(draw: Draw) -> Plan:
    held = draw.namespace(1), draw.namespace(2)
    asked = [_read(2, 3, 4), do("detach", nsid=2), do("list", until=[1]), _read(2, 3, 4), _read(1, 3, 4)]
    return Plan(draw.device(*held), [LOAD, *asked])


@scenario("multi-namespace/gone-untold", "the same, and the driver gets no event", hostile=True)
def gone_untold(draw: Draw) -> Plan:
    held = draw.namespace(1), draw.namespace(2)
    asked = [_read(2, 3, 4), do("detach", nsid=2, quiet=True), _read(2, 3, 4), _read(1, 3, 4), do("list")]
    return Plan(draw.device(*held), [LOAD, *asked])


@scenario("multi-namespace/shared", "two controllers of one subsystem share a namespace")
def shared_scenario(draw: Draw) -> Plan:
    uuid, eui64 = str(UUID(int=draw.fill() << 80 | draw.fill() << 16 | 1)), draw.fill() << 8 | 1
    namespace, serial = draw.namespace(1, shared=True, uuid=uuid, eui64=eui64), draw.serial()
    both = tuple(Controller(id=id, serial=serial, namespaces=(namespace,)) for id in ("nv0", "nv1"))
    return Plan(DeviceSpec(controllers=both), [LOAD, do("list"), *_round(draw, [1])])


@scenario("multi-namespace/private", "two controllers, each with a namespace 1 of its own")
def private_scenario(draw: Draw) -> Plan:
    ids = "nv0", "nv1"
    both = tuple(Controller(id=id, serial=draw.serial(), namespaces=(draw.namespace(1),)) for id in ids)
    lba = draw.between(8, 100)
    writes = [do("write", nsid=1, lba=lba, blocks=4, fill=draw.fill(), controller=id) for id in ids]
    return Plan(
        DeviceSpec(controllers=both),
        [LOAD, do("list"), *writes, *(_read(1, lba - 1, 6, controller=id) for id in ids)],
    )


def _identified(record: Record) -> bool:
    """Did any controller see an Identify? What a driver reports without one proves nothing."""
    return any(isinstance(event.command, Identify) for event in record.all(Submitted))


def _claimed_namespaces(asked: Asked) -> list[int]:
    """Return the namespace ids in a list."""
    return sorted(claim["nsid"] for claim in asked.all("namespaces") if "nsid" in claim)


def _exactly(record: Record) -> Iterator[Finding]:
    """Judge whether each list holds the namespaces that were attached from the start, and nothing else."""
    active = sorted(n.nsid for c in record.controllers for n in c.namespaces if n.attached)
    for asked in record.answers("list"):
        claim = _claimed_namespaces(asked)
        if claim != active or _identified(record):
            yield Finding(claim == active, asked.ended, f"namespaces {listed(active)}", claim if asked.ok else asked.status)


@check("multi-namespace/sparse", cite=BASE_2_0["5.17"], level=MANDATORY, why="integrity", witnesses=["out"], needs=["list"],
       scenarios=["multi-namespace/sparse", "multi-namespace/sparse-1.0"])  # fmt: skip
def sparse(record: Record) -> Iterator[Finding]:
    """Finds every namespace, whatever gaps there are between their ids."""
    yield from _exactly(record)


@check("multi-namespace/block-size", cite=NVM_1_0["4.1.5"], level=MANDATORY, why="integrity", witnesses=["out", "store"],
       needs=["list", "read"], scenarios=["multi-namespace/same-blocks"])  # fmt: skip
def block_size(record: Record) -> Iterator[Finding]:
    """Keeps the block size of each namespace apart."""
    for asked in record.answers("list"):
        for claim in asked.all("namespaces"):
            namespace = record.spec_at(record.controllers[0], asked.ended).namespace(claim.get("nsid", 0))
            if namespace and "block_size" in claim and (_identified(record) or claim["block_size"] != namespace.block_size):
                expected = f"namespace {namespace.nsid}: {namespace.block_size}"
                yield Finding(claim["block_size"] == namespace.block_size, asked.ended, expected, claim["block_size"])
    for asked, disk in replay(record):
        if asked.action == "read" and asked.ended and asked.status != "unsupported":
            yield from returned(record, asked, disk)


@check("multi-namespace/no-crosstalk", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="integrity", witnesses=["wire", "store"],
       needs=["write"])  # fmt: skip
def no_crosstalk(record: Record) -> Iterator[Finding]:
    """Reads, writes, zeroes and trims the namespace that was asked for, and changes no other."""
    if sum(len(controller.namespaces) for controller in record.controllers) == 1:
        return
    for asked in record.answers("read", *CHANGES):
        wanted = asked.arguments["nsid"]
        for _, event in record.during(asked, Submitted):
            if isinstance(event.command, (Read, Write, WriteZeroes, DatasetManagement)):
                nsid = event.command.NSID
                yield Finding(nsid == wanted, event, f"NSID {wanted}", f"{event.command.NSID:#x}", fields=("NSID",))
    written = [asked for asked in record.answers("write") if asked.ok and record.saw(asked, Write)]
    meant_too = {meant(record, asked) for asked in record.answers(*CHANGES)}  # what is wrong in these is write/exact's
    for (controller, nsid), disk in final_disks(record).items() if written else ():
        if (controller, nsid) not in meant_too and (image := record.evidence.image(controller, nsid)):
            where = f"namespace {nsid} of {controller}"
            for found in differences(image, controller, disk):
                yield Finding(False, written[-1].ended, f"{where}, LBA {found.lba}: {show(found.expected)}", show(found.actual))
            yield Finding(True, written[-1].ended, f"{where} as it was asked for", "looked at")


@check("multi-namespace/one-of-many", cite=BASE_2_0["5.17"], level=MANDATORY, why="integrity", witnesses=["out"],
       needs=["list"], scenarios=["multi-namespace/one-of-many", "multi-namespace/one-of-256"])  # fmt: skip
def one_of_many(record: Record) -> Iterator[Finding]:
    """Shows one disk for the one active namespace, however many the controller has ids for (NN)."""
    yield from _exactly(record)


@check("multi-namespace/bad-neighbour", cite=PRACTICE, level=MANDATORY, why="integrity", witnesses=["fault"], needs=["list"],
       scenarios=["multi-namespace/bad-neighbour", "multi-namespace/bad-descriptors"])  # fmt: skip
def bad_neighbour(record: Record) -> Iterator[Finding]:
    """Shows the other namespaces where one fails Identify."""
    for asked in record.answers("list"):
        claim = _claimed_namespaces(asked)
        if any(record.commands(Identify)):
            yield Finding({1, 3} <= {*claim}, asked.ended, "namespaces 1 and 3", claim if asked.ok else asked.status)


@check("multi-namespace/broadcast", cite=BASE_2_0["5"], level=MANDATORY, why="shall", witnesses=["wire"])
def broadcast(record: Record) -> Iterator[Finding]:
    """Uses NSID FFFFFFFFh only with commands that can mean all namespaces."""
    for state, event, command in record.commands(Command):
        if event.sqid == 0 and command.NSID != BROADCAST_NSID:
            continue
        refused = state.profile is not None and state.profile.controller.VWC.FLUSH_BROADCAST == FLUSH_BROADCAST_REFUSED
        ok = command.NSID != BROADCAST_NSID or _means_all(command, event.sqid == 0, refused)
        shown = f"{type(command).__name__} of NSID {command.NSID:#x}"
        yield Finding(ok, event, "the id of a namespace", shown, fields=("OPC", "NSID"))


VENDOR_ADMIN, VENDOR_IO = 0xC0, 0x80
"""The first opcodes that are the vendor's own: what they do with a namespace id is too."""
NEVER_ALL = NamespaceAttachment, GetLbaStatus
"""Admin commands that use a namespace id and do not take FFFFFFFFh. Base 2.0, 5, figure 138, note 4."""


def _means_all(command: Command, admin: bool, flush_refused: bool) -> bool:
    """May a command name all namespaces at once? Base 2.0, 5, figure 138, and 7, figure 390.

    A command that does not use its namespace id at all is admin-queue/nsid-unused's.
    """
    if command.OPC >= (VENDOR_ADMIN if admin else VENDOR_IO):
        return True
    match command:
        case Flush():
            return not flush_refused
        case Identify():
            return command.CNS in (Cns.NAMESPACE, Cns.CSI_NAMESPACE)  # what all have in common
        case NamespaceManagement():
            return command.SEL == 1
    return admin and not isinstance(command, NEVER_ALL)


@check("multi-namespace/changed", cite=BASE_2_0["5.16"], level=RECOMMENDED, why="practice", witnesses=["wire", "fault"],
       needs=["list"], scenarios=["multi-namespace/changed", "multi-namespace/changed-many"])  # fmt: skip
def changed(record: Record) -> Iterator[Finding]:
    """Follows namespaces that come and go, by the event and by log page 04h."""
    changes = [asked for asked in record.asked if asked.action in ("attach", "detach")]
    if not changes or not all(asked.ok for asked in changes):
        return
    for asked in record.answers("list"):
        if (wanted := asked.arguments.get("until")) is not None and _identified(record):
            yield Finding(
                _claimed_namespaces(asked) == wanted, asked.ended, f"namespaces {listed(wanted)}", _claimed_namespaces(asked)
            )
    unread: list[Completed] = []
    for state, event in record.walk(Completed, Submitted):
        if _tells_of_namespaces(state, event):
            assert isinstance(event, Completed)
            unread.append(event)
        elif isinstance(event, Submitted) and _reads(event.command, Lid.CHANGED_NAMESPACES):
            yield from (Finding(True, claim, "log page 04h is read", "it is", fields=("DW0",)) for claim in unread)
            unread.clear()
    yield from (Finding(False, claim, "log page 04h is read", "it is not", fields=("DW0",)) for claim in unread)


@check("multi-namespace/resized", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["out", "fault"],
       needs=["list"], scenarios=[f"multi-namespace/{how}" for how in ("grown", "shrunk", "reformatted")])  # fmt: skip
def resized(record: Record) -> Iterator[Finding]:
    """Follows a namespace in use whose size or format changes."""
    if not any(asked.ok for asked in record.asked if asked.action in RESHAPES):
        return
    for asked in record.answers("list"):
        if (blocks := asked.arguments.get("blocks")) is not None:
            nsid = asked.arguments["until"][0]
            shown = next((claim.get("blocks") for claim in asked.all("namespaces") if claim.get("nsid") == nsid), None)
            said = "no such namespace" if shown is None else f"{shown} blocks"
            yield Finding(shown == blocks, asked.ended, f"namespace {nsid} of {blocks} blocks", said)


def _tells_of_namespaces(state: State, event: Event) -> bool:
    """Judge whether an Asynchronous Event Request reports that the namespaces have changed."""
    if not isinstance(event, Completed) or not event.completion.ok or (request := state.answered(event)) is None:
        return False
    news = AsyncEvent(event.completion.DW0)
    return isinstance(request.command, AsyncEventRequest) and news.LID == Lid.CHANGED_NAMESPACES


def _reads(command: Command, lid: Lid) -> bool:
    return isinstance(command, GetLogPage) and command.LID == lid


@check("multi-namespace/stale", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["fault"], needs=["read"],
       scenarios=["multi-namespace/gone", "multi-namespace/gone-untold"])  # fmt: skip
def stale(record: Record) -> Iterator[Finding]:
    """Ends a read of a namespace that went away with an error, and goes on with the others."""
    away = set[int]()
    for asked, disk in replay(record):
        nsid = disk.namespace.nsid
        if asked.action == "detach" and asked.ok:
            away.add(nsid)
        elif asked.action == "read" and asked.ended and asked.status != "unsupported" and away:
            if nsid not in away:
                yield from returned(record, asked, disk)
                if not asked.ok and _identified(record):
                    yield Finding(False, asked.ended, f"namespace {nsid}, which is there, can be read", asked.status)
            elif record.saw(asked, Read) or (not asked.ok and _identified(record)):  # else it was from a cache
                yield Finding(not asked.ok and asked.status != "timeout", asked.ended, "an error, in time", asked.status)


@check("multi-namespace/shared", cite=BASE_2_0["5.17"], level=OPTIONAL, why="practice", witnesses=["out"], needs=["list"],
       scenarios=["multi-namespace/shared"])  # fmt: skip
def shared(record: Record) -> Iterator[Finding]:
    """Shows a namespace that two controllers share once."""
    for asked in record.answers("list"):
        claim = asked.all("namespaces")
        if len(claim) != 1 or _identified(record):
            yield Finding(len(claim) == 1, asked.ended, "one disk", f"{len(claim)} disks")


@check("multi-namespace/private", cite=BASE_2_0["5.17"], level=RECOMMENDED, why="integrity", witnesses=["out", "store"],
       needs=["list", "read", "write"], scenarios=["multi-namespace/private"])  # fmt: skip
def private(record: Record) -> Iterator[Finding]:
    """Keeps namespaces of the same id on two controllers apart."""
    expected = sorted((c.serial, n.nsid) for c in record.controllers for n in c.namespaces)
    for asked in record.answers("list"):
        claim = sorted((str(claim.get("controller")).strip(" "), claim.get("nsid", 0)) for claim in asked.all("namespaces"))
        if claim != expected or _identified(record):
            wanted, shown = (listed(f"namespace {nsid} of {serial}" for serial, nsid in pairs) for pairs in (expected, claim))
            yield Finding(claim == expected, asked.ended, wanted, shown)
    for asked, disk in replay(record):
        if asked.action == "read" and asked.ended and asked.status != "unsupported":
            of = f"namespace {asked.arguments['nsid']} of {str(asked.arguments.get('serial', 'the only controller')).strip()}"
            for finding in returned(record, asked, disk):
                yield finding._replace(expected=f"{of}: {finding.expected}")


@check("multi-namespace/many", cite=BASE_2_0["5.17"], level=RECOMMENDED, why="practice", witnesses=["out"], needs=["list"],
       scenarios=["multi-namespace/many"])  # fmt: skip
def many(record: Record) -> Iterator[Finding]:
    """Handles 32 namespaces and more."""
    yield from _exactly(record)
