"""Requests for what is not offered: log pages, features, formats, methods of Sanitize, firmware slots, ids of namespaces.

Base 2.0, 5.13 to 5.27. A controller answers with an error, so that most of this is good practice. A format that does not
exist is forbidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0
from conformance.suite.stages.fields import OF_NAMESPACES, own
from lab.data.events import Submitted
from lab.data.profile import Profile
from lab.nvme import commands as c
from lab.nvme.commands import BROADCAST_NSID
from lab.nvme.features import Fid
from lab.nvme.identify import Cns, IdentifyController
from lab.nvme.logs import Lid

Offer = Callable[[IdentifyController], object]
"""What of Identify Controller says that something is there: nothing, or 0, where it is not."""

# -- log pages ----------------------------------------------------------------------------------------------------------

LOGS: Mapping[int, tuple[str, Offer]] = {
    Lid.SUPPORTED_LOG_PAGES: ("LPA bit 5", lambda i: i.LPA.SUPPORTED_LOG_PAGES),
    Lid.COMMANDS_SUPPORTED: ("LPA bit 1", lambda i: i.LPA.COMMANDS_SUPPORTED),
    Lid.DEVICE_SELF_TEST: ("OACS bit 4", lambda i: i.OACS.SELF_TEST),
    Lid.TELEMETRY_HOST: ("LPA bit 3", lambda i: i.LPA.TELEMETRY),
    Lid.TELEMETRY_CONTROLLER: ("LPA bit 3", lambda i: i.LPA.TELEMETRY),
    Lid.ENDURANCE_GROUP: ("CTRATT bit 4", lambda i: i.CTRATT.ENDURANCE_GROUPS),
    Lid.PREDICTABLE_LATENCY_NVM_SET: ("CTRATT bit 5", lambda i: i.CTRATT.PREDICTABLE_LATENCY),
    Lid.PREDICTABLE_LATENCY_AGGREGATE: ("CTRATT bit 5", lambda i: i.CTRATT.PREDICTABLE_LATENCY),
    Lid.ANA: ("CMIC bit 3", lambda i: i.CMIC.ANA),
    Lid.PERSISTENT_EVENT: ("LPA bit 4", lambda i: i.LPA.PERSISTENT_EVENT),
    Lid.LBA_STATUS: ("OACS bit 9", lambda i: i.OACS.GET_LBA_STATUS),
    Lid.ENDURANCE_GROUP_AGGREGATE: ("CTRATT bit 4", lambda i: i.CTRATT.ENDURANCE_GROUPS),
    Lid.FEATURES_SUPPORTED: ("LPA bit 5", lambda i: i.LPA.SUPPORTED_LOG_PAGES),
    Lid.NVME_MI_COMMANDS_SUPPORTED: ("LPA bit 5", lambda i: i.LPA.SUPPORTED_LOG_PAGES),
    Lid.RESERVATION_NOTIFICATION: ("ONCS bit 5", lambda i: i.ONCS.RESERVATIONS),
    Lid.SANITIZE_STATUS: ("SANICAP", lambda i: int(i.SANICAP)),
}
"""Optional log pages, and what announces them. Base 2.0, 3.1.2.1.2 and 5.17.2.1."""
WITH_EVENTS = frozenset({
    Lid.ERROR_INFORMATION, Lid.SMART, Lid.FIRMWARE_SLOT, Lid.CHANGED_NAMESPACES, Lid.TELEMETRY_CONTROLLER,
    Lid.PREDICTABLE_LATENCY_AGGREGATE, Lid.ANA, Lid.LBA_STATUS, Lid.ENDURANCE_GROUP_AGGREGATE, Lid.RESERVATION_NOTIFICATION,
    Lid.SANITIZE_STATUS,
})  # fmt: skip
"""Log pages that an asynchronous event can name. Base 2.0, 5.2."""
VENDOR_LOGS = 0xC0


@check("features/log-gated", cite=BASE_2_0["5.16"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def log_gated(record: Record) -> Iterator[Finding]:
    """Asks for optional log pages only where Identify Controller announces them."""
    for state, event, command in own(record, c.GetLogPage):
        if state.profile is not None and command.LID in LOGS:
            yield _offered(state.profile, event, f"log page {command.LID:02X}h", LOGS[command.LID], "LID")


def _offered(profile: Profile, event: Submitted, what: str, offer: tuple[str, Offer], field: str) -> Finding:
    """Return whether Identify Controller announces what a command, by this field of it, asks for."""
    word, offered = offer
    there = bool(offered(profile.controller))
    return Finding(there, event, f"{word} set", f"{what}, {word} {'set' if there else 'clear'}", fields=(field,))


@check("features/rae-unused", cite=BASE_2_0["5.16"], level=RECOMMENDED, why="should", witnesses=["wire"])
def rae_unused(record: Record) -> Iterator[Finding]:
    """Leaves Retain Asynchronous Event 0 for log pages that no asynchronous event names."""
    for _, event, command in own(record, c.GetLogPage):
        if command.LID not in WITH_EVENTS and command.LID < VENDOR_LOGS:
            shown = f"log page {command.LID:02X}h with RAE {command.RAE}"
            yield Finding(not command.RAE, event, "RAE 0", shown, fields=("LID", "RAE"))


# -- features -----------------------------------------------------------------------------------------------------------

FEATURES: Mapping[int, tuple[str, Offer]] = {
    Fid.VOLATILE_WRITE_CACHE: ("VWC bit 0", lambda i: i.VWC.PRESENT),
    Fid.TIMESTAMP: ("ONCS bit 6", lambda i: i.ONCS.TIMESTAMP),
    Fid.KEEP_ALIVE_TIMER: ("KAS", lambda i: i.KAS),
    Fid.HOST_CONTROLLED_THERMAL_MANAGEMENT: ("HCTMA bit 0", lambda i: i.HCTMA & 1),
    Fid.NON_OPERATIONAL_POWER_STATE: ("CTRATT bit 1", lambda i: i.CTRATT.NON_OPERATIONAL_PERMISSIVE),
    Fid.READ_RECOVERY_LEVEL: ("CTRATT bit 3", lambda i: i.CTRATT.READ_RECOVERY_LEVELS),
    Fid.PREDICTABLE_LATENCY_CONFIG: ("CTRATT bit 5", lambda i: i.CTRATT.PREDICTABLE_LATENCY),
    Fid.PREDICTABLE_LATENCY_WINDOW: ("CTRATT bit 5", lambda i: i.CTRATT.PREDICTABLE_LATENCY),
    Fid.LBA_STATUS_INTERVAL: ("OACS bit 9", lambda i: i.OACS.GET_LBA_STATUS),
    Fid.SANITIZE_CONFIG: ("SANICAP", lambda i: int(i.SANICAP)),
    Fid.ENDURANCE_GROUP_EVENT_CONFIG: ("CTRATT bit 4", lambda i: i.CTRATT.ENDURANCE_GROUPS),
    Fid.RESERVATION_NOTIFICATION_MASK: ("ONCS bit 5", lambda i: i.ONCS.RESERVATIONS),
    Fid.RESERVATION_PERSISTENCE: ("ONCS bit 5", lambda i: i.ONCS.RESERVATIONS),
    Fid.NAMESPACE_WRITE_PROTECTION: ("NWPC bit 0", lambda i: i.NWPC.WRITE_PROTECT),
}
"""Optional features, and what announces them; autonomous power states and host memory have checks of their own."""


@check("features/feature-gated", cite=BASE_2_0["5.27"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def feature_gated(record: Record) -> Iterator[Finding]:
    """Sets optional features only where Identify Controller announces them."""
    for state, event, command in own(record, c.SetFeatures):
        if state.profile is not None and command.FID in FEATURES:
            yield _offered(state.profile, event, f"feature {command.FID:02X}h", FEATURES[command.FID], "FID")


@check("features/ns-named", cite=BASE_2_0["4.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def ns_named(record: Record) -> Iterator[Finding]:
    """Names a namespace, or all of them, where it sets a feature that each namespace has for itself."""
    for _, event, command in own(record, c.SetFeatures):
        if command.FID in OF_NAMESPACES:
            shown = f"feature {command.FID:02X}h with NSID {command.NSID:#x}"
            yield Finding(command.NSID != 0, event, "a namespace, or FFFFFFFFh", shown, fields=("FID", "NSID"))


# -- formats, Sanitize, firmware ----------------------------------------------------------------------------------------

PLAIN_FORMATS = 16
"""LBA formats that LBAFL counts; more need LBAFU and the host's consent (LBAFEE)."""
CRYPTOGRAPHIC = 0b010


@check("features/format-exists", cite=BASE_2_0["5.14"], level=MANDATORY, why="shall", witnesses=["wire"], uses="Format NVM")
def format_exists(record: Record) -> Iterator[Finding]:
    """Names in Format NVM a format that the namespace has."""
    for state, event, command in own(record, c.FormatNvm):
        identified = state.profile.namespaces.get(command.NSID) if state.profile else None
        if identified is not None and identified.NLBAF < PLAIN_FORMATS:
            most = identified.NLBAF
            ok = command.LBAFL <= most
            yield Finding(ok, event, f"format 0 to {most}", f"format {command.LBAFL}", fields=("NSID", "LBAFL"))


@check("features/erase-offered", cite=BASE_2_0["5.14"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def erase_offered(record: Record) -> Iterator[Finding]:
    """Asks Format NVM for a cryptographic erase, or for all namespaces, only where FNA says that the controller does that."""
    for state, event, command in own(record, c.FormatNvm):
        if state.profile is not None:
            attributes = state.profile.controller.FNA
            ok = command.SES != CRYPTOGRAPHIC or bool(attributes.CRYPTO_ERASE)
            ok = ok and (command.NSID != BROADCAST_NSID or not attributes.NO_BROADCAST)
            shown = f"SES {command.SES:03b}b, NSID {command.NSID:#x}, FNA {int(attributes):#04x}"
            yield Finding(ok, event, "what FNA offers", shown, fields=("NSID", "SES"))


METHODS: Mapping[int, Offer] = {
    1: lambda i: int(i.SANICAP),
    2: lambda i: i.SANICAP.BLOCK_ERASE,
    3: lambda i: i.SANICAP.OVERWRITE,
    4: lambda i: i.SANICAP.CRYPTO_ERASE,
}
"""SANACT: the end of a failed one, block erase, overwrite, cryptographic erase. Base 2.0, 5.24."""


@check("features/sanitize-offered", cite=BASE_2_0["5.24"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def sanitize_offered(record: Record) -> Iterator[Finding]:
    """Asks Sanitize only for methods that SANICAP offers."""
    for state, event, command in own(record, c.Sanitize):
        if state.profile is not None and command.SANACT in METHODS:
            identity = state.profile.controller
            shown = f"SANACT {command.SANACT}, SANICAP {int(identity.SANICAP):#x}"
            yield Finding(bool(METHODS[command.SANACT](identity)), event, "a method of SANICAP", shown, fields=("SANACT",))


UNIT = 4096
"""Bytes of one unit of FWUG."""
NO_GRANULARITY = (0, 0xFF)
"""FWUG: not reported; none."""
REPLACES = (0, 1, 3)
"""CA: actions that put a downloaded image into a slot."""


@check("features/firmware", cite=BASE_2_0["5.13"], level=RECOMMENDED, why="should", witnesses=["wire"])
def firmware(record: Record) -> Iterator[Finding]:
    """Downloads firmware in pieces that FWUG allows and that do not overlap, and commits it to a slot that FRMW counts."""
    pieces: dict[str, list[range]] = {}
    for state, event, command in own(record, c.FirmwareDownload, c.FirmwareCommit):
        if state.profile is None:
            continue
        if isinstance(command, c.FirmwareCommit):
            pieces.pop(state.spec.id, None)
            yield _slot(state.profile, event, command)
            continue
        unit = state.profile.controller.FWUG
        begin, piece = command.OFST * 4, range(command.OFST, command.OFST + command.NUMD + 1)
        others = pieces.setdefault(state.spec.id, [])
        aligned = unit in NO_GRANULARITY or begin % (unit * UNIT) == 0
        apart = all(piece.stop <= other.start or other.stop <= piece.start for other in others)
        others.append(piece)
        shown = f"{len(piece) * 4} bytes at {begin}, {'apart' if apart else 'over another piece'}; FWUG {unit:02X}h"
        yield Finding(aligned and apart, event, "pieces at multiples of FWUG, apart", shown, fields=("OFST", "NUMD"))


def _slot(profile: Profile, event: Submitted, command: c.FirmwareCommit) -> Finding:
    slots = profile.controller.FRMW
    ok = command.FS <= slots.SLOTS and not (slots.SLOT_1_READ_ONLY and command.FS == 1 and command.CA in REPLACES)
    read_only = ", slot 1 read only" if slots.SLOT_1_READ_ONLY else ""
    shown = f"slot {command.FS}, action {command.CA}"
    return Finding(ok, event, f"slot 0 to {slots.SLOTS}{read_only}", shown, fields=("FS", "CA"))


# -- namespace ids in Identify ------------------------------------------------------------------------------------------

OF_ONE = frozenset({Cns.NAMESPACE, Cns.NAMESPACE_DESCRIPTORS, Cns.CSI_NAMESPACE})
"""Structures about one namespace; CNS 00h and 05h of NSID FFFFFFFFh are about what all namespaces have in common."""
LISTS = frozenset({Cns.ACTIVE_NAMESPACES})
"""Lists of the ids above NSID."""
LAST_BEFORE = 0xFFFF_FFFD
"""The highest NSID that a list may begin behind."""


@check("identify/nsid-range", cite=BASE_2_0["5.17"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def nsid_range(record: Record) -> Iterator[Finding]:
    """Identifies namespaces by ids that can be: not 0, and FFFFFFFFh only for what all of them have in common."""
    for _, event, command in own(record, c.Identify):
        shown = f"CNS {command.CNS:02X}h of NSID {command.NSID:#x}"
        if command.CNS in OF_ONE:
            common = command.NSID == BROADCAST_NSID and command.CNS != Cns.NAMESPACE_DESCRIPTORS
            ok = 0 < command.NSID < BROADCAST_NSID or common
            yield Finding(ok, event, "the id of a namespace", shown, fields=("CNS", "NSID"))
        elif command.CNS in LISTS:
            yield Finding(command.NSID <= LAST_BEFORE, event, "an id below FFFFFFFEh", shown, fields=("CNS", "NSID"))
