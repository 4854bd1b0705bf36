"""What differs, once each: why, and which side is right.

A difference that is not here fails the test, and so does one that is here and no longer comes.

Held against QEMU 11.1.3. ``both`` are right where the specification leaves the choice, or the command breaks several rules
and the order in which they are checked is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lab.controller.features import FEATURES
from lab.differential.found import SideDifference
from lab.differential.sides import RAM
from lab.nvme import commands as nvme
from lab.nvme.commands import BROADCAST_NSID, Command, Select
from lab.nvme.features import Fid
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid
from lab.nvme.status import Status

Matches = Callable[[SideDifference], bool]


@dataclass(frozen=True)
class ListedDifference:
    """``right``: the side that does what the specification says; both, where it leaves the choice."""

    id: str
    what: str
    why: str
    right: Literal["model", "qemu", "both"]
    cite: str
    matches: Matches


def _status(kind: type[Command] | tuple[type[Command], ...], ours: Sequence[int] | int, theirs: Sequence[int] | int,
            where: Callable[..., bool] = lambda _: True) -> Matches:  # fmt: skip
    """Return a rule for these statuses of a command of this kind for which ``where`` holds."""
    ours, theirs = ((one,) if isinstance(one, int) else one for one in (ours, theirs))

    def matches(found: SideDifference) -> bool:
        return (
            found.kind == "status" and isinstance(found.command, kind) and found.model in ours and found.qemu in theirs
            and where(found.command)
        )  # fmt: skip

    return matches


def _data(kind: type[Command], where: Callable[..., bool]) -> Matches:
    return lambda found: found.kind == "data" and isinstance(found.command, kind) and where(found.command)


def _any(*several: Matches) -> Matches:
    return lambda found: any(one(found) for one in several)


def _feature(kind: str, where: Callable[[SideDifference, nvme.GetFeatures], bool]) -> Matches:
    return lambda found: found.kind == kind and isinstance(found.command, nvme.GetFeatures) and where(found, found.command)


def _default(fid: int) -> int | None:
    """Return the model's value of a feature at reset; the write cache of both is on."""
    return 1 if fid == Fid.VOLATILE_WRITE_CACHE else FEATURES[fid].default if fid in FEATURES else None


def _odd_flags(command: Command) -> bool:
    return bool(command.FUSE or command.PSDT)


def _misaligned(command: Command) -> bool:
    return bool((command.PRP1 | command.PRP2) & 3)


def _nowhere(found: SideDifference) -> bool:
    """Return whether the command points to memory that does not exist."""
    listed = (int.from_bytes(data[at : at + 8], "little") for _, data in found.step.memory for at in range(0, len(data), 8))
    return any(RAM <= address < RAM + 0x10000 for address in (found.command.PRP1, found.command.PRP2, *listed))


OK, FIELD, NAMESPACE, OPCODE = Status.SUCCESS, Status.INVALID_FIELD, Status.INVALID_NAMESPACE, Status.INVALID_OPCODE
STRUCTURES = frozenset(
    {Cns.NAMESPACE, Cns.CONTROLLER, Cns.ACTIVE_NAMESPACES, Cns.NAMESPACE_DESCRIPTORS, Cns.CSI_NAMESPACE, Cns.CSI_CONTROLLER,
     Cns.CSI_ACTIVE_NAMESPACES, Cns.INDEPENDENT_NAMESPACE, Cns.ALLOCATED_NAMESPACES, Cns.ALLOCATED_NAMESPACE,
     Cns.ATTACHED_CONTROLLERS, Cns.CONTROLLERS, Cns.IO_COMMAND_SETS}
)  # fmt: skip
"""What the model has for Identify."""

REFUSALS: dict[type[Command], tuple[Status, ...]] = {
    nvme.Identify: (FIELD, NAMESPACE),
    nvme.GetLogPage: (FIELD, NAMESPACE),
    nvme.GetFeatures: (FIELD, NAMESPACE),
    nvme.SetFeatures: (
        FIELD, NAMESPACE, Status.FEATURE_NOT_SAVEABLE, Status.FEATURE_NOT_NAMESPACE_SPECIFIC, Status.COMMAND_SEQUENCE_ERROR,
    ),
    nvme.NamespaceAttachment: (FIELD, NAMESPACE, Status.CONTROLLER_LIST_INVALID),
    nvme.CreateIoCq: (FIELD, Status.QUEUE_SIZE_INVALID, Status.INTERRUPT_VECTOR_INVALID, Status.PRP_OFFSET_INVALID),
    nvme.CreateIoSq: (
        FIELD, Status.QID_INVALID, Status.CQ_INVALID, Status.QUEUE_SIZE_INVALID, Status.PRP_OFFSET_INVALID,
    ),
}  # fmt: skip
"""What a command is refused with that breaks several of its rules."""


def _refused_otherwise(found: SideDifference) -> bool:
    """Return a rule for a command that both refuse, each for another one of the rules that it breaks."""
    if found.kind != "status" or OK in (found.model, found.qemu):
        return False
    if _odd_flags(found.command):
        return True
    if found.step.qid and found.model == OPCODE:
        return found.qemu in (NAMESPACE, FIELD)
    known = REFUSALS.get(type(found.command), ())
    return found.model in known and found.qemu in known


DIFFERENCES: tuple[ListedDifference, ...] = (
    ListedDifference(
        "more",
        "M (More) is 1 in the completion of a command that failed, and 0 in QEMU's",
        "the model keeps an Error Information entry of each failure, which QEMU never does",
        "both",
        "Base 2.0, 3.3.3.2.1 Status Field Definition",
        lambda found: found.kind == "more" and found.model == 1,
    ),
    ListedDifference(
        "log-page-unknown",
        "a log page that is not supported: Invalid Log Page; QEMU says Invalid Field",
        "the status exists for this",
        "model",
        "Base 2.0, 5.16 Get Log Page command, command specific status 9h",
        _status(nvme.GetLogPage, Status.LOG_PAGE_INVALID, (FIELD, NAMESPACE)),
    ),
    ListedDifference(
        "verify-unannounced",
        "Verify where ONCS does not announce it: Invalid Opcode; QEMU executes it",
        "QEMU has the command and does not say so in ONCS bit 7",
        "model",
        "Base 2.0, 5.17.2.1 Identify Controller, ONCS",
        _status(nvme.Verify, OPCODE, (OK, Status.LBA_OUT_OF_RANGE)),
    ),
    ListedDifference(
        "delete-cq-unknown",
        "Delete I/O Completion Queue of one that is not there: Invalid Queue Identifier; QEMU says Completion Queue Invalid",
        "Completion Queue Invalid belongs to Create I/O Submission Queue",
        "model",
        "Base 2.0, 5.6 Delete I/O Completion Queue, command specific status 1h",
        _status(nvme.DeleteIoCq, Status.QID_INVALID, Status.CQ_INVALID),
    ),
    ListedDifference(
        "vector-without-interrupts",
        "Create I/O Completion Queue with IEN=0 and a vector that is not there: accepted; QEMU refuses it",
        "IV names the vector to use for interrupts, and there are none to be",
        "both",
        "Base 2.0, 5.4, dword 11",
        _status(nvme.CreateIoCq, (OK, FIELD), Status.INTERRUPT_VECTOR_INVALID, lambda command: not command.IEN),
    ),
    ListedDifference(
        "do-not-retry",
        "DNR is 1 for a command that can never succeed; QEMU leaves it 0 for fused and SGL commands, and a CQ in use",
        "retrying the same command would give the same answer",
        "model",
        "Base 2.0, 3.3.3.2.1, Do Not Retry",
        lambda found: (
            found.kind == "dnr"
            and found.model == 1
            and (_odd_flags(found.command) or isinstance(found.command, nvme.DeleteIoCq) or _nowhere(found))
        ),
    ),
    ListedDifference(
        "cid-conflict",
        "a command with the identifier of one that is outstanding: Command ID Conflict; QEMU executes it",
        "the host must not, and the status exists for it",
        "model",
        "Base 2.0, 3.3.3.2.1.1, status 3h",
        lambda found: found.kind == "status" and (found.model, found.qemu) == (Status.COMMAND_ID_CONFLICT, OK),
    ),
    ListedDifference(
        "directives",
        "Directive Send and Receive: Invalid Opcode; QEMU has them",
        "the model has no directives; if it announces them, it still has none",
        "qemu",
        "Base 2.0, 5.10 and 5.11",
        _status((nvme.DirectiveSend, nvme.DirectiveReceive), OPCODE, (OK, FIELD, NAMESPACE)),
    ),
    ListedDifference(
        "io-management",
        "I/O Management Send and Receive (opcodes 12h, 1Dh): Invalid Opcode; QEMU has them",
        "they came after the revision that the controller reports, and CTRATT does not announce what they are for",
        "both",
        "Base 2.0, 7 I/O Commands: it has neither of them",
        lambda found: (
            found.kind == "status" and found.step.qid != 0 and found.model == OPCODE and found.command.OPC in (0x12, 0x1D)
        ),
    ),
    ListedDifference(
        "command-sets",
        "QEMU knows the Zoned Namespace Command Set too: Identify with CSI, I/O command sets, their feature",
        "the model announces the NVM Command Set only",
        "both",
        "Base 2.0, 5.17 Identify command",
        _any(
            _data(nvme.Identify, lambda command: command.CNS in (Cns.IO_COMMAND_SETS, Cns.NAMESPACE_DESCRIPTORS)),
            _status(nvme.Identify, Status.IO_COMMAND_SET_NOT_SUPPORTED, (OK, FIELD, NAMESPACE)),
            _status(
                nvme.SetFeatures,
                FIELD,
                (OK, Status.IO_COMMAND_SET_COMBINATION_REJECTED),
                lambda command: command.FID == Fid.IO_COMMAND_SET_PROFILE,
            ),
            _status(nvme.GetFeatures, FIELD, OK, lambda command: command.FID == Fid.IO_COMMAND_SET_PROFILE),
        ),
    ),
    ListedDifference(
        "identify-more",
        "Identify structures that are optional and QEMU has: 14h, 15h, 1Ah, 1Bh, 1Fh …; the model says Invalid Field",
        "all of them are optional",
        "both",
        "Base 2.0, 5.17.1",
        _status(nvme.Identify, FIELD, (OK, NAMESPACE), lambda command: command.CNS not in STRUCTURES),
    ),
    ListedDifference(
        "identify-common",
        "Identify Namespace with NSID FFFFFFFFh: what all namespaces have in common; QEMU says Invalid Namespace",
        "a controller with Namespace Management answers with the common capabilities, and QEMU announces it",
        "model",
        "NVM Command Set 1.0, 4.1.5.1 Identify Namespace",
        _status(nvme.Identify, OK, NAMESPACE, lambda command: command.NSID == BROADCAST_NSID),
    ),
    ListedDifference(
        "dsm-range",
        "Dataset Management with a range past the end: LBA Out of Range; QEMU leaves the range out and says success",
        "a range of the command exceeds the namespace",
        "model",
        "NVM Command Set 1.0, 3.2.3",
        _status(nvme.DatasetManagement, Status.LBA_OUT_OF_RANGE, OK),
    ),
    ListedDifference(
        "select-reserved",
        "Get Features with a reserved SEL: Invalid Field; QEMU answers with the current value",
        "a reserved coded value should be refused",
        "model",
        "Base 2.0, 5.15, SEL; 1.4.? reserved values",
        _status(nvme.GetFeatures, FIELD, (OK, NAMESPACE), lambda command: command.SEL > Select.SUPPORTED_CAPABILITIES),
    ),
    ListedDifference(
        "feature-unchangeable",
        "Arbitration, Interrupt Coalescing and some more are not changeable in QEMU",
        "a controller may have a feature that cannot be changed, and says so in its capabilities",
        "both",
        "Base 2.0, 5.27",
        _any(
            _status(nvme.SetFeatures, (OK, FIELD, Status.FEATURE_NOT_NAMESPACE_SPECIFIC), Status.FEATURE_NOT_CHANGEABLE),
            _feature(
                "dw0", lambda found, command: command.SEL == Select.SUPPORTED_CAPABILITIES and found.model & ~found.qemu == 4
            ),
        ),
    ),
    ListedDifference(
        "host-identifier",
        "Host Identifier: the model has it, QEMU does not",
        "it is optional without reservations",
        "both",
        "Base 2.0, 5.27.1.25 Host Identifier",
        _status(
            (nvme.SetFeatures, nvme.GetFeatures), OK, (FIELD, NAMESPACE), lambda command: command.FID == Fid.HOST_IDENTIFIER
        ),
    ),
    ListedDifference(
        "timestamp",
        "Timestamp at reset is the host's time; in QEMU it begins with 0",
        "both say where it comes from (origin 0)",
        "both",
        "Base 2.0, 5.27.1.11 Timestamp",
        _data(nvme.GetFeatures, lambda command: command.FID == Fid.TIMESTAMP),
    ),
    ListedDifference(
        "default-value",
        "Get Features with SEL 001b or 010b: the value at reset; QEMU often answers with another one, or the current one",
        "the default is what the value is without Set Features, and nothing is saved",
        "model",
        "Base 2.0, 5.15, SEL",
        _feature(
            "dw0",
            lambda found, command: command.SEL in (Select.DEFAULT, Select.SAVED) and found.model == _default(command.FID),
        ),
    ),
    ListedDifference(
        "features-outlive-reset",
        "a Controller Level Reset gives features their defaults again; QEMU keeps what was set",
        "features that are not saveable return to their default",
        "model",
        "Base 2.0, 4.2 Feature Values",
        _feature(
            "dw0",
            lambda found, command: found.model == _default(command.FID) and command.SEL == Select.CURRENT,
        ),
    ),
    ListedDifference(
        "deallocated-error",
        "DULBE=1: QEMU fails reads of deallocated blocks; the model returns zeros",
        "the model has no such error and does not announce it in NSFEAT by default",
        "qemu",
        "NVM Command Set 1.0, 3.2.3.2.1 Deallocated or Unwritten Logical Blocks",
        lambda found: found.kind == "status" and found.qemu == Status.UNWRITTEN_BLOCK,
    ),
    ListedDifference(
        "firmware-log",
        "the Firmware Slot log names the firmware of Identify's FR; QEMU says 1.0",
        "slot 1 holds the active firmware, whose revision FR is",
        "model",
        "Base 2.0, 5.16.1.4 Firmware Slot Information",
        _data(nvme.GetLogPage, lambda command: command.LID == Lid.FIRMWARE_SLOT),
    ),
    ListedDifference(
        "effects-log",
        "Commands Supported and Effects: each lists what it has",
        "they have different commands",
        "both",
        "Base 2.0, 5.16.1.6 Commands Supported and Effects",
        _data(nvme.GetLogPage, lambda command: command.LID == Lid.COMMANDS_SUPPORTED),
    ),
    ListedDifference(
        "smart-log",
        "SMART: temperature, spare and error counts are each device's own",
        "they describe the device",
        "both",
        "Base 2.0, 5.16.1.3",
        _data(nvme.GetLogPage, lambda command: command.LID == Lid.SMART),
    ),
    ListedDifference(
        "error-log",
        "Error Information: the model has entries, QEMU never has one",
        "see more",
        "model",
        "Base 2.0, 5.16.1.2",
        _data(nvme.GetLogPage, lambda command: command.LID == Lid.ERROR_INFORMATION),
    ),
    ListedDifference(
        "log-end",
        "Get Log Page from exactly the end of the page on: zeros; QEMU says Invalid Field",
        "only an offset greater than the page's size is an error",
        "model",
        "Base 2.0, 5.16, LPOL",
        _status(nvme.GetLogPage, OK, FIELD, lambda command: command.offset and command.offset % 4 == 0),
    ),
    ListedDifference(
        "log-namespace",
        "SMART with NSID 0: the controller's; QEMU says Invalid Namespace",
        "0h and FFFFFFFFh ask for the controller's",
        "model",
        "Base 2.0, 5.16.1.3",
        _status(nvme.GetLogPage, OK, NAMESPACE, lambda command: command.NSID == 0),
    ),
    ListedDifference(
        "log-index",
        "Get Log Page with OT=1 (the offset is an index): Invalid Field; QEMU takes it for bytes",
        "an index is not supported for these pages; the bit came after 1.4",
        "model",
        "Base 2.0, 5.16, OT",
        _status(nvme.GetLogPage, FIELD, OK, lambda command: command.OT),
    ),
    ListedDifference(
        "prp-dword",
        "a PRP that is not dword aligned: PRP Offset Invalid; QEMU goes to the odd address",
        "the controller refuses it or takes bits 1:0 for zero",
        "model",
        "Base 2.0, 4.1.1",
        lambda found: (
            found.kind == "status"
            and found.model == Status.PRP_OFFSET_INVALID
            and _misaligned(found.command)
            and found.qemu in (OK, Status.COMPARE_FAILURE)
        ),
    ),
    ListedDifference(
        "memory-that-is-not",
        "data that lies where there is no memory: Data Transfer Error; to QEMU it reads as something and takes everything",
        "QEMU's bus does not inform its devices",
        "both",
        "Base 2.0, 3.3.3.2.1.1, status 4h",
        lambda found: (
            found.kind == "status"
            and found.model == Status.DATA_TRANSFER_ERROR
            and found.qemu in (OK, Status.COMPARE_FAILURE)
            and _nowhere(found)
        ),
    ),
    ListedDifference(
        "identify-limits",
        "Identify Controller and Namespace of the NVM command set: QEMU has limits (VSL, DMRL …) and formats of its own",
        "each announces its own",
        "both",
        "NVM Command Set 1.0, 4.1.5 Identify Command",
        _data(nvme.Identify, lambda command: command.CNS in (Cns.CSI_NAMESPACE, Cns.CSI_CONTROLLER)),
    ),
    ListedDifference(
        "granularity",
        "Identify Namespace: NPDG and NPDA differ with QEMU's block sizes",
        "the model announces one value for all namespaces of a controller",
        "both",
        "NVM Command Set 1.0, 4.1.5.1",
        lambda found: (
            found.kind == "data"
            and isinstance(found.command, nvme.Identify)
            and found.command.CNS in (Cns.NAMESPACE, Cns.ALLOCATED_NAMESPACE)
            and sum(ours != theirs for ours, theirs in zip(found.model, found.qemu, strict=True)) <= 4
        ),
    ),
    ListedDifference(
        "host-behavior",
        "Host Behavior Support is returned as it was set; QEMU returns no data for it",
        "Get Features returns the attributes in the data buffer",
        "model",
        "Base 2.0, 5.27.1.18 Host Behavior Support",
        _data(nvme.GetFeatures, lambda command: command.FID == Fid.HOST_BEHAVIOR_SUPPORT),
    ),
    ListedDifference(
        "no-such-part",
        "a feature of a sensor or a vector that is not there: Invalid Field; QEMU answers all the same",
        "such a feature is there for the sensors and vectors that are implemented",
        "both",
        "Base 2.0, 5.27.1.3 and 5.27.1.7",
        _status(
            (nvme.GetFeatures, nvme.SetFeatures),
            FIELD,
            OK,
            lambda command: command.FID in (Fid.TEMPERATURE_THRESHOLD, Fid.INTERRUPT_VECTOR_CONFIG),
        ),
    ),
    ListedDifference(
        "log-tail",
        "what is read beyond the end of a log page: zeros; QEMU writes nothing there",
        "it is not defined",
        "both",
        "Base 2.0, 5.16",
        _data(nvme.GetLogPage, lambda command: command.LID == Lid.CHANGED_NAMESPACES),
    ),
    ListedDifference(
        "order-of-checks",
        "a command that breaks several rules: each names another one",
        "the order in which they are checked is free",
        "both",
        "Base 2.0, 3.3.3.2.1.1 Generic Command Status",
        _refused_otherwise,
    ),
)
