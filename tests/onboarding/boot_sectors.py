"""Disk images of one boot sector each, made by hand: what a PC's firmware starts without any tool chain."""

from __future__ import annotations

import struct

COM1, COM2, DEBUG_CONSOLE = 0x3F8, 0x2F8, 0xE9
DISK_BYTES = 1 << 20
FLOPPY_BYTES = 1440 << 10
SILENT = bytes.fromhex("fa f4 eb fd")
"""Interrupts off, and halted."""
SPINNING = bytes.fromhex("eb fe")


def printer(port: int, text: bytes) -> bytes:
    """Return code that sends the text to a port, a byte after the other, and halts."""
    head = bytes.fromhex("31c0 8ed8 fc be167c ba") + struct.pack("<H", port)
    return head + bytes.fromhex("ac 84c0 7403 ee ebf8 f4 ebfd") + text + b"\0"


def shower(text: bytes) -> bytes:
    """Return code that writes the text into the first line of the screen's text memory, and halts."""
    head = bytes.fromhex("b800b8 8ec0 31ff 31c0 8ed8 fc")
    loop = bytes.fromhex("ac 84c0 7405 b407 ab ebf6 f4 ebfd")
    return head + b"\xbe" + struct.pack("<H", 0x7C00 + len(head) + 3 + len(loop)) + loop + text + b"\0"


def image(code: bytes, size: int = DISK_BYTES) -> bytes:
    """Return an image that begins with the code, as a boot sector."""
    return (code.ljust(510, b"\0") + b"\x55\xaa").ljust(size, b"\0")
