"""Requests for the usual commands. Numbers of blocks and dwords are counts as people count; 0's based fields are made here.

NVM Command Set 1.0, 3.2; Base 2.0, 5. ``zeros_based`` is the only place where the one is taken off.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.nvme import commands as nvme
from lab.nvme.commands import Command, Queue
from lab.nvme.ranges import DsmRange
from lab.passthrough.request import Request

PAGE = 4096
"""Bytes that Identify returns."""


def zeros_based(count: int, bits: int, what: str) -> int:
    """Return the field for a count of 1 to 2**bits; ValueError for a count that it cannot hold."""
    if not 1 <= count <= 1 << bits:
        raise ValueError(f"{what} is {count}; a command carries 1 to {1 << bits}")
    return count - 1


# -- admin -----------------------------------------------------------------------------------------------------------


def identify(cns: int = 1, nsid: int = 0, **fields: int) -> Request:
    """Return Identify; ``fields`` are further fields of `lab.nvme.commands.Identify`."""
    return Request(nvme.Identify.of(CNS=cns, NSID=nsid, **fields), "admin", length=PAGE)


def get_log_page(lid: int, length: int, offset: int = 0, nsid: int = nvme.BROADCAST_NSID, **fields: int) -> Request:
    """Return Get Log Page for ``length`` bytes, a multiple of 4, from byte ``offset``."""
    return Request(nvme.GetLogPage.reading(lid, length, offset, NSID=nsid, **fields), "admin", length=length)


def firmware_download(data: bytes, offset: int = 0) -> Request:
    """Return Firmware Image Download of a part of an image, from byte ``offset`` on; both are multiples of 4 bytes."""
    if offset % 4 or len(data) % 4:
        raise ValueError(f"firmware is downloaded in dwords, not {len(data)} bytes from byte {offset}")
    numd = zeros_based(len(data) // 4, 32, "the number of dwords")
    return Request(nvme.FirmwareDownload.of(NUMD=numd, OFST=offset // 4), "admin", data=data)


def firmware_commit(slot: int, action: int) -> Request:
    """Return Firmware Commit; ``action`` is the field CA (Base 2.0, 5.12), such as 1: into the slot, active after reset."""
    return Request(nvme.FirmwareCommit.of(FS=slot, CA=action), "admin")


def format_nvm(nsid: int, lba_format: int = 0, **fields: int) -> Request:
    """Return Format NVM: everything in the namespace is lost."""
    command = nvme.FormatNvm.of(NSID=nsid, LBAFL=lba_format & 0xF, LBAFU=lba_format >> 4, **fields)
    return Request(command, "admin", timeout_ms=600_000)


# -- I/O -------------------------------------------------------------------------------------------------------------


def read(nsid: int, lba: int, blocks: int, block_size: int, *, metadata_size: int = 0, **fields: int) -> Request:
    """Return Read of ``blocks`` blocks; ``metadata_size`` bytes a block come in a buffer of their own."""
    command = nvme.Read.of(NSID=nsid, SLBA=lba, NLB=zeros_based(blocks, 16, "the number of blocks"), **fields)
    return Request(command, "io", length=blocks * block_size, metadata_length=blocks * metadata_size)


def write(nsid: int, lba: int, data: bytes, block_size: int, *, metadata: bytes = b"", **fields: int) -> Request:
    """Return Write of whole blocks."""
    return Request(_of_data(nvme.Write, nsid, lba, data, block_size, fields), "io", data=data, metadata=metadata)


def compare(nsid: int, lba: int, data: bytes, block_size: int, *, metadata: bytes = b"", **fields: int) -> Request:
    """Return Compare with whole blocks: the controller answers Compare Failure (SCT 2h, SC 85h) where they differ."""
    return Request(_of_data(nvme.Compare, nsid, lba, data, block_size, fields), "io", data=data, metadata=metadata)


def write_zeroes(nsid: int, lba: int, blocks: int, **fields: int) -> Request:
    """Return Write Zeroes of ``blocks`` blocks, which moves no data."""
    command = nvme.WriteZeroes.of(NSID=nsid, SLBA=lba, NLB=zeros_based(blocks, 16, "the number of blocks"), **fields)
    return Request(command, "io")


def dataset_management(nsid: int, ranges: Iterable[tuple[int, int]], *, deallocate: bool = True) -> Request:
    """Return Dataset Management for (first LBA, blocks) ranges; their lengths are the one count that is not 0's based."""
    table = b"".join(DsmRange.of(SLBA=lba, LENGTH=blocks) for lba, blocks in ranges)
    count = zeros_based(len(table) // DsmRange.SIZE, 8, "the number of ranges")
    return Request(nvme.DatasetManagement.of(NSID=nsid, NR=count, AD=int(deallocate)), "io", data=table)


def flush(nsid: int) -> Request:
    """Return a request for Flush of one namespace (NVM Command Set 1.0)."""
    return Request(nvme.Flush.of(NSID=nsid), "io")


def vendor(queue: Queue, opcode: int, *, nsid: int = 0, data: bytes = b"", length: int = 0, **dwords: int) -> Request:
    """Return a vendor specific command with dwords by name (CDW2, CDW10 …).

    Vendor specific are C0h to FFh on the admin queue and 80h to FFh on I/O queues (Base 2.0, 5 and 7).
    """
    lowest = 0xC0 if queue == "admin" else 0x80
    if not lowest <= opcode <= 0xFF:
        raise ValueError(f"opcode {opcode:02X}h is not vendor specific on an {queue} queue: {lowest:02X}h to FFh are")
    return Request(Command.of(OPC=opcode, NSID=nsid, **dwords), queue, data=data, length=length)


def _of_data(kind: type[Command], nsid: int, lba: int, data: bytes, block_size: int, fields: dict[str, int]) -> Command:
    if not data or len(data) % block_size:
        raise ValueError(f"{len(data)} bytes are no whole number of blocks of {block_size} bytes")
    blocks = zeros_based(len(data) // block_size, 16, "the number of blocks")
    return kind.of(NSID=nsid, SLBA=lba, NLB=blocks, **fields)
