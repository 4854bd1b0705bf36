"""Log pages. Base 2.0, 5.16.1 "Log Specific Information"."""

from __future__ import annotations

from enum import IntEnum

from lab.nvme.fields import U8, U16, U32, U64, Array, Ascii, Bits, Nested, Raw, Register, Structure, UInt, Utf8
from lab.nvme.identify import NamespaceList

KELVIN = 273
"""What the specification's temperatures are above degrees Celsius, as tools print them."""


class Lid(IntEnum):
    """Log Page Identifier."""

    SUPPORTED_LOG_PAGES = 0x00
    ERROR_INFORMATION = 0x01
    SMART = 0x02
    FIRMWARE_SLOT = 0x03
    CHANGED_NAMESPACES = 0x04
    COMMANDS_SUPPORTED = 0x05
    DEVICE_SELF_TEST = 0x06
    TELEMETRY_HOST = 0x07
    TELEMETRY_CONTROLLER = 0x08
    ENDURANCE_GROUP = 0x09
    PREDICTABLE_LATENCY_NVM_SET = 0x0A
    PREDICTABLE_LATENCY_AGGREGATE = 0x0B
    ANA = 0x0C
    PERSISTENT_EVENT = 0x0D
    LBA_STATUS = 0x0E
    ENDURANCE_GROUP_AGGREGATE = 0x0F
    MEDIA_UNIT_STATUS = 0x10
    CAPACITY_CONFIGURATIONS = 0x11
    FEATURES_SUPPORTED = 0x12
    NVME_MI_COMMANDS_SUPPORTED = 0x13
    LOCKDOWN = 0x14
    BOOT_PARTITION = 0x15
    ROTATIONAL_MEDIA = 0x16
    DISCOVERY = 0x70
    RESERVATION_NOTIFICATION = 0x80
    SANITIZE_STATUS = 0x81
    CHANGED_ZONES = 0xBF


class LogSupport(Register):
    """LID Supported and Effects."""

    LSUPP = Bits(0)
    IOS = Bits(1)  # an offset may be an index
    LIDSP = Bits(31, 16)  # log specific


class SupportedLogPages(Structure, size=1024):
    """Supported Log Pages, 00h: indexed by LID. Base 2.0, 5.16.1.1."""

    LID = Array(0, 256, LogSupport)


class ErrorInformation(Structure, size=64):
    """An entry of Error Information, 01h; the newest comes first. Base 2.0, 5.16.1.2."""

    ERROR_COUNT = U64(0)  # 0: no entry
    SQID = U16(8)
    CID = U16(10)
    P = Bits(0, at=12)  # phase tag of the completion
    STATUS = Bits(15, 1, at=12)  # as in the completion: SC, SCT, CRD, M, DNR from bit 0 up
    PEL = U16(14, shared=True)  # parameter error location; FFFFh where the error belongs to no command
    PEL_BYTE = Bits(7, 0, at=14)
    PEL_BIT = Bits(10, 8, at=14)
    LBA = U64(16)
    NSID = U32(24)
    VSIA = U8(28)
    TRTYPE = U8(29)
    CSINFO = U64(32)  # command specific
    TTSI = U16(40)  # transport specific

    @property
    def status(self) -> int:
        """``SCT << 8 | SC``."""
        return self.STATUS & 0x7FF


class CriticalWarning(Register, size=1):
    """Critical Warning; feature 0Bh masks it with the same bits."""

    SPARE = Bits(0)
    TEMPERATURE = Bits(1)
    DEGRADED = Bits(2)
    READ_ONLY = Bits(3)
    BACKUP_FAILED = Bits(4)
    PMR_UNRELIABLE = Bits(5)


class Smart(Structure, size=512):
    """SMART / Health Information, 02h. Base 2.0, 5.16.1.3."""

    CRITICAL_WARNING = Nested(0, CriticalWarning)
    TEMPERATURE = U16(1)  # kelvin
    AVAILABLE_SPARE = U8(3)  # percent
    SPARE_THRESHOLD = U8(4)  # percent
    PERCENTAGE_USED = U8(5)  # may exceed 100
    ENDURANCE_WARNING = U8(6)  # endurance group critical warning summary
    DATA_UNITS_READ = UInt(32, 16)  # thousands of 512 bytes, rounded up
    DATA_UNITS_WRITTEN = UInt(48, 16)
    HOST_READS = UInt(64, 16)
    HOST_WRITES = UInt(80, 16)
    BUSY_TIME = UInt(96, 16)  # minutes
    POWER_CYCLES = UInt(112, 16)
    POWER_ON_HOURS = UInt(128, 16)
    UNSAFE_SHUTDOWNS = UInt(144, 16)
    MEDIA_ERRORS = UInt(160, 16)
    ERROR_LOG_ENTRIES = UInt(176, 16)
    WARNING_TIME = U32(192)  # minutes
    CRITICAL_TIME = U32(196)  # minutes
    TEMPERATURE_SENSOR_1 = U16(200)  # kelvin, 0 not there
    TEMPERATURE_SENSOR_2 = U16(202)
    TEMPERATURE_SENSOR_3 = U16(204)
    TEMPERATURE_SENSOR_4 = U16(206)
    TEMPERATURE_SENSOR_5 = U16(208)
    TEMPERATURE_SENSOR_6 = U16(210)
    TEMPERATURE_SENSOR_7 = U16(212)
    TEMPERATURE_SENSOR_8 = U16(214)
    TMT1_TRANSITIONS = U32(216)
    TMT2_TRANSITIONS = U32(220)
    TMT1_TIME = U32(224)  # seconds
    TMT2_TIME = U32(228)  # seconds

    @property
    def celsius(self) -> int:
        """The composite temperature."""
        return self.TEMPERATURE - KELVIN


class FirmwareSlots(Structure, size=512):
    """Firmware Slot Information, 03h. Base 2.0, 5.16.1.4."""

    ACTIVE = Bits(2, 0)  # slot of the running image
    NEXT = Bits(6, 4)  # slot to run after the next reset, 0 not reported
    FRS1 = Ascii(8, 8)
    FRS2 = Ascii(16, 8)
    FRS3 = Ascii(24, 8)
    FRS4 = Ascii(32, 8)
    FRS5 = Ascii(40, 8)
    FRS6 = Ascii(48, 8)
    FRS7 = Ascii(56, 8)


class ChangedNamespaces(NamespaceList):
    """Changed Namespace List, 04h; FFFFFFFFh alone means more than 1024. Base 2.0, 5.16.1.5."""


class CommandEffects(Register):
    """What a command does: an entry of log page 05h."""

    CSUPP = Bits(0)  # supported
    LBCC = Bits(1)  # logical block content changes
    NCC = Bits(2)  # namespace capability changes
    NIC = Bits(3)  # namespace inventory changes
    CCC = Bits(4)  # controller capability changes
    CSE = Bits(18, 16)  # submission and execution: 1 alone in the namespace, 2 alone in the controller
    UUID = Bits(19)
    CSP = Bits(31, 20)  # scope


class CommandsSupported(Structure, size=4096):
    """Commands Supported and Effects, 05h: indexed by opcode. Base 2.0, 5.16.1.6."""

    ACS = Array(0, 256, CommandEffects)  # admin
    IOCS = Array(1024, 256, CommandEffects)  # I/O


class SelfTestResult(Structure, size=28):
    """Self-test Result."""

    RESULT = Bits(3, 0)  # 0 no error, 1 aborted, 2 reset, ... Fh unused entry
    CODE = Bits(7, 4)  # 1 short, 2 extended
    SEGMENT = U8(1)
    VALID = U8(2)  # bit 0 NSID, 1 failing LBA, 2 SCT, 3 SC
    POH = U64(4)
    NSID = U32(12)
    FLBA = U64(16)
    SCT = Bits(2, 0, at=24)
    SC = U8(25)
    VS = Raw(26, 2)


class DeviceSelfTestLog(Structure, size=564):
    """Device Self-test, 06h; the newest result comes first. Base 2.0, 5.16.1.7."""

    OPERATION = Bits(3, 0)  # under way: 0 none, 1 short, 2 extended
    COMPLETION = Bits(6, 0, at=1)  # percent
    RESULT = Array(4, 20, SelfTestResult)


class Telemetry(Structure, size=512):
    """The header of telemetry, 07h and 08h; blocks of 512 bytes follow. Base 2.0, 5.16.1.8."""

    LID = U8(0)
    IEEE = Raw(5, 3)
    DALB1 = U16(8)  # last block of each data area
    DALB2 = U16(10)
    DALB3 = U16(12)
    DALB4 = U32(16)
    HOST_GENERATION = U8(381)
    AVAILABLE = U8(382)  # controller-initiated data
    GENERATION = U8(383)
    REASON = Raw(384, 128)


class EnduranceGroup(Structure, size=512):
    """Endurance Group Information, 09h. Base 2.0, 5.16.1.10."""

    CRITICAL_WARNING = U8(0)
    AVAILABLE_SPARE = U8(3)  # percent
    SPARE_THRESHOLD = U8(4)
    PERCENTAGE_USED = U8(5)
    DOMAINID = U16(6)
    ENDURANCE_ESTIMATE = UInt(32, 16)
    DATA_UNITS_READ = UInt(48, 16)
    DATA_UNITS_WRITTEN = UInt(64, 16)
    MEDIA_UNITS_WRITTEN = UInt(80, 16)
    HOST_READS = UInt(96, 16)
    HOST_WRITES = UInt(112, 16)
    MEDIA_ERRORS = UInt(128, 16)
    ERROR_LOG_ENTRIES = UInt(144, 16)
    TEGCAP = UInt(160, 16)  # bytes
    UEGCAP = UInt(176, 16)  # bytes


class AnaState(IntEnum):
    """Asymmetric Namespace Access State."""

    OPTIMIZED = 0x1
    NON_OPTIMIZED = 0x2
    INACCESSIBLE = 0x3
    PERSISTENT_LOSS = 0x4
    CHANGE = 0xF


class Ana(Structure, size=16):
    """The header of Asymmetric Namespace Access, 0Ch; group descriptors follow. Base 2.0, 5.16.1.13."""

    CHANGE_COUNT = U64(0)
    GROUPS = U16(8)


class AnaGroup(Structure, size=32):
    """ANA Group Descriptor; NNSIDS namespace ids of 4 bytes follow."""

    GRPID = U32(0)
    NNSIDS = U32(4)
    CHANGE_COUNT = U64(8)
    STATE = Bits(3, 0, at=16)


class PersistentEventLog(Structure, size=512):
    """The header of Persistent Event, 0Dh; events follow. Base 2.0, 5.16.1.14."""

    LID = U8(0)
    TNEV = U32(4)  # events
    TLL = U64(8)  # bytes
    RV = U8(16)
    LHL = U16(18)
    TIMESTAMP = U64(20)
    POH = UInt(28, 16)
    PCC = U64(44)
    VID = U16(52)
    SSVID = U16(54)
    SN = Ascii(56, 20)
    MN = Ascii(76, 40)
    SUBNQN = Utf8(116, 256)
    GENERATION = U16(372)
    RCI = U32(374)  # reporting context
    SEB = Raw(480, 32)  # supported events, a bitmap


class PersistentEvent(Structure, size=24):
    """The head of one persistent event; VSIL bytes of the vendor's and the event's data follow within EL bytes."""

    TYPE = U8(0)
    REVISION = U8(1)
    EHL = U8(2)
    EHAI = U8(3)
    CNTLID = U16(4)
    TIMESTAMP = U64(6)
    PORTID = U16(14)
    VSIL = U16(20)
    EL = U16(22)


class FeatureEffects(Register):
    """FID Supported and Effects."""

    FSUPP = Bits(0)
    UDCC = Bits(1)  # user data content changes
    NCC = Bits(2)
    NIC = Bits(3)
    CCC = Bits(4)
    UUID = Bits(19)
    FSP = Bits(31, 20)  # scope


class FeaturesSupported(Structure, size=1024):
    """Feature Identifiers Supported and Effects, 12h: indexed by FID. Base 2.0, 5.16.1.18."""

    FID = Array(0, 256, FeatureEffects)


class ReservationNotification(Structure, size=64):
    """Reservation Notification, 80h. Base 2.0, 5.16.1.24."""

    LPC = U64(0)  # log page count
    TYPE = U8(8)  # 0 empty, 1 registration preempted, 2 reservation released, 3 reservation preempted
    AVAILABLE = U8(9)
    NSID = U32(12)


class SanitizeStatus(Structure, size=512):
    """Sanitize Status, 81h. Base 2.0, 5.16.1.25."""

    SPROG = U16(0)  # progress of 65536
    STATUS = Bits(2, 0, at=2)  # 0 never, 1 done, 2 under way, 3 failed, 4 done without deallocation
    PASSES = Bits(7, 3, at=2)
    GLOBAL_DATA_ERASED = Bits(8, at=2)
    SCDW10 = U32(4)
    OVERWRITE_TIME = U32(8)  # seconds, as those after it
    BLOCK_ERASE_TIME = U32(12)
    CRYPTO_ERASE_TIME = U32(16)
    OVERWRITE_TIME_KEPT = U32(20)  # with No-Deallocate After Sanitize
    BLOCK_ERASE_TIME_KEPT = U32(24)
    CRYPTO_ERASE_TIME_KEPT = U32(28)
