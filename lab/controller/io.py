"""The I/O commands. NVM Command Set 1.0, 3.2 "NVM Command Set Commands"; Base 2.0, 7 "I/O Commands"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lab.controller import protection, reservations, transfer
from lab.controller.commands import CommandRow, table
from lab.controller.core import Core
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.identify import nvm_limits
from lab.controller.namespaces import StoredNamespace
from lab.controller.parts import Parts
from lab.nvme import commands as nvme
from lab.nvme.commands import BROADCAST_NSID
from lab.nvme.identify import IdentifyControllerNvm
from lab.nvme.ranges import CopyRange, DsmRange, dsm_ranges
from lab.nvme.status import Status

PROTECTED = (nvme.Read, nvme.Write)
"""Commands whose PRINFO may leave the metadata in the controller."""


def read(parts: Parts, request: FetchedCommand, command: nvme.Read) -> int:
    """Execute Read."""
    ns, lba, blocks = _range(parts, request, command)
    _readable(ns, lba, blocks)
    parts.logs.count(ns.nsid, "read", blocks * ns.block_size)
    data = ns.read(lba, blocks)
    if not ns.metadata_size:
        transfer.send(parts.core, request, data)
        return 0
    metadata = _checked(ns, command, data, ns.read_metadata(lba, blocks))
    if protection.strips(ns, command):
        transfer.send(parts.core, request, data)
    elif ns.extended:
        transfer.send(parts.core, request, _interleave(ns, data, metadata))
    else:
        transfer.send(parts.core, request, data)
        transfer.send_metadata(parts.core, request, metadata)
    return 0


def write(parts: Parts, request: FetchedCommand, command: nvme.Write) -> int:
    """Execute Write."""
    ns, lba, blocks = _range(parts, request, command, writing=True)
    if protection.strips(ns, command):
        protection.check_command(ns, command)
        data = transfer.receive(parts.core, request, blocks * ns.block_size)
        metadata = protection.generate(ns, command, data)
    else:
        data, metadata = _receive(parts.core, request, ns, blocks)
        _checked(ns, command, data, metadata)
    parts.logs.count(ns.nsid, "written", blocks * ns.block_size)
    store(parts, command.FUA, ns, lba, data)
    if metadata:
        ns.write_metadata(lba, metadata)
    return 0


def flush(parts: Parts, request: FetchedCommand, _command: nvme.Flush) -> int:
    """Execute Flush; with NSID FFFFFFFFh of all namespaces, where VWC says so. Base 2.0, 7.1."""
    if request.nsid == BROADCAST_NSID:
        if parts.core.identity.VWC.FLUSH_BROADCAST == 2:
            raise CommandStatusError(Status.INVALID_NAMESPACE)
        for ns in parts.core.attached.values():
            ns.cache.flush()
        return 0
    parts.inventory.active(request.nsid).cache.flush()
    return 0


def compare(parts: Parts, request: FetchedCommand, command: nvme.Compare) -> int:
    """Execute Compare."""
    ns, lba, blocks = _range(parts, request, command)
    _readable(ns, lba, blocks)
    data, metadata = _receive(parts.core, request, ns, blocks)
    if ns.protection:
        _checked(ns, command, data, metadata)
        _checked(ns, command, ns.read(lba, blocks), ns.read_metadata(lba, blocks))
        metadata = b""  # which is not compared
    if data != ns.read(lba, blocks) or (metadata and metadata != ns.read_metadata(lba, blocks)):
        raise CommandStatusError(Status.COMPARE_FAILURE, dnr=True)
    return 0


def write_zeroes(parts: Parts, request: FetchedCommand, command: nvme.WriteZeroes) -> int:
    """Execute Write Zeroes."""
    ns, lba, blocks = _range(parts, request, command, writing=True, moves_data=False)
    ns.deallocate(lba, blocks)
    ns.advance(lba, blocks)
    return 0


def write_uncorrectable(parts: Parts, request: FetchedCommand, command: nvme.WriteUncorrectable) -> int:
    """Execute Write Uncorrectable."""
    ns, lba, blocks = _range(parts, request, command, writing=True, moves_data=False)
    ns.uncorrectable.add(lba, blocks)
    ns.advance(lba, blocks)
    return 0


def verify(parts: Parts, request: FetchedCommand, command: nvme.Verify) -> int:
    """Execute Verify: the blocks can be read, and their protection information is what PRCHK asks for."""
    ns, lba, blocks = _range(parts, request, command, moves_data=False)
    _readable(ns, lba, blocks)
    if ns.protection:
        _checked(ns, command, ns.read(lba, blocks), ns.read_metadata(lba, blocks))
    return 0


def dataset_management(parts: Parts, request: FetchedCommand, command: nvme.DatasetManagement) -> int:
    """Execute Dataset Management; only Deallocate does anything."""
    ns = parts.inventory.active(request.nsid)
    ranges = dsm_ranges(transfer.receive(parts.core, request, command.data_length), command.ranges)
    for one in ranges:
        parts.core.remark(
            "dsm-range", sqid=request.sq.qid, cid=request.cid, slba=one.SLBA, nlb=one.LENGTH, cattr=int(one.CATTR)
        )
    for one in ranges:
        if ns.blocks < one.SLBA + one.LENGTH:
            raise CommandStatusError(Status.LBA_OUT_OF_RANGE)
    if command.AD:
        check_writable(ns)
        for lba, blocks in _processed(nvm_limits(parts.core.spec), ranges):
            ns.deallocate(lba, blocks)
    return 0


def _processed(limits: IdentifyControllerNvm, ranges: Iterable[DsmRange]) -> Iterator[tuple[int, int]]:
    """Yield (LBA, blocks) of what is processed of the ranges: where there are limits, nothing beyond. 3.2.3.1."""
    limited, left = bool(limits.DMRL and limits.DMRSL and limits.DMSL), limits.DMSL
    for number, one in enumerate(ranges):
        blocks = min(one.LENGTH, limits.DMRSL, left) if limited else one.LENGTH
        left -= one.LENGTH if limited else 0
        if limited and (number >= limits.DMRL or blocks <= 0):
            return
        yield one.SLBA, blocks


def copy(parts: Parts, request: FetchedCommand, command: nvme.Copy) -> int:
    """Execute Copy, with source ranges of format 0."""
    ns = parts.inventory.active(request.nsid)
    if command.DESFMT:
        raise CommandStatusError(Status.INVALID_FIELD)
    limits = parts.inventory.identify_namespace(request.nsid)
    if command.ranges > limits.MSRC + 1:
        raise CommandStatusError(Status.COMMAND_SIZE_LIMIT_EXCEEDED)
    raw = transfer.receive(parts.core, request, command.ranges * CopyRange.SIZE)
    sources = [CopyRange(raw[at : at + CopyRange.SIZE]) for at in range(0, len(raw), CopyRange.SIZE)]
    for source in sources:
        parts.core.remark("copy-range", sqid=request.sq.qid, cid=request.cid, slba=source.SLBA, nlb=source.blocks)
    if any(source.blocks > limits.MSSRL for source in sources) or sum(source.blocks for source in sources) > limits.MCL:
        raise CommandStatusError(Status.COMMAND_SIZE_LIMIT_EXCEEDED)
    if any(source.SLBA + source.blocks > ns.blocks for source in sources):
        raise CommandStatusError(Status.LBA_OUT_OF_RANGE)
    if command.SDLBA + sum(source.blocks for source in sources) > ns.blocks:
        raise CommandStatusError(Status.LBA_OUT_OF_RANGE)
    check_writable(ns)
    for source in sources:
        _readable(ns, source.SLBA, source.blocks)
        if ns.zones is not None:
            ns.zones.check_read(source.SLBA, source.blocks)
    if ns.zones is not None:
        ns.zones.open_for_write(command.SDLBA, sum(source.blocks for source in sources))
    pieces = [(ns.read(source.SLBA, source.blocks), ns.read_metadata(source.SLBA, source.blocks)) for source in sources]
    store(parts, command.FUA, ns, command.SDLBA, b"".join(data for data, _ in pieces))
    if ns.metadata_size:
        ns.write_metadata(command.SDLBA, b"".join(metadata for _, metadata in pieces))
    return 0


# -- shared by the commands ------------------------------------------------------------------------------------------------


def _range(
    parts: Parts, request: FetchedCommand, command: nvme.LbaCommand, *, writing: bool = False, moves_data: bool = True
) -> tuple[StoredNamespace, int, int]:
    """Return the namespace, first block and number of blocks of a command; CommandStatusError unless all of it exists."""
    core = parts.core
    ns = core.attached.get(request.nsid) or parts.inventory.active(request.nsid)
    lba, blocks = command.SLBA, command.NLB + 1
    size = ns.block_size
    if ns.extended and not (isinstance(command, PROTECTED) and protection.strips(ns, command)):
        size += ns.metadata_size
    moved = blocks * size if moves_data else 0
    if core.max_transfer and moved > core.max_transfer:
        core.remark("mdts", sqid=request.sq.qid, cid=request.cid, bytes=moved, limit=core.max_transfer)
        raise CommandStatusError(Status.INVALID_FIELD)
    if lba + blocks > ns.blocks:
        raise CommandStatusError(Status.LBA_OUT_OF_RANGE)
    if request.mptr and (not ns.metadata_size or ns.extended or not moves_data):
        core.remark("mptr-unused", sqid=request.sq.qid, cid=request.cid, mptr=request.mptr)
    if writing:
        check_writable(ns)
    if ns.zones is not None:
        (ns.zones.open_for_write if writing else ns.zones.check_read)(lba, blocks)
    return ns, lba, blocks


def _readable(ns: StoredNamespace, lba: int, blocks: int) -> None:
    if ns.uncorrectable and ns.bad_block(lba, blocks) is not None:
        raise CommandStatusError(Status.READ_ERROR)


def check_writable(ns: StoredNamespace) -> None:
    """Raise CommandStatusError if a namespace is write protected."""
    if ns.write_protection:
        raise CommandStatusError(Status.NAMESPACE_WRITE_PROTECTED)


def _checked(ns: StoredNamespace, command: protection.ProtectedCommand, data: bytes, metadata: bytes) -> bytes:
    """Return the metadata; CommandStatusError where it is protection information that is not as the command says."""
    if ns.protection:
        protection.check_command(ns, command)
        protection.check(ns, command, data, metadata)
    return metadata


def _receive(core: Core, request: FetchedCommand, ns: StoredNamespace, blocks: int) -> tuple[bytes, bytes]:
    """Return the command's data and metadata."""
    if not ns.metadata_size:
        return transfer.receive(core, request, blocks * ns.block_size), b""
    if not ns.extended:
        data = transfer.receive(core, request, blocks * ns.block_size)
        return data, transfer.receive_metadata(core, request, blocks * ns.metadata_size)
    both = transfer.receive(core, request, blocks * (ns.block_size + ns.metadata_size))
    step, size = ns.block_size + ns.metadata_size, ns.block_size
    starts = range(0, len(both), step)
    return b"".join([both[at : at + size] for at in starts]), b"".join([both[at + size : at + step] for at in starts])


def _interleave(ns: StoredNamespace, data: bytes, metadata: bytes) -> bytes:
    """Return the blocks with their metadata behind each."""
    size, extra = ns.block_size, ns.metadata_size
    return b"".join(
        data[n * size : n * size + size] + metadata[n * extra : n * extra + extra] for n in range(len(data) // size)
    )


def store(parts: Parts, fua: int, ns: StoredNamespace, lba: int, data: bytes) -> None:
    """Write blocks; CommandStatusError when the machine's disk cannot take them."""
    durable = bool(fua) or not parts.features.write_cache or ns.zones is not None  # else a pointer could be ahead of its data
    try:
        ns.write(lba, data, durable=durable)
    except OSError as error:
        parts.core.remark("host-disk", nsid=ns.nsid, error=str(error))
        raise CommandStatusError(Status.INTERNAL_ERROR, dnr=False) from error
    ns.advance(lba, len(data) // ns.block_size)


def _oncs(bit: str) -> Callable[[Core], bool]:
    """Return a function that says whether Identify's ONCS has this bit."""
    return lambda core: bool(getattr(core.identity.ONCS, bit))


COMMANDS = table(
    CommandRow(nvme.Flush, flush, LBCC=1),
    CommandRow(nvme.Write, write, LBCC=1),
    CommandRow(nvme.Read, read),
    CommandRow(nvme.WriteUncorrectable, write_uncorrectable, supported=_oncs("WRITE_UNCORRECTABLE"), LBCC=1),
    CommandRow(nvme.Compare, compare, supported=_oncs("COMPARE")),
    CommandRow(nvme.WriteZeroes, write_zeroes, supported=_oncs("WRITE_ZEROES"), LBCC=1),
    CommandRow(nvme.DatasetManagement, dataset_management, supported=_oncs("DATASET_MANAGEMENT"), LBCC=1),
    CommandRow(nvme.Verify, verify, supported=_oncs("VERIFY")),
    CommandRow(nvme.Copy, copy, supported=_oncs("COPY"), LBCC=1),
    CommandRow(nvme.ReservationRegister, reservations.register, supported=_oncs("RESERVATIONS")),
    CommandRow(nvme.ReservationAcquire, reservations.acquire, supported=_oncs("RESERVATIONS")),
    CommandRow(nvme.ReservationRelease, reservations.release, supported=_oncs("RESERVATIONS")),
    CommandRow(nvme.ReservationReport, reservations.report, supported=_oncs("RESERVATIONS")),
)
"""Opcode to command, of the NVM command set."""
