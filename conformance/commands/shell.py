"""``nvme-lab shell``: a guest in a scenario, on the user's own terminal, recorded like any other."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from conformance.commands import completing
from conformance.commands.options import SEED, machine, settings
from conformance.commands.run import EMULATED
from conformance.report import terminal
from conformance.run.folders import shell_folder, shown
from conformance.run.plan import Job, RunRequest, plan
from conformance.run.prepare import prepare_campaign
from conformance.wire.decode import printable_lines
from lab import drivers
from lab.data.evidence import Evidence
from lab.data.plan import Scenario
from lab.deadline import Deadline
from lab.drivers.reading import without_echo
from lab.drivers.serial_session import SerialSession
from lab.errors import GuestTimeoutError, LabError, UsageError
from lab.guest import keyboard
from lab.guest.console import plain
from lab.guest.machine import Machine
from lab.guest.terminal import talk
from lab.recording.record import record
from lab.toolchain import Toolchain

DEFAULT_SCENARIO = "read/basic"
LINE_SECONDS, SILENT_SECONDS = 60.0, 1.0
"""For a line of a script; and without a prompt, it is done when nothing came for so long."""
LEAVE = "Ctrl-] leaves"
GDB_SOCKET = "gdb"
"""In the folder of the guest's machine; what the user names leads there."""


@click.command()
@click.option("--driver", default="linux", metavar="NAME|FILE", shell_complete=completing.drivers, show_default=True,
              help="a driver's name or its manifest")  # fmt: skip
@click.option("--scenario", default=DEFAULT_SCENARIO, metavar="ID|FILE", shell_complete=completing.scenarios, show_default=True,
              help="whose device, faults and guest (see nvme-lab list scenarios)")  # fmt: skip
@click.option("--device", type=click.Choice(EMULATED), help="device in front of it [default: the first that can be that]")
@SEED
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="new folder for the evidence")
@click.option("--script", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="type the lines of FILE instead, one after the other, and print what comes; needs no terminal")  # fmt: skip
@click.option("--gdb", metavar="PORT|SOCKET", help="let gdb attach to the guest's processors there, by TCP or a unix socket")
@machine
def shell(
    driver: str, scenario: str, device: str | None, seed: int, out: Path | None, gdb: str | None, script: Path | None,
    **options: Any,
) -> None:  # fmt: skip
    """Boot a guest in a scenario, plug its device, load the driver, and leave the rest to you: its console is your terminal.

    What the device sees is recorded meanwhile; the folder is named at the end, for wire, judge and diff. Ctrl-] leaves.

    \b
    nvme-lab shell
    nvme-lab shell --driver u-boot --scenario read/high-lba --device lab
    nvme-lab shell --driver u-boot --script commands.txt
    nvme-lab shell --gdb 1234                        then elsewhere: gdb -ex 'target remote localhost:1234'
    """
    lines = _script(script)
    if lines is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("A shell needs a terminal.", remedy="without one, --script FILE types the lines of a file")
    console = terminal.console()
    request = RunRequest(drivers=(driver,), devices=(device,) if device else (), scenarios=(scenario,), seed=seed)
    campaign = prepare_campaign(
        plan(request, only_claimed=False), settings(options), lambda text: console.print(text, style="dim")
    )
    if not campaign.jobs:
        why = "; ".join(f"{left.device}: {left.reason}" for left in campaign.left_out) or "the driver reaches no such device"
        raise UsageError(f"There is no such guest: {why}.", remedy="name another scenario or device")
    job = campaign.jobs[0]
    _check_guest(job, campaign.toolchain)
    folder = out or shell_folder(Path.cwd())
    if folder.exists():
        raise UsageError(f"{folder} exists already.", remedy="name a new folder with --out")
    console.print(f"{job.name}: {job.scenario.title}", style="bold")
    if lines is None:
        console.print(f"{LEAVE}, Enter shows the prompt.", style="bold")

    def visit(guest: Machine) -> None:
        if gdb:
            console.print(open_gdb(guest, gdb), style="bold", markup=False)
        if lines is not None:
            run_script(guest, job, lines, console)
            return
        console.print(guest.console.last_lines(), style="dim", markup=False, end=" ")  # the last one may be a prompt
        at_keyboard = job.driver.boot.input == "keyboard"
        typed = partial(keyboard.press_all, guest) if at_keyboard else guest.console.send
        talk(guest.console, typed, lambda: guest.process.alive, sys.stdin.fileno(), sys.stdout.fileno())
        console.print()

    try:
        record(
            job.driver, _until_loaded(job.scenario), job.device, folder.absolute(), toolchain=campaign.toolchain,
            shell=True, visit=visit,
        )  # fmt: skip
    finally:
        if gdb and Path(gdb).is_symlink():
            Path(gdb).unlink()
    end = Evidence(folder).end
    console.print(f"Evidence: {shown(folder)}", f"The conversation: nvme-lab wire {shown(folder)}", sep="\n", soft_wrap=True)
    if end and end.outcome == "panic":
        console.print(f"The guest died: {end.reason}", style="bold red", markup=False)
    elif end and end.outcome != "complete":
        raise LabError(end.reason)


def _script(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--script: {file} cannot be read: {error}.", remedy="name a text file of lines") from error


def run_script(guest: Machine, job: Job, lines: Sequence[str], console: Console) -> None:
    """Type each line once the one before is done, and print what came of it. GuestTimeoutError where it never is.

    A line is done when the manifest's prompt (`boot.ready`) is back; without one, when the console has been silent for a while.
    """
    session = None
    if job.driver.adapter == "generic-serial" and job.driver.boot.ready and job.driver.boot.input != "none":
        session = SerialSession(guest, job.driver, job.scenario)
    for line in lines:
        console.print(Text(f"> {line}", style="bold"), soft_wrap=True)
        if session:
            said = session.ask(line, Deadline(LINE_SECONDS))
        else:
            before = len(guest.console.text())
            guest.console.send(line + "\n")
            _until_silent(guest)
            said = without_echo(plain(guest.console.text()[before:]), line)
        if said.strip():
            console.print(Text(printable_lines(said.strip("\n"))), soft_wrap=True)


def _until_silent(guest: Machine) -> None:
    """Wait until the console has been silent for a while."""
    deadline, length, began = Deadline(LINE_SECONDS), -1, time.monotonic()
    while not deadline.expired and (length < 0 or time.monotonic() - began < SILENT_SECONDS):
        with suppress(GuestTimeoutError):
            guest.console.expect("(?!)", Deadline(SILENT_SECONDS / 5))
        if (found := len(guest.console.text())) != length:
            length, began = found, time.monotonic()


def open_gdb(guest: Machine, where: str) -> str:
    """Let gdb attach to a guest at a TCP port or a unix socket; return the command for it. UsageError if QEMU cannot listen."""
    target = f"localhost:{where}" if where.isdecimal() else str(Path(where).absolute())
    socket = guest.folder / GDB_SOCKET  # QEMU may have a user of its own, which can write nowhere else
    listen = f"tcp:127.0.0.1:{where}" if where.isdecimal() else f"unix:{socket},server=on,wait=off"
    if not where.isdecimal():
        _link(Path(target), socket)
    said = str(guest.qmp("human-monitor-command", {"command-line": f"gdbserver {listen}"})).strip()
    if not said.startswith("Waiting for gdb connection"):
        raise UsageError(
            f"--gdb: QEMU cannot listen at {where}: {said}", remedy="name a free port, or a path that QEMU may use"
        )
    return f"gdb -ex 'target remote {target}'"


def _link(path: Path, socket: Path) -> None:
    """Let a path lead to a socket; one that an earlier guest has left is replaced. UsageError where it cannot be made."""
    try:
        if path.is_symlink():
            path.unlink()
        path.symlink_to(socket)
    except OSError as error:
        raise UsageError(
            f"--gdb: {path} cannot be made: {error.strerror}.", remedy="name a new path, or a free port"
        ) from error


def _until_loaded(scenario: Scenario) -> Scenario:
    """Return the scenario with its actions up to the one that brings the driver up completely."""
    whole = (action.name == "load" and "until" not in action.arguments for action in scenario.actions)
    loads = [number for number, loaded in enumerate(whole, 1) if loaded]
    return replace(scenario, actions=scenario.actions[: loads[0] if loads else 0])


def _check_guest(job: Job, toolchain: Toolchain) -> None:
    """Raise UsageError where there is no shell."""
    spec = drivers.adapter(job.driver, toolchain).guest(job.scenario)
    if spec is None or "-S" in spec.extra:
        raise UsageError(
            f"The driver {job.driver.name!r} runs in the lab's own process: there is no guest to sit at.",
            remedy="nvmectl is its tool; reference-vfio runs the same driver in a guest",
        )
