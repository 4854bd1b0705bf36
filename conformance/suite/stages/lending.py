"""Rules about what a host leaves with a controller, and takes back: memory, lists of queues, keys, power. Base 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from conformance.record.record import Record
from conformance.record.state import State
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import Completed, ConfigWrite, DmaMap, Event, MemoryWrite, RegisterWrite, Remark, Reset, Submitted
from lab.nvme import commands as c
from lab.nvme.features import Fid, HostIdentifier, HostMemoryBuffer
from lab.nvme.identify import Oncs
from lab.nvme.registers import CC

LENT, TOUCHED, RETURNED = "hmb-enabled", "hmb-touched", "hmb-returned"
"""Remarks of the controller: it was lent memory, found it changed by another, was informed that the host returns it."""
KEY = "reservation-key"
"""Its remark on the key of a command about reservations."""
BY_KEY = ("acquires", "preempts", "releases")
TYPE = "reservation-type"
"""Its remark on the release of a reservation by the host that holds it."""
OWN_MEMORY, IN_OWN_MEMORY = "controller-memory", "controller-memory-queue"
"""Its remarks on its own memory: that has got an address; a queue lies in it."""
ENTRY = 8
"""Bytes of a PRP list entry."""
HMB_UNIT = 4096
"""Bytes of a unit of HMPRE, HMMIN and HMMINDS."""
SQE_BYTES, CQE_BYTES = 64, 16
SHN_NORMAL = 0b01
D3HOT = 0b11
"""The power state of a function that sleeps, in Power Management Control/Status."""
CREATES = c.CreateIoCq | c.CreateIoSq


@scenario("features/host-memory", "a controller that would like to use host memory", watch_memory=True)
def host_memory(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    moved = [do("write", nsid=1, lba=lba, blocks=8, fill=draw.fill()), do("read", nsid=1, lba=lba, blocks=8)]
    return Plan(
        draw.device(identify={"HMPRE": 32, "HMMIN": 8, "HMMINDS": 8, "HMMAXD": 4}),
        [LOAD, *moved, do("reset"), *moved, do("unload"), LOAD, *moved],
    )


@scenario("features/host-memory-much", "a controller that needs 8 MiB of host memory to use any, in one piece")
def host_memory_much(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    device = draw.device(identify={"HMPRE": 4096, "HMMIN": 2048, "HMMINDS": 1, "HMMAXD": 1})
    return Plan(device, [LOAD, do("read", nsid=1, lba=lba, blocks=8)])


@scenario("io-queues/scattered", "a controller that takes queues in pages that do not follow each other", watch_memory=True)
def scattered(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    return Plan(draw.device(cap={"CQR": 0}), [LOAD, do("read", nsid=1, lba=lba, blocks=8), do("unload")])


@scenario("io-queues/controller-memory", "a controller with 1 MiB of its own memory, which takes submission queues")
def controller_memory(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    moved = [do("write", nsid=1, lba=lba, blocks=8, fill=draw.fill()), do("read", nsid=1, lba=lba - 1, blocks=10)]
    again = [do("reset"), *moved, do("unload"), LOAD, do("queues"), *moved]
    return Plan(draw.device(controller_memory=1), [LOAD, *moved, *again])


@scenario("features/host-id", "a controller that takes host identifiers of 64 bits only")
def host_id_scenario(draw: Draw) -> Plan:
    return Plan(draw.device(identify={"CTRATT": 0}), [LOAD, do("read", nsid=1, lba=draw.between(1, 900), blocks=8)])


@scenario("multi-namespace/reservations", "a namespace that can be reserved")
def reservations(draw: Draw) -> Plan:
    oncs = Oncs.of(DATASET_MANAGEMENT=1, WRITE_ZEROES=1, RESERVATIONS=1)
    device = draw.device(identify={"ONCS": int(oncs)}, identify_namespace={"RESCAP": 0xFF})
    return Plan(device, [LOAD, do("read", nsid=1, lba=draw.between(1, 900), blocks=8)])


# -- host memory ----------------------------------------------------------------------------------------------------------


@dataclass
class Loan:
    """The memory that a controller has, from the remark that it has taken it."""

    event: Event
    regions: list[range]
    touched: bool = False

    def covers(self, address: int, length: int) -> bool:
        """Return whether an access reaches any of it."""
        return any(address < region.stop and region.start < address + length for region in self.regions)


def _takes_back(state: State, event: Completed) -> bool:
    """Return whether a completion ends a loan: Set Features with EHM=0."""
    sent = state.answered(event)
    if sent is None or not isinstance(sent.command, c.SetFeatures) or not event.completion.ok:
        return False
    return sent.command.FID == Fid.HOST_MEMORY_BUFFER and not HostMemoryBuffer(sent.command.CDW11).EHM


@check(
    "features/hmb-untouched",
    cite=BASE_2_0["5.27.1.10"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="a host memory buffer",
)
def hmb_untouched(record: Record) -> Iterator[Finding]:
    """Writes neither to the memory that it has lent the controller nor to the list of it, until it has taken it back."""
    loans: dict[str, Loan] = {}
    expected = "lent memory left alone"
    for state, event in record.walk(Remark, MemoryWrite, Completed, Reset):
        loan = loans.get(state.spec.id)
        match event:
            case Remark(name=name, detail=detail) if name == LENT:
                regions = [range(int(at), int(at) + int(length)) for at, length in detail["regions"]]
                loans[state.spec.id] = Loan(event, regions)
            case Remark(name=name, detail=detail) if name == TOUCHED:
                yield Finding(False, event, expected, f"{detail.get('what', 'it')} was changed")
                if loan is not None:
                    loan.touched = True
            case MemoryWrite() if loan is not None and loan.covers(event.address, event.length):
                loan.touched = True
                yield Finding(False, event, expected, f"{event.length} bytes written at {event.address:#x}")
            case Completed() if loan is not None and _takes_back(state, event):
                yield Finding(not loan.touched, event, expected, "taken back" if not loan.touched else "written before")
                del loans[state.spec.id]
            case Reset() if loan is not None and event.cause != "shutdown":
                yield Finding(not loan.touched, event, expected, "left alone until a reset" if not loan.touched else "written")
                del loans[state.spec.id]


@check(
    "features/hmb-return",
    cite=BASE_2_0["5.27.1.10"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="returned memory (MR)",
)
def hmb_return(record: Record) -> Iterator[Finding]:
    """Says that it returns memory (MR) only of the same memory, by the same list, with what the controller has left in it."""
    for _, event in record.walk(Remark):
        if event.name == RETURNED:
            differs = list(event.detail.get("differs", ()))
            shown = f"other: {listed(differs)}" if differs else "all as it was"
            yield Finding(not differs, event, "the same memory and list, unchanged, where MR=1", shown)


@check("features/hmb-pieces", cite=BASE_2_0["5.17.2.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def hmb_pieces(record: Record) -> Iterator[Finding]:
    """Lends host memory in no more and no smaller pieces than the controller can use (HMMAXD, HMMINDS)."""
    for state, event in record.walk(Remark):
        if event.name == LENT and state.profile is not None:
            identity = state.profile.controller
            pieces = [int(length) // HMB_UNIT for _, length in event.detail["regions"][1:]]
            ok = (not identity.HMMAXD or len(pieces) <= identity.HMMAXD) and min(pieces, default=0) >= identity.HMMINDS
            expected = f"{identity.HMMAXD or 'any number of'} pieces at most, of {identity.HMMINDS} units of 4 KiB at least"
            yield Finding(ok, event, expected, f"{len(pieces)} pieces, the smallest of {min(pieces, default=0)} units")


@check("features/hmb-list", cite=BASE_2_0["5.27.1.10"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def hmb_list(record: Record) -> Iterator[Finding]:
    """Lends host memory once, and as many pages as its descriptors name: the controller refuses a second loan."""
    lent: dict[str, bool] = {}
    for state, event in record.walk(Remark, Completed, Reset, Submitted):
        here = state.spec.id
        match event:
            case Remark(name=name, detail=detail) if name == LENT:
                lent[here] = True
                named = sum(int(length) for _, length in detail["regions"][1:]) // state.page
                shown = f"{detail.get('pages')} pages, {named} in the descriptors"
                yield Finding(detail.get("pages", named) == named, event, "as many pages as the descriptors name", shown)
            case Submitted(command=c.SetFeatures(FID=Fid.HOST_MEMORY_BUFFER, CDW11=value)) if HostMemoryBuffer(value).EHM:
                ok = not lent.get(here)
                yield Finding(ok, event, "EHM=1 only while nothing is lent", "nothing lent" if ok else "memory is lent already")
            case Completed() if _takes_back(state, event):
                lent.pop(here, None)
            case Reset() if event.cause != "shutdown":
                lent.pop(here, None)


@check("features/hmb-released", cite=BASE_2_0["8.9"], level=RECOMMENDED, why="should", witnesses=["wire"])
def hmb_released(record: Record) -> Iterator[Finding]:
    """Takes lent memory back before it shuts the controller down by a normal shutdown."""
    lent: set[str] = set()
    for state, event in record.walk(Remark, Completed, Reset, RegisterWrite):
        match event:
            case Remark(name=name) if name == LENT:
                lent.add(state.spec.id)
            case Completed() if _takes_back(state, event):
                yield Finding(True, event, "EHM=0 before CC.SHN", "memory taken back")
                lent.discard(state.spec.id)
            case Reset():
                lent.discard(state.spec.id)
            case RegisterWrite(offset=CC.OFFSET, value=value) if (
                CC(value).SHN == SHN_NORMAL and state.enabled and state.spec.id in lent
            ):
                yield Finding(False, event, "EHM=0 before CC.SHN", "the controller still has the memory")
                lent.discard(state.spec.id)


# -- queues that are not contiguous ---------------------------------------------------------------------------------------


@dataclass
class ListOfQueue:
    """Where the PRP list of a live queue lies, and what it holds, by the address of each entry."""

    name: str
    entries: dict[int, int] = field(default_factory=dict)
    broken: bool = False

    def changed(self, event: MemoryWrite) -> bool:
        """Return whether a write changes an entry; writing the same once more changes nothing."""
        for address, entry in self.entries.items():
            if event.address < address + ENTRY and address < event.address + event.length:
                at = address - event.address
                new = event.raw[at : at + ENTRY] if event.raw and at >= 0 else b""
                if len(new) < ENTRY or int.from_bytes(new, "little") != entry:
                    return True
        return False

    def closed(self, event: DmaMap) -> bool:
        """Return whether the memory of the list is taken from the controller."""
        return any(event.address <= address < event.address + event.length for address in self.entries)


Queue = tuple[str, bool, int]
"""A controller's id, whether it is a completion queue, and the queue's id."""


@check("io-queues/pc0-list", cite=BASE_2_0["5.4"], level=MANDATORY, why="shall", witnesses=["wire", "memory"],
       uses="queues that are not contiguous", scenarios=["io-queues/scattered"])  # fmt: skip
def pc0_list(record: Record) -> Iterator[Finding]:
    """Keeps the PRP list of a queue that is not contiguous, where it is and as it is, until the queue is deleted."""
    kept: dict[Queue, ListOfQueue] = {}
    expected = "the list as it was when the queue was created"
    for state, event in record.walk(Completed, MemoryWrite, DmaMap, Reset):
        own = {queue: one for queue, one in kept.items() if queue[0] == state.spec.id}
        match event:
            case Completed() if (sent := state.answered(event)) is not None and event.completion.ok:
                queue = state.spec.id, isinstance(sent.command, c.CreateIoCq | c.DeleteIoCq), getattr(sent.command, "QID", 0)
                if isinstance(sent.command, CREATES) and not sent.command.PC and (made := _list_of(record, state, sent)):
                    kept[queue] = made
                elif isinstance(sent.command, c.DeleteIoCq | c.DeleteIoSq) and (one := kept.pop(queue, None)) is not None:
                    yield Finding(not one.broken, event, expected, f"{one.name} deleted")
            case MemoryWrite():
                for one in own.values():
                    if one.changed(event):
                        one.broken = True
                        yield Finding(False, event, expected, f"{event.length} bytes written at {event.address:#x}: {one.name}")
            case DmaMap(mapped=False) if state.enabled and not state.shut_complete:
                for one in own.values():
                    if one.closed(event):
                        one.broken = True
                        yield Finding(False, event, expected, f"memory of the list of {one.name} closed to the device")
            case Reset() if event.cause != "shutdown":
                for queue, one in own.items():
                    yield Finding(not one.broken, event, expected, f"{one.name} ended by a reset")
                    del kept[queue]


def _list_of(record: Record, state: State, sent: Submitted) -> ListOfQueue | None:
    """Return the list that the controller has read for a new queue; None if the record does not have it."""
    command = sent.command
    assert isinstance(command, CREATES)
    size = CQE_BYTES if isinstance(command, c.CreateIoCq) else SQE_BYTES
    left = -(-command.entries * size // state.page)
    made = ListOfQueue(f"{'CQ' if isinstance(command, c.CreateIoCq) else 'SQ'} {command.QID}")
    for page in record.prp_lists(sent):
        for number, entry in enumerate(page.entries[:left]):
            made.entries[page.address + number * ENTRY] = entry
        left -= len(page.entries)
    return made if made.entries else None


# -- the controller's own memory ------------------------------------------------------------------------------------------


@check("io-queues/memory-use", cite=BASE_2_0["3.1.3.12"], level=MANDATORY, why="shall", witnesses=["wire"],
       uses="a controller memory buffer", scenarios=["io-queues/controller-memory"])  # fmt: skip
def memory_use(record: Record) -> Iterator[Finding]:
    """Places in the controller's memory only queues that CMBSZ lets be there, and each of them as a whole."""
    for remark in record.all(Remark):
        if remark.name == IN_OWN_MEMORY:
            kind, whole = "CQ" if remark.detail.get("completion") else "SQ", bool(remark.detail.get("whole"))
            shown = f"{kind} {remark.detail.get('qid')} {'' if whole else 'partly '}in the controller's memory"
            yield Finding(whole and kind == "SQ", remark, "submission queues only, and as a whole", shown)


@check("io-queues/memory-apart", cite=BASE_2_0["8.5"], level=RECOMMENDED, why="should", witnesses=["wire"],
       scenarios=["io-queues/controller-memory"])  # fmt: skip
def memory_apart(record: Record) -> Iterator[Finding]:
    """Gives the controller's memory addresses that no memory for DMA has."""
    for remark in record.all(Remark):
        if remark.name == OWN_MEMORY:
            address, length = int(remark.detail.get("address", 0)), int(remark.detail.get("length", 0))
            apart = bool(remark.detail.get("apart"))
            shown = f"{length:#x} bytes at {address:#x}, {'apart' if apart else 'where memory is open to the controller'}"
            yield Finding(apart, remark, "addresses that are not used for DMA", shown)


# -- identity, keys, power ------------------------------------------------------------------------------------------------


@check("features/host-id", cite=BASE_2_0["5.27.1.25"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def host_id(record: Record) -> Iterator[Finding]:
    """Sets a host identifier of 128 bits only where CTRATT says that the controller takes it."""
    for state, event, command in record.commands(c.SetFeatures):
        if command.FID == Fid.HOST_IDENTIFIER and state.profile is not None:
            long, offered = HostIdentifier(command.CDW11).EXHID, state.profile.controller.CTRATT.HOST_ID_128
            shown = f"EXHID {long}, CTRATT bit 0 {offered}"
            yield Finding(not long or bool(offered), event, "EXHID 0, or CTRATT bit 0 set", shown, fields=("FID", "CDW11"))


@check(
    "multi-namespace/resv-keys", cite=BASE_2_0["8.19"], level=MANDATORY, why="shall", witnesses=["wire"], uses="reservations"
)
def resv_keys(record: Record) -> Iterator[Finding]:
    """Registers a key with a namespace before it reserves it, and names that key, also where it preempts and releases."""
    for _, event in record.walk(Remark):
        if event.name == KEY and event.detail.get("does") in BY_KEY:
            registered, matches = bool(event.detail.get("registered")), bool(event.detail.get("matches"))
            shown = "no key registered" if not registered else "the key that was registered" if matches else "another key"
            yield Finding(registered and matches, event, "the key that was registered before", shown)


@check("multi-namespace/resv-type", cite=BASE_2_0["7.4"], level=MANDATORY, why="shall", witnesses=["wire"], uses="reservations")
def resv_type(record: Record) -> Iterator[Finding]:
    """Releases a reservation that it holds by the type that the reservation has."""
    for _, event in record.walk(Remark):
        if event.name == TYPE:
            named, held = event.detail.get("named"), event.detail.get("held")
            yield Finding(named == held, event, f"RTYPE {held}, as the reservation has", f"RTYPE {named}")


@check("reset/d3", cite=BASE_2_0["3.6.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def d3(record: Record) -> Iterator[Finding]:
    """Shuts an enabled controller down, and sees that through, before it puts the function into D3."""
    for state, event in record.walk(ConfigWrite):
        at = state.profile.power_control if state.profile else 0
        if at and event.offset == at and event.value & D3HOT == D3HOT:
            ok = not state.enabled or state.shut_complete
            shown = "shut down" if state.shut_complete else "EN=0" if not state.enabled else "enabled, and SHST=10b not seen"
            yield Finding(ok, event, "CSTS.SHST=10b before D3", shown)


# -- shadow doorbells -----------------------------------------------------------------------------------------------------


@check(
    "multiqueue/shadow-buffers",
    cite=BASE_2_0["5.8"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="Doorbell Buffer Config",
)
def shadow_buffers(record: Record) -> Iterator[Finding]:
    """Gives Doorbell Buffer Config two separate memory pages, each aligned to the memory page size."""
    for state, event, command in record.commands(c.DoorbellBufferConfig):
        one, two = command.PRP1, command.PRP2
        ok = not one % state.page and not two % state.page and one != two
        expected = f"two pages at multiples of {state.page:#x}"
        yield Finding(ok, event, expected, f"PRP1 {one:#x}, PRP2 {two:#x}", fields=("PRP1", "PRP2"))


@check("multiqueue/shadow-zeroed", cite=BASE_2_0["5.8"], level=RECOMMENDED, why="integrity", witnesses=["wire"])
def shadow_zeroed(record: Record) -> Iterator[Finding]:
    """Clears the shadow doorbells before it gives them to the controller, which may look at them at once."""
    found: Remark | None = None
    for state, event in record.walk(Remark, Completed) if record.exact else ():
        match event:
            case Remark(name=name) if name == RESIDUE:
                found = event
            case Completed() if (sent := state.answered(event)) and isinstance(sent.command, c.DoorbellBufferConfig):
                if event.completion.ok:
                    count, at = (found.detail.get("count"), found.detail.get("offset")) if found else (0, 0)
                    stray = f"{count} others, the first at byte {at}" if found else "so"
                    yield Finding(found is None, sent, "entries of 0, or of what their doorbells hold", stray)
                found = None


RESIDUE = "shadow-residue"
"""The controller's remark on what it has found in the shadow doorbells when it was given them."""
