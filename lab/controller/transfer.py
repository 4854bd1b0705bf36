"""Moving a command's data: from its pointers to memory segments, and the bytes between them and the host.

Base 2.0, 4.1.1 "Physical Region Page Entry and List", 4.1.2 "Scatter Gather List (SGL)".
"""

from __future__ import annotations

from collections.abc import Callable

from lab.controller.core import ADMIN_TRANSFER_LIMIT, Core
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.nvme import prp, sgl
from lab.nvme.commands import Psdt
from lab.nvme.prp import PrpProblem
from lab.nvme.sgl import SglProblem
from lab.nvme.status import Status

Segments = list[tuple[int | None, int]]
"""(address, bytes) in order; without an address the bytes are thrown away (an SGL bit bucket)."""

_DWORD_ALIGNED = 0b10  # Sgls.SUPPORT

_PRP_ANSWERS = {PrpProblem.LOOP: Status.INVALID_FIELD, PrpProblem.ZERO_ENTRY: None}
"""Broken rules that PRP Offset Invalid does not answer. A zero entry is bad style, but 0 is an address like any other."""


def send(core: Core, request: FetchedCommand, data: bytes) -> None:
    """Write ``data`` where the command's pointers say; CommandStatusError or DmaRefusedError where that cannot be."""
    for strike in request.strikes:
        data = strike.data(data)
    at = 0
    for address, length in data_segments(core, request, len(data), to_host=True):
        if address is not None:
            _put(core, request, address, data[at : at + length] if length != len(data) else data)
        at += length


def receive(core: Core, request: FetchedCommand, length: int) -> bytes:
    """Read ``length`` bytes from where the command's pointers say; CommandStatusError or DmaRefusedError if impossible."""
    segments = data_segments(core, request, length, to_host=False)
    return b"".join([_get(core, request, address, size) for address, size in segments if address is not None])


def send_metadata(core: Core, request: FetchedCommand, data: bytes) -> None:
    """Write metadata to the buffer at MPTR."""
    _put(core, request, _metadata_address(core, request), data)


def receive_metadata(core: Core, request: FetchedCommand, length: int) -> bytes:
    """Read metadata from the buffer at MPTR."""
    return _get(core, request, _metadata_address(core, request), length)


def check_length(core: Core, request: FetchedCommand, length: int) -> None:
    """Raise CommandStatusError where a command moves more than MDTS allows; call it before anything is made of that length.

    Base 2.0, 5.17.2.1: MDTS bounds commands that transfer data between host-accessible memory and the controller, admin
    commands too. Where it sets no limit, admin commands have one of the controller's own (`ADMIN_TRANSFER_LIMIT`).
    """
    limit = core.max_transfer or (0 if request.sq.qid else ADMIN_TRANSFER_LIMIT)
    if limit and length > limit:
        core.remark("mdts", sqid=request.sq.qid, cid=request.cid, bytes=length, limit=limit)
        raise CommandStatusError(Status.INVALID_FIELD)


def data_segments(core: Core, request: FetchedCommand, length: int, *, to_host: bool) -> Segments:
    """Return where ``length`` bytes lie in the host's memory; CommandStatusError where the pointers break a rule."""
    if request.flags >> 6:
        return _sgl_segments(core, request, length, to_host)
    page, prp1 = core.page_size, request.prp1
    if length <= page - (prp1 & page - 1):  # one segment, as most commands have
        if request.prp2:
            core.remark("prp2-unused", sqid=request.sq.qid, cid=request.cid, prp2=request.prp2)
        if prp1 and not prp1 & 3:
            return [(prp1, length)]
    return list(_judged(core, request, prp.walk(prp1, request.prp2, length, page, _reader(core, request))))


def queue_pages(core: Core, request: FetchedCommand, length: int) -> tuple[int, ...]:
    """Return the pages of a queue that is not physically contiguous: PRP1 names a list of them."""
    walk = prp.walk_list(request.prp1, length, core.page_size, _reader(core, request))
    return tuple(address for address, _ in _judged(core, request, walk))


def _judged(core: Core, request: FetchedCommand, walk: prp.Walk) -> list[prp.Segment]:
    """Record the walk's lists, remark on its problems, and return its segments."""
    for page in walk.lists:
        core.record.prp_list(request.sq.qid, request.cid, page.address, page.entries)
    answers = []
    for problem in walk.problems:
        core.remark(
            "prp", sqid=request.sq.qid, cid=request.cid, problem=problem.kind.name, entry=problem.entry, where=problem.where
        )
        answers.append(_PRP_ANSWERS.get(problem.kind, Status.PRP_OFFSET_INVALID))
    if wrong := [answer for answer in answers if answer is not None]:
        raise CommandStatusError(wrong[0])
    return walk.segments


def _sgl_segments(core: Core, request: FetchedCommand, length: int, to_host: bool) -> Segments:
    supported = core.identity.SGLS
    if request.flags >> 6 == 3 or request.sq.qid == 0 or not supported.SUPPORT:
        core.remark("psdt", sqid=request.sq.qid, cid=request.cid, psdt=request.flags >> 6)
        raise CommandStatusError(Status.INVALID_FIELD)
    walk = sgl.walk(request.raw[24:40], length, _reader(core, request), to_host=to_host)
    for address, descriptors in walk.segments:
        words = (int.from_bytes(raw[at : at + 8], "little") for raw in descriptors for at in (0, 8))
        core.record.prp_list(request.sq.qid, request.cid, address, tuple(words))
    wrong = []
    for problem in walk.problems:
        core.remark("sgl", sqid=request.sq.qid, cid=request.cid, problem=problem.kind.name, where=problem.where)
        if problem.kind is not SglProblem.TOO_LONG or not supported.OVERSIZE:
            wrong.append(problem.kind.status)
    if supported.SUPPORT == _DWORD_ALIGNED and any((piece.address or 0) & 3 or piece.length & 3 for piece in walk.pieces):
        core.remark("sgl", sqid=request.sq.qid, cid=request.cid, problem="GRANULARITY", where=None)
        wrong.append(Status.SGL_GRANULARITY_INVALID)
    if wrong:
        raise CommandStatusError(wrong[0])
    return [(piece.address, piece.length) for piece in walk.pieces]


def _reader(core: Core, request: FetchedCommand) -> Callable[[int, int], bytes]:
    """Return a function that reads the command's lists."""

    def read(address: int, length: int) -> bytes:
        for strike in request.strikes:
            strike.access(address, length)
        return core.dma_read(address, length)

    return read


def _put(core: Core, request: FetchedCommand, address: int, data: bytes) -> None:
    for strike in request.strikes:
        strike.access(address, len(data))
    core.dma_write(address, data)
    core.record.dma(request.sq.qid, request.cid, address, data, True)


def _get(core: Core, request: FetchedCommand, address: int, length: int) -> bytes:
    for strike in request.strikes:
        strike.access(address, length)
    data = core.dma_read(address, length)
    core.record.dma(request.sq.qid, request.cid, address, data, False)
    return data


def _metadata_address(core: Core, request: FetchedCommand) -> int:
    """Return MPTR, which is dword aligned unless SGLS says otherwise. Base 2.0, 3.3.3.1."""
    if request.flags >> 6 == Psdt.SGL_MPTR_SEGMENT:
        raise CommandStatusError(Status.INVALID_FIELD)  # SGLS.MPTR_SGL is not offered
    if request.mptr & 3:
        core.remark("mptr-alignment", sqid=request.sq.qid, cid=request.cid, mptr=request.mptr)
        raise CommandStatusError(Status.INVALID_FIELD)
    return request.mptr
