"""Properties of every register and structure: found by walking the subclasses, so that none is left out."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lab.nvme
from lab.nvme.commands import BY_OPCODE, Command
from lab.nvme.fields import U8, Array, Ascii, Bits, Field, Nested, Numbers, Raw, Register, Structure, Utf8

for module in pkgutil.iter_modules(lab.nvme.__path__):
    importlib.import_module(f"lab.nvme.{module.name}")


def below(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("lab.nvme."):
            yield child
        yield from below(child)


REGISTERS = sorted({*below(Register)}, key=lambda kind: kind.__name__)
STRUCTURES = sorted({*below(Structure)}, key=lambda kind: kind.__name__)
by_name = pytest.mark.parametrize


SEEDS = st.integers(0, 1 << 32)


def random_bytes(seed: int, size: int) -> bytes:
    """Any bytes, by a seed: drawing thousands of bytes one by one is slow and finds nothing more."""
    return random.Random(seed).randbytes(size)


def canonical(field: Field[Any]) -> bool:
    """Whether encoding gives the very bytes back: text may have come with padding that decoding removes."""
    return not isinstance(field, (Ascii, Utf8))


def test_the_walk_finds_them() -> None:
    assert len(REGISTERS) > 70
    assert len(STRUCTURES) > 100
    assert {Command, *BY_OPCODE["admin"].values(), *BY_OPCODE["io"].values()} <= set(STRUCTURES)


@by_name("kind", STRUCTURES, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_structure_decodes_and_encodes_to_the_same(kind: type[Structure], seed: int) -> None:
    value = kind(random_bytes(seed, kind.SIZE))
    declared = {name: field for name, field in kind.FIELDS.items() if canonical(field)}
    again = value.but(**{name: getattr(value, name) for name in declared})
    assert again == value
    assert type(again) is kind
    for name in declared:
        assert getattr(kind.of(**{name: getattr(value, name)}), name) == getattr(value, name)


@by_name("kind", REGISTERS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_register_decodes_and_encodes_to_the_same(kind: type[Register], data: st.DataObject) -> None:
    value = kind(data.draw(st.integers(0, (1 << kind.SIZE * 8) - 1)))
    assert value.but(**value.fields()) == value
    assert kind.of(**value.fields()) == value & ~value.reserved
    assert kind.of(**value.fields()).reserved == 0


@by_name("kind", STRUCTURES, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_structure_reserved_is_what_no_field_covers(kind: type[Structure], data: st.DataObject) -> None:
    """Flipping one random bit shows in `reserved` exactly when no field sees it."""
    at = data.draw(st.integers(0, kind.SIZE * 8 - 1))
    value = kind.from_bits(1 << at)
    if issubclass(kind, Command) and kind.OPCODE is None and at >= 32:
        assert not value.reserved
    else:
        assert value.reserved == ({} if covered(kind, at) else {at >> 3: 1 << (at & 7)})


@by_name("kind", REGISTERS, ids=lambda kind: kind.__name__)
def test_register_reserved_is_what_no_field_covers(kind: type[Register]) -> None:
    for at in range(kind.SIZE * 8):
        assert kind(1 << at).reserved == (0 if covered(kind, at) else 1 << at)


def covered(kind: type[Any], bit: int) -> bool:
    """Whether a field that is not shared, or a field of a nested declaration, lies on this bit."""
    for field in kind.FIELDS.values():
        inside = bit - field.start
        if field.shared or not 0 <= inside < field.width:
            continue
        if isinstance(field, Nested):
            return covered(field.kind, inside)
        if isinstance(field, Array):
            return covered(field.kind, inside % (field.kind.SIZE * 8))
        return True
    return False


@by_name("kind", [*REGISTERS, *STRUCTURES], ids=lambda kind: kind.__name__)
def test_fields_lie_inside_and_do_not_overlap(kind: type[Any]) -> None:
    taken = 0
    for name, field in kind.FIELDS.items():
        assert field.start + field.width <= kind.SIZE * 8, name
        if not field.shared:
            run = field.mask << field.start
            assert not taken & run, f"{kind.__name__}.{name} overlaps"
            taken |= run


def test_no_field_hides_a_method() -> None:
    for kind in [*REGISTERS, *STRUCTURES]:
        assert not {"SIZE", "OFFSET", "FIELDS", "QUEUE", "OPCODE"} & kind.FIELDS.keys(), kind


class Sample(Structure, size=32):
    BYTE = U8(0)
    BITS = Bits(5, 3, at=1)
    TEXT = Ascii(2, 4)
    NAME = Utf8(6, 6)
    RAW = Raw(12, 4)
    IDS = Numbers(16, 4, 2)


@by_name(
    "values",
    [
        {"BYTE": 256},
        {"BYTE": -1},
        {"BITS": 8},
        {"TEXT": "12345"},
        {"NAME": "123456"},
        {"RAW": b"12345"},
        {"IDS": [1, 2, 3, 4, 5]},
        {"IDS": [0x10000]},
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Sample.of(**values)


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Sample has no field BITE; nearest is BYTE"):
        Sample.of(BITE=1)


def test_text_is_padded_as_its_kind_says() -> None:
    sample = Sample.of(TEXT="ab", NAME="nqn", IDS=(1, 2))
    assert sample[2:12] == b"ab  nqn\0\0\0"
    assert (sample.TEXT, sample.NAME, sample.IDS) == ("ab", "nqn", (1, 2, 0, 0))


def test_too_few_bytes_are_refused_and_more_are_cut() -> None:
    with pytest.raises(ValueError, match="needs 32 bytes, not 31"):
        Sample(bytes(31))
    assert len(Sample(bytes(40))) == 32


def test_printing_leaves_out_what_is_zero() -> None:
    assert str(Sample.of(BYTE=1, RAW=b"\x07")) == "Sample(BYTE=1, RAW=07)"
