"""A shell in the guest, by SSH over what QEMU forwards (`lab.guest.loopback`). The host key is pinned, never learnt."""

from __future__ import annotations

import base64
import logging
import select
import shlex
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import paramiko

from lab.deadline import Deadline
from lab.errors import GuestError, GuestTimeoutError
from lab.guest import loopback
from lab.guest.loopback import SshAddress

HOST = "guest"
"""The name by which the pinned host key is known; the port differs at each start."""
LIVENESS_POLL_SECONDS = 0.05
"""Seconds after which a wait looks whether the guest still lives."""
ATTEMPT_SECONDS = 1.0
"""QEMU accepts a connection at once, and forgets or drops it as long as no server listens in the guest."""
DEATH_SECONDS = 1.0
CHUNK = 1 << 16
LAST_CHARACTERS = 400
LONGEST_SHOWN = 80
NO_STATUS = -1
"""What paramiko gives for a command that a signal ended, and for a connection that is gone."""

T = TypeVar("T")

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its failures reach the caller as exceptions


@dataclass(frozen=True)
class Result:
    """The exit status and the output of a command in the guest."""

    status: int
    """Exit status; -1 when a signal ended the command."""
    stdout: bytes
    stderr: bytes


class Ssh:
    """A connection to the guest's SSH server. Every wait ends as soon as the guest is gone."""

    def __init__(self, client: paramiko.SSHClient, check: Callable[[str], None]) -> None:
        """Take a client that is logged in; ``check`` raises when the guest is gone."""
        self._client = client
        self._check = check

    @classmethod
    def connect(
        cls, address: SshAddress, key: Path, host_key: str, check: Callable[[str], None], deadline: Deadline, user: str = "root"
    ) -> Ssh:
        """Try until the deadline. ``key`` is the user's private key, ``host_key`` a public one: ``ssh-ed25519 AAAA…``.

        ``check`` is given what is waited for and raises if that can no longer come (`Machine.check`).
        """
        waiting_for = f"the guest's SSH server on the forwarded {'port' if isinstance(address, int) else 'socket'} {address}"
        private = paramiko.PKey.from_path(key)
        last: Exception | None = None
        while not deadline.expired:
            client = _client_that_knows(host_key)
            try:
                connection = _reach(address, lambda: check(waiting_for), deadline)
                left = deadline.remaining()
                log_in = partial(client.connect, HOST, 22, user, None, private, look_for_keys=False, allow_agent=False,
                                 sock=connection, timeout=left, banner_timeout=left, auth_timeout=left)  # fmt: skip
                _watched(log_in, lambda: check(waiting_for), deadline)
                return cls(client, check)
            except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as refused:
                client.close()
                raise GuestError(f"The guest's SSH server and the lab do not know each other: {refused}.") from refused
            except (OSError, EOFError, paramiko.SSHException) as failure:
                client.close()
                last = failure
            except BaseException:
                client.close()
                raise
        check(waiting_for)
        raise GuestTimeoutError(f"Timed out after {deadline.seconds:g} s waiting for {waiting_for}; the last attempt: {last}.")

    def run(self, command: str, input: bytes = b"", *, deadline: Deadline) -> Result:
        """Return what the command answered, whatever its status.

        Raises GuestPanicError or GuestDiedError at once, GuestTimeoutError after the deadline.
        """
        shown = command if len(command) <= LONGEST_SHOWN else command[:LONGEST_SHOWN] + "…"
        waiting_for = f"the command {shown!r} in the guest"
        out, err = bytearray(), bytearray()
        with self._session(command, waiting_for, deadline) as channel:
            threading.Thread(target=_feed, args=(channel, input), name="ssh input", daemon=True).start()
            while not _complete(channel, out, err):
                self._check(waiting_for)
                if deadline.expired:
                    last = bytes(err or out).decode(errors="replace")[-LAST_CHARACTERS:]
                    said = last or "(none)"
                    raise GuestTimeoutError(
                        f"Timed out after {deadline.seconds:g} s waiting for {waiting_for}; its last output: {said}", last=last
                    )
            status = channel.recv_exit_status()
            transport = channel.get_transport()
            if status == NO_STATUS and not transport.is_active():
                raise self._lost(waiting_for)
            return Result(status, bytes(out), bytes(err))

    def put(self, content: bytes | Path, destination: str, mode: int = 0o644, *, deadline: Deadline) -> None:
        """Write a file in the guest; ``content`` is its bytes, or a file of ours that has them."""
        data = content if isinstance(content, bytes) else content.read_bytes()
        quoted = shlex.quote(destination)
        result = self.run(f"cat > {quoted} && chmod {mode:o} {quoted}", data, deadline=deadline)
        if result.status:
            reason = result.stderr.decode(errors="replace").strip()
            raise GuestError(f"Cannot write {destination} ({len(data)} bytes) in the guest: {reason}", last=reason)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Ssh:
        """Return the connection."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the connection."""
        self.close()

    def _lost(self, waiting_for: str) -> GuestError:
        """Return the error for a lost connection.

        A dying QEMU closes it just before its exit is known: that error is preferred.
        """
        known = Deadline(DEATH_SECONDS)
        while not known.expired:
            self._check(waiting_for)
            time.sleep(LIVENESS_POLL_SECONDS)
        return GuestError(f"The SSH connection was lost while the lab waited for {waiting_for}.")

    def _session(self, command: str, waiting_for: str, deadline: Deadline) -> paramiko.Channel:
        transport = self._client.get_transport()
        assert transport is not None

        def start() -> paramiko.Channel:
            channel = transport.open_session(timeout=deadline.remaining())
            channel.exec_command(command)
            return channel

        try:
            return _watched(start, lambda: self._check(waiting_for), deadline)
        except TimeoutError:
            raise GuestTimeoutError(f"Timed out after {deadline.seconds:g} s waiting for {waiting_for} to start.") from None
        except (OSError, EOFError, paramiko.SSHException) as failure:
            raise self._lost(waiting_for) from failure


def _watched(work: Callable[[], T], check: Callable[[], None], deadline: Deadline) -> T:
    """Return what ``work`` returns, while ``check`` watches the guest. paramiko's own waits do not notice a dead guest."""
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=do, name="ssh", daemon=True).start()
    while not wait([future], timeout=min(LIVENESS_POLL_SECONDS, deadline.remaining())).done:
        check()
        if deadline.expired:
            raise TimeoutError("it did not answer")
    return future.result()


def _complete(channel: paramiko.Channel, out: bytearray, err: bytearray) -> bool:
    """Take what has come, or wait a moment for more. True once both outputs have ended and the status is there."""
    select.select([channel], [], [], LIVENESS_POLL_SECONDS)
    ended = bool(channel.eof_received or channel.closed) and channel.status_event.wait(LIVENESS_POLL_SECONDS)
    while channel.recv_ready():
        out.extend(channel.recv(CHUNK))
    while channel.recv_stderr_ready():
        err.extend(channel.recv_stderr(CHUNK))
    return ended


def _client_that_knows(host_key: str) -> paramiko.SSHClient:
    """Return a client that rejects every other host key, which is the default policy."""
    kind, encoded = host_key.split()[:2]
    client = paramiko.SSHClient()
    client.get_host_keys().add(HOST, kind, paramiko.PKey.from_type_string(kind, base64.b64decode(encoded)))
    return client


def _reach(address: SshAddress, check: Callable[[], None], deadline: Deadline) -> socket.socket:
    """Return a connection on which the server has already spoken. Raises OSError when this attempt leads to nothing."""
    attempt = Deadline(min(ATTEMPT_SECONDS, deadline.remaining()))
    connection = loopback.connect(address, LIVENESS_POLL_SECONDS)
    try:
        while not attempt.expired:
            with suppress(TimeoutError):
                if not connection.recv(1, socket.MSG_PEEK):
                    raise ConnectionResetError("it hung up")
                connection.settimeout(None)
                return connection
            check()
        raise TimeoutError("it was silent")
    except BaseException:
        connection.close()
        raise


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    """Send the data, in a thread of its own.

    Sending blocks while the command does not read, and the command may be waiting for us to read.
    """
    with suppress(OSError, EOFError):  # the command need not read all of it
        channel.sendall(data)
        channel.shutdown_write()
