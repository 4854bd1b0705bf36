"""The guest's kernel as a vmlinux, which QEMU starts directly (PVH) three seconds faster than a bzImage under TCG.

Layout of a bzImage: Linux, Documentation/arch/x86/boot.rst (setup_sects, payload_offset, payload_length).
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Callable

from lab.errors import LabError


def _zstd(payload: bytes) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise LabError(
            "The guest kernel is compressed with Zstandard, and this Python has no package zstandard.",
            remedy="pip install zstandard",
        ) from error
    return zstandard.ZstdDecompressor().decompressobj().decompress(payload)


_MAGIC_OFFSET, _MAGIC = 0x202, b"HdrS"
_DECOMPRESSORS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": lambda payload: lzma.LZMADecompressor().decompress(payload),
    b"\x1f\x8b": lambda payload: zlib.decompressobj(wbits=31).decompress(payload),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": lambda payload: bz2.BZ2Decompressor().decompress(payload),
    b"]\0\0": lambda payload: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload),
}


def vmlinux(image: bytes) -> bytes:
    """Return the ELF kernel inside a bzImage; an ELF kernel is given back as it is."""
    if image.startswith(b"\x7fELF"):
        return image
    if image[_MAGIC_OFFSET : _MAGIC_OFFSET + 4] != _MAGIC:
        raise LabError("The guest kernel is neither an ELF vmlinux nor a bzImage.", remedy="name one of these with --kernel")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    decompress = next((d for magic, d in _DECOMPRESSORS.items() if payload.startswith(magic)), None)
    if decompress is None:
        raise LabError(
            f"The guest kernel is compressed in a way that is not known here (it begins with {payload[:4].hex()}).",
            remedy="give the kernel as vmlinux, or build it with CONFIG_KERNEL_XZ, CONFIG_KERNEL_GZIP or CONFIG_KERNEL_ZSTD",
        )
    kernel = decompress(payload)
    if not kernel.startswith(b"\x7fELF"):
        raise LabError("What the guest kernel unpacks to is not an ELF file.")
    return kernel


def release(kernel: bytes) -> str:
    """Return what ``uname -r`` will say, read from the banner in a vmlinux; empty if there is none."""
    match = re.search(rb"Linux version (\S+) \(", kernel)
    return match[1].decode() if match else ""
