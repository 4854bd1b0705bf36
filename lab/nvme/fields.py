"""Declaring registers and structures the way the specification prints them.

A `Register` is an int with named bits, a `Structure` is bytes with named fields::

    class CC(Register, offset=0x14):
        EN     = Bits(0)
        IOSQES = Bits(19, 16)

    CC.of(EN=1, IOSQES=6)          # 0x60001
    CC(0x60001).IOSQES             # 6

    class CreateIoSq(Command, opcode=0x01):
        CQID = Bits(31, 16, dword=11)

Both are immutable values that compare, hash and slice like the int or the bytes they are. What no field covers is
reserved: `Register.reserved` and `Structure.reserved` say which of it is set.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

T = TypeVar("T")


class Field(Generic[T]):
    """A named run of bits, little-endian from bit ``start``; a ``shared`` run may lie over others (a whole dword)."""

    name: str = ""

    def __init__(self, start: int, width: int, *, shared: bool = False) -> None:
        """Take ``width`` bits from bit ``start`` on."""
        self.start, self.width, self.shared = start, width, shared
        self.mask = (1 << width) - 1
        self._bytes = slice(start >> 3, start + width + 7 >> 3)
        self._shift = start & 7

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember the name that the field is declared by."""
        self.name = name

    @overload
    def __get__(self, holder: None, owner: type) -> Self: ...
    @overload
    def __get__(self, holder: object, owner: type) -> T: ...
    def __get__(self, holder: Any, owner: type) -> Self | T:
        """Return the field's value in ``holder``, or of the class the field itself."""
        return self if holder is None else self.decode(self.bits_of(holder))

    def bits_of(self, holder: int | bytes) -> int:
        """Return the run as an unsigned number."""
        if isinstance(holder, int):
            return holder >> self.start & self.mask
        return int.from_bytes(holder[self._bytes], "little") >> self._shift & self.mask

    @property
    def defined(self) -> int:
        """Which bits of the run have a meaning: all of it, but for what a nested declaration leaves reserved."""
        return self.mask

    def decode(self, bits: int) -> T:
        """Return the value of the run's bits."""
        raise NotImplementedError

    def encode(self, value: Any) -> int:
        """Return the run's bits for a value; ValueError if it does not fit."""
        bits = int(value)
        if not 0 <= bits <= self.mask:
            raise ValueError(f"{self.name}={value} does not fit {self.width} bits")
        return bits


class _Number(Field[int]):
    """A run whose value is its bits: read often, so without the detour over `decode`."""

    @overload
    def __get__(self, holder: None, owner: type) -> Self: ...
    @overload
    def __get__(self, holder: object, owner: type) -> int: ...
    def __get__(self, holder: Any, owner: type) -> Self | int:
        """Return the number in ``holder``, or of the class the field itself."""
        if isinstance(holder, bytes):
            return int.from_bytes(holder[self._bytes], "little") >> self._shift & self.mask
        return self if holder is None else holder >> self.start & self.mask

    def decode(self, bits: int) -> int:
        """Return the value of the run's bits."""
        return bits


class UInt(_Number):
    """An unsigned little-endian number of ``size`` bytes at byte ``offset``."""

    def __init__(self, offset: int, size: int, *, shared: bool = False) -> None:
        """Place the number: ``offset`` and ``size`` in bytes."""
        super().__init__(offset * 8, size * 8, shared=shared)


class U8(UInt):
    """An unsigned number of 1 byte."""

    def __init__(self, offset: int, *, shared: bool = False) -> None:
        """Begin at byte ``offset``."""
        super().__init__(offset, 1, shared=shared)


class U16(UInt):
    """An unsigned number of 2 bytes."""

    def __init__(self, offset: int, *, shared: bool = False) -> None:
        """Begin at byte ``offset``."""
        super().__init__(offset, 2, shared=shared)


class U32(UInt):
    """An unsigned number of 4 bytes."""

    def __init__(self, offset: int, *, shared: bool = False) -> None:
        """Begin at byte ``offset``."""
        super().__init__(offset, 4, shared=shared)


class U64(UInt):
    """An unsigned number of 8 bytes."""

    def __init__(self, offset: int, *, shared: bool = False) -> None:
        """Begin at byte ``offset``."""
        super().__init__(offset, 8, shared=shared)


class Bits(_Number):
    """Bits ``high``:``low`` as the specification writes them, of a register, or from a ``dword`` or byte ``at``."""

    def __init__(self, high: int, low: int | None = None, *, dword: int = 0, at: int = 0, shared: bool = False) -> None:
        """Place the bits; a single bit where ``low`` is left out."""
        low = high if low is None else low
        super().__init__((dword * 4 + at) * 8 + low, high - low + 1, shared=shared)


class Raw(Field[bytes]):
    """``size`` uninterpreted bytes."""

    def __init__(self, offset: int, size: int, *, shared: bool = False) -> None:
        """Place the bytes: ``offset`` and ``size`` in bytes."""
        super().__init__(offset * 8, size * 8, shared=shared)

    def decode(self, bits: int) -> bytes:
        """Return the value of the run's bits."""
        return bits.to_bytes(self.width // 8, "little")

    def encode(self, value: Any) -> int:
        """Return the run's bits for a value; ValueError if it does not fit."""
        if len(value) > self.width // 8:
            raise ValueError(f"{self.name}: {len(value)} bytes do not fit {self.width // 8}")
        return int.from_bytes(value, "little")


class Ascii(Field[str]):
    """Text padded with spaces, without a terminator (Base 2.0, 1.4 "Conventions")."""

    def __init__(self, offset: int, size: int) -> None:
        """Place the text: ``offset`` and ``size`` in bytes."""
        super().__init__(offset * 8, size * 8)

    def decode(self, bits: int) -> str:
        """Return the value of the run's bits."""
        return bits.to_bytes(self.width // 8, "little").decode("latin-1").rstrip(" ")

    def encode(self, value: Any) -> int:
        """Return the run's bits for a value; ValueError if it does not fit."""
        text = str(value).encode("latin-1")
        if len(text) > self.width // 8:
            raise ValueError(f"{self.name}={value!r} is longer than {self.width // 8} characters")
        return int.from_bytes(text.ljust(self.width // 8), "little")


class Utf8(Field[str]):
    """Text that ends at the first zero byte or with the field: NVMe Qualified Names."""

    def __init__(self, offset: int, size: int) -> None:
        """Place the text: ``offset`` and ``size`` in bytes."""
        super().__init__(offset * 8, size * 8)

    def decode(self, bits: int) -> str:
        """Return the value of the run's bits."""
        return bits.to_bytes(self.width // 8, "little").partition(b"\0")[0].decode("utf-8", "backslashreplace")

    def encode(self, value: Any) -> int:
        """Return the run's bits for a value; ValueError if it does not fit."""
        text = str(value).encode()
        if len(text) >= self.width // 8:
            raise ValueError(f"{self.name}={value!r} is longer than {self.width // 8 - 1} bytes")
        return int.from_bytes(text, "little")


class _Declared:
    """What registers and structures share: the table of fields, collected when the class is made."""

    SIZE: ClassVar[int] = 0
    FIELDS: ClassVar[Mapping[str, Field[Any]]] = {}
    _DEFINED: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the declared fields."""
        super().__init_subclass__(**kwargs)
        cls.FIELDS = {**cls.FIELDS, **{n: f for n, f in vars(cls).items() if isinstance(f, Field)}}
        cls._DEFINED = 0
        for field in cls.FIELDS.values():
            if not field.shared:
                cls._DEFINED |= field.defined << field.start

    @classmethod
    def from_bits(cls, bits: int) -> Self:
        """Return the value whose bits, little-endian, are this number."""
        raise NotImplementedError

    @classmethod
    def _pack(cls, base: int, values: Mapping[str, Any]) -> int:
        for name, value in values.items():
            field = cls.FIELDS.get(name)
            if field is None:
                near = difflib.get_close_matches(name, cls.FIELDS, 1)
                raise ValueError(f"{cls.__name__} has no field {name}" + (f"; nearest is {near[0]}" if near else ""))
            base = base & ~(field.mask << field.start) | field.encode(value) << field.start
        return base

    def fields(self) -> dict[str, Any]:
        """Return field name to value, in declaration order, without the runs that lie over others."""
        return {name: getattr(self, name) for name, field in self.FIELDS.items() if not field.shared}

    def __repr__(self) -> str:
        """Return the name and the fields that are not zero."""
        shown = (f"{name}={_text(value)}" for name, value in self.fields().items() if _notable(value))
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


class Register(_Declared, int):
    """A register's value: ``size`` bytes at ``offset`` of BAR0, or a bit field inside a structure (offset None)."""

    OFFSET: ClassVar[int] = -1
    SIZE: ClassVar[int] = 4

    def __init_subclass__(cls, *, offset: int | None = None, size: int | None = None, **kwargs: Any) -> None:
        """Collect the declared fields."""
        super().__init_subclass__(**kwargs)
        if offset is not None:
            cls.OFFSET = offset
        if size is not None:
            cls.SIZE = size

    @classmethod
    def from_bits(cls, bits: int) -> Self:
        """Return the value whose bits, little-endian, are this number."""
        return cls(bits)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the register with these fields set and all others zero."""
        return cls(cls._pack(0, values))

    def but(self, **values: Any) -> Self:
        """Return the same with these fields changed."""
        return type(self)(self._pack(int(self), values))

    @property
    def reserved(self) -> int:
        """The bits that are set although no field covers them."""
        return int(self) & ~self._DEFINED

    def __repr__(self) -> str:
        """Return the name and the fields that are not zero."""
        return _register_text(self)

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Format as a number where there is a format, else by fields."""
        return int.__format__(self, spec) if spec else repr(self)


@lru_cache(maxsize=1024, typed=True)
def _register_text(register: Register) -> str:
    """Return a register in words: the same values are met again and again."""
    return _Declared.__repr__(register) if register else f"{type(register).__name__}(0)"


class Structure(_Declared, bytes):
    """``SIZE`` bytes in memory with named fields; shorter input is an error, longer input is cut."""

    def __init_subclass__(cls, *, size: int | None = None, **kwargs: Any) -> None:
        """Collect the declared fields."""
        super().__init_subclass__(**kwargs)
        if size is not None:
            cls.SIZE = size

    def __new__(cls, raw: bytes | bytearray | memoryview | None = None) -> Self:
        """Take ``SIZE`` bytes, zeros by default; ValueError if there are fewer."""
        if raw is None:
            return bytes.__new__(cls, cls.SIZE)
        if (length := len(raw)) == cls.SIZE:
            return bytes.__new__(cls, raw)
        if length < cls.SIZE:
            raise ValueError(f"{cls.__name__} needs {cls.SIZE} bytes, not {length}")
        return bytes.__new__(cls, raw[: cls.SIZE])

    @classmethod
    def from_bits(cls, bits: int) -> Self:
        """Return the value whose bits, little-endian, are this number."""
        return cls(bits.to_bytes(cls.SIZE, "little"))

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the structure with these fields set and all others zero."""
        return cls.from_bits(cls._pack(0, values))

    def but(self, **values: Any) -> Self:
        """Return the same with these fields changed."""
        return self.from_bits(self._pack(int.from_bytes(self, "little"), values))

    @property
    def reserved(self) -> dict[int, int]:
        """Byte offset to the bits set there although no field covers them."""
        stray = int.from_bytes(self, "little") & ~self._DEFINED
        return {at: bits for at, bits in enumerate(stray.to_bytes(self.SIZE, "little")) if bits} if stray else {}


D = TypeVar("D", bound=_Declared)


class Nested(Field[D]):
    """A `Register` or `Structure` inside a structure: its bits keep their names, ``ctrl.ONCS.WRITE_ZEROES``."""

    def __init__(self, offset: int, kind: type[D], *, shared: bool = False) -> None:
        """Place a ``kind`` at byte ``offset``."""
        super().__init__(offset * 8, kind.SIZE * 8, shared=shared)
        self.kind = kind

    @property
    def defined(self) -> int:
        """Which bits of the run its declaration gives a meaning."""
        return self.kind._DEFINED

    def decode(self, bits: int) -> D:
        """Return the value of the run's bits."""
        return self.kind.from_bits(bits)

    def encode(self, value: Any) -> int:
        """Return the run's bits for a value; ValueError if it does not fit."""
        return super().encode(_bits(value))


class Array(Field[tuple[D, ...]]):
    """``count`` elements of one kind (`Register` or `Structure`) in a row."""

    def __init__(self, offset: int, count: int, kind: type[D]) -> None:
        """Place ``count`` of a ``kind`` from byte ``offset`` on."""
        super().__init__(offset * 8, count * kind.SIZE * 8)
        self.kind, self.count = kind, count

    @property
    def defined(self) -> int:
        """Which bits of the run the elements' declaration gives a meaning."""
        return _join([self.kind._DEFINED] * self.count, self.kind.SIZE)

    def decode(self, bits: int) -> tuple[D, ...]:
        """Return the value of the run's bits."""
        return tuple(self.kind.from_bits(part) for part in _split(bits, self.count, self.kind.SIZE))

    def at(self, holder: Any, index: int) -> D:
        """Return one of the elements without decoding the others; IndexError if there is none."""
        if not 0 <= index < self.count:
            raise IndexError(f"{self.name} has {self.count} elements, none is {index}")
        bits = self.bits_of(holder) >> index * self.kind.SIZE * 8
        return self.kind.from_bits(bits & (1 << self.kind.SIZE * 8) - 1)

    def encode(self, value: Any) -> int:
        """Return the run's bits for a value; ValueError if it does not fit."""
        if len(value) > self.count:
            raise ValueError(f"{self.name}: {len(value)} elements do not fit {self.count}")
        return _join([_bits(part) for part in value], self.kind.SIZE)


class Numbers(Field[tuple[int, ...]]):
    """``count`` unsigned numbers of ``size`` bytes in a row."""

    def __init__(self, offset: int, count: int, size: int) -> None:
        """Place ``count`` numbers of ``size`` bytes from byte ``offset`` on."""
        super().__init__(offset * 8, count * size * 8)
        self.count, self.size = count, size

    def decode(self, bits: int) -> tuple[int, ...]:
        """Return the value of the run's bits."""
        return tuple(_split(bits, self.count, self.size))

    def encode(self, value: Any) -> int:
        """Return the run's bits for a value; ValueError if it does not fit."""
        if len(value) > self.count or not all(0 <= number < 1 << self.size * 8 for number in value):
            raise ValueError(f"{self.name}={value} are not at most {self.count} numbers of {self.size} bytes")
        return _join(value, self.size)


def _split(bits: int, count: int, size: int) -> Iterator[int]:
    raw = bits.to_bytes(count * size, "little")
    return (int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size))


def _join(numbers: Sequence[int], size: int) -> int:
    return int.from_bytes(b"".join(number.to_bytes(size, "little") for number in numbers), "little")


def _bits(value: Any) -> int:
    """Return a register's or a structure's value as one number."""
    return int.from_bytes(value, "little") if isinstance(value, (bytes, bytearray)) else int(value)


def _text(value: Any) -> str:
    if isinstance(value, _Declared):
        return repr(value)
    if isinstance(value, int):
        return f"{value:#x}" if value > 9 else str(value)
    if isinstance(value, bytes):
        return value.rstrip(b"\0").hex() or "0"
    if isinstance(value, tuple):
        return "[" + ", ".join(_text(v) for v in value if _notable(v)) + "]"
    return repr(value)


def _notable(value: Any) -> bool:
    """Return whether a value is worth printing: zero, nothing and zeros are not."""
    if isinstance(value, tuple):
        return any(_notable(v) for v in value)
    if isinstance(value, bytes):
        return any(value)
    if isinstance(value, str):
        return bool(value.strip("\0"))
    return bool(value)
