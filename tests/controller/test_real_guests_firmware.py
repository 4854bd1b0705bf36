"""SeaBIOS and EDK2 boot from a disk on the programmable controller."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.data.events import Submitted
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.data.stream import read_stream
from lab.deadline import Deadline
from lab.device.images import image
from lab.device.lab import LabDevice
from lab.guest.accelerator import accelerator
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.nvme.commands import Read
from lab.toolchain import Toolchain

BLOCK, BLOCKS = 512, 32768
SPEC = DeviceSpec(controllers=(Controller(serial="FIRMWARE", namespaces=(Namespace(blocks=BLOCKS),)),))
EXIT_PORT = 0xF4
GREETING = b"booted from NVMe\r\n"

# The first sector reads the second one by INT 13h, sends it to the serial port, and ends QEMU. Offset, bytes, source:
BOOT_SECTOR = """
00  31 C0        xor ax, ax
02  8E D8        mov ds, ax
04  8E C0        mov es, ax
06  B8 01 02     mov ax, 0201h      ; read one sector; dl is the disk that was booted from
09  B9 02 00     mov cx, 0002h      ; cylinder 0, sector 2
0C  B6 00        mov dh, 0          ; head 0
0E  BB 00 80     mov bx, 8000h
11  CD 13        int 13h
13  72 14        jc fail
15  BE 00 80     mov si, 8000h
18  AC           next: lodsb
19  84 C0        test al, al
1B  74 06        jz done
1D  BA F8 03     mov dx, 3F8h
20  EE           out dx, al
21  EB F5        jmp next
23  B0 2A        done: mov al, 2Ah
25  E6 F4        out 0F4h, al       ; asks QEMU to end, and goes on until it does
27  EB FE        jmp $
29  B0 01        fail: mov al, 1
2B  E6 F4        out 0F4h, al
2D  F4           hlt
"""
BOOTED = 0x2A << 1 | 1
"""What isa-debug-exit makes of it."""


def assembled(listing: str) -> bytes:
    """Return the bytes of a listing, whose offsets must be right."""
    code = b""
    for line in filter(None, listing.splitlines()):
        assert int(line[:2], 16) == len(code), line
        code += bytes.fromhex(line[4:16])
    return code


def boot_disk() -> bytes:
    return assembled(BOOT_SECTOR).ljust(510, b"\0") + b"\x55\xaa" + GREETING.ljust(BLOCK, b"\0")


def fat_disk(name: str, content: bytes) -> bytes:
    """Return a FAT12 file system without partitions, with one small file in its root. FAT specification 1.03, "Boot Sector"."""
    cluster, fat_sectors, root_entries = 16, 8, 512
    assert len(content) <= cluster * BLOCK
    bpb = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s", b"\xeb\x3c\x90", b"NVMELAB ", BLOCK, cluster, 1, 1, root_entries, BLOCKS, 0xF8,
        fat_sectors, 32, 64, 0, 0, 0x80, 0, 0x29, 0x4E564D45, b"NVMELAB    ", b"FAT12   ",
    )  # fmt: skip
    fat = b"\xf8\xff\xff" + b"\xff\x0f\x00"  # media, reserved, and cluster 2, which is the chain's last
    stem, _, suffix = name.upper().partition(".")
    entry = struct.pack("<8s3sB14xHI", stem.ljust(8).encode(), suffix.ljust(3).encode(), 0x20, 2, len(content))
    return b"".join(
        (
            bpb.ljust(510, b"\0") + b"\x55\xaa",
            fat.ljust(fat_sectors * BLOCK, b"\0"),
            entry.ljust(root_entries * 32, b"\0"),
            content,
        )
    )


@contextmanager
def booting(toolchain: Toolchain, disk: bytes, bios: Path | None) -> Iterator[tuple[Machine, Path]]:
    """Boot a guest that has nothing but an NVMe disk with these bytes; disk and record are in its folder."""
    qemu = toolchain.qemu
    assert qemu is not None
    with tempfile.TemporaryDirectory(prefix="fw-") as name:
        folder = Path(name)
        lab = LabDevice(SPEC, folder, qemu.version, sockets=folder, records=folder)
        lab.create_images(seed=1)
        with image(folder, "nv0", 1).open("r+b") as file:
            file.write(disk)
        devices = (
            *lab.devices([{"bus": "pcie.0", "addr": "5"}]),
            {"driver": "isa-debug-exit", "iobase": EXIT_PORT, "iosize": 4},
        )
        spec = GuestSpec(memory=128, memory_file=folder / "ram", bios=bios, devices=devices, extra=("-S",))
        with (
            lab,
            Machine(
                qemu.command, qemu.env, spec, accelerator(qemu.command, qemu.env).name, root=folder, writable=[folder]
            ) as machine,
        ):
            machine.qmp("cont")  # not before we listen: SeaBIOS is done in a tenth of a second
            yield machine, folder


def read_blocks(folder: Path) -> set[int]:
    """Return the blocks that were read by I/O commands so far."""
    return {
        event.command.SLBA + n
        for event in read_stream(folder / "nv0.rec", complete=False)
        if isinstance(event, Submitted) and event.sqid and isinstance(event.command, Read)
        for n in range(event.command.blocks)
    }


def test_seabios_boots_from_it(toolchain: Toolchain) -> None:
    with booting(toolchain, boot_disk(), None) as (machine, folder):
        machine.console.expect(GREETING.decode(), Deadline(60), "what our boot sector prints")
        assert machine.process.wait(Deadline(10))
        assert machine.process.status == BOOTED
        assert {0, 1} <= read_blocks(folder)


SCRIPT = b"""@echo -off
fs0:
echo written by EDK2 > note.txt
echo NVME-LAB: started from %cwd%
type startup.nsh
reset -s
"""


def test_edk2_boots_from_it(toolchain: Toolchain) -> None:
    disk = fat_disk("startup.nsh", SCRIPT.replace(b"\n", b"\r\n"))
    with booting(toolchain, disk, toolchain.firmware["edk2"]) as (machine, folder):
        machine.console.expect("NVME-LAB: started from FS0:", Deadline(120), "what startup.nsh prints")
        assert machine.process.wait(Deadline(60)), "the script's reset -s"
        assert machine.process.status == 0
        assert len(disk) // BLOCK in read_blocks(folder), "the block that holds the script"
        stored = image(folder, "nv0", 1).read_bytes()
    assert b"NOTE    TXT" in stored
    assert "written by EDK2".encode("utf-16-le") in stored, "it writes, too"
