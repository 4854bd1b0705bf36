"""The picture and the text on a guest's screen, by QMP. The standard VGA card is there where `GuestSpec.screen` is set."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

from lab.errors import LabError, QmpError
from lab.guest.machine import Machine

TEXT_MEMORY, COLUMNS, ROWS = 0xB8000, 80, 25
"""Where colour text modes keep the screen (IBM PC, since the Color Graphics Adapter): a character and an attribute a cell."""
TEXT_SIZES = frozenset({(720, 400), (640, 400), (640, 350)})
"""Pixels of the picture that QEMU draws of 80 by 25 characters."""
PPM_FIELDS = 4


def take(machine: Machine, png: Path) -> str:
    """Write the screen's picture to ``png`` and return its text; "" in a graphics mode. LabError if QEMU cannot tell."""
    raw = machine.folder / "screen.ppm"
    machine.qmp("screendump", {"filename": str(raw)})
    width, height, pixels = parse_ppm(raw.read_bytes())
    raw.unlink(missing_ok=True)
    png.write_bytes(encode_png(width, height, pixels))
    return _text(machine) if (width, height) in TEXT_SIZES else ""


def take_if_possible(machine: Machine, png: Path) -> str:
    """Do the same, and return "" where there is no screen or QEMU has ended."""
    if not machine.spec.screen or not machine.process.alive:
        return ""
    with suppress(LabError, OSError, ValueError):
        return take(machine, png)
    return ""


def text_of(machine: Machine) -> str:
    """Return the text on the screen; "" where there is none, or in a graphics mode whose text memory holds nothing."""
    if not machine.spec.screen:
        return ""
    with suppress(QmpError, OSError):
        return _text(machine)
    return ""


def rows_of(machine: Machine) -> list[str]:
    """Return the rows of a text mode's screen, each as wide as the screen. QmpError if QEMU cannot tell."""
    return screen_rows(_cells(machine))


def _text(machine: Machine) -> str:
    return screen_text(_cells(machine))


def _cells(machine: Machine) -> bytes:
    raw = machine.folder / "screen.text"
    machine.qmp("pmemsave", {"val": TEXT_MEMORY, "size": COLUMNS * ROWS * 2, "filename": str(raw)})
    cells = raw.read_bytes()
    raw.unlink(missing_ok=True)
    return cells


def screen_rows(cells: bytes) -> list[str]:
    """Return the rows that a text mode's memory shows, in code page 437."""
    characters = bytes(character if character >= 0x20 else 0x20 for character in cells[::2]).decode("cp437")
    return [characters[row * COLUMNS : (row + 1) * COLUMNS] for row in range(ROWS)]


def screen_text(cells: bytes) -> str:
    """Return the same as lines, without what is blank at their ends."""
    return "\n".join(row.rstrip() for row in screen_rows(cells)).rstrip("\n")


def parse_ppm(data: bytes) -> tuple[int, int, bytes]:
    """Return width, height and the RGB bytes of a binary PPM, QEMU's own format; ValueError for anything else."""
    fields = data.split(maxsplit=PPM_FIELDS)
    if len(fields) != PPM_FIELDS + 1 or fields[0] != b"P6":
        raise ValueError("no binary PPM")
    width, height = int(fields[1]), int(fields[2])
    pixels = data[len(data) - width * height * 3 :]
    return width, height, pixels


def encode_png(width: int, height: int, pixels: bytes) -> bytes:
    """Return an RGB picture as PNG (ISO/IEC 15948, 5 and 11)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + pixels[row * width * 3 : (row + 1) * width * 3] for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")
