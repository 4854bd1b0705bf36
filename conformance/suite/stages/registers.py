"""Rules about registers and doorbells that hold in every stage. Base 2.0, 3.1.3; PCIe Transport 1.0, 3.1.2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conformance.record.record import Record
from conformance.record.state import CompletionQueue, State, SubmissionQueue
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PCIE_1_0
from conformance.suite.stages.admin_queue import TAIL_BITS, begins_shutdown, enables
from lab.data.events import Doorbell, RegisterRead, RegisterWrite
from lab.nvme.registers import (
    AQA,
    BPINFO,
    BPMBL,
    BPRSEL,
    CC,
    CMBMSC,
    CMBSTS,
    DOORBELLS,
    NSSR,
    PMRCAP,
    PMRMSCU,
    REGISTERS,
    register_at,
)

WIDE = frozenset({BPMBL.OFFSET, CMBMSC.OFFSET, *(register.OFFSET for register in REGISTERS if register.SIZE == 8)})
"""Offsets of the registers that are 8 bytes wide: the only ones that one access of 8 bytes may take."""
CRMS_BOTH = 0b11
"""CAP.CRMS of a controller with both ready modes."""
CSS_ALL_SETS, CSS_ADMIN_ONLY, CAP_ALL_SETS, CAP_ADMIN_ONLY = 0b110, 0b111, 1 << 6, 1 << 7
NSSD = 0x64
"""NVM Subsystem Shutdown. Base 2.0, 3.1.3, figure 35."""


@check("detect/one-register", cite=PCIE_1_0["3.1.2"], level=MANDATORY, why="shall", witnesses=["wire"])
def one_register(record: Record) -> Iterator[Finding]:
    """Never reaches two registers by one access: 8 bytes only where a register is 8 bytes wide."""
    for event in record.events:
        if isinstance(event, RegisterRead | RegisterWrite | Doorbell):
            ok = event.offset % 4 + event.size <= 4 or (event.size == 8 and event.offset in WIDE)
            yield Finding(ok, event, "one register", f"{event.size} bytes at {event.offset:#x}")


def _announced(state: State, offset: int) -> bool | None:
    """Return whether the controller has an optional register there; None if that needs a profile and there is none."""
    cap = state.cap
    if cap is None:
        return None
    if BPINFO.OFFSET <= offset < BPRSEL.OFFSET + 4 or BPMBL.OFFSET <= offset < BPMBL.OFFSET + 8:
        return bool(cap.BPS)
    if CMBMSC.OFFSET <= offset < CMBSTS.OFFSET + 12:
        return bool(cap.CMBS)
    if PMRCAP.OFFSET <= offset < PMRMSCU.OFFSET + 4:
        return bool(cap.PMRS)
    return bool(cap.NSSS) if offset == NSSD else False


@check("detect/reserved-register", cite=BASE_2_0["3.1.3"], level=MANDATORY, why="shall", witnesses=["wire"])
def reserved_register(record: Record) -> Iterator[Finding]:
    """Writes nothing but 0 to reserved registers, and to those of features that CAP does not announce."""
    for state, event in record.walk(RegisterWrite):
        if register_at(event.offset) is not None:
            yield Finding(True, event, "a register that is there", f"{event.offset:#x}")
        elif (there := _announced(state, event.offset)) is not None:
            shown = f"{event.value:#x} written to {event.offset:#x}"
            yield Finding(there or event.value == 0, event, "0, as the register is reserved", shown)


@check("detect/reserved-bits", cite=BASE_2_0["3.1.3"], level=MANDATORY, why="shall", witnesses=["wire"])
def reserved_bits(record: Record) -> Iterator[Finding]:
    """Writes the reserved bits of CC and AQA as 0, and no reserved value to CC.SHN."""
    for _, event in record.walk(RegisterWrite):
        if event.size != 4 or event.offset not in (CC.OFFSET, AQA.OFFSET):
            continue
        register = CC(event.value) if event.offset == CC.OFFSET else AQA(event.value)
        reserved_value = isinstance(register, CC) and register.SHN == 0b11
        name = type(register).__name__
        shown = f"{name} = {event.value:#010x}: reserved bits {register.reserved:#x}"
        shown += ", SHN=11b, which is reserved" if reserved_value else ""
        yield Finding(not register.reserved and not reserved_value, event, f"reserved bits of {name} 0", shown)


@check("detect/nssr-gated", cite=BASE_2_0["3.1.3.7"], level=MANDATORY, why="shall", witnesses=["wire"])
def nssr_gated(record: Record) -> Iterator[Finding]:
    """Writes to NSSR only where CAP.NSSRS says that the register is there."""
    for state, event in record.walk(RegisterWrite):
        if state.cap is None:
            continue
        if event.offset == NSSR.OFFSET and event.value:
            shown = f"{event.value:#x} written, CAP.NSSRS {state.cap.NSSRS}"
            yield Finding(bool(state.cap.NSSRS), event, "CAP.NSSRS=1 before NSSR is written", shown)
        elif event.offset == CC.OFFSET:
            yield Finding(True, event, "CAP.NSSRS=1 before NSSR is written", "NSSR left alone")


@check("admin-queue/no-doorbell-read", cite=PCIE_1_0["3.1.2.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def no_doorbell_read(record: Record) -> Iterator[Finding]:
    """Never reads a doorbell: what it returns is the vendor's own."""
    for event in record.events:
        if isinstance(event, RegisterRead) and event.offset >= DOORBELLS:
            yield Finding(False, event, "doorbells written only", f"{event.size} bytes read at {event.offset:#x}")
        elif isinstance(event, Doorbell):
            yield Finding(True, event, "doorbells written only", "written")


@check("admin-queue/doorbell-upper", cite=PCIE_1_0["3.1.2.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def doorbell_upper(record: Record) -> Iterator[Finding]:
    """Writes bits 31:16 of a doorbell, which are reserved, as 0."""
    for _, event in record.walk(Doorbell):
        if event.size == 4:
            yield Finding(event.value <= TAIL_BITS, event, "bits 31:16 clear", f"{event.value:#010x} at {event.offset:#x}")


@check("admin-queue/doorbell-unchanged", cite=BASE_2_0["5.2"], level=MANDATORY, why="shall", witnesses=["wire"])
def doorbell_unchanged(record: Record) -> Iterator[Finding]:
    """Never writes the value to a doorbell that it has written there before: figure 144 names it an invalid value."""
    for state, event in record.walk(Doorbell):
        queue = (state.cqs if event.completion else state.sqs).get(event.qid)
        if queue is not None and state.rings_all(event.qid):
            old = queue.head if isinstance(queue, CompletionQueue) else queue.tail  # 0 of a new queue
            name = f"{'CQ' if event.completion else 'SQ'} {event.qid}"
            value = event.value & TAIL_BITS
            yield Finding(value != old, event, f"another value than {old} for {name}", f"{value}")


@check("admin-queue/rdy0-before-en", cite=BASE_2_0["3.1.3.5"], level=MANDATORY, why="safety", witnesses=["wire"])
def rdy0_before_en(record: Record) -> Iterator[Finding]:
    """Sets EN again only after it has read RDY=0: to set it while RDY is 1 has undefined results."""
    for state, event, _ in enables(record):
        if state.epoch:
            shown = "RDY=0 not read since EN=0" if state.stopping else "RDY=0 read"
            yield Finding(not state.stopping, event, "RDY=0 read between EN=0 and EN=1", shown)


@check(
    "admin-queue/no-disable-while-starting",
    cite=BASE_2_0["3.1.3.5"],
    level=MANDATORY,
    why="safety",
    witnesses=["wire"],
    timed=True,
)
def no_disable_while_starting(record: Record) -> Iterator[Finding]:
    """Clears EN only while RDY is 1, or once the controller has failed or has had all the time that CAP.TO allows: to clear it
    before that has undefined results."""
    for state, event in record.walk(RegisterWrite):
        if event.offset != CC.OFFSET or not state.enabled or CC(event.value).EN:
            continue
        known_starting = state.csts is not None and not (state.csts.RDY or state.csts.CFS or state.csts.SHST)
        given = event.t - state.enabled_at >= (state.cap.TO / 2 if state.cap else 0.0)
        ok = state.been_ready or not known_starting or given
        shown = "RDY=0 was read, and CAP.TO is not over" if not ok else "RDY=1, a failure, or CAP.TO over"
        yield Finding(ok, event, "RDY=1 before EN=0", shown)


@check("admin-queue/all-command-sets", cite=BASE_2_0["3.5.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def all_command_sets(record: Record) -> Iterator[Finding]:
    """Selects CSS=110b, all command sets, where bit 6 of CAP.CSS says that there are several, and 111b where bit 7 says that
    there is none."""
    for state, event, cc in enables(record):
        if state.cap is not None and state.cap.CSS & (CAP_ALL_SETS | CAP_ADMIN_ONLY):
            wanted = CSS_ADMIN_ONLY if state.cap.CSS & CAP_ADMIN_ONLY else CSS_ALL_SETS
            yield Finding(cc.CSS == wanted, event, f"CSS={wanted:03b}b", f"CSS={cc.CSS:03b}b")


@check("admin-queue/crime", cite=BASE_2_0["3.1.3.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def crime(record: Record) -> Iterator[Finding]:
    """Sets CRIME only where CAP.CRMS is 11b."""
    for state, event in record.walk(RegisterWrite):
        if event.offset == CC.OFFSET and state.cap is not None:
            cc = CC(event.value)
            shown = f"CRIME={cc.CRIME}, CAP.CRMS={state.cap.CRMS:02b}b"
            yield Finding(not cc.CRIME or state.cap.CRMS == CRMS_BOTH, event, "CRIME=0, or CAP.CRMS=11b", shown)


@check("admin-queue/crime-early", cite=BASE_2_0["3.5.3"], level=RECOMMENDED, why="should", witnesses=["wire"])
def crime_early(record: Record) -> Iterator[Finding]:
    """Chooses the ready mode before it sets EN, and leaves CRIME alone after that."""
    for state, event in record.walk(RegisterWrite):
        if event.offset == CC.OFFSET and begins_shutdown(state.cc, CC(event.value)):
            continue
        if event.offset == CC.OFFSET and state.enabled and CC(event.value).EN:
            new = CC(event.value).CRIME
            yield Finding(new == state.cc.CRIME, event, f"CRIME={state.cc.CRIME} as long as EN=1", f"CRIME={new}")
        elif event.offset == CC.OFFSET and CC(event.value).EN:
            yield Finding(True, event, "CRIME chosen with EN=1 or before", f"CRIME={CC(event.value).CRIME}")


@check("reset/shn-cleared", cite=BASE_2_0["3.1.3.6"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def shn_cleared(record: Record) -> Iterator[Finding]:
    """Clears SHN by the write that sets EN: a controller that was shut down with EN=0 starts no other way."""
    found = dict[str, bool]()  # whether CC, when it was read last, had EN=1: then somebody else has enabled the controller
    for state, event in record.walk(RegisterWrite, RegisterRead):
        match event:
            case RegisterRead(offset=CC.OFFSET, value=value):
                found[state.spec.id] = bool(CC(value).EN)
            case RegisterWrite(offset=CC.OFFSET, value=value):
                if not found.pop(state.spec.id, False) and not state.enabled and CC(value).EN:
                    yield Finding(not CC(value).SHN, event, "EN=1 with SHN=00b", f"EN=1 with SHN={CC(value).SHN:02b}b")


@check(
    "io-queues/es-frozen",
    cite=BASE_2_0["3.1.3.5"],
    level=MANDATORY,
    why="safety",
    witnesses=["wire"],
    uses="writes to CC of an enabled controller",
)
def es_frozen(record: Record) -> Iterator[Finding]:
    """Leaves IOSQES and IOCQES alone while there are I/O queues: to change them then has undefined results."""
    for state, event in record.walk(RegisterWrite):
        if event.offset != CC.OFFSET or not state.enabled:
            continue
        old, new = state.cc, CC(event.value)
        if not new.EN or begins_shutdown(old, new):
            continue
        ok = (old.IOSQES == new.IOSQES or not _io(state.sqs)) and (old.IOCQES == new.IOCQES or not _io(state.cqs))
        shown = f"IOSQES={new.IOSQES}, IOCQES={new.IOCQES}"
        yield Finding(ok, event, f"IOSQES={old.IOSQES}, IOCQES={old.IOCQES} as they were", shown)


def _io(queues: Mapping[int, SubmissionQueue] | Mapping[int, CompletionQueue]) -> bool:
    """Return whether there is any queue but the admin queue."""
    return any(queues)
