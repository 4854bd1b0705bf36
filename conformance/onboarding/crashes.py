"""What systems print when they crash, and what a PC's firmware shows before them."""

from __future__ import annotations

import re
from collections.abc import Iterable

CRASH = re.compile(
    r"kernel panic|(?<![=.])\bpanic\b(?!=)|unhandled exception|general protection fault|page fault|double fault|"
    r"triple fault|stack trace|backtrace|\boops\b(?!=)|guru meditation|assertion failed|(?-i:\bBUG:)|fatal (error|exception)",
    re.IGNORECASE,
)
"""What systems print when they crash."""
PANIC = re.compile(r"kernel panic", re.IGNORECASE)
"""What stands for the whole of it where other lines match, too."""
FIRMWARE_LINE = re.compile(r"SeaBIOS |iPXE|Booting from |Machine UUID|Press .* for boot menu")


def without_firmware(screen: str) -> str:
    """Return what a screen shows beside the lines of a PC's firmware."""
    return "\n".join(line for line in screen.splitlines() if line.strip() and not FIRMWARE_LINE.match(line))


def crash_line(texts: Iterable[str]) -> str:
    """Return the line in which a system says that it has crashed; "" if it does not."""
    found = [line.strip() for text in texts for line in text.splitlines() if CRASH.search(line)]
    return next((line for line in found if PANIC.search(line)), found[0] if found else "")
