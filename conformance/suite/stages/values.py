"""Values that fields list and values that they reserve, and fields that a selector leaves unused. Base 2.0, 5 and 7."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0
from conformance.suite.stages.fields import own
from lab.nvme import commands as c
from lab.nvme.commands import Command
from lab.nvme.features import Fid, NamespaceWriteProtection, PowerManagement, TemperatureThreshold
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid
from lab.nvme.registers import VS

RESERVATION_TYPES = range(1, 7)
CODES: Mapping[type[Command], Mapping[str, Collection[int]]] = {
    c.GetFeatures: {"SEL": range(4)},
    c.FormatNvm: {"SES": range(3), "PI": range(4)},
    c.Sanitize: {"SANACT": range(1, 5)},
    c.DeviceSelfTest: {"STC": (1, 2, 0xE, 0xF)},
    c.NamespaceManagement: {"SEL": range(2)},
    c.NamespaceAttachment: {"SEL": range(2)},
    c.FirmwareCommit: {"CA": (0, 1, 2, 3, 6, 7)},
    c.ReservationRegister: {"RREGA": range(3), "CPTPL": (0, 2, 3)},
    c.ReservationAcquire: {"RACQA": range(3), "RTYPE": RESERVATION_TYPES, "IEKEY": (0,)},
    c.ReservationRelease: {"RRELA": range(2), "IEKEY": (0,)},
}
"""Fields of commands that list their values, and these values. Base 2.0, 5 and 7, the figures of each command."""
SENSORS = (*range(9), 0xF)
"""TMPSEL: the composite temperature, sensors 1 to 8, and all of them. Base 2.0, 5.27.1.3."""
THRESHOLDS = range(2)
"""THSEL: over and under temperature."""


def _temperature(command: c.SetFeatures | c.GetFeatures) -> list[str]:
    value = TemperatureThreshold(command.CDW11)
    wrong = [] if value.TMPSEL in SENSORS else [f"TMPSEL {value.TMPSEL:X}h"]
    return wrong if value.THSEL in THRESHOLDS else [*wrong, f"THSEL {value.THSEL:02b}b"]


def _protection(command: c.SetFeatures | c.GetFeatures) -> list[str]:
    state = NamespaceWriteProtection(command.CDW11).WPS
    return [f"WPS {state:03b}b"] if isinstance(command, c.SetFeatures) and state > PERMANENT else []


def _power(command: c.SetFeatures | c.GetFeatures) -> list[str]:
    hint = PowerManagement(command.CDW11).WH
    return [f"WH {hint:03b}b"] if isinstance(command, c.SetFeatures) and hint not in HINTS else []


PIL_IS_0 = VS.of(MJR=1, MNR=4)
"""The first revision whose protection information is the last of the metadata. NVM 1.0, 4.1.2."""
HINTS = range(3)
"""WH: no workload, and the two that there are. Base 2.0, 8.15.3."""
PERMANENT = 3
"""WPS: protected for ever; the values above are reserved. Base 2.0, 5.27.1.28."""
RESERVED_FEATURES = (range(1), range(0x1B, 0x78))
RESERVED_LOGS = (range(0x17, 0x70), range(0x71, 0x80))
"""Identifiers that are reserved. Base 2.0, 5.27.1, figure 317, and 5.16.1, figure 202."""
FEATURES: Mapping[int, Callable[[Any], list[str]]] = {
    Fid.POWER_MANAGEMENT: _power, Fid.TEMPERATURE_THRESHOLD: _temperature, Fid.NAMESPACE_WRITE_PROTECTION: _protection,
}  # fmt: skip
"""Features whose dword 11 has such fields, and what is reserved in it, in words."""


@check("features/coded-values", cite=BASE_2_0["5"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def coded_values(record: Record) -> Iterator[Finding]:
    """Gives fields that list their values one of these: a controller answers a reserved one with an error."""
    for state, event, command in own(record, *CODES, c.SetFeatures, c.GetLogPage):
        fields = CODES.get(type(command), {})
        values = {name: getattr(command, name) for name in fields}
        wrong = [f"{name} {value:X}h" for name, value in values.items() if value not in fields[name]]
        if isinstance(command, c.SetFeatures | c.GetFeatures) and command.FID in FEATURES:
            wrong += FEATURES[command.FID](command)
        if isinstance(command, c.SetFeatures) and any(command.FID in reserved for reserved in RESERVED_FEATURES):
            wrong.append(f"FID {command.FID:02X}h")
        if isinstance(command, c.GetLogPage) and any(command.LID in reserved for reserved in RESERVED_LOGS):
            wrong.append(f"LID {command.LID:02X}h")
        if isinstance(command, c.FormatNvm) and command.PIL and state.profile and state.profile.vs >= PIL_IS_0:
            wrong.append("PIL 1")
        shown = f"{type(command).__name__}: {', '.join(wrong) or 'no reserved value'}"
        yield Finding(not wrong, event, "no reserved value", shown, fields=("OPC", "CDW10", "CDW11"))


WITHOUT_SELECTORS = frozenset({
    Cns.NAMESPACE, Cns.CONTROLLER, Cns.ACTIVE_NAMESPACES, Cns.NAMESPACE_DESCRIPTORS, Cns.CSI_NAMESPACE, Cns.CSI_CONTROLLER,
})  # fmt: skip
"""Structures that need neither a controller identifier nor an identifier specific to CNS. Base 2.0, 5.17, figure 273."""

BY_COMMAND_SET = frozenset({Cns.CSI_NAMESPACE, Cns.CSI_CONTROLLER})
"""Those of them that CSI chooses. Base 2.0, 5.17, figures 271 and 273."""


@check("identify/selectors-unused", cite=BASE_2_0["5.17"], level=MANDATORY, why="shall", witnesses=["wire"])
def selectors_unused(record: Record) -> Iterator[Finding]:
    """Leaves CNTID, CNSSID and CSI 0 in an Identify of a structure that does not use them."""
    for _, event, command in own(record, c.Identify):
        if command.CNS in WITHOUT_SELECTORS:
            csi = command.CSI if command.CNS not in BY_COMMAND_SET else 0
            shown = f"CNS {command.CNS:02X}h with CNTID {command.CNTID:#x}, CNSSID {command.CNSSID:#x}, CSI {csi:02X}h"
            ok = not command.CNTID and not command.CNSSID and not csi
            yield Finding(ok, event, "CNTID 0, CNSSID 0, CSI 0", shown, fields=("CNS", "CNTID", "CNSSID", "CSI"))


PLAIN_LOGS = frozenset({
    Lid.ERROR_INFORMATION, Lid.SMART, Lid.FIRMWARE_SLOT, Lid.CHANGED_NAMESPACES, Lid.COMMANDS_SUPPORTED, Lid.DEVICE_SELF_TEST,
})  # fmt: skip
"""Log pages that define no log specific field. Base 2.0, 5.16.1."""


@check("features/log-specific", cite=BASE_2_0["5.16"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def log_specific(record: Record) -> Iterator[Finding]:
    """Leaves LSP, LSI and OT 0 for log pages that define none of them."""
    for _, event, command in own(record, c.GetLogPage):
        if command.LID in PLAIN_LOGS:
            shown = f"log page {command.LID:02X}h with LSP {command.LSP:#x}, LSI {command.LSI:#x}, OT {command.OT}"
            ok = not command.LSP and not command.LSI and not command.OT
            yield Finding(ok, event, "LSP 0, LSI 0, OT 0", shown, fields=("LID", "LSP", "LSI", "OT"))


TELEMETRY = (Lid.TELEMETRY_HOST, Lid.TELEMETRY_CONTROLLER)
TELEMETRY_BLOCK = 512


@check("features/telemetry-blocks", cite=BASE_2_0["5.16.1.8"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def telemetry_blocks(record: Record) -> Iterator[Finding]:
    """Reads telemetry in whole blocks of 512 bytes: the controller refuses another offset or length."""
    for _, event, command in own(record, c.GetLogPage):
        if command.LID in TELEMETRY and not command.OT:
            shown = f"{command.data_length} bytes from byte {command.offset}"
            ok = not command.offset % TELEMETRY_BLOCK and not command.data_length % TELEMETRY_BLOCK
            yield Finding(ok, event, "multiples of 512", shown, fields=("LID", "NUMDL", "NUMDU", "LPOL"))
