"""QEMU's log of translated guest code (``-d in_asm``): the first translation of an instruction is its first execution.

A block is ``IN:``, a line an instruction with address and bytes, and an empty line, after a line of hyphens. An instruction of
more than eight bytes goes on in a further line. Where QEMU's trace goes to the same file its lines stand between blocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from types import TracebackType

from lab.deadline import Deadline
from lab.errors import GuestTimeoutError

MOST = 1 << 20
"""Instructions that are kept of one recording: some ten megabytes of code."""
LINE_BYTES = 8
"""Bytes of an instruction in one line."""
PIPE_BYTES = 1 << 20
READ_BYTES = 1 << 18
CLOSE_SECONDS = 5.0
_LINE = re.compile(rb"0x([0-9a-f]{8,16}): +((?:[0-9a-f]{2} ){1,8}|[0-9a-f]{8} )")
_OTHERS = (b"IN:", b"-----", b"OBJD-", b"Priv:")


class ExecutedCode:
    """The instructions that a guest has executed: address → its first bytes, at most `LINE_BYTES`."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with nothing; what goes beyond ``most`` instructions is counted and not kept."""
        self.code: dict[int, bytes] = {}
        self.dropped = 0
        self._most = most

    def take(self, line: bytes) -> bool:
        """Take a line without its end. Return whether it is of the translation log."""
        found = _LINE.match(line + b" ")
        if found is None:
            return not line or line.startswith(_OTHERS)
        address = int(found[1], 16)
        if len(self.code) < self._most:
            self.code.setdefault(address, _code(found[2]))
        else:
            self.dropped += address not in self.code
        return True


def _code(words: bytes) -> bytes:
    """Return an instruction's bytes: single ones for x86, a little-endian word for a processor with such instructions."""
    text = words.decode()
    return int(text, 16).to_bytes(4, "little") if len(text) == LINE_BYTES + 1 and " " not in text[:-1] else bytes.fromhex(text)


class LogReader:
    """The thread that reads the translation log of a QEMU whose device is not traced, until its end.

    ``write_end`` is the file descriptor for QEMU; `started` closes our copy of it.
    """

    def __init__(self, executed: ExecutedCode) -> None:
        """Open the pipe and start to read it."""
        self._executed = executed
        self._read_end, self.write_end = os.pipe()
        with contextlib.suppress(OSError):  # a smaller pipe is slower, not wrong
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = threading.Thread(target=self._run, name="translation log", daemon=True)
        self._thread.start()

    def started(self) -> None:
        """Close our copy of the pipe, now that QEMU has its own: so the log ends when QEMU does."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def __enter__(self) -> LogReader:
        """Return the reader."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Wait for the end of the log, which is QEMU's end; GuestTimeoutError if it does not come."""
        self.started()
        deadline = Deadline(CLOSE_SECONDS)
        self._thread.join(deadline.remaining())
        if self._thread.is_alive() and error is None:
            raise GuestTimeoutError(f"QEMU's translation log did not end within {deadline.seconds:g} s: QEMU still runs.")

    def _run(self) -> None:
        rest = b""
        with open(self._read_end, "rb", buffering=0) as pipe:  # noqa: PTH123 -- a descriptor, not a path
            while data := pipe.read(READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._executed.take(line)
