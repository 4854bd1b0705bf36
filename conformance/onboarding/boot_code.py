"""What on a disk or disc a PC starts: code for its BIOS, or a program for UEFI.

Sources: the PC's master boot record (code in its first 440 bytes); "El Torito" Bootable CD-ROM Format Specification 1.0, 2.0;
UEFI 2.10, 13.3.2.1 (platform EFh). A FAT file system's own boot sector only says that nothing can be booted.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from conformance.onboarding.foreign_images import efi_architectures
from lab.architectures import X86_64

CODE_BYTES = 440
SECTOR, BOOT_RECORD, CATALOG_AT = 2048, 17, 0x47
ENTRY, FINAL_HEADER, HEADERS = 32, 0x91, (0x90, 0x91)
BIOS_PLATFORM, VALIDATION = 0x00, 0x01
BOOTABLE = 0x88
NO_CODE = re.compile(rb"not a bootable disk|Non-system disk", re.IGNORECASE)
FAT_AT = (54, 82)
"""Where a boot sector names its FAT file system."""


@dataclass(frozen=True)
class Starts:
    """What starts a disk or disc on a PC."""

    bios: bool
    uefi: bool

    @property
    def uefi_only(self) -> bool:
        """Return whether it is to be booted with a UEFI firmware."""
        return self.uefi and not self.bios


BY_BIOS = Starts(bios=True, uefi=False)


def pc_starts(path: Path, kind: str) -> Starts:
    """Return what starts an image; ``kind`` is the key of [boot] that takes it."""
    if kind == "iso":
        by_bios = bios_starts_disc(path)
    else:
        with path.open("rb") as stream:
            by_bios = bios_starts_disk(stream.read(512))
    return Starts(by_bios, X86_64 in efi_architectures(path))


def bios_starts_disk(sector: bytes) -> bool:
    """Return whether the first sector of a disk holds code that goes on."""
    if not sector.endswith(b"\x55\xaa"):
        return False
    is_fat = any(sector[at : at + 3] == b"FAT" for at in FAT_AT)
    code = sector[90:510] if is_fat else sector[:CODE_BYTES]
    return any(code) and not NO_CODE.search(code)


def bios_starts_disc(path: Path) -> bool:
    """Return whether an ISO 9660 image has a boot image for a PC's BIOS."""
    with path.open("rb") as stream:
        stream.seek(BOOT_RECORD * SECTOR)
        record = stream.read(SECTOR)
        if b"EL TORITO SPECIFICATION" not in record:
            return False
        stream.seek(struct.unpack_from("<I", record, CATALOG_AT)[0] * SECTOR)
        catalog = stream.read(SECTOR)
    return any(platform == BIOS_PLATFORM for platform in _platforms(catalog))


def _platforms(catalog: bytes) -> list[int]:
    """Return the platform of each bootable entry of a boot catalog."""
    found: list[int] = []
    platform = catalog[1] if catalog[:1] == bytes([VALIDATION]) else BIOS_PLATFORM
    for at in range(ENTRY, len(catalog) - ENTRY + 1, ENTRY):
        kind = catalog[at]
        if kind in HEADERS:
            platform = catalog[at + 1]
        elif kind == BOOTABLE:
            found.append(platform)
    return found
