"""PRP and SGL: the walk finds what the builder makes, and reports each broken rule."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.nvme import prp, sgl
from lab.nvme.prp import ENTRY, PrpProblem, UnreadableError
from lab.nvme.sgl import Piece, SglDescriptor, SglProblem, SglType
from lab.nvme.status import Status

LISTS = 0x7_0000_0000


class Memory:
    """Host memory that holds what was written and nothing else."""

    def __init__(self, page_size: int = 4096) -> None:
        self.blocks: dict[int, bytes] = {}
        self.fresh = itertools.count(LISTS, page_size)

    def allocate(self) -> int:
        return next(self.fresh)

    def write(self, *blocks: tuple[int, bytes]) -> Memory:
        self.blocks.update(blocks)
        return self

    def entries(self, address: int, *entries: int) -> Memory:
        return self.write((address, b"".join(entry.to_bytes(ENTRY, "little") for entry in entries)))

    def read(self, address: int, length: int) -> bytes:
        for start, content in self.blocks.items():
            if start <= address and address + length <= start + len(content):
                return content[address - start : address - start + length]
        raise UnreadableError(address, length)


@settings(max_examples=300, deadline=None)
@given(
    page_shift=st.integers(12, 16),
    offset_dwords=st.integers(0, (1 << 14) - 1),
    pages=st.integers(0, 2100),
    rest=st.integers(1, 1 << 16),
    seed=st.integers(0, 1 << 32),
)
def test_prp_round_trip(page_shift: int, offset_dwords: int, pages: int, rest: int, seed: int) -> None:
    page_size = 1 << page_shift
    offset = offset_dwords * 4 % page_size
    length = pages * page_size + rest % page_size
    if not length:
        return
    needed = -(-(offset + length) // page_size)
    addresses = [page * page_size for page in random.Random(seed).sample(range(1, 1 << 24), needed)]
    memory = Memory(page_size)
    pointers = prp.build(addresses, offset, length, page_size, memory.allocate)
    memory.write(*pointers.lists)
    walk = prp.walk(pointers.prp1, pointers.prp2, length, page_size, memory.read)
    assert not walk.problems
    assert walk.length == length
    assert [address for address, _ in walk.segments] == [addresses[0] + offset, *addresses[1:]]
    assert len(walk.lists) == len(pointers.lists)
    assert all(page.chained == (page is not walk.lists[-1]) for page in walk.lists)
    assert (bool(walk.lists) or len(walk.segments) > 1) == bool(pointers.prp2)


@pytest.mark.parametrize(
    ("pages", "lists"),
    [(1, 0), (2, 0), (3, 1), (513, 1), (514, 2), (1024, 2), (1025, 3)],
)
def test_prp_chains_exactly_when_a_list_page_overflows(pages: int, lists: int) -> None:
    memory = Memory()
    pointers = prp.build([page << 12 for page in range(1, pages + 1)], 0, pages * 4096, 4096, memory.allocate)
    assert len(pointers.lists) == lists
    assert all(len(content) <= 4096 for _, content in pointers.lists)


@pytest.mark.parametrize(
    ("pages", "offset", "length", "said"),
    [
        ([0x1000], 2, 8, "offset 2"),
        ([0x1000], 4096, 8, "offset 4096"),
        ([0x1000], 4, 4096, "need 2 pages, not 1"),
        ([0x1000, 0x2008], 0, 8192, "0x2008 is not aligned"),
    ],
)
def test_prp_builder_refuses_what_cannot_be_described(pages: list[int], offset: int, length: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prp.build(pages, offset, length, 4096)


def test_prp_builder_needs_memory_for_a_list() -> None:
    with pytest.raises(ValueError, match="need a PRP list"):
        prp.build([0x1000, 0x2000, 0x3000], 0, 3 * 4096, 4096)


def problems(walk: prp.Walk) -> list[tuple[PrpProblem, int, int | None]]:
    return [(problem.kind, problem.entry, problem.where) for problem in walk.problems]


L = LISTS


@pytest.mark.parametrize(
    ("prp1", "prp2", "length", "memory", "expected"),
    [
        (0x1002, 0, 8, Memory(), [(PrpProblem.PRP1_NOT_DWORD_ALIGNED, 0x1002, None)]),
        (0, 0, 8, Memory(), [(PrpProblem.ZERO_ENTRY, 0, None)]),
        (0x1800, 0, 4096, Memory(), [(PrpProblem.ZERO_ENTRY, 0, None)]),
        (0x1000, 0x2010, 8192, Memory(), [(PrpProblem.PRP2_OFFSET, 0x2010, None)]),
        (0x1000, L + 4, 12288, Memory().entries(L, 0x2000, 0x3000), [(PrpProblem.LIST_NOT_QWORD_ALIGNED, L + 4, None)]),
        (0x1000, L, 12288, Memory().entries(L, 0x2008, 0x3000), [(PrpProblem.ENTRY_OFFSET, 0x2008, L)]),
        (0x1000, L, 12288, Memory().entries(L, 0x2000, 0), [(PrpProblem.ZERO_ENTRY, 0, L + 8)]),
        (
            0x1000,
            L + 4088,
            12288,
            Memory().entries(L + 4088, L + 4096 + 8).entries(L + 4096, 0x2000, 0x3000),
            [(PrpProblem.CHAIN_OFFSET, L + 4096 + 8, L + 4088)],
        ),
        (0x1000, L + 4088, 12288, Memory().entries(L, *[0x2000] * 511, L), []),
    ],
    ids=lambda _: None,
)
def test_prp_problems(
    prp1: int, prp2: int, length: int, memory: Memory, expected: list[tuple[PrpProblem, int, int | None]]
) -> None:
    walk = prp.walk(prp1, prp2, length, 4096, memory.read)
    assert problems(walk) == expected
    assert walk.length == length
    assert all(str(problem) for problem in walk.problems)


def test_prp_list_that_comes_back_to_itself_ends() -> None:
    memory = Memory().entries(LISTS, *[0x2000] * 511, LISTS)
    walk = prp.walk(0x1000, LISTS, 4096 * 2000, 4096, memory.read)
    assert problems(walk) == [(PrpProblem.LOOP, LISTS, None)]
    assert walk.length == 4096 * 512


def test_prp_list_in_no_memory_is_named() -> None:
    with pytest.raises(UnreadableError, match=r"16 bytes at 0x9000 cannot be read"):
        prp.walk(0x1000, 0x9000, 12288, 4096, Memory().read)


def test_prp_list_may_begin_inside_a_page() -> None:
    memory = Memory().entries(LISTS + 4080, 0x2000, 0x3000)
    walk = prp.walk(0x1000, LISTS + 4080, 12288, 4096, memory.read)
    assert walk.segments == [(0x1000, 4096), (0x2000, 4096), (0x3000, 4096)]
    assert not walk.problems


def test_prp_queue_that_is_not_contiguous() -> None:
    memory = Memory().entries(LISTS, 0x5000, 0x2000)
    walk = prp.walk_list(LISTS, 6144, 4096, memory.read)
    assert walk.segments == [(0x5000, 4096), (0x2000, 2048)]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32), length=st.integers(0, 1 << 22), page_shift=st.integers(12, 16))
def test_prp_walk_of_garbage_ends_and_never_names_more(seed: int, length: int, page_shift: int) -> None:
    source = random.Random(seed)
    walk = prp.walk(
        source.getrandbits(64), source.getrandbits(64), length, 1 << page_shift, lambda _, size: source.randbytes(size)
    )
    assert walk.length == length or any(problem.kind is PrpProblem.LOOP for problem in walk.problems)


# --- SGL ------------------------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.tuples(st.none() | st.integers(1, (1 << 64) - 1), st.integers(1, 1 << 20)).map(lambda pair: Piece(*pair)),
    min_size=1,
    max_size=700,
)


@settings(max_examples=150, deadline=None)
@given(pieces=PIECES, per_segment=st.integers(2, 300))
def test_sgl_round_trip(pieces: list[Piece], per_segment: int) -> None:
    memory = Memory(per_segment * SglDescriptor.SIZE)
    pointers = sgl.build(pieces, memory.allocate, per_segment=per_segment)
    memory.write(*pointers.segments)
    walk = sgl.walk(pointers.sgl1, sum(piece.length for piece in pieces), memory.read)
    assert not walk.problems
    assert walk.pieces == pieces
    assert [address for address, _ in walk.segments] == [address for address, _ in pointers.segments]
    assert all(len(segment) <= per_segment for _, segment in walk.segments)
    kept = [piece for piece in pieces if piece.address is not None]
    writing = sgl.walk(pointers.sgl1, sum(piece.length for piece in kept), memory.read, to_host=False)
    assert writing.pieces == kept
    assert not writing.problems


def data(address: int, length: int) -> SglDescriptor:
    return SglDescriptor.of(ADDRESS=address, LENGTH=length, TYPE=SglType.DATA_BLOCK)


def segment(count: int, *, last: bool, address: int = LISTS) -> SglDescriptor:
    kind = SglType.LAST_SEGMENT if last else SglType.SEGMENT
    return SglDescriptor.of(ADDRESS=address, LENGTH=count * 16, TYPE=kind)


@pytest.mark.parametrize(
    ("first", "content", "expected"),
    [
        (data(0x1000, 4000), [], SglProblem.TOO_SHORT),
        (data(0x1000, 5000), [], SglProblem.TOO_LONG),
        (SglDescriptor.of(LENGTH=4096, TYPE=SglType.KEYED_DATA_BLOCK), [], SglProblem.TYPE),
        (data(0x1000, 4096).but(SUBTYPE=1), [], SglProblem.SUBTYPE),
        (segment(0, last=True), [], SglProblem.SEGMENT_LENGTH),
        (segment(2, last=True).but(LENGTH=17), [], SglProblem.SEGMENT_LENGTH),
        (segment(1, last=False), [data(0x1000, 4096)], SglProblem.NOT_ENDED),
        (segment(2, last=False), [segment(1, last=True), data(0x1000, 4096)], SglProblem.SEGMENT_NOT_LAST),
        (segment(2, last=True), [data(0x1000, 4096), segment(1, last=True)], SglProblem.SEGMENT_IN_LAST),
        (segment(2, last=False), [data(0x1000, 96), segment(2, last=False)], SglProblem.LOOP),
        (segment(1 << 20, last=True), [], SglProblem.TOO_MANY),
    ],
)
def test_sgl_problems(first: SglDescriptor, content: list[SglDescriptor], expected: SglProblem) -> None:
    walk = sgl.walk(first, 4096, Memory().write((LISTS, b"".join(content))).read)
    assert walk.problems[0].kind is expected
    assert isinstance(walk.problems[0].kind.status, Status)
    assert expected.text in str(walk.problems[0])


def test_sgl_segment_in_no_memory_is_named() -> None:
    with pytest.raises(UnreadableError, match="32 bytes"):
        sgl.walk(segment(2, last=True), 4096, Memory().read)


def test_sgl_builder_refuses() -> None:
    with pytest.raises(ValueError, match="no memory"):
        sgl.build([Piece(1, 1), Piece(2, 2)])
    with pytest.raises(ValueError, match="two descriptors"):
        sgl.build([Piece(1, 1)], per_segment=1)
    assert sgl.build([]).sgl1 == SglDescriptor()


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32), length=st.integers(1, 1 << 20))
def test_sgl_walk_of_garbage_ends_and_never_names_more(seed: int, length: int) -> None:
    source = random.Random(seed)
    kinds = [SglType.DATA_BLOCK] * 3 + [*SglType]

    def descriptor() -> bytes:
        return SglDescriptor.of(ADDRESS=source.getrandbits(16), LENGTH=source.choice([16, 32, 48]), TYPE=source.choice(kinds))

    def read(_: int, size: int) -> bytes:
        return b"".join(descriptor() for _ in range(size // 16))

    walk = sgl.walk(descriptor(), length, read, limit=1000)
    assert walk.length <= length
    assert walk.length == length or walk.problems
