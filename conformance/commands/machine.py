"""``nvme-lab fetch`` and ``nvme-lab doctor``: what a run needs of this machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
from rich.table import Table
from rich.text import Text

from conformance.commands.options import JSON, machine, settings
from conformance.report.terminal import console, show
from lab.errors import LabError
from lab.guest.accelerator import KVM, accelerator
from lab.guest.template import LIMIT, clear, templates
from lab.settings import Settings
from lab.toolchain import WANTS, Qemu, prepare, update_lock
from lab.toolchain.cache import Cache
from lab.toolchain.qemu import ENOUGH, FLOOR, LADDER, choose

CACHE_BYTES = 1 << 30
"""What downloads, unpacked packages and the guest image take together, with a reserve."""
SHARED_BYTES = 600 << 20
"""A guest's memory, twice: with less in /dev/shm it is kept on disk."""
TOOLS = (
    ("setpriv", "util-linux", "guests must not outlive the lab"),
    ("dpkg-deb", "dpkg", "packages are unpacked with it; without it, name --qemu, --kernel and --image"),
    ("apt-get", "apt", "packages are fetched with it; without it, name --qemu, --kernel and --image"),
)

State = Literal["good", "less", "bad"]
COLOURS: dict[State, str] = {"good": "green", "less": "yellow", "bad": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing about this machine. ``less``: runs work, with something missing; ``bad``: they do not."""

    name: str
    state: State
    says: str
    remedy: str = ""


@click.command()
@click.option("--update-lock", "updating", is_flag=True, help="write the mirror's newest versions into the lock file")
@machine
def fetch(updating: bool, **options: Any) -> None:
    """Download and build all that runs need, so that they work offline.

    \b
    nvme-lab fetch
    nvme-lab fetch --locked
    """
    out = console()
    chosen = settings(options)

    def say(text: str) -> None:
        out.print(text, style="dim")

    if updating:
        update_lock(chosen, say)
    toolchain = prepare(chosen, WANTS, say)
    assert toolchain.qemu is not None
    assert toolchain.linux is not None
    machine = f"QEMU {_dotted(toolchain.qemu.version)} ({toolchain.qemu.origin})"
    out.print(f"Ready: {machine}, Linux {toolchain.linux.release}, U-Boot.")


@click.command()
@click.option("--clear-templates", "clearing", is_flag=True, help="remove the saved guests; the next run boots new ones")
@JSON
@machine
def doctor(clearing: bool, as_json: bool, **options: Any) -> int:
    """Say what this machine has and lacks, with the remedy. Nothing is downloaded. Exit status 2 where runs cannot work.

    \b
    nvme-lab doctor
    nvme-lab doctor --clear-templates
    """
    chosen = settings(options)
    if clearing:
        freed = clear(Cache(chosen.open_cache()))
        click.echo(f"Templates of guests removed: {freed >> 20} MiB freed.", err=True)
    findings = list(examine(chosen))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    return LabError.exit_status if any(finding.state == "bad" for finding in findings) else 0


def examine(chosen: Settings) -> Iterator[Finding]:
    """What there is to say about this machine, the most important first."""
    found: list[Qemu] = []
    yield _attempt("QEMU", lambda: _qemu(chosen, found))
    if found:
        yield _accelerator(found[0])
    for name, package, why in TOOLS:
        path = shutil.which(name)
        missing: State = "bad" if name == "setpriv" else "less"
        yield Finding(name, "good", path) if path else Finding(name, missing, f"not found: {why}", f"install {package}")
    yield _attempt("cache", lambda: _space("cache", chosen.open_cache(), CACHE_BYTES, "set NVME_LAB_CACHE to another disk"))
    yield _attempt("templates", lambda: _templates(Cache(chosen.open_cache())))
    shared = Path("/dev/shm")
    if shared.is_dir():
        yield _space("/dev/shm", shared, SHARED_BYTES, "make it larger (docker run --shm-size=1g): guests would be slower")
    else:
        yield Finding("/dev/shm", "less", "there is none: guests' memory is kept on disk", "mount a tmpfs there")


def _attempt(name: str, ask: Callable[[], Finding]) -> Finding:
    try:
        return ask()
    except LabError as error:
        return Finding(name, "bad", error.what, error.remedy)


def _qemu(chosen: Settings, found: list[Qemu]) -> Finding:
    """The QEMU that a run would use; nothing is fetched to find out."""

    def fetched() -> Path:
        from images import recipe
        from lab.toolchain.closures import Closures

        offline = Settings(cache=chosen.open_cache(), offline=True)
        closure = recipe.load("qemu").closures["qemu"]
        return Closures(offline, Cache(offline.cache), lambda text: None).fetch("qemu", closure).root

    try:
        qemu = choose(chosen.qemu, fetched, lambda text: None)
    except LabError:
        newest = _dotted(ENOUGH)
        return Finding("QEMU", "less", f"none of version {newest} here yet: it is fetched by the first run", "nvme-lab fetch")
    found.append(qemu)
    says = f"{_dotted(qemu.version)} ({qemu.origin}): {qemu.command[-5] if qemu.origin == 'fetched' else qemu.command[0]}"
    if qemu.version < FLOOR:
        return Finding("QEMU", "bad", f"{says} is older than {_dotted(FLOOR)}", "nvme-lab fetch, or name one with --qemu")
    if qemu.missing:
        return Finding("QEMU", "less", f"{says}; too old for: {', '.join(qemu.missing)}", "nvme-lab fetch")
    return Finding("QEMU", "good", f"{says}; it can do all {len(LADDER)} things that need a new one")


def _accelerator(qemu: Qemu) -> Finding:
    chosen = accelerator(qemu.command, qemu.env)
    if chosen.name == KVM:
        return Finding("KVM", "good", chosen.reason)
    return Finding("KVM", "less", f"not usable, guests run by TCG: {chosen.reason}", "none is needed; runs are slower")


def _space(name: str, folder: Path, need: int, remedy: str) -> Finding:
    free = shutil.disk_usage(folder).free
    says = f"{folder}: {free >> 20} MiB free"
    if free >= need and os.access(folder, os.W_OK):
        return Finding(name, "good", says)
    return Finding(name, "less", f"{says}, {need >> 20} MiB wanted", remedy)


def _templates(cache: Cache) -> Finding:
    """The guests that were booted once and are forked ever after."""
    kept = templates(cache)
    if not kept:
        return Finding("templates", "good", "of no guest yet: the first run boots and saves them")
    size = sum(template.size for template in kept)
    ages = [_age(time.time() - template.used) for template in (kept[0], kept[-1])]
    says = f"of {len(kept)} guests: {size >> 20} MiB of {LIMIT >> 20} at most, used {ages[0]} to {ages[1]} ago"
    return Finding("templates", "good", says)


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _print(findings: list[Finding]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        grid.add_row(Text(finding.state, style=COLOURS[finding.state]), finding.name, Text(finding.says))
        if finding.remedy and finding.state != "good":
            grid.add_row("", "", Text(f"remedy: {finding.remedy}", style="dim"))
    show(grid)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
