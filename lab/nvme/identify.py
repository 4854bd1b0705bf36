"""What Identify returns. Base 2.0, 5.17.2 "Identify Data Structures"; NVM Command Set 1.0, 4.1.5.

The bits of a nested field carry plain words, since the specification gives most of them a number and no name.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import IntEnum
from typing import Self

from lab.nvme.fields import U8, U16, U32, U64, Array, Ascii, Bits, Nested, Numbers, Raw, Register, Structure, UInt, Utf8
from lab.nvme.registers import VS

SIZE = 4096
"""Bytes of every Identify data structure."""


class Cns(IntEnum):
    """Controller or Namespace Structure: what Identify asks for. Base 2.0, 5.17."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACES = 0x02
    NAMESPACE_DESCRIPTORS = 0x03
    NVM_SET_LIST = 0x04
    CSI_NAMESPACE = 0x05
    CSI_CONTROLLER = 0x06
    CSI_ACTIVE_NAMESPACES = 0x07
    INDEPENDENT_NAMESPACE = 0x08
    USER_DATA_FORMAT = 0x09
    CSI_USER_DATA_FORMAT = 0x0A
    ALLOCATED_NAMESPACES = 0x10
    ALLOCATED_NAMESPACE = 0x11
    ATTACHED_CONTROLLERS = 0x12
    CONTROLLERS = 0x13
    PRIMARY_CONTROLLER = 0x14
    SECONDARY_CONTROLLERS = 0x15
    NAMESPACE_GRANULARITY = 0x16
    UUID_LIST = 0x17
    DOMAIN_LIST = 0x18
    ENDURANCE_GROUPS = 0x19
    CSI_ALLOCATED_NAMESPACES = 0x1A
    CSI_ALLOCATED_NAMESPACE = 0x1B
    IO_COMMAND_SETS = 0x1C


class Csi(IntEnum):
    """Command Set Identifier. Base 2.0, 5.17."""

    NVM = 0
    KEY_VALUE = 1
    ZONED = 2


# --- The controller -------------------------------------------------------------------------------------------------


class Cmic(Register, size=1):
    """Controller Multi-Path I/O and Namespace Sharing Capabilities."""

    MULTI_PORT = Bits(0)
    MULTI_CONTROLLER = Bits(1)
    VIRTUAL_FUNCTION = Bits(2)
    ANA = Bits(3)


class Oaes(Register):
    """Optional Asynchronous Events Supported; the same bits enable them in feature 0Bh."""

    NAMESPACE_ATTRIBUTE = Bits(8)
    FIRMWARE_ACTIVATION = Bits(9)
    ANA_CHANGE = Bits(11)
    PREDICTABLE_LATENCY = Bits(12)
    LBA_STATUS = Bits(13)
    ENDURANCE_GROUP = Bits(14)
    NORMAL_SUBSYSTEM_SHUTDOWN = Bits(15)
    ZONE_DESCRIPTOR = Bits(27)
    DISCOVERY_LOG = Bits(31)


class Ctratt(Register):
    """Controller Attributes."""

    HOST_ID_128 = Bits(0)
    NON_OPERATIONAL_PERMISSIVE = Bits(1)
    NVM_SETS = Bits(2)
    READ_RECOVERY_LEVELS = Bits(3)
    ENDURANCE_GROUPS = Bits(4)
    PREDICTABLE_LATENCY = Bits(5)
    TRAFFIC_KEEP_ALIVE = Bits(6)
    NAMESPACE_GRANULARITY = Bits(7)
    SQ_ASSOCIATIONS = Bits(8)
    UUID_LIST = Bits(9)
    MULTI_DOMAIN = Bits(10)
    FIXED_CAPACITY = Bits(11)
    VARIABLE_CAPACITY = Bits(12)
    DELETE_ENDURANCE_GROUP = Bits(13)
    DELETE_NVM_SET = Bits(14)
    EXTENDED_LBA_FORMATS = Bits(15)


class Oacs(Register, size=2):
    """Optional Admin Command Support."""

    SECURITY = Bits(0)
    FORMAT = Bits(1)
    FIRMWARE = Bits(2)
    NAMESPACE_MANAGEMENT = Bits(3)
    SELF_TEST = Bits(4)
    DIRECTIVES = Bits(5)
    NVME_MI = Bits(6)
    VIRTUALIZATION = Bits(7)
    DOORBELL_BUFFER = Bits(8)
    GET_LBA_STATUS = Bits(9)
    LOCKDOWN = Bits(10)


class Frmw(Register, size=1):
    """Firmware Updates."""

    SLOT_1_READ_ONLY = Bits(0)
    SLOTS = Bits(3, 1)
    ACTIVATE_WITHOUT_RESET = Bits(4)
    OVERLAP_DETECTION = Bits(5)


class Lpa(Register, size=1):
    """Log Page Attributes."""

    SMART_PER_NAMESPACE = Bits(0)
    COMMANDS_SUPPORTED = Bits(1)
    EXTENDED_DATA = Bits(2)  # log page offset and 32-bit NUMD
    TELEMETRY = Bits(3)
    PERSISTENT_EVENT = Bits(4)
    SUPPORTED_LOG_PAGES = Bits(5)  # with log pages 00h, 05h, 12h and 13h
    TELEMETRY_AREA_4 = Bits(6)


class Rpmbs(Register):
    """Replay Protected Memory Block Support."""

    UNITS = Bits(2, 0)
    AUTHENTICATION = Bits(5, 3)
    TOTAL_SIZE = Bits(23, 16)  # 128 KiB units, 0's based
    ACCESS_SIZE = Bits(31, 24)  # 512-byte units, 0's based


class Sanicap(Register):
    """Sanitize Capabilities."""

    CRYPTO_ERASE = Bits(0)
    BLOCK_ERASE = Bits(1)
    OVERWRITE = Bits(2)
    NO_DEALLOCATE_INHIBITED = Bits(29)
    NO_DEALLOCATE_MODIFIES_MEDIA = Bits(31, 30)


class Anacap(Register, size=1):
    """Asymmetric Namespace Access Capabilities."""

    OPTIMIZED = Bits(0)
    NON_OPTIMIZED = Bits(1)
    INACCESSIBLE = Bits(2)
    PERSISTENT_LOSS = Bits(3)
    CHANGE = Bits(4)
    GROUP_ID_FIXED = Bits(6)
    GROUP_ID_MANAGED = Bits(7)


class EntrySize(Register, size=1):
    """SQES and CQES: entry sizes as powers of two."""

    REQUIRED = Bits(3, 0)
    MAXIMUM = Bits(7, 4)


class Oncs(Register, size=2):
    """Optional NVM Command Support."""

    COMPARE = Bits(0)
    WRITE_UNCORRECTABLE = Bits(1)
    DATASET_MANAGEMENT = Bits(2)
    WRITE_ZEROES = Bits(3)
    SAVE_AND_SELECT = Bits(4)  # SV of Set Features and SEL of Get Features
    RESERVATIONS = Bits(5)
    TIMESTAMP = Bits(6)
    VERIFY = Bits(7)
    COPY = Bits(8)


class Fna(Register, size=1):
    """Format NVM Attributes."""

    FORMAT_ALL = Bits(0)
    ERASE_ALL = Bits(1)
    CRYPTO_ERASE = Bits(2)
    NO_BROADCAST = Bits(3)


class Vwc(Register, size=1):
    """Volatile Write Cache."""

    PRESENT = Bits(0)
    FLUSH_BROADCAST = Bits(2, 1)  # 00b not reported, 10b not supported, 11b supported


class Nwpc(Register, size=1):
    """Namespace Write Protection Capabilities."""

    WRITE_PROTECT = Bits(0)
    UNTIL_POWER_CYCLE = Bits(1)
    PERMANENT = Bits(2)


class Sgls(Register):
    """SGL Support."""

    SUPPORT = Bits(1, 0)  # 00b none, 01b any alignment, 10b dword aligned
    KEYED = Bits(2)
    THRESHOLD = Bits(15, 8)
    BIT_BUCKET = Bits(16)
    MPTR_BYTE_ALIGNED = Bits(17)
    OVERSIZE = Bits(18)
    MPTR_SGL = Bits(19)
    OFFSET_ADDRESS = Bits(20)
    TRANSPORT = Bits(21)


class PowerState(Structure, size=32):
    """Power State Descriptor. Base 2.0, 5.17.2.1."""

    MP = U16(0)  # maximum power, centiwatts, or 0.1 mW where MXPS is set
    MXPS = Bits(0, at=3)
    NOPS = Bits(1, at=3)  # non-operational state
    ENLAT = U32(4)  # microseconds
    EXLAT = U32(8)  # microseconds
    RRT = Bits(4, 0, at=12)
    RRL = Bits(4, 0, at=13)
    RWT = Bits(4, 0, at=14)
    RWL = Bits(4, 0, at=15)
    IDLP = U16(16)
    IPS = Bits(7, 6, at=18)
    ACTP = U16(20)
    APW = Bits(2, 0, at=22)
    APS = Bits(7, 6, at=22)


class IdentifyController(Structure, size=SIZE):
    """Identify Controller, CNS 01h. Base 2.0, 5.17.2.1."""

    VID = U16(0)
    SSVID = U16(2)
    SN = Ascii(4, 20)
    MN = Ascii(24, 40)
    FR = Ascii(64, 8)
    RAB = U8(72)  # recommended arbitration burst, as a power of two
    IEEE = Raw(73, 3)  # OUI, least significant byte first
    CMIC = Nested(76, Cmic)
    MDTS = U8(77)  # maximum data transfer: 2^MDTS pages of MPSMIN, 0 no limit
    CNTLID = U16(78)
    VER = Nested(80, VS)
    RTD3R = U32(84)  # microseconds
    RTD3E = U32(88)  # microseconds
    OAES = Nested(92, Oaes)
    CTRATT = Nested(96, Ctratt)
    RRLS = U16(100)
    CNTRLTYPE = U8(111)  # 1 I/O, 2 discovery, 3 administrative
    FGUID = Raw(112, 16)
    CRDT1 = U16(128)  # 100 ms
    CRDT2 = U16(130)
    CRDT3 = U16(132)
    NVMSR = U8(253)
    VWCI = U8(254)
    MEC = U8(255)
    OACS = Nested(256, Oacs)
    ACL = U8(258)  # abort command limit, 0's based
    AERL = U8(259)  # asynchronous event request limit, 0's based
    FRMW = Nested(260, Frmw)
    LPA = Nested(261, Lpa)
    ELPE = U8(262)  # error log page entries, 0's based
    NPSS = U8(263)  # power states, 0's based
    AVSCC = U8(264)
    APSTA = U8(265)
    WCTEMP = U16(266)  # kelvin
    CCTEMP = U16(268)  # kelvin
    MTFA = U16(270)  # 100 ms
    HMPRE = U32(272)  # 4 KiB
    HMMIN = U32(276)  # 4 KiB
    TNVMCAP = UInt(280, 16)  # bytes
    UNVMCAP = UInt(296, 16)  # bytes
    RPMBS = Nested(312, Rpmbs)
    EDSTT = U16(316)  # minutes
    DSTO = U8(318)
    FWUG = U8(319)  # 4 KiB; 0 not reported, FFh no restriction
    KAS = U16(320)  # 100 ms; 0 no Keep Alive
    HCTMA = U16(322)
    MNTMT = U16(324)  # kelvin
    MXTMT = U16(326)  # kelvin
    SANICAP = Nested(328, Sanicap)
    HMMINDS = U32(332)  # 4 KiB
    HMMAXD = U16(336)
    NSETIDMAX = U16(338)
    ENDGIDMAX = U16(340)
    ANATT = U8(342)  # seconds
    ANACAP = Nested(343, Anacap)
    ANAGRPMAX = U32(344)
    NANAGRPID = U32(348)
    PELS = U32(352)  # 64 KiB
    DOMAINID = U16(356)
    MEGCAP = UInt(368, 16)  # bytes
    SQES = Nested(512, EntrySize)
    CQES = Nested(513, EntrySize)
    MAXCMD = U16(514)
    NN = U32(516)  # the highest namespace id, not a count
    ONCS = Nested(520, Oncs)
    FUSES = U16(522)  # bit 0 Compare and Write
    FNA = Nested(524, Fna)
    VWC = Nested(525, Vwc)
    AWUN = U16(526)  # blocks, 0's based
    AWUPF = U16(528)  # blocks, 0's based
    ICSVSCC = U8(530)
    NWPC = Nested(531, Nwpc)
    ACWU = U16(532)  # blocks, 0's based
    OCFS = U16(534)  # copy descriptor formats, a bitmap
    SGLS = Nested(536, Sgls)
    MNAN = U32(540)
    MAXDNA = UInt(544, 16)
    MAXCNA = U32(560)
    SUBNQN = Utf8(768, 256)
    IOCCSZ = U32(1792)  # fabrics, 16 bytes
    IORCSZ = U32(1796)  # fabrics, 16 bytes
    ICDOFF = U16(1800)  # fabrics, 16 bytes
    FCATT = U8(1802)
    MSDBD = U8(1803)
    OFCS = U16(1804)
    DCTYPE = U8(1806)
    PSD = Array(2048, 32, PowerState)
    VS = Raw(3072, 1024)

    def max_transfer(self, mpsmin: int) -> int | None:
        """Return the bytes that one command may move where CAP.MPSMIN is this; None if there is no limit."""
        return (4096 << mpsmin) << self.MDTS if self.MDTS else None

    @property
    def power_states(self) -> tuple[PowerState, ...]:
        """The NPSS + 1 descriptors that there are."""
        return self.PSD[: self.NPSS + 1]


class IdentifyControllerNvm(Structure, size=SIZE):
    """I/O command set specific Identify Controller of the NVM command set, CNS 06h. NVM Command Set 1.0, 4.1.5."""

    VSL = U8(0)  # Verify; the three limits are 2^n pages of MPSMIN, 0 no limit
    WZSL = U8(1)  # Write Zeroes
    WUSL = U8(2)  # Write Uncorrectable
    DMRL = U8(3)  # ranges of one Dataset Management
    DMRSL = U32(4)  # blocks of one range
    DMSL = U64(8)  # blocks of all ranges


# --- Namespaces -----------------------------------------------------------------------------------------------------


class Nsfeat(Register, size=1):
    """Namespace Features."""

    THIN_PROVISIONING = Bits(0)
    ATOMICITY = Bits(1)  # NAWUN, NAWUPF and NACWU hold
    DEALLOCATED_ERROR = Bits(2)
    ID_NEVER_REUSED = Bits(3)
    OPTIMAL_PERFORMANCE = Bits(4)  # NPWG, NPWA, NPDG, NPDA and NOWS hold


class Flbas(Register, size=1):
    """Formatted LBA Size: the index of the format in use, in two parts."""

    LOW = Bits(3, 0)
    EXTENDED = Bits(4)  # metadata at the end of each block, else in its own buffer
    HIGH = Bits(6, 5)


class Mc(Register, size=1):
    """Metadata Capabilities."""

    EXTENDED = Bits(0)
    SEPARATE = Bits(1)


class Dpc(Register, size=1):
    """End-to-end Data Protection Capabilities."""

    TYPE_1 = Bits(0)
    TYPE_2 = Bits(1)
    TYPE_3 = Bits(2)
    FIRST = Bits(3)
    LAST = Bits(4)


class Dps(Register, size=1):
    """End-to-end Data Protection Type Settings."""

    TYPE = Bits(2, 0)  # 0 none
    FIRST = Bits(3)


class Nmic(Register, size=1):
    """Namespace Multi-path I/O and Namespace Sharing Capabilities."""

    SHARED = Bits(0)


class Rescap(Register, size=1):
    """Reservation Capabilities."""

    PERSIST = Bits(0)
    WRITE_EXCLUSIVE = Bits(1)
    EXCLUSIVE_ACCESS = Bits(2)
    WRITE_EXCLUSIVE_REGISTRANTS = Bits(3)
    EXCLUSIVE_ACCESS_REGISTRANTS = Bits(4)
    WRITE_EXCLUSIVE_ALL = Bits(5)
    EXCLUSIVE_ACCESS_ALL = Bits(6)
    IGNORE_EXISTING_KEY = Bits(7)


class Fpi(Register, size=1):
    """Format Progress Indicator."""

    REMAINING = Bits(6, 0)  # percent
    SUPPORTED = Bits(7)


class Dlfeat(Register, size=1):
    """Deallocate Logical Block Features."""

    READ = Bits(2, 0)  # what deallocated blocks read as: 0 not reported, 1 zeros, 2 ones
    WRITE_ZEROES = Bits(3)  # Write Zeroes may deallocate
    GUARD_CRC = Bits(4)


class Nsattr(Register, size=1):
    """Namespace Attributes."""

    WRITE_PROTECTED = Bits(0)


class LbaFormat(Structure, size=4):
    """LBA Format. NVM Command Set 1.0, 4.1.5.1."""

    MS = U16(0)  # bytes of metadata per block
    LBADS = U8(2)  # block size as a power of two; 0 means no such format
    RP = Bits(1, 0, at=3)  # relative performance: 0 best, 3 degraded

    @property
    def block_size(self) -> int:
        """Bytes of data per block."""
        return 1 << self.LBADS


class IdentifyNamespace(Structure, size=SIZE):
    """Identify Namespace of the NVM command set, CNS 00h. NVM Command Set 1.0, 4.1.5.1."""

    NSZE = U64(0)  # blocks
    NCAP = U64(8)  # blocks
    NUSE = U64(16)  # blocks
    NSFEAT = Nested(24, Nsfeat)
    NLBAF = U8(25)  # LBA formats, 0's based
    FLBAS = Nested(26, Flbas)
    MC = Nested(27, Mc)
    DPC = Nested(28, Dpc)
    DPS = Nested(29, Dps)
    NMIC = Nested(30, Nmic)
    RESCAP = Nested(31, Rescap)
    FPI = Nested(32, Fpi)
    DLFEAT = Nested(33, Dlfeat)
    NAWUN = U16(34)  # blocks, 0's based, as all atomic units
    NAWUPF = U16(36)
    NACWU = U16(38)
    NABSN = U16(40)
    NABO = U16(42)  # blocks
    NABSPF = U16(44)
    NOIOB = U16(46)  # blocks
    NVMCAP = UInt(48, 16)  # bytes
    NPWG = U16(64)  # blocks, 0's based, as the three after it
    NPWA = U16(66)
    NPDG = U16(68)
    NPDA = U16(70)
    NOWS = U16(72)
    MSSRL = U16(74)  # Copy: blocks of one source range
    MCL = U32(76)  # Copy: blocks of all source ranges
    MSRC = U8(80)  # Copy: source ranges, 0's based
    NULBAF = U8(82)  # formats with a length that the host cannot choose
    ANAGRPID = U32(92)
    NSATTR = Nested(99, Nsattr)
    NVMSETID = U16(100)
    ENDGID = U16(102)
    NGUID = Raw(104, 16)
    EUI64 = Raw(120, 8)
    LBAF = Array(128, 64, LbaFormat)
    VS = Raw(384, 3712)

    @property
    def format_index(self) -> int:
        """Index of the format in use; the high part of FLBAS counts only where there are more than 16 formats."""
        many = self.NLBAF + 1 + self.NULBAF > 16
        return self.FLBAS.HIGH << 4 | self.FLBAS.LOW if many else self.FLBAS.LOW

    @property
    def format(self) -> LbaFormat:
        """The format in use."""
        return type(self).LBAF.at(self, self.format_index)

    @property
    def formats(self) -> tuple[LbaFormat, ...]:
        """The NLBAF + 1 formats that the host can choose from."""
        return self.LBAF[: self.NLBAF + 1]

    @property
    def block_size(self) -> int:
        """Bytes of data per block of the format in use."""
        return self.format.block_size


class NamespaceManagementData(Structure, size=SIZE):
    """What the host asks Namespace Management to create. Base 2.0, 5.23 "Host Software Specified Fields"."""

    NSZE = U64(0)
    NCAP = U64(8)
    FLBAS = Nested(26, Flbas)
    DPS = Nested(29, Dps)
    NMIC = Nested(30, Nmic)
    ANAGRPID = U32(92)
    NVMSETID = U16(100)
    ENDGID = U16(102)
    LBSTM = U64(384)


class ExtendedLbaFormat(Register):
    """Extended LBA Format: how protection information is laid out."""

    STS = Bits(6, 0)  # storage tag size, bits
    PIF = Bits(8, 7)  # guard: 0 16 bits, 1 32 bits, 2 64 bits


class Pic(Register, size=1):
    """Protection Information Capabilities."""

    GUARD_16_STORAGE_TAG = Bits(0)
    GUARD_16_STORAGE_TAG_MASK = Bits(1)
    STORAGE_TAG_CHECK_READ = Bits(2)


class IdentifyNamespaceNvm(Structure, size=SIZE):
    """I/O command set specific Identify Namespace of the NVM command set, CNS 05h. NVM Command Set 1.0, 4.1.5."""

    LBSTM = U64(0)  # logical block storage tag mask
    PIC = Nested(8, Pic)
    ELBAF = Array(12, 64, ExtendedLbaFormat)


class Nstat(Register, size=1):
    """Namespace Status."""

    READY = Bits(0)


class IndependentNamespace(Structure, size=SIZE):
    """I/O command set independent Identify Namespace, CNS 08h. Base 2.0, 5.17.2."""

    NSFEAT = Nested(0, Nsfeat)
    NMIC = Nested(1, Nmic)
    RESCAP = Nested(2, Rescap)
    FPI = Nested(3, Fpi)
    ANAGRPID = U32(4)
    NSATTR = Nested(8, Nsattr)
    NVMSETID = U16(10)
    ENDGID = U16(12)
    NSTAT = Nested(14, Nstat)


class NamespaceList(Structure, size=SIZE):
    """Up to 1024 namespace ids in rising order, zeros after them: CNS 02h, 07h, 10h, 1Ah; log page 04h."""

    NSID = Numbers(0, 1024, 4)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids before the first zero."""
        return _before_zero(self.NSID)

    @classmethod
    def after(cls, nsid: int, ids: Iterable[int]) -> Self:
        """Return the answer to Identify with this NSID: the ids greater than it, as many as fit."""
        return cls.of(NSID=sorted(known for known in ids if known > nsid)[:1024])


def _before_zero(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return numbers[: numbers.index(0)] if 0 in numbers else numbers


class ControllerList(Structure, size=SIZE):
    """Controller ids: CNS 12h and 13h, the data of Namespace Attachment. Base 2.0, 4.4."""

    NUM = U16(0)
    CNTLID = Numbers(2, 2047, 2)

    @property
    def ids(self) -> tuple[int, ...]:
        """The NUM ids that there are."""
        return self.CNTLID[: self.NUM]

    @classmethod
    def holding(cls, ids: Iterable[int]) -> Self:
        """Return the list of these controllers, in rising order."""
        listed = sorted(ids)
        return cls.of(NUM=len(listed), CNTLID=listed)


class Nidt(IntEnum):
    """Namespace Identifier Type."""

    EUI64 = 1
    NGUID = 2
    UUID = 3
    CSI = 4


NID_LENGTH = {Nidt.EUI64: 8, Nidt.NGUID: 16, Nidt.UUID: 16, Nidt.CSI: 1}
"""Bytes of each identifier type."""


class NamespaceDescriptor(Structure, size=4):
    """The head of a Namespace Identification Descriptor; NIDL bytes of identifier follow. CNS 03h, Base 2.0, 5.17.2."""

    NIDT = U8(0)
    NIDL = U8(1)


def namespace_descriptors(raw: bytes) -> list[tuple[int, bytes]]:
    """Return (type, identifier) of each descriptor before the first of length zero; one that runs over the end is cut."""
    found, at = [], 0
    while at + NamespaceDescriptor.SIZE <= len(raw):
        head = NamespaceDescriptor(raw[at : at + NamespaceDescriptor.SIZE])
        if not head.NIDL:
            break
        at += head.SIZE
        found.append((head.NIDT, raw[at : at + head.NIDL]))
        at += head.NIDL
    return found


def namespace_descriptor_list(
    *, eui64: bytes | None = None, nguid: bytes | None = None, uuid: uuid.UUID | None = None, csi: int | None = None
) -> bytes:
    """Return the 4096 bytes that answer CNS 03h with these identifiers."""
    given: list[tuple[Nidt, bytes | None]] = [
        (Nidt.EUI64, eui64),
        (Nidt.NGUID, nguid),
        (Nidt.UUID, None if uuid is None else uuid.bytes),
        (Nidt.CSI, None if csi is None else bytes([csi])),
    ]
    parts = []
    for kind, identifier in given:
        if identifier is None:
            continue
        if len(identifier) != NID_LENGTH[kind]:
            raise ValueError(f"{kind.name} has {NID_LENGTH[kind]} bytes, not {len(identifier)}")
        parts.append(NamespaceDescriptor.of(NIDT=kind, NIDL=len(identifier)) + identifier)
    return b"".join(parts).ljust(SIZE, b"\0")


# --- What is rarer --------------------------------------------------------------------------------------------------


class NvmSet(Structure, size=128):
    """NVM Set Attributes Entry."""

    NVMSETID = U16(0)
    ENDGID = U16(2)
    RR4KT = U32(8)  # 100 ns
    OWS = U32(12)  # bytes
    TNVMSETCAP = UInt(16, 16)
    UNVMSETCAP = UInt(32, 16)


class NvmSetList(Structure, size=SIZE):
    """NVM Set List, CNS 04h."""

    NUM = U8(0)
    ENTRY = Array(128, 31, NvmSet)


class PrimaryController(Structure, size=SIZE):
    """Primary Controller Capabilities, CNS 14h."""

    CNTLID = U16(0)
    PORTID = U16(2)
    CRT = U8(4)  # bit 0 VQ, bit 1 VI resources
    VQFRT = U32(32)
    VQRFA = U32(36)
    VQRFAP = U16(40)
    VQPRT = U16(42)
    VQFRSM = U16(44)
    VQGRAN = U16(46)
    VIFRT = U32(64)
    VIRFA = U32(68)
    VIRFAP = U16(72)
    VIPRT = U16(74)
    VIFRSM = U16(76)
    VIGRAN = U16(78)


class SecondaryController(Structure, size=32):
    """Secondary Controller Entry."""

    SCID = U16(0)
    PCID = U16(2)
    SCS = Bits(0, at=4)  # online
    VFN = U16(8)
    NVQ = U16(10)
    NVI = U16(12)


class SecondaryControllerList(Structure, size=SIZE):
    """Secondary Controller List, CNS 15h."""

    NUM = U8(0)
    ENTRY = Array(32, 127, SecondaryController)


class Granularity(Structure, size=16):
    """Namespace Granularity Descriptor, in bytes."""

    NSZEGRAN = U64(0)
    NCAPGRAN = U64(8)


class NamespaceGranularityList(Structure, size=SIZE):
    """Namespace Granularity List, CNS 16h. NVM Command Set 1.0, 4.1.5."""

    ATTRIBUTES = U32(0)
    NUM = U8(4)  # 0's based
    ENTRY = Array(32, 16, Granularity)


class UuidEntry(Structure, size=32):
    """UUID List Entry."""

    ASSOCIATION = Bits(1, 0)
    UUID = Raw(16, 16)


class UuidList(Structure, size=SIZE):
    """UUID List, CNS 17h."""

    ENTRY = Array(32, 127, UuidEntry)


class Domain(Structure, size=128):
    """Domain Attributes Entry."""

    DOMAINID = U16(0)
    CAPACITY = UInt(16, 16)
    UNALLOCATED = UInt(32, 16)
    LARGEST_GROUP = UInt(48, 16)


class DomainList(Structure, size=SIZE):
    """Domain List, CNS 18h."""

    NUM = U8(0)
    ENTRY = Array(128, 31, Domain)


class EnduranceGroupList(Structure, size=SIZE):
    """Endurance Group List, CNS 19h."""

    NUM = U16(0)
    ENDGID = Numbers(2, 2047, 2)


class CommandSets(Register, size=8):
    """I/O Command Set Vector."""

    NVM = Bits(0)
    KEY_VALUE = Bits(1)
    ZONED = Bits(2)


class IoCommandSets(Structure, size=SIZE):
    """Identify I/O Command Set, CNS 1Ch, Base 2.0, 5.17.2.21: the combinations that feature 19h can choose."""

    COMBINATION = Array(0, 512, CommandSets)
