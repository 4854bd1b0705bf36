"""Which fields of a command QEMU's trace shows as the device itself read them.

An entry says: under this trace event, this field of `lab.nvme.commands` is that parameter of the event. All other bytes of a
command are sampled from guest memory, or zero where that cannot be read. From hw/nvme/ctrl.c of QEMU 7.2 and 11.1:

    every command          OPC CID; I/O commands also NSID; PRP1 and PRP2 as soon as data is mapped by PRP
    Read Write Write Zeroes Compare Verify          SLBA NLB
    Dataset Management     NR CDW11 (IDR IDW AD)            Copy              NR DESFMT
    Identify               CNS CNTID CSI; NSID where the CNS takes one
    Get Log Page           LID RAE NUMDL NUMDU LPOL LPOU (NUMDU modulo 4000h: the device counts bytes in 32 bits)
    Get, Set Features      NSID FID CDW11, and SEL or SV
    Create I/O SQ          PRP1 QID QSIZE PC QPRIO CQID     Delete I/O SQ     QID
    Create I/O CQ          PRP1 QID QSIZE PC IEN IV         Delete I/O CQ     QID
    Namespace Attachment   SEL                              Doorbell Buffer Config  PRP1 PRP2
    Virtualization Mgmt.   ACT CNTLID NR
    completions            CID DW0 DW1 SC SCT CRD M DNR; SQID where only one queue can have sent the command

Never exact, so never a reason to fail a driver on this device: FUSE, PSDT, MPTR, reserved bits, FUA, the rest of CDW12 to
CDW15, PRP2 of a command that moves nothing, a completion's SQHD and P.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

Transform: TypeAlias = Callable[[int], int]
Source: TypeAlias = tuple[str, Transform]
"""A parameter of the trace event, and how the field's value comes from it."""


def _same(parameter: str) -> Source:
    return parameter, int


def _bits(parameter: str, high: int, low: int) -> Source:
    return parameter, lambda value: value >> low & (1 << high - low + 1) - 1


def _zeros_based(parameter: str) -> Source:
    return parameter, lambda value: value - 1


def _dwords(high: int, low: int) -> Source:
    """Return bits of a number of dwords, 0's based, from a length in bytes (a C uint32_t, which wraps)."""
    return "len", lambda value: ((value >> 2) - 1 & 0x3FFF_FFFF) >> low & (1 << high - low + 1) - 1


_RANGE = {"SLBA": _same("slba"), "NLB": _zeros_based("nlb")}
_NAMED_LBA = {"SLBA": _same("lba"), "NLB": _zeros_based("nlb")}
_NSID = {"NSID": _same("ns")}
_QUEUE = {"PC": _bits("qflags", 0, 0)}

FIELDS: Mapping[str, Mapping[str, Source]] = {
    "pci_nvme_io_cmd": {"CID": _same("cid"), "OPC": _same("opcode"), "NSID": _same("nsid")},
    "pci_nvme_admin_cmd": {"CID": _same("cid"), "OPC": _same("opcode")},
    "pci_nvme_map_prp": {"PRP1": _same("prp1"), "PRP2": _same("prp2")},
    "pci_nvme_read": _NAMED_LBA,
    "pci_nvme_write": _NAMED_LBA,
    "pci_nvme_compare": _RANGE,
    "pci_nvme_verify": _RANGE,
    "pci_nvme_copy": {"NR": _zeros_based("nr"), "DESFMT": _same("format")},
    "pci_nvme_dsm": {
        "NR": _zeros_based("nr"),
        "CDW11": _same("attr"),
        "IDR": _bits("attr", 0, 0),
        "IDW": _bits("attr", 1, 1),
        "AD": _bits("attr", 2, 2),
    },
    "pci_nvme_identify": {"CNS": _same("cns"), "CNTID": _same("ctrlid"), "CSI": _same("csi")},
    "pci_nvme_identify_ns": _NSID,
    "pci_nvme_identify_ns_csi": _NSID,
    "pci_nvme_identify_ns_ind": {"NSID": _same("nsid")},
    "pci_nvme_identify_nslist": _NSID,
    "pci_nvme_identify_ns_descr_list": _NSID,
    "pci_nvme_get_log": {
        "LID": _same("lid"),
        "RAE": _same("rae"),
        "NUMDL": _dwords(15, 0),
        "NUMDU": _dwords(29, 16),
        "LPOL": _bits("off", 31, 0),
        "LPOU": _bits("off", 63, 32),
    },
    "pci_nvme_getfeat": {"NSID": _same("nsid"), "FID": _same("fid"), "SEL": _same("sel"), "CDW11": _same("cdw11")},
    "pci_nvme_setfeat": {"NSID": _same("nsid"), "FID": _same("fid"), "SV": _same("save"), "CDW11": _same("cdw11")},
    "pci_nvme_create_sq": _QUEUE
    | {
        "PRP1": _same("addr"),
        "QID": _same("sqid"),
        "QSIZE": _same("qsize"),
        "QPRIO": _bits("qflags", 2, 1),
        "CQID": _same("cqid"),
    },
    "pci_nvme_create_cq": _QUEUE
    | {"PRP1": _same("addr"), "QID": _same("cqid"), "QSIZE": _same("size"), "IEN": _same("ien"), "IV": _same("vector")},
    "pci_nvme_del_sq": {"QID": _same("qid")},
    "pci_nvme_err_invalid_del_sq": {"QID": _same("qid")},
    "pci_nvme_del_cq": {"QID": _same("cqid")},
    "pci_nvme_err_invalid_del_cq_cqid": {"QID": _same("cqid")},
    "pci_nvme_err_invalid_del_cq_notempty": {"QID": _same("cqid")},
    "pci_nvme_aer": {"CID": _same("cid")},
    "pci_nvme_ns_attachment": {"SEL": _bits("sel", 3, 0)},
    "pci_nvme_dbbuf_config": {"PRP1": _same("dbs_addr"), "PRP2": _same("eis_addr")},
    "pci_nvme_virt_mngmt": {"ACT": _same("act"), "CNTLID": _same("cntlid"), "NR": _same("nr")},
}

ONLY_FIELDS = frozenset(name for name in FIELDS if not name.startswith("pci_nvme_err_"))
"""The events that say nothing beyond the fields of a command, and so become part of its `Submitted`."""

ECHOES = frozenset(
    f"pci_nvme_mmio_{what}"
    for what in (
        "doorbell_sq", "doorbell_cq", "intm_set", "intm_clr", "cfg", "aqattr",
        "asqaddr", "asqaddr_hi", "acqaddr", "acqaddr_hi",
    )
)  # fmt: skip
"""The events that repeat, in words, the register or doorbell write just before them."""


def fields(event: str, args: Mapping[str, int | str]) -> dict[str, int]:
    """Return command field to exact value, as this trace event shows it."""
    found = {}
    for name, (parameter, transform) in FIELDS.get(event, {}).items():
        value = args.get(parameter)
        if isinstance(value, int):
            found[name] = transform(value)
    return found
