"""The controller's registers. Base 2.0, 3.1.3 "Controller Properties", and PCIe Transport 1.0 for the doorbells."""

from __future__ import annotations

from lab.nvme.fields import Bits, Register


class CAP(Register, offset=0x00, size=8):
    """Controller Capabilities. Base 2.0, 3.1.3.1."""

    MQES = Bits(15, 0)  # maximum queue entries supported, 0's based
    CQR = Bits(16)  # contiguous queues required
    AMS = Bits(18, 17)  # arbitration mechanisms besides round robin
    TO = Bits(31, 24)  # worst-case time to ready, in 500 ms
    DSTRD = Bits(35, 32)  # doorbell stride is 4 << DSTRD bytes
    NSSRS = Bits(36)
    CSS = Bits(44, 37)  # command sets, a bitmap
    BPS = Bits(45)
    CPS = Bits(47, 46)
    MPSMIN = Bits(51, 48)  # page size is 4096 << MPSMIN bytes at least
    MPSMAX = Bits(55, 52)
    PMRS = Bits(56)
    CMBS = Bits(57)
    NSSS = Bits(58)
    CRMS = Bits(60, 59)


class VS(Register, offset=0x08):
    """Version. Base 2.0, 3.1.3.2."""

    TER = Bits(7, 0)
    MNR = Bits(15, 8)
    MJR = Bits(31, 16)

    @property
    def text(self) -> str:
        """``2.0``, or ``1.2.1`` where there is a tertiary number."""
        return f"{self.MJR}.{self.MNR}" + (f".{self.TER}" if self.TER else "")


class INTMS(Register, offset=0x0C):
    """Interrupt Mask Set. Base 2.0, 3.1.3.3."""

    IVMS = Bits(31, 0)


class INTMC(Register, offset=0x10):
    """Interrupt Mask Clear. Base 2.0, 3.1.3.4."""

    IVMC = Bits(31, 0)


class CC(Register, offset=0x14):
    """Controller Configuration. Base 2.0, 3.1.3.5."""

    EN = Bits(0)
    CSS = Bits(6, 4)
    MPS = Bits(10, 7)  # memory page size is 4096 << MPS bytes
    AMS = Bits(13, 11)
    SHN = Bits(15, 14)  # 01b normal, 10b abrupt shutdown
    IOSQES = Bits(19, 16)  # entry sizes, as powers of two
    IOCQES = Bits(23, 20)
    CRIME = Bits(24)


class CSTS(Register, offset=0x1C):
    """Controller Status. Base 2.0, 3.1.3.6."""

    RDY = Bits(0)
    CFS = Bits(1)
    SHST = Bits(3, 2)  # 00b normal, 01b shutdown under way, 10b complete
    NSSRO = Bits(4)
    PP = Bits(5)
    ST = Bits(6)


class NSSR(Register, offset=0x20):
    """NVM Subsystem Reset. Base 2.0, 3.1.3.7."""

    NSSRC = Bits(31, 0)


class AQA(Register, offset=0x24):
    """Admin Queue Attributes. Base 2.0, 3.1.3.8. Both sizes 0's based."""

    ASQS = Bits(11, 0)
    ACQS = Bits(27, 16)


class ASQ(Register, offset=0x28, size=8):
    """Admin Submission Queue Base Address. Base 2.0, 3.1.3.9."""

    ASQB = Bits(63, 12)


class ACQ(Register, offset=0x30, size=8):
    """Admin Completion Queue Base Address. Base 2.0, 3.1.3.10."""

    ACQB = Bits(63, 12)


class CMBLOC(Register, offset=0x38):
    """Controller Memory Buffer Location. Base 2.0, 3.1.3.11."""

    BIR = Bits(2, 0)
    CQMMS = Bits(3)
    CQPDS = Bits(4)
    CDPMLS = Bits(5)
    CDPCILS = Bits(6)
    CDMMMS = Bits(7)
    CQDA = Bits(8)
    OFST = Bits(31, 12)


class CMBSZ(Register, offset=0x3C):
    """Controller Memory Buffer Size. Base 2.0, 3.1.3.12."""

    SQS = Bits(0)
    CQS = Bits(1)
    LISTS = Bits(2)
    RDS = Bits(3)
    WDS = Bits(4)
    SZU = Bits(11, 8)
    SZ = Bits(31, 12)


class BPINFO(Register, offset=0x40):
    """Boot Partition Information. Base 2.0, 3.1.3.13."""

    BPSZ = Bits(14, 0)  # 128 KiB
    BRS = Bits(25, 24)
    ABPID = Bits(31)


class BPRSEL(Register, offset=0x44):
    """Boot Partition Read Select. Base 2.0, 3.1.3.14."""

    BPRSZ = Bits(9, 0)  # 4 KiB
    BPROF = Bits(29, 10)  # 4 KiB
    BPID = Bits(31)


class BPMBL(Register, offset=0x48, size=8):
    """Boot Partition Memory Buffer Location. Base 2.0, 3.1.3.15."""

    BMBBA = Bits(63, 12)


class CMBMSC(Register, offset=0x50, size=8):
    """Controller Memory Buffer Memory Space Control. Base 2.0, 3.1.3.16."""

    CRE = Bits(0)
    CMSE = Bits(1)
    CBA = Bits(63, 12)


class CMBSTS(Register, offset=0x58):
    """Controller Memory Buffer Status. Base 2.0, 3.1.3.17."""

    CBAI = Bits(0)


class CRTO(Register, offset=0x68):
    """Controller Ready Timeouts, in 500 ms. Base 2.0, 3.1.3.21."""

    CRWMT = Bits(15, 0)  # with media
    CRIMT = Bits(31, 16)  # independent of media


class PMRCAP(Register, offset=0xE00):
    """Persistent Memory Region Capabilities. Base 2.0, 3.1.3 "Controller Properties", as those after it."""

    RDS = Bits(3)
    WDS = Bits(4)
    BIR = Bits(7, 5)
    PMRTU = Bits(9, 8)
    PMRWBM = Bits(13, 10)
    PMRTO = Bits(23, 16)
    CMSS = Bits(24)


class PMRCTL(Register, offset=0xE04):
    """Persistent Memory Region Control."""

    EN = Bits(0)


class PMRSTS(Register, offset=0xE08):
    """Persistent Memory Region Status."""

    ERR = Bits(7, 0)
    NRDY = Bits(8)
    HSTS = Bits(11, 9)
    CBAI = Bits(12)


class PMREBS(Register, offset=0xE0C):
    """Persistent Memory Region Elasticity Buffer Size."""

    PMRSZU = Bits(3, 0)
    RBB = Bits(4)
    PMRWBZ = Bits(31, 8)


class PMRSWTP(Register, offset=0xE10):
    """Persistent Memory Region Sustained Write Throughput."""

    PMRSWTU = Bits(3, 0)
    PMRSWTV = Bits(31, 8)


class PMRMSCL(Register, offset=0xE14):
    """Persistent Memory Region Memory Space Control Lower."""

    CMSE = Bits(1)
    CBA = Bits(31, 12)


class PMRMSCU(Register, offset=0xE18):
    """Persistent Memory Region Memory Space Control Upper."""

    CBA = Bits(31, 0)


REGISTERS: tuple[type[Register], ...] = (CAP, VS, INTMS, INTMC, CC, CSTS, NSSR, AQA, ASQ, ACQ, CMBLOC, CMBSZ)
"""Those that every controller has, and the Controller Memory Buffer's."""

OPTIONAL: tuple[type[Register], ...] = (
    *(BPINFO, BPRSEL, BPMBL, CMBMSC, CMBSTS, CRTO),
    *(PMRCAP, PMRCTL, PMRSTS, PMREBS, PMRSWTP, PMRMSCL, PMRMSCU),
)
"""Those of boot partitions, ready timeouts and the memory regions: reserved where CAP does not announce them."""

BY_OFFSET = {register.OFFSET: register for register in REGISTERS}

READ_ONLY = frozenset({CAP, VS, CMBLOC, CMBSZ})
"""Registers without any bit that a host may write. CSTS is not among them: NSSRO is cleared by writing 1."""

DOORBELLS = 0x1000
"""Where the doorbells begin in BAR0. PCIe Transport 1.0, 3.1.2."""


def register_at(offset: int) -> type[Register] | None:
    """Return the register that byte ``offset`` of BAR0 lies in, or None; `OPTIONAL` ones are not looked at."""
    for register in REGISTERS:
        if register.OFFSET <= offset < register.OFFSET + register.SIZE:
            return register
    return None


def doorbell_offset(qid: int, *, completion: bool, dstrd: int) -> int:
    """Return the BAR0 offset of a queue's doorbell: 1000h + (2·qid + (0 for SQ, 1 for CQ)) · (4 << DSTRD)."""
    return DOORBELLS + (2 * qid + completion) * (4 << dstrd)


def shadow_offset(qid: int, *, completion: bool, dstrd: int) -> int:
    """Return the offset of a queue's shadow doorbell and EventIdx in their buffers. Base 2.0, 5.8."""
    return doorbell_offset(qid, completion=completion, dstrd=dstrd) - DOORBELLS


def doorbell_at(offset: int, dstrd: int) -> tuple[int, bool] | None:
    """Return (queue id, is it the completion queue's) of a doorbell offset; None if no doorbell starts there."""
    index, rest = divmod(offset - DOORBELLS, 4 << dstrd)
    return None if index < 0 or rest else (index >> 1, bool(index & 1))
