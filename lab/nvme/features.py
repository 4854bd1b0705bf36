"""Features: their values and data buffers. Base 2.0, 5.27.1 "Feature Specific Information"; NVM Command Set 1.0, 4.1.3.

Dword 11 of Set Features, dword 0 of Get Features' completion: the register of the feature in `VALUES`.
"""

from __future__ import annotations

from enum import IntEnum

from lab.nvme.fields import U8, U32, U64, Array, Bits, Raw, Register, Structure, UInt


class Fid(IntEnum):
    """Feature Identifier."""

    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    LBA_RANGE_TYPE = 0x03
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    INTERRUPT_COALESCING = 0x08
    INTERRUPT_VECTOR_CONFIG = 0x09
    WRITE_ATOMICITY = 0x0A
    ASYNC_EVENT_CONFIG = 0x0B
    AUTONOMOUS_POWER_STATE_TRANSITION = 0x0C
    HOST_MEMORY_BUFFER = 0x0D
    TIMESTAMP = 0x0E
    KEEP_ALIVE_TIMER = 0x0F
    HOST_CONTROLLED_THERMAL_MANAGEMENT = 0x10
    NON_OPERATIONAL_POWER_STATE = 0x11
    READ_RECOVERY_LEVEL = 0x12
    PREDICTABLE_LATENCY_CONFIG = 0x13
    PREDICTABLE_LATENCY_WINDOW = 0x14
    LBA_STATUS_INTERVAL = 0x15
    HOST_BEHAVIOR_SUPPORT = 0x16
    SANITIZE_CONFIG = 0x17
    ENDURANCE_GROUP_EVENT_CONFIG = 0x18
    IO_COMMAND_SET_PROFILE = 0x19
    SPINUP_CONTROL = 0x1A
    ENHANCED_CONTROLLER_METADATA = 0x7D
    CONTROLLER_METADATA = 0x7E
    NAMESPACE_METADATA = 0x7F
    SOFTWARE_PROGRESS_MARKER = 0x80
    HOST_IDENTIFIER = 0x81
    RESERVATION_NOTIFICATION_MASK = 0x82
    RESERVATION_PERSISTENCE = 0x83
    NAMESPACE_WRITE_PROTECTION = 0x84


class Arbitration(Register):
    """Arbitration. Base 2.0, 5.27.1.1."""

    AB = Bits(2, 0)  # burst of 2^AB commands, 7 no limit
    LPW = Bits(15, 8)  # weights, 0's based
    MPW = Bits(23, 16)
    HPW = Bits(31, 24)


class PowerManagement(Register):
    """Power Management. Base 2.0, 5.27.1.2."""

    PS = Bits(4, 0)
    WH = Bits(7, 5)  # workload hint


class LbaRangeType(Register):
    """LBA Range Type. NVM Command Set 1.0, 4.1.3. The data is the ranges."""

    NUM = Bits(5, 0)  # ranges, 0's based


class TemperatureThreshold(Register):
    """Temperature Threshold. Base 2.0, 5.27.1.3."""

    TMPTH = Bits(15, 0)  # kelvin
    TMPSEL = Bits(19, 16)  # 0 composite, 1..8 a sensor, Fh all (Set only)
    THSEL = Bits(21, 20)  # 0 over, 1 under


class ErrorRecovery(Register):
    """Error Recovery. NVM Command Set 1.0, 4.1.3."""

    TLER = Bits(15, 0)  # 100 ms
    DULBE = Bits(16)


class VolatileWriteCache(Register):
    """Volatile Write Cache. Base 2.0, 5.27.1.4."""

    WCE = Bits(0)


class NumberOfQueues(Register):
    """Number of Queues, all 0's based: requested by Set Features, allocated in completions. Base 2.0, 5.27.1.5."""

    NSQR = Bits(15, 0)
    NCQR = Bits(31, 16)
    NSQA = Bits(15, 0, shared=True)
    NCQA = Bits(31, 16, shared=True)


class InterruptCoalescing(Register):
    """Interrupt Coalescing. Base 2.0, 5.27.1.6."""

    THR = Bits(7, 0)  # completions, 0's based
    TIME = Bits(15, 8)  # 100 microseconds


class InterruptVectorConfig(Register):
    """Interrupt Vector Configuration. Base 2.0, 5.27.1.7."""

    IV = Bits(15, 0)
    CD = Bits(16)  # coalescing disabled


class WriteAtomicity(Register):
    """Write Atomicity Normal. NVM Command Set 1.0, 4.1.3."""

    DN = Bits(0)  # the host needs only AWUPF, not AWUN


class AsyncEventConfig(Register):
    """Asynchronous Event Configuration. Base 2.0, 5.27.1.8. The upper bits are those of OAES."""

    SMART = Bits(7, 0)  # which critical warnings, see `lab.nvme.logs.CriticalWarning`
    NAMESPACE_ATTRIBUTE = Bits(8)
    FIRMWARE_ACTIVATION = Bits(9)
    TELEMETRY = Bits(10)
    ANA_CHANGE = Bits(11)
    PREDICTABLE_LATENCY = Bits(12)
    LBA_STATUS = Bits(13)
    ENDURANCE_GROUP = Bits(14)
    NORMAL_SUBSYSTEM_SHUTDOWN = Bits(15)
    ZONE_DESCRIPTOR = Bits(27)
    DISCOVERY_LOG = Bits(31)


class AutonomousPowerStateTransition(Register):
    """Autonomous Power State Transition. Base 2.0, 5.27.1.9 The data is `ApstTable`."""

    APSTE = Bits(0)


class HostMemoryBuffer(Register):
    """Host Memory Buffer. Base 2.0, 5.27.1.10 Size and descriptor list are in dwords 12 to 15."""

    EHM = Bits(0)  # enable
    MR = Bits(1)  # memory return


class KeepAliveTimer(Register):
    """Keep Alive Timer. Base 2.0, 5.27.1.12."""

    KATO = Bits(31, 0)  # milliseconds


class HostControlledThermalManagement(Register):
    """Host Controlled Thermal Management. Base 2.0, 5.27.1.13."""

    TMT2 = Bits(15, 0)  # kelvin
    TMT1 = Bits(31, 16)


class NonOperationalPowerState(Register):
    """Non-Operational Power State Config. Base 2.0, 5.27.1.14."""

    NOPPME = Bits(0)


class NvmSetSelect(Register):
    """The NVM Set that a feature is about; its value is in dword 12. Base 2.0, 5.27.1.15 and the two after it."""

    NVMSETID = Bits(15, 0)


class LbaStatusInterval(Register):
    """LBA Status Information Report Interval. NVM Command Set 1.0, 4.1.3.3."""

    LSIRI = Bits(15, 0)  # 100 ms
    LSIPI = Bits(31, 16)  # 100 ms


class SanitizeConfig(Register):
    """Sanitize Config. Base 2.0, 5.27.1.19."""

    NODRM = Bits(0)


class EnduranceGroupEventConfig(Register):
    """Endurance Group Event Configuration. Base 2.0, 5.27.1.20."""

    ENDGID = Bits(15, 0)
    EGCW = Bits(23, 16)


class IoCommandSetProfile(Register):
    """I/O Command Set Profile. Base 2.0, 5.27.1.21."""

    IOCSCI = Bits(8, 0)  # index of the combination


class SpinupControl(Register):
    """Spinup Control. Base 2.0, 5.27.1.22."""

    SUE = Bits(0)


class HostMetadata(Register):
    """Enhanced Controller, Controller and Namespace Metadata. Base 2.0, 5.27.1.23. The data is the elements."""

    EA = Bits(14, 13)  # 0 add or replace, 1 delete, 2 add one more


class SoftwareProgressMarker(Register):
    """Software Progress Marker. Base 2.0, 5.27.1.24."""

    PBSLC = Bits(7, 0)  # pre-boot software load count


class HostIdentifier(Register):
    """Host Identifier. Base 2.0, 5.27.1.25 The data is the identifier."""

    EXHID = Bits(0)  # 128 bits, else 64


class ReservationNotificationMask(Register):
    """Reservation Notification Mask. Base 2.0, 5.27.1.26."""

    REGPRE = Bits(1)
    RESREL = Bits(2)
    RESPRE = Bits(3)


class ReservationPersistence(Register):
    """Reservation Persistence. Base 2.0, 5.27.1.27."""

    PTPL = Bits(0)


class NamespaceWriteProtection(Register):
    """Namespace Write Protection Config. Base 2.0, 5.27.1.28."""

    WPS = Bits(2, 0)  # 0 none, 1 protected, 2 until power cycle, 3 for ever


VALUES: dict[Fid, type[Register]] = {
    Fid.ARBITRATION: Arbitration,
    Fid.POWER_MANAGEMENT: PowerManagement,
    Fid.LBA_RANGE_TYPE: LbaRangeType,
    Fid.TEMPERATURE_THRESHOLD: TemperatureThreshold,
    Fid.ERROR_RECOVERY: ErrorRecovery,
    Fid.VOLATILE_WRITE_CACHE: VolatileWriteCache,
    Fid.NUMBER_OF_QUEUES: NumberOfQueues,
    Fid.INTERRUPT_COALESCING: InterruptCoalescing,
    Fid.INTERRUPT_VECTOR_CONFIG: InterruptVectorConfig,
    Fid.WRITE_ATOMICITY: WriteAtomicity,
    Fid.ASYNC_EVENT_CONFIG: AsyncEventConfig,
    Fid.AUTONOMOUS_POWER_STATE_TRANSITION: AutonomousPowerStateTransition,
    Fid.HOST_MEMORY_BUFFER: HostMemoryBuffer,
    Fid.KEEP_ALIVE_TIMER: KeepAliveTimer,
    Fid.HOST_CONTROLLED_THERMAL_MANAGEMENT: HostControlledThermalManagement,
    Fid.NON_OPERATIONAL_POWER_STATE: NonOperationalPowerState,
    Fid.READ_RECOVERY_LEVEL: NvmSetSelect,
    Fid.PREDICTABLE_LATENCY_CONFIG: NvmSetSelect,
    Fid.PREDICTABLE_LATENCY_WINDOW: NvmSetSelect,
    Fid.LBA_STATUS_INTERVAL: LbaStatusInterval,
    Fid.SANITIZE_CONFIG: SanitizeConfig,
    Fid.ENDURANCE_GROUP_EVENT_CONFIG: EnduranceGroupEventConfig,
    Fid.IO_COMMAND_SET_PROFILE: IoCommandSetProfile,
    Fid.SPINUP_CONTROL: SpinupControl,
    Fid.ENHANCED_CONTROLLER_METADATA: HostMetadata,
    Fid.CONTROLLER_METADATA: HostMetadata,
    Fid.NAMESPACE_METADATA: HostMetadata,
    Fid.SOFTWARE_PROGRESS_MARKER: SoftwareProgressMarker,
    Fid.HOST_IDENTIFIER: HostIdentifier,
    Fid.RESERVATION_NOTIFICATION_MASK: ReservationNotificationMask,
    Fid.RESERVATION_PERSISTENCE: ReservationPersistence,
    Fid.NAMESPACE_WRITE_PROTECTION: NamespaceWriteProtection,
}
"""Feature to the register that dword 11 is; features without a value are not in it."""


# --- Data buffers ---------------------------------------------------------------------------------------------------


class LbaRange(Structure, size=64):
    """LBA Range Type data structure entry."""

    TYPE = U8(0)
    OVERWRITEABLE = Bits(0, at=1)
    HIDDEN = Bits(1, at=1)
    SLBA = U64(16)
    NLB = U64(24)  # 0's based?
    GUID = Raw(32, 16)


class LbaRanges(Structure, size=4096):
    """LBA Range Type data structure."""

    ENTRY = Array(0, 64, LbaRange)


class ApstEntry(Register, size=8):
    """Autonomous Power State Transition Table entry."""

    ITPS = Bits(7, 3)  # idle transition power state
    ITPT = Bits(31, 8)  # idle time, milliseconds


class ApstTable(Structure, size=256):
    """Autonomous Power State Transition Table: an entry for each power state."""

    ENTRY = Array(0, 32, ApstEntry)


class HostMemoryBufferAttributes(Structure, size=4096):
    """What Get Features returns of the host memory buffer."""

    HSIZE = U32(0)  # pages
    HMDLAL = U32(4)
    HMDLAU = U32(8)
    HMDLEC = U32(12)


class HostMemoryDescriptor(Structure, size=16):
    """Host Memory Buffer Descriptor Entry."""

    BADD = U64(0)
    BSIZE = U32(8)  # pages


class Timestamp(Structure, size=8):
    """Timestamp. Base 2.0, 5.27.1.11."""

    TIMESTAMP = UInt(0, 6)  # milliseconds since 1970-01-01
    SYNCH = Bits(0, at=6)
    ORIGIN = Bits(3, 1, at=6)  # 0 since reset, 1 since Set Features


class PredictableLatencyConfig(Structure, size=512):
    """Deterministic Threshold Configuration."""

    EVENTS = UInt(0, 2)
    DTWINRT = U64(32)  # reads
    DTWINWT = U64(40)  # writes
    DTWINTT = U64(48)  # milliseconds


class HostBehavior(Structure, size=512):
    """Host Behavior Support."""

    ACRE = U8(0)  # advanced command retry: the host honours CRD
    ETDAS = U8(1)  # extended telemetry data area 4
    LBAFEE = U8(2)  # extended LBA formats


_BUFFERS: dict[int, int] = {
    Fid.LBA_RANGE_TYPE: LbaRanges.SIZE,
    Fid.AUTONOMOUS_POWER_STATE_TRANSITION: ApstTable.SIZE,
    Fid.TIMESTAMP: Timestamp.SIZE,
    Fid.PREDICTABLE_LATENCY_CONFIG: PredictableLatencyConfig.SIZE,
    Fid.HOST_BEHAVIOR_SUPPORT: HostBehavior.SIZE,
    Fid.ENHANCED_CONTROLLER_METADATA: 4096,
    Fid.CONTROLLER_METADATA: 4096,
    Fid.NAMESPACE_METADATA: 4096,
}
_BUFFERS_OF_GET: dict[int, int] = _BUFFERS | {Fid.HOST_MEMORY_BUFFER: HostMemoryBufferAttributes.SIZE}

_VENDOR = 0xC0


def data_length(fid: int, cdw11: int, *, setting: bool) -> int | None:
    """Return the bytes of data that Set (or Get) Features moves for a feature; None for a vendor's own."""
    if fid >= _VENDOR:
        return None
    if fid == Fid.HOST_IDENTIFIER:
        return 16 if HostIdentifier(cdw11).EXHID else 8
    return (_BUFFERS if setting else _BUFFERS_OF_GET).get(fid, 0)


_DEFINED: dict[int, bytes] = {
    Fid.TIMESTAMP: b"\xff" * 6 + bytes(2),
    Fid.HOST_BEHAVIOR_SUPPORT: b"\x01\x01\x01" + bytes(HostBehavior.SIZE - 3),
}
"""The bits that a host may set in the data of features with reserved bytes. Base 2.0, 5.27.1.11 and 5.27.1.18."""


def reserved_byte(fid: int, data: bytes) -> int | None:
    """Return the first byte of a feature's data in which a reserved bit is set; None if there is none, or nothing is known."""
    defined = _DEFINED.get(fid, b"")
    return next((at for at, (byte, mask) in enumerate(zip(data, defined, strict=False)) if byte & ~mask & 0xFF), None)
