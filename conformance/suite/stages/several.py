"""Situations of several things at once: several commands of one request, several namespaces, several controllers.

What a driver keeps once where it needs it once for each shows only here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from uuid import UUID

from conformance.record.iommu import Opened
from conformance.record.record import Record
from conformance.record.state import State
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY, NVM_1_0
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.identify import namespace_claims
from conformance.suite.stages.lending import OWN_MEMORY
from conformance.suite.stages.read import bad_block
from lab.data.events import Completed, DmaMap, Doorbell, RegisterWrite, Remark, Submitted
from lab.data.plan import Action, DeviceSpec, Fault, Namespace
from lab.nvme.commands import BROADCAST_NSID, CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq, FormatNvm, GetLogPage, Read, Write
from lab.nvme.logs import Lid
from lab.nvme.registers import CC

BLOCKS = 64
"""Of a request that MDTS splits into four commands."""
GIB = 1 << 30
FAR = 1 << 32
"""The first LBA that 32 bits cannot name."""


def _read(lba: int, blocks: int, nsid: int = 1, **more: str) -> Action:
    return do("read", nsid=nsid, lba=lba, blocks=blocks, **more)


def _write(draw: Draw, lba: int, blocks: int, nsid: int = 1, **more: str) -> Action:
    return do("write", nsid=nsid, lba=lba, blocks=blocks, fill=draw.fill(), **more)


# -- several commands of one request --------------------------------------------------------------------------------


@scenario(
    "read/media-error-split", "one block of a long read cannot be read, be it of its first command or of its last", hostile=True
)
def media_error_split(draw: Draw) -> Plan:
    """Where it is the first one, the commands for the others are slower."""
    lba = draw.between(100, 700)
    late = lba + 2 * BLOCKS
    bad = bad_block(lba + draw.between(1, 15)), replace(bad_block(late + BLOCKS - draw.between(1, 15)), name="late")
    slow = Fault(name="slow", behaviour="delay", queue="io", opcode=Read.OPCODE, lba=lba + BLOCKS - 1, arguments={"ms": 20})
    asked = [_read(lba, BLOCKS), _read(lba + BLOCKS, BLOCKS), _read(late, BLOCKS)]
    return Plan(draw.device(mdts=1), [LOAD, *asked], [*bad, slow])


@scenario(
    "write/error-split", "one block of a long write cannot be written, be it of its first command or of its last", hostile=True
)
def write_error_split(draw: Draw) -> Plan:
    """Where it is the first one, the commands for the others are slower."""
    lba = draw.between(100, 700)
    late = lba + 2 * BLOCKS
    failing = {"sct": 2, "sc": 0x80, "dnr": 1}
    bad = [
        Fault(name=name, behaviour="status", queue="io", opcode=Write.OPCODE, lba=at, arguments=failing)
        for name, at in (("bad", lba + 3), ("late", late + BLOCKS - 3))
    ]
    slow = Fault(name="slow", behaviour="delay", queue="io", opcode=Write.OPCODE, lba=lba + BLOCKS - 1, arguments={"ms": 20})
    asked = [_write(draw, at, BLOCKS) for at in (lba, lba + BLOCKS, late)]
    return Plan(draw.device(mdts=1), [LOAD, *asked], [*bad, slow])


@scenario("admin-queue/type-only", "a Read ends with a status whose type alone shows the error: SCT 3h, SC 00h", hostile=True)
def type_only(draw: Draw) -> Plan:
    lba = draw.between(100, 900)
    path = {"sct": 3, "sc": 0, "dnr": 1}
    wrong = Fault(name="path", behaviour="status", queue="io", opcode=Read.OPCODE, lba=lba, arguments=path)
    return Plan(draw.device(), [LOAD, _read(lba, 1)], [wrong])


@scenario("write/reread", "blocks are read, written and read again, by the very same requests")
def reread(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    changes = [_write(draw, lba, 8), do("zeroes", nsid=1, lba=lba + 2, blocks=2), _write(draw, lba + 4, 1)]
    again = (a for change in changes for a in (change, _read(lba, 8)))
    return Plan(draw.device(), [LOAD, _read(lba, 8), *again, _read(lba, 8)])


# -- blocks that 32 bits cannot name --------------------------------------------------------------------------------


@scenario(
    "write/high-lba", "blocks beyond 2^32 are written, zeroed and trimmed, and those that 32 bits would make of them stay"
)
def high_lba(draw: Draw) -> Plan:
    lba = draw.between(8, 200)
    blocks = FAR + draw.between(1 << 20, 1 << 24)
    namespace = draw.namespace(blocks=blocks, areas=((0, 512), (FAR, 512)))
    far = FAR + lba
    asked = [
        _write(draw, far, 4), _read(far - 1, 6), do("zeroes", nsid=1, lba=far + 8, blocks=4), _read(far + 7, 6),
        do("trim", nsid=1, lba=far + 16, blocks=8), _read(lba - 1, 32),
    ]  # fmt: skip
    return Plan(draw.device(namespace), [LOAD, *asked])


@scenario("read/far", "blocks behind 2 and 4 GiB, whose numbers have 32 bits and whose bytes have not")
def far_bytes(draw: Draw) -> Plan:
    at = draw.between(8, 200)
    spots = [(GIB << shift) // 512 + at for shift in (1, 2)]
    namespace = draw.namespace(
        blocks=(6 * GIB) // 512 + draw.between(0, 999), areas=((0, 512), *((lba - 8, 64) for lba in spots))
    )
    reads = [_read(lba, 8) for lba in (*spots, at)]
    return Plan(draw.device(namespace), [LOAD, *reads, _write(draw, spots[1] + 8, 8), *reads, _read(at + 8, 8)])


# -- several namespaces ---------------------------------------------------------------------------------------------


@scenario("multi-namespace/flush", "two namespaces are written to, and each is flushed")
def flush_of_each(draw: Draw) -> Plan:
    held = draw.namespace(1), draw.namespace(2)
    asked = [a for nsid in (2, 1) for a in (_write(draw, draw.between(8, 900), 8, nsid), do("flush", nsid=nsid))]
    return Plan(draw.device(*held), [LOAD, *asked])


@scenario("multi-namespace/trim", "blocks of the second of two namespaces are zeroed and trimmed")
def trim_of_one(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    asked = [do("zeroes", nsid=2, lba=lba, blocks=8), do("trim", nsid=2, lba=lba + 16, blocks=8)]
    return Plan(draw.device(draw.namespace(1), draw.namespace(2)), [LOAD, *asked, _read(lba - 4, 40), _read(lba - 4, 12, 2)])


@scenario("features/format", "the first of two namespaces is formatted, and the second one read")
def format_of_one(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    asked = [do("format", nsid=1, format=0), do("list"), _read(lba, 8, 2)]
    return Plan(draw.device(draw.namespace(1), draw.namespace(2)), [LOAD, *asked])


@scenario(
    "write/format-kept", "a namespace of 4096-byte blocks is formatted, in the format that it has: the second of the list"
)
def format_kept(draw: Draw) -> Plan:
    """It is a scenario of write, because firmware formats disks too and has no other features."""
    return Plan(draw.device(draw.namespace(block_size=4096)), [LOAD, do("format", nsid=1, format=1), do("list")])


@check("features/format-scope", cite=BASE_2_0["5.14"], level=MANDATORY, why="integrity", witnesses=["wire"], needs=["format"])
def format_scope(record: Record) -> Iterator[Finding]:
    """Formats the namespace that it was asked to, in that format, and no other one: a format destroys what it names."""
    for asked in record.answers("format"):
        nsid, index = asked.arguments.get("nsid", 1), asked.arguments.get("format")
        for state, event in record.during(asked, Submitted):
            if isinstance(command := event.command, FormatNvm):
                all_at_once = state.profile is not None and state.profile.controller.FNA.FORMAT_ALL
                named = command.NSID == nsid or (bool(all_at_once) and command.NSID == BROADCAST_NSID)
                ok = named and index in (None, command.format)
                shown = f"namespace {command.NSID:#x}, format {command.format}"
                yield Finding(ok, event, f"namespace {nsid:#x}, format {index}", shown, fields=("OPC", "NSID", "CDW10"))


@scenario("identify/names", "a namespace with a UUID, an NGUID and an EUI64")
def names_scenario(draw: Draw) -> Plan:
    uuid = str(UUID(int=draw.fill() << 80 | draw.fill() << 16 | 1))
    nguid = f"{draw.fill() << 80 | draw.fill() << 16 | 2:032x}"
    return Plan(draw.device(draw.namespace(1, uuid=uuid, nguid=nguid, eui64=draw.fill() << 8 | 3)), [LOAD, do("list")])


@check("identify/names", cite=NVM_1_0["4.1.5"], level=RECOMMENDED, why="practice", witnesses=["out"], needs=["list"])
def names(record: Record) -> Iterator[Finding]:
    """Tells the identifiers of a namespace as they are, first byte first."""
    for asked, claim, namespace in namespace_claims(record):
        for field, expected in _names(record, namespace).items():
            if claim.get(field):
                said = "".join(character for character in str(claim[field]).lower() if character in "0123456789abcdef")
                yield Finding(said == expected, asked.ended, f"{field} {expected}", claim[field])


def _names(record: Record, namespace: Namespace) -> dict[str, str]:
    """Return the identifiers that a namespace really has, in hexadecimal digits only."""
    identified = record.only_profile.namespaces.get(namespace.nsid) if record.only_profile else None
    found = {"uuid": namespace.uuid.replace("-", "").lower()}
    if identified is not None:
        found |= {"nguid": identified.NGUID.hex(), "eui64": identified.EUI64.hex()}
    return {field: digits for field, digits in found.items() if digits.strip("0")}


# -- several controllers --------------------------------------------------------------------------------------------


@scenario("detect/two-kinds", "two controllers that differ in all that a driver has to read: stride, MDTS, block size")
def two_kinds(draw: Draw) -> Plan:
    one = draw.device(draw.namespace(1), id="nv0", mdts=5, cap={"DSTRD": 0})
    two = draw.device(draw.namespace(1, block_size=4096), id="nv1", mdts=1, cap={"DSTRD": 2, "MQES": draw.between(20, 60)})
    lba = draw.between(8, 100)
    asked = [a for id in ("nv0", "nv1") for a in (_write(draw, lba, 24, controller=id), _read(lba - 1, 26, controller=id))]
    return Plan(DeviceSpec(controllers=one.controllers + two.controllers), [LOAD, do("list"), *asked])


# -- queues ---------------------------------------------------------------------------------------------------------

ENTRY_BYTES = {CreateIoSq: 64, CreateIoCq: 16}


@check("io-queues/owned-memory", cite=INTEGRITY, level=MANDATORY, why="safety", witnesses=["wire"])
def owned_queues(record: Record) -> Iterator[Finding]:
    """Gives each queue memory that is open to the device, all of it: as many entries as it has declared to the controller."""
    opened: dict[str, Opened] = {}  # where an IOMMU shows what is open: by the controller
    controllers: dict[str, range] = {}  # the controller's own memory: io-queues/memory-use judges what may lie there
    for state, event in record.walk(DmaMap, RegisterWrite, Completed, Remark):
        own = opened.get(state.spec.id)
        match event:
            case Remark(name=name, detail={"address": int(address), "length": int(length)}) if name == OWN_MEMORY:
                controllers[state.spec.id] = range(address, address + length)
            case DmaMap():
                opened.setdefault(state.spec.id, Opened()).follow(event)
            case RegisterWrite(offset=CC.OFFSET, value=value) if (
                own and CC(value).EN and not CC(value).SHN and not state.enabled
            ):
                yield _owned(own, event, "the admin submission queue", int(state.asq), (state.aqa.ASQS + 1) * 64)
                yield _owned(own, event, "the admin completion queue", int(state.acq), (state.aqa.ACQS + 1) * 16)
            case Completed() if own and event.completion.ok and (sent := state.answered(event)) is not None:
                command = sent.command
                if isinstance(command, CreateIoSq | CreateIoCq) and command.PC and not _is_inside(command, state, controllers):
                    name = f"{'SQ' if isinstance(command, CreateIoSq) else 'CQ'} {command.QID}"
                    yield _owned(own, sent, name, command.PRP1, command.entries * ENTRY_BYTES[type(command)])


def _is_inside(command: CreateIoSq | CreateIoCq, state: State, controllers: Mapping[str, range]) -> bool:
    """Return whether a queue begins in the controller's own memory."""
    return command.PRP1 in controllers.get(state.spec.id, ())


def _owned(own: Opened, event: RegisterWrite | Submitted, name: str, address: int, length: int) -> Finding:
    ok = own.cover(address, length)
    shown = f"{length} bytes at {address:#x}, {'open' if ok else 'not all of them open'}"
    return Finding(ok, event, f"memory that is open to the device for all of {name}", shown, fields=("PRP1", "QSIZE"))


@check("io-queues/awaited", cite=BASE_2_0["5.6"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def awaited(record: Record) -> Iterator[Finding]:
    """Sees a completion queue created before it submits the creation of a submission queue on it, all of its submission
    queues deleted before it submits the deletion of it, and a queue deleted before it submits its creation anew: a controller
    may take submitted commands in any order."""
    answered: dict[tuple[str, type, int], float] = {}  # controller, command and queue: when it was completed last
    rung: dict[str, list[float]] = {}  # by controller: when the doorbell announced each command of the admin queue
    for state, event in record.walk(Doorbell, Submitted, Completed, RegisterWrite):
        here = state.spec.id
        match event:
            case RegisterWrite(offset=CC.OFFSET) if not state.enabled:
                rung[here] = []
                answered = {key: t for key, t in answered.items() if key[0] != here}
            case Doorbell(completion=False, qid=0, value=value) if (sq := state.sqs.get(0)) is not None:
                rung.setdefault(here, []).extend([event.t] * ((value - sq.tail) % sq.size))
            case Submitted(sqid=0, command=CreateIoSq(QID=own, CQID=qid)):
                yield from _after(state, event, rung, answered.get((here, CreateIoCq, qid)), f"CQ {qid} created")
                yield from _after(state, event, rung, answered.get((here, DeleteIoSq, own)), f"SQ {own} deleted")
            case Submitted(sqid=0, command=CreateIoCq(QID=own)):
                yield from _after(state, event, rung, answered.get((here, DeleteIoCq, own)), f"CQ {own} deleted")
            case Submitted(sqid=0, command=DeleteIoCq(QID=qid)):
                deleted = [t for (at, kind, _), t in answered.items() if at == here and kind is DeleteIoSq]
                yield from _after(state, event, rung, max(deleted, default=None), f"the submission queues of CQ {qid} deleted")
            case Completed() if event.completion.ok and (sent := state.answered(event)) is not None:
                if isinstance(sent.command, CreateIoCq | DeleteIoSq | DeleteIoCq):
                    answered[here, type(sent.command), sent.command.QID] = event.t


def _after(state: State, event: Submitted, rung: dict[str, list[float]], done: float | None, what: str) -> Iterator[Finding]:
    """Judge whether a command was announced by a doorbell after another one had been completed."""
    sq, doorbells = state.sqs.get(0), rung.get(state.spec.id, [])
    if sq is None or done is None or sq.fetched >= len(doorbells):
        return
    ok = doorbells[sq.fetched] >= done
    yield Finding(ok, event, f"{what} before the doorbell", "so" if ok else "submitted together with it", fields=("OPC", "QID"))


# -- logs -----------------------------------------------------------------------------------------------------------


@check("features/smart-scope", cite=BASE_2_0["5.16.1.3"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def smart_scope(record: Record) -> Iterator[Finding]:
    """Asks for the SMART log of one namespace only where LPA says that there is one for each."""
    for state, event, command in record.commands(GetLogPage):
        if command.LID == Lid.SMART and state.profile is not None:
            each = bool(state.profile.controller.LPA.SMART_PER_NAMESPACE)
            ok = each or command.NSID in (0, BROADCAST_NSID)
            yield Finding(
                ok, event, "NSID 0 or FFFFFFFFh, as LPA bit 0 is 0", f"NSID {command.NSID:#x}", fields=("NSID", "LID")
            )
