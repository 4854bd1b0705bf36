"""One guest from start to end: its folder, its QEMU, its QMP, its console."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from lab.deadline import Deadline
from lab.errors import NOT_SET_UP, GuestDiedError, GuestError, GuestNotReadyError, GuestPanicError, LabError
from lab.guest import refusals, user
from lab.guest.arguments import MIB, Endpoints, GuestSpec, arguments
from lab.guest.console import LINUX_PANIC, Console
from lab.guest.folder import run_folder
from lab.guest.loopback import SshAddress, has_ipv4_loopback, own_network
from lab.guest.memory import ForkMemory, GuestMemory, Ram
from lab.guest.monitor import Event, Monitor, any_event
from lab.guest.process import Process

START_SECONDS = 30.0
QMP_SECONDS = 30.0
STOP_SECONDS = 5.0
REAP_SECONDS = 2.0
"""From the moment QEMU has hung up until its exit status and its last output are there."""

MIGRATION = {"capabilities": [
    {"capability": "x-ignore-shared", "state": True},  # leaves out the RAM, which is in a file
    {"capability": "events", "state": True},  # reports the progress by the event MIGRATION
]}  # fmt: skip
STATE_SOCKET, SSH_SOCKET = "state.sock", "ssh.sock"
CHUNK = 1 << 18

ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=8388608:glibc.malloc.arena_max=1"}
"""QEMU's heap grows by large pages (The GNU C Library manual, "Memory Allocation Tunables"): a tenth of a fork's processor time
was spent on faults of small ones."""

_SSH_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\s")


class Activity(Protocol):
    """What a device has seen of its driver."""

    @property
    def accesses(self) -> int:
        """Registers and doorbells that the driver has accessed so far."""

    @property
    def quiet_seconds(self) -> float | None:
        """Seconds since the last access; None before the first one."""

    @property
    def unanswered(self) -> bool:
        """Whether the driver still waits for something: a command, a completion that it has not taken, CSTS.RDY."""


class Machine:
    """A guest that runs inside a ``with`` block and leaves nothing behind it: no process, no thread, no folder.

    When the lab itself is killed the kernel ends QEMU, and the next start sweeps up the folder.
    """

    folder: Path
    """Private to this guest, for sockets and other short-lived files."""
    process: Process
    console: Console
    outputs: Mapping[str, Path]
    """The files in which further outputs are recorded (`GuestSpec.heard`), beside the console's."""
    activity: Activity | None = None
    """What the device has seen of the driver so far; the recording sets it."""
    channel: socket.socket | None
    """Our end of the virtio-serial port, where the specification asks for one (`lab.guest.channel`)."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        spec: GuestSpec,
        accelerator: str,
        *,
        console_log: Path | None = None,
        panics: Sequence[str] = LINUX_PANIC,
        trace: int | None = None,
        root: Path | None = None,
        accessible: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        user_id: int | None = None,
    ) -> None:
        """Describe a guest that ``command`` and ``env`` start. ``console_log`` outlives the guest; by default it does not.

        ``trace`` is the writing end of a pipe for the trace; the caller closes its own copy once the guest has started, and
        must keep reading. ``root`` is where the run folder is made.

        Where root runs the lab, QEMU runs as a user of its own (`lab.guest.user`). It can open its run folder, what its
        arguments name, and the ``accessible`` folders. What it must write is ``writable`` (folders with the files that are in
        them by then), or was shared by the caller with the user ``user_id`` that it has chosen (`lab.guest.user.allocate`).
        """
        self.spec = spec
        self._command = tuple(command)
        self._env = env
        self._accelerator = accelerator
        self._console_log = console_log
        self._panics = tuple(panics)
        self._trace = trace
        self._root = root
        self._accessible, self._writable, self._user_id = tuple(accessible), tuple(writable), user_id
        self._folders = user.InheritedFolders()
        self._descriptors: list[int] = []
        self._cleanup = ExitStack()

    def __enter__(self) -> Machine:
        """Start QEMU and return the machine; it is ended again if that fails."""
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End QEMU and its threads, and remove the run folder."""
        self._cleanup.close()

    def _start(self) -> None:
        defer = self._cleanup
        self.folder = defer.enter_context(run_folder(self._root))
        (qmp, their_qmp), (console, their_console), (channel, their_channel) = (socket.socketpair() for _ in range(3))
        for end in (qmp, console, channel):
            defer.callback(end.close)
        self.channel = channel if self.spec.channel else None
        if self.spec.memory_file and self.spec.memory_fill:
            fill_memory(self.spec.memory_file, self.spec.memory * MIB, self.spec.memory_fill)
        beside = self._console_log.parent if self._console_log else self.folder
        self.outputs = {output: beside / f"{output}.log" for output in self.spec.heard}
        with their_qmp, their_console, their_channel:  # only QEMU may hold its ends, or we would not hear it hang up
            self.console = Console(console, self._console_log or self.folder / "console.log", self.died, self._panics)
            defer.callback(self.console.close)
            self._monitor = Monitor(qmp, self.died)
            defer.callback(self._monitor.close)
            their_channel_fd = their_channel.fileno() if self.spec.channel else None
            with ExitStack() as opened:  # QEMU gets copies of its own
                heard = tuple(opened.enter_context(path.open("wb")).fileno() for path in self.outputs.values())
                endpoints = Endpoints(their_qmp.fileno(), their_console.fileno(), self._trace, their_channel_fd, heard)
                if self.spec.network and not has_ipv4_loopback():
                    endpoints = replace(endpoints, ssh=f"unix:/proc/self/fd/{self._folder_descriptor()}/{SSH_SOCKET}")
                self._run(endpoints)
        try:
            self._monitor.connect(Deadline(START_SECONDS))
        except GuestDiedError as died:
            if remedy := refusals.remedy_for(died.last):
                what = f"{NOT_SET_UP} QEMU refuses it: {refusals.plainly(died.last)}"
                raise GuestNotReadyError(what, last=died.last, remedy=remedy) from died
            raise
        if self.spec.state:
            self._restore(self.spec.state)

    def _folder_descriptor(self) -> int:
        """Let QEMU inherit its folder, for a path without the "-" that ends a path in its ``hostfwd``."""
        descriptor = os.open(self.folder, os.O_PATH)
        self._cleanup.callback(os.close, descriptor)
        self._descriptors.append(descriptor)
        return descriptor

    def _run(self, endpoints: Endpoints) -> None:
        """Start QEMU as its own user, if it can have one."""
        defer, inherited = self._cleanup, endpoints.inherited()
        command = [*self._command, *arguments(self.spec, endpoints, self._accelerator)]
        env = {**ALLOCATOR, **self._env}
        own = None
        if user.can_switch_user():
            own = defer.enter_context(user.allocate()) if self._user_id is None else self._user_id
            self._hand_over(command, own)
            command, env = self._folders.translate(command), self._folders.translate(env)
        inherited += self._folders.descriptors + self._descriptors
        within = own_network() if self._descriptors else ()
        self.process = Process(command, env, self.folder / "stderr", inherited, user_id=own, within=within)
        defer.callback(self._end)
        self.process.start()

    def _hand_over(self, command: Sequence[str], own: int) -> None:
        """Give QEMU's own user access to the files that it opens."""
        for folder in self._writable:
            self._cleanup.enter_context(user.group_writable(folder, own))
        self._folders = user.InheritedFolders((own, user.READERS))
        user.share(self.folder, own, writable=True)
        if self._trace is not None:
            os.fchown(self._trace, own, own)  # it opens the pipe once more, by its name
        spec = self.spec
        files = [file for file in (spec.kernel, spec.initrd, spec.disk, spec.iso, spec.floppy, spec.bios, spec.flash) if file]
        for file in files:
            if not file.stat().st_mode & stat.S_IROTH:
                user.share(file, user.READERS, writable=False)
        if spec.memory_file:
            spec.memory_file.touch()
            user.share(spec.memory_file, user.READERS if spec.memory_private else own, writable=True)
            files.append(spec.memory_file)
        self._cleanup.callback(self._folders.close)
        for link in (path for folder in self._writable for path in folder.iterdir() if path.is_symlink()):
            self._folders.add_link(link)
        opened = (folder / "any" for folder in (*self._accessible, *self._writable))
        for path in (self.folder / STATE_SOCKET, *opened, *files):
            self._folders.add(path)
        for argument in (*command, *self._env.values()):
            self._folders.add_paths_in(argument)

    def save(self, state: Path, deadline: Deadline) -> None:
        """Stop the guest and save all of it but the RAM, which is in its file. `GuestSpec.state` resumes it."""
        self.qmp("stop")
        self.qmp("migrate-set-capabilities", MIGRATION)
        path = self.folder / STATE_SOCKET
        with socket.socket(socket.AF_UNIX) as listener, state.open("wb") as file:
            listener.bind(str(path))
            path.chmod(0o666)  # in a folder that is closed to all but QEMU's user and us
            listener.listen(1)
            self.qmp("migrate", {"uri": f"unix:{path}"})
            listener.settimeout(deadline.remaining())
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(CHUNK):
                    file.write(data)
        self._migrated(deadline)

    def _restore(self, state: Path) -> None:
        deadline = Deadline(START_SECONDS)
        self.qmp("migrate-set-capabilities", MIGRATION)
        path = self.folder / STATE_SOCKET
        self.qmp("migrate-incoming", {"uri": f"unix:{path}"})
        with socket.socket(socket.AF_UNIX) as connection, state.open("rb") as file:
            connection.settimeout(deadline.remaining())
            connection.connect(str(path))
            connection.sendfile(file)
        self._migrated(deadline)
        self.qmp("cont")

    def _migrated(self, deadline: Deadline) -> None:
        ended = self.event("MIGRATION", deadline, lambda event: event["data"]["status"] in ("completed", "failed"))
        if ended["data"]["status"] == "failed":
            raise GuestError(f"QEMU's migration failed: {self.qmp('query-migrate').get('error-desc', 'no reason given')}.")

    def stop(self) -> None:
        """End the guest in order: quit, SIGTERM, SIGKILL; reap it and remove its folder. May be called again."""
        self._cleanup.close()

    def qmp(self, command: str, arguments: Mapping[str, object] | None = None, deadline: Deadline | None = None) -> Any:
        """Run a QMP command and return its value. Raises QmpError when QEMU refuses, GuestDiedError, GuestTimeoutError."""
        return self._monitor.execute(command, self._folders.translate(arguments), deadline or Deadline(QMP_SECONDS))

    def event(self, name: str, deadline: Deadline, where: Callable[[Event], bool] = any_event) -> Event:
        """Return the next QMP event of that name for which ``where`` holds, also an earlier one that was not taken yet."""
        return self._monitor.event(name, deadline, where)

    def memory(self) -> Ram:
        """Return the guest's RAM, where the specification names a file for it."""
        assert self.spec.memory_file
        if self.spec.memory_private:
            return ForkMemory(self.process.pid, self.spec.memory_file, self.spec.memory)  # of x86-64: it begins at 0
        return GuestMemory(self.spec.memory_file, self.spec.memory, self.spec.ram_base)

    def ssh_address(self) -> SshAddress:
        """Return the loopback port that leads to the guest's port 22; a socket's path where IPv4 has no loopback."""
        if self._descriptors:
            return self.folder / SSH_SOCKET
        listing = self.qmp("human-monitor-command", {"command-line": "info usernet"})
        forward = _SSH_FORWARD.search(listing)
        if not forward:
            raise LabError(f"QEMU forwards no port to the guest's SSH server; it says:\n{listing}")
        return int(forward[1])

    @property
    def exit_code(self) -> int | None:
        """What the guest wrote to isa-debug-exit, by which it has ended; None while it runs, and if it ended otherwise.

        A 0 cannot be distinguished from QEMU's own failure and counts as that.
        """
        status = self.process.status
        return status >> 1 if self.spec.debug_exit and status is not None and status > 1 and status & 1 else None

    def check(self, waiting_for: str) -> None:
        """Raise GuestPanicError or GuestDiedError if ``waiting_for`` can no longer come; for waits on something else.

        A guest that has ended with an exit code has ended in order.
        """
        if self.console.panic is not None:
            raise self.console.panicked(waiting_for)
        if not self.process.alive and self.exit_code is None:
            raise self.died(waiting_for)

    def died(self, waiting_for: str) -> GuestError:
        """Return the error for a wait that this guest's end has made pointless: a panic if that was its end."""
        self.process.wait(Deadline(REAP_SECONDS))
        self.console.drained(Deadline(REAP_SECONDS))
        if self.console.panic is not None:
            return self.console.panicked(waiting_for)
        if (end := self._own_end()) is not None:
            last = self.console.last_lines()
            return GuestPanicError(
                f"The guest {end} while the lab waited for {waiting_for}; its last lines:\n{last}", last=last
            )
        return self.process.died(waiting_for)

    def _own_end(self) -> str | None:
        """Return how the guest itself has ended QEMU; None if it was not the guest."""
        if self.exit_code is not None:
            return f"ended with exit code {self.exit_code:#x}"
        if self.process.status != 0:
            return None
        events = self._monitor.last("SHUTDOWN", Deadline(REAP_SECONDS))
        shutdowns = [event["data"] for event in events if event["data"]["guest"]]
        if any(data["reason"] == "guest-reset" for data in shutdowns):
            return "reset the machine (a processor that cannot go on does so: a triple fault)"
        return "switched the machine off" if shutdowns else None

    def _end(self) -> None:
        deadline = Deadline(STOP_SECONDS)
        try:
            self.qmp("quit", deadline=Deadline(STOP_SECONDS / 4))
            self.process.wait(Deadline(STOP_SECONDS / 4))
        except LabError:
            pass  # it has died, or does not listen: the signals below are for that
        self.process.end(deadline)


def fill_memory(file: Path, size: int, pattern: bytes) -> None:
    """Make a file of ``size`` bytes that holds a pattern, whose length divides `CHUNK`, again and again."""
    chunk = pattern * (CHUNK // len(pattern))
    with file.open("wb") as memory:
        for _ in range(size // len(chunk)):
            memory.write(chunk)
