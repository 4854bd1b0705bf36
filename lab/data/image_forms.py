"""Files that QEMU cannot boot or use as a raw disk as they are: empty, compressed, archives, disk images of other formats.

Given all the same, they end in a firmware that finds nothing to boot, minutes later. So they are refused before that.
"""

from __future__ import annotations

import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from lab.errors import UsageError

HEAD_BYTES = 512
_CONVERT = "convert it: qemu-img convert -O raw IN OUT"


@dataclass(frozen=True)
class ForeignForm:
    """One form, by the bytes at ``offset``."""

    what: str
    magic: bytes
    remedy: str
    offset: int = 0

    def remedy_for(self, path: Path) -> str:
        """Return the command that makes of the file one that can be taken."""
        names = {"IN": path.name, "OUT": f"{path.stem}.raw"}
        return re.sub(r"\b(IN|OUT)\b", lambda word: shlex.quote(names[word[0]]), self.remedy)


FOREIGN_FORMS = (
    ForeignForm("a file compressed by gzip", b"\x1f\x8b", "unpack it: gunzip < IN > OUT"),
    ForeignForm("a file compressed by xz", b"\xfd7zXZ\0", "unpack it: xz -dc IN > OUT"),
    ForeignForm("a file compressed by zstd", b"\x28\xb5\x2f\xfd", "unpack it: zstd -dc IN > OUT"),
    ForeignForm("a file compressed by bzip2", b"BZh", "unpack it: bzip2 -dc IN > OUT"),
    ForeignForm("a file compressed by lz4", b"\x04\x22\x4d\x18", "unpack it: lz4 -dc IN > OUT"),
    ForeignForm("a zip archive", b"PK\x03\x04", "unpack it: unzip IN"),
    ForeignForm("a 7z archive", b"7z\xbc\xaf\x27\x1c", "unpack it: 7z x IN"),
    ForeignForm("a tar archive", b"ustar", "unpack it: tar -xf IN", 257),
    ForeignForm("a disk image in qcow2 format", b"QFI\xfb", _CONVERT),
    ForeignForm("a disk image in VMDK format", b"KDMV", _CONVERT),
    ForeignForm("a disk image in VMDK format", b"# Disk DescriptorFile", _CONVERT),
    ForeignForm("a disk image in VHDX format", b"vhdxfile", _CONVERT),
    ForeignForm("a disk image in VHD format", b"conectix", _CONVERT),
    ForeignForm("a disk image in VDI format", b"\x7f\x10\xda\xbe", _CONVERT, 64),
)


def is_uefi_firmware(path: Path) -> bool:
    """Return whether a file begins with a firmware volume (UEFI PI 1.8 vol. 3, 3.2.1: its signature is at 40)."""
    with path.open("rb") as stream:
        return stream.read(44).endswith(b"_FVH")


def foreign_form(head: bytes) -> ForeignForm | None:
    """Return which of these forms a file has that begins so; None for any other."""
    return next((form for form in FOREIGN_FORMS if head[form.offset :].startswith(form.magic)), None)


def require_raw(path: Path, named: str, *, may_be_packed: bool = False) -> Path:
    """Return the path of a file that QEMU can take as it is. UsageError, which begins with ``named``, for any other.

    ``may_be_packed``: some kernels are taken compressed.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UsageError(f"{named}: {path} is {kind}", remedy="name an image file")
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except FileNotFoundError:
        raise UsageError(f"{named}: there is no file {path}", remedy="build it, or correct the path") from None
    except OSError as error:
        raise UsageError(f"{named}: {path} cannot be read: {error.strerror}", remedy="correct its rights") from error
    if not status.st_size:
        raise UsageError(f"{named}: {path} is empty", remedy="build it again")
    form = foreign_form(head)
    if form is not None and not (may_be_packed and "compressed" in form.what):
        raise UsageError(f"{named}: {path} is {form.what}", remedy=form.remedy_for(path))
    return path
