"""Templates: guests that are booted once, saved, and forked ever after.

A template is a folder of the cache, complete or absent: ``ram`` (sparse), ``state`` (everything but the RAM), ``boot.log`` and
``template.json``. Its name is a digest of all that went into it, so whatever differs makes another template. A fork maps the
RAM privately, or has a copy of its own where others must map it too (vfio-user), and goes on from the saved state.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lab.data.plan import Scenario
from lab.deadline import Deadline
from lab.errors import GuestError, LabError, QmpError
from lab.guest import arguments, machine
from lab.guest.accelerator import KVM
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.machine import Machine
from lab.toolchain import digests
from lab.toolchain.cache import Cache, require_space
from lab.toolchain.qemu import Qemu, dotted

LOG = logging.getLogger(__name__)

KIND = "templates"
RAM, STATE, BOOT_LOG, FACTS = "ram", "state", "boot.log", "template.json"
OWN_LOG = "own.log"
"""What the console says while a template grows from another one; in the end it stands in ``boot.log`` behind the other's."""
BUILD_SECONDS = 120.0
"""For booting, settling and saving; 5 s are usual under TCG."""
LIMIT = 4 << 30
"""Bytes on disk for all templates; one of a guest with 256 MiB takes 130 MB."""
ABANDONED_SECONDS = 3600.0
"""After this long, what a killed build or removal has left is removed."""
_CODE = sha256(b"".join(Path(str(m.__file__)).read_bytes() for m in (arguments, machine))).hexdigest()
"""The code that decides what a guest is made of and how it is saved."""


_refused: dict[str, str] = {}
"""Why a guest, by its key, cannot be a template, for this process's lifetime: to try costs a boot."""


class ForkError(LabError):
    """This guest cannot be settled so, or this QEMU cannot save or restore it; it can still be booted."""


class SnapshotPreparer(Protocol):
    """A preparer of guests for the snapshot that forks start from."""

    cache_key: str
    """Identifies the code, and whatever else it leaves in the guest."""

    @property
    def base(self) -> SnapshotPreparer | None:
        """The preparer of the fork that this one begins with; None begins with a freshly booted guest."""

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        """Bring the guest to the point from which its forks go on; ForkError where that cannot be."""


@runtime_checkable
class Forkable(Protocol):
    """A driver whose guests can be forked."""

    def snapshot_preparers(self, scenario: Scenario) -> Sequence[SnapshotPreparer]:
        """Return the preparers that suit this scenario; the one that prepares the most comes first."""


@dataclass(frozen=True)
class Template:
    """A saved guest, from which forks go on."""

    folder: Path
    born: str
    """Distinguishes it from another one that was built later in the same place."""

    @property
    def boot_log(self) -> Path:
        """What the console said before the first fork."""
        return self.folder / BOOT_LOG

    def forked(self, spec: GuestSpec, shared_memory: Path | None = None) -> GuestSpec:
        """Return ``spec`` started from here.

        Pages of RAM are copied as they are written; all of them are copied at once into the file ``shared_memory``, if there
        must be one for others to map.
        """
        if shared_memory is None:
            return replace(spec, memory_file=self.folder / RAM, memory_private=True, state=self.folder / STATE)
        copy_sparse(self.folder / RAM, shared_memory)
        return replace(spec, memory_file=shared_memory, state=self.folder / STATE)


class Templates:
    """The templates of one QEMU under one accelerator."""

    def __init__(self, cache: Cache, qemu: Qemu, accelerator: str, say: Callable[[str], None]) -> None:
        """Take what all templates have in common; ``say`` receives what is being done."""
        self._cache = cache
        self.qemu = qemu
        self._accelerator = accelerator
        self._say = say

    def get(self, spec: GuestSpec, preparer: SnapshotPreparer) -> Template:
        """Return the template of this guest without a device; built if there is none, rebuilt if it is damaged.

        Of several processes that want the same one, one builds it and the others wait. Raises ForkError.
        """
        key = self._key(spec, preparer)
        if key in _refused:
            raise ForkError(_refused[key])

        def build(folder: Path) -> None:
            try:
                self._build(folder, spec, preparer)
            except ForkError as reason:
                LOG.info("guests of the template %s are booted, not forked: %s", key, reason.what)
                _refused[key] = reason.what
                raise

        folder = self._cache.entry(KIND, key, build)
        if damage := _damage(folder):
            self._say(f"the template {key} is damaged ({damage}): it is built again")
            with self._cache.lock(f"{KIND}.{key}"):
                if _damage(folder):
                    _remove(folder)
            folder = self._cache.entry(KIND, key, build)
        LOG.debug("fork the template %s", folder)
        os.utime(folder / FACTS)
        self._prune(folder)
        return Template(folder, _facts(folder)["born"])

    @contextmanager
    def fork(self, spec: GuestSpec, preparer: SnapshotPreparer, start: Callable[[Template], Machine]) -> Iterator[Machine]:
        """Return a running fork of what ``start`` makes. A template that does not restore is rebuilt once."""
        template = self.get(spec, preparer)
        with ExitStack() as running:
            try:
                forked = running.enter_context(start(template))
            except (GuestError, QmpError) as failure:
                self._say(f"the template {template.folder.name} does not restore: it is built again. {failure}")
                self.discard(template)
                forked = running.enter_context(start(self.get(spec, preparer)))
            yield forked

    def discard(self, template: Template) -> None:
        """Remove it, unless another process has replaced it."""
        with self._cache.lock(f"{KIND}.{template.folder.name}"), suppress(OSError, ValueError):
            if _facts(template.folder)["born"] == template.born:
                _remove(template.folder)

    def _key(self, spec: GuestSpec, preparer: SnapshotPreparer) -> str:
        made_of = {
            "spec": {name: _content(value) for name, value in asdict(spec).items()},
            "qemu": [self.qemu.command, self.qemu.sha256],
            "accelerator": self._accelerator,
            "processor": _processor() if self._accelerator == KVM else "",
            "settled by": list(_generations(preparer)),
            "code": _CODE,
        }
        return sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def _build(self, folder: Path, spec: GuestSpec, preparer: SnapshotPreparer) -> None:
        require_space(self._cache.root, spec.memory * MIB)
        how = "forking" if preparer.base else "booting"
        self._say(f"{how} a guest with {spec.smp} CPU and {spec.memory} MiB, to be forked from now on")
        began, deadline = time.monotonic(), Deadline(BUILD_SECONDS)
        template = Template(folder, uuid.uuid4().hex)
        with self._beginning(spec, preparer, template) as guest:
            preparer.prepare(guest, deadline)
            with self._named_refusal():
                guest.save(folder / STATE, deadline)
        dig_holes(folder / RAM)
        with self._named_refusal(), self._machine(template.forked(spec)):
            pass  # so it does restore
        facts = {
            "born": template.born,
            "seconds": round(time.monotonic() - began, 1),
            "qemu": dotted(self.qemu.version),
            "guest": {"cpus": spec.smp, "memory": spec.memory, "iommu": spec.iommu, "root ports": spec.root_ports},
            "sizes": {name: (folder / name).stat().st_size for name in (RAM, STATE)},
            "state": _digest(folder / STATE),
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n")

    @contextmanager
    def _beginning(self, spec: GuestSpec, preparer: SnapshotPreparer, template: Template) -> Iterator[Machine]:
        """Return the guest to prepare: a booted one, or a fork of another template."""
        if preparer.base is None:
            with self._machine(replace(spec, memory_file=template.folder / RAM), template.boot_log) as booted:
                yield booted
            return

        def start(base: Template) -> Machine:
            if damage := self._cache.heal([base.folder]):  # or the damage would grow into what vouches for itself
                raise GuestError(f"its template was damaged: {'; '.join(damage)}")
            shutil.copyfile(base.boot_log, template.boot_log)
            return self._machine(base.forked(spec, template.folder / RAM), template.folder / OWN_LOG)

        with self.fork(spec, preparer.base, start) as grown:
            yield grown
        with template.boot_log.open("ab") as log:
            log.write((template.folder / OWN_LOG).read_bytes())
        (template.folder / OWN_LOG).unlink()

    @contextmanager
    def _named_refusal(self) -> Iterator[None]:
        try:
            yield
        except (GuestError, QmpError) as refused:
            raise ForkError(f"QEMU {dotted(self.qemu.version)} cannot fork this guest: {refused}") from refused

    def _machine(self, spec: GuestSpec, console_log: Path | None = None) -> Machine:
        return Machine(self.qemu.command, self.qemu.env, spec, self._accelerator, console_log=console_log)

    def _prune(self, in_use: Path) -> None:
        """Remove the templates that were not used for the longest time, until the rest is within the limit."""
        room = LIMIT
        for template in reversed(templates(self._cache)):
            room -= template.size
            if room < 0 and template.folder != in_use:
                LOG.info("remove the template %s: all take more than %d bytes", template.folder, LIMIT)
                _remove(template.folder)
        for left in self._cache.folder(KIND).glob("*.*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True)
class TemplateInfo:
    """A template as the user may want to know it."""

    folder: Path
    size: int
    """Bytes on disk."""
    used: float
    """When it was used last, in seconds since the epoch."""
    facts: Mapping[str, Any]


def templates(cache: Cache) -> list[TemplateInfo]:
    """Return all templates in the cache, the most recently used one last."""
    found = []
    for folder in cache.folder(KIND).iterdir():
        with suppress(OSError, ValueError):  # it is being built or removed at this moment
            size = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
            found.append(TemplateInfo(folder, size, (folder / FACTS).stat().st_mtime, _facts(folder)))
    return sorted((kept for kept in found if not kept.folder.suffix), key=lambda kept: kept.used)


def clear(cache: Cache) -> int:
    """Remove all templates and return the bytes freed. Running forks go on."""
    found = templates(cache)
    for kept in found:
        _remove(kept.folder)
    return sum(kept.size for kept in found)


def dig_holes(file: Path) -> None:
    """Turn zeros into holes, which take no space and no time to copy; do nothing on a file system without holes."""
    subprocess.run(["fallocate", "--dig-holes", file], capture_output=True, check=False)


def copy_sparse(source: Path, destination: Path) -> None:
    """Copy the data, inside the kernel, and keep the holes."""
    with source.open("rb") as read, destination.open("wb") as written:
        size = os.fstat(read.fileno()).st_size
        written.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    return
                raise
            end = os.lseek(read.fileno(), at, os.SEEK_HOLE)
            written.seek(at)
            while at < end:
                at += os.sendfile(written.fileno(), read.fileno(), at, end - at)


def _generations(preparer: SnapshotPreparer | None) -> Iterator[str]:
    while preparer:
        yield preparer.cache_key
        preparer = preparer.base


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
    return facts


def _damage(folder: Path) -> str:
    """Return what is wrong with a finished template. The RAM is not read, which would take as long as a fork."""
    try:
        facts = _facts(folder)
        for name, size in facts["sizes"].items():
            if (folder / name).stat().st_size != size:
                return f"{name} does not have its {size} bytes"
        return "" if _digest(folder / STATE) == facts["state"] else f"{STATE} has other content"
    except (OSError, ValueError, LookupError) as error:
        return f"{type(error).__name__}: {error}"


def _remove(folder: Path) -> None:
    """Remove a template atomically for other processes."""
    gone = folder.with_suffix(f".gone-{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):  # another process was faster
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    digests.forget(folder.parent.parent, KIND, folder.name)


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _content(value: object) -> object:
    """Return what stands for a value in the key.

    A file is known by its place, size and time: the cache never changes one in place.
    """
    if not isinstance(value, Path):
        return value
    status = value.stat()
    return [str(value), status.st_size, status.st_mtime_ns]


def _processor() -> str:
    """Return what a guest under KVM sees of the host CPU; its snapshot runs only where this is the same."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(("model", "stepping", "microcode", "flags")))
