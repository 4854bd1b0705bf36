"""Makes the images of lab/data/filesystems with the programs of the closure ``filesystems``.

``python -m tests.data.filesystem_images FOLDER`` writes them, each as KIND.img.xz.
"""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lab.data.filesystems import FILES, IMAGES, file_bytes

UUID = "4e564d65-4c61-4200-8000-000000000001"
TIME = 1_700_000_000
"""Of everything in ext4 and vfat; mkfs.xfs takes the time of day."""
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")


def make(kind: str, tools: Path, folder: Path) -> bytes:
    """Return an image that is made anew; ``folder`` is empty at first."""
    source, image = folder / "source", folder / f"{kind}.img"
    for name in FILES:
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file_bytes(name))
        file.chmod(0o644)
        os.utime(file, (TIME, TIME))
    {"ext4": _ext4, "vfat": _vfat, "xfs": _xfs, "fat32": _fat32, "ext2": _ext2}[kind](tools, source, image)
    return image.read_bytes()


def _ext4(tools: Path, source: Path, image: Path) -> None:
    options = ["-E", f"hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0", "-L", "LAB"]
    _run(tools, "sbin/mke2fs", "-q", "-t", "ext4", "-b", "1024", "-N", "64", "-J", "size=1", "-U", UUID, *options, image, "10M")
    _write_files(tools, source, image)


def _ext2(tools: Path, source: Path, image: Path) -> None:
    """Make it as old systems read it: inodes of 128 bytes, no indexed folders, no room to grow."""
    options = ["-E", f"hash_seed={UUID},lazy_itable_init=0", "-L", "LAB", "-I", "128", "-O", "^resize_inode,^dir_index"]
    _run(tools, "sbin/mke2fs", "-q", "-t", "ext2", "-b", "1024", "-N", "64", "-U", UUID, *options, image, "8M")
    _write_files(tools, source, image)


def _write_files(tools: Path, source: Path, image: Path) -> None:
    commands = [f"mkdir {folder}" for folder in _folders()] + [f"write {source / name} {name}" for name in FILES]
    _run(tools, "sbin/debugfs", "-w", "-f", "-", image, input="\n".join(commands))


def _vfat(tools: Path, source: Path, image: Path) -> None:
    _run(tools, "sbin/mkfs.fat", "--invariant", "-F", "16", "-s", "4", "-n", "LAB", "-C", image, "10240")
    _copy_files(tools, source, image)


def _fat32(tools: Path, source: Path, image: Path) -> None:
    """Make the smallest one: 65525 clusters of one sector, and a few more."""
    _run(tools, "sbin/mkfs.fat", "--invariant", "-F", "32", "-s", "1", "-n", "LAB", "-h", "2048", "-C", image, "34816")
    _copy_files(tools, source, image)


def _copy_files(tools: Path, source: Path, image: Path) -> None:
    for folder in _folders():
        _run(tools, "usr/bin/mmd", "-i", image, f"::{folder}")
    for name in FILES:
        _run(tools, "usr/bin/mcopy", "-m", "-i", image, source / name, f"::{name}")


def _xfs(tools: Path, source: Path, image: Path) -> None:
    prototype = image.with_suffix(".prototype")
    prototype.write_text("/\n0 0\nd--755 0 0\n" + "".join(_listed(source)) + "$\n")
    metadata = f"uuid={UUID},reflink=0,rmapbt=0,finobt=0"
    sizes = ["-d", f"file,name={image},size=16m,agcount=1", "-l", "size=4m"]
    _run(tools, "sbin/mkfs.xfs", "--unsupported", "-q", "-m", metadata, "-i", "sparse=0", *sizes, "-p", prototype)


def _listed(folder: Path) -> Iterator[str]:
    """Yield the lines of a prototype for what a folder holds."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield f"{path.name} d--755 0 0\n"
            yield from _listed(path)
            yield "$\n"
        else:
            yield f"{path.name} ---644 0 0 {path}\n"


def _folders() -> list[str]:
    return sorted({str(parent) for name in FILES for parent in PurePosixPath(name).parents} - {"."})


def _run(tools: Path, program: str, *arguments: str | Path, input: str = "") -> None:
    times = {"E2FSPROGS_FAKE_TIME": str(TIME), "SOURCE_DATE_EPOCH": str(TIME), "TZ": "UTC", "LC_ALL": "C"}
    libraries = {"LD_LIBRARY_PATH": ":".join(str(tools / folder) for folder in LIBRARIES)}
    subprocess.run(
        [tools / program, *arguments], env={**os.environ, **times, **libraries}, input=input, text=True, check=True,
        capture_output=True,
    )  # fmt: skip


if __name__ == "__main__":
    import tempfile

    from tests.setups import closure

    root = closure("filesystems", print).root
    for each in IMAGES:
        with tempfile.TemporaryDirectory() as scratch:
            packed = lzma.compress(make(each, root, Path(scratch)), preset=9 | lzma.PRESET_EXTREME)
        Path(sys.argv[1], f"{each}.img.xz").write_bytes(packed)
