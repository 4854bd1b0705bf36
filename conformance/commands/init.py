"""``nvme-lab init``: a manifest for a user's driver, that runs at once, and a CI job that runs it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, PackageLoader
from rich.console import Console

from conformance.commands.options import machine, settings, size_of_memory
from conformance.onboarding.first_look import Look, help_of, look
from conformance.onboarding.help_drafts import drafts
from conformance.onboarding.linux_boot import append as kernel_words
from conformance.onboarding.linux_boot import is_rootless, memories, what_it_lacks
from conformance.onboarding.observation import BootImage
from conformance.onboarding.own_source import PLACEHOLDER, own_source
from conformance.onboarding.recognise import NO_BOOT_CODE, Recognised, recognise
from conformance.report import terminal
from lab import drivers
from lab.architectures import ARCHITECTURES, X86_64
from lab.data.image_forms import require_raw
from lab.data.manifest import STAGES, parse
from lab.errors import LabError, UsageError
from lab.toolchain import Toolchain, prepare

CI: Mapping[str, Path] = {"github": Path(".github/workflows/nvme.yml"), "gitlab": Path(".gitlab-ci.yml")}
LOOK_SECONDS = 15.0
READY_SECONDS = 60
FIRST_STAGES = ("detect", "admin-queue")
LINUX_STAGES = STAGES
PROGRAM_STAGES = STAGES[:5]
GUESSED_READY = "^> "
MEMORY = "256M"
NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""As in a manifest's `name`."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="the manifest [default: NAME.toml here]")  # fmt: skip
@click.option("--name", default="", metavar="NAME", help="the driver's name [default: the file's]")
@click.option("--ci", type=click.Choice(list(CI)), help="write a CI job too, in this folder")
@click.option("--boot/--no-boot", default=True, show_default=True,
              help="boot once to detect console and prompt")  # fmt: skip
@click.option("--machine", "machine_type", metavar="NAME", help="QEMU's machine [default: q35; virt where it is no PC]")
@click.option("--cpu", metavar="MODEL", help="QEMU's processor model [default: max; cortex-a57, rv64]")
@click.option("--memory", callback=size_of_memory, metavar="SIZE", help=f"as 128M or 1G [default: {MEMORY}]")
@click.option("--append", metavar="WORDS", help="a kernel's command line")
@click.option("--initrd", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="for a kernel")
@click.option("--qemu-option", "extra", multiple=True, metavar="WORD", help="further word for QEMU (repeatable)")
@click.option(
    "--seconds", type=click.FloatRange(1, 600), metavar="N", default=LOOK_SECONDS, show_default=True, help="how long then"
)
@machine
def init(
    file: Path, output: Path | None, name: str, ci: str | None, boot: bool, seconds: float, machine_type: str | None,
    cpu: str | None, memory: str | None, append: str | None, initrd: Path | None, extra: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Write a manifest for FILE: a kernel, a disk, ISO or floppy image, a firmware, a .ko module of Linux, or a program for it.

    What FILE is is recognised and said. Nothing is overwritten.

    \b
    nvme-lab init build/kernel.elf
    nvme-lab init ../linux/drivers/nvme/host/nvme.ko --name my-nvme --ci github
    """
    console = terminal.console()
    found = recognise(file)
    console.print(f"{file}: {found.what}.", soft_wrap=True)
    if not found.boots:
        raise UsageError(f"The lab cannot start {file}, which is {found.what}.", remedy=found.remedy)
    if found.remedy:
        console.print(f"But {found.remedy}.", soft_wrap=True)
    if "bzImage" in found.what:
        console.print("A Linux kernel and its modules: nvme-lab run --driver linux --kernel FILE fits better.", soft_wrap=True)
    name = name or written_name(file)
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--name: {name!r} is no name of a driver: it has lower-case letters, digits, '.', '+' and '-', and begins with "
            "a letter or digit.", remedy=f"--name {written_name(Path(name))}",
        )  # fmt: skip
    output = output or Path(f"{name}.toml")
    if not output.parent.is_dir() and not output.resolve().is_relative_to(Path.cwd().resolve()):  # here one is made
        raise UsageError(f"the folder {output.parent} is not there.", remedy=f"mkdir {output.parent}, or name another with -o")
    written = {output: "", **({CI[ci]: ""} if ci else {})}
    for path in written:
        if path.exists():
            raise UsageError(f"{path} exists already, and is not overwritten.", remedy="remove it, or name another with -o")

    def say(text: str) -> None:
        console.print(text, style="dim")

    values: dict[str, Any] = {"name": name, "file": output, "what": f"{file.name}, {found.what}", "all_stages": STAGES}
    if found.boots == "program":
        values |= {"adapter": "guest-program", "stages": PROGRAM_STAGES, "path": os.path.relpath(file, output.parent),
                   "place": f"/run/driver/{file.name}"}  # fmt: skip
    elif found.boots == "module":
        values |= _module(file, found, output.parent)
        _compare_kernels(found, options, console)
    else:
        named = {"machine": machine_type, "cpu": cpu, "memory": memory}
        chosen: dict[str, Any] = {key: value for key, value in named.items() if value}
        chosen |= kernel_words(found, append)
        if initrd:
            chosen |= {"initrd": str(require_raw(initrd, "--initrd", may_be_packed=True).absolute())}
            chosen.setdefault("memory", memories(chosen["initrd"])[0])
        if extra:
            chosen["options"] = list(extra)
        place = _place(found) | {key: chosen[key] for key in ("machine", "cpu") if key in chosen}
        values |= _system(file, found, output.parent) | chosen | {"place": place}
        if initrd:
            values["initrd"] = os.path.relpath(initrd, output.parent)
        _check(render("manifest.toml.j2", **values), output)  # before it takes its time to boot
        if boot:
            wants = {"qemu" if found.arch == X86_64 else f"qemu-{found.arch}", *_needs(found)}
            toolchain = prepare(settings(options), wants, say)
            booted = {found.boots: str(file.absolute()), **_place(found), **chosen}
            heard, suiting = _look_on_machines(found, booted, output, seconds, toolchain, say)
            booted |= suiting
            values["place"] = place | {key: suiting[key] for key in ("machine", "cpu") if key in suiting}
            values["memory"] = booted.get("memory", MEMORY)
            if heard.found_nothing:
                raise LabError("The firmware found nothing to boot on it.", remedy=found.remedy or NO_BOOT_CODE)
            if heard.trouble and len(heard.steps) <= 1:
                remedy = "build it for this machine; nvme-lab observe tries others; --no-boot writes a manifest all the same"
                if is_rootless(heard.crash):
                    remedy = what_it_lacks(file, has_initrd=initrd is not None)
                raise LabError(
                    f"It ended early, so no manifest was written: {heard.crash or heard.trouble}", remedy=remedy
                )  # fmt: skip
            values |= _heard(heard, console)
            if values["prompts"] and values["output"] in ("serial", "screen"):
                say('typing "help" at its prompt')
                typed_at = {"output": values["output"], "input": values["input"]}
                values["drafts"] = tuple(drafts(help_of(booted | typed_at, output, values["ready"], toolchain)))
    template = "program.toml.j2" if found.boots == "program" else "manifest.toml.j2"
    written[output] = render(template, **values)
    if ci:
        written[CI[ci]] = render(f"{ci}.yml.j2", manifest=in_repository(output), source=own_source())
    _check(written[output], output)
    for path, text in written.items():
        _write(path, text)
        console.print(f"Wrote {path}.")
    if PLACEHOLDER in written.get(CI.get(ci or "", Path()), ""):
        console.print(f"Set NVME_LAB in {CI[ci or '']}: to a pinned commit of your copy of NVMe Lab.", style="yellow")
    console.print(f"Now: nvme-lab run --driver {_as_driver(output)}")


def _look_on_machines(
    found: Recognised, booted: Mapping[str, Any], output: Path, seconds: float, toolchain: Toolchain, say: Callable[[str], None]
) -> tuple[Look, dict[str, str]]:
    """Boot once, and on further machines as long as nothing is heard; return what was, and what of the machine to write."""
    image = BootImage(
        {}, Path(), machine=booted.get("machine"), cpu=booted.get("cpu"), memory=booted.get("memory"), arch=found.arch
    )
    for number, suiting in enumerate(image.variants()):
        heard = look({**booted, **suiting} if number else dict(booted), output, seconds, toolchain, say)
        if not heard.is_silent:
            return heard, suiting if number else {}
        say(f"nothing was heard ({', '.join(suiting.values())})")
    return heard, {}


def in_repository(path: Path) -> Path:
    """Return a manifest's path as a CI job in this folder knows it; UsageError where it lies elsewhere."""
    found = Path(os.path.relpath(path))
    if found.parts[:1] == ("..",):
        what = f"{path} is outside of this folder, for which the CI job is written: a server would not have it."
        raise UsageError(what, remedy="run it in the repository's top folder, or write the manifest below it with -o")
    return found


def written_name(file: Path) -> str:
    """Return a driver's name made of a file's."""
    stem = file.name.partition(".")[0] if file.suffix else file.name
    return re.sub(r"[^a-z0-9.+-]+", "-", stem.lower()).strip("-.+") or "my-driver"


def _as_driver(path: Path) -> str:
    return str(path) if path.suffix == ".toml" or "/" in str(path) else f"./{path}"


def _place(found: Recognised) -> dict[str, Any]:
    """Return the keys of [boot] for the architecture of what was found; none for a PC."""
    place = ARCHITECTURES[found.arch]
    if place.is_pc:
        return {"firmware": f"{{{place.edk2}}}"} if found.starts.uefi_only else {}
    needs_firmware = found.boots in ("disk", "iso")
    return {"arch": place.name, **({"firmware": f"{{{place.edk2}}}"} if needs_firmware else {})}


def _system(file: Path, found: Recognised, folder: Path) -> dict[str, Any]:
    return {
        "adapter": "generic-serial", "stages": FIRST_STAGES, "boots": found.boots, "path": os.path.relpath(file, folder),
        "memory": MEMORY, "output": "serial", "prompts": True, "ready": GUESSED_READY, "looked": False,
        "seconds": READY_SECONDS, "screen": ARCHITECTURES[found.arch].is_pc, "dead": "", "options": (), "input": "serial",
        "append": "", "initrd": "", "drafts": (), "place": _place(found), "needs": _needs(found),
    }  # fmt: skip


def _needs(found: Recognised) -> list[str]:
    """Return what of the toolchain boots it, beside QEMU."""
    return [ARCHITECTURES[found.arch].edk2] if "firmware" in _place(found) else []


def _heard(heard: Look, console: Console) -> dict[str, Any]:
    """Apply what the first boot showed to the manifest, and print it."""
    if heard.trouble:
        console.print(f"It ended early: {heard.trouble}", style="yellow", markup=False)
    if heard.crash:
        console.print(f"It reports a crash: {heard.crash}", style="yellow", markup=False)
    seen: dict[str, Any] = {"looked": True, "stages": heard.steps if len(heard.steps) > 1 else FIRST_STAGES}
    if not heard.said.strip():
        if heard.screen.strip():
            console.print("It prints on its screen only:", style="yellow")
            console.print(heard.screen, markup=False)
            if prompt := heard.screen_prompt:
                return {**seen, "output": "screen", "input": "keyboard", "prompts": True, "ready": prompt}
        else:
            console.print(
                "It said nothing on COM1, COM2, port E9h or its screen. Try nvme-lab observe FILE, which varies the machine.",
                style="yellow", soft_wrap=True,
            )  # fmt: skip
        return {**seen, "prompts": False, "ready": ""}
    console.print(f"It prints on its {heard.output.replace('-', ' ')}; the last line is {heard.last_line!r}", markup=False)
    if len(heard.steps) > 1:
        console.print(f"Its driver was seen at work: {', '.join(heard.steps)}.")
    else:
        console.print("Nothing was done to the NVMe device: the driver waits to be asked, or is not there yet.")
    return {
        **seen,
        "output": heard.output,
        "prompts": heard.prompts and heard.output != "debug-console",
        "ready": "" if heard.crash else heard.ready,
        "dead": heard.dead,
    }


def _module(file: Path, found: Recognised, folder: Path) -> dict[str, Any]:
    """Return the module and its dependencies: from the same folder if they are there, else from the guest's own kernel."""
    modules = []
    for name in filter(None, found.modinfo["depends"].split(",")):
        beside = [path for path in file.parent.glob("*.ko") if path.stem.replace("-", "_") == name.replace("-", "_")]
        modules.append(os.path.relpath(beside[0], folder) if beside else name)
    return {
        "adapter": "linux", "needs": ["linux-guest"], "stages": LINUX_STAGES,
        "modules": [*modules, os.path.relpath(file, folder)],
    }  # fmt: skip


def _compare_kernels(found: Recognised, options: Mapping[str, Any], console: Console) -> None:
    """Print whether the module fits the guest's kernel, if that kernel is in the cache."""
    wanted = found.modinfo["vermagic"].split()[0]
    try:
        linux = prepare(settings({**options, "offline": True}), {"linux-guest"}, lambda _: None).linux
    except LabError:
        console.print(f"It loads into a guest whose kernel is {wanted}: name that with --kernel when you run it.")
        return
    if linux is not None and linux.release == wanted:
        console.print(f"The guest's kernel is {wanted}, too: it fits.")
    else:
        release = linux.release if linux else "another"
        console.print(
            f"The guest's kernel is {release}, and the module is for {wanted}: build it for that one, "
            "or name your kernel with --kernel when you run it.", style="yellow", soft_wrap=True,
        )  # fmt: skip


def render(template: str, **values: Any) -> str:
    """One of the package's templates."""
    environment = Environment(loader=PackageLoader("conformance.onboarding"), keep_trailing_newline=True, autoescape=False)
    return environment.get_template(template).render(values)


def _check(text: str, path: Path) -> None:
    """Check that the written file is a manifest."""
    parse(tomllib.loads(text), path, drivers.adapters())


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", remedy="name another with -o") from error
