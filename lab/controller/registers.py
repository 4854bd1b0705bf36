"""The register file below the doorbells. Base 2.0, 3.1.3 "Controller Properties", 3.5 "Controller Initialization".

It holds the values and knows which writes mean something; what then happens is its `RegisterOwner`'s. A host that breaks a
rule is answered as the specification says, where it does, and remarked upon in any case.
"""

from __future__ import annotations

from typing import Protocol

from lab.nvme.registers import (
    ACQ,
    AQA,
    ASQ,
    CAP,
    CC,
    CMBLOC,
    CMBMSC,
    CMBSTS,
    CMBSZ,
    CRTO,
    CSTS,
    INTMC,
    INTMS,
    NSSR,
    READ_ONLY,
    VS,
    register_at,
)

NSSR_MAGIC = 0x4E564D65
"""What resets the NVM subsystem when written to NSSR: "NVMe". Base 2.0, 3.1.3.7."""
CSS_NVM, CSS_ALL, CSS_ADMIN_ONLY = 0b000, 0b110, 0b111
"""CC.CSS: the NVM command set, all supported ones, none. Base 2.0, 3.1.3.5."""
SHST_PROCESSING, SHST_COMPLETE = 0b01, 0b10
"""CSTS.SHST: shutdown processing occurring, and complete. Base 2.0, 3.1.3.6."""

_FROZEN = CC.of(CSS=7, MPS=15, AMS=7, CRIME=1)  # what CC.EN=1 freezes
_ENTRY_SIZES = CC.of(IOSQES=15, IOCQES=15)


class RegisterOwner(Protocol):
    """What a register file reports to."""

    def remark(self, rule: str, **values: object) -> None:
        """Record that the host broke a rule."""

    def ignores_enable(self) -> bool:
        """Return whether CC.EN=1 has no effect now."""

    def enable(self) -> None:
        """Begin to become ready: CC.EN went from 0 to 1, with settings that the controller can work with."""

    def disable(self) -> None:
        """Reset: CC.EN went from 1 to 0."""

    def shut_down(self) -> None:
        """Shut down: CC.SHN asks for it."""

    def reset_subsystem(self) -> None:
        """Reset the subsystem: NSSR was written with its magic."""

    def masks_changed(self) -> None:
        """Signal what was held back: INTMS or INTMC was written."""

    def place_memory(self) -> bool:
        """Put the controller memory buffer where CMBMSC says, or nowhere; return whether it can be there."""


class RegisterFile:
    """The controller's registers by value; ``cap`` and ``vs`` are what the device was made with."""

    def __init__(self, cap: CAP, vs: VS, crto: CRTO, owner: RegisterOwner, *, cmbloc: CMBLOC, cmbsz: CMBSZ) -> None:
        """Begin with the values after power-on; ``owner`` acts on what is written."""
        self.cap, self.vs, self.crto = cap, vs, crto
        self._cmbloc, self._cmbsz = cmbloc, cmbsz
        self._owner = owner
        self.msix = False
        """MSI-X is on: the interrupt mask registers are not the host's to touch."""
        self.io_queues_exist = False
        self.forget()

    def forget(self) -> None:
        """Set every register as after power-on, AQA, ASQ and ACQ too."""
        self.aqa, self.asq, self.acq = AQA(), ASQ(), ACQ()
        self.cmbmsc, self.cmbsts = CMBMSC(), CMBSTS()
        self.nssro = 0
        self.reset()

    def reset(self) -> None:
        """Set the registers as after a Controller Level Reset by CC.EN: AQA, ASQ, ACQ and CMBMSC are kept. Base 2.0, 3.7.2."""
        self.intms = 0
        self.cc = CC()
        self.csts = CSTS()

    @property
    def page_size(self) -> int:
        """Bytes of a memory page."""
        return 4096 << self.cc.MPS

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Return the ``size`` bytes at ``offset``; bytes that are no register's are zero."""
        register = register_at(offset)
        wide = (register is not None and register.SIZE == 8) or self._is_memory_control(offset)
        spans = size == 8 and not wide  # it lies over two registers
        if spans or size not in (4, 8) or offset % size:
            self._owner.remark("register-width", offset=offset, size=size, write=False)
        if self.msix and offset & ~3 in (INTMS.OFFSET, INTMC.OFFSET):
            name = "INTMS" if offset & ~3 == INTMS.OFFSET else "INTMC"
            self._owner.remark("interrupt-mask-under-msix", register=name, read=True)
        value = 0
        for at in range(offset & ~3, offset + size, 4):
            value |= self._dword(at) << 8 * (at - (offset & ~3))
        return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def _dword(self, offset: int) -> int:
        match offset:
            case CAP.OFFSET:
                return int(self.cap) & 0xFFFF_FFFF
            case 0x04:
                return int(self.cap) >> 32
            case VS.OFFSET:
                return int(self.vs)
            case INTMS.OFFSET | INTMC.OFFSET:
                return self.intms
            case CC.OFFSET:
                return int(self.cc)
            case CSTS.OFFSET:
                return int(self.csts) | self.nssro << 4
            case AQA.OFFSET:
                return int(self.aqa)
            case 0x28:
                return int(self.asq) & 0xFFFF_FFFF
            case 0x2C:
                return int(self.asq) >> 32
            case 0x30:
                return int(self.acq) & 0xFFFF_FFFF
            case 0x34:
                return int(self.acq) >> 32
            case CRTO.OFFSET:
                return int(self.crto)
            case CMBLOC.OFFSET:
                return int(self._cmbloc) if self.cmbmsc.CRE else 0
            case CMBSZ.OFFSET:
                return int(self._cmbsz) if self.cmbmsc.CRE else 0
            case CMBMSC.OFFSET:
                return int(self.cmbmsc) & 0xFFFF_FFFF
            case 0x54:
                return int(self.cmbmsc) >> 32
            case CMBSTS.OFFSET:
                return int(self.cmbsts)
        return 0

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes; other widths than 4 and 8 are ignored. Base 2.0, 3.1.3: they give undefined results."""
        if size not in (4, 8) or offset % size:
            self._owner.remark("register-width", offset=offset, size=size, write=True)
            return
        if size == 4:
            self._write(offset, value)
            return
        register = register_at(offset)
        if (register is None or register.SIZE != 8) and not self._is_memory_control(offset):
            self._owner.remark("register-width", offset=offset, size=size, write=True)
        self._write(offset, value & 0xFFFF_FFFF)
        self._write(offset + 4, value >> 32)

    def _write(self, offset: int, value: int) -> None:
        register = register_at(offset)
        if self._is_memory_control(offset):
            self._write_memory_control(offset, value)
        elif register is None:
            self._owner.remark("reserved-register", offset=offset, value=value)
        elif register in READ_ONLY:
            self._owner.remark("read-only-register", register=register.__name__, value=value)
        elif register is CC:
            self._write_cc(CC(value))
        elif register is CSTS:
            self._write_csts(value)
        elif register is INTMS or register is INTMC:
            self._write_mask(register is INTMS, value)
        elif register is NSSR:
            self._write_nssr(value)
        else:
            self._write_admin_queue(offset, value)

    def _write_admin_queue(self, offset: int, value: int) -> None:
        """Take AQA, ASQ and ACQ, at any time; they are used at the next enabling."""
        if self.cc.EN:
            self._owner.remark("admin-queue-while-enabled", offset=offset, value=value)
        if offset == AQA.OFFSET:
            self.aqa = AQA(value)
            return
        high = offset & 4
        old = int(self.asq if offset < ACQ.OFFSET else self.acq)
        new = old & 0xFFFF_FFFF | value << 32 if high else old & ~0xFFFF_FFFF | value
        if offset < ACQ.OFFSET:
            self.asq = ASQ(new)
        else:
            self.acq = ACQ(new)

    def _is_memory_control(self, offset: int) -> bool:
        return bool(self.cap.CMBS) and CMBMSC.OFFSET <= offset < CMBMSC.OFFSET + CMBMSC.SIZE

    def _write_memory_control(self, offset: int, value: int) -> None:
        """Take a half of CMBMSC, and move the controller memory buffer. Base 2.0, 3.1.3.16 and 3.1.3.17."""
        old = int(self.cmbmsc)
        high = offset != CMBMSC.OFFSET
        self.cmbmsc = CMBMSC(old & 0xFFFF_FFFF | value << 32 if high else old & ~0xFFFF_FFFF | value)
        if not high:  # which enables, so it is written last
            self.cmbsts = CMBSTS.of(CBAI=not self._owner.place_memory())

    def _write_csts(self, value: int) -> None:
        """Clear NSSRO where it is written with 1; nothing else can be written. Base 2.0, 3.1.3.6."""
        if value & ~CSTS.of(NSSRO=1) or not self.cap.NSSRS:
            self._owner.remark("read-only-register", register="CSTS", value=value)
        if value & CSTS.of(NSSRO=1):
            self.nssro = 0

    def _write_mask(self, mask: bool, value: int) -> None:
        """Take INTMS or INTMC. Base 2.0, 3.1.3.3: the host shall not access them under MSI-X."""
        if self.msix:
            self._owner.remark("interrupt-mask-under-msix", register="INTMS" if mask else "INTMC", value=value)
            return
        self.intms = self.intms | value if mask else self.intms & ~value
        self._owner.masks_changed()

    def _write_nssr(self, value: int) -> None:
        if self.cap.NSSRS and value == NSSR_MAGIC:
            self._owner.reset_subsystem()
        else:
            self._owner.remark("nssr", value=value, supported=bool(self.cap.NSSRS))

    def _write_cc(self, new: CC) -> None:
        old = self.cc
        if new.reserved:
            self._owner.remark("cc-reserved", value=int(new), bits=new.reserved)
        if old.EN and new.EN:
            self._check_frozen(old, new)
            # what is frozen stays as it was: the queues that exist live by it
            new = CC(int(new) & ~_FROZEN | int(old) & _FROZEN)
        if new.EN and not old.EN and self._owner.ignores_enable():
            new = new.but(EN=0)
        self.cc = new
        if new.EN and not old.EN:
            self.csts = CSTS(self.csts & ~CSTS.of(SHST=3)) if not new.SHN else self.csts
            problem = self._problem()
            if problem:
                self._owner.remark("enable-invalid", why=problem, cc=int(new), aqa=int(self.aqa),
                                   asq=int(self.asq), acq=int(self.acq))  # fmt: skip
                self.csts = self.csts.but(CFS=1)
            else:
                self._owner.enable()
        elif old.EN and not new.EN:
            self._owner.disable()
        if new.SHN and not old.SHN:
            if not old.EN:
                self._owner.remark("shutdown-while-disabled", value=int(new))
            self._owner.shut_down()

    def _check_frozen(self, old: CC, new: CC) -> None:
        changed = int(old) ^ int(new)
        if changed & _FROZEN or (self.io_queues_exist and changed & _ENTRY_SIZES):
            self._owner.remark("cc-changed-while-enabled", old=int(old), new=int(new))

    def _problem(self) -> str:
        """Return why the controller cannot be enabled like this; "" if it can. Base 2.0, 3.1.3.5 and 3.1.3.8."""
        cc, page = self.cc, self.page_size
        if self.csts.RDY:
            return "CC.EN is set before CSTS.RDY is 0"
        if not self.cap.MPSMIN <= cc.MPS <= self.cap.MPSMAX:
            return f"CC.MPS {cc.MPS} is not within CAP.MPSMIN {self.cap.MPSMIN} and CAP.MPSMAX {self.cap.MPSMAX}"
        if not self._css_supported(cc.CSS):
            return f"CC.CSS {cc.CSS:03b}b is not supported by CAP.CSS {self.cap.CSS:08b}b"
        if not self._ams_supported(cc.AMS):
            return f"CC.AMS {cc.AMS:03b}b is not supported by CAP.AMS {self.cap.AMS:02b}b"
        if not self.aqa.ASQS or not self.aqa.ACQS:
            return f"AQA {int(self.aqa):#x} asks for an admin queue of one entry"
        if self.aqa.reserved:
            return f"AQA {int(self.aqa):#x} has reserved bits set"
        for name, base in (("ASQ", int(self.asq)), ("ACQ", int(self.acq))):
            if base % page:
                return f"{name} {base:#x} is not aligned to the memory page of {page} bytes"
        return ""

    def _ams_supported(self, ams: int) -> bool:
        """Return whether an arbitration is there: round robin always, weighted and the vendor's own as CAP says."""
        return ams == 0b000 or (ams == 0b001 and bool(self.cap.AMS & 1)) or (ams == 0b111 and bool(self.cap.AMS & 2))

    def _css_supported(self, css: int) -> bool:
        needed = {CSS_NVM: 1 << 0, CSS_ALL: 1 << 6, CSS_ADMIN_ONLY: 1 << 7}
        return bool(self.cap.CSS & needed.get(css, 0))
