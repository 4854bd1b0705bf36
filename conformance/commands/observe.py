"""``nvme-lab observe``: a true report about a system that boots, without a manifest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from conformance.commands.init import MEMORY, render, written_name
from conformance.commands.options import settings, size_of_memory
from conformance.onboarding import observe_report
from conformance.onboarding.boot_code import BY_BIOS, Starts, pc_starts
from conformance.onboarding.foreign_images import disk_architecture
from conformance.onboarding.linux_boot import append as kernel_words
from conformance.onboarding.observation import BUDGET_SECONDS, Boot, BootImage, Observer, needs_of
from conformance.onboarding.recognise import Recognised, recognise
from conformance.onboarding.rungs import PLAIN, RUNGS
from conformance.report import terminal
from conformance.run.folders import default_folder, prepare_folder, shown
from lab.architectures import ARCHITECTURES, X86_64
from lab.data.image_forms import require_raw
from lab.errors import REMEDY, LabError, UsageError, nearest
from lab.toolchain import prepare

FILE = click.Path(path_type=Path)
KINDS: Mapping[str, str] = {
    "kernel": "a kernel", "disk": "a hard disk", "iso": "an optical disc", "floppy": "a floppy disk", "firmware": "a firmware",
}  # fmt: skip
MEDIA = tuple(kind for kind in KINDS if kind != "firmware")
NOT_REACHED = 2
MOST_JOBS = 4


def _kind_options(function: Any) -> Any:
    for kind in reversed(list(KINDS)):
        help = f"boot this as {KINDS[kind]}, whatever it looks like"
        function = click.option(f"--{kind}", type=FILE, metavar="FILE", help=help)(function)
    return function


@click.command()
@click.argument("image", required=False, type=FILE)
@_kind_options
@click.option("--nvme-disk", type=FILE, metavar="FILE", help="raw image on the NVMe disk; booted where IMAGE is not given")
@click.option("--initrd", type=FILE, metavar="FILE", help="for a kernel")
@click.option("--append", metavar="WORDS", help="the kernel's command line")
@click.option("--arch", type=click.Choice(list(ARCHITECTURES)), help="of the system [default: as the image is]")
@click.option("--machine", type=click.Choice(["q35", "pc", "virt"]), help="[default: q35, then pc; virt where it is no PC]")
@click.option("--cpu", metavar="MODEL", help="QEMU's processor model [default: max, then qemu64; on no PC: cortex-a57, rv64]")
@click.option("--memory", callback=size_of_memory, metavar="SIZE", help="as 128M or 1G [default: 256M, then 1G]")
@click.option("--cpus", type=click.IntRange(1, 64), metavar="N", default=1, show_default=True, help="processors")
@click.option("--qemu-option", "extra", multiple=True, metavar="WORD", help="further word for QEMU (repeatable)")
@click.option("--keys", type=FILE, metavar="FILE", help="lines that are typed once it is quiet, on keyboard and COM1")
@click.option("--seconds", type=click.FloatRange(0), default=BUDGET_SECONDS, show_default=True, metavar="N",
              help="begin no further boot after so long; 0: try all devices, however long it takes")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 16), default=lambda: min(MOST_JOBS, len(os.sched_getaffinity(0))), metavar="N",
              help=f"boots at once [default: as many as processors, {MOST_JOBS} at most]")  # fmt: skip
@click.option("--rung", "rungs", multiple=True, metavar="NAME", help="only these devices, beside the plain one (repeatable)")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="new folder for report and evidence"
)
@click.option("--write-manifest", type=FILE, metavar="FILE", help="write a manifest that goes on from here")
@click.option("--json", "as_json", is_flag=True, help="the report as JSON")
@click.option("--qemu", type=click.Path(path_type=Path), metavar="FILE", help="QEMU to use instead of looking for one")
@click.option("--offline", is_flag=True, default=None, help="only what the cache holds")
def observe(
    image: Path | None, nvme_disk: Path | None, rungs: tuple[str, ...], out: Path | None, write_manifest: Path | None,
    as_json: bool, keys: Path | None, seconds: float, jobs: int, **options: Any,
) -> int:  # fmt: skip
    """Boot IMAGE before a ladder of NVMe devices, ask nothing, and judge what its driver does on the wire.

    IMAGE is a kernel (ELF, bzImage, Image), a disk, ISO or floppy image, or a firmware, for a PC, arm64 or riscv64. No manifest
    is needed.
    The first answer comes after one boot.

    \b
    nvme-lab observe build/kernel.elf
    nvme-lab observe my-os.iso --nvme-disk fat32.img
    nvme-lab observe --nvme-disk my-os.img

    Exit status: 1 if a mandatory rule was broken, 2 if the driver was not reached.
    """
    console = terminal.console() if not as_json else Console(stderr=True)
    target, name, what = _target(image, nvme_disk, keys, options)
    chosen = [rung for rung in RUNGS if rung.name != PLAIN and (not rungs or rung.name in rungs)]
    for wanted in rungs:
        if wanted not in {rung.name for rung in RUNGS}:
            raise UsageError(f"there is no rung {wanted!r}{nearest(wanted, [rung.name for rung in RUNGS])}")
    if write_manifest and write_manifest.exists():
        raise UsageError(f"{write_manifest} exists already, and is not overwritten.", remedy="name another file")
    console.print(f"{what}.", soft_wrap=True, markup=False)
    chosen_tools = settings({"qemu": options["qemu"], "offline": options["offline"]})
    toolchain = prepare(chosen_tools, target.wants, lambda text: _say(console, text))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = prepare_folder(out or default_folder(Path.cwd()).with_name(f"observe-{stamp}"))
    observer = Observer(name, target, folder, toolchain, lambda text: _say(console, text))
    began = time.monotonic()
    plain = observer.plain(patient=not seconds)
    boots = [plain]
    left_out: list[str] = []
    observe_report.show_plain(console, plain, observer.machine)
    if plain.reached:
        _say(console, f"booting it before up to {len(chosen)} further devices, {jobs} at once")
        left = max(plain.seconds / 2, seconds - (time.monotonic() - began)) if seconds else 0  # 0 has no limit
        for rung, boot in observer.all_beside(plain, chosen, jobs, left):
            if boot is None:
                left_out.append(rung.name)
                continue
            boots.append(boot)
            _say(console, f"{rung.name}: {rung.title}")
            observe_report.show_rung(console, plain, boot)
    kernel = image if target.boot.get("kernel") else None
    report = observe_report.Report(
        name, what, dict(observer.machine), tuple(boots), tuple(observer.tried), tuple(left_out), options["kernel"] or kernel,
        has_initrd=bool(options["initrd"]),
    )  # fmt: skip
    data = observe_report.to_json(report, folder)
    (folder / "observe.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    page = folder / "observe.html"
    page.write_text(observe_report.html(report, folder), encoding="utf-8")
    if write_manifest:
        _write_manifest(write_manifest, name, what, target, observer, plain)
    if as_json:
        click.echo(json.dumps(data, indent=1))
    else:
        observe_report.show(console, report)
        console.print(f"Report: {shown(page)}", soft_wrap=True)
        if write_manifest:
            console.print(f"Wrote {write_manifest}. Now: nvme-lab run --driver {write_manifest}", soft_wrap=True)
    return _status(report, plain)


def _say(console: Console, text: str) -> None:
    console.print(text, style="dim", markup=False, soft_wrap=True)


def _status(report: observe_report.Report, plain: Boot) -> int:
    if plain.how == "lab-error":
        what, _, remedy = plain.reason.partition(REMEDY)
        raise LabError(what, remedy=remedy)
    if not plain.reached:
        return NOT_REACHED
    return int(any(group.is_mandatory for group in report.groups))


def _target(
    image: Path | None, nvme_disk: Path | None, keys: Path | None, options: dict[str, Any]
) -> tuple[BootImage, str, str]:
    """Return what is booted, its name, and in words what it is."""
    forced = [(kind, options[kind]) for kind in KINDS if options[kind]]
    if sum(kind != "firmware" for kind, _ in forced) + (image is not None) > 1:
        raise UsageError("One system is booted at a time.", remedy="name one image; --firmware may stand beside a disk")
    boot: dict[str, Any] = {"cpus": options["cpus"], "options": list(options["extra"])}
    named: list[str] = []
    arch = options["arch"] or X86_64
    for kind, path in forced:
        boot[kind] = _readable(path, f"--{kind}", may_be_packed=kind == "kernel" and not ARCHITECTURES[arch].is_pc)
        named.append(f"{path}, as {KINDS[kind]}")
        if kind == "kernel" and (linux := _linux(path)) is not None:
            boot |= kernel_words(linux, options["append"])
            arch = options["arch"] or linux.arch
    if image is not None:
        found = recognise(image)
        if found.boots not in KINDS:
            remedy = f"nvme-lab init {image}" if found.boots else found.remedy
            raise UsageError(f"{image} is {found.what}: it cannot be booted.", remedy=remedy)
        boot[found.boots] = str(image.absolute())
        named.append(f"{image}: {found.what}")
        arch = options["arch"] or found.arch
        boot |= kernel_words(found, options["append"])
    if nvme_disk is not None:
        _readable(nvme_disk, "--nvme-disk")
        if not any(boot.get(kind) for kind in MEDIA):
            boot["nvme"] = True
            arch = options["arch"] or disk_architecture(nvme_disk)
            named.append(f"{nvme_disk}, booted from the NVMe disk")
    if not named:
        raise UsageError("Nothing says what is booted.", remedy="name an image, or --nvme-disk FILE to boot from the NVMe disk")
    needs: tuple[str, ...] = ()
    starts = _pc_starts(boot, nvme_disk) if arch == X86_64 and not boot.get("firmware") else BY_BIOS
    place = ARCHITECTURES[arch]
    if not place.is_pc and any(boot.get(kind) for kind in ("disk", "iso", "nvme")) and not boot.get("firmware"):
        boot["firmware"], needs = f"{{{place.edk2}}}", (place.edk2,)
        named.append(f"started by EDK2 on {place.shown}")
    if boot.get("firmware") and not any(boot.get(kind) for kind in (*MEDIA, "nvme")):
        boot["firmware_driver"] = True  # there is no other system: the firmware's driver is the one that is seen
    if options["initrd"]:
        boot["initrd"] = _readable(options["initrd"], "--initrd", may_be_packed=True)
    if options["append"] is not None:
        boot.setdefault("append", options["append"])
    main = image or (forced[0][1] if forced else nvme_disk)
    assert main is not None
    disk = nvme_disk.absolute() if nvme_disk else None
    text = _keys(keys) if keys else ""
    machine = options["machine"], options["cpu"], options["memory"]
    target = BootImage(boot, Path.cwd(), disk, text, *machine, arch=arch, needs=needs, starts=starts)
    return target, written_name(main), "; ".join(named)


def _linux(path: Path) -> Recognised | None:
    """Return what a file is if it is a kernel of Linux."""
    with suppress(UsageError):
        found = recognise(path)
        return found if found.is_linux else None
    return None


def _pc_starts(boot: Mapping[str, Any], nvme_disk: Path | None) -> Starts:
    """Return what a PC starts of what is booted."""
    for kind in ("disk", "iso"):
        if boot.get(kind):
            return pc_starts(Path(boot[kind]), kind)
    return pc_starts(nvme_disk, "disk") if boot.get("nvme") and nvme_disk else BY_BIOS


def _keys(path: Path) -> str:
    """Return the lines that are to be typed."""
    remedy = "write the lines to be typed into it, as text"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--keys: {path} cannot be read: {error.strerror}.", remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--keys: {path} is no text.", remedy=remedy) from error
    if not text.strip("\r\n") and "\n" not in text:
        raise UsageError(f"--keys: {path} holds no keys.", remedy=remedy)
    return text


def _readable(path: Path, option: str, *, may_be_packed: bool = False) -> str:
    return str(require_raw(path, option, may_be_packed=may_be_packed).absolute())


def _write_manifest(path: Path, name: str, what: str, target: BootImage, observer: Observer, plain: Boot) -> None:
    machine = dict(observer.machine)
    boot = {**target.boot, **({"firmware": machine["firmware"]} if "firmware" in machine else {})}
    text = render(
        "observed.toml.j2", name=name, what=what, boot=boot, machine=machine, disk=target.disk, target=target,
        needs=needs_of(target, machine), stages=list(plain.seen.steps) or ["detect"], memory=MEMORY,
    )  # fmt: skip
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", remedy="name another file") from error
