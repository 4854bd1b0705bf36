"""Features: values by identifier, and what setting them does. Base 2.0, 5.27.1 "Feature Specific Information"."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.controller import transfer
from lab.controller.request import Failed, Request
from lab.nvme import features
from lab.nvme.commands import BROADCAST_NSID, GetFeatures, Select, SetFeatures
from lab.nvme.features import (
    AsyncEventConfig,
    Fid,
    NamespaceWriteProtection,
    NumberOfQueues,
    TemperatureThreshold,
    Timestamp,
)
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller

_CHANGEABLE, _NAMESPACE = 1 << 2, 1 << 1  # Get Features, supported capabilities
ALL_SENSORS = 0xF


@dataclass(frozen=True)
class Feature:
    """One row: its value at reset, whether it is a namespace's, and what else setting it means."""

    default: int = 0
    of_namespace: bool = False
    set: Callable[[Controller, Request, SetFeatures], int] | None = None
    """Takes the value and returns the completion's dword 0; without it the value is merely kept."""
    select: Callable[[Controller, int, bool], int] | None = None
    """Which of its values dword 11 is about, and whether it is to be set; Failed if there is none such."""
    supported: Callable[[Controller], bool] | None = None
    """Whether a controller has it; None for all."""


class Features:
    """One controller's values."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self.forget()

    def forget(self) -> None:
        """As after a reset: nothing is saved here."""
        self.values: dict[tuple[int, int], int] = {}
        self.buffers: dict[int, bytes] = {}
        self.granted = self._c.spec.io_queues
        """I/O queue pairs that the host may create."""
        self._clock_offset = 0
        self._clock_set = False

    @property
    def async_event_config(self) -> AsyncEventConfig:
        return AsyncEventConfig(self.value(Fid.ASYNC_EVENT_CONFIG))

    @property
    def write_cache(self) -> bool:
        """The volatile write cache is there and switched on."""
        return bool(self._c.spec.write_cache and self.value(Fid.VOLATILE_WRITE_CACHE))

    def value(self, fid: int, which: int = 0) -> int:
        """``which``: the namespace, the vector, the threshold, where a feature has a value for each."""
        return self.values.get((fid, which), self.default(fid, which))

    def default(self, fid: int, which: int = 0) -> int:
        if fid == Fid.INTERRUPT_VECTOR_CONFIG:
            return which
        if fid == Fid.TEMPERATURE_THRESHOLD and which:
            return 0  # no under temperature threshold
        if fid == Fid.VOLATILE_WRITE_CACHE:
            return int(self._c.spec.write_cache)
        if fid == Fid.NUMBER_OF_QUEUES:
            return int(NumberOfQueues.of(NSQR=self._c.spec.io_queues - 1, NCQR=self._c.spec.io_queues - 1))
        return FEATURES[fid].default

    def timestamp(self) -> bytes:
        """The Timestamp feature's data."""
        now = time.time_ns() // 1_000_000 + self._clock_offset
        return Timestamp.of(TIMESTAMP=now & (1 << 48) - 1, ORIGIN=int(self._clock_set))

    def set_timestamp(self, data: bytes) -> None:
        self._clock_offset = Timestamp(data).TIMESTAMP - time.time_ns() // 1_000_000
        self._clock_set = True


def get_features(c: Controller, request: Request) -> int:
    """Get Features."""
    command = request.command
    assert isinstance(command, GetFeatures)
    feature = _feature(c, command.FID)
    nsid = _namespace(c, request, feature)
    if feature.of_namespace and nsid == BROADCAST_NSID:
        raise Failed(Status.INVALID_NAMESPACE)
    which = nsid if feature.select is None else feature.select(c, command.CDW11, False)
    match command.SEL:
        case Select.CURRENT:
            value = c.features.value(command.FID, which)
        case Select.DEFAULT | Select.SAVED:
            return c.features.default(command.FID, which)
        case Select.SUPPORTED_CAPABILITIES:
            return _CHANGEABLE | (_NAMESPACE if feature.of_namespace else 0)
        case _:
            raise Failed(Status.INVALID_FIELD)
    if command.FID == Fid.NAMESPACE_WRITE_PROTECTION:
        value = c.namespace(nsid).write_protection
    length = features.data_length(command.FID, command.CDW11, setting=False)
    if length:
        data = c.features.timestamp() if command.FID == Fid.TIMESTAMP else c.features.buffers.get(command.FID, b"")
        transfer.send(c, request, data.ljust(length, b"\0")[:length])
    return value


def set_features(c: Controller, request: Request) -> int:
    """Set Features."""
    command = request.command
    assert isinstance(command, SetFeatures)
    feature = _feature(c, command.FID)
    if command.SV:
        raise Failed(Status.FEATURE_NOT_SAVEABLE)
    nsid = _namespace(c, request, feature)
    known = features.VALUES.get(Fid(command.FID))
    stray = known(command.CDW11).reserved if known is not None else command.CDW11  # some have nothing but data
    if stray:
        c.remark("feature-reserved", fid=command.FID, value=command.CDW11, bits=stray)
    length = features.data_length(command.FID, command.CDW11, setting=True)
    if length:
        c.features.buffers[command.FID] = transfer.receive(c, request, length)
    if feature.set is not None:
        return feature.set(c, request, command)
    targets = sorted(c.attached) if nsid == BROADCAST_NSID else [nsid]
    for target in targets:
        c.features.values[command.FID, target] = command.CDW11 & ~stray
    return 0


def _feature(c: Controller, fid: int) -> Feature:
    feature = FEATURES.get(fid)
    if feature is None or (feature.supported is not None and not feature.supported(c)):
        raise Failed(Status.INVALID_FIELD)
    return feature


def _namespace(c: Controller, request: Request, feature: Feature) -> int:
    """The namespace that the feature is about; 0 for one of the controller's."""
    if not feature.of_namespace:
        if request.nsid not in (0, BROADCAST_NSID):
            if request.opcode == SetFeatures.OPCODE:
                raise Failed(Status.FEATURE_NOT_NAMESPACE_SPECIFIC)
            c.remark("nsid-unused", sqid=0, cid=request.cid, nsid=request.nsid)
        return 0
    if request.nsid != BROADCAST_NSID:
        c.namespace(request.nsid)
    return request.nsid


def _set_queues(c: Controller, request: Request, command: SetFeatures) -> int:
    """Number of Queues. Base 2.0, 5.27.1.5: before any I/O queue is created, and FFFFh is not allowed."""
    asked = NumberOfQueues(command.CDW11)
    if asked.NSQR == 0xFFFF or asked.NCQR == 0xFFFF:
        raise Failed(Status.INVALID_FIELD)
    if c.queues.io_exist:
        raise Failed(Status.COMMAND_SEQUENCE_ERROR)
    c.features.granted = c.spec.io_queues
    granted = NumberOfQueues.of(NSQR=c.spec.io_queues - 1, NCQR=c.spec.io_queues - 1)
    c.features.values[Fid.NUMBER_OF_QUEUES, 0] = int(granted)
    return int(granted)


def _set_write_cache(c: Controller, request: Request, command: SetFeatures) -> int:
    """Volatile Write Cache: switching it off writes it back. Base 2.0, 5.27.1.4?"""
    if not command.CDW11 & 1:
        for ns in c.attached.values():
            ns.cache.flush()
    c.features.values[Fid.VOLATILE_WRITE_CACHE, 0] = command.CDW11 & 1
    return 0


def _set_timestamp(c: Controller, request: Request, command: SetFeatures) -> int:
    c.features.set_timestamp(c.features.buffers.pop(Fid.TIMESTAMP))
    return 0


def _set_temperature(c: Controller, request: Request, command: SetFeatures) -> int:
    before = c.logs.critical_warning
    c.features.values[Fid.TEMPERATURE_THRESHOLD, _threshold(c, command.CDW11, True)] = command.CDW11 & 0xFFFF
    c.tell_warnings(c.logs.critical_warning & ~before)
    return 0


def _threshold(c: Controller, cdw11: int, setting: bool) -> int:
    """0 for the over and 1 for the under temperature threshold. There are no sensors besides the composite temperature."""
    asked = TemperatureThreshold(cdw11)
    if asked.THSEL > 1 or asked.TMPSEL not in ((0, ALL_SENSORS) if setting else (0,)):
        raise Failed(Status.INVALID_FIELD)
    return asked.THSEL


def _set_power_state(c: Controller, request: Request, command: SetFeatures) -> int:
    if command.CDW11 & 0x1F > c.identity.NPSS:
        raise Failed(Status.INVALID_FIELD)
    c.features.values[Fid.POWER_MANAGEMENT, 0] = command.CDW11
    return 0


def _set_vector(c: Controller, request: Request, command: SetFeatures) -> int:
    c.features.values[Fid.INTERRUPT_VECTOR_CONFIG, _vector(c, command.CDW11, True)] = command.CDW11
    return 0


def _vector(c: Controller, cdw11: int, setting: bool) -> int:
    vector = cdw11 & 0xFFFF
    if vector >= max(1, c.spec.vectors):
        raise Failed(Status.INVALID_FIELD)
    return vector


def _set_protection(c: Controller, request: Request, command: SetFeatures) -> int:
    """The namespace's state, which outlives resets. Base 2.0, 8.12? "Namespace Write Protection"."""
    ns, state = c.namespace(request.nsid), NamespaceWriteProtection(command.CDW11).WPS
    if state > 3 or not _PROTECTIONS[state] & (c.identity.NWPC | 1):
        raise Failed(Status.INVALID_FIELD)
    if ns.write_protection > 1 and state != ns.write_protection:
        raise Failed(Status.FEATURE_NOT_CHANGEABLE)
    ns.write_protection = state
    return 0


_PROTECTIONS = (1, 1, 2, 4)
"""Each state's bit of NWPC: none, write protected, until the power cycle, for ever."""


FEATURES: dict[int, Feature] = {
    Fid.ARBITRATION: Feature(default=7),  # no burst limit
    Fid.POWER_MANAGEMENT: Feature(set=_set_power_state),
    Fid.TEMPERATURE_THRESHOLD: Feature(default=343, set=_set_temperature, select=_threshold),  # 70 °C
    Fid.ERROR_RECOVERY: Feature(of_namespace=True),
    Fid.VOLATILE_WRITE_CACHE: Feature(set=_set_write_cache, supported=lambda c: bool(c.identity.VWC.PRESENT)),
    Fid.NUMBER_OF_QUEUES: Feature(set=_set_queues),
    Fid.INTERRUPT_COALESCING: Feature(),
    Fid.INTERRUPT_VECTOR_CONFIG: Feature(set=_set_vector, select=_vector),
    Fid.WRITE_ATOMICITY: Feature(),
    Fid.ASYNC_EVENT_CONFIG: Feature(),
    Fid.TIMESTAMP: Feature(set=_set_timestamp),
    Fid.HOST_BEHAVIOR_SUPPORT: Feature(),
    Fid.HOST_IDENTIFIER: Feature(),
    Fid.NAMESPACE_WRITE_PROTECTION: Feature(
        of_namespace=True, set=_set_protection, supported=lambda c: bool(c.identity.NWPC.WRITE_PROTECT)
    ),
}
"""The features that the controller has."""
