"""What this machine has and lacks for runs, each with its remedy. Nothing is downloaded, built or changed to find out."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from conformance.run.runner import EXTRA_WORKERS
from lab import extensions
from lab.errors import LabError
from lab.guest.accelerator import KVM, accelerator
from lab.guest.folder import LONGEST_SOCKET_NAME, SOCKET_PATH_LIMIT, default_root
from lab.guest.loopback import has_ipv4_loopback
from lab.guest.template import LIMIT, templates
from lab.settings import Settings
from lab.toolchain import Qemu, mirrors
from lab.toolchain.cache import Cache
from lab.toolchain.qemu import ENOUGH, FLOOR, LADDER, choose, dotted, installed

CACHE_BYTES = 1 << 30
"""What downloads, unpacked packages and the guest image take together, with a reserve."""
RESULT_BYTES = 2 << 30
"""What the evidence of a full run of several drivers takes, with a reserve: 1.2 GB for six of them."""
SHARED_BYTES = 600 << 20
"""A guest's memory, twice: with less in /dev/shm it is kept on disk."""
GUEST_BYTES = 512 << 20
"""What a guest takes of the machine's memory, QEMU's own part with it."""
TOOLS = (
    ("setpriv", "util-linux", "guests must not outlive the lab"),
    ("tar", "tar", "packages and evidence are packed and unpacked with it"),
    ("dpkg-deb", "dpkg", "packages are unpacked with it; without it, name --qemu, --kernel and --image"),
    ("apt-get", "apt", "packages are fetched with it; without it, name --qemu, --kernel and --image"),
)
NEEDED_TOOLS = {"setpriv"}
PROGRAM = "qemu-system-x86_64"
RUN_FOLDER_NAME = "run-12345678"
"""As long as the folder that each guest gets below the root of run folders."""
DEVICE = Path("/dev/kvm")

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing about this machine. ``less``: runs work, with something missing; ``bad``: they do not."""

    name: str
    state: State
    says: str
    remedy: str = ""


def examine(chosen: Settings) -> Iterator[Diagnosis]:
    """Yield the findings about this machine, the most important first."""
    yield _machine()
    found: list[Qemu] = []
    yield _attempt("QEMU", lambda: _qemu(chosen, found))
    yield from _other_qemu(found)
    if found:
        yield _accelerator(found[0])
    for name, package, why in TOOLS:
        path = shutil.which(name)
        missing: State = "error" if name in NEEDED_TOOLS else "warning"
        yield Diagnosis(name, "ok", path) if path else Diagnosis(name, missing, f"not found: {why}", f"install {package}")
    yield _mirror(chosen)
    yield _attempt("cache", lambda: _space("cache", chosen.open_cache(), CACHE_BYTES, "set NVME_LAB_CACHE to another disk"))
    yield _attempt("templates", lambda: _templates(Cache(chosen.open_cache())))
    yield _space("results", Path.cwd(), RESULT_BYTES, "name a folder on another disk with --out")
    yield _attempt("run folders", _run_folders)
    yield _shared_memory()
    yield _memory()
    yield _loopback()
    yield from _extensions()


def _attempt(name: str, ask: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return ask()
    except LabError as error:
        return Diagnosis(name, "error", error.what, error.remedy)


def _machine() -> Diagnosis:
    machine = f"{platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}"
    says = f"{machine}, {len(os.sched_getaffinity(0))} processors"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Diagnosis("machine", "error", says, "use a Linux machine of x86-64: the lab's guests are packages for that")
    return Diagnosis("machine", "ok", says)


def _qemu(chosen: Settings, found: list[Qemu]) -> Diagnosis:
    """Return the QEMU that a run would use, without fetching anything."""

    def fetched() -> Path:
        from images import recipe
        from lab.toolchain.closures import Closures

        offline = Settings(cache=chosen.open_cache(), offline=True)
        closure = recipe.load("qemu").closures["qemu"]
        return Closures(offline, Cache(offline.cache), lambda _: None).fetch("qemu", closure).root

    try:
        qemu = choose(chosen.qemu, fetched, lambda _: None)
    except LabError:
        if chosen.qemu is not None:
            raise
        newest = dotted(ENOUGH)
        return Diagnosis(
            "QEMU", "warning", f"none of version {newest} here yet: it is fetched by the first run", "nvme-lab fetch"
        )
    found.append(qemu)
    says = f"{dotted(qemu.version)} ({qemu.origin}): {_program(qemu)}"
    if qemu.version < FLOOR:
        return Diagnosis("QEMU", "error", f"{says} is older than {dotted(FLOOR)}", "nvme-lab fetch, or name one with --qemu")
    if qemu.missing:
        return Diagnosis("QEMU", "warning", f"{says}; too old for: {', '.join(qemu.missing)}", "nvme-lab fetch")
    return Diagnosis("QEMU", "ok", f"{says}; it can do all {len(LADDER)} things that need a new one")


def _other_qemu(found: list[Qemu]) -> Iterator[Diagnosis]:
    """Yield a finding about the machine's own QEMU where another one is used."""
    path = shutil.which(PROGRAM)
    if path is None or (found and found[0].command[0] == path):
        return
    try:
        own = installed(Path(path), "machine", found[0].arch if found else "x86_64")
    except LabError as error:
        yield Diagnosis("other QEMU", "warning", error.what, "none is needed, unless no other one is found")
        return
    lacks = f", too old for: {', '.join(own.missing)}" if own.missing else ""
    yield Diagnosis("other QEMU", "ok", f"{dotted(own.version)} at {path} is not used{lacks}")


def _program(qemu: Qemu) -> str:
    return next(word for word in qemu.command if Path(word).name.startswith("qemu-system") or word == qemu.command[-1])


def _accelerator(qemu: Qemu) -> Diagnosis:
    chosen = accelerator(qemu.command, qemu.env)
    if chosen.name == KVM:
        return Diagnosis("KVM", "ok", chosen.reason)
    if not DEVICE.exists():
        remedy = "enable virtualisation in the firmware (or for this virtual machine); in a container: --device /dev/kvm"
    elif not os.access(DEVICE, os.R_OK | os.W_OK):
        remedy = "usermod -aG kvm USER, and log in again"
    else:
        remedy = "the host of this virtual machine does not nest KVM well: ask for another one"
    return Diagnosis("KVM", "warning", f"not usable, guests run by TCG: {chosen.reason}", f"none is needed; faster: {remedy}")


def _mirror(chosen: Settings) -> Diagnosis:
    if chosen.mirror:
        return Diagnosis("Debian mirror", "ok", f"{chosen.mirror} (named)")
    found = mirrors.candidates()
    if not found:
        return Diagnosis(
            "Debian mirror", "warning", "this machine's apt configuration names none: nothing can be fetched",
            "name one with --mirror, or --qemu, --kernel and --image",
        )  # fmt: skip
    if not found[0].signed_by:
        return Diagnosis(
            "Debian mirror", "warning", f"{found[0].uri}, and no keyring of Debian's: its lists may not be trusted",
            "install debian-archive-keyring",
        )  # fmt: skip
    return Diagnosis("Debian mirror", "ok", f"{found[0].uri}, as in this machine's apt configuration")


def _space(name: str, folder: Path, need: int, remedy: str) -> Diagnosis:
    free = shutil.disk_usage(folder).free
    says = f"{folder}: {free >> 20} MiB free"
    if not os.access(folder, os.W_OK):
        return Diagnosis(name, "warning", f"{folder}: not writable", remedy)
    if free < need:
        return Diagnosis(name, "warning", f"{says}, {need >> 20} MiB wanted", remedy)
    return Diagnosis(name, "ok", says)


def _templates(cache: Cache) -> Diagnosis:
    """Yield a finding about the saved templates of guests."""
    kept = templates(cache)
    if not kept:
        return Diagnosis("templates", "ok", "of no guest yet: the first run boots and saves them")
    size = sum(template.size for template in kept)
    ages = [_age(time.time() - template.used) for template in (kept[0], kept[-1])]
    says = f"of {len(kept)} guests: {size >> 20} MiB of {LIMIT >> 20} at most, used {ages[0]} to {ages[1]} ago"
    return Diagnosis("templates", "ok", says)


def _run_folders() -> Diagnosis:
    """Where guests have their sockets."""
    root = default_root()
    longest = len(bytes(root / RUN_FOLDER_NAME)) + 1 + LONGEST_SOCKET_NAME
    if longest > SOCKET_PATH_LIMIT:
        says = f"{root} is too deep: the paths of unix sockets have at most {SOCKET_PATH_LIMIT} bytes"
        return Diagnosis("run folders", "error", says, "set XDG_RUNTIME_DIR or TMPDIR to a shorter folder")
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        return Diagnosis(
            "run folders", "error", f"{there} is not writable", "set XDG_RUNTIME_DIR or TMPDIR to a folder that is"
        )
    return Diagnosis("run folders", "ok", str(root))


def _shared_memory() -> Diagnosis:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return Diagnosis("/dev/shm", "warning", "there is none: guests' memory is kept on disk", "mount a tmpfs there")
    return _space("/dev/shm", shared, SHARED_BYTES, "make it larger (docker run --shm-size=1g): guests would be slower")


def _memory() -> Diagnosis:
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(facts["MemAvailable"].split()[0]) << 10
    guests = free // GUEST_BYTES
    says = f"{free >> 20} MiB free: room for {guests} guests at once"
    if guests >= len(os.sched_getaffinity(0)) + EXTRA_WORKERS:
        return Diagnosis("memory", "ok", says)
    state: State = "warning" if guests else "error"
    return Diagnosis("memory", state, says, f"run --jobs {max(guests, 1)}, or end something else")


def _loopback() -> Diagnosis:
    """Guests are reached by SSH through a forwarded port."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
            return Diagnosis("loopback", "ok", f"ports can be forwarded (127.0.0.1:{server.getsockname()[1]} was tried)")
    except OSError as error:
        says = f"no port of 127.0.0.1 can be connected to: {error.strerror or error}"
        if not has_ipv4_loopback():
            return Diagnosis("loopback", "ok", f"{says}; guests are reached by a socket, which the fetched QEMU can forward")
        return Diagnosis("loopback", "error", says, "let no firewall close it")


def _extensions() -> Iterator[Diagnosis]:
    """Yield a finding per package that extends the lab; each is imported once as a test."""
    for point in extensions.points(*extensions.GROUPS):
        name = f"{point.group.removeprefix('nvme_lab.')}: {point.name}"
        try:
            extensions.imported(point)
        except LabError as error:
            yield Diagnosis(name, "error" if point.group == extensions.CHECKS else "warning", error.what, error.remedy)
        else:
            yield Diagnosis(name, "ok", f"{extensions.package(point)} ({point.value})")


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
