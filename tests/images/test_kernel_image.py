from __future__ import annotations

import gzip
import lzma
import struct

import pytest
import zstandard

from images.kernel import release, vmlinux
from lab.errors import LabError

ELF = b"\x7fELF" + b"x" * 5000 + b"Linux version 6.1.0-50-amd64 (someone@host) ..."


def bzimage(payload: bytes, setup_sectors: int = 3) -> bytes:
    """Return an image with the fields of the boot protocol that count; the payload ends in its unpacked length."""
    payload += struct.pack("<I", len(ELF))
    head = bytearray((setup_sectors + 1) * 512)
    head[0x1F1] = setup_sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    return bytes(head) + bytes(64) + payload + b"behind"


@pytest.mark.parametrize(
    "payload", [lzma.compress(ELF), gzip.compress(ELF), zstandard.compress(ELF)], ids=["xz", "gzip", "zstd"]
)
def test_the_kernel_inside_a_bzimage(payload: bytes) -> None:
    assert vmlinux(bzimage(payload)) == ELF


def test_a_vmlinux_stays_as_it_is() -> None:
    assert vmlinux(ELF) is ELF
    assert release(ELF) == "6.1.0-50-amd64"
    assert release(b"nothing") == ""


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"garbage" * 200, "neither"),
        (bzimage(b"\x02\x21\x4c\x18"), "02214c18"),
        (bzimage(lzma.compress(b"no kernel")), "not an ELF"),
    ],
)
def test_what_is_no_kernel_is_named(image: bytes, reason: str) -> None:
    with pytest.raises(LabError, match=reason):
        vmlinux(image)
