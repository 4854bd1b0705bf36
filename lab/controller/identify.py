"""What the controller answers to Identify: built from the DeviceSpec, every field of it can be overridden by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from lab.controller.namespaces import FORMATS, StoredNamespace
from lab.controller.pci import DEFAULTS
from lab.controller.zones import Zones
from lab.data.plan import Controller as Spec
from lab.errors import UsageError
from lab.nvme.identify import (
    Cmic,
    Ctratt,
    Dlfeat,
    Dpc,
    Dps,
    EntrySize,
    Flbas,
    Fna,
    Frmw,
    IdentifyController,
    IdentifyControllerNvm,
    IdentifyNamespace,
    LbaFormat,
    Lpa,
    Mc,
    Nmic,
    Nwpc,
    Oacs,
    Oaes,
    Oncs,
    PowerState,
    Sgls,
    Vwc,
)
from lab.nvme.logs import KELVIN
from lab.nvme.registers import CAP, CRTO, VS
from lab.nvme.zones import IdentifyNamespaceZoned, LbaFormatExtension

V1_4 = VS.of(MJR=1, MNR=4)
DEFAULT_VERSION = "1.4"
MODEL = "NVMe Lab Programmable Controller"
FIRMWARE = "1.0"
_PROTECTION_LAST = 1 << 4  # of DPC: protection information is the last bytes of the metadata
COPY_RANGES = 128
COPY_BLOCKS = 128
"""Source ranges of one Copy, and blocks of one of them, at most."""
WARNING_CELSIUS, CRITICAL_CELSIUS = 70, 100

NVM_SET, SEVERAL_SETS, _NO_IO_COMMAND_SET = 1 << 0, 1 << 6, 1 << 7
"""Bits of CAP.CSS."""
_INDEPENDENT_OF_MEDIA = 1 << 1  # of CAP.CRMS
_CAP = {"MQES": 2047, "CQR": 1, "TO": 15, "CSS": 1, "MPSMAX": 4}
S = TypeVar("S", IdentifyController, IdentifyControllerNvm, IdentifyNamespace, CAP, CRTO)


def version(spec: Spec) -> VS:
    """Return VS of the device; UsageError if the specification's version is no number like 1.4 or 1.2.1."""
    text = spec.version or DEFAULT_VERSION
    try:
        major, minor, *rest = (int(part) for part in text.split("."))
        return VS.of(MJR=major, MNR=minor, TER=rest[0] if rest else 0)
    except ValueError as error:
        raise UsageError(f"controller {spec.id}: version {text!r} is not of the form 1.4 or 1.2.1") from error


def capabilities(spec: Spec) -> CAP:
    """Return CAP of the device; UsageError for fields that do not fit, or contradict each other."""
    ready_modes = {"CRMS": 1} if version(spec) >= VS.of(MJR=2) else {}
    memory = {"CMBS": 1} if spec.controller_memory else {}
    sets = {"CSS": NVM_SET | SEVERAL_SETS} if any(namespace.zone_blocks for namespace in spec.namespaces) else {}
    cap = _with(CAP.of(**{**_CAP, **ready_modes, **memory, **sets}), spec.cap, f"controller {spec.id}: cap")
    if cap.CSS & _NO_IO_COMMAND_SET and cap.CSS != _NO_IO_COMMAND_SET:
        raise UsageError(
            f"controller {spec.id}: cap: CSS {cap.CSS:#04x} says that there is no I/O command set, and that there are some",
            remedy="give 0x80 alone, or leave bit 7 out (Base 2.0, 3.1.3.1)",
        )
    return cap


def ready_timeouts(spec: Spec) -> CRTO:
    """Return CRTO of the device: 0 before 2.0, as CAP.CRMS is. UsageError for fields that do not fit."""
    cap = capabilities(spec)
    media = {"CRWMT": cap.TO} if cap.CRMS else {}
    independent = {"CRIMT": cap.TO} if cap.CRMS & _INDEPENDENT_OF_MEDIA else {}
    return _with(CRTO.of(**media, **independent), spec.crto, f"controller {spec.id}: crto")


def nvm_limits(spec: Spec) -> IdentifyControllerNvm:
    """Return the NVM command set's Identify Controller (CNS 06h); UsageError for fields that do not fit."""
    return _with(IdentifyControllerNvm(), spec.identify_nvm, f"controller {spec.id}: identify_nvm")


def controller(spec: Spec, cntlid: int, siblings: int, namespaces: int, capacity: int) -> IdentifyController:
    """Return Identify Controller.

    ``siblings``: controllers of its subsystem; ``namespaces``: the highest namespace id; ``capacity``: bytes of its NVM.
    """
    pci = {**DEFAULTS, **spec.pci}
    plain = IdentifyController.of(
        VID=pci["vendor"], SSVID=pci["subsystem_vendor"], SN=spec.serial, MN=MODEL, FR=FIRMWARE, RAB=6, IEEE=b"\x00\x54\x52",
        CMIC=Cmic.of(MULTI_CONTROLLER=siblings > 1), MDTS=spec.mdts, CNTLID=cntlid, VER=version(spec),
        OAES=Oaes.of(NAMESPACE_ATTRIBUTE=1), CTRATT=Ctratt.of(HOST_ID_128=1), CNTRLTYPE=1,
        OACS=Oacs.of(FORMAT=1, NAMESPACE_MANAGEMENT=1, DOORBELL_BUFFER=spec.shadow_doorbells), ACL=3, AERL=3,
        FRMW=Frmw.of(SLOT_1_READ_ONLY=1, SLOTS=1), LPA=Lpa.of(COMMANDS_SUPPORTED=1, EXTENDED_DATA=1), ELPE=63,
        WCTEMP=WARNING_CELSIUS + KELVIN, CCTEMP=CRITICAL_CELSIUS + KELVIN,
        SQES=EntrySize.of(REQUIRED=6, MAXIMUM=6), CQES=EntrySize.of(REQUIRED=4, MAXIMUM=4), NN=namespaces,
        ONCS=Oncs.of(COMPARE=1, WRITE_UNCORRECTABLE=1, DATASET_MANAGEMENT=1, WRITE_ZEROES=1, SAVE_AND_SELECT=1, TIMESTAMP=1,
                     VERIFY=1, COPY=1),
        FNA=Fna.of(CRYPTO_ERASE=1), NWPC=Nwpc.of(WRITE_PROTECT=1),
        VWC=Vwc.of(PRESENT=spec.write_cache, FLUSH_BROADCAST=3 if version(spec) >= V1_4 else 0), TNVMCAP=capacity,
        OCFS=1, SGLS=Sgls.of(SUPPORT=spec.sgl, BIT_BUCKET=spec.sgl), SUBNQN=f"nqn.2026-01.org.example:nvme-lab:{spec.serial}",
        PSD=(PowerState.of(MP=2500, ENLAT=16, EXLAT=4),),
    )  # fmt: skip
    return _with(plain, spec.identify, f"controller {spec.id}: identify")


def namespace(spec: Spec, ns: StoredNamespace) -> IdentifyNamespace:
    """Return Identify Namespace of an active namespace."""
    index = ns.format_index
    plain = IdentifyNamespace.of(
        NSZE=ns.blocks, NCAP=_capacity(ns), NUSE=_capacity(ns), NLBAF=len(ns.formats) - 1,
        FLBAS=Flbas.of(LOW=index & 15, HIGH=index >> 4, EXTENDED=ns.extended), MC=Mc.of(EXTENDED=1, SEPARATE=1),
        DPC=Dpc(_PROTECTION_LAST | 1 << ns.protection - 1 if ns.protection else 0), DPS=Dps.of(TYPE=ns.protection),
        NMIC=Nmic.of(SHARED=ns.spec.shared), DLFEAT=Dlfeat.of(READ=1, WRITE_ZEROES=1),
        NVMCAP=ns.blocks * ns.block_size, MSSRL=COPY_BLOCKS, MCL=COPY_BLOCKS * COPY_RANGES, MSRC=COPY_RANGES - 1,
        NGUID=ns.nguid or b"", EUI64=ns.eui64 or b"", LBAF=ns.formats,
    )  # fmt: skip
    return _with(plain, spec.identify_namespace, f"controller {spec.id}: identify_namespace")


def _capacity(ns: StoredNamespace) -> int:
    """Return the blocks that can be written."""
    return ns.blocks if ns.zones is None else len(ns.zones.all) * ns.zones.capacity


def zoned_namespace(ns: StoredNamespace, zones: Zones) -> IdentifyNamespaceZoned:
    """Return the zoned namespace command set's Identify Namespace. Zoned Namespace Command Set 1.1, 4.1.5.1."""
    extensions = [LbaFormatExtension.of(ZSZE=ns.zone_blocks(one)) for one in ns.formats]
    return IdentifyNamespaceZoned.of(**zones.limits, LBAFE=extensions)


def common_namespace(spec: Spec) -> IdentifyNamespace:
    """Return what all namespaces that can be created have in common, also where there is none now. Base 2.0, 5.17.2.1."""
    offered = formats(spec)
    plain = IdentifyNamespace.of(
        NLBAF=len(offered) - 1, MC=Mc.of(EXTENDED=1, SEPARATE=1), DLFEAT=Dlfeat.of(READ=1, WRITE_ZEROES=1),
        MSSRL=COPY_BLOCKS, MCL=COPY_BLOCKS * COPY_RANGES, MSRC=COPY_RANGES - 1, LBAF=offered,
    )  # fmt: skip
    common = _with(plain, spec.identify_namespace, f"controller {spec.id}: identify_namespace")
    return common.but(NSZE=0, NCAP=0, NUSE=0, NVMCAP=0, FLBAS=0, NMIC=0, NGUID=b"", EUI64=b"")


def formats(spec: Spec) -> tuple[LbaFormat, ...]:
    """Return the LBA formats that the namespaces of a controller offer."""
    overridden = tuple(LbaFormat(bits) for bits in spec.identify_namespace.get("LBAF", ()))
    return tuple(one for one in overridden if one.LBADS) or FORMATS


def _with(plain: S, overrides: Mapping[str, Any], where: str) -> S:
    """Return the structure with fields set by name; bytes may be hexadecimal text. UsageError for what does not fit."""
    try:
        values = {
            name: bytes.fromhex(value) if isinstance(value, str) and type(plain.FIELDS.get(name)).__name__ == "Raw" else value
            for name, value in overrides.items()
        }
        return plain.but(**values)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
