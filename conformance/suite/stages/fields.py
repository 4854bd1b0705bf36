"""Rules about the fields of commands that hold in every stage: what a command leaves unused, and which values it may carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.record.record import Record
from conformance.record.state import State
from conformance.record.words import MOST_SHOWN, listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0
from conformance.suite.stages.features import PASSED_THROUGH
from conformance.suite.stages.read import unread
from lab.data.events import Completed, Doorbell, FaultInjected, Remark, Submitted
from lab.nvme import commands as c
from lab.nvme.commands import BROADCAST_NSID, Command, Psdt
from lab.nvme.features import VALUES, Fid, HostMemoryBuffer, InterruptVectorConfig, NumberOfQueues, PowerManagement
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid
from lab.nvme.status import Status

NO_NSID = (
    c.DeleteIoSq, c.CreateIoSq, c.DeleteIoCq, c.CreateIoCq, c.Abort, c.AsyncEventRequest, c.FirmwareCommit, c.FirmwareDownload,
    c.KeepAlive, c.VirtualizationManagement, c.NvmeMiSend, c.NvmeMiReceive, c.CapacityManagement, c.Lockdown,
    c.DoorbellBufferConfig, c.Sanitize,
)  # fmt: skip
"""Admin commands that do not use their namespace id. Base 2.0, 5, figure 138."""
NVME_PROTOCOL = 0xEA
"""The security protocol of the Replay Protected Memory Block, which is no namespace's. Base 2.0, 8.18."""
NO_POINTER = c.DeleteIoSq, c.DeleteIoCq, c.Abort, c.AsyncEventRequest, c.KeepAlive
"""Admin commands that use no data pointer at all."""
ONE_POINTER = c.CreateIoSq, c.CreateIoCq
"""Admin commands whose PRP1 names a queue, and that leave PRP2 reserved. Base 2.0, 5.4 and 5.5."""
CID_NONE = 0xFFFF
"""What the Error Information log says where an error belongs to no command. Base 2.0, 3.3.3.1."""
FUSED_FIRST, FUSED_SECOND = 0b01, 0b10


# -- what commands leave unused ---------------------------------------------------------------------------------------


@check("admin-queue/nsid-unused", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def nsid_unused(record: Record) -> Iterator[Finding]:
    """Leaves NSID 0 in admin commands that do not use it."""
    for _, event, command in record.commands(*NO_NSID, c.NamespaceManagement, c.SecuritySend, c.SecurityReceive):
        if isinstance(command, c.NamespaceManagement) and command.SEL:
            continue  # it names the namespace that it deletes. Base 2.0, 5.23
        if isinstance(command, c.SecuritySend | c.SecurityReceive) and command.SECP != NVME_PROTOCOL:
            continue  # the protocol says what it is. Base 2.0, 5.25
        shown = f"{type(command).__name__} with NSID {command.NSID:#x}"
        yield Finding(command.NSID == 0, event, "NSID 0, as the command does not use it", shown, fields=("OPC", "NSID"))


@check("admin-queue/prp2-unused", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def prp2_unused(record: Record) -> Iterator[Finding]:
    """Leaves PRP2 0 in admin commands that do not use it, and where the data ends in the page that PRP1 names."""
    for state, event, command in record.commands(Command):
        if event.sqid or command.OPCODE is None or isinstance(command, c.DoorbellBufferConfig):
            continue
        one_page = isinstance(command, NO_POINTER + ONE_POINTER) or _ends_in_first_page(state, command)
        if one_page:
            stray = command.PRP2 if not isinstance(command, NO_POINTER) else command.PRP1 | command.PRP2
            shown = f"{type(command).__name__} with PRP1 {command.PRP1:#x}, PRP2 {command.PRP2:#x}"
            yield Finding(stray == 0, event, "unused pointers 0", shown, fields=("OPC", "PRP1", "PRP2"))


def _ends_in_first_page(state: State, command: Command) -> bool:
    length = command.data_length
    return bool(length) and length is not None and command.PRP1 % state.page + length <= state.page


@check("admin-queue/mptr-unused", cite=BASE_2_0["3.3.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def mptr_unused(record: Record) -> Iterator[Finding]:
    """Leaves MPTR 0 in admin commands: none of them moves metadata."""
    for _, event, command in record.commands(Command):
        if event.sqid == 0 and command.OPCODE is not None:
            shown = f"{type(command).__name__} with MPTR {command.MPTR:#x}"
            yield Finding(command.MPTR == 0, event, "MPTR 0", shown, fields=("OPC", "MPTR"))


@check("admin-queue/admin-prp", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def admin_prp(record: Record) -> Iterator[Finding]:
    """Uses PRPs, PSDT=00b, for every admin command."""
    for _, event, command in record.commands(Command):
        if event.sqid == 0:
            yield Finding(command.PSDT == Psdt.PRP, event, "PSDT=00b", f"PSDT={command.PSDT:02b}b", fields=("PSDT",))


@check("admin-queue/cid-ffff", cite=BASE_2_0["3.3.3.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def cid_ffff(record: Record) -> Iterator[Finding]:
    """Gives no command the identifier FFFFh, by which the error log means that there is no command."""
    for _, event, command in record.commands(Command):
        yield Finding(command.CID != CID_NONE, event, "a CID below FFFFh", f"CID {command.CID:#06x}", fields=("CID",))


@check("admin-queue/acl", cite=BASE_2_0["5.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def acl(record: Record) -> Iterator[Finding]:
    """Keeps at most ACL+1 Abort commands outstanding."""
    for state, event, _ in record.commands(c.Abort):
        if state.profile is not None:
            most = state.profile.controller.ACL + 1
            count = 1 + sum(isinstance(e.command, c.Abort) for e in state.in_flight.values())
            yield Finding(count <= most, event, f"at most {most} outstanding", f"{count}", fields=("OPC",))


@check("admin-queue/opcode", cite=BASE_2_0["5"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def opcode(record: Record) -> Iterator[Finding]:
    """Sends no command of its own that the controller does not know at all."""
    own = [asked for asked in record.asked if asked.action in PASSED_THROUGH]
    struck = {id(record.owner(event)) for event in record.all(FaultInjected)}
    for state, event in record.walk(Completed):
        submitted = state.answered(event)
        if submitted is None or any(asked.covers(event) for asked in own) or id(submitted) in struck:
            continue
        unknown = event.completion.status == Status.INVALID_OPCODE
        shown = f"opcode {submitted.command.OPC:02X}h of SQ {submitted.sqid}" + (": Invalid Command Opcode" if unknown else "")
        yield Finding(not unknown, submitted, "opcodes that the controller knows", shown, fields=("OPC",))


# -- queues -----------------------------------------------------------------------------------------------------------


@check("io-queues/nsqr-max", cite=BASE_2_0["5.27.1.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def nsqr_max(record: Record) -> Iterator[Finding]:
    """Never asks for FFFFh queues, which are not allowed, in Number of Queues."""
    for _, event, command in record.commands(c.SetFeatures):
        if command.FID == Fid.NUMBER_OF_QUEUES:
            wanted = NumberOfQueues(command.CDW11)
            shown = f"NSQR {wanted.NSQR:#x}, NCQR {wanted.NCQR:#x}"
            ok = 0xFFFF not in (wanted.NSQR, wanted.NCQR)
            yield Finding(ok, event, "NSQR and NCQR below FFFFh", shown, fields=("FID", "CDW11"))


@check("io-queues/qid0", cite=BASE_2_0["5.7"], level=MANDATORY, why="shall", witnesses=["wire"])
def qid0(record: Record) -> Iterator[Finding]:
    """Never names queue 0, the admin queue, in Delete I/O Submission or Completion Queue."""
    for _, event, command in record.commands(c.DeleteIoSq, c.DeleteIoCq):
        assert isinstance(command, c.DeleteIoSq | c.DeleteIoCq)
        yield Finding(command.QID != 0, event, "the id of an I/O queue", f"QID {command.QID}", fields=("QID",))


@check("io-queues/cq-after-sqs", cite=BASE_2_0["5.6"], level=MANDATORY, why="shall", witnesses=["wire"])
def cq_after_sqs(record: Record) -> Iterator[Finding]:
    """Deletes a completion queue only after the submission queues that use it, on the way out of an error too."""
    refused = set[tuple[str, int, int]]()  # submission queues that could not be deleted: nothing says how to go on there
    for state, event in record.walk(Submitted, Completed):
        here, sent = (state.spec.id, state.epoch), state.answered(event) if isinstance(event, Completed) else event
        match event, sent:
            case Completed(), Submitted(command=c.DeleteIoSq(QID=qid)) if not event.completion.ok:
                refused.add((*here, qid))
            case Submitted(command=c.DeleteIoCq(QID=cqid)), _:
                users = [sq.qid for sq in state.sqs.values() if sq.cqid == cqid and sq.qid]
                if not users or any((*here, qid) not in refused for qid in users):
                    yield Finding(not users, event, f"no SQ uses CQ {cqid}", f"used by SQs: {listed(users)}", fields=("QID",))


@check(
    "io-queues/ivc-order",
    cite=BASE_2_0["5.27.1.7"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="Interrupt Vector Configuration",
)
def ivc_order(record: Record) -> Iterator[Finding]:
    """Configures an interrupt vector only once a completion queue uses it."""
    for state, event, command in record.commands(c.SetFeatures):
        if command.FID == Fid.INTERRUPT_VECTOR_CONFIG:
            vector = InterruptVectorConfig(command.CDW11).IV
            used = sorted({cq.vector for cq in state.cqs.values() if cq.vector is not None})
            yield Finding(
                vector in used, event, f"one of the vectors in use: {listed(used)}", f"vector {vector}", ("FID", "CDW11")
            )


# -- data pointers ------------------------------------------------------------------------------------------------------


@check("read/sgl-gate", cite=BASE_2_0["4.1.2"], level=MANDATORY, why="shall", witnesses=["wire"])
def sgl_gate(record: Record) -> Iterator[Finding]:
    """Uses SGLs only where SGLS says that the controller takes them, and never PSDT=11b."""
    for state, event, command in record.commands(Command):
        if event.sqid and state.profile is not None:
            offered = bool(state.profile.controller.SGLS.SUPPORT)
            ok = command.PSDT == Psdt.PRP or (offered and command.PSDT != 0b11)
            expected = "PSDT=00b, 01b or 10b" if offered else "PSDT=00b, as SGLS offers nothing"
            yield Finding(ok, event, expected, f"PSDT={command.PSDT:02b}b", fields=("PSDT",))


HMB_DESCRIPTOR = "hmb-descriptor"
"""The remark on a host memory buffer whose descriptors name no whole pages."""
SGL_REMARK, TOO_LONG = "sgl", "TOO_LONG"


@check("read/sgl-shape", cite=BASE_2_0["4.1.2"], level=MANDATORY, why="shall", witnesses=["wire"], uses="SGLs")
def sgl_shape(record: Record) -> Iterator[Finding]:
    """Builds SGLs of valid descriptors that cover the data."""
    broken = set[int]()  # identities of the commands whose list was remarked on
    for state, remark in record.walk(Remark):
        if remark.name == SGL_REMARK and not (remark.detail.get("problem") == TOO_LONG and _may_be_longer(state)):
            broken.add(id(record.owner(remark)))
            problem, where = str(remark.detail.get("problem", "")).lower().replace("_", " "), remark.detail.get("where")
            yield Finding(False, remark, "a valid SGL", problem if where is None else f"{problem}, at {where}")
    for _, event, command in record.commands(Command):
        if event.sqid and command.PSDT in (Psdt.SGL_MPTR_BUFFER, Psdt.SGL_MPTR_SEGMENT) and id(event) not in broken:
            yield Finding(True, event, "a valid SGL", "nothing to remark")


def _may_be_longer(state: State) -> bool:
    """Return whether a list may name more than the data: where SGLS says so, or nothing is known of SGLS."""
    return state.profile is None or bool(state.profile.controller.SGLS.OVERSIZE)


@check(
    "read/mptr-aligned", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"], uses="a buffer of metadata"
)
def mptr_aligned(record: Record) -> Iterator[Finding]:
    """Aligns MPTR to a dword wherever it names a buffer of metadata."""
    for state, event, command in record.commands(c.Read, c.Write, c.Compare):
        namespace = state.spec.namespace(command.NSID)
        if namespace is not None and namespace.metadata_size and command.PSDT == Psdt.PRP:
            yield Finding(command.MPTR % 4 == 0, event, "a multiple of 4", f"MPTR {command.MPTR:#x}", fields=("MPTR",))


@check("read/pract-unused", cite=NVM_1_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def pract_unused(record: Record) -> Iterator[Finding]:
    """Asks for no protection information action or check where the namespace has no protection information."""
    for state, event, command in record.commands(c.Read, c.Write):
        identified = state.profile.namespaces.get(command.NSID) if state.profile else None
        if identified is not None and not int(identified.DPS):
            shown = f"PRINFO {command.PRINFO:04b}b, STC {command.STC}"
            yield Finding(not command.PRINFO and not command.STC, event, "PRINFO 0, STC 0", shown, fields=("PRINFO", "STC"))


@check("read/active-namespace", cite=BASE_2_0["3.2.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def active_namespace(record: Record) -> Iterator[Finding]:
    """Names a namespace in Read and Write that Identify shows: no other id can succeed."""
    for state, event, command in record.commands(c.Read, c.Write):
        if state.profile is None or record.scenario.hostile:
            continue
        known = sorted(n.nsid for n in state.spec.namespaces if n.attached)
        shown = f"NSID {command.NSID:#x}"
        yield Finding(command.NSID in known, event, f"one of namespaces {listed(known, MOST_SHOWN)}", shown, ("NSID",))


@check("read/failed-data", cite=BASE_2_0["9.2"], level=MANDATORY, why="integrity", witnesses=["wire", "out"], needs=["read"])
def failed_data(record: Record) -> Iterator[Finding]:
    """Reports no read as a success while the device has failed each command for one of its blocks."""
    for asked in record.answers("read"):
        answers = [state.answered(event) for state, event in record.during(asked, Completed) if not event.completion.ok]
        if any(sent is not None and isinstance(sent.command, c.Read) for sent in answers):
            lost = sorted(unread(record, asked))
            shown = f"{asked.said}; never read without an error: {listed(lost[:8])}"
            yield Finding(not (asked.ok and lost), asked.ended, "an error, or every block read by another command", shown)


# -- commands that a controller offers --------------------------------------------------------------------------------


Offer = tuple[str, str]
"""A word of Identify Controller, and its bit."""
IO_OFFERS: Mapping[type[Command], Offer] = {
    c.Compare: ("ONCS", "COMPARE"), c.WriteUncorrectable: ("ONCS", "WRITE_UNCORRECTABLE"), c.Verify: ("ONCS", "VERIFY"),
    c.Copy: ("ONCS", "COPY"), c.ReservationRegister: ("ONCS", "RESERVATIONS"), c.ReservationAcquire: ("ONCS", "RESERVATIONS"),
    c.ReservationRelease: ("ONCS", "RESERVATIONS"), c.ReservationReport: ("ONCS", "RESERVATIONS"),
}  # fmt: skip
ADMIN_OFFERS: Mapping[type[Command], Offer] = {
    c.SecuritySend: ("OACS", "SECURITY"), c.SecurityReceive: ("OACS", "SECURITY"), c.FirmwareCommit: ("OACS", "FIRMWARE"),
    c.FirmwareDownload: ("OACS", "FIRMWARE"), c.NamespaceManagement: ("OACS", "NAMESPACE_MANAGEMENT"),
    c.NamespaceAttachment: ("OACS", "NAMESPACE_MANAGEMENT"), c.DeviceSelfTest: ("OACS", "SELF_TEST"),
    c.DirectiveSend: ("OACS", "DIRECTIVES"), c.DirectiveReceive: ("OACS", "DIRECTIVES"), c.NvmeMiSend: ("OACS", "NVME_MI"),
    c.NvmeMiReceive: ("OACS", "NVME_MI"), c.VirtualizationManagement: ("OACS", "VIRTUALIZATION"),
    c.Lockdown: ("OACS", "LOCKDOWN"), c.DoorbellBufferConfig: ("OACS", "DOORBELL_BUFFER"),
    c.GetLbaStatus: ("OACS", "GET_LBA_STATUS"),
}  # fmt: skip


def _offered(record: Record, offers: Mapping[type[Command], Offer]) -> Iterator[Finding]:
    for state, event, command in record.commands(*offers):
        if state.profile is not None:
            word, bit = offers[type(command)]
            reported = getattr(state.profile.controller, word)
            shown = f"{type(command).__name__}, {word} {int(reported):#06x}"
            yield Finding(bool(getattr(reported, bit)), event, f"{word} offers the command", shown, fields=("OPC",))


@check("features/io-gated", cite=BASE_2_0["5.17.2.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def io_gated(record: Record) -> Iterator[Finding]:
    """Sends optional I/O commands only where ONCS offers them, fused ones where FUSES does, and no fused admin command."""
    yield from _offered(record, IO_OFFERS)
    for state, event, command in record.commands(Command):
        if command.FUSE and state.profile is not None:
            fuses = int(state.profile.controller.FUSES)
            shown = f"{type(command).__name__} with FUSE={command.FUSE:02b}b, FUSES {fuses:#06x}"
            ok, expected = bool(event.sqid and fuses & 1), "FUSES bit 0 set" if event.sqid else "FUSE=00b in an admin command"
            yield Finding(ok, event, expected, shown, fields=("FUSE",))


@check("features/admin-gated", cite=BASE_2_0["5.17.2.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def admin_gated(record: Record) -> Iterator[Finding]:
    """Sends optional admin commands only where OACS offers them."""
    yield from _offered(record, ADMIN_OFFERS)


SINCE = {Cns.ACTIVE_NAMESPACES: (1, 1), Cns.NAMESPACE_DESCRIPTORS: (1, 3)}
"""The revisions that brought structures which drivers ask for by themselves."""


@check("identify/cns-by-version", cite=BASE_2_0["5.17"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def cns_by_version(record: Record) -> Iterator[Finding]:
    """Asks for namespace lists and identification descriptors only where VS is of a revision that has them."""
    for state, event, command in record.commands(c.Identify):
        if state.profile is not None and command.CNS in SINCE:
            version = state.profile.vs
            ok = (version.MJR, version.MNR) >= SINCE[Cns(command.CNS)]
            shown = f"CNS {command.CNS:02X}h of a controller of {version.text}"
            yield Finding(ok, event, "a structure that this revision has", shown, fields=("CNS",))


# -- writes -------------------------------------------------------------------------------------------------------------


@check("write/zeroes-deac", cite=NVM_1_0["3.2.8"], level=RECOMMENDED, why="integrity", witnesses=["wire"])
def zeroes_deac(record: Record) -> Iterator[Finding]:
    """Sets DEAC in Write Zeroes only where DLFEAT says that deallocated blocks read as zeros and that DEAC is supported."""
    for state, event, command in record.commands(c.WriteZeroes):
        identified = state.profile.namespaces.get(command.NSID) if state.profile else None
        if identified is not None:
            ok = not command.DEAC or bool(identified.DLFEAT.WRITE_ZEROES)
            shown = f"DEAC={command.DEAC}, DLFEAT {int(identified.DLFEAT):#04x}"
            yield Finding(ok, event, "DEAC=0, or DLFEAT bit 3 set", shown, fields=("DEAC",))


@check("write/copy-limits", cite=NVM_1_0["3.2.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def copy_limits(record: Record) -> Iterator[Finding]:
    """Gives Copy no more source ranges than MSRC allows, in a format that OCFS offers."""
    for state, event, command in record.commands(c.Copy):
        identified = state.profile.namespaces.get(command.NSID) if state.profile else None
        if identified is None or state.profile is None:
            continue
        formats = state.profile.controller.OCFS
        most = identified.MSRC + 1
        ok = command.ranges <= most and bool(formats >> command.DESFMT & 1)
        shown = f"{command.ranges} ranges, format {command.DESFMT}"
        yield Finding(ok, event, f"at most {most} ranges, formats {formats:#x}", shown, fields=("NR", "DESFMT"))


@check("write/fused-pair", cite=BASE_2_0["3.4.2"], level=MANDATORY, why="shall", witnesses=["wire"], uses="fused operations")
def fused_pair(record: Record) -> Iterator[Finding]:
    """Sends the two commands of a fused operation next to each other in one queue: Compare, then Write of the same blocks."""
    first: dict[tuple[str, int], Submitted] = {}
    for state, event, command in record.commands(Command):
        if not event.sqid:
            continue
        where = state.spec.id, event.sqid
        waiting = first.pop(where, None)
        if command.FUSE == FUSED_FIRST:
            first[where] = event
        if waiting is not None or command.FUSE == FUSED_SECOND:
            ok = waiting is not None and command.FUSE == FUSED_SECOND and _compare_and_write(waiting.command, command)
            shown = f"FUSE={command.FUSE:02b}b after FUSE={waiting.command.FUSE if waiting else 0:02b}b"
            yield Finding(ok, event, "Compare with FUSE=01b, then Write of the same blocks with FUSE=10b", shown, ("FUSE",))
        elif command.FUSE == 0b11:
            yield Finding(False, event, "FUSE 00b, 01b or 10b", "FUSE=11b, which is reserved", fields=("FUSE",))
    for event in first.values():
        yield Finding(False, event, "a second command with FUSE=10b behind it", "none came", fields=("FUSE",))


@check(
    "write/fused-doorbell", cite=BASE_2_0["3.4.2"], level=MANDATORY, why="shall", witnesses=["wire"], uses="fused operations"
)
def fused_doorbell(record: Record) -> Iterator[Finding]:
    """Announces both commands of a fused operation by one write to the doorbell."""
    announced: dict[tuple[str, int, int], list[int]] = {}  # how many commands in all, after each write, by queue
    firsts: dict[tuple[str, int, int], int] = {}  # how many the controller had fetched with the last first one, by queue
    for state, event in record.walk(Doorbell, Submitted):
        assert isinstance(event, Doorbell | Submitted)
        qid = event.qid if isinstance(event, Doorbell) else event.sqid
        sq, where = state.sqs.get(qid), (state.spec.id, state.epoch, qid)
        if sq is None or not state.rings_all(qid):
            continue
        match event:
            case Doorbell(completion=False, value=value) if value < sq.size:
                ends = announced.setdefault(where, [])
                if sq.fetched == 0 and sq.tail == 0:  # the queue is new
                    ends.clear()
                ends.append((ends[-1] if ends else 0) + (value - sq.tail) % sq.size)
            case Submitted(command=Command(FUSE=0b01)) if qid:
                firsts[where] = sq.fetched + 1
            case Submitted(command=Command(FUSE=0b10)) if sq.fetched and firsts.get(where) == sq.fetched:
                apart = sq.fetched in announced.get(where, ())
                shown = f"a write of SQ {qid}'s doorbell {'between them' if apart else 'for both'}"
                yield Finding(not apart, event, "one write to the doorbell for both", shown, fields=("FUSE",))


def _compare_and_write(first: Command, second: Command) -> bool:
    if not isinstance(first, c.Compare) or not isinstance(second, c.Write):
        return False
    return (first.NSID, first.SLBA, first.NLB) == (second.NSID, second.SLBA, second.NLB)


@check("write/directive-enable", cite=BASE_2_0["8.7"], level=RECOMMENDED, why="should", witnesses=["wire"], uses="directives")
def directive_enable(record: Record) -> Iterator[Finding]:
    """Sets DTYPE in a write only after Directive Send has enabled that directive."""
    enabled: dict[tuple[str, int], set[int]] = {}
    for state, event in record.walk(Submitted, Completed):
        where = state.spec.id, state.epoch
        match event:
            case Completed() if (sent := state.answered(event)) and event.completion.ok:
                if isinstance(sent.command, c.DirectiveSend) and sent.command.DTYPE == 0:  # Enable Directive
                    enabled.setdefault(where, set()).add(sent.command.CDW12 >> 8 & 0xFF)
            case Submitted(command=c.Write(DTYPE=kind)):
                ok = kind == 0 or kind in enabled.get(where, ())
                yield Finding(ok, event, "DTYPE 0, or a directive that is enabled", f"DTYPE {kind}", fields=("DTYPE",))


# -- features and logs --------------------------------------------------------------------------------------------------


def own(record: Record, *kinds: type[Command]) -> Iterator[tuple[State, Submitted, Any]]:
    """Yield the commands that the driver has sent on its own, not those that a user had it send."""
    passed = [asked for asked in record.asked if asked.action in PASSED_THROUGH]
    for state, event, command in record.commands(*kinds):
        if not any(asked.covers(event) for asked in passed):
            yield state, event, command


@check("features/value-reserved", cite=BASE_2_0["5.27"], level=MANDATORY, why="shall", witnesses=["wire"])
def value_reserved(record: Record) -> Iterator[Finding]:
    """Leaves the reserved bits of a feature's value 0, and the reserved bytes of its data."""
    for remark in record.all(Remark):
        if remark.name == FEATURE_DATA:
            asked = [one for one in record.asked if one.action in PASSED_THROUGH and one.covers(remark)]
            if not asked:
                shown = f"feature {remark.detail.get('fid', 0):02X}h: byte {remark.detail.get('offset')} of its data is not"
                yield Finding(False, remark, "reserved bytes of the data clear", shown)
    for _, event, command in own(record, c.SetFeatures):
        if command.FID in VALUES:
            stray = VALUES[Fid(command.FID)](command.CDW11).reserved
            shown = f"feature {command.FID:02X}h = {command.CDW11:#x}: reserved bits {stray:#x}"
            yield Finding(not stray, event, "reserved bits of dword 11 clear", shown, fields=("FID", "CDW11"))


@check(
    "features/hmb-shape",
    cite=BASE_2_0["5.27.1.10"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="a host memory buffer",
)
def hmb_shape(record: Record) -> Iterator[Finding]:
    """Enables a host memory buffer only with a size, and by a list that is aligned to 16 bytes and names whole memory pages."""
    for remark in record.all(Remark):
        if remark.name == HMB_DESCRIPTOR:
            shown = f"{remark.detail.get('pages')} pages at {int(remark.detail.get('address', 0)):#x}"
            yield Finding(False, remark, "one memory page or more, aligned to it, in each descriptor", shown)
    for _, event, command in record.commands(c.SetFeatures):
        if command.FID == Fid.HOST_MEMORY_BUFFER and HostMemoryBuffer(command.CDW11).EHM:
            ok = command.CDW12 > 0 and command.CDW13 % 16 == 0 and command.CDW15 > 0
            shown = f"{command.CDW12} pages, list at {command.CDW14 << 32 | command.CDW13:#x} of {command.CDW15} entries"
            yield Finding(ok, event, "pages, and a list of entries at a multiple of 16", shown, ("CDW11", "CDW12", "CDW13"))


@check("features/hmb-wanted", cite=BASE_2_0["5.27.1.10"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def hmb_wanted(record: Record) -> Iterator[Finding]:
    """Lends host memory only to a controller that asks for some by HMPRE, and at least what HMMIN needs."""
    for state, event, command in record.commands(c.SetFeatures):
        if command.FID == Fid.HOST_MEMORY_BUFFER and HostMemoryBuffer(command.CDW11).EHM and state.profile is not None:
            identity = state.profile.controller
            lent = command.CDW12 * state.page // 4096
            ok = identity.HMPRE > 0 and lent >= identity.HMMIN
            yield Finding(
                ok, event, f"HMPRE above 0, {identity.HMMIN} units of 4 KiB or more", f"HMPRE {identity.HMPRE}, {lent} lent"
            )


@check("features/apst", cite=BASE_2_0["5.27.1.9"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def apst(record: Record) -> Iterator[Finding]:
    """Enables autonomous power state transitions only where APSTA offers them."""
    for state, event, command in record.commands(c.SetFeatures):
        if command.FID == Fid.AUTONOMOUS_POWER_STATE_TRANSITION and state.profile is not None:
            offered = state.profile.controller.APSTA & 1
            shown = f"APSTE {command.CDW11 & 1}, APSTA {offered}"
            yield Finding(bool(offered), event, "APSTA bit 0 set", shown, fields=("FID", "CDW11"))


@check("features/power-state", cite=BASE_2_0["5.27.1.2"], level=MANDATORY, why="shall", witnesses=["wire"], uses="power states")
def power_state(record: Record) -> Iterator[Finding]:
    """Selects only power states that NPSS counts."""
    for state, event, command in own(record, c.SetFeatures):
        if command.FID == Fid.POWER_MANAGEMENT and state.profile is not None:
            wanted, most = PowerManagement(command.CDW11).PS, state.profile.controller.NPSS
            yield Finding(wanted <= most, event, f"power state 0 to {most}", f"power state {wanted}", ("FID", "CDW11"))


OF_NAMESPACES = frozenset({
    Fid.LBA_RANGE_TYPE, Fid.ERROR_RECOVERY, Fid.NAMESPACE_METADATA, Fid.RESERVATION_NOTIFICATION_MASK,
    Fid.RESERVATION_PERSISTENCE, Fid.NAMESPACE_WRITE_PROTECTION,
})  # fmt: skip
"""Features that a namespace has; all others are the controller's, or the subsystem's. Base 2.0, 5.27.1, figure 317."""


@check("features/ns-scope", cite=BASE_2_0["4.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def ns_scope(record: Record) -> Iterator[Finding]:
    """Sets a feature of the whole controller without naming a namespace."""
    for _, event, command in record.commands(c.SetFeatures):
        if command.FID in Fid._value2member_map_ and command.FID not in OF_NAMESPACES:
            ok = command.NSID in (0, BROADCAST_NSID)
            shown = f"feature {command.FID:02X}h with NSID {command.NSID:#x}"
            yield Finding(ok, event, "NSID 0 or FFFFFFFFh", shown, fields=("FID", "NSID"))


@check("features/keep-alive", cite=BASE_2_0["3.9"], level=RECOMMENDED, why="should", witnesses=["wire"], timed=True)
def keep_alive(record: Record) -> Iterator[Finding]:
    """Sends Keep Alive within the time-out that it has set itself."""
    limit, last = 0.0, 0.0
    started: Submitted | None = None
    for _, event, command in record.commands(Command):
        if event.sqid:
            continue
        if isinstance(command, c.SetFeatures) and command.FID == Fid.KEEP_ALIVE_TIMER:
            limit, last, started = command.CDW11 / 1000, event.t, event
        elif isinstance(command, c.KeepAlive) and started is not None and limit:
            yield Finding(event.t - last <= limit, event, f"at most {limit:g} s since the last", f"{event.t - last:.2f} s")
            last = event.t
    ended = max((asked.ended.t for asked in record.asked if asked.ended), default=0.0)
    if started is not None and limit and ended - last > limit:
        yield Finding(False, started, f"Keep Alive each {limit:g} s", f"none for {ended - last:.2f} s")


FEATURE_DATA = "feature-data-reserved"
"""The remark on data of a feature in which something reserved is set."""
EVENT_LOGS = frozenset({Lid.ERROR_INFORMATION, Lid.SMART, Lid.CHANGED_NAMESPACES})


@check("features/event-cleared", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="should", witnesses=["wire"])
def event_cleared(record: Record) -> Iterator[Finding]:
    """Reads the log page that an event names, with RAE=0: until then the controller masks its kind."""
    reported: dict[tuple[str, int], Completed] = {}
    for state, event in record.walk(Completed, Submitted):
        match event:
            case Completed() if (request := state.answered(event)) and event.completion.ok:
                lid = event.completion.DW0 >> 16 & 0xFF
                if isinstance(request.command, c.AsyncEventRequest) and lid in EVENT_LOGS:
                    reported[state.spec.id, lid] = event
            case Submitted(command=c.GetLogPage(LID=lid, RAE=0)) if (state.spec.id, lid) in reported:
                yield Finding(True, reported.pop((state.spec.id, lid)), f"log page {lid:02X}h read", "read")
    for (_, lid), event in reported.items():
        if any(event.t < asked.started.t and asked.ended for asked in record.asked):
            yield Finding(False, event, f"log page {lid:02X}h read", "never read")


@check("features/log-aligned", cite=BASE_2_0["5.16"], level=MANDATORY, why="shall", witnesses=["wire"])
def log_aligned(record: Record) -> Iterator[Finding]:
    """Reads log pages from a multiple of 4 bytes on."""
    for _, event, command in record.commands(c.GetLogPage):
        if not command.OT:
            yield Finding(command.offset % 4 == 0, event, "a multiple of 4", f"offset {command.offset}", ("LPOL", "LPOU"))


@check("features/format-quiet", cite=BASE_2_0["5.14"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def format_quiet(record: Record) -> Iterator[Finding]:
    """Sends a namespace no command while it is being formatted."""
    yield from _quiet(record, _formats)


def _formats(busy: Command, command: Command) -> bool:
    return isinstance(busy, c.FormatNvm) and busy.NSID in (command.NSID, BROADCAST_NSID)


@check("features/sanitize-quiet", cite=BASE_2_0["8.21"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def sanitize_quiet(record: Record) -> Iterator[Finding]:
    """Sends no I/O command while Sanitize has not been answered."""
    yield from _quiet(record, lambda busy, _: isinstance(busy, c.Sanitize))


def _quiet(record: Record, forbids: Callable[[Command, Command], bool]) -> Iterator[Finding]:
    """Judge whether no I/O command is sent while an admin command is in flight that forbids it."""
    for state, event, command in record.commands(Command):
        if event.sqid:
            flying = [other.command for other in state.in_flight.values() if other.sqid == 0]
            busy = [other for other in flying if forbids(other, command)]
            if busy:
                shown = f"{type(command).__name__} while {type(busy[0]).__name__} is in flight"
                yield Finding(False, event, "no I/O command meanwhile", shown, fields=("OPC", "NSID"))
        elif forbids(command, command):
            yield Finding(True, event, "no I/O command meanwhile", type(command).__name__)
