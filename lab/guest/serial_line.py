"""A serial line of this host, or of a terminal server: what `lab.guest.console.Console` needs of a connection."""

from __future__ import annotations

import os
import select
import socket
import termios
import tty
from pathlib import Path

from lab.errors import LabError, UsageError

CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.2
"""How long a read waits before it looks whether the line was closed here."""


def open_line(where: str, baud: int) -> SerialLine | socket.socket:
    """Open a serial device at a speed, or HOST:PORT of a terminal server. LabError where that cannot be done."""
    host, _, port = where.rpartition(":")
    if host and port.isdigit() and not Path(where).exists():
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS)
        except OSError as error:
            raise LabError(f"machine.serial: {where} cannot be reached: {error}", remedy="start the terminal server") from error
        connection.settimeout(None)
        return connection
    return SerialLine(where, baud)


class SerialLine:
    """A serial device in raw mode, 8 data bits, no parity: bytes go as they are. It is this process's alone."""

    def __init__(self, device: str, baud: int) -> None:
        """Open and configure it. LabError names the device; UsageError a speed that it cannot have."""
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise UsageError(f"machine.baud: a serial line has no speed of {baud} Bd", remedy="give 9600, 115200 or the like")
        try:
            self._fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise LabError(
                f"machine.serial: {device} cannot be opened: {error.strerror}",
                remedy="connect it, or correct the path; its group (often dialout) may use it",
            ) from error
        self._closed = False
        try:
            tty.setraw(self._fd)
            settings = termios.tcgetattr(self._fd)
            settings[2] |= termios.CLOCAL | termios.CREAD
            settings[4] = settings[5] = speed
            termios.tcsetattr(self._fd, termios.TCSANOW, settings)
        except termios.error as error:
            os.close(self._fd)
            raise LabError(
                f"machine.serial: {device} is no serial line: {error}", remedy="name one, such as /dev/ttyUSB0"
            ) from error

    def recv(self, size: int) -> bytes:
        """Return what has come, at least a byte; nothing once the line is closed, or has hung up."""
        while not self._closed:
            if select.select([self._fd], [], [], POLL_SECONDS)[0]:
                return os.read(self._fd, size)
        return b""

    def sendall(self, data: bytes) -> None:
        """Send all bytes."""
        while data:
            data = data[os.write(self._fd, data) :]

    def shutdown(self, how: int) -> None:
        """Let a read in another thread end."""
        del how
        self._closed = True

    def close(self) -> None:
        """Close the device."""
        os.close(self._fd)
