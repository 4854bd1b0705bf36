"""Rules about what a command carries and nobody uses, such as what an earlier command has left there. Base 2.0, 5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0
from conformance.suite.stages.fields import NO_POINTER, ONE_POINTER, own
from lab.data.events import Remark
from lab.nvme import commands as c
from lab.nvme.commands import Command
from lab.nvme.features import Fid
from lab.nvme.ranges import ContextAttributes

SETTING: Mapping[int, tuple[str, ...]] = {
    Fid.HOST_MEMORY_BUFFER: ("CDW12", "CDW13", "CDW14", "CDW15"),
    Fid.READ_RECOVERY_LEVEL: ("CDW12",),
    Fid.PREDICTABLE_LATENCY_CONFIG: ("CDW12",),
    Fid.PREDICTABLE_LATENCY_WINDOW: ("CDW12",),
}
"""Features whose setting takes more than dword 11. Base 2.0, 5.27.1."""
GETTING = frozenset({
    Fid.TEMPERATURE_THRESHOLD, Fid.INTERRUPT_VECTOR_CONFIG, Fid.READ_RECOVERY_LEVEL, Fid.PREDICTABLE_LATENCY_CONFIG,
    Fid.PREDICTABLE_LATENCY_WINDOW, Fid.ENDURANCE_GROUP_EVENT_CONFIG, Fid.HOST_IDENTIFIER, Fid.ENHANCED_CONTROLLER_METADATA,
    Fid.CONTROLLER_METADATA, Fid.NAMESPACE_METADATA,
})  # fmt: skip
"""Features of which dword 11 of Get Features selects one, or a part."""
UUID_INDEX = 0x7F
"""The bits of dword 14 that hold the UUID Index; features/uuid-index judges them."""
VENDOR_FEATURES = 0xC0


@check("features/dwords-unused", cite=BASE_2_0["5.27"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def dwords_unused(record: Record) -> Iterator[Finding]:
    """Leaves the dwords 0 that a feature does not use: those after the value in Set Features, the value in Get Features."""
    for _, event, command in own(record, c.SetFeatures, c.GetFeatures):
        if command.FID >= VENDOR_FEATURES or command.FID not in Fid._value2member_map_:
            continue
        if isinstance(command, c.GetFeatures):
            unused: tuple[str, ...] = () if command.FID in GETTING else ("CDW11",)
        else:
            unused = tuple(name for name in ("CDW12", "CDW13", "CDW14", "CDW15") if name not in SETTING.get(command.FID, ()))
        values = {name: getattr(command, name) & ~(UUID_INDEX if name == "CDW14" else 0) for name in unused}
        stray = [f"{name} {value:#x}" for name, value in values.items() if value]
        shown = f"feature {command.FID:02X}h with {', '.join(stray) or 'none set'}"
        yield Finding(not stray, event, "dwords that the feature does not use 0", shown, fields=("FID", *unused))


@check("admin-queue/pointers-unused", cite=BASE_2_0["3.3.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def pointers_unused(record: Record) -> Iterator[Finding]:
    """Leaves PRP1 and PRP2 0 in admin commands that may move data, and do not: a feature without data, a format."""
    judged_elsewhere = NO_POINTER + ONE_POINTER + (c.DoorbellBufferConfig,)
    for _, event, command in own(record, Command):
        if event.sqid or command.OPCODE is None or isinstance(command, judged_elsewhere) or command.data_length != 0:
            continue
        shown = f"{type(command).__name__} with PRP1 {command.PRP1:#x}, PRP2 {command.PRP2:#x}"
        clear = not command.PRP1 and not command.PRP2
        yield Finding(clear, event, "PRP1 0, PRP2 0", shown, fields=("OPC", "CDW10", "PRP1", "PRP2"))


@check("features/uuid-index", cite=BASE_2_0["5.16"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def uuid_index(record: Record) -> Iterator[Finding]:
    """Leaves UUID Index 0 where CTRATT says that the controller has no list of UUIDs."""
    for state, event, command in own(record, c.GetLogPage, c.Identify, c.GetFeatures, c.SetFeatures):
        buffer = isinstance(command, c.SetFeatures) and command.FID == Fid.HOST_MEMORY_BUFFER  # its dword 14 is an address
        if state.profile is not None and not buffer and not state.profile.controller.CTRATT.UUID_LIST:
            shown = f"{type(command).__name__} with UUID Index {command.UIDX}"
            yield Finding(not command.UIDX, event, "UUID Index 0, as CTRATT bit 9 is", shown, fields=("OPC", "CDW14"))


DSM_RANGE = "dsm-range"
"""The controller's remark on a range of Dataset Management."""


@check(
    "features/trim-reserved",
    cite=NVM_1_0["3.2.3"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="Dataset Management",
)
def trim_reserved(record: Record) -> Iterator[Finding]:
    """Leaves the reserved bits of a range's context attributes 0 in Dataset Management."""
    for remark in record.all(Remark):
        if remark.name == DSM_RANGE and "cattr" in remark.detail:
            attributes = ContextAttributes(int(remark.detail["cattr"]))
            shown = f"context attributes {int(attributes):#010x}: reserved bits {attributes.reserved:#x}"
            yield Finding(not attributes.reserved, remark, "reserved bits of the context attributes 0", shown)


PROTECTION_BYTES = 8
"""Metadata that protection information needs at least."""


@check("features/format-protection", cite=NVM_1_0["4.1.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def format_protection(record: Record) -> Iterator[Finding]:
    """Asks Format NVM for protection information and a place of metadata only where DPC, MC and the format allow it."""
    for state, event, command in own(record, c.FormatNvm):
        identified = state.profile.namespaces.get(command.NSID) if state.profile else None
        if identified is None or command.format >= len(identified.formats):
            continue  # a format that does not exist is features/format-exists's
        metadata, offered = identified.formats[command.format].MS, identified.DPC
        types = {0: True, 1: offered.TYPE_1, 2: offered.TYPE_2, 3: offered.TYPE_3}
        ok = bool(types.get(command.PI)) and (not command.PI or metadata >= PROTECTION_BYTES)
        places = identified.MC.EXTENDED if command.MSET else identified.MC.SEPARATE
        ok = ok and (not metadata or bool(places))
        reported = f"{metadata} bytes of metadata, DPC {int(offered):#x}, MC {int(identified.MC):#x}"
        shown = f"PI {command.PI}, MSET {command.MSET}; {reported}"
        yield Finding(ok, event, "what DPC and MC offer", shown, fields=("NSID", "CDW10"))
