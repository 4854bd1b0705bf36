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
FIRMWARE_LINE = re.compile(r"SeaBIOS |iPXE|Booting from |Machine UUID|Press .* for boot menu|Boot failed: |No bootable device")
NOTHING_TO_BOOT = re.compile(
    r"^(No bootable device|This is not a bootable disk|BdsDxe: No bootable option or device was found)", re.MULTILINE
)
"""What SeaBIOS, the boot sector of mkfs.fat and EDK2 say."""


def without_firmware(screen: str) -> str:
    """Return what a screen shows beside the lines of a PC's firmware."""
    return "\n".join(line for line in screen.splitlines() if line.strip() and not FIRMWARE_LINE.match(line))


def nothing_to_boot(texts: Iterable[str]) -> bool:
    """Return whether a firmware says that it found nothing to boot."""
    return any(NOTHING_TO_BOOT.search(text) for text in texts)


def crash_line(texts: Iterable[str]) -> str:
    """Return the line in which a system says that it has crashed; "" if it does not."""
    found = [line.strip() for text in texts for line in text.splitlines() if CRASH.search(line)]
    return next((line for line in found if PANIC.search(line)), found[0] if found else "")
