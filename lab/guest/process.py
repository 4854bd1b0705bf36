"""QEMU's process: started so that it cannot outlive the lab, watched, and ended in order."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lab.confinement import MISSING, relinquished
from lab.deadline import Deadline
from lab.errors import GuestDiedError, LabError
from lab.guest import user

LOG = logging.getLogger(__name__)

LAST_LINES = 8

# setpriv asks the kernel to kill the process when the thread that created it ends. A lab that died before that would never
# be noticed; the shell runs after the request and sees its parent ($0 is our pid), so the gap is closed before QEMU starts.
_TIED_TO_US = ("setpriv", "--pdeathsig", "KILL", "--no-new-privs")
_UNLESS_ORPHANED = ("--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


_STARTED: weakref.WeakSet[Process] = weakref.WeakSet()


def kill_all() -> None:
    """Kill what this process has started, for threads that wait for it and cannot be interrupted themselves."""
    for process in list(_STARTED):
        process.kill()


class Process:
    """A running command in a process group of its own, its output in a file."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        output: Path,
        inherit: Iterable[int] = (),
        *,
        user_id: int | None = None,
        within: Sequence[str] = (),
    ) -> None:
        """Describe a process; ``env`` is added to our own environment, and the command gets the descriptors ``inherit``.

        ``user_id`` is the user that it runs as (`lab.guest.user`); None for ours. ``within`` is a command that starts what
        follows it, before that loses its powers (`lab.guest.loopback.own_network`).
        """
        self._within = tuple(within)
        self._user = () if user_id is None else user.options(user_id)
        self._command = tuple(command)
        self._env = {**os.environ, **env}
        self._output = output
        self._inherit = tuple(inherit)
        self._popen: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._started = threading.Event()
        self._exited = threading.Event()
        # The creating thread must last as long as the process does, and this one has nothing else to do.
        self._keeper = threading.Thread(target=self._keep, name=f"keeper of {command[0]}", daemon=True)

    def start(self) -> None:
        """Start the process and return once it exists. Raises LabError when it cannot be started."""
        _STARTED.add(self)
        self._keeper.start()
        self._started.wait()
        if self._failure:
            raise LabError(
                f"Cannot start {self._command[0]}: {self._failure}.",
                remedy=MISSING,
            )

    def _keep(self) -> None:
        LOG.debug("start %s", shlex.join(self._command))
        try:
            with self._output.open("wb") as output:
                self._popen = subprocess.Popen(
                    [
                        *self._within,
                        *_TIED_TO_US,
                        *self._user,
                        *relinquished(),
                        *_UNLESS_ORPHANED,
                        str(os.getpid()),
                        *self._command,
                    ],
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=self._inherit,
                    process_group=0,  # a Ctrl-C in the terminal is for us; we end the process in order
                )
        except OSError as failure:
            self._failure = failure
        self._started.set()
        if self._popen:
            LOG.info("process %d: %s started", self._popen.pid, self._command[0])
            status = self._popen.wait()
            LOG.info("process %d %s", self._popen.pid, _describe(status))
        self._exited.set()

    @property
    def pid(self) -> int:
        """Return the process's number."""
        assert self._popen
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        return not self._exited.is_set()

    def processor_seconds(self) -> float:
        """Return the processor time that it has used so far, all its threads together (proc(5), /proc/pid/stat); 0 if gone."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return 0.0

    @property
    def status(self) -> int | None:
        """Exit status, or minus the signal that ended it; None while it runs."""
        return None if self.alive or self._popen is None else self._popen.returncode

    def wait(self, deadline: Deadline) -> bool:
        """Wait until the process has exited and been reaped; return False when the deadline came first."""
        return self._exited.wait(deadline.remaining())

    def last_lines(self) -> str:
        """Return the end of what the process printed."""
        try:
            text = self._output.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-LAST_LINES:])

    def died(self, waiting_for: str) -> GuestDiedError:
        """Return the error for a wait that this process's end has made pointless."""
        last = self.last_lines()
        said = f"; it said:\n{last}" if last else "; it said nothing on stderr"
        return GuestDiedError(f"QEMU {_describe(self.status)} while the lab waited for {waiting_for}{said}", last=last)

    def end(self, deadline: Deadline) -> None:
        """Send SIGTERM, and SIGKILL to the whole group after half the time. Return when the process is reaped."""
        if self._keeper.ident is None:
            return
        self._started.wait()  # it may be about to start, when a Ctrl-C has cut start() short
        self._signal(signal.SIGTERM)
        if not self.wait(Deadline(deadline.remaining() / 2)):
            LOG.info("process %d does not end on SIGTERM: it is killed", self.pid)
            self._signal(signal.SIGKILL)
            self._exited.wait()

    def kill(self) -> None:
        """Kill the whole group at once; who waits for it learns that it has died."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the group, unless its leader is reaped: the number may then belong to another process."""
        if self._popen and self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)


def _describe(status: int | None) -> str:
    if status is None:
        return "hung up"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
