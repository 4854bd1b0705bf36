"""Set Features and Get Features: what each feature is, and what setting it does. Base 2.0, 5.15, 5.27."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.controller import transfer, zone_commands
from lab.controller.core import Core
from lab.controller.feature_values import DEFAULTS
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.parts import Parts
from lab.nvme import features
from lab.nvme.commands import BROADCAST_NSID, GetFeatures, Select, SetFeatures
from lab.nvme.features import (
    AsyncEventConfig,
    Fid,
    HostControlledThermalManagement,
    NamespaceWriteProtection,
    NumberOfQueues,
    TemperatureThreshold,
)
from lab.nvme.status import Status

_CHANGEABLE, _NAMESPACE = 1 << 2, 1 << 1  # Get Features, supported capabilities
ALL_SENSORS = 0xF
SetAction = Callable[[Parts, int, SetFeatures], int]
"""Takes a feature's value for a namespace (0: none) and returns the completion's dword 0."""


@dataclass(frozen=True)
class Feature:
    """One row: whether the feature is a namespace's, and what else setting it means."""

    default: int = 0
    of_namespace: bool = False
    set: SetAction | None = None
    """Without it the value is merely kept."""
    select_get: Callable[[Core, int], int] | None = None
    """Which of its values dword 11 of Get Features names; CommandStatusError if there is none such."""
    supported: Callable[[Core], bool] | None = None
    """Whether a controller has it; None for all."""
    accept: Callable[[Core, FetchedCommand, bytes], None] | None = None
    """Looks at its data before they are taken; CommandStatusError for those that cannot be."""


def get_features(parts: Parts, request: FetchedCommand, command: GetFeatures) -> int:
    """Execute Get Features."""
    core, values = parts.core, parts.features
    feature = _feature(core, command.FID)
    nsid = _namespace(parts, request, feature)
    if feature.of_namespace and nsid == BROADCAST_NSID:
        raise CommandStatusError(Status.INVALID_NAMESPACE)
    which = nsid if feature.select_get is None else feature.select_get(core, command.CDW11)
    default = command.SEL in (Select.DEFAULT, Select.SAVED)
    match command.SEL:
        case Select.CURRENT:
            value = values.value(command.FID, which)
            if command.FID == Fid.NAMESPACE_WRITE_PROTECTION:
                value = parts.inventory.active(nsid).write_protection
            elif command.FID == Fid.KEEP_ALIVE_TIMER:
                value = parts.keep_alive.milliseconds
        case Select.DEFAULT | Select.SAVED:
            value = values.default(command.FID, which)
        case Select.SUPPORTED_CAPABILITIES:
            return _CHANGEABLE | (_NAMESPACE if feature.of_namespace else 0)
        case _:
            raise CommandStatusError(Status.INVALID_FIELD)
    length = features.data_length(command.FID, command.CDW11, setting=False)
    if length:
        if command.FID == Fid.TIMESTAMP:
            data = values.timestamp(default=default)
        else:
            data = b"" if default else values.buffers.get(command.FID, b"")
        transfer.send(core, request, data.ljust(length, b"\0")[:length])
    return value


def set_features(parts: Parts, request: FetchedCommand, command: SetFeatures) -> int:
    """Execute Set Features."""
    core, values = parts.core, parts.features
    feature = _feature(core, command.FID)
    if command.SV:
        raise CommandStatusError(Status.FEATURE_NOT_SAVEABLE)
    nsid = _namespace(parts, request, feature)
    known = features.VALUES.get(Fid(command.FID))
    stray = known(command.CDW11).reserved if known is not None else command.CDW11  # some have nothing but data
    if stray:
        core.remark("feature-reserved", fid=command.FID, value=command.CDW11, bits=stray)
    length = features.data_length(command.FID, command.CDW11, setting=True)
    if length:
        data = transfer.receive(core, request, length)
        if feature.accept is not None:
            feature.accept(core, request, data)
        values.buffers[command.FID] = data
        if (stray_byte := features.reserved_byte(command.FID, values.buffers[command.FID])) is not None:
            core.remark("feature-data-reserved", fid=command.FID, offset=stray_byte)
        if command.FID == Fid.HOST_BEHAVIOR_SUPPORT:
            core.remark("host-behavior", acre=features.HostBehavior(values.buffers[command.FID]).ACRE)
    if feature.set is not None:
        return feature.set(parts, nsid, command)
    targets = sorted(core.attached) if nsid == BROADCAST_NSID else [nsid]
    for target in targets:
        values.values[command.FID, target] = command.CDW11 & ~stray
    return 0


def _feature(core: Core, fid: int) -> Feature:
    feature = FEATURES.get(fid)
    if feature is None or (feature.supported is not None and not feature.supported(core)):
        raise CommandStatusError(Status.INVALID_FIELD)
    return feature


def _namespace(parts: Parts, request: FetchedCommand, feature: Feature) -> int:
    """Return the id of the namespace that the feature is about; 0 for one of the controller's."""
    if not feature.of_namespace:
        if request.nsid not in (0, BROADCAST_NSID):
            if request.opcode == SetFeatures.OPCODE:
                raise CommandStatusError(Status.FEATURE_NOT_NAMESPACE_SPECIFIC)
            parts.core.remark("nsid-unused", sqid=0, cid=request.cid, nsid=request.nsid)
        return 0
    if request.nsid != BROADCAST_NSID:
        parts.inventory.active(request.nsid)
    return request.nsid


# -- what setting a feature does ------------------------------------------------------------------------------------


def _set_queues(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    """Grant I/O queues. Base 2.0, 5.27.1.5: before any I/O queue is created, and FFFFh is not allowed."""
    core = parts.core
    asked = NumberOfQueues(command.CDW11)
    if asked.NSQR == 0xFFFF or asked.NCQR == 0xFFFF:
        raise CommandStatusError(Status.INVALID_FIELD)
    if core.queues.io_exist:
        raise CommandStatusError(Status.COMMAND_SEQUENCE_ERROR)
    parts.features.granted = core.spec.io_queues
    granted = NumberOfQueues.of(NSQR=core.spec.io_queues - 1, NCQR=core.spec.io_queues - 1)
    parts.features.values[Fid.NUMBER_OF_QUEUES, 0] = int(granted)
    return int(granted)


def _set_write_cache(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    """Switch the volatile write cache; switching it off writes it back. Base 2.0, 5.27.1.4."""
    if not command.CDW11 & 1:
        for ns in parts.core.attached.values():
            ns.cache.flush()
    parts.features.values[Fid.VOLATILE_WRITE_CACHE, 0] = command.CDW11 & 1
    return 0


def _set_timestamp(parts: Parts, _nsid: int, _command: SetFeatures) -> int:
    parts.features.set_timestamp(parts.features.buffers.pop(Fid.TIMESTAMP))
    return 0


def _set_temperature(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    before = parts.logs.critical_warning
    which = _settable_threshold(command.CDW11)
    parts.features.values[Fid.TEMPERATURE_THRESHOLD, which] = command.CDW11 & 0xFFFF
    parts.events.warnings_raised(parts.logs.critical_warning & ~before)
    return 0


def _set_async_events(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    """Enable events; one whose condition is true already is reported. Base 2.0, 5.27.1.8."""
    before = parts.features.async_event_config
    new = AsyncEventConfig(command.CDW11 & ~AsyncEventConfig(command.CDW11).reserved)
    parts.features.values[Fid.ASYNC_EVENT_CONFIG, 0] = int(new)
    parts.events.warnings_raised(parts.logs.critical_warning & new.SMART & ~before.SMART)
    return 0


def _threshold(_core: Core, cdw11: int) -> int:
    """Return 0 for the over and 1 for the under temperature threshold. Only the composite temperature has any."""
    return _which_threshold(cdw11, (0,))


def _settable_threshold(cdw11: int) -> int:
    return _which_threshold(cdw11, (0, ALL_SENSORS))


def _which_threshold(cdw11: int, sensors: tuple[int, ...]) -> int:
    asked = TemperatureThreshold(cdw11)
    if asked.THSEL > 1 or asked.TMPSEL not in sensors:
        raise CommandStatusError(Status.INVALID_FIELD)
    return asked.THSEL


def _set_power_state(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    if command.CDW11 & 0x1F > parts.core.identity.NPSS:
        raise CommandStatusError(Status.INVALID_FIELD)
    parts.features.values[Fid.POWER_MANAGEMENT, 0] = command.CDW11
    return 0


def _accept_transitions(core: Core, request: FetchedCommand, data: bytes) -> None:
    """Look at the table of autonomous power state transitions. Base 2.0, 5.27.1.9: they lead to non-operational states."""
    identity, refused = core.identity, False
    for state, entry in enumerate(features.ApstTable(data).ENTRY):
        leads = entry.ITPT and state <= identity.NPSS
        if leads and not (entry.ITPS <= identity.NPSS and identity.PSD[entry.ITPS].NOPS):
            problem, refused = "target", True
        elif state > identity.NPSS and int(entry):
            problem = "state"
        elif entry.reserved:
            problem = "reserved"
        else:
            continue
        core.remark("power-transitions", sqid=0, cid=request.cid, state=state, target=entry.ITPS, problem=problem)
    if refused:
        raise CommandStatusError(Status.INVALID_FIELD)


def _set_thermal(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    """Take the two temperatures, 0 for none. Base 2.0, 5.27.1.13: in order, and within what the controller reports."""
    identity, asked = parts.core.identity, HostControlledThermalManagement(command.CDW11)
    wanted = [one for one in (asked.TMT1, asked.TMT2) if one]
    if not all(identity.MNTMT <= one <= identity.MXTMT for one in wanted) or (len(wanted) == 2 and asked.TMT1 >= asked.TMT2):
        raise CommandStatusError(Status.INVALID_FIELD)
    parts.features.values[Fid.HOST_CONTROLLED_THERMAL_MANAGEMENT, 0] = command.CDW11
    return 0


def _set_vector(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    """Configure a vector, which at least one I/O completion queue must use. Base 2.0, 5.27.1.7."""
    vector = _vector(parts.core, command.CDW11)
    if not any(cq.qid and cq.vector == vector for cq in parts.core.queues.completion.values()):
        parts.core.remark("vector-unused", vector=vector)
        raise CommandStatusError(Status.INVALID_FIELD)
    parts.features.values[Fid.INTERRUPT_VECTOR_CONFIG, vector] = command.CDW11
    return 0


def _vector(core: Core, cdw11: int) -> int:
    vector = cdw11 & 0xFFFF
    if vector >= max(1, core.spec.vectors):
        raise CommandStatusError(Status.INVALID_FIELD)
    return vector


def _set_host_memory(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    parts.lent_memory.set(command)
    enabled = parts.lent_memory.enabled
    parts.features.values[Fid.HOST_MEMORY_BUFFER, 0] = int(enabled)
    parts.features.buffers[Fid.HOST_MEMORY_BUFFER] = (
        features.HostMemoryBufferAttributes.of(
            HSIZE=command.CDW12, HMDLAL=command.CDW13 & ~0xF, HMDLAU=command.CDW14, HMDLEC=command.CDW15
        )
        if enabled
        else b""
    )
    return 0


def _set_keep_alive(parts: Parts, _nsid: int, command: SetFeatures) -> int:
    parts.keep_alive.set(command.CDW11)
    return 0


def _set_protection(parts: Parts, nsid: int, command: SetFeatures) -> int:
    """Set the namespace's state, which outlives resets. Base 2.0, 8.12 "Namespace Write Protection"."""
    ns, state = parts.inventory.active(nsid), NamespaceWriteProtection(command.CDW11).WPS
    if state > 3 or not _PROTECTIONS[state] & (parts.core.identity.NWPC | 1):
        raise CommandStatusError(Status.INVALID_FIELD)
    if ns.write_protection > 1 and state != ns.write_protection:
        raise CommandStatusError(Status.FEATURE_NOT_CHANGEABLE)
    ns.write_protection = state
    if state and ns.zones is not None:
        ns.zones.finish_active()
    return 0


def _set_command_sets(_parts: Parts, _nsid: int, command: SetFeatures) -> int:
    """Choose a combination of I/O command sets: there is one alone. Base 2.0, 5.27.1.21."""
    if features.IoCommandSetProfile(command.CDW11).IOCSCI:
        raise CommandStatusError(Status.IO_COMMAND_SET_COMBINATION_REJECTED)
    return 0


_PROTECTIONS = (1, 1, 2, 4)
"""Each state's bit of NWPC: none, write protected, until the power cycle, for ever."""


FEATURES: dict[int, Feature] = {
    Fid.ARBITRATION: Feature(DEFAULTS[Fid.ARBITRATION]),
    Fid.POWER_MANAGEMENT: Feature(set=_set_power_state),
    Fid.TEMPERATURE_THRESHOLD: Feature(DEFAULTS[Fid.TEMPERATURE_THRESHOLD], set=_set_temperature, select_get=_threshold),
    Fid.ERROR_RECOVERY: Feature(of_namespace=True),
    Fid.VOLATILE_WRITE_CACHE: Feature(set=_set_write_cache, supported=lambda core: bool(core.identity.VWC.PRESENT)),
    Fid.NUMBER_OF_QUEUES: Feature(set=_set_queues),
    Fid.INTERRUPT_COALESCING: Feature(),
    Fid.INTERRUPT_VECTOR_CONFIG: Feature(set=_set_vector, select_get=_vector),
    Fid.WRITE_ATOMICITY: Feature(),
    Fid.ASYNC_EVENT_CONFIG: Feature(set=_set_async_events),
    Fid.AUTONOMOUS_POWER_STATE_TRANSITION: Feature(
        supported=lambda core: bool(core.identity.APSTA & 1), accept=_accept_transitions
    ),
    Fid.HOST_MEMORY_BUFFER: Feature(set=_set_host_memory, supported=lambda core: bool(core.identity.HMPRE)),
    Fid.TIMESTAMP: Feature(set=_set_timestamp),
    Fid.KEEP_ALIVE_TIMER: Feature(set=_set_keep_alive, supported=lambda core: bool(core.identity.KAS)),
    Fid.HOST_CONTROLLED_THERMAL_MANAGEMENT: Feature(set=_set_thermal, supported=lambda core: bool(core.identity.HCTMA & 1)),
    Fid.HOST_BEHAVIOR_SUPPORT: Feature(),
    Fid.HOST_IDENTIFIER: Feature(),
    Fid.IO_COMMAND_SET_PROFILE: Feature(set=_set_command_sets, supported=zone_commands.is_offered),
    Fid.RESERVATION_NOTIFICATION_MASK: Feature(of_namespace=True, supported=lambda core: bool(core.identity.ONCS.RESERVATIONS)),
    Fid.RESERVATION_PERSISTENCE: Feature(of_namespace=True, supported=lambda core: bool(core.identity.ONCS.RESERVATIONS)),
    Fid.NAMESPACE_WRITE_PROTECTION: Feature(
        of_namespace=True, set=_set_protection, supported=lambda core: bool(core.identity.NWPC.WRITE_PROTECT)
    ),
}
"""The features that the controller has."""
