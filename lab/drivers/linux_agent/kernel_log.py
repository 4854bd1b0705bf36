"""The kernel's log, which goes with every answer."""

import os
import select
import threading


class KernelLog:
    """The kernel's log since the boot, which was cleared (Documentation/ABI/testing/dev-kmsg)."""

    def __init__(self) -> None:
        """Open the kernel's log at its end."""
        self._source = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._source, 0, os.SEEK_DATA)
        self._more = select.poll()
        self._more.register(self._source, select.POLLIN)
        self._records: list[tuple[int, str]] = []
        self._reading = threading.Lock()

    def after(self, number: int) -> list[tuple[int, str]]:
        """Return (sequence number, line) of the records after that one, new ones included."""
        with self._reading:
            while record := self._next():
                prefix, _, message = record.partition(";")
                self._records.append((int(prefix.split(",")[1]), message.partition("\n")[0]))
            return [record for record in self._records if record[0] > number]

    def _next(self) -> str:
        while self._more.poll(0):
            try:
                return os.read(self._source, 8192).decode(errors="replace")
            except BrokenPipeError:  # records were overwritten before they were read: go on with the oldest one there is
                continue
        return ""
