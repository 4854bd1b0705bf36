"""What systems print when they crash, and what a PC's firmware shows before them."""

from __future__ import annotations

import re

CRASH = re.compile(
    r"kernel panic|\bpanic\b|unhandled exception|general protection fault|page fault|double fault|triple fault|stack trace|"
    r"backtrace|\boops\b|guru meditation|assertion failed|\bBUG:|fatal (error|exception)|PANIC",
    re.IGNORECASE,
)
"""What systems print when they crash."""
FIRMWARE_LINE = re.compile(r"SeaBIOS |iPXE|Booting from |Machine UUID|Press .* for boot menu")


def without_firmware(screen: str) -> str:
    """Return what a screen shows beside the lines of a PC's firmware."""
    return "\n".join(line for line in screen.splitlines() if line.strip() and not FIRMWARE_LINE.match(line))
