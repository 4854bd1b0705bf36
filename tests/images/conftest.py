from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def parse_cpio() -> Callable[[bytes], dict[str, tuple[list[int], bytes]]]:
    """Return a reader of newc that shares nothing with the writer."""
    return parse


def parse(data: bytes) -> dict[str, tuple[list[int], bytes]]:
    """Return an independent reader of newc: name to (the 13 header numbers, content)."""
    found: dict[str, tuple[list[int], bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        assert at % 4 == 0
        numbers = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_length = numbers[6], numbers[11]
        name = data[at + 110 : at + 110 + name_length - 1].decode()
        start = (at + 110 + name_length + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert not any(data[start:])
            return found
        assert name not in found
        found[name] = (numbers, data[start : start + size])
        at = (start + size + 3) // 4 * 4
