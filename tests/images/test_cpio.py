from __future__ import annotations

import stat
from collections.abc import Callable

from images.cpio import Archive

Parse = Callable[[bytes], dict[str, tuple[list[int], bytes]]]


def example() -> Archive:
    archive = Archive()
    archive.file("/usr/bin/tool", b"\x7fELF!", 0o755)
    archive.link("bin", "usr/bin")
    archive.character_device("dev/console", 5, 1)
    archive.directory("tmp", 0o1777)
    return archive


def test_entries_come_back_with_type_mode_and_content(parse_cpio: Parse) -> None:
    found = parse_cpio(example().to_bytes())
    assert list(found) == ["bin", "dev", "dev/console", "tmp", "usr", "usr/bin", "usr/bin/tool"]
    assert found["usr/bin/tool"][0][1] == stat.S_IFREG | 0o755
    assert found["usr/bin/tool"][1] == b"\x7fELF!"
    assert found["bin"][0][1] == stat.S_IFLNK | 0o777
    assert found["bin"][1] == b"usr/bin"
    assert found["tmp"][0][1] == stat.S_IFDIR | 0o1777
    assert found["dev/console"][0][1] == stat.S_IFCHR | 0o600
    assert found["dev/console"][0][9:11] == [5, 1]


def test_owner_and_times_are_zero_and_inodes_unique(parse_cpio: Parse) -> None:
    headers = [numbers for numbers, _ in parse_cpio(example().to_bytes()).values()]
    assert all(numbers[2] == numbers[3] == numbers[5] == 0 for numbers in headers)
    assert len({numbers[0] for numbers in headers}) == len(headers)


def test_the_order_of_adding_does_not_show() -> None:
    other = Archive()
    other.directory("tmp", 0o1777)
    other.character_device("dev/console", 5, 1)
    other.link("bin", "usr/bin")
    other.file("usr/bin/tool", b"\x7fELF!", 0o755)
    assert other.to_bytes() == example().to_bytes()
    assert len(other.to_bytes()) % 512 == 0


def test_an_entry_replaces_an_earlier_one(parse_cpio: Parse) -> None:
    archive = example()
    archive.link("usr/bin/tool", "busybox")
    assert parse_cpio(archive.to_bytes())["usr/bin/tool"][1] == b"busybox"
    assert "usr/bin/tool" in archive
    assert "usr/bin/other" not in archive
