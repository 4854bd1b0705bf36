"""Which QEMU runs the guests.

In this order: the one that the user named; the machine's, if it can do the whole ladder; the fetched one, run by its own
loader; the machine's, if it has the minimum features. What it lacks is reported, never worked around silently.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from images.elf import Tree
from lab import confinement
from lab.architectures import X86_64
from lab.errors import LabError, UsageError
from lab.toolchain.apt import INSTEAD, file_sha256

LOG = logging.getLogger(__name__)

LADDER: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "vfio-user-pci (the programmable controller)": (10, 1),
        "hot plug of nvme-ns on a live controller": (11, 1),
        "migration of a controller with one namespace": (11, 1),
    }
)
"""Feature and the first version of QEMU that has it."""

FLOOR = (7, 2)
"""Below this nothing has been tried."""
ENOUGH = (10, 1)
"""From here on no other QEMU is fetched."""

VERSION_SECONDS = 60.0

# Firmware and option ROMs lie in the folders of other packages than qemu-system-x86's own.
_DATA_FOLDERS = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
_MODULES = "usr/lib/x86_64-linux-gnu/qemu"


@dataclass(frozen=True)
class Qemu:
    """A QEMU that has been started once (to ask its version)."""

    command: tuple[str, ...]
    """The complete prefix; the guest's arguments follow it."""
    env: Mapping[str, str]
    """To be set over the environment."""
    version: tuple[int, ...]
    origin: str
    """``option``, ``machine`` or ``fetched``."""
    trace_events: Path | None
    """The declarations of its trace events."""
    sha256: str
    """Of the binary."""
    missing: tuple[str, ...]
    """What of the ladder it is too old for."""
    img: tuple[str, ...] | None
    """The prefix of its qemu-img, if there is one."""
    arch: str = X86_64
    """Of its guests, as in the name of the program."""

    def data_file(self, name: str) -> Path | None:
        """Return a file that comes with QEMU, such as its BIOS; None if it is not there."""
        named = [Path(folder) for option, folder in pairwise(self.command) if option == "-L"]
        folders = named or [root / folder for root in (*Path(self.command[0]).parents, Path("/")) for folder in _DATA_FOLDERS]
        return next((folder / name for folder in folders if (folder / name).is_file()), None)


def choose(named: Path | None, fetch: Callable[[], Path], say: Callable[[str], None], *, arch: str = X86_64) -> Qemu:
    """Return the QEMU for guests of ``arch``. ``fetch`` gives the tree of the fetched closure; it is called only if needed."""
    program = f"qemu-system-{arch}"
    if named is not None:
        program_file = _named(named)
        try:
            return installed(program_file, "option", arch)
        except LabError as error:
            raise UsageError(error.what, remedy=error.remedy) from error
    found = shutil.which(program)
    machine = installed(Path(found), "machine", arch) if found else None
    if machine is not None and machine.version >= ENOUGH:
        LOG.info("QEMU %s of this machine: %s", dotted(machine.version), found)
        return machine
    LOG.info("QEMU for %s is fetched; of this machine: %s", arch, dotted(machine.version) if machine else "none")
    try:
        return _fetched(fetch(), arch)
    except LabError as error:
        if machine is None or machine.version < FLOOR:
            raise
        say(f"warning: {error.what}")
        say(f"warning: QEMU {dotted(machine.version)} of this machine is used; it lacks: {', '.join(machine.missing)}")
        return machine


def missing(version: tuple[int, ...]) -> tuple[str, ...]:
    """Return the features of the ladder that this version lacks."""
    return tuple(feature for feature, since in LADDER.items() if version < since)


def _named(path: Path) -> Path:
    # A bare name that is no file here is looked for on the PATH.
    found = path if path.is_file() else Path(shutil.which(path.name) or path)
    if not os.access(found, os.X_OK) or found.is_dir():
        raise UsageError(f"The QEMU that was named, {path}, is not a program.", remedy=INSTEAD)
    return found


def installed(program: Path, origin: str, arch: str) -> Qemu:
    """Return a QEMU that is a program of this machine. LabError if it does not start."""
    image_tool = shutil.which("qemu-img", path=str(program.parent)) or shutil.which("qemu-img")
    declared = (program.parent / "../share/qemu/trace-events-all", Path("/usr/share/qemu/trace-events-all"))
    version = _ask_version((str(program),), {})
    return Qemu(
        command=(str(program),),
        env=MappingProxyType({}),
        version=version,
        origin=origin,
        trace_events=next((file.resolve() for file in declared if file.is_file()), None),
        sha256=file_sha256(program),
        missing=missing(version),
        img=(image_tool,) if image_tool else None,
        arch=arch,
    )


def _fetched(root: Path, arch: str) -> Qemu:
    tree, program = Tree(root), f"qemu-system-{arch}"
    data = [argument for folder in _DATA_FOLDERS if (root / folder).is_dir() for argument in ("-L", str(root / folder))]
    command = (*tree.command(f"usr/bin/{program}"), *data)
    env = MappingProxyType({"QEMU_MODULE_DIR": str(root / _MODULES)})
    version = _ask_version(command, env)
    return Qemu(
        command=command,
        env=env,
        version=version,
        origin="fetched",
        trace_events=tree.find("usr/share/qemu/trace-events-all"),
        sha256=file_sha256(tree.require(f"usr/bin/{program}")),
        missing=missing(version),
        img=tuple(tree.command("usr/bin/qemu-img")) if tree.find("usr/bin/qemu-img") else None,
        arch=arch,
    )


def _ask_version(command: tuple[str, ...], env: Mapping[str, str]) -> tuple[int, ...]:
    """Ask a QEMU, which is not trusted more than it is with a guest."""
    try:
        done = confinement.run([*command, "--version"], env, VERSION_SECONDS)
    except LabError as error:
        raise LabError(f"{command[-1]} does not start: {error.what}", remedy=error.remedy or INSTEAD) from error
    match = re.search(r"^QEMU emulator version (\d+(?:\.\d+)+)", done.stdout)
    if match is None:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise LabError(f"{' '.join(command)} --version does not say QEMU's version: {said!r}", remedy=INSTEAD)
    return tuple(int(part) for part in match[1].split("."))


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as people write it: 10.1.2."""
    return ".".join(map(str, version))
