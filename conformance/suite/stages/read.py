"""Stage 5, read. NVM Command Set 1.0, 3.2.4; physical region pages: Base 2.0, 4.1.1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise

from conformance.record.disk import Disk, replay, show
from conformance.record.iommu import Opened, needed
from conformance.record.record import Asked, Record
from conformance.record.state import BUS_MASTER, State
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY, NVM_1_0, PCIE_1_0, PRACTICE
from conformance.suite.refusals import may_refuse
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data import filesystems
from lab.data.events import Completed, Dma, DmaMap, PrpList, RegisterRead, RegisterWrite, Remark, Submitted
from lab.data.plan import Action, Fault, Namespace
from lab.nvme.commands import Command, Copy, DatasetManagement, Psdt, Read, Write, WriteUncorrectable, WriteZeroes
from lab.nvme.status import Status

PAGE = 4096
"""Bytes of the smallest memory page."""
REFUSALS = ("not mapped", "mapped for reading only")
"""How the host's memory refuses an access, in the device's words."""
NOWHERE = Status.DATA_TRANSFER_ERROR, Status.PRP_OFFSET_INVALID
"""How a controller answers a transfer whose entries lead nowhere, as those of a list page do that was filled elsewhere."""
MANY_BYTES = 10_000
"""Of a file that does not fit into a few blocks."""
ALL_ONES = 0xFFFF_FFFF
"""What a register of a device reads that is gone."""


def _read(lba: int, blocks: int, **more: int) -> Action:
    return do("read", nsid=1, lba=lba, blocks=blocks, **more)


@scenario("read/basic", "the first block, the last, and some between")
def basic(draw: Draw) -> Plan:
    namespace = draw.namespace()
    middle = draw.between(1, 1500)
    return Plan(
        draw.device(namespace),
        [LOAD, _read(0, 1), _read(namespace.blocks - 1, 1), _read(middle, 8), _read(middle + 3, 1)],
    )


@scenario("read/sizes", "one page, two pages, many pages, and buffers that begin inside a page")
def sizes(draw: Draw) -> Plan:
    lba = draw.between(0, 1000)
    lengths = [_read(lba + i, blocks) for i, blocks in enumerate((8, 9, 16, 17, 64, 200))]
    offsets = [_read(lba, blocks, offset=offset) for blocks, offset in ((1, 512), (8, 512), (16, 2048), (24, 3584))]
    return Plan(draw.device(), [LOAD, *lengths, *offsets])


@scenario("read/odd-buffer", "a buffer that PRP entries cannot describe: it begins at an odd byte")
def odd_buffer_scenario(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, _read(draw.between(1, 900), 2, offset=1)])


@scenario("read/block-4096", "blocks of 4096 bytes")
def block_4096_scenario(draw: Draw) -> Plan:
    namespace = draw.namespace(block_size=4096)
    lba = draw.between(1, 200)
    return Plan(draw.device(namespace), [LOAD, _read(0, 1), _read(lba, 1), _read(lba, 5), _read(namespace.blocks - 1, 1)])


@scenario("read/high-lba", "a block beyond 2^32, and the one that 32 bits would make of it")
def high_lba(draw: Draw) -> Plan:
    offset = draw.between(8, 200)
    blocks = (1 << 32) + draw.between(1 << 20, 1 << 24)
    areas = ((0, 256), ((1 << 32) + offset - 8, 64), (blocks - 8, 8))
    namespace = draw.namespace(blocks=blocks, areas=areas)
    return Plan(draw.device(namespace), [LOAD, _read((1 << 32) + offset, 4), _read(offset, 4), _read(blocks - 1, 1)])


@scenario("read/mdts", "MDTS of two pages, and reads of far more")
def mdts_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    return Plan(draw.device(mdts=1), [LOAD, _read(lba, 64), _read(lba + 1, 17), _read(lba + 2, 200, offset=512)])


@scenario("read/past-end", "a read that begins inside the namespace and ends behind it, and one behind it")
def past_end(draw: Draw) -> Plan:
    namespace = draw.namespace()
    return Plan(
        draw.device(namespace),
        [LOAD, _read(namespace.blocks - 4, 8), _read(namespace.blocks + 100, 1), _read(namespace.blocks - 4, 4)],
    )


@scenario("read/media-error", "one block cannot be read, one not moved, one fails at the end; others can be read", hostile=True)
def media_error_scenario(draw: Draw) -> Plan:
    lba = draw.between(100, 900)
    unmoved, late = lba + 20, lba + 40
    faults = [
        bad_block(lba),
        Fault(name="unmoved", behaviour="dma-refused", queue="io", opcode=Read.OPCODE, lba=unmoved),
        Fault(name="late", behaviour="completion-status", queue="io", opcode=Read.OPCODE, lba=late, arguments={"dnr": 1}),
    ]
    asked = [(lba - 8, 8), (lba - 4, 8), (lba, 1), (lba + 1, 8), (unmoved, 1), (unmoved + 1, 8), (late, 1), (late + 1, 8)]
    return Plan(draw.device(), [LOAD, *(_read(first, blocks) for first, blocks in asked)], faults)


@scenario("read/out-of-order", "completions wait until another has passed them, and some of the data comes last of all")
def out_of_order_scenario(draw: Draw) -> Plan:
    lba = draw.between(300, 900)
    late = Fault(name="late", behaviour="out-of-order", queue="io", opcode=Read.OPCODE)
    slow = [
        Fault(name=f"slow-{n}", behaviour="delay", queue="io", opcode=Read.OPCODE, lba=lba + n, arguments={"ms": 200})
        for n in (0, 100)
    ]
    return Plan(draw.device(mdts=1), [LOAD, _read(lba, 400)], [late, *slow])


@scenario("read/chain", "commands of as many pages as fit into a PRP list page, and of more")
def chain(draw: Draw) -> Plan:
    lba = draw.between(1, 8)
    areas = ((0, 8 * 1024),)
    full = [_read(lba, 8 * 513), _read(lba, 8 * 514), _read(lba, 8 * 513, offset=512)]
    return Plan(draw.device(draw.namespace(areas=areas), mdts=0), [LOAD, *full])


@scenario("read/strict-iommu", "reads and writes of one page to many, on a slow medium, behind a strict IOMMU", iommu=True)
def strict_iommu(draw: Draw) -> Plan:
    lba = draw.between(1, 500)
    slow = [
        Fault(name=name, behaviour="delay", queue="io", opcode=opcode, arguments={"ms": 2})
        for name, opcode in (("slow-read", Read.OPCODE), ("slow-write", Write.OPCODE))
    ]
    write = do("write", nsid=1, lba=lba, blocks=100, fill=draw.fill())
    return Plan(draw.device(mdts=3), [LOAD, _read(lba, 1), _read(lba, 9, offset=512), write, _read(lba, 200)], slow)


def _mounted(draw: Draw, kind: filesystems.Kind) -> Plan:
    """Plan two files of a file system, one of them of many blocks."""
    size = len(filesystems.image(kind)) // 512
    namespace = Namespace(blocks=size + draw.between(0, 4096), filesystem=kind)
    few = draw.choice([path for path, length in filesystems.FILES.items() if length < MANY_BYTES])
    many = draw.choice([path for path, length in filesystems.FILES.items() if length >= MANY_BYTES])
    asked = [do("mount", nsid=1, file=file, filesystem=kind) for file in (few, many)]
    return Plan(draw.device(namespace), [LOAD, *asked])


for _kind in filesystems.KINDS:

    def _of_kind(draw: Draw, kind: filesystems.Kind = _kind) -> Plan:
        return _mounted(draw, kind)

    scenario(f"read/mount-{_kind}", f"files are read from a namespace with {_kind}, which is mounted read-only")(_of_kind)


def bad_block(lba: int) -> Fault:
    """Return a fault that answers reads of this block with Unrecovered Read Error."""
    unrecovered = {"sct": 2, "sc": 0x81, "dnr": 1}
    return Fault(name="bad", behaviour="status", queue="io", opcode=Read.OPCODE, lba=lba, arguments=unrecovered)


def inside(asked: Asked, namespace: Namespace) -> bool:
    """Return whether the driver was asked for blocks that exist."""
    return int(asked.arguments["lba"]) + int(asked.arguments["blocks"]) <= namespace.blocks


def reads(record: Record) -> Iterator[tuple[Asked, Disk]]:
    """Yield the answered reads of blocks that exist, into buffers that begin at a dword, with the disk as it was then."""
    for asked, disk in replay(record):
        answered = asked.action == "read" and asked.ended and asked.status != "unsupported"
        if answered and inside(asked, disk.namespace) and int(asked.arguments.get("offset", 0)) % 4 == 0:
            yield asked, disk


def refused(record: Record, asked: Asked, disk: Disk) -> bool:
    """Return whether the driver has refused, before it sent anything, blocks that it may refuse."""
    told = asked.status not in ("timeout", None) and not record.saw(asked, Read, Write)
    return told and bool(may_refuse(disk.namespace, asked.arguments))


def returned(record: Record, asked: Asked, disk: Disk) -> Iterator[Finding]:
    """Did the driver return what the disk held? Before a hostile device it may fail instead.

    The right bytes count only if the device saw a Read.
    """
    lba, blocks, size = int(asked.arguments["lba"]), int(asked.arguments["blocks"]), disk.namespace.block_size
    expected = disk.expect_range(lba, blocks)
    if not asked.ok and (record.scenario.hostile or refused(record, asked, disk)):
        return
    if not asked.ok or asked.data is None:
        yield Finding(False, asked.ended, f"{blocks} blocks from LBA {lba}", asked.said)
    elif expected is not None:
        places = range(0, len(expected), size) if asked.data[: len(expected)] != expected else ()
        wrong = next((at for at in places if asked.data[at : at + size] != expected[at : at + size]), None)
        if wrong is not None:
            there, here = expected[wrong : wrong + size], asked.data[wrong : wrong + size]
            yield Finding(False, asked.ended, f"LBA {lba + wrong // size}: {show(there)}", show(here))
        elif record.saw(asked, Read):
            yield Finding(len(asked.data) == len(expected), asked.ended, f"{len(expected)} bytes", f"{len(asked.data)} bytes")


@check(
    "read/first-last-high",
    cite=NVM_1_0["3.2.4"],
    level=MANDATORY,
    why="integrity",
    witnesses=["store"],
    needs=["read"],
)
def first_last_high(record: Record) -> Iterator[Finding]:
    """Reads the first block, the last block, and blocks beyond 2^32 rightly."""
    for asked, disk in reads(record):
        lba, blocks = int(asked.arguments["lba"]), int(asked.arguments["blocks"])
        if lba == 0 or lba + blocks == disk.namespace.blocks or lba >= 1 << 32:
            yield from returned(record, asked, disk)


@check("read/exact", cite=NVM_1_0["3.2.4"], level=MANDATORY, why="integrity", witnesses=["store"], needs=["read"])
def exact(record: Record) -> Iterator[Finding]:
    """Returns exactly the bytes that the blocks hold, whatever the length."""
    for asked, disk in reads(record):
        yield from returned(record, asked, disk)


@check("read/mbr", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["store"], needs=["read"])
def mbr(record: Record) -> Iterator[Finding]:
    """Returns the MBR with its signature 55 AA at byte 510 of block 0."""
    for asked, disk in reads(record):
        if asked.arguments["lba"] == 0 and (expected := disk.expect(0)) and expected[510:512] == b"\x55\xaa":
            if not asked.ok and (record.scenario.hostile or refused(record, asked, disk)):
                continue
            found = (asked.data or b"")[510:512]
            if found != b"\x55\xaa" or record.saw(asked, Read):
                yield Finding(found == b"\x55\xaa", asked.ended, "55aa at byte 510", found.hex() or "nothing")


@check("read/nlb", cite=NVM_1_0["3.2.4"], level=MANDATORY, why="integrity", witnesses=["wire"], needs=["read"])
def nlb(record: Record) -> Iterator[Finding]:
    """Sends NLB 0's based: the commands of a read move all blocks that were asked for."""
    for asked, _ in reads(record):
        sent = [(e, e.command) for _, e in record.during(asked, Submitted) if isinstance(e.command, Read)]
        if sent and asked.ok:
            wanted = {*range(asked.arguments["lba"], asked.arguments["lba"] + asked.arguments["blocks"])}
            moved = {lba for _, command in sent for lba in range(command.SLBA, command.SLBA + command.blocks)}
            shown = f"{len(wanted & moved)} of them"
            if wanted & moved:  # a driver that serves the rest from what it has read before is judged by the bytes
                yield Finding(wanted <= moved, sent[-1][0], f"all {len(wanted)} blocks", shown, fields=("SLBA", "NLB"))


@check("read/extra", cite=NVM_1_0["3.2.4"], level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["read"])
def extra(record: Record) -> Iterator[Finding]:
    """Reads the blocks that were asked for and no others, or the whole units of a driver that reads in such."""
    for asked, disk in reads(record):
        sent = [(e, e.command) for _, e in record.during(asked, Submitted) if isinstance(e.command, Read)]
        if not sent or not asked.ok:
            continue
        unit = max(record.unit // disk.namespace.block_size, 1)
        lba = asked.arguments["lba"] // unit * unit
        blocks = -(-(asked.arguments["lba"] + asked.arguments["blocks"]) // unit) * unit - lba
        for event, command in sent:
            ok = lba <= command.SLBA and command.SLBA + command.blocks <= lba + blocks
            shown = f"LBA {command.SLBA} to {command.SLBA + command.NLB}"
            yield Finding(ok, event, f"within LBA {lba} to {lba + blocks - 1}", shown, fields=("SLBA", "NLB"))


@check("read/in-range", cite=NVM_1_0["3.2.4"], level=RECOMMENDED, why="practice", witnesses=["wire"], guards=True)
def in_range(record: Record) -> Iterator[Finding]:
    """Refuses a read past the namespace's size itself; the controller would answer LBA Out of Range."""
    for state, event, command in record.commands(Read):
        if namespace := state.spec.namespace(command.NSID):
            end = command.SLBA + command.blocks
            size = record.largest(state.spec.id, namespace)
            yield Finding(end <= size, event, f"up to LBA {size - 1}", end - 1, ("SLBA", "NLB"))


@check(
    "read/prp1-offset",
    cite=BASE_2_0["4.1.1"],
    level=MANDATORY,
    why="integrity",
    witnesses=["store"],
    needs=["read"],
    scenarios=["read/sizes", "read/mdts"],
)
def prp1_offset(record: Record) -> Iterator[Finding]:
    """Honours the offset of a buffer that begins inside a page."""
    for asked, disk in reads(record):
        if asked.arguments.get("offset"):
            yield from returned(record, asked, disk)


def prp_transfers(record: Record) -> Iterator[tuple[State, Submitted, int]]:
    """Every I/O command by PRP whose data has a known length, with that length in bytes."""
    for state, event, command in record.commands(Command):
        if event.sqid and command.OPCODE is not None and command.transfer and command.PSDT == Psdt.PRP:
            length = state.transfer_bytes(command)
            if length is not None:
                yield state, event, length


@check("read/prp2", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="integrity", witnesses=["wire"])
def prp2(record: Record) -> Iterator[Finding]:
    """Points PRP2 at the second page where there are two, at a list where there are more, and leaves it 0 otherwise."""
    for state, event, length in prp_transfers(record):
        one, second = event.command.PRP1, event.command.PRP2
        first = state.page - one % state.page
        if length <= first:
            ok, expected = second == 0, "PRP2 0: the data ends in the first page"
        elif length <= first + state.page:
            ok, expected = second != 0 and second % state.page == 0, "PRP2 the second page"
        else:
            ok, expected = second != 0, "PRP2 a PRP list"
        shown = f"{length} bytes, PRP1 {one:#x}, PRP2 {second:#x}"
        yield Finding(ok, event, expected, shown, fields=("PRP1", "PRP2", "NLB"))


def list_entries(state: State, event: Submitted, length: int) -> int:
    """How many PRP list entries a transfer needs after PRP1; 0 or 1 means no list."""
    rest = length - (state.page - event.command.PRP1 % state.page)
    return max(-(-rest // state.page), 0)


@check("read/prp-list", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def prp_list(record: Record) -> Iterator[Finding]:
    """Begins a PRP list with the second page, at a qword boundary."""
    for state, event, length in prp_transfers(record):
        if list_entries(state, event, length) < 2:
            continue
        fields = ("PRP1", "PRP2", "NLB")
        yield Finding(event.command.PRP2 % 8 == 0, event, "a multiple of 8", f"PRP2 {event.command.PRP2:#x}", fields)
        pages = record.prp_lists(event)
        needed, room = list_entries(state, event, length), (state.page - event.command.PRP2 % state.page) // 8
        if pages and pages[0].entries and not _one_page(pages[0].entries[: needed if needed <= room else room - 1]):
            own = event.command.PRP1 - event.command.PRP1 % state.page
            first = pages[0].entries[0]
            yield Finding(first != own, pages[0], "the second page first", f"{first:#x}, which is PRP1's own page again")


def _one_page(entries: tuple[int, ...]) -> bool:
    """Return whether all entries name one page, as where a driver discards data, or sends zeros."""
    return len(set(entries)) == 1


def _list_pages(entries: int, offset: int, page: int) -> int:
    """Return the number of list pages for so many entries; the first is at ``offset``, and a full one points to the next."""
    pages, room = 1, (page - offset) // 8
    while entries > room:
        pages, entries, room = pages + 1, entries - (room - 1), page // 8
    return pages


def _fills_a_page(state: State, event: Submitted) -> bool:
    """Return whether the command's PRP list takes exactly one whole list page."""
    if not event.sqid or not (length := state.transfer_bytes(event.command)):
        return False
    return list_entries(state, event, length) == (state.page - event.command.PRP2 % state.page) // 8


@check("read/prp-chain", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="shall", witnesses=["wire", "store"])
def prp_chain(record: Record) -> Iterator[Finding]:
    """Chains to another list page exactly when the entries do not fit, and uses each from its first slot on."""
    for state, event, length in prp_transfers(record):
        seen = record.prp_lists(event)
        entries = list_entries(state, event, length)
        if seen and entries > 1:
            yield from _chained(state, event.command.PRP2, entries, seen)
    for asked, disk in reads(record):  # a chain from a page that is just full shows only in what lands in the wrong place
        if asked.ok and any(_fills_a_page(state, event) for state, event in record.during(asked, Submitted)):
            for found in returned(record, asked, disk):
                if not found.ok:
                    yield found
    for state, done in record.walk(Completed) if not record.scenario.faults else ():
        sent = state.answered(done)
        if sent is not None and done.completion.status in NOWHERE and _chains(state, sent):
            yield Finding(False, done, "a chained list page whose entries are the data's pages", done.completion.text)


def _chains(state: State, event: Submitted) -> bool:
    """Return whether the command's PRP list needs more than the list page that it begins in."""
    if not event.sqid or event.command.PSDT != Psdt.PRP or not (length := state.transfer_bytes(event.command)):
        return False
    return list_entries(state, event, length) > (state.page - event.command.PRP2 % state.page) // 8


def _chained(state: State, start: int, entries: int, seen: Sequence[PrpList]) -> Iterator[Finding]:
    """Judge whether each list page holds what is left, and a full one that is not the last the address of the next."""
    at, left = start, entries
    for number, page in enumerate(seen):
        room = (state.page - at % state.page) // 8
        chains = left > room
        used = page.entries[: room if chains else left]
        empty = sum(entry == 0 for entry in used)
        yield Finding(not empty, page, "an address in every slot", f"{empty} empty slots")
        left -= room - 1 if chains else left
        last = number + 1 == len(seen)
        if last or not chains:
            shown = f"{len(seen)} pages, {left} entries not in them, {len(seen) - number - 1} pages too many"
            yield Finding(last and not left, page, f"{_list_pages(entries, start % state.page, state.page)} list pages", shown)
            return
        at = page.entries[room - 1]
        aligned = at % state.page == 0 and at == seen[number + 1].address
        yield Finding(aligned, page, "the next list page in the last slot of a full one", f"{at:#x}")


@check("read/owned-memory", cite=INTEGRITY, level=MANDATORY, why="safety", witnesses=["wire"])
def owned_memory(record: Record) -> Iterator[Finding]:
    """Lets the device reach only memory that it owns at that time, from a command's submission to its completion."""
    opened: dict[str, Opened] = {}  # by the driver: since it has touched the controller's first register
    for state, event in record.walk(RegisterRead, RegisterWrite, DmaMap, Dma, Remark):
        own = opened.get(state.spec.id)
        match event:
            case RegisterRead() | RegisterWrite() if own is None:
                opened[state.spec.id] = Opened()
            case DmaMap() if own is not None:
                own.follow(event)
                lent = record.shows_lending and not event.mapped and state.enabled
                if lent and not state.shut_complete and not cut_off(state):
                    yield from _taken(state, event)
            case Dma() if own is not None and own.cover(event.address, event.length):
                yield Finding(True, event, "memory that is open to the device", f"{event.length} bytes at {event.address:#x}")
            case Remark(detail={"why": str(why)}) if why.endswith(REFUSALS):
                shown = f"{event.detail.get('length', '?')} bytes at {int(event.detail.get('address', 0)):#x} {why}"
                yield Finding(False, event, "memory that is open to the device", shown)


def cut_off(state: State) -> bool:
    """Return whether the controller can reach no memory any more: it may not (Bus Master Enable), or it is gone."""
    return (state.pci_command is not None and not state.pci_command & BUS_MASTER) or state.csts == ALL_ONES


def _taken(state: State, event: DmaMap) -> Iterator[Finding]:
    """Yield a finding for each command in flight that needs what is closed to the device."""
    closed = range(event.address, event.address + event.length)
    for waiting in state.in_flight.values():
        for pages in needed(state, waiting):
            if pages.start < closed.stop and closed.start < pages.stop:
                shown = f"{pages.start:#x} is closed, and CID {waiting.command.CID} of SQ {waiting.sqid} is in flight"
                yield Finding(False, event, "memory that stays open until the completion", shown)


@check("read/scattered", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="integrity", witnesses=["store"], needs=["read"])
def scattered(record: Record) -> Iterator[Finding]:
    """Reads into pages that do not follow one another in memory."""
    for asked, disk in reads(record):
        length = int(asked.arguments["blocks"]) * disk.namespace.block_size
        if int(asked.arguments.get("offset", 0)) + length <= PAGE:
            continue
        moved = [event for _, event in record.during(asked, Dma) if event.to_host]
        apart = any(a.address + a.length != b.address for a, b in pairwise(moved))
        for found in returned(record, asked, disk):
            if apart or not found.ok:  # what lay together proves nothing, unless it should have lain apart
                yield found


@check("read/media-error", cite=NVM_1_0["3.2.4"], level=MANDATORY, why="integrity", witnesses=["wire", "out"], needs=["read"])
def media_error(record: Record) -> Iterator[Finding]:
    """Reports a media error, or any other end of a Read that is no success, to its caller, and returns the blocks beside it."""
    seen = False
    for asked, disk in reads(record):
        if not (failed := unread(record, asked)):
            if seen and asked.ok:
                yield from returned(record, asked, disk)
            continue
        seen = True
        where = f"LBA {listed(sorted(failed)[:8])}"
        yield Finding(not asked.ok, asked.ended, f"an error, as each Read of {where} has failed", asked.said)


def unread(record: Record, asked: Asked) -> set[int]:
    """Return the blocks that an action wants and that no Read of it has read without an error, though one tried."""
    first, nsid = int(asked.arguments["lba"]), asked.arguments["nsid"]
    wanted = range(first, first + int(asked.arguments["blocks"]))
    failed, done = set[int](), set[int]()
    for state, event in record.during(asked, Completed):
        sent = state.answered(event)
        if sent is not None and isinstance(sent.command, Read) and sent.command.NSID == nsid:
            lbas = range(max(sent.command.SLBA, wanted.start), min(sent.command.SLBA + sent.command.blocks, wanted.stop))
            (done if event.completion.ok else failed).update(lbas)
    return failed - done


@check("read/out-of-order", cite=PCIE_1_0["3.4"], level=MANDATORY, why="shall", witnesses=["wire", "store"], needs=["read"])
def out_of_order(record: Record) -> Iterator[Finding]:
    """Takes completions in any order."""
    for asked, disk in reads(record):
        if _overtaken(record, asked):
            yield from returned(record, asked, disk)


def _overtaken(record: Record, asked: Asked) -> bool:
    """Return whether a Read of this action was completed before one that was submitted before it on its queue."""
    order: dict[int, list[Submitted]] = {}
    for state, event in record.during(asked, Submitted, Completed):
        match event:
            case Submitted(command=Read()):
                order.setdefault(event.sqid, []).append(event)
            case Completed() if (sent := state.answered(event)) is not None and (waiting := order.get(sent.sqid)):
                if waiting[0] is not sent and any(one is sent for one in waiting):
                    return True
                order[sent.sqid] = [one for one in waiting if one is not sent]
    return False


@check("read/prp-entries", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def prp_entries(record: Record) -> Iterator[Finding]:
    """Page-aligns every entry of a PRP list."""
    for state, event in record.walk(PrpList):
        of = state.in_flight.get((event.sqid, event.cid))
        if of is None or of.command.PSDT == Psdt.PRP:
            bad = [f"{entry:#x}" for entry in event.entries if entry % state.page]
            yield Finding(not bad, event, f"multiples of {state.page:#x}", ", ".join(bad) or "all aligned")


@check("read/mdts-split", cite=BASE_2_0["5.17.2.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def mdts_split(record: Record) -> Iterator[Finding]:
    """Splits transfers at MDTS."""
    for state, event, length in prp_transfers(record):
        if state.spec.mdts and state.cap is not None:
            limit = (4096 << state.cap.MPSMIN) << state.spec.mdts
            yield Finding(length <= limit, event, f"at most {limit} bytes", f"{length}", fields=("NLB",))


@check(
    "read/odd-buffer",
    cite=BASE_2_0["4.1.1"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    needs=["read"],
    scenarios=["read/odd-buffer"],
)
def odd_buffer(record: Record) -> Iterator[Finding]:
    """Bounces or refuses a buffer that PRP entries cannot describe; PRP1 is always aligned to a dword."""
    for asked, disk in replay(record):
        if asked.action != "read" or not asked.ended or asked.status == "unsupported":
            continue
        sent = [e for _, e in record.during(asked, Submitted) if isinstance(e.command, Read)]
        for event in sent:
            yield Finding(event.command.PRP1 % 4 == 0, event, "a multiple of 4", f"PRP1 {event.command.PRP1:#x}", ("PRP1",))
        if asked.ok:
            yield from returned(record, asked, disk)
        elif not sent:
            yield Finding(True, asked.ended, "bounced or refused", f"refused: {asked.said}")


@check(
    "read/block-4096",
    cite=NVM_1_0["3.2.4"],
    level=MANDATORY,
    why="integrity",
    witnesses=["store"],
    needs=["read"],
    scenarios=["read/block-4096"],
)
def block_4096(record: Record) -> Iterator[Finding]:
    """Reads a namespace of 4096-byte blocks rightly."""
    for asked, disk in reads(record):
        yield from returned(record, asked, disk)


@check("read/mptr-zero", cite=BASE_2_0["3.3.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def mptr_zero(record: Record) -> Iterator[Finding]:
    """Leaves MPTR 0 where there is no metadata."""
    for state, event, command in record.commands(Read, Write):
        namespace = state.spec.namespace(command.NSID)
        if namespace is not None and not namespace.metadata_size:
            yield Finding(command.MPTR == 0, event, "MPTR 0", f"MPTR {command.MPTR:#x}", fields=("MPTR",))


MOUNTS = [f"read/mount-{kind}" for kind in filesystems.KINDS]
CHANGING = (Write, WriteZeroes, WriteUncorrectable, DatasetManagement, Copy)
"""Commands that change what a namespace holds."""


@check("read/mount", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out", "wire"], needs=["mount"],
       scenarios=MOUNTS)  # fmt: skip
def mount(record: Record) -> Iterator[Finding]:
    """Returns of each file of a file system what was put into it, by its SHA-256."""
    for asked in record.answers("mount"):
        if asked.ok:
            path = str(asked.arguments["file"])
            expected = sha256(filesystems.file_bytes(path)).hexdigest()
            found = asked.answer.get("sha256") or sha256(asked.data or b"").hexdigest()
            if found != expected or any(record.commands(Read)):  # a second file may come from memory
                yield Finding(found == expected, asked.ended, f"{path}: {expected}", found)


@check("read/mountable", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire"], needs=["mount"],
       scenarios=MOUNTS)  # fmt: skip
def mountable(record: Record) -> Iterator[Finding]:
    """Brings the blocks of a sound file system so that it can be mounted."""
    for asked in record.answers("mount"):
        if not asked.ok or any(record.commands(Read)):
            yield Finding(
                asked.ok, asked.ended, f"{asked.arguments['file']} found on {asked.arguments['filesystem']}", asked.said
            )


@check("read/mount-changes-nothing", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["mount"],
       scenarios=MOUNTS)  # fmt: skip
def mount_changes_nothing(record: Record) -> Iterator[Finding]:
    """Sends no command that writes while a file system is mounted read-only."""
    for asked in record.answers("mount"):
        sent = [event for _, event in record.during(asked, Submitted) if isinstance(event.command, CHANGING)]
        for event in sent:
            yield Finding(False, event, "no command that writes", type(event.command).__name__, ("OPC",))
        if not sent and asked.ok and any(record.commands(Read)):
            yield Finding(True, asked.ended, "no command that writes", "none")
