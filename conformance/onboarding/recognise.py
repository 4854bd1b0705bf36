"""What a user's driver file is: a kernel, a disk, a disc, a firmware, a module; and how QEMU starts it.

Sources: System V gABI (ELF), Xen's public/elfnote.h (PVH entry: note 18 of "Xen"), Multiboot 0.6.96 3.1.1, Multiboot2 3.1.1,
Linux' boot protocol (HdrS at 202h), ECMA-119 (CD001 in sector 16), the PC's master boot record, UEFI PI vol. 3 (_FVH at 40 of a
firmware volume), Linux' .modinfo strings.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment, NoteSegment, Segment

from conformance.onboarding import foreign_images
from conformance.onboarding.boot_code import BY_BIOS, Starts, pc_starts
from images.modules import modinfo
from lab.architectures import AARCH64, ARCHITECTURES, RISCV64, X86_64
from lab.data.image_forms import foreign_form
from lab.errors import UsageError

Boots = Literal["kernel", "disk", "iso", "floppy", "firmware", "module", "program", ""]
"""The key of a manifest's [boot] that takes it; module: [push]; program: [program]; "": nothing here starts it."""
FLOPPY_SIZES = frozenset(kib << 10 for kib in (160, 180, 320, 360, 720, 1200, 1440, 2880))
"""Bytes of whole floppy disks, as PCs have them."""

HEAD = 1 << 20
"""Bytes that are looked at, besides the last ones."""
SECTOR = 2048
RESET_VECTOR = 16
"""Bytes before the end of a firmware, which is mapped to end at 4 GiB."""
JUMPS = frozenset((0xEA, 0xE9, 0xEB))
"""Opcodes of which one is among the first that a processor executes: far, near and short jump."""
EXT_AT = 0x438
"""Where an ext file system has its magic number."""
FIRMWARE_UNIT, FIRMWARE_MOST = 64 << 10, 64 << 20
XEN_PHYS32_ENTRY = 18
MACHINES = {"EM_386": "i386", "EM_X86_64": "x86-64", "EM_AARCH64": "AArch64", "EM_RISCV": "RISC-V", "EM_ARM": "Arm"}
PC_MACHINES = frozenset({"EM_386", "EM_X86_64"})
FOREIGN_MACHINES = {("EM_AARCH64", 64): AARCH64, ("EM_RISCV", 64): RISCV64}
GUEST_LIBRARIES = frozenset({"ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libm.so.6"})
"""Shared libraries of the guest that programs run in (``images/recipes/linux.toml``)."""
MACHINE_MODE = 0x8000_0000
"""Where a program for RISC-V begins that runs instead of OpenSBI, and not behind it."""
NO_BOOT_CODE = (
    "its first sector holds no boot code; a disk that a system shall mount is given by --nvme-disk, or as disk.contents"
)
MULTIBOOT, MULTIBOOT2 = 0x1BADB002, 0xE85250D6


@dataclass(frozen=True)
class Recognised:
    """What a file is, in words, and what starts it."""

    what: str
    boots: Boots
    remedy: str = ""  # where nothing starts it, or only after something was done
    arch: str = X86_64
    modinfo: dict[str, str] = field(default_factory=dict)  # of a kernel module
    starts: Starts = BY_BIOS  # what starts a disk or disc on a PC

    @property
    def is_linux(self) -> bool:
        """Return whether it is a Linux kernel that is booted without a boot loader."""
        return self.boots == "kernel" and self.what.startswith("a Linux kernel")


def recognise(path: Path) -> Recognised:
    """Return what the file is. UsageError if it cannot be read or is of no known kind."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            stream.seek(max(0, size - RESET_VECTOR))
            tail = stream.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", remedy="name your driver's image or module") from error
    if not size:
        raise UsageError(f"{path} is empty.", remedy="build it again, or name another file")
    found = next(_candidates(path, head, tail, size), None)
    if found is None:
        raise UsageError(
            f"{path} is nothing that is known here: it begins with {head[:8].hex(' ')}.",
            remedy=(
                "known are ELF kernels (PVH, multiboot), bzImage, ISO 9660, disks with a boot sector, firmware, .ko modules; "
                f"say what it is: nvme-lab observe --kernel {path} (or --firmware, --disk), with --arch where it is no PC's"
            ),
        )
    return found


def _candidates(path: Path, head: bytes, tail: bytes, size: int) -> Iterator[Recognised]:
    """Yield the kinds that it may be, the surest first."""
    if head.startswith(b"\x7fELF"):
        yield _elf(path, head)
    if head[0x202:0x206] == b"HdrS":
        yield Recognised("a Linux kernel (bzImage)", "kernel")
    if arch := foreign_images.linux_image(head):
        yield Recognised(f"a Linux kernel (Image) for {ARCHITECTURES[arch].shown}", "kernel", arch=arch)
    if form := foreign_form(head):
        yield Recognised(form.what, "", form.remedy_for(path))
    if head[16 * SECTOR + 1 : 16 * SECTOR + 6] == b"CD001":
        bootable = b"EL TORITO SPECIFICATION" in head[17 * SECTOR : 18 * SECTOR]
        remedy = "" if bootable else "it has no El Torito boot record: make it bootable (grub-mkrescue does)"
        what = f"an ISO 9660 image{', bootable' if bootable else ''}"
        yield _of_a_disk(path, Recognised(what, "iso", remedy))
    if foreign_images.is_supervisor_program(head):
        yield Recognised("U-Boot for RISC-V, in supervisor mode: OpenSBI starts it as a kernel", "kernel", arch=RISCV64)
    what, arch = foreign_images.firmware(head)
    if what:
        yield Recognised(what, "firmware", arch=arch)
    if head[0x28:0x2C] == b"_FVH":
        yield Recognised("a UEFI firmware volume", "firmware")
    if head.startswith(b"MZ") and _pe(head):
        of = ARCHITECTURES[foreign_images.pe_architecture(head) or X86_64]
        yield Recognised(
            f"a UEFI application (PE) for {of.shown}", "",
            f"put it on a disk with an EFI system partition, as EFI/BOOT/{of.efi_program}",
        )  # fmt: skip
    if size % FIRMWARE_UNIT == 0 and 0 < size <= FIRMWARE_MOST and JUMPS.intersection(tail[:4]):
        yield Recognised("a firmware image: it ends with a reset vector", "firmware")
    if _multiboot(head, MULTIBOOT, 8192, 4):
        yield Recognised("a multiboot kernel (not ELF)", "kernel")
    if head[510:512] == b"\x55\xaa":
        if size in FLOPPY_SIZES:
            yield Recognised(f"a floppy disk image with a boot sector ({size >> 10} KiB)", "floppy")
        table = "GPT" if head[512:520] == b"EFI PART" else "master boot record"
        yield _of_a_disk(path, Recognised(f"a disk image with a boot sector ({table})", "disk"))
    if head[EXT_AT : EXT_AT + 2] == b"\x53\xef":
        yield Recognised("an ext2, ext3 or ext4 file system without boot code", "", NO_BOOT_CODE)


def _of_a_disk(path: Path, found: Recognised) -> Recognised:
    """Return what was found, with the architecture of what UEFI starts from it."""
    arch = foreign_images.disk_architecture(path)
    if arch != X86_64:
        return replace(found, what=f"{found.what} for {ARCHITECTURES[arch].shown} (UEFI)", remedy="", arch=arch)
    starts = pc_starts(path, found.boots)
    if starts.uefi_only:
        return replace(found, what=f"{found.what} for UEFI", remedy="", starts=starts)
    remedy = found.remedy if starts.bios or found.boots == "iso" else NO_BOOT_CODE
    return replace(found, remedy=remedy, starts=starts)


def _elf(path: Path, head: bytes) -> Recognised:
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            if elf["e_type"] == "ET_REL":
                return _module(path)
            is_program = any(_has_interpreter(segment) for segment in elf.iter_segments())
            needed = _needed(elf)
            is_static = any(_is_linux(segment) for segment in elf.iter_segments() if isinstance(segment, NoteSegment))
            has_pvh = any(_pvh(segment) for segment in elf.iter_segments() if isinstance(segment, NoteSegment))
            bits, machine, entry = elf.elfclass, elf["e_machine"], elf["e_entry"]
    except (ELFError, ConstructError, OSError, ValueError, OverflowError) as error:
        return Recognised(
            "an ELF file that is damaged or cut off", "", f"build or copy it again: {error or type(error).__name__}"
        )
    shown = MACHINES.get(machine, str(machine).removeprefix("EM_"))
    if machine not in PC_MACHINES and (is_program or (is_static and not has_pvh)):
        return Recognised(f"a {bits}-bit Linux program for {shown}", "", "the guest of programs is x86-64: build it for that")
    if is_program:
        missing = [name for name in needed if name not in GUEST_LIBRARIES]
        remedy = f"the guest has no {' and no '.join(missing)}: link it statically, or push it too" if missing else ""
        return Recognised(f"a {bits}-bit Linux program", "program", remedy)
    if is_static and not has_pvh:
        return Recognised(f"a {bits}-bit Linux program, linked statically", "program")
    if arch := FOREIGN_MACHINES.get((machine, bits)):
        if arch == RISCV64 and entry == MACHINE_MODE:
            return Recognised(
                f"a {bits}-bit ELF firmware for {shown}: it begins where machine mode does", "firmware", arch=arch
            )
        return Recognised(f"a {bits}-bit ELF kernel for {shown}", "kernel", arch=arch)
    if machine not in PC_MACHINES:
        return Recognised(
            f"a {bits}-bit ELF file for {shown}", "", f"guests are of {', '.join(ARCHITECTURES)}: build it for one of them"
        )
    if has_pvh:
        return Recognised(f"a {bits}-bit ELF kernel with a PVH entry", "kernel")
    if _multiboot(head, MULTIBOOT, 8192, 4):
        if bits == 64:
            return Recognised(
                "a 64-bit ELF kernel with a multiboot header", "",
                "QEMU takes 32-bit ELF only for multiboot: objcopy -O elf32-i386 IN OUT, or add a PVH note",
            )  # fmt: skip
        return Recognised("a 32-bit ELF kernel with a multiboot header", "kernel")
    if _multiboot(head, MULTIBOOT2, 32768, 8):
        return Recognised(f"a {bits}-bit ELF kernel with a multiboot2 header", "", "QEMU cannot load it: make an ISO with GRUB")
    return Recognised(
        f"a {bits}-bit ELF file for {MACHINES.get(machine, f'machine {machine}')} without PVH note or multiboot header", "",
        "QEMU cannot start it: add a PVH note (XEN_ELFNOTE_PHYS32_ENTRY) or a multiboot header, or make a disk image",
    )  # fmt: skip


def _needed(elf: ELFFile) -> list[str]:
    """Return the shared libraries that an ELF file names (DT_NEEDED)."""
    tags = (
        tag for segment in elf.iter_segments() if isinstance(segment, DynamicSegment) for tag in segment.iter_tags("DT_NEEDED")
    )
    return [str(vars(tag)["needed"]) for tag in tags]  # pyelftools sets it, and declares none


def _has_interpreter(segment: Segment) -> bool:
    return isinstance(segment, InterpSegment) and segment.get_interp_name().startswith("/")


def _is_linux(notes: NoteSegment) -> bool:
    """Return whether the segment has the note by which the C library says for which system it is (Linux Standard Base 5.0)."""
    return any(note["n_name"] == "GNU" and note["n_type"] == "NT_GNU_ABI_TAG" for note in notes.iter_notes())


def _pvh(notes: NoteSegment) -> bool:
    """Return whether the segment has the note by which QEMU starts a kernel directly."""
    kinds: list[object] = [note["n_type"] for note in notes.iter_notes() if note["n_name"] == "Xen"]
    return XEN_PHYS32_ENTRY in kinds  # pyelftools has no name for it, and leaves the number


def _multiboot(head: bytes, magic: int, within: int, step: int) -> bool:
    """Return whether there is a header with a correct checksum."""
    words = 3 if magic == MULTIBOOT else 4
    for at in range(0, min(within, len(head)) - 4 * words + 1, step):
        found = struct.unpack_from(f"<{words}I", head, at)
        if found[0] == magic and sum(found) & 0xFFFFFFFF == 0:
            return True
    return False


def _pe(head: bytes) -> bool:
    (at,) = struct.unpack_from("<I", head.ljust(64, b"\0"), 60)
    return head[at : at + 4] == b"PE\0\0"


def _module(path: Path) -> Recognised:
    content = path.read_bytes()
    known = {key: next(iter(modinfo(content, key)), "") for key in ("vermagic", "name", "depends")}
    if not known["vermagic"]:
        return Recognised("an object file", "", "link it into a kernel or a module (.ko)")
    return Recognised(f"a Linux kernel module for {known['vermagic'].split()[0]}", "module", modinfo=known)
