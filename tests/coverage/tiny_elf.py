"""The smallest ELF objects with functions (System V ABI, "ELF Header", "Sections", "Symbol Table")."""

from __future__ import annotations

import struct
from collections.abc import Mapping

REL, EXEC = 1, 2
X86_64, AARCH64 = 62, 183
FUNCTION = 0x12  # global, STT_FUNC
HEADER = 64
NAMES = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"


def elf(
    functions: Mapping[str, bytes], *, kind: int = REL, machine: int = X86_64, base: int = 0, info: int = FUNCTION
) -> bytes:
    """Return an object whose .text, linked for ``base``, holds the functions one after the other."""
    text = b"".join(functions.values())
    strings, symbols, at = b"\0", bytes(24), 0
    for name, code in functions.items():
        symbols += struct.pack("<IBBHQQ", len(strings), info, 0, 1, base + at, len(code))
        strings += name.encode() + b"\0"
        at += len(code)
    parts = (text, symbols, strings, NAMES)
    offsets = [HEADER + sum(map(len, parts[:n])) for n in range(len(parts))]
    rows = [bytes(64)]
    for name, sort, flags, address, n, link, size in (
        (".text", 1, 6, base, 0, 0, 0), (".symtab", 2, 0, 0, 1, 3, 24), (".strtab", 3, 0, 0, 2, 0, 0),
        (".shstrtab", 3, 0, 0, 3, 0, 0),
    ):  # fmt: skip
        place = NAMES.index(b"\0" + name.encode() + b"\0") + 1
        rows.append(struct.pack("<IIQQQQIIQQ", place, sort, flags, address, offsets[n], len(parts[n]), link, 1, 1, size))
    end = HEADER + sum(map(len, parts))
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = identity + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, base, 0, end, 0, HEADER, 0, 0, 64, len(rows), 4)
    return header + b"".join(parts) + b"".join(rows)


def moves(*values: int) -> bytes:
    """Return a function's code: ``mov eax, VALUE`` for each, and ``ret``. An instruction has 5 bytes, the last one has 1."""
    return b"".join(b"\xb8" + struct.pack("<I", value) for value in values) + b"\xc3"


def log(code: bytes, at: int, place: int) -> bytes:
    """Return QEMU's log of the translation of such code, which stands at ``at`` in its object, with the object at ``place``."""
    lines = [b"----------------", b"IN: "]
    sizes = [5] * (len(code) // 5) + [1] * (len(code) % 5)
    done = 0
    for size in sizes:
        words = " ".join(f"{byte:02x}" for byte in code[done : done + size])
        lines.append(f"0x{place + at + done:08x}:  {words:<25}movl     $1, %eax".encode())
        done += size
    return b"\n".join([*lines, b"", b""])
