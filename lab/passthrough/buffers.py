"""Page-aligned memory for the data of one command, so that the kernel maps it and need not copy."""

from __future__ import annotations

import ctypes
import mmap

from lab.passthrough.request import Request

PAGE = mmap.PAGESIZE


class Buffer:
    """So many bytes, from a page's start, with ``content`` at their begin. ``address`` is 0 where there are none."""

    def __init__(self, length: int, content: bytes = b"") -> None:
        """Allocate zeroed memory of ``length`` bytes that begins at a page; none for 0."""
        self._length = length
        self._memory: mmap.mmap | None = None
        self.address = 0
        if length:
            self._memory = mmap.mmap(-1, -(-length // PAGE) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._memory[: len(content)] = content
            self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def read(self) -> bytes:
        """Return the bytes."""
        return self._memory[: self._length] if self._memory else b""


class Buffers:
    """The data and metadata buffers of one command. They must live until its completion."""

    def __init__(self, request: Request) -> None:
        """Take memory for both, filled with what the request sends."""
        self._request = request
        self.data = Buffer(request.data_length, request.data)
        self.metadata = Buffer(request.metadata_size, request.metadata)

    def received(self) -> tuple[bytes, bytes]:
        """Return the data and metadata that came from the controller."""
        if self._request.to_controller:
            return b"", b""
        return self.data.read(), self.metadata.read()
