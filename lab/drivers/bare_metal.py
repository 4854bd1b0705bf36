"""A driver on a real machine, behind a serial line or SSH: known by what it says and what its disk holds, not by its wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from lab.data.manifest import ActionSyntax, DriverManifest
from lab.data.plan import Action, Answer, DeviceKind, Scenario
from lab.deadline import Deadline
from lab.drivers import shape
from lab.drivers.base import Session
from lab.drivers.prompt import NO_SYNTAX, PromptSession, WordsSession
from lab.errors import GuestDiedError, GuestTimeoutError, LabError, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.console import Console, plain
from lab.guest.machine import Machine
from lab.guest.remote import NotReachedError, RemoteShell, run_here
from lab.guest.serial_line import open_line
from lab.toolchain import Toolchain

PROFILE = "bare-metal"
SCRATCH_BLOCKS = 1024
"""Blocks that scenarios of the profile may write: all their LBAs are below this, counted from `scratch`."""
NOT_HERE = (
    "kernel",
    "initrd",
    "append",
    "disk",
    "iso",
    "floppy",
    "nvme",
    "firmware",
    "screen",
    "ready_screen",
    "quiet",
    "after",
)
"""Keys of [boot] that say how QEMU starts a guest, or what only it can see."""

NO_SWITCH = "machine.start names no command that starts the machine"


class BareMetal:
    """See `lab.drivers.base.Adapter`. Nothing is emulated, so it brings up no guest."""

    hotplug = False
    in_qemu = False
    devices: tuple[DeviceKind, ...] = ("machine",)
    panics: tuple[str, ...] = ()
    files: Mapping[str, Path] = {}

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Check the shape of the manifest; UsageError."""
        del toolchain  # part of the protocol
        for mistake in (*_mistakes(manifest), *shape.words(manifest)):
            raise UsageError(f"{manifest.path}: {mistake.key}: {mistake.what}", remedy=mistake.remedy)
        self._manifest = manifest
        self.actions = frozenset({"load", *manifest.actions})
        self.panics = (f"(?m-s:{manifest.boot.dead})",) if manifest.boot.dead else ()

    def guest(self, scenario: Scenario) -> GuestSpec | None:
        """Return None: the machine is there."""
        del scenario
        return None

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action; the machine starts with ``load``."""
        return self._manifest.boot.seconds if action == "load" else self._manifest.actions.get(action, NO_SYNTAX).seconds

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> Session:
        """Refuse: there is no guest. LabError."""
        del machine, scenario, deadline  # part of the protocol
        raise LabError("a real machine is no guest")

    def open_machine(self, scenario: Scenario, log: Path) -> MachineSession:
        """Open the lines to the machine. All that comes on them is written into ``log``."""
        machine = self._manifest.machine
        shell = RemoteShell(machine.ssh, machine.ssh_options) if machine.ssh else None
        hands = Hands(self._manifest, shell)
        if shell and not machine.serial:
            return ShellSession(shell, hands, self._manifest, scenario, log)
        beside = self._manifest.folder / machine.serial
        line = open_line(str(beside) if beside.exists() else machine.serial, machine.baud)
        console = Console(line, log, _hung_up, self.panics)
        return LineSession(console, hands, self._manifest, scenario)


def _hung_up(waiting_for: str) -> GuestDiedError:
    return GuestDiedError(f"The serial line was closed while the lab waited for {waiting_for}.", remedy="look at its cable")


class Hands:
    """What the lab itself does to the machine, past its driver."""

    def __init__(self, manifest: DriverManifest, shell: RemoteShell | None) -> None:
        """Take the commands of the manifest, and the shell in which the disk is read."""
        self._manifest, self._shell = manifest, shell

    def start(self, deadline: Deadline) -> bool:
        """Start the machine, again if it runs; return whether there is a command that does."""
        command = self._manifest.machine.start
        if command:
            run_here(command, self._manifest.folder, deadline, "machine.start")
        return bool(command)

    def inspect(self, action: Action, deadline: Deadline) -> Answer:
        """Read blocks of the disk by the manifest's own command."""
        disk = self._manifest.machine.disk
        if self._shell is None or not disk.read:
            return Answer("unsupported", {"log": "machine.disk.read names no command that reads the disk"})
        command = disk.read.format(**{"block_size": disk.block_size, **action.arguments})
        result = self._shell.run(command, deadline=deadline)
        wanted = action.arguments["blocks"] * disk.block_size
        if result.status or len(result.stdout) != wanted:
            said = result.stderr.decode(errors="replace").strip()
            what = f"ended with status {result.status} and {len(result.stdout)} of {wanted} bytes: {said}"
            raise LabError(f"machine.disk.read: {command!r} {what}", remedy="run it by hand, and correct it")
        return Answer(data=result.stdout)


class MachineSession(Session, Protocol):
    """A driver on a real machine."""

    hands: Hands

    def restart(self, deadline: Deadline) -> Answer:
        """Start the machine again, as by its switch; unsupported where nothing on this host can."""


class LineSession(PromptSession):
    """A machine whose serial line is typed at, and heard. See `MachineSession`."""

    def __init__(self, console: Console, hands: Hands, manifest: DriverManifest, scenario: Scenario) -> None:
        """Take the line; the machine may be off."""
        super().__init__(console, manifest, scenario)
        self.hands = hands
        self._started = False  # by the lab, and it has not said yet that it is ready
        self._said = ""  # what it has said since its start

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; a ``load`` by commands begins with a machine that takes them."""
        if action.name == "load" and self._manifest.actions.get("load", NO_SYNTAX).commands:
            try:
                self._said = self._come_up(deadline)
            except GuestTimeoutError as late:
                return Answer("timeout", {"log": late.what})
        return super().perform(action, data, deadline)

    def restart(self, deadline: Deadline) -> Answer:
        """Start the machine again: what it said before is over."""
        self._console.skip()
        self._busy, self._said = "", ""
        self._started = self.hands.start(deadline)
        return Answer() if self._started else Answer("unsupported", {"log": NO_SWITCH})

    def _unasked(self, words: ActionSyntax, action: Action, deadline: Deadline) -> Answer:
        """Return the answer to ``load`` from what the machine says, or to another action from what it has said."""
        if action.name == "load":
            self._said = self._come_up(deadline)
        return self._answer(words, action, self._said)

    def _come_up(self, deadline: Deadline) -> str:
        """Start the machine, unless that was done, and wait until it says that it is ready. One that runs is asked."""
        if not self._started and self.restart(deadline).status != "success" and self._manifest.boot.input != "none":
            self._send(self._manifest.boot.enter)
        self._started, self._busy = False, "its start"
        said, prompt = self._await_prompt(deadline)
        self._busy = ""
        return said + prompt

    def close(self) -> None:
        """Close the line."""
        self._console.close()


class ShellSession(WordsSession):
    """A machine whose shell is reached by SSH: each line is a command there. See `MachineSession`."""

    def __init__(self, shell: RemoteShell, hands: Hands, manifest: DriverManifest, scenario: Scenario, log: Path) -> None:
        """Take the shell; what is said is written into ``log``."""
        super().__init__(manifest, scenario)
        self.hands = hands
        self._shell, self._log = shell, log
        self._input = b""
        log.touch()

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer. What a write writes is the standard input of its commands, where they are not filled."""
        filled = self._manifest.actions.get(action.name, NO_SYNTAX).fill
        self._input = b"" if filled or data is None else data
        return super().perform(action, data, deadline)

    def restart(self, deadline: Deadline) -> Answer:
        """Start the machine again."""
        return Answer() if self.hands.start(deadline) else Answer("unsupported", {"log": NO_SWITCH})

    def _unasked(self, words: ActionSyntax, action: Action, deadline: Deadline) -> Answer:
        """Wait until the machine takes commands; it need not have been started by the lab."""
        return self._answer(words, action, self.ask("true", deadline))

    def ask(self, line: str, deadline: Deadline) -> str:
        """Run a line of commands there, and return what it prints. A machine that is still starting is tried again."""
        while True:
            try:
                result = self._shell.run(line, self._input, deadline=deadline)
                break
            except NotReachedError as failure:
                if deadline.expired:
                    raise GuestTimeoutError(
                        f"The machine was not reached in {deadline.seconds:g} s: {failure.what}"
                    ) from failure
        said = plain((result.stdout + result.stderr).decode(errors="replace"))
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {line}\n{said}")
        return said

    def close(self) -> None:
        """Do nothing: each command had a connection of its own."""


def _mistakes(manifest: DriverManifest) -> Iterator[shape.Mistake]:
    boot, machine, disk = manifest.boot, manifest.machine, manifest.machine.disk
    if not machine.serial and not machine.ssh:
        yield shape.Mistake("machine.serial", "nothing says how the machine is reached", "give machine.serial or machine.ssh")
    if machine.serial and not boot.ready:
        yield shape.Mistake("boot.ready", "this key is required, it is how the lab knows that the machine is ready")
    for key in NOT_HERE:
        if getattr(boot, key) not in ("", False, None):
            yield shape.Mistake(
                f"boot.{key}", "a real machine is not started by QEMU", "remove this key; machine.start starts it"
            )
    if manifest.stages or manifest.profiles != (PROFILE,):
        yield shape.Mistake(
            "stages", "what a real machine's device sees is not recorded, so no stage can be judged",
            f'give stages = [] and profiles = ["{PROFILE}"]',
        )  # fmt: skip
    if not disk.blocks:
        yield shape.Mistake("machine.disk.blocks", "this key is required", "give the number of blocks of the namespace")
    if disk.scratch_blocks < SCRATCH_BLOCKS or disk.scratch + disk.scratch_blocks > disk.blocks:
        yield shape.Mistake(
            "machine.disk.scratch_blocks", f"scenarios overwrite {SCRATCH_BLOCKS} blocks, which are not given to them",
            "name at least so many, inside the namespace, that hold nothing of value",
        )  # fmt: skip
    for action, words in manifest.actions.items():
        if words.memory:
            yield shape.Mistake(f"actions.{action}.memory", "the lab cannot reach this memory", 'give hexdump = "xxd" and fill')
        if not words.commands and not (action == "load" or machine.serial):
            yield shape.Mistake(f"actions.{action}.command", "this key is required where lines are typed by SSH")
    if disk.read and not machine.ssh:
        yield shape.Mistake("machine.ssh", "machine.disk.read is a command there", "name the machine that reads the disk")
    if disk.read:
        yield from shape.braces("machine.disk.read", (disk.read,), {"nsid", "lba", "blocks", "block_size"})
