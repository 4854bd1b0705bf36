"""Stage 6, write. NVM Command Set 1.0, 3.2.6 and 3.2.8; Flush: Base 2.0, 7.1."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.disk import differences, final_disks, replay, show, touched
from conformance.record.record import Asked, Record
from conformance.record.words import MOST_SHOWN, listed
from conformance.suite.check import MANDATORY, OPTIONAL, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY, NVM_1_0
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.read import inside, refused, returned
from lab.data import content
from lab.data.events import Completed, Dma, FaultInjected, RegisterWrite, Submitted
from lab.data.plan import Action, Fault, Namespace
from lab.data.stream import digest
from lab.nvme.commands import BROADCAST_NSID, DatasetManagement, Flush, SetFeatures, Write, WriteZeroes
from lab.nvme.features import Fid
from lab.nvme.identify import Oncs
from lab.nvme.registers import CC


def _write(draw: Draw, lba: int, blocks: int, **more: bool) -> Action:
    return do("write", nsid=1, lba=lba, blocks=blocks, fill=draw.fill(), **more)


def _read(lba: int, blocks: int) -> Action:
    return do("read", nsid=1, lba=lba, blocks=blocks)


def _patched(draw: Draw, namespace: Namespace, lba: int) -> list[Action]:
    """Bytes from inside a block to inside the next one, and both blocks read back with their neighbours."""
    size = namespace.block_size
    at = draw.between(1, size // 2)
    part = do("write-bytes", nsid=1, lba=lba, at=at, length=draw.between(size, size + size // 4), fill=draw.fill())
    return [part, _read(lba - 1, 4)]


def _spots(draw: Draw, namespace: Namespace) -> list[Action]:
    """Return writes at the start, inside, and at the last block, each read back."""
    lba = draw.between(40, 200)
    last = namespace.blocks - 1
    spots = ((1, 1), (lba, 8), (lba + 11, 3), (last, 1))
    return [a for at, count in spots for a in (_write(draw, at, count), _read(at, count))]


@scenario("write/basic", "single and several blocks, the last one too, and parts of blocks, each read back, then a flush")
def basic(draw: Draw) -> Plan:
    namespace = draw.namespace()
    return Plan(draw.device(namespace), [LOAD, *_spots(draw, namespace), *_patched(draw, namespace, 13), do("flush", nsid=1)])


@scenario("write/block-4096", "blocks of 4096 bytes")
def block_4096(draw: Draw) -> Plan:
    namespace = draw.namespace(block_size=4096)
    return Plan(draw.device(namespace), [LOAD, *_spots(draw, namespace), *_patched(draw, namespace, 13), do("flush", nsid=1)])


@scenario("write/long", "writes of many pages, longer than MDTS")
def long(draw: Draw) -> Plan:
    lba = draw.between(1, 500)
    return Plan(draw.device(mdts=2), [LOAD, _write(draw, lba, 100), _read(lba, 100), _read(lba - 1, 1), _read(lba + 100, 1)])


@scenario("write/backlog", "a long write to a medium so slow that its pieces are outstanding together")
def backlog(draw: Draw) -> Plan:
    lba = draw.between(1, 500)
    slow = Fault(name="slow", behaviour="delay", queue="io", opcode=Write.OPCODE, arguments={"ms": 5})
    return Plan(draw.device(mdts=1), [LOAD, _write(draw, lba, 100), _read(lba, 100)], [slow])


@scenario("write/fresh", "a signature is there after the driver has gone and come again")
def fresh(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    return Plan(draw.device(), [LOAD, _write(draw, lba, 4), do("flush", nsid=1), do("unload"), LOAD, _read(lba, 4)])


@scenario("write/power-cut", "power is cut behind a slow flush and a write with Force Unit Access")
def power_cut(draw: Draw) -> Plan:
    lba = draw.between(1, 500)
    slow = Fault(name="slow", behaviour="delay", queue="io", opcode=Flush.OPCODE, arguments={"ms": 20})
    kept = [_write(draw, lba, 8), do("flush", nsid=1), _write(draw, lba + 20, 8, fua=True)]
    return Plan(draw.device(), [LOAD, *kept, do("cut-power"), do("unload"), LOAD, _read(lba, 8), _read(lba + 20, 8)], [slow])


@scenario("write/fua", "a write with Force Unit Access")
def fua_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    return Plan(draw.device(), [LOAD, _write(draw, lba, 8, fua=True), _read(lba, 8)])


@scenario("write/zeroes", "blocks are zeroed")
def zeroes(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    return Plan(draw.device(), [LOAD, do("zeroes", nsid=1, lba=lba, blocks=16), _read(lba - 1, 18)])


@scenario("write/zeroes-not-offered", "blocks are zeroed on a controller without Write Zeroes, which deallocates nothing")
def zeroes_not_offered(draw: Draw) -> Plan:
    """It may: that deallocated blocks read as zeros does not oblige it to deallocate those that it is asked to."""
    lba = draw.between(1, 900)
    device = draw.device(identify={"ONCS": int(Oncs.of(DATASET_MANAGEMENT=1))})
    keeps = Fault(name="keeps", behaviour="status", queue="io", opcode=DatasetManagement.OPCODE, arguments={"sc": 0})
    return Plan(device, [LOAD, do("zeroes", nsid=1, lba=lba, blocks=16), _read(lba - 1, 18)], [keeps])


@scenario("write/clear", "all blocks of a namespace are overwritten with the bytes of one block")
def clear(draw: Draw) -> Plan:
    blocks = 8 * draw.between(12, 20)
    namespace = draw.namespace(blocks=blocks, areas=((0, blocks),))
    cleared = do("clear", nsid=1, lba=0, blocks=blocks, fill=draw.fill())
    return Plan(draw.device(namespace), [LOAD, cleared, _read(0, 8), _read(blocks - 8, 8)])


@scenario("write/past-end", "a write that ends behind the namespace, and one behind it")
def past_end(draw: Draw) -> Plan:
    namespace = draw.namespace()
    end = namespace.blocks
    return Plan(
        draw.device(namespace),
        [LOAD, _write(draw, end - 2, 4), _write(draw, end + 50, 1), _write(draw, end - 1, 1), _read(end - 1, 1)],
    )


@scenario("write/error", "one block cannot be written, and the flush behind it fails", hostile=True)
def error_scenario(draw: Draw) -> Plan:
    lba = draw.between(100, 900)
    failing = {"sct": 2, "sc": 0x80, "dnr": 1}
    faults = [
        Fault(name="bad", behaviour="status", queue="io", opcode=Write.OPCODE, lba=lba, arguments=failing),
        Fault(name="lost", behaviour="status", queue="io", opcode=Flush.OPCODE, arguments={"sc": 6, "dnr": 1}),
    ]
    return Plan(draw.device(), [LOAD, _write(draw, lba, 1), _write(draw, lba + 1, 2), do("flush", nsid=1)], faults)


OVERWRITES = ("write", "clear")
"""Actions after which each of their blocks holds what they gave it."""


@check("write/exact", cite=NVM_1_0["3.2.6"], level=MANDATORY, why="integrity", witnesses=["store"], needs=["write"])
def exact(record: Record) -> Iterator[Finding]:
    """Changes exactly the blocks it was asked to write or to clear, on this and every other namespace."""
    written = [asked for asked in record.answers(*OVERWRITES) if asked.ok]
    for (controller, nsid), disk in final_disks(record).items():
        image = record.evidence.image(controller, nsid)
        if image is None or not written:
            continue
        for found in differences(image, controller, disk):
            where = f"namespace {nsid} of {controller}, LBA {found.lba}"
            yield Finding(False, written[-1].ended, f"{where}: {show(found.expected)}", show(found.actual))
        if any(record.saw(asked, Write) for asked in written):
            yield Finding(True, written[-1].ended, "all other blocks as before", f"namespace {nsid} of {controller}")
    for asked, disk in replay(record):
        if asked.action not in OVERWRITES or not asked.ended or asked.status == "unsupported" or record.scenario.hostile:
            continue
        shown = record.saw(asked, Write) if asked.ok else not refused(record, asked, disk)
        if inside(asked, disk.namespace) and shown:
            yield Finding(asked.ok, asked.ended, "success", asked.said)


@check("write/signature", cite=NVM_1_0["3.2.6"], level=MANDATORY, why="integrity", witnesses=["store"], needs=["write", "read"])
def signature(record: Record) -> Iterator[Finding]:
    """Reads back what it has written, also after a fresh start of the driver."""
    for asked, disk in replay(record):
        lba, blocks = int(asked.arguments.get("lba", 0)), int(asked.arguments.get("blocks", 0))
        answered = asked.action == "read" and asked.ended and asked.status != "unsupported"
        if answered and inside(asked, disk.namespace) and disk.was_changed(lba, blocks):
            yield from returned(record, asked, disk)


@check("write/partial-block", cite=INTEGRITY, level=RECOMMENDED, why="integrity", witnesses=["store"], needs=["write-bytes"],
       scenarios=["write/basic", "write/block-4096"])  # fmt: skip
def partial_block(record: Record) -> Iterator[Finding]:
    """Keeps the rest of a block of which it writes a part, or refuses to write less than a block."""
    for (controller, nsid), disk in final_disks(record).items():
        parts = [asked for asked in record.answers("write-bytes") if asked.arguments["nsid"] == nsid]
        written = [asked for asked in parts if asked.ok and record.saw(asked, Write)]
        blocks = {lba for asked in written for lba in touched(asked, disk.namespace) if disk.expect(lba) is not None}
        if blocks and (image := record.evidence.image(controller, nsid)):
            wrong = [found for found in differences(image, controller, disk) if found.lba in blocks]
            for found in wrong:
                yield Finding(False, written[-1].ended, f"LBA {found.lba}: {show(found.expected)}", show(found.actual))
            if not wrong:
                yield Finding(True, written[-1].ended, "the rest of each block as before", f"LBA {listed(sorted(blocks))}")
        for asked in parts:
            if not asked.ok and not record.saw(asked, Write) and asked.status != "timeout":
                yield Finding(True, asked.ended, "refused, or the rest kept", f"refused: {asked.said}")


@check("write/buffer-stable", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], needs=["write"])
def buffer_stable(record: Record) -> Iterator[Finding]:
    """Keeps the data of a write as it is until the completion: the device gets the right bytes however late it takes them."""
    for asked, disk in replay(record):
        if asked.action != "write":
            continue
        at: dict[tuple[int, int], int] = {}  # byte of the namespace that comes next, by the command's key
        for state, event in record.during(asked, Submitted, Dma):
            match event:
                case Submitted(command=Write(SLBA=lba)):
                    at[event.key] = lba * disk.namespace.block_size
                case Dma(to_host=False) if event.digest and (key := (event.sqid, event.cid)) in at and key in state.in_flight:
                    if not isinstance(state.in_flight[key].command, Write):
                        continue
                    wanted = _bytes(asked, disk.namespace, at[key], event.length)
                    at[key] += event.length
                    if wanted is not None:
                        yield Finding(digest(wanted) == event.digest, event, f"digest {digest(wanted)}", event.digest)


def _bytes(asked: Asked, namespace: Namespace, at: int, length: int) -> bytes | None:
    """Bytes of a namespace as a write wants them; None for what it is not about."""
    size, fill = namespace.block_size, int(asked.arguments["fill"])
    first, count = at // size, -(-(at + length) // size) - at // size
    if not (first in (blocks := touched(asked, namespace)) and first + count - 1 in blocks):
        return None
    return content.blocks(fill, namespace.nsid, first, count, size)[at % size : at % size + length]


@check("write/flush", cite=BASE_2_0["7.1"], level=MANDATORY, why="integrity", witnesses=["wire"], needs=["flush"])
def flush(record: Record) -> Iterator[Finding]:
    """Sends Flush when asked to sync and written data may lie in a volatile write cache; reports the outcome."""
    for asked in record.answers("flush"):
        if not record.controllers[0].write_cache:
            continue
        meant = asked.arguments["nsid"], BROADCAST_NSID
        sent = [e for _, e in record.during(asked, Submitted)
                if isinstance(e.command, Flush) and e.sqid and e.command.NSID in meant]  # fmt: skip
        if sent or (asked.ok and (dirty := unflushed(record, asked))):
            shown = f"{len(sent)} sent" if sent else f"none, and {dirty} blocks may be lost"
            yield Finding(bool(sent), sent[0] if sent else asked.ended, "a Flush command", shown, fields=("OPC",))
        done = [e for s, e in record.during(asked, Completed) if s.answered(e) in sent]
        if done:  # one that failed may have been tried again
            last = done[-1]
            reported = last.completion.ok if asked.ok else any(not event.completion.ok for event in done)
            yield Finding(reported, last, last.completion.text, f"the driver says {asked.said}", fields=("SC", "SCT"))


def unflushed(record: Record, until: Asked) -> int:
    """Count the blocks of a flush's namespace that were written, and neither flushed nor written through when it had ended.

    A driver may write through what it has written before, or switch the cache off, in place of a Flush.
    """
    nsid, cache = int(until.arguments["nsid"]), True
    dirty = set[int]()
    for state, event in record.walk(Completed, RegisterWrite):
        if until.ended is not None and event.t > until.ended.t:
            break
        if not isinstance(event, Completed):
            assert isinstance(event, RegisterWrite)
            if event.offset == CC.OFFSET and CC(event.value).SHN:
                dirty.clear()  # a shutdown writes it back
            continue
        submitted = state.answered(event)
        if submitted is None or not event.completion.ok:
            continue
        match submitted.command:
            case SetFeatures(FID=Fid.VOLATILE_WRITE_CACHE, CDW11=value):
                cache = bool(value & 1)
                if not cache:
                    dirty.clear()  # switching it off writes it back
            case Flush(NSID=flushed) if flushed in (nsid, BROADCAST_NSID):
                dirty.clear()
            case Write(NSID=written, FUA=through) | WriteZeroes(NSID=written, FUA=through) as command if written == nsid:
                blocks = range(command.SLBA, command.SLBA + command.blocks)
                if cache and not through:
                    dirty.update(blocks)
                else:
                    dirty.difference_update(blocks)
    return len(dirty)


@check("write/flush-nsid", cite=BASE_2_0["7.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def flush_nsid(record: Record) -> Iterator[Finding]:
    """Sends Flush with the id of an active namespace, or FFFFFFFFh."""
    for state, event, command in record.commands(Flush):
        active = {n.nsid for n in state.spec.namespaces if n.attached}
        ok = command.NSID in active or command.NSID == BROADCAST_NSID
        yield Finding(
            ok, event, f"one of namespaces {listed(sorted(active), MOST_SHOWN)}", f"{command.NSID:#x}", fields=("NSID",)
        )


@check(
    "write/fua",
    cite=NVM_1_0["3.2.6"],
    level=RECOMMENDED,
    why="practice",
    witnesses=["wire"],
    needs=["write"],
    scenarios=["write/fua"],
)
def fua(record: Record) -> Iterator[Finding]:
    """Sets FUA in a write that must reach the medium, or follows it by a Flush."""
    for asked in record.answers("write"):
        if asked.arguments.get("fua") and asked.ok:
            sent = [e for _, e in record.during(asked, Submitted) if e.sqid]
            writes = [e for e in sent if isinstance(e.command, Write)]
            flushed = bool(sent) and isinstance(sent[-1].command, Flush)
            for event in writes:
                ok = flushed or (isinstance(event.command, Write) and bool(event.command.FUA))
                shown = "FUA set" if ok else "neither FUA nor a Flush"
                yield Finding(ok, event, "FUA, or a Flush behind it", shown, fields=("FUA",))


@check("write/zeroes-gated", cite=NVM_1_0["3.2.8"], level=OPTIONAL, why="shall", witnesses=["wire"])
def zeroes_gated(record: Record) -> Iterator[Finding]:
    """Sends Write Zeroes only where ONCS says that the controller knows it."""
    for state, event, _ in record.commands(WriteZeroes):
        if state.profile is not None:
            oncs = state.profile.controller.ONCS
            shown = f"ONCS {int(oncs):#06x}"
            yield Finding(bool(oncs.WRITE_ZEROES), event, "ONCS bit 3 set", shown, fields=("OPC",))


@check("write/in-range", cite=NVM_1_0["3.2.6"], level=RECOMMENDED, why="practice", witnesses=["wire"], guards=True)
def in_range(record: Record) -> Iterator[Finding]:
    """Refuses a write past the end itself, before the controller has to."""
    for state, event, command in record.commands(Write):
        if namespace := state.spec.namespace(command.NSID):
            end = command.SLBA + command.blocks
            size = record.largest(state.spec.id, namespace)
            yield Finding(end <= size, event, f"up to LBA {size - 1}", end - 1, ("SLBA", "NLB"))


@check("write/error", cite=NVM_1_0["3.2.6"], level=MANDATORY, why="integrity", witnesses=["fault"], needs=["write"],
       scenarios=["write/error", "write/error-split"])  # fmt: skip
def error(record: Record) -> Iterator[Finding]:
    """Reports a write or a flush that failed to its caller."""
    struck = {id(record.owner(event)) for event in record.all(FaultInjected)}
    for asked in record.answers("write", "flush"):
        ended = [(e, state.answered(e)) for state, e in record.during(asked, Completed)]
        if any(id(sent) in struck and not e.completion.ok for e, sent in ended):  # what was only slow has not failed
            yield Finding(not asked.ok, asked.ended, f"an error of the {asked.action}", asked.status)


@check("write/durable", cite=BASE_2_0["7.1"], level=MANDATORY, why="integrity", witnesses=["fault", "store"],
       needs=["write", "flush", "read", "unload"], scenarios=["write/power-cut"])  # fmt: skip
def durable(record: Record) -> Iterator[Finding]:
    """Reports a flush, or a write by FUA, as done only when the data survives a power cut."""
    cuts = [asked.started.t for asked in record.answers("cut-power") if asked.ok]
    for asked, disk in replay(record):
        answered = asked.action == "read" and asked.ended and asked.status != "unsupported"
        if answered and cuts and asked.started.t > cuts[0]:
            yield from returned(record, asked, disk)


@check("write/ordering", cite=NVM_1_0["2.1.2"], level=OPTIONAL, why="practice", witnesses=["wire"])
def ordering(record: Record) -> Iterator[Finding]:
    """Waits for a write before it submits one that overlaps it: NVMe itself keeps no order."""
    for state, event, command in record.commands(Write):
        span = range(command.SLBA, command.SLBA + command.blocks)
        writes = [e.command for e in state.in_flight.values() if isinstance(e.command, Write)]
        over = [w for w in writes if w.NSID == command.NSID and w.SLBA < span.stop and span.start < w.SLBA + w.blocks]
        shown = f"LBA {span.start} to {span.stop - 1} over {len(over)} in flight"
        yield Finding(not over, event, "no write in flight to these blocks", shown, fields=("SLBA", "NLB", "NSID"))
