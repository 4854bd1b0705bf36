"""The images of file systems: that they are what mkfs makes, and that what follows from their paths is in them."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import cast
from zlib import crc32

import pytest

from lab.data import content, filesystems
from lab.data.filesystems import partitioned
from lab.data.plan import Namespace
from lab.reference.errors import Refused
from lab.reference.fat import FatVolume
from lab.reference.namespace import Namespace as ReferenceNamespace
from lab.toolchain.closures import Fetched
from tests.data.filesystem_images import make

XFS_INODE, XFS_INODE_BYTES = b"IN", 512
CHANGING = (*range(32, 56), *range(92, 96), *range(100, 104), *range(144, 152))
"""Bytes of an inode with times, a random generation and the checksum over them. fs/xfs/libxfs/xfs_format.h, xfs_dinode."""


@pytest.mark.parametrize("kind", ["ext4", "vfat", "fat32", "ext2"])
def test_an_image_is_what_mkfs_makes(kind: str, filesystem_tools: Fetched, tmp_path: Path) -> None:
    assert make(kind, filesystem_tools.root, tmp_path) == filesystems.image(kind)


def test_the_image_of_xfs_differs_in_times_only(filesystem_tools: Fetched, tmp_path: Path) -> None:
    made, shipped = make("xfs", filesystem_tools.root, tmp_path), filesystems.image("xfs")
    assert len(made) == len(shipped)
    for at in (i for i in range(0, len(made), XFS_INODE_BYTES) if made[i : i + 512] != shipped[i : i + 512]):
        ours, theirs = bytearray(made[at : at + XFS_INODE_BYTES]), bytearray(shipped[at : at + XFS_INODE_BYTES])
        assert ours[:2] == XFS_INODE, f"no inode at {at:#x}"
        for offset in CHANGING:
            ours[offset] = theirs[offset] = 0
        assert ours == theirs, f"another inode at {at:#x}"


@pytest.mark.parametrize("kind", filesystems.KINDS)
def test_what_is_outside_the_areas_is_zero(kind: filesystems.Kind) -> None:
    image = bytearray(filesystems.image(kind))
    namespace = Namespace(blocks=len(image) // 512 + 1, filesystem=kind)
    for offset, data in content.areas(0, namespace):
        assert image[offset : offset + len(data)] == data
        image[offset : offset + len(data)] = bytes(len(data))
    assert not any(image)
    assert content.initial(0, namespace, len(image) // 512) == bytes(512)


@pytest.mark.parametrize("kind", filesystems.KINDS)
@pytest.mark.parametrize("path", filesystems.FILES)
def test_each_file_is_in_each_image(kind: str, path: str) -> None:
    assert filesystems.file_bytes(path)[:1024] in filesystems.image(kind)


@pytest.mark.parametrize("path", filesystems.FILES)
def test_each_file_is_in_each_partition(path: str) -> None:
    for kind in (partition.kind for partition in partitioned.PARTITIONS):
        assert filesystems.file_bytes(path)[:512] in filesystems.image(kind)


@pytest.mark.parametrize("blocks", [partitioned.least_blocks(filesystems.partition_sizes()), 1 << 21, 1 << 33])
def test_both_partition_tables_are_whole_and_name_what_is_there(blocks: int) -> None:
    """UEFI 2.10, 5.3.2."""
    namespace = Namespace(blocks=blocks, filesystem="gpt")
    read = partial(content.initial_blocks, 0, namespace)
    assert read(0, 1)[450] == partitioned.PROTECTIVE
    for own, other in ((1, blocks - 1), (blocks - 1, 1)):
        header = read(own, 1)
        assert header[:12] == b"EFI PART\0\0\1\0"
        crc, here, there, first, last = struct.unpack_from("<I4x4Q", header, 16)
        assert (here, there) == (own, other)
        assert crc == crc32(header[:16] + bytes(4) + header[20:92])
        table, count, size, checksum = struct.unpack_from("<Q3I", header, 72)
        entries = read(table, count * size // 512)
        assert checksum == crc32(entries)
        for number, (kind, start) in enumerate((("fat32", b"\xeb\x58\x90"), ("ext2", bytes(3)))):
            begin, end = struct.unpack_from("<2Q", entries, number * size + 32)
            assert first <= begin < end <= last
            assert read(begin, 1)[:3] == start
            assert read(begin, end - begin + 1) == filesystems.image(kind)
    assert content.initial(0, namespace, blocks // 2) == bytes(512)


def test_a_disk_is_made_of_its_areas_alone() -> None:
    namespace = Namespace(blocks=1 << 21, filesystem="gpt")
    known = dict(content.areas_of(namespace))
    assert sum(known.values()) * 512 < 4 << 20, "a namespace of it costs little"
    assert content.initial_blocks(0, namespace, 0, 34) == filesystems.held("gpt", 1 << 21, 0, 34 * 512)


class Blocks:
    """What `FatVolume` needs of a namespace, from an image."""

    nsid, block_size = 1, 512

    def __init__(self, image: bytes) -> None:
        self.image = image

    def read(self, lba: int, blocks: int) -> bytes:
        return self.image[lba * 512 : (lba + blocks) * 512]


def volume(image: bytes) -> FatVolume:
    return FatVolume(cast(ReferenceNamespace, Blocks(image)))


@pytest.mark.parametrize("path", filesystems.FILES)
def test_the_reference_driver_reads_each_file(path: str) -> None:
    assert volume(filesystems.image("vfat")).read(path) == filesystems.file_bytes(path)


def test_what_is_not_there_is_refused() -> None:
    fat = volume(filesystems.image("vfat"))
    with pytest.raises(Refused, match=r"there is no NONE\.TXT of DATA/NONE\.TXT"):
        fat.read("DATA/NONE.TXT")
    with pytest.raises(Refused, match="DATA is a folder"):
        fat.read("DATA")
    with pytest.raises(Refused, match=r"the part before X is a file"):
        fat.read("HELLO.TXT/X")
    with pytest.raises(Refused, match="no FAT16 file system"):
        volume(filesystems.image("ext4"))


def test_a_chain_that_is_scattered_or_a_circle_is_followed_to_its_end() -> None:
    image = bytearray(filesystems.image("vfat"))
    fat = volume(bytes(image))
    table = fat._table * 512
    entries = memoryview(image)[table : table + fat._table_sectors * 512].cast("H")
    entries[100], entries[200], entries[150] = 200, 150, 0xFFFF
    expected = b"".join(fat._namespace.read(fat._data + (cluster - 2) * 4, 4) for cluster in (100, 200, 150))
    assert volume(bytes(image)).read_chain(100) == expected
    entries[150] = 100
    assert volume(bytes(image)).read_chain(100), "it ends"
