"""Rules about limits that controllers and namespaces report, and about protection information. NVM 1.0, 3.2, 4.1.5, 5.2."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Record
from conformance.record.state import PRACT, State
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.admin_queue import enables
from lab.data.events import Completed, Remark, Submitted
from lab.data.plan import Controller, DeviceSpec, Fault
from lab.nvme import commands as c
from lab.nvme.identify import IdentifyNamespace

PRCHK, REFERENCE_CHECK = 0b0111, 0b0001
"""Bits of PRINFO: all checks, and that of the reference tag."""
TYPE_1 = 1
LOW_HALF = 0xFFFF_FFFF
FUSED_SECOND = 0b10
ADMINISTRATIVE = 3
"""CNTRLTYPE of an administrative controller."""
ADMIN_SETS = 1 << 7
"""CAP.CSS of a controller without an I/O command set."""
LONGEST_TO = 0xFF
"""CAP.TO, in 500 ms, of a controller that needs more than that, and says how much by CRTO."""
NEEDED, TAKEN_MS = 280, 132_000
"""CRTO.CRWMT in 500 ms, and how long the controller takes: longer than CAP.TO can say."""


@scenario("read/boundary", "a namespace with an optimal I/O boundary every 32 blocks")
def boundary(draw: Draw) -> Plan:
    lba = 32 * draw.between(1, 20) + draw.between(1, 31)
    moved = [do("read", nsid=1, lba=lba, blocks=48), do("write", nsid=1, lba=lba, blocks=40, fill=draw.fill())]
    return Plan(draw.device(identify_namespace={"NOIOB": 32}), [LOAD, *moved, do("read", nsid=1, lba=lba, blocks=48)])


@scenario("write/limits", "Write Zeroes, Verify and Write Uncorrectable are limited to 8 KiB of data, less than MDTS allows")
def size_limits_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 800)
    device = draw.device(version="2.0", identify_nvm={"VSL": 1, "WZSL": 1, "WUSL": 1})
    return Plan(device, [LOAD, do("zeroes", nsid=1, lba=lba, blocks=64), do("read", nsid=1, lba=lba - 1, blocks=66)])


@scenario("features/trim-limits", "Dataset Management of two ranges, of eight blocks each, and of sixteen blocks at most")
def trim_limits(draw: Draw) -> Plan:
    lba = draw.between(1, 800)
    device = draw.device(version="2.0", identify_nvm={"DMRL": 2, "DMRSL": 8, "DMSL": 16})
    return Plan(device, [LOAD, do("trim", nsid=1, lba=lba, blocks=40), do("read", nsid=1, lba=lba - 1, blocks=42)])


@scenario("write/fused", "a controller that has fused Compare and Write, of four blocks at most")
def fused(draw: Draw) -> Plan:
    return Plan(draw.device(identify={"FUSES": 1, "ACWU": 3}), [LOAD, do("read", nsid=1, lba=draw.between(1, 900), blocks=8)])


@scenario("read/protected", "a namespace with protection information of type 1")
def protected(draw: Draw) -> Plan:
    lba = draw.between(20, 800)
    written = [do("write", nsid=1, lba=lba, blocks=8, fill=draw.fill()), do("read", nsid=1, lba=lba - 4, blocks=16)]
    zeroed = [do("zeroes", nsid=1, lba=lba + 2, blocks=4), do("read", nsid=1, lba=lba, blocks=8)]
    return Plan(draw.device(draw.namespace(metadata_size=8, protection=TYPE_1)), [LOAD, *written, *zeroed])


@scenario("read/interleaved", "a namespace with metadata at the end of each block, and MDTS of two pages")
def interleaved(draw: Draw) -> Plan:
    return Plan(draw.device(draw.namespace(metadata_size=8, interleaved=True), mdts=1), [LOAD, do("list")])


@scenario("admin-queue/long-ready", "CSTS.RDY needs longer than CAP.TO can say: CRTO does", hostile=True, in_process=True)
def long_ready(draw: Draw) -> Plan:
    """A driver of before 2.0 need not wait longer than CAP.TO can say. Base 2.0, 3.1.3.1."""
    slow = Fault(name="slow", behaviour="slow-ready", arguments={"ms": TAKEN_MS})
    device = draw.device(version="2.0", cap={"TO": LONGEST_TO}, crto={"CRWMT": NEEDED})
    return Plan(device, [LOAD, do("ready")], [slow])


@scenario("identify/administrative", "an administrative controller, of the class of an I/O controller", hostile=True)
def administrative(draw: Draw) -> Plan:
    identify = {"CNTRLTYPE": ADMINISTRATIVE}
    controller = Controller(serial=draw.serial(), namespaces=(), cap={"CSS": ADMIN_SETS}, identify=identify)
    return Plan(DeviceSpec(controllers=(controller,)), [LOAD, do("identify"), do("smart")])


# -- what controllers report ----------------------------------------------------------------------------------------------


@check("admin-queue/crto", cite=BASE_2_0["3.5.4"], level=RECOMMENDED, why="should", witnesses=["fault", "wire"],
       scenarios=["admin-queue/long-ready"])  # fmt: skip
def crto(record: Record) -> Iterator[Finding]:
    """Waits for RDY=1 as long as CRTO.CRWMT says, which may be longer than CAP.TO can say."""
    for asked in record.answers("load", "ready"):
        ready = asked.ok and bool(asked.answer.get("ready", True))
        shown = "ready" if ready else f"not ready: {asked.said}"
        if not ready or any(enables(record)):
            yield Finding(ready, asked.ended, f"a driver that waits {NEEDED / 2:g} s for RDY=1", shown)


@check("identify/cntrltype", cite=BASE_2_0["3.1.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def cntrltype(record: Record) -> Iterator[Finding]:
    """Sends an administrative controller, which has no I/O queues, no command about I/O queues."""
    for state, event, command in record.commands(c.Command):
        if event.sqid == 0 and state.profile is not None and state.profile.controller.CNTRLTYPE == ADMINISTRATIVE:
            about_queues = isinstance(command, c.CreateIoCq | c.CreateIoSq | c.DeleteIoCq | c.DeleteIoSq)
            shown = f"{type(command).__name__} to a controller of type {ADMINISTRATIVE}"
            yield Finding(not about_queues, event, "no command that this type prohibits", shown, fields=("OPC",))


def _identified(state: State, nsid: int) -> IdentifyNamespace | None:
    return state.profile.namespaces.get(nsid) if state.profile else None


@check("read/noiob", cite=NVM_1_0["4.1.5"], level=RECOMMENDED, why="should", witnesses=["wire"])
def noiob(record: Record) -> Iterator[Finding]:
    """Builds reads and writes that cross no optimal I/O boundary where NOIOB names one."""
    for state, event, command in record.commands(c.Read, c.Write):
        identified = _identified(state, command.NSID)
        if identified is not None and (every := identified.NOIOB):
            last = command.SLBA + command.blocks - 1
            shown = f"LBA {command.SLBA} to {last}"
            ok = command.SLBA // every == last // every
            yield Finding(ok, event, f"no boundary of {every} blocks crossed", shown, fields=("SLBA", "NLB", "NSID"))


SIZE_LIMITS: dict[type[c.LbaCommand], str] = {c.WriteZeroes: "WZSL", c.Verify: "VSL", c.WriteUncorrectable: "WUSL"}
"""Commands without data to their limits in CNS 06h."""


@check("write/size-limits", cite=NVM_1_0["4.1.5"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def size_limits(record: Record) -> Iterator[Finding]:
    """Keeps Write Zeroes, Verify and Write Uncorrectable within WZSL, VSL and WUSL, where the controller reports them."""
    for state, event, command in record.commands(*SIZE_LIMITS):
        namespace, profile = state.spec.namespace(command.NSID), state.profile
        name = SIZE_LIMITS[type(command)]
        if profile is None or namespace is None or not (power := int(getattr(profile.nvm, name))):
            continue
        limit = (4096 << profile.cap.MPSMIN) << power
        length = command.blocks * (namespace.block_size + (namespace.metadata_size if namespace.interleaved else 0))
        yield Finding(length <= limit, event, f"at most {limit} bytes ({name})", f"{length} bytes", fields=("OPC", "NLB"))


def _ranges(record: Record, kind: str) -> dict[int, list[int]]:
    """Return the blocks of each range that the controller has read for a command, by the identity of its submission."""
    found: dict[int, list[int]] = {}
    for remark in record.all(Remark):
        if remark.name == kind and (owner := record.owner(remark)) is not None:
            found.setdefault(id(owner), []).append(int(remark.detail["nlb"]))
    return found


@check("features/dsm-limits", cite=NVM_1_0["3.2.3"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def dsm_limits(record: Record) -> Iterator[Finding]:
    """Keeps Dataset Management within DMRL, DMRSL and DMSL where the controller reports them: beyond, nothing is done."""
    ranges = _ranges(record, "dsm-range")
    for state, event, command in record.commands(c.DatasetManagement):
        limits = state.profile.nvm if state.profile else None
        if limits is None or not limits.DMRL:
            continue
        blocks = ranges.get(id(event), [])
        ok = command.ranges <= limits.DMRL and max(blocks, default=0) <= limits.DMRSL and sum(blocks) <= limits.DMSL
        expected = f"{limits.DMRL} ranges, {limits.DMRSL} blocks each, {limits.DMSL} in all, at most"
        shown = f"{command.ranges} ranges, {max(blocks, default=0)} blocks the longest, {sum(blocks)} in all"
        yield Finding(ok, event, expected, shown, fields=("NR",))


@check("write/copy-lengths", cite=NVM_1_0["3.2.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def copy_lengths(record: Record) -> Iterator[Finding]:
    """Copies at most MSSRL blocks by one source range, and at most MCL by one command."""
    ranges = _ranges(record, "copy-range")
    for state, event, command in record.commands(c.Copy):
        identified, blocks = _identified(state, command.NSID), ranges.get(id(event))
        if identified is not None and blocks:
            ok = max(blocks) <= identified.MSSRL and sum(blocks) <= identified.MCL
            expected = f"at most {identified.MSSRL} blocks by a range, {identified.MCL} in all"
            yield Finding(ok, event, expected, f"{max(blocks)} by a range, {sum(blocks)} in all", fields=("NR",))


@check("write/acwu", cite=NVM_1_0["2.1.3"], level=RECOMMENDED, why="should", witnesses=["wire"])
def acwu(record: Record) -> Iterator[Finding]:
    """Makes a fused Compare and Write no longer than ACWU, or NACWU, guarantees to be atomic."""
    for state, event, command in record.commands(c.Write):
        identified = _identified(state, command.NSID)
        if command.FUSE != FUSED_SECOND or identified is None or state.profile is None:
            continue
        own = identified.NACWU if identified.NSFEAT.ATOMICITY else 0
        most = (own or state.profile.controller.ACWU) + 1
        shown = f"{command.blocks} blocks"
        yield Finding(command.blocks <= most, event, f"at most {most} blocks", shown, fields=("FUSE", "NLB"))


@check("read/mdts-metadata", cite=BASE_2_0["5.17.2.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def mdts_metadata(record: Record) -> Iterator[Finding]:
    """Counts metadata in what MDTS bounds where they lie at the end of each block."""
    for state, event, command in record.commands(c.Read, c.Write, c.Compare):
        namespace, length = state.spec.namespace(command.NSID), state.transfer_bytes(command)
        if namespace is None or not namespace.interleaved or length is None or state.cap is None or not state.spec.mdts:
            continue
        limit = (4096 << state.cap.MPSMIN) << state.spec.mdts
        yield Finding(length <= limit, event, f"at most {limit} bytes, metadata included", f"{length}", fields=("NLB",))


# -- protection information -----------------------------------------------------------------------------------------------


@check(
    "read/pi-type1",
    cite=NVM_1_0["4.1.2"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="checks of protection information",
)
def pi_type1(record: Record) -> Iterator[Finding]:
    """Sets ILBRT to the low 32 bits of the first LBA where type 1 protection is checked by it, or inserted from it."""
    for state, event, command in record.commands(c.Read, c.Write, c.Compare, c.Verify):
        identified = _identified(state, command.NSID)
        if identified is None or identified.DPS.TYPE != TYPE_1:
            continue
        inserts = isinstance(command, c.Write) and command.PRINFO & PRACT
        if command.PRINFO & REFERENCE_CHECK or inserts:
            low = command.SLBA & LOW_HALF
            shown = f"ILBRT {command.ILBRT:#x}, PRINFO {command.PRINFO:04b}b"
            yield Finding(command.ILBRT == low, event, f"ILBRT {low:#x}", shown, fields=("SLBA", "ILBRT", "PRINFO"))


@check(
    "write/zeroes-prchk",
    cite=NVM_1_0["3.2.8"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="Write Zeroes with protection information",
)
def zeroes_prchk(record: Record) -> Iterator[Finding]:
    """Asks for no check of protection information in Write Zeroes, which moves none: PRCHK and STC 0."""
    for state, event, command in record.commands(c.WriteZeroes):
        identified = _identified(state, command.NSID)
        if identified is not None and identified.DPS.TYPE:
            ok = not command.PRINFO & PRCHK and not command.STC
            shown = f"PRCHK {command.PRINFO & PRCHK:03b}b, STC {command.STC}"
            yield Finding(ok, event, "PRCHK 000b, STC 0", shown, fields=("PRINFO", "STC"))


@check(
    "write/compare-pract",
    cite=NVM_1_0["3.2.1"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="Compare with protection information",
)
def compare_pract(record: Record) -> Iterator[Finding]:
    """Clears PRACT in Compare: there is nothing to insert, and nothing to strip."""
    for state, event, command in record.commands(c.Compare):
        identified = _identified(state, command.NSID)
        if identified is not None and identified.DPS.TYPE:
            shown = f"PRACT {command.PRINFO >> 3}"
            yield Finding(not command.PRINFO & PRACT, event, "PRACT 0", shown, fields=("PRINFO",))


@check("write/verify-pract", cite=NVM_1_0["3.2.5"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def verify_pract(record: Record) -> Iterator[Finding]:
    """Clears PRACT in Verify, which moves no data that could gain or lose protection information."""
    for state, event, command in record.commands(c.Verify):
        identified = _identified(state, command.NSID)
        if identified is not None and identified.DPS.TYPE:
            shown = f"PRACT {command.PRINFO >> 3}"
            yield Finding(not command.PRINFO & PRACT, event, "PRACT 0", shown, fields=("PRINFO",))


# -- retries --------------------------------------------------------------------------------------------------------------

CRD_SECONDS, ENOUGH = 0.1, 0.9
"""Seconds of CRDT1 to CRDT3, and how much of a delay counts as all of it: clocks differ."""
SAME = slice(40, 52)
"""Bytes of a submission that a retry of a command over blocks repeats, with its opcode and namespace: LBA and length."""


@check("reset/crd", cite=BASE_2_0["3.3.3.2.1"], level=RECOMMENDED, why="should", witnesses=["wire"], timed=True)
def crd(record: Record) -> Iterator[Finding]:
    """Retries a command only after the delay that its completion names by CRD, once it has enabled such delays (ACRE)."""
    enabled: dict[tuple[str, int], bool] = {}
    waiting: dict[tuple[object, ...], tuple[Completed, float]] = {}
    for state, event in record.walk(Remark, Completed, Submitted):
        where = state.spec.id, state.epoch
        match event:
            case Remark(name=name, detail=detail) if name == HOST_BEHAVIOR:
                enabled[where] = bool(detail.get("acre"))
            case Completed() if enabled.get(where) and (sent := state.answered(event)) is not None:
                failed, crdt = event.completion, state.profile.controller if state.profile else None
                if crdt is not None and not failed.ok and not failed.DNR and failed.CRD:
                    delay = (crdt.CRDT1, crdt.CRDT2, crdt.CRDT3)[failed.CRD - 1] * CRD_SECONDS
                    waiting[where, *_repeated(sent)] = event, delay
            case Submitted() if (before := waiting.pop((where, *_repeated(event)), None)) is not None:
                completed, delay = before
                if any(asked.covers(completed) and not asked.covers(event) for asked in record.asked):
                    continue  # asked for anew, and no retry
                waited = event.t - completed.t
                shown = f"retried after {waited:.2f} s"
                yield Finding(waited >= delay * ENOUGH, event, f"{delay:g} s before the retry", shown, fields=("OPC",))


def _repeated(event: Submitted) -> tuple[object, ...]:
    """Return what two submissions of one command have in common, on whatever queue."""
    return event.sqid != 0, event.command.OPC, event.command.NSID, bytes(event.raw[SAME])


HOST_BEHAVIOR = "host-behavior"
"""The remark that the host has set Host Behavior Support."""
