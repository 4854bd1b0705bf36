"""QEMU, guests and firmware out of Debian packages: chosen, fetched, verified, cached."""

from lab.toolchain.prepare import FIRMWARE, WANTS, LinuxGuest, Toolchain, check_overrides, prepare, update_lock
from lab.toolchain.qemu import Qemu

__all__ = ["FIRMWARE", "WANTS", "LinuxGuest", "Qemu", "Toolchain", "check_overrides", "prepare", "update_lock"]
