"""Programs of this host that reach a real machine: the ssh client, and what switches the machine on."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.deadline import Deadline
from lab.errors import GuestTimeoutError, LabError
from lab.guest.ssh import Result

CONNECT_SECONDS = 10
NO_CONNECTION = 255
"""The exit status of ssh(1) where it is not the command's."""
SHOWN = 80
"""Characters of a command in a message."""


class NotReachedError(LabError):
    """The machine did not answer: it may be starting."""


def run_here(command: Sequence[str], folder: Path, deadline: Deadline, key: str) -> None:
    """Run a command of the manifest on this host. LabError that names the key where it fails; GuestTimeoutError."""
    result = _run(command, b"", deadline, key, folder)
    if result.status:
        said = (result.stderr or result.stdout).decode(errors="replace").strip()
        raise LabError(f"{key}: {shlex.join(command)} ended with status {result.status}: {said}", remedy="run it by hand")


class RemoteShell:
    """A machine that an ssh client reaches without a question: what it may ask must be in ~/.ssh, or in the options."""

    def __init__(self, host: str, options: Sequence[str] = ()) -> None:
        """Take USER@HOST and options of ssh(1); nothing is connected yet."""
        self._host = host
        self._command = ("ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}", *options, host)

    def run(self, command: str, input: bytes = b"", *, deadline: Deadline) -> Result:
        """Return what a command line has answered there, whatever its status. NotReachedError where it is not reached."""
        result = _run((*self._command, command), input, deadline, f"{command[:SHOWN]!r} on {self._host}")
        if result.status == NO_CONNECTION:
            said = result.stderr.decode(errors="replace").strip()
            raise NotReachedError(
                f"machine.ssh: {self._host} is not reached: {said or 'no reason given'}",
                remedy=f"ssh {self._host} must work without a question; machine.ssh_options may name port and key",
            )
        return result


def _run(command: Sequence[str], input: bytes, deadline: Deadline, what: str, folder: Path | None = None) -> Result:
    seconds = deadline.remaining()
    try:
        done = subprocess.run(command, input=input, capture_output=True, timeout=seconds, cwd=folder, check=False)
    except subprocess.TimeoutExpired as late:
        said = bytes(late.stderr or late.stdout or b"").decode(errors="replace")
        raise GuestTimeoutError(
            f"Timed out after {seconds:.0f} s waiting for {what}; its last output: {said or '(none)'}"
        ) from None
    except OSError as error:
        raise LabError(f"{what}: {command[0]} cannot be started: {error.strerror}", remedy="install it") from error
    return Result(done.returncode, done.stdout, done.stderr)
