"""Every admin and I/O command as the 64 bytes of its submission queue entry.

Base 2.0, 3.3.3.1 "Submission Queue Entry", 5 "Admin Command Set", 7 "I/O Commands"; NVM Command Set 1.0, 3.2. A class
is declared with its queue and opcode and so found by `decode`. What a command does not declare of dwords 2, 3 and 10 to
15 is reserved in it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Literal, Self

from lab.nvme import features
from lab.nvme.fields import U8, U16, U32, U64, Bits, Raw, Structure

Queue = Literal["admin", "io"]

BROADCAST_NSID = 0xFFFF_FFFF
"""The namespace id that means all namespaces. Base 2.0, 3.2.1.2."""


class Transfer(IntEnum):
    """Which way data moves: the low two bits of the opcode. Base 2.0, 3.3.3.1."""

    NONE = 0
    TO_CONTROLLER = 1
    TO_HOST = 2
    BOTH = 3


class Psdt(IntEnum):
    """PRP or SGL for Data Transfer (`Command.PSDT`)."""

    PRP = 0
    SGL_MPTR_BUFFER = 1  # MPTR is the address of one contiguous buffer
    SGL_MPTR_SEGMENT = 2  # MPTR is the address of an SGL segment of one descriptor


class Command(Structure, size=64):
    """What all commands share; itself the reading of an opcode that is not known."""

    QUEUE: ClassVar[Queue | None] = None
    OPCODE: ClassVar[int | None] = None

    OPC = U8(0)
    FUSE = Bits(9, 8)  # 01b first, 10b second command of a fused operation
    PSDT = Bits(15, 14)
    CID = U16(2)
    NSID = U32(4)
    CDW2 = U32(8, shared=True)
    CDW3 = U32(12, shared=True)
    MPTR = U64(16)
    PRP1 = U64(24)
    PRP2 = U64(32)
    SGL1 = Raw(24, 16, shared=True)  # instead of PRP1 and PRP2 where PSDT says so
    CDW10 = U32(40, shared=True)
    CDW11 = U32(44, shared=True)
    CDW12 = U32(48, shared=True)
    CDW13 = U32(52, shared=True)
    CDW14 = U32(56, shared=True)
    CDW15 = U32(60, shared=True)

    def __init_subclass__(cls, *, queue: Queue | None = None, opcode: int | None = None, **kwargs: Any) -> None:
        """Enter the command into `BY_OPCODE`."""
        super().__init_subclass__(**kwargs)
        if queue is not None and opcode is not None:
            cls.QUEUE, cls.OPCODE = queue, opcode
            BY_OPCODE[queue][opcode] = cls

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the command with its opcode and these fields set and all others zero."""
        return super().of(**(values if cls.OPCODE is None else {"OPC": cls.OPCODE, **values}))

    @property
    def transfer(self) -> Transfer:
        """Which way data moves."""
        return Transfer(self.OPC & 3)

    @property
    def data_length(self) -> int | None:
        """Bytes of data that move; None if that depends on the namespace's format, or is unknown."""
        return None if self.transfer else 0

    @property
    def reserved(self) -> dict[int, int]:
        """Byte offset to the reserved bits set there; of an unknown command only dword 0 can be judged."""
        stray = super().reserved
        return stray if self.OPCODE is not None else {offset: bits for offset, bits in stray.items() if offset < 4}

    def fields(self) -> dict[str, Any]:
        """Return field name to value; of an unknown command its raw dwords too."""
        if self.OPCODE is not None:
            return super().fields()
        return super().fields() | {f"CDW{n}": getattr(self, f"CDW{n}") for n in (2, 3, 10, 11, 12, 13, 14, 15)}


BY_OPCODE: dict[Queue, dict[int, type[Command]]] = {"admin": {}, "io": {}}
"""Queue kind and opcode to the command's class."""


def decode(raw: bytes | bytearray | memoryview, admin: bool) -> Command:
    """Return the command in 64 bytes of an admin or an I/O submission queue; ValueError if there are fewer."""
    return (BY_OPCODE["admin"] if admin else BY_OPCODE["io"]).get(raw[0] if raw else 0, Command)(raw)


# --- Admin commands -------------------------------------------------------------------------------------------------


class DeleteIoSq(Command, queue="admin", opcode=0x00):
    """Delete I/O Submission Queue. Base 2.0, 5.7."""

    QID = Bits(15, 0, dword=10)


class CreateIoSq(Command, queue="admin", opcode=0x01):
    """Create I/O Submission Queue. Base 2.0, 5.5."""

    QID = Bits(15, 0, dword=10)
    QSIZE = Bits(31, 16, dword=10)  # 0's based
    PC = Bits(0, dword=11)  # physically contiguous: PRP1 is the queue, else a PRP list of its pages
    QPRIO = Bits(2, 1, dword=11)
    CQID = Bits(31, 16, dword=11)
    NVMSETID = Bits(15, 0, dword=12)

    @property
    def entries(self) -> int:
        """Number of slots."""
        return self.QSIZE + 1

    @property
    def data_length(self) -> int:
        """PRP1 names the queue, and nothing moves."""
        return 0


class GetLogPage(Command, queue="admin", opcode=0x02):
    """Get Log Page. Base 2.0, 5.16."""

    LID = Bits(7, 0, dword=10)
    LSP = Bits(14, 8, dword=10)  # log specific
    RAE = Bits(15, dword=10)  # retain asynchronous event
    NUMDL = Bits(31, 16, dword=10)  # low half of the number of dwords, 0's based
    NUMDU = Bits(15, 0, dword=11)
    LSI = Bits(31, 16, dword=11)  # log specific identifier
    LPOL = U32(48)  # offset into the log page: bytes, or an index where OT is set
    LPOU = U32(52)
    UIDX = Bits(6, 0, dword=14)
    OT = Bits(23, dword=14)
    CSI = Bits(31, 24, dword=14)

    @property
    def offset(self) -> int:
        """LPOU and LPOL as one number."""
        return self.LPOU << 32 | self.LPOL

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return ((self.NUMDU << 16 | self.NUMDL) + 1) * 4

    @classmethod
    def reading(cls, lid: int, length: int, offset: int = 0, **values: Any) -> Self:
        """Return the command for ``length`` bytes (a multiple of 4, at least 4) from byte ``offset`` of a log page."""
        if length < 4 or length % 4:
            raise ValueError(f"a log page is read in dwords, not in {length} bytes")
        dwords = length // 4 - 1
        return cls.of(
            LID=lid, NUMDL=dwords & 0xFFFF, NUMDU=dwords >> 16, LPOL=offset & 0xFFFF_FFFF, LPOU=offset >> 32, **values
        )


class DeleteIoCq(Command, queue="admin", opcode=0x04):
    """Delete I/O Completion Queue. Base 2.0, 5.6."""

    QID = Bits(15, 0, dword=10)


class CreateIoCq(Command, queue="admin", opcode=0x05):
    """Create I/O Completion Queue. Base 2.0, 5.4."""

    QID = Bits(15, 0, dword=10)
    QSIZE = Bits(31, 16, dword=10)  # 0's based
    PC = Bits(0, dword=11)  # physically contiguous: PRP1 is the queue, else a PRP list of its pages
    IEN = Bits(1, dword=11)  # interrupts enabled
    IV = Bits(31, 16, dword=11)  # interrupt vector

    @property
    def entries(self) -> int:
        """Number of slots."""
        return self.QSIZE + 1

    @property
    def data_length(self) -> int:
        """PRP1 names the queue, and nothing moves."""
        return 0


class Identify(Command, queue="admin", opcode=0x06):
    """Identify. Base 2.0, 5.17. The structures are in `lab.nvme.identify`."""

    CNS = Bits(7, 0, dword=10)
    CNTID = Bits(31, 16, dword=10)
    CNSSID = Bits(15, 0, dword=11)  # CNS specific identifier: NVM Set, domain, endurance group, format index
    CSI = Bits(31, 24, dword=11)  # I/O command set
    UIDX = Bits(6, 0, dword=14)

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return 4096


class Abort(Command, queue="admin", opcode=0x08):
    """Abort. Base 2.0, 5.1. Bit 0 of the completion's dword 0 is 0 if the command was aborted."""

    SQID = Bits(15, 0, dword=10)
    ABORT_CID = Bits(31, 16, dword=10)  # the specification's CID of dword 10


class SetFeatures(Command, queue="admin", opcode=0x09):
    """Set Features. Base 2.0, 5.27. Dword 11 and what follows it is the feature's own."""

    FID = Bits(7, 0, dword=10)
    SV = Bits(31, dword=10)  # save across resets and power cycles
    CDW11 = U32(44)  # the value: see `lab.nvme.features`
    CDW12 = U32(48)
    CDW13 = U32(52)
    CDW14 = U32(56)
    CDW15 = U32(60)
    UIDX = Bits(6, 0, dword=14, shared=True)

    @property
    def data_length(self) -> int | None:
        """Bytes of data that move."""
        return features.data_length(self.FID, self.CDW11, setting=True)


class Select(IntEnum):
    """Which value Get Features asks for (`GetFeatures.SEL`). Base 2.0, 5.15."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    SUPPORTED_CAPABILITIES = 3


class GetFeatures(Command, queue="admin", opcode=0x0A):
    """Get Features. Base 2.0, 5.15."""

    FID = Bits(7, 0, dword=10)
    SEL = Bits(10, 8, dword=10)
    CDW11 = U32(44)  # some features select by it: a sensor, a vector, a window
    UIDX = Bits(6, 0, dword=14)

    @property
    def data_length(self) -> int | None:
        """Bytes of data that move."""
        if self.SEL == Select.SUPPORTED_CAPABILITIES:
            return 0
        return features.data_length(self.FID, self.CDW11, setting=False)


class AsyncEventRequest(Command, queue="admin", opcode=0x0C):
    """Asynchronous Event Request. Base 2.0, 5.2. What its completion reports is in `lab.nvme.async_events`."""


class NamespaceManagement(Command, queue="admin", opcode=0x0D):
    """Namespace Management. Base 2.0, 5.23 The created namespace's id is the completion's dword 0."""

    SEL = Bits(3, 0, dword=10)  # 0 create, 1 delete
    CSI = Bits(31, 24, dword=11)

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return 0 if self.SEL else 4096


class FirmwareCommit(Command, queue="admin", opcode=0x10):
    """Firmware Commit. Base 2.0, 5.12."""

    FS = Bits(2, 0, dword=10)  # firmware slot
    CA = Bits(5, 3, dword=10)  # commit action
    BPID = Bits(31, dword=10)


class FirmwareDownload(Command, queue="admin", opcode=0x11):
    """Firmware Image Download. Base 2.0, 5.13."""

    NUMD = U32(40)  # dwords, 0's based
    OFST = U32(44)  # dwords

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return (self.NUMD + 1) * 4


class DeviceSelfTest(Command, queue="admin", opcode=0x14):
    """Device Self-test. Base 2.0, 5.9."""

    STC = Bits(3, 0, dword=10)  # 1 short, 2 extended, Eh vendor, Fh abort


class NamespaceAttachment(Command, queue="admin", opcode=0x15):
    """Namespace Attachment. Base 2.0, 5.22 The data is a controller list."""

    SEL = Bits(3, 0, dword=10)  # 0 attach, 1 detach

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return 4096


class KeepAlive(Command, queue="admin", opcode=0x18):
    """Keep Alive. Base 2.0, 5.18."""


class _Directive(Command):
    NUMD = U32(40)  # dwords, 0's based
    DOPER = Bits(7, 0, dword=11)
    DTYPE = Bits(15, 8, dword=11)
    DSPEC = Bits(31, 16, dword=11)
    CDW12 = U32(48)
    CDW13 = U32(52)


class DirectiveSend(_Directive, queue="admin", opcode=0x19):
    """Directive Send. Base 2.0, 5.11. Whether data moves depends on the operation."""


class DirectiveReceive(_Directive, queue="admin", opcode=0x1A):
    """Directive Receive. Base 2.0, 5.10."""

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return (self.NUMD + 1) * 4


class VirtualizationManagement(Command, queue="admin", opcode=0x1C):
    """Virtualization Management. Base 2.0, 5.28."""

    ACT = Bits(3, 0, dword=10)
    RT = Bits(10, 8, dword=10)  # 0 VQ, 1 VI resources
    CNTLID = Bits(31, 16, dword=10)
    NR = Bits(15, 0, dword=11)


class _ManagementInterface(Command):
    MT = Bits(6, 0, dword=10, shared=True)  # Management Interface 1.2, 4.3: a request's header
    NMIMT = Bits(14, 11, dword=10, shared=True)
    ROR = Bits(15, dword=10, shared=True)
    MIOPC = Bits(7, 0, dword=11, shared=True)
    NMD0 = U32(48, shared=True)
    NMD1 = U32(52, shared=True)
    CDW10 = U32(40)
    CDW11 = U32(44)
    CDW12 = U32(48)
    CDW13 = U32(52)
    CDW14 = U32(56)
    CDW15 = U32(60)


class NvmeMiSend(_ManagementInterface, queue="admin", opcode=0x1D):
    """NVMe-MI Send. Base 2.0, 5.21; its dwords belong to the Management Interface specification."""


class NvmeMiReceive(_ManagementInterface, queue="admin", opcode=0x1E):
    """NVMe-MI Receive. Base 2.0, 5.20."""


class CapacityManagement(Command, queue="admin", opcode=0x20):
    """Capacity Management. Base 2.0, 5.3."""

    OPER = Bits(3, 0, dword=10)
    ELID = Bits(31, 16, dword=10)  # element identifier
    CAPL = U32(44)
    CAPU = U32(48)


class Lockdown(Command, queue="admin", opcode=0x24):
    """Lockdown. Base 2.0, 5.19."""

    SCP = Bits(3, 0, dword=10)
    PRHBT = Bits(4, dword=10)
    IFC = Bits(6, 5, dword=10)
    OFI = Bits(15, 8, dword=10)  # opcode or feature identifier
    UIDX = Bits(6, 0, dword=14)


class DoorbellBufferConfig(Command, queue="admin", opcode=0x7C):
    """Doorbell Buffer Config. Base 2.0, 5.8. PRP1 is the shadow doorbells' page, PRP2 the event indexes'."""


class FormatNvm(Command, queue="admin", opcode=0x80):
    """Format NVM. Base 2.0, 5.14."""

    LBAFL = Bits(3, 0, dword=10)  # low bits of the LBA format's index
    MSET = Bits(4, dword=10)  # metadata: 0 separate buffer, 1 extended LBA
    PI = Bits(7, 5, dword=10)
    PIL = Bits(8, dword=10)
    SES = Bits(11, 9, dword=10)  # secure erase: 0 none, 1 user data, 2 cryptographic
    LBAFU = Bits(13, 12, dword=10)

    @property
    def format(self) -> int:
        """Index of the LBA format, LBAFU and LBAFL together."""
        return self.LBAFU << 4 | self.LBAFL


class _Security(Command):
    NSSF = Bits(7, 0, dword=10)
    SPSP = Bits(23, 8, dword=10)  # security protocol specific
    SECP = Bits(31, 24, dword=10)


class SecuritySend(_Security, queue="admin", opcode=0x81):
    """Security Send. Base 2.0, 5.26."""

    TL = U32(44)  # bytes to send

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return self.TL


class SecurityReceive(_Security, queue="admin", opcode=0x82):
    """Security Receive. Base 2.0, 5.25."""

    AL = U32(44)  # bytes that there is room for

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return self.AL


class Sanitize(Command, queue="admin", opcode=0x84):
    """Sanitize. Base 2.0, 5.24."""

    SANACT = Bits(2, 0, dword=10)  # 1 exit failure, 2 block erase, 3 overwrite, 4 crypto erase
    AUSE = Bits(3, dword=10)
    OWPASS = Bits(7, 4, dword=10)
    OIPBP = Bits(8, dword=10)
    NDAS = Bits(9, dword=10)
    OVRPAT = U32(44)


class GetLbaStatus(Command, queue="admin", opcode=0x86):
    """Get LBA Status. NVM Command Set 1.0, 4.2.1."""

    SLBA = U64(40)
    MNDW = U32(48)  # dwords, 0's based
    RL = Bits(15, 0, dword=13)  # logical blocks; 0 means to the end
    ATYPE = Bits(31, 24, dword=13)

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return (self.MNDW + 1) * 4


# --- I/O commands ---------------------------------------------------------------------------------------------------


class Flush(Command, queue="io", opcode=0x00):
    """Flush. Base 2.0, 7.1."""


class LbaCommand(Command):
    """A command over a range of logical blocks of one namespace."""

    SLBA = U64(40)
    NLB = Bits(15, 0, dword=12)  # 0's based

    @property
    def blocks(self) -> int:
        """Number of logical blocks."""
        return self.NLB + 1


class _Protected(LbaCommand):
    """What commands share that know end-to-end protection information."""

    TAGS_UPPER = Bits(47, 0, dword=2)  # LBTU, ELBTU: formats with wide tags
    STC = Bits(24, dword=12)  # storage tag check
    PRINFO = Bits(29, 26, dword=12)  # PRACT in bit 3, PRCHK in bits 2:0
    FUA = Bits(30, dword=12)
    LR = Bits(31, dword=12)  # limited retry
    ILBRT = U32(56)  # initial (reading: expected initial) logical block reference tag
    LBAT = Bits(15, 0, dword=15)  # (expected) application tag and its mask
    LBATM = Bits(31, 16, dword=15)


class Write(_Protected, queue="io", opcode=0x01):
    """Write. NVM Command Set 1.0, 3.2.6."""

    DTYPE = Bits(23, 20, dword=12)
    DSM = Bits(7, 0, dword=13)
    DSPEC = Bits(31, 16, dword=13)


class Read(_Protected, queue="io", opcode=0x02):
    """Read. NVM Command Set 1.0, 3.2.4."""

    DSM = Bits(7, 0, dword=13)


class WriteUncorrectable(LbaCommand, queue="io", opcode=0x04):
    """Write Uncorrectable. NVM Command Set 1.0, 3.2.7."""

    DTYPE = Bits(23, 20, dword=12)
    DSPEC = Bits(31, 16, dword=13)


class Compare(_Protected, queue="io", opcode=0x05):
    """Compare. NVM Command Set 1.0, 3.2.1."""


class WriteZeroes(_Protected, queue="io", opcode=0x08):
    """Write Zeroes. NVM Command Set 1.0, 3.2.8."""

    DTYPE = Bits(23, 20, dword=12)
    DEAC = Bits(25, dword=12)  # deallocate
    DSPEC = Bits(31, 16, dword=13)


class DatasetManagement(Command, queue="io", opcode=0x09):
    """Dataset Management. NVM Command Set 1.0, 3.2.3 The data is NR+1 ranges (`lab.nvme.ranges`)."""

    NR = Bits(7, 0, dword=10)  # 0's based
    IDR = Bits(0, dword=11)  # integral dataset for read
    IDW = Bits(1, dword=11)
    AD = Bits(2, dword=11)  # deallocate

    @property
    def ranges(self) -> int:
        """Number of ranges."""
        return self.NR + 1

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return self.ranges * 16


class Verify(_Protected, queue="io", opcode=0x0C):
    """Verify. NVM Command Set 1.0, 3.2.5."""


class ReservationRegister(Command, queue="io", opcode=0x0D):
    """Reservation Register. Base 2.0, 7.3."""

    RREGA = Bits(2, 0, dword=10)
    IEKEY = Bits(3, dword=10)
    CPTPL = Bits(31, 30, dword=10)

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return 16


class ReservationReport(Command, queue="io", opcode=0x0E):
    """Reservation Report. Base 2.0, 7.5."""

    NUMD = U32(40)  # dwords, 0's based
    EDS = Bits(0, dword=11)  # extended data structure

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return (self.NUMD + 1) * 4


class ReservationAcquire(Command, queue="io", opcode=0x11):
    """Reservation Acquire. Base 2.0, 7.2."""

    RACQA = Bits(2, 0, dword=10)
    IEKEY = Bits(3, dword=10)
    RTYPE = Bits(15, 8, dword=10)

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return 16


class ReservationRelease(Command, queue="io", opcode=0x15):
    """Reservation Release. Base 2.0, 7.4."""

    RRELA = Bits(2, 0, dword=10)
    IEKEY = Bits(3, dword=10)
    RTYPE = Bits(15, 8, dword=10)

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return 8


class Copy(Command, queue="io", opcode=0x19):
    """Copy. NVM Command Set 1.0, 3.2.2 The data is NR+1 source ranges (`lab.nvme.ranges`)."""

    TAGS_UPPER = Bits(47, 0, dword=2)
    SDLBA = U64(40)  # first logical block of the destination
    NR = Bits(7, 0, dword=12)  # 0's based
    DESFMT = Bits(11, 8, dword=12)  # descriptor format: 0 short, 1 wide tags
    PRINFOR = Bits(15, 12, dword=12)
    DTYPE = Bits(23, 20, dword=12)
    STCW = Bits(24, dword=12)
    STCR = Bits(25, dword=12)
    PRINFOW = Bits(29, 26, dword=12)
    FUA = Bits(30, dword=12)
    LR = Bits(31, dword=12)
    DSPEC = Bits(31, 16, dword=13)
    ILBRT = U32(56)
    LBAT = Bits(15, 0, dword=15)
    LBATM = Bits(31, 16, dword=15)

    @property
    def ranges(self) -> int:
        """Number of source ranges."""
        return self.NR + 1

    @property
    def data_length(self) -> int | None:
        """Source ranges of formats 0 and 1 are 32 and 40 bytes; others are not known."""
        size = {0: 32, 1: 40}.get(self.DESFMT)
        return None if size is None else self.ranges * size


class ZoneManagementSend(Command, queue="io", opcode=0x79):
    """Zone Management Send. Zoned Namespace Command Set 1.1, 3.4.3."""

    SLBA = U64(40)  # the first block of the zone
    ZSA = Bits(7, 0, dword=13)  # a `lab.nvme.zones.ZoneSendAction`
    SELECT_ALL = Bits(8, dword=13)

    @property
    def data_length(self) -> int | None:
        """Only a zone descriptor extension moves, as long as the format says."""
        return None if self.ZSA == _SET_ZONE_DESCRIPTOR_EXTENSION else 0


_SET_ZONE_DESCRIPTOR_EXTENSION = 0x10


class ZoneManagementReceive(Command, queue="io", opcode=0x7A):
    """Zone Management Receive. Zoned Namespace Command Set 1.1, 3.4.2."""

    SLBA = U64(40)  # a block of the first zone that is reported
    NUMD = U32(48)  # dwords, 0's based
    ZRA = Bits(7, 0, dword=13)  # 0 Report Zones, 1 Extended Report Zones
    OPTIONS = Bits(15, 8, dword=13)  # which zones: `lab.nvme.zones.REPORT_OPTIONS`
    PARTIAL = Bits(16, dword=13)  # count the zones that fit, instead of those that match

    @property
    def data_length(self) -> int:
        """Bytes of data that move."""
        return (self.NUMD + 1) * 4


class ZoneAppend(_Protected, queue="io", opcode=0x7D):
    """Zone Append. Zoned Namespace Command Set 1.1, 3.4.1: SLBA is the zone's first block; dwords 0 and 1 the assigned one."""

    DTYPE = Bits(23, 20, dword=12)
    PIREMAP = Bits(25, dword=12)
    DSPEC = Bits(31, 16, dword=13)
