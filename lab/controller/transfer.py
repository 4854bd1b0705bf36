"""Moving a command's data: from its pointers to memory segments, and the bytes between them and the host.

Base 2.0, 4.1.1 "Physical Region Page Entry and List", 4.1.2? "Scatter Gather List".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.controller.request import Failed, Request
from lab.nvme import prp, sgl
from lab.nvme.commands import Psdt
from lab.nvme.prp import PrpProblem
from lab.nvme.sgl import SglProblem
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller

Segments = list[tuple[int | None, int]]
"""(address, bytes) in order; without an address the bytes are thrown away (an SGL bit bucket)."""

_PRP_ANSWERS = {PrpProblem.LOOP: Status.INVALID_FIELD, PrpProblem.ZERO_ENTRY: None}
"""Broken rules that PRP Offset Invalid does not answer. A zero entry is bad style, but 0 is an address like any other."""


def send(c: Controller, request: Request, data: bytes) -> None:
    """Writes ``data`` where the command's pointers say. Failed or DmaRefused when that cannot be."""
    for strike in request.strikes:
        data = strike.data(data)
    at = 0
    for address, length in data_segments(c, request, len(data), to_host=True):
        if address is not None:
            _put(c, request, address, data[at : at + length] if length != len(data) else data)
        at += length


def receive(c: Controller, request: Request, length: int) -> bytes:
    """Reads ``length`` bytes from where the command's pointers say. Failed or DmaRefused when that cannot be."""
    segments = data_segments(c, request, length, to_host=False)
    return b"".join([_get(c, request, address, size) for address, size in segments if address is not None])


def send_metadata(c: Controller, request: Request, data: bytes) -> None:
    """Writes metadata to the buffer at MPTR."""
    _put(c, request, _metadata_address(c, request), data)


def receive_metadata(c: Controller, request: Request, length: int) -> bytes:
    """Reads metadata from the buffer at MPTR."""
    return _get(c, request, _metadata_address(c, request), length)


def data_segments(c: Controller, request: Request, length: int, *, to_host: bool) -> Segments:
    """Where the command's ``length`` bytes lie in the host's memory. Failed where the pointers break a rule."""
    if request.flags >> 6:
        return _sgl_segments(c, request, length, to_host)
    page, prp1 = c.page_size, request.prp1
    if length <= page - (prp1 & page - 1):  # one segment, as most commands have
        if request.prp2:
            c.remark("prp2-unused", sqid=request.sq.qid, cid=request.cid, prp2=request.prp2)
        if prp1 and not prp1 & 3:
            return [(prp1, length)]
    return list(_judged(c, request, prp.walk(prp1, request.prp2, length, page, _reader(c, request))))


def queue_pages(c: Controller, request: Request, length: int) -> tuple[int, ...]:
    """The pages of a queue that is not physically contiguous: PRP1 names a list of them."""
    walk = prp.walk_list(request.prp1, length, c.page_size, _reader(c, request))
    return tuple(address for address, _ in _judged(c, request, walk))


def _judged(c: Controller, request: Request, walk: prp.Walk) -> list[prp.Segment]:
    """The walk's segments, once its lists are recorded and its problems told."""
    for page in walk.lists:
        c.record.prp_list(request.sq.qid, request.cid, page.address, page.entries)
    answers = []
    for problem in walk.problems:
        c.remark(
            "prp", sqid=request.sq.qid, cid=request.cid, problem=problem.kind.name, entry=problem.entry, where=problem.where
        )
        answers.append(_PRP_ANSWERS.get(problem.kind, Status.PRP_OFFSET_INVALID))
    if wrong := [answer for answer in answers if answer is not None]:
        raise Failed(wrong[0])
    return walk.segments


def _sgl_segments(c: Controller, request: Request, length: int, to_host: bool) -> Segments:
    supported = c.identity.SGLS
    if request.flags >> 6 == 3 or request.sq.qid == 0 or not supported.SUPPORT:
        c.remark("psdt", sqid=request.sq.qid, cid=request.cid, psdt=request.flags >> 6)
        raise Failed(Status.INVALID_FIELD)
    walk = sgl.walk(request.raw[24:40], length, _reader(c, request), to_host=to_host)
    for address, descriptors in walk.segments:
        words = (int.from_bytes(raw[at : at + 8], "little") for raw in descriptors for at in (0, 8))
        c.record.prp_list(request.sq.qid, request.cid, address, tuple(words))
    wrong = []
    for problem in walk.problems:
        c.remark("sgl", sqid=request.sq.qid, cid=request.cid, problem=problem.kind.name, where=problem.where)
        if problem.kind is not SglProblem.TOO_LONG or not supported.OVERSIZE:
            wrong.append(problem.kind.status)
    if wrong:
        raise Failed(wrong[0])
    return [(piece.address, piece.length) for piece in walk.pieces]


def _reader(c: Controller, request: Request) -> Callable[[int, int], bytes]:
    """Reads a list of the command's."""

    def read(address: int, length: int) -> bytes:
        for strike in request.strikes:
            strike.access(address, length)
        return c.dma_read(address, length)

    return read


def _put(c: Controller, request: Request, address: int, data: bytes) -> None:
    for strike in request.strikes:
        strike.access(address, len(data))
    c.dma_write(address, data)
    c.record.dma(request.sq.qid, request.cid, address, data, True)


def _get(c: Controller, request: Request, address: int, length: int) -> bytes:
    for strike in request.strikes:
        strike.access(address, length)
    data = c.dma_read(address, length)
    c.record.dma(request.sq.qid, request.cid, address, data, False)
    return data


def _metadata_address(c: Controller, request: Request) -> int:
    """MPTR, which is dword aligned unless SGLS says otherwise. Base 2.0, 3.3.3.1."""
    if request.flags >> 6 == Psdt.SGL_MPTR_SEGMENT:
        raise Failed(Status.INVALID_FIELD)  # SGLS.MPTR_SGL is not offered
    if request.mptr & 3:
        c.remark("mptr-alignment", sqid=request.sq.qid, cid=request.cid, mptr=request.mptr)
        raise Failed(Status.INVALID_FIELD)
    return request.mptr
