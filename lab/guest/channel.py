"""Questions to a server in the guest and its answers, over a virtio-serial port: no network, no cryptography, no login.

Both directions carry frames: a line of JSON, in which ``bytes`` says how many bytes follow it. ``number`` in a question comes
back in its answer. Under TCG the first SSH connection of a fresh guest takes a quarter of a second; this takes none.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from lab.deadline import Deadline
from lab.errors import GuestTimeoutError
from lab.guest.machine import Machine

LIVENESS_POLL_SECONDS = 0.05
"""Seconds after which a wait looks whether the guest still lives."""
CHUNK = 1 << 18


class Frame(NamedTuple):
    """One question or answer."""

    head: Mapping[str, Any]
    data: bytes


class Channel:
    """Our end of a port. One question at a time; the answer to one that was given up is dropped when it comes at last."""

    def __init__(self, machine: Machine) -> None:
        """Connect to a guest whose specification has a ``channel``."""
        assert machine.channel is not None
        self._machine = machine
        self._connection = machine.channel
        self._number = 0
        self._unsent = bytearray()
        self._received = bytearray()

    def ask(self, question: Mapping[str, Any], data: bytes = b"", *, deadline: Deadline) -> Frame:
        """Wait for the answer and return it. Raises GuestPanicError or GuestDiedError at once, GuestTimeoutError in time."""
        self._number += 1
        waiting_for = f"the guest's answer to {question.get('action', 'a question')!r}"
        self._unsent += json.dumps({**question, "number": self._number, "bytes": len(data)}).encode() + b"\n" + data
        while True:
            while frame := self._frame():
                if frame.head["number"] == self._number:
                    return frame
            self._machine.check(waiting_for)
            if deadline.expired:
                raise GuestTimeoutError(f"Timed out after {deadline.seconds:g} s waiting for {waiting_for}.")
            self._move(min(LIVENESS_POLL_SECONDS, deadline.remaining()), waiting_for)

    def _move(self, seconds: float, waiting_for: str) -> None:
        """Send what can be sent and receive what has come, or wait until one of them is possible."""
        sinks = [self._connection] if self._unsent else []
        readable, writable, _ = select.select([self._connection], sinks, [], seconds)
        try:
            if writable:
                sent = self._connection.send(self._unsent[:CHUNK], socket.MSG_DONTWAIT)
                del self._unsent[:sent]
            if readable:
                received = self._connection.recv(CHUNK)
                if not received:
                    raise self._machine.died(waiting_for)
                self._received += received
        except OSError as hung_up:
            raise self._machine.died(waiting_for) from hung_up

    def _frame(self) -> Frame | None:
        """Take the next complete frame from the received bytes."""
        end = self._received.find(b"\n") + 1
        if not end:
            return None
        head = json.loads(self._received[:end])
        end_of_data = end + head["bytes"]
        if len(self._received) < end_of_data:
            return None
        data = bytes(self._received[end:end_of_data])
        del self._received[:end_of_data]
        return Frame(head, data)
