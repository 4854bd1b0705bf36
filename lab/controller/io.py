"""The I/O commands. NVM Command Set 1.0, 3.2 "NVM Command Set Commands"; Base 2.0, 7 "I/O Commands"."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.controller import transfer
from lab.controller.commands import Row
from lab.controller.namespaces import Namespace
from lab.controller.request import Failed, Request
from lab.nvme import commands as nvme
from lab.nvme.commands import BROADCAST_NSID
from lab.nvme.ranges import CopyRange, dsm_ranges
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller


def read(c: Controller, request: Request) -> int:
    """Read."""
    ns, lba, blocks = _range(c, request)
    _readable(ns, lba, blocks)
    c.logs.reads += 1
    c.logs.blocks_read += blocks * ns.block_size >> 9
    data = ns.read(lba, blocks)
    if not ns.metadata_size:
        transfer.send(c, request, data)
    elif ns.extended:
        transfer.send(c, request, _interleave(ns, data, ns.read_metadata(lba, blocks)))
    else:
        transfer.send(c, request, data)
        transfer.send_metadata(c, request, ns.read_metadata(lba, blocks))
    return 0


def write(c: Controller, request: Request) -> int:
    """Write."""
    ns, lba, blocks = _range(c, request, writing=True)
    data, metadata = _receive(c, request, ns, blocks)
    c.logs.writes += 1
    c.logs.blocks_written += blocks * ns.block_size >> 9
    _store(c, request, ns, lba, data)
    if metadata:
        ns.write_metadata(lba, metadata)
    return 0


def flush(c: Controller, request: Request) -> int:
    """Flush; with NSID FFFFFFFFh all namespaces, where VWC says so. Base 2.0, 7.1?"""
    if request.nsid == BROADCAST_NSID:
        if c.identity.VWC.FLUSH_BROADCAST == 2:
            raise Failed(Status.INVALID_NAMESPACE)
        for ns in c.attached.values():
            ns.cache.flush()
        return 0
    c.namespace(request.nsid).cache.flush()
    return 0


def compare(c: Controller, request: Request) -> int:
    """Compare."""
    ns, lba, blocks = _range(c, request)
    _readable(ns, lba, blocks)
    data, metadata = _receive(c, request, ns, blocks)
    if data != ns.read(lba, blocks) or (metadata and metadata != ns.read_metadata(lba, blocks)):
        raise Failed(Status.COMPARE_FAILURE, dnr=True)
    return 0


def write_zeroes(c: Controller, request: Request) -> int:
    """Write Zeroes."""
    ns, lba, blocks = _range(c, request, writing=True, moves_data=False)
    ns.deallocate(lba, blocks)
    return 0


def write_uncorrectable(c: Controller, request: Request) -> int:
    """Write Uncorrectable."""
    ns, lba, blocks = _range(c, request, writing=True, moves_data=False)
    ns.uncorrectable.update(range(lba, lba + blocks))
    return 0


def verify(c: Controller, request: Request) -> int:
    """Verify: there is no protection information to check, so only whether it can be read."""
    ns, lba, blocks = _range(c, request, moves_data=False)
    _readable(ns, lba, blocks)
    return 0


def dataset_management(c: Controller, request: Request) -> int:
    """Dataset Management; only Deallocate does anything."""
    command = request.command
    assert isinstance(command, nvme.DatasetManagement)
    ns = c.namespace(request.nsid)
    ranges = dsm_ranges(transfer.receive(c, request, command.data_length), command.ranges)
    for one in ranges:
        c.remark("dsm-range", sqid=request.sq.qid, cid=request.cid, slba=one.SLBA, nlb=one.LENGTH)
    for one in ranges:
        if one.SLBA + one.LENGTH > ns.blocks:
            raise Failed(Status.LBA_OUT_OF_RANGE)
    if command.AD:
        _writable(ns)
        for one in ranges:
            ns.deallocate(one.SLBA, one.LENGTH)
    return 0


def copy(c: Controller, request: Request) -> int:
    """Copy, with source ranges of format 0."""
    command = request.command
    assert isinstance(command, nvme.Copy)
    ns = c.namespace(request.nsid)
    if command.DESFMT:
        raise Failed(Status.INVALID_FIELD)
    limits = c.identify_namespace(request.nsid)
    if command.ranges > limits.MSRC + 1:
        raise Failed(Status.COMMAND_SIZE_LIMIT_EXCEEDED)
    raw = transfer.receive(c, request, command.ranges * CopyRange.SIZE)
    sources = [CopyRange(raw[at : at + CopyRange.SIZE]) for at in range(0, len(raw), CopyRange.SIZE)]
    if any(source.blocks > limits.MSSRL for source in sources) or sum(source.blocks for source in sources) > limits.MCL:
        raise Failed(Status.COMMAND_SIZE_LIMIT_EXCEEDED)
    if any(source.SLBA + source.blocks > ns.blocks for source in sources):
        raise Failed(Status.LBA_OUT_OF_RANGE)
    if command.SDLBA + sum(source.blocks for source in sources) > ns.blocks:
        raise Failed(Status.LBA_OUT_OF_RANGE)
    _writable(ns)
    for source in sources:
        _readable(ns, source.SLBA, source.blocks)
    pieces = [(ns.read(source.SLBA, source.blocks), ns.read_metadata(source.SLBA, source.blocks)) for source in sources]
    _store(c, request, ns, command.SDLBA, b"".join(data for data, _ in pieces))
    if ns.metadata_size:
        ns.write_metadata(command.SDLBA, b"".join(metadata for _, metadata in pieces))
    return 0


# -- what they share ------------------------------------------------------------------------------------------------


def _range(c: Controller, request: Request, *, writing: bool = False, moves_data: bool = True) -> tuple[Namespace, int, int]:
    """The namespace, first block and number of blocks of a command; Failed unless all of it exists."""
    command = request.command
    assert isinstance(command, nvme.LbaCommand)
    ns = c.attached.get(request.nsid) or c.namespace(request.nsid)
    lba, blocks = command.SLBA, command.NLB + 1
    if moves_data and c.max_transfer and blocks * ns.block_size > c.max_transfer:
        c.remark("mdts", sqid=request.sq.qid, cid=request.cid, bytes=blocks * ns.block_size, limit=c.max_transfer)
        raise Failed(Status.INVALID_FIELD)
    if lba + blocks > ns.blocks:
        raise Failed(Status.LBA_OUT_OF_RANGE)
    if request.mptr and (not ns.metadata_size or ns.extended or not moves_data):
        c.remark("mptr-unused", sqid=request.sq.qid, cid=request.cid, mptr=request.mptr)
    if writing:
        _writable(ns)
    return ns, lba, blocks


def _readable(ns: Namespace, lba: int, blocks: int) -> None:
    if ns.uncorrectable and ns.bad_block(lba, blocks) is not None:
        raise Failed(Status.READ_ERROR)


def _writable(ns: Namespace) -> None:
    if ns.write_protection:
        raise Failed(Status.NAMESPACE_WRITE_PROTECTED)


def _receive(c: Controller, request: Request, ns: Namespace, blocks: int) -> tuple[bytes, bytes]:
    """The command's data and metadata."""
    if not ns.metadata_size:
        return transfer.receive(c, request, blocks * ns.block_size), b""
    if not ns.extended:
        data = transfer.receive(c, request, blocks * ns.block_size)
        return data, transfer.receive_metadata(c, request, blocks * ns.metadata_size)
    both = transfer.receive(c, request, blocks * (ns.block_size + ns.metadata_size))
    step, size = ns.block_size + ns.metadata_size, ns.block_size
    starts = range(0, len(both), step)
    return b"".join([both[at : at + size] for at in starts]), b"".join([both[at + size : at + step] for at in starts])


def _interleave(ns: Namespace, data: bytes, metadata: bytes) -> bytes:
    """Blocks with their metadata behind each."""
    size, extra = ns.block_size, ns.metadata_size
    return b"".join(
        data[n * size : n * size + size] + metadata[n * extra : n * extra + extra] for n in range(len(data) // size)
    )


def _store(c: Controller, request: Request, ns: Namespace, lba: int, data: bytes) -> None:
    command = request.command
    durable = bool(getattr(command, "FUA", 0)) or not c.features.write_cache
    try:
        ns.write(lba, data, durable=durable)
    except OSError as error:
        c.remark("host-disk", nsid=ns.nsid, error=str(error))
        raise Failed(Status.INTERNAL_ERROR, dnr=False) from error


def _oncs(bit: str) -> Callable[[Controller], bool]:
    """Whether Identify's ONCS has this bit."""
    return lambda c: bool(getattr(c.identity.ONCS, bit))


COMMANDS: dict[int, Row] = {
    row.opcode: row
    for row in (
        Row(nvme.Flush, flush, LBCC=1),
        Row(nvme.Write, write, LBCC=1),
        Row(nvme.Read, read),
        Row(nvme.WriteUncorrectable, write_uncorrectable, supported=_oncs("WRITE_UNCORRECTABLE"), LBCC=1),
        Row(nvme.Compare, compare, supported=_oncs("COMPARE")),
        Row(nvme.WriteZeroes, write_zeroes, supported=_oncs("WRITE_ZEROES"), LBCC=1),
        Row(nvme.DatasetManagement, dataset_management, supported=_oncs("DATASET_MANAGEMENT"), LBCC=1),
        Row(nvme.Verify, verify, supported=_oncs("VERIFY")),
        Row(nvme.Copy, copy, supported=_oncs("COPY"), LBCC=1),
    )
}
"""Opcode to command."""
