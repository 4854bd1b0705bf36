"""The serial console: always drained, always recorded, and a wait on it ends as soon as it has become pointless."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from io import FileIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import pexpect
from pexpect.spawnbase import SpawnBase

from lab.data.patterns import Match, pattern
from lab.deadline import Deadline
from lab.errors import GuestError, GuestPanicError, GuestTimeoutError, LabError

if TYPE_CHECKING:
    TextSpawn = SpawnBase[str]
else:
    TextSpawn = SpawnBase

LINUX_PANIC = (r"Kernel panic - not syncing[^\r\n]*\r?\n",)
"""The whole line, so that the reason is part of it."""
CHUNK = 65536
LAST_LINES = 12
MOST = 64 << 20
"""Bytes that a guest may print."""
WINDOW = 1 << 20
"""Characters at the end of what has come in which patterns are searched for: no search becomes slower with the output."""
LONGEST_PANIC = 4096
"""Characters: a panic's text is found however the reads cut it, up to this length."""
FEW, GATHER_SECONDS = 512, 0.002
"""Behind a piece of few bytes more are gathered for so long: a serial port may send them one by one, and megabytes of them."""

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][0-9A-Za-z]|\x1b[=>78DEMNOc]")


def plain(text: str) -> str:
    """Return the text without terminal control sequences and carriage returns."""
    return _ANSI.sub("", text).replace("\r", "")


class Connection(Protocol):
    """What leads to the other end of the line: a socket, or a serial line."""

    def recv(self, size: int, /) -> bytes:
        """Return what has come, nothing at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Send all bytes."""

    def shutdown(self, how: int, /) -> None:
        """Let a read in another thread end."""

    def close(self) -> None:
        """Close it."""


class ConsoleMatch(NamedTuple):
    """The match of a pattern in the console's output, and what came before it."""

    before: str
    """The output before the match, from the end of the previous match on."""
    match: Match
    which: int
    """The index of the pattern that matched."""


class Console:
    """A guest's serial line. Everything that comes is in the file ``log`` at once, expected or not."""

    def __init__(
        self,
        connection: Connection,
        log: Path,
        died: Callable[[str], GuestError],
        panics: Sequence[str] = LINUX_PANIC,
    ) -> None:
        """Create the console.

        ``died`` makes the error for a wait after QEMU's end; ``panics`` match a guest's panic message.
        """
        self._connection = connection
        self._log = log
        self._died = died
        self._panics = tuple(panics)
        self._panic: str | None = None
        self._panic_met = False
        self._failure: LabError | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._stream = _Stream()
        # The record is opened here and not in the thread, so that the caller hears when it cannot be written.
        self._thread = threading.Thread(target=self._drain, args=(FileIO(log, "w"),), name="console", daemon=True)
        self._thread.start()

    @property
    def panic(self) -> str | None:
        """The guest's panic message, once it was printed."""
        return self._panic

    def panicked(self, waiting_for: str) -> GuestPanicError:
        """Return the error for a wait that the guest's panic has made pointless."""
        return GuestPanicError(
            f"The guest panicked while the lab waited for {waiting_for}: {self._panic}", last=self.last_lines()
        )

    @contextlib.contextmanager
    def shown(self, sink: Callable[[bytes], None]) -> Iterator[None]:
        """Pass the guest's output to ``sink`` within the ``with`` block, as it comes, from the draining thread."""
        self._sink = sink
        try:
            yield
        finally:
            self._sink = None

    def send(self, text: str | bytes) -> None:
        """Type ``text``. Raises GuestDiedError when the guest has ended."""
        try:
            self._connection.sendall(text.encode() if isinstance(text, str) else text)
        except OSError as hung_up:
            raise self._died(f"the console to take {text!r}") from hung_up

    def expect(self, patterns: str | Sequence[str], deadline: Deadline, what: str = "") -> ConsoleMatch:
        """Wait until one of the regular expressions matches; the earliest match wins. ``what`` names them in errors.

        Raises GuestPanicError or GuestDiedError at once when the guest is gone, GuestTimeoutError after the deadline, and
        SlowPatternError.
        """
        wanted = [patterns] if isinstance(patterns, str) else list(patterns)
        index = self._wait(wanted, deadline, f"the console to show {what or ' or '.join(map(repr, wanted))}")
        before = self._stream.before
        assert isinstance(before, str)
        return ConsoleMatch(before, cast(Match, self._stream.match), index)

    def skip(self) -> None:
        """Forget what has come so far: waits are about what comes from now on."""
        self._stream.skip()

    def pending(self) -> str:
        """Return what has come since the last match, as far as waits have read it."""
        return self._stream.unmatched

    def forget_pending(self) -> None:
        """Forget what `pending` returns: waits are about what comes after it."""
        self._stream.forget_unmatched()

    def rest(self, deadline: Deadline) -> str:
        """Return all output until QEMU hangs up, where that is wanted. Raises GuestPanicError and GuestTimeoutError."""
        self._wait([pexpect.EOF], deadline, "the guest to end")
        assert isinstance(self._stream.before, str)
        return self._stream.before

    def _wait(self, wanted: Sequence[str | type[pexpect.EOF]], deadline: Deadline, waiting_for: str) -> int:
        """Return the index of what comes first."""
        if self._panic_met:
            raise self.panicked(waiting_for)
        expected = [one if one is pexpect.EOF else pattern(str(one), dot_all=True) for one in (*wanted, *self._panics)]
        try:
            index = self._stream.wait_for(expected, deadline)
        except pexpect.TIMEOUT:
            last = self.last_lines()
            raise GuestTimeoutError(
                f"Timed out after {deadline.seconds:g} s waiting for {waiting_for}; its last lines:\n{last or '(none)'}",
                last=last,
            ) from None
        except pexpect.EOF:
            if self._failure:
                raise self._failure from None
            raise self._died(waiting_for) from None
        if index >= len(wanted):
            self._panic_met = True
            raise self.panicked(waiting_for)
        return index

    @property
    def log(self) -> Path:
        """The file in which all output is recorded."""
        return self._log

    def text(self) -> str:
        """Return all output so far."""
        return self._log.read_bytes().decode(errors="replace")

    def last_lines(self) -> str:
        """Return the end of the record, readable."""
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - CHUNK))
            text = plain(log.read().decode(errors="replace"))
        return "\n".join(text.rstrip().splitlines()[-LAST_LINES:])

    def drained(self, deadline: Deadline) -> bool:
        """Wait until QEMU has hung up and all output is recorded; return False when the deadline came first."""
        self._thread.join(deadline.remaining())
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the connection and the thread."""
        with contextlib.suppress(OSError):  # QEMU hung up first
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    def _drain(self, log: FileIO) -> None:
        """Read, record and forward the output until it ends or cannot be taken; the body of the thread."""
        try:
            with log:
                self._take(log)
        except LabError as failure:
            self._failure = failure
        except OSError as error:
            self._failure = LabError(f"Cannot record the console in {self._log}: {error.strerror}.")
        self._stream.feed_end()

    def _take(self, log: FileIO) -> None:
        """Read, record and forward the output, and look for a panic. Raises LabError and OSError."""
        panics = [pattern(text) for text in self._panics]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        tail, taken = "", 0
        while chunk := self._receive():
            taken += len(chunk)
            if taken > MOST:
                raise LabError(
                    f"The guest has printed more than {MOST >> 20} MiB on its console.", remedy="let the driver print less"
                )
            if log.write(chunk) < len(chunk):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sink := self._sink:
                sink(chunk)
            text = decoder.decode(chunk)
            tail = tail[-LONGEST_PANIC:] + text
            if self._panic is None:
                found = [match for panic in panics if (match := panic.search(tail))]
                if found:
                    self._panic = plain(min(found, key=lambda match: match.start())[0]).strip()
            self._stream.feed(text)
            if len(chunk) < FEW:
                time.sleep(GATHER_SECONDS)

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(CHUNK)
        except OSError:  # a reset says the same as an orderly end: QEMU is gone
            return b""


class _Stream(TextSpawn):
    """pexpect's matching over text that the draining thread feeds in, under deadlines that no change of the clock moves."""

    def __init__(self) -> None:
        super().__init__(encoding="utf-8", searchwindowsize=WINDOW)
        self.delayafterread = None
        self._fed: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._deadline = Deadline(0)
        self._in_time: int | None = None
        """Pieces that had come when the deadline was over and are still to be read; None before."""

    def feed(self, text: str) -> None:
        self._fed.put(text)

    def feed_end(self) -> None:
        self._fed.put(None)

    def skip(self) -> None:
        """Drop what was fed and not matched."""
        while not self._fed.empty():
            if self._fed.get() is None:
                self.feed_end()
                break
        self.forget_unmatched()

    def forget_unmatched(self) -> None:
        """Drop what was read and not matched."""
        self._buffer, self._before = StringIO(), StringIO()

    @property
    def unmatched(self) -> str:
        """What was read and not matched."""
        return self._before.getvalue()

    def wait_for(self, patterns: Sequence[Any], deadline: Deadline) -> int:
        """Return the index of what comes first. Raises pexpect's TIMEOUT and EOF, and SlowPatternError."""
        self._deadline, self._in_time = deadline, None
        return int(self.expect_list(list(patterns), timeout=None))

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> str:
        """Return the next piece, of whatever length. Raises pexpect's TIMEOUT and EOF, the latter again and again."""
        del size, timeout  # part of the protocol
        text = self._next()
        if text is None:
            self.feed_end()
            raise pexpect.EOF("the other side hung up")
        return text

    def _next(self) -> str | None:
        while remaining := self._deadline.remaining():
            with contextlib.suppress(queue.Empty):  # the deadline may have been moved on meanwhile
                return self._fed.get(timeout=remaining)
        if self._in_time is None:
            self._in_time = self._fed.qsize()
        if self._in_time == 0:
            raise pexpect.TIMEOUT("nothing came")
        self._in_time -= 1
        return self._fed.get()
