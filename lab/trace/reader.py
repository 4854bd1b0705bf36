"""The thread that drains QEMU's trace.

QEMU writes its trace synchronously: while the pipe is full QEMU stands still, QMP included. So the thread does nothing but
read, translate and write to the evidence; when the evidence cannot be written it keeps draining, and `close` raises the error.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import BinaryIO

from lab.data.events import Event
from lab.data.evidence import EvidenceWriter
from lab.deadline import Deadline
from lab.errors import GuestTimeoutError, LabError
from lab.trace.declarations import Declarations
from lab.trace.translator import Translator

PIPE_BYTES = 1 << 20
"""What an unprivileged process may ask for (/proc/sys/fs/pipe-max-size)."""
READ_BYTES = 1 << 18
QUIET_SECONDS = 0.2
"""After this long without a line nothing more belongs to what the translator still holds back."""


class TraceReader:
    """Reads the trace of one QEMU into one evidence folder (``trace.log`` and events), from its making to `close`.

    ``write_end`` is the file descriptor for QEMU (`Machine`'s ``trace``); `started` closes our copy of it.
    """

    def __init__(
        self,
        declarations: Declarations,
        translator: Translator,
        evidence: EvidenceWriter,
        aside: Callable[[bytes], bool] | None = None,
    ) -> None:
        """Open the pipe and start to read it. ``aside`` takes a line of another log, if it is one."""
        self.translator = translator
        self.lines = 0
        self.foreign = 0
        """Lines about other devices of the guest, which are not kept."""
        self.last = "nothing"
        """The last line whose events are in the evidence."""
        self._declarations = declarations
        self._evidence = evidence
        self._aside = aside
        self._failure: LabError | None = None
        self._t = time.time()
        self._log: BinaryIO = (evidence.folder / "trace.log").open("wb", buffering=1 << 18)
        self._hurry = os.eventfd(0)
        self._caught_up = threading.Event()
        self._read_end, self.write_end = os.pipe()
        with contextlib.suppress(OSError):  # a smaller pipe is slower, not wrong
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = threading.Thread(target=self._run, name="trace reader", daemon=True)
        self._thread.start()

    def started(self) -> None:
        """Close our copy of the pipe, now that QEMU has its own: so the trace ends when QEMU does."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def caught_up(self, deadline: Deadline) -> None:
        """Wait until all that QEMU has written so far is in the evidence, with nothing held back.

        For a stopped guest, whose memory ends with it. GuestTimeoutError if that takes too long.
        """
        self._caught_up.clear()
        os.eventfd_write(self._hurry, 1)
        if not self._caught_up.wait(deadline.remaining()):
            raise GuestTimeoutError(f"The trace was not read within {deadline.seconds:g} s. The last line so far: {self.last}")

    def close(self, deadline: Deadline) -> None:
        """Wait for the end of the trace, which is QEMU's end.

        GuestTimeoutError if it does not come; LabError if writing failed.
        """
        self.started()
        self._thread.join(deadline.remaining())
        if self._thread.is_alive():
            raise GuestTimeoutError(
                f"The trace did not end within {deadline.seconds:g} s: QEMU, or a child of it, still runs. "
                f"Its last line: {self.last}"
            )
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> TraceReader:
        """Return the reader."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End the thread once QEMU has ended; an error of the block itself is not replaced by ours."""
        try:
            self.close(Deadline(5.0))
        except LabError:
            if error is None:
                raise
        finally:
            os.close(self._hurry)

    def _run(self) -> None:
        rest = b""
        with open(self._read_end, "rb", buffering=0) as pipe:  # noqa: PTH123 -- a descriptor, not a path
            while True:
                readable, _, _ = select.select([self._read_end, self._hurry], [], [], QUIET_SECONDS)
                if self._read_end not in readable:
                    self._flush()
                    if self._hurry in readable:
                        os.eventfd_read(self._hurry)
                        self._caught_up.set()
                    continue
                data = pipe.read(READ_BYTES)
                *lines, rest = (rest + (data or b"")).split(b"\n")
                for line in lines:
                    self._take(line)
                if not data:
                    break
        if rest:
            self._take(rest)  # QEMU was killed in the middle of a line
        self._flush()
        self._caught_up.set()
        with self._draining():
            self._log.close()

    def _take(self, raw: bytes) -> None:
        if self._aside is not None and self._aside(raw):
            return
        if self.translator.is_elsewhere(raw):
            self.foreign += 1
            return
        text = raw.decode("utf-8", "replace")
        line = self._declarations.parse(text)
        if line is not None and not self.translator.concerns(line):
            self.foreign += 1
            return
        self.lines += 1
        with self._draining():
            self._log.write(raw + b"\n")
        with self._draining():
            if line is None:
                self._record(self.translator.unknown(text, self._t))
            else:
                self._t = line.t
                self._record(self.translator.feed(line))
        self.last = text

    def _flush(self) -> None:
        with self._draining():
            self._record(self.translator.flush())

    def _record(self, events: Iterable[Event]) -> None:
        for event in events:
            self._evidence.record(event)

    @contextlib.contextmanager
    def _draining(self) -> Iterator[None]:
        """Keep the first failure for `close`, and the reader going: whatever went wrong, QEMU must not stand still."""
        try:
            yield
        except LabError as failure:
            self._failure = self._failure or failure
        except OSError as failure:
            self._failure = self._failure or LabError(
                f"The trace cannot be written to {self._log.name}: {failure.strerror}", remedy="free some space"
            )
        except Exception as failure:
            self._failure = self._failure or LabError(
                f"The lab could not translate the trace line after {self.last!r}: {failure!r}",
                remedy="this is a bug of the lab: report it with the trace.log of the evidence",
            )
