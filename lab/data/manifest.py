"""A driver manifest: TOML that says how a driver is started and what it can be asked (docs/drivers.md).

Every mistake is an error that names the file, the key, what was expected, and the nearest valid name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lab.architectures import ARCHITECTURES
from lab.data import patterns, versions
from lab.errors import UsageError, describe_invalid, nearest

ACTIONS = (
    "load", "info", "ready", "identify", "list", "queues", "noop", "read", "write", "write-bytes", "flush", "zeroes", "clear",
    "trim",
    "mount", "rescan", "reset", "raw", "shutdown", "unload", "load-mix", "load-polled", "load-ring", "load-fio",
    "get-feature",
    "set-feature", "smart", "format", "passthrough", "file-reads", "submit", "collect", "save", "restore",
    "suspend", "reset-function", "reset-subsystem", "host-memory", "hand-over", "zones", "zone", "zone-append",
)  # fmt: skip
"""What a driver can be asked: docs/drivers.md, "Actions and answers"."""

STAGES = (
    "detect", "admin-queue", "identify", "io-queues", "read", "write", "multi-namespace", "reset", "multiqueue", "features",
)  # fmt: skip
"""The ten steps of building a driver, in order."""

PROFILES = ("performance", "passthrough", "servicing", "hand-over", "bare-metal", "zoned")
"""What drivers can do beyond the stages. A driver is asked only about what it claims."""
PARTS = (*STAGES, *PROFILES)
"""All that a manifest can claim, in the order in which it is shown."""


def part_name(part: str) -> str:
    """Return a part with its kind: "stage read", "profile passthrough"."""
    return f"{'profile' if part in PROFILES else 'stage'} {part}"


def _regular_expression(text: str) -> str:
    if why := patterns.invalid(text):
        raise ValueError(f"not a regular expression: {why}")
    return text


def memory_size(text: str) -> str:
    """Return a size of memory as it is. ValueError for what is none."""
    if not re.fullmatch(r"[1-9]\d{0,5}[MG]", text):
        raise ValueError("not a size of memory, such as 128M or 1G")
    return text


def _version_range(text: str) -> str:
    if text and not versions.is_range(text):
        raise ValueError("not a range of versions, such as 2025.02.. or 1.14..1.16")
    return text


Pattern = Annotated[str, AfterValidator(_regular_expression)]
MemorySize = Annotated[str, AfterValidator(memory_size)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Boot(_Table):
    """How the guest comes up. Paths are relative to the manifest; ``{name}`` in braces is a file of the toolchain."""

    kernel: str = ""  # what QEMU's -kernel takes: multiboot, PVH, Linux
    initrd: str = ""
    append: str = ""  # the kernel's command line
    disk: str = ""  # a raw image of a hard disk; what the guest writes to it is forgotten
    iso: str = ""  # an image of an optical disc
    floppy: str = ""  # a raw image of a floppy disk; what the guest writes to it is forgotten
    nvme: bool = False  # it boots from its first NVMe disk (disk.contents): the firmware's use of it is left out of the record
    firmware: str = ""  # given to QEMU as -bios
    firmware_driver: bool = False  # the firmware's driver is the one under test; else it is kept from the NVMe devices
    arch: Literal["x86_64", "aarch64", "riscv64"] = "x86_64"  # machine and cpu follow from it where they are not given
    machine: str = "q35"
    cpu: str = "max"
    memory: MemorySize = "256M"
    cpus: Annotated[int, Field(ge=1, le=64)] = 1
    options: tuple[str, ...] = ()  # further QEMU options, as they are
    # what moves the guest's clock: the host's time, or the instructions of its one processor, so that it waits with QEMU
    clock: Literal["host", "instructions"] = "host"
    screen: bool = False  # it has a VGA screen: kept as a picture and as text where the guest is not ready in time
    # where its output comes from; screen: its text is read, and goes with keyboard or no input
    output: Literal["serial", "serial2", "debug-console", "screen", "exit-code"] = "serial"
    input: Literal["serial", "keyboard", "none"] = "serial"  # where it is typed at; keyboard: QMP's send-key
    exit_success: Annotated[int, Field(ge=1, le=127)] | None = None  # what it writes to port F4h (isa-debug-exit) at the end
    nvme_address: str = ""  # PCI address of a device that is there at start, where the default hides it from the driver
    ready: Pattern = ""  # what the console says when the driver can be asked; without input: when it has done its work
    ready_screen: Pattern = ""  # or: what its screen shows in text when it is ready
    quiet: Annotated[float, Field(gt=0)] | None = None  # or: ready when no register was accessed for so many seconds
    after: Annotated[float, Field(gt=0)] | None = None  # or: ready after so many seconds
    # seconds without an access after `ready`, for drivers that work on behind it; 0.5 where nothing is typed
    settle: Annotated[float, Field(ge=0)] | None = None
    enter: str = "\n"  # what ends a line that is typed
    pace: Annotated[float, Field(ge=0)] = 0.0  # milliseconds between two characters that are typed
    # what the console says when a key must be sent to get there; several, one after the other: a name, then a password
    interrupt: Pattern | tuple[Pattern, ...] = ""
    interrupt_key: str | tuple[str, ...] = "\n"  # that key or text; for several as many
    dead: Pattern = ""  # what the console says when the guest has died
    # which build of the driver it is, as it says itself: the first group of a pattern, in what the boot prints or in a firmware
    build: Pattern = ""
    build_in_firmware: Pattern = ""
    seconds: Annotated[float, Field(gt=0)] = 60.0  # how long until `ready`, or its end

    @property
    def interrupts(self) -> tuple[tuple[str, str], ...]:
        """Return (pattern, key) of each step to the prompt."""
        shown = (self.interrupt,) if isinstance(self.interrupt, str) else self.interrupt
        keys = (self.interrupt_key,) * len(shown) if isinstance(self.interrupt_key, str) else self.interrupt_key
        return tuple((pattern, key) for pattern, key in zip(shown, keys, strict=True) if pattern)

    @model_validator(mode="after")
    def _pair_interrupts(self) -> Boot:
        steps = 1 if isinstance(self.interrupt, str) else len(self.interrupt)
        if not isinstance(self.interrupt_key, str) and len(self.interrupt_key) != steps:
            raise ValueError(f"boot.interrupt_key has {len(self.interrupt_key)} of {steps} keys, one for each boot.interrupt")
        return self

    @model_validator(mode="before")
    @classmethod
    def _suit_architecture(cls, keys: Any) -> Any:
        """Give the machine and the processor of the architecture where they are not named."""
        found = ARCHITECTURES.get(str(keys.get("arch"))) if isinstance(keys, Mapping) else None
        return {"machine": found.machine, "cpu": found.cpus[0], **keys} if found and not found.is_pc else keys


class Disk(_Table):
    """What the first namespace of every controller holds, for systems that mount it or boot from it.

    ``contents`` is a raw image, relative to the manifest; what is written to it is forgotten. Blocks behind it are zero.
    """

    contents: str = ""
    size: MemorySize = "1G"  # at least so large, or as large as the contents


class Push(_Table):
    """What is brought into the guest, and from where. A module is a path, or a bare name out of the guest's own kernel."""

    modules: tuple[str, ...] = ()
    parameters: Mapping[str, str] = Field(default_factory=dict)  # module name to its insmod parameters
    files: Mapping[str, str] = Field(default_factory=dict)  # path in the guest to file


class Reading(_Table):
    """How fields are read from output. Every pattern is searched on its own, ``^`` and ``$`` at each line.

    A named group is a field: a number in decimal or with 0x, where the contract does not call for text.
    """

    pattern: Pattern = ""
    patterns: tuple[Pattern, ...] = ()  # further ones
    bases: Mapping[str, Literal[2, 8, 10, 16]] = Field(default_factory=dict)  # field: base of numbers printed bare
    tables: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)  # field: word in the output → word of the contract
    truths: Mapping[str, Pattern] = Field(default_factory=dict)  # field: true if the pattern is found, else false
    # field: name → pattern that, found, puts it into the list; `FIELD_shown` then lists all the names that are looked for
    flags: Mapping[str, Mapping[str, Pattern]] = Field(default_factory=dict)
    lists: Mapping[str, Listing] = Field(default_factory=dict)  # field: how its elements are read


class Listing(Reading):
    """A list: an element begins where ``each`` matches and lasts until the next one; its fields are read in there."""

    each: Pattern
    beside: tuple[Pattern, ...] = ()  # searched in the whole output: the n-th match adds fields to the n-th element


class ActionSyntax(Reading):
    """One action in the guest's words: commands with ``{argument}``s, and how the answer is read.

    Without a command the answer is read from what the guest said while it came up; ``load`` without one is the boot itself.

    ``hexdump`` names a form whose bytes are the answer's data; ``error`` marks output that means failure. Its groups
    ``sct`` and ``sc``, or ``status`` (both in one number, without the phase tag), are the completion's status.
    """

    command: str | tuple[str, ...] = ()
    answer: Literal["patterns", "json"] = "patterns"  # json: all of it is a printed object, as `nvmectl --json` has it
    hexdump: Literal["", "u-boot", "xxd"] = ""
    memory: bool = False  # instead: the lab itself puts and takes the data at `{address}` of the guest's physical memory
    fill: str = ""  # how one word of a write's data is put into memory, `{address}` and `{word}` given
    word: Literal[1, 2, 4, 8] = 4  # its size in bytes, little-endian
    line: Annotated[int, Field(ge=0)] = 0  # characters: so long a line of several fills, joined by ";", may be
    unsupported: Pattern = ""  # it is there where this version of the driver cannot do that
    success: Pattern = ""  # must be there
    error: Pattern = ""  # must not be there
    seconds: Annotated[float, Field(gt=0)] = 30.0

    @property
    def commands(self) -> tuple[str, ...]:
        """What is typed, line by line."""
        return (self.command,) if isinstance(self.command, str) else self.command


def is_among(scenario: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern is that of the scenario's id; no patterns are those of all scenarios."""
    return not patterns or any(fnmatchcase(scenario, pattern) for pattern in patterns)


class Known(_Table):
    """A failure that is known, with its reason: it stays FAIL, but does not fail the run."""

    check: str
    reason: str
    devices: tuple[Literal["qemu", "lab", "machine"], ...] = ("qemu", "lab", "machine")
    scenarios: tuple[str, ...] = ()  # ids, or patterns of them such as "reset/*"; none: all
    owner: str = ""  # who answers for it
    expires: date | None = None  # the last day on which it excuses the failure
    link: str = ""  # an issue, a page
    versions: Annotated[str, AfterValidator(_version_range)] = ""  # of the driver: "2025.02..", "1.14..1.16"; "": all

    def excuses_on(self, day: date) -> bool:
        """Return whether it excuses the failure on a day."""
        return self.expires is None or day <= self.expires

    def excuses(self, check: str, device: str, scenario: str) -> bool:
        """Return whether it excuses a check's failure there."""
        return check == self.check and device in self.devices and is_among(scenario, self.scenarios)


class Limits(_Table):
    """What the driver cannot do that scenarios and checks must respect."""

    unit: Annotated[int, Field(ge=0)] = 0  # bytes: it reads whole ones of them, like a cache its pages; 0: single blocks
    round: bool = False  # the lab asks for whole units and takes of them what a scenario wants
    address: int = 0  # where in guest memory its buffers may lie
    passes_through: bool = False  # it sends what its user asks for as it is, also past the end of a namespace
    controllers: Literal["in-order", "any-order"] = "in-order"  # in which it numbers the disks of several controllers
    # seconds: the shortest of its time-outs; a verdict does not count where the machine stood still for half of it
    shortest_timeout: Annotated[float, Field(gt=0)] = 1.0


class MachineDisk(_Table):
    """The NVMe disk of a real machine: what it is, and where on it scenarios may write (docs/bare-metal.md)."""

    serial: str = ""  # as the driver shows it; "" where that is not judged
    nsid: Annotated[int, Field(ge=1)] = 1
    blocks: Annotated[int, Field(ge=0)] = 0  # of the namespace
    block_size: Annotated[int, Field(ge=512)] = 512
    scratch: Annotated[int, Field(ge=0)] = 0  # the first of `scratch_blocks` blocks that scenarios overwrite
    scratch_blocks: Annotated[int, Field(ge=0)] = 0  # at least 1024; to give them is the consent to lose what they hold
    # a command on the machine of `machine.ssh` that prints `{blocks}` blocks from `{lba}` on, as they are on the disk
    read: str = ""


class RealMachine(_Table):
    """A real machine, reached by a serial line or by SSH (adapter `bare-metal`, docs/bare-metal.md)."""

    serial: str = ""  # a serial device of this host, or HOST:PORT of a terminal server
    baud: int = 115200
    ssh: str = ""  # USER@HOST: lines are typed there where there is no serial line, and the disk is read there
    ssh_options: tuple[str, ...] = ()  # of the ssh client
    start: tuple[str, ...] = ()  # a command on this host that starts the machine, or starts it again; none: it runs already
    disk: MachineDisk = MachineDisk()


class Program(_Table):
    """A driver that is a program in a Linux guest (adapter `guest-program`, docs/guest-programs.md)."""

    command: tuple[str, ...] = ()
    protocol: Literal["lines", "cli"] = "lines"  # one process that is asked by lines, or a new one for each action
    access: Literal["vfio", "vfio-noiommu", "sysfs"] = "vfio"  # how it reaches the device
    actions: tuple[str, ...] = ("read",)  # what it can be asked beside load
    setup: tuple[str, ...] = ()  # shell commands in the guest before it starts; a failure is the lab's
    environment: Mapping[str, str] = Field(default_factory=dict)
    hugepages: Annotated[int, Field(ge=0)] = 0  # of 2 MiB
    exit_on_unload: bool = False  # an unload ends the program, and a load starts it anew
    seconds: Annotated[float, Field(gt=0)] = 30.0  # for each answer


class Source(_Table):
    """Where the packages of a version come from, and what of the recipe differs for them (images/recipes)."""

    suites: Annotated[tuple[str, ...], Field(min_length=1)]  # of the Debian archive; packages come out of the last
    packages: tuple[str, ...] = ()  # the rest: as in the recipe, if not given
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    firmware: Mapping[str, str] = Field(default_factory=dict)  # name of a firmware → its file in the packages
    preload: tuple[str, ...] = ()  # modules of a Linux guest
    carried: tuple[str, ...] = ()


class Python(_Table):
    """A Python file beside the manifest, which brings what a package could bring by entry points (docs/packages.md).

    It is imported when the driver is used; importing it declares its checks, scenarios, behaviours, defects and variants.
    """

    file: str = ""
    adapter: str = "Adapter"  # the name in the file of the adapter's factory, for `adapter = "python"`


class Passthrough(_Table):
    """The program of a passthrough SDK for the profile of that name; without one the lab's own library is asked."""

    program: str = ""  # a file that is pushed into the guest and started there
    arguments: tuple[str, ...] = ()


_RANGE = r"0x[0-9a-f]+(\+|-|\.\.)0x[0-9a-f]+"


class Coverage(_Table):
    """What ``run --coverage`` covers, where it is not what the adapter knows: the modules, or the kernel that is booted."""

    objects: tuple[str, ...] = ()  # ELF files with symbols, relative to the manifest
    functions: tuple[str, ...] = ()  # patterns (``nvme_*``): only these of the objects' functions
    addresses: Annotated[str, Field(pattern=rf"^({_RANGE}(,{_RANGE})*)?$")] = (
        ""  # where the guest runs them, for QEMU's -dfilter
    )
    firmware: str = ""  # a firmware without symbols, by its name among QEMU's own files; "": boot.firmware
    symbols: str = ""  # a file of symbols for it, relative to the manifest (`lab.coverage.firmware`)
    # the GUID of the driver's file in a UEFI firmware
    module: Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})?$")] = ""


class DriverManifest(_Table):
    """A driver under test: how its guest starts, what it claims, and what it can be asked."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*(@[\w.+~-]+)?$")]  # of one version: NAME@VERSION
    adapter: str
    summary: str = ""
    version: str = ""  # of the driver, as reports show it; without it, the commit of the manifest's git repository
    release: str = ""  # which of its versions the manifest describes
    versions: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)  # version → what differs from the other tables
    source: Source | None = None  # of a version: where its packages come from
    needs: tuple[str, ...] = ()  # what of the toolchain it stands on: linux-guest, u-boot …
    boot: Boot = Boot()
    disk: Disk = Disk()
    push: Push = Push()
    actions: Mapping[str, ActionSyntax] = Field(default_factory=dict)
    variables: Mapping[str, str] = Field(default_factory=dict)  # further names for {braces} in commands
    stages: tuple[str, ...] = STAGES[:6]  # what it claims
    profiles: tuple[str, ...] = ()  # what it claims beyond the stages
    passthrough: Passthrough = Passthrough()
    program: Program = Program()
    machine: RealMachine = RealMachine()
    python: Python = Python()
    coverage: Coverage = Coverage()
    stops: tuple[str, ...] = ()  # stages after which it can stop
    limits: Limits = Limits()
    known: tuple[Known, ...] = ()
    path: Path = Path()  # where it was read from

    @property
    def base(self) -> str:
        """Return the driver's name without the version."""
        return versions.split(self.name)[0]

    @property
    def folder(self) -> Path:
        """Return the folder of the manifest, to which its paths are relative."""
        return self.path.parent


FIXED = ("name", "release", "versions", "adapter", "known")
"""Keys that a version's table cannot change; `known` has ranges of versions instead."""
_CHOICES: Mapping[str, Iterable[str]] = {"actions": ACTIONS, "stages": STAGES, "profiles": PROFILES, "stops": STAGES}


def load(path: Path, adapters: Iterable[str], version: str = "") -> DriverManifest:
    """Read and validate a manifest, or that of a version; UsageError with file, key, expectation and nearest valid name."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: the manifest cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        remedy = f"nvme-lab init {path} writes one for it"
        raise UsageError(f"{path} is no manifest, for it is no text.", remedy=remedy) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    return parse(data, path, adapters, version)


def parse(data: Mapping[str, Any], path: Path, adapters: Iterable[str], version: str = "") -> DriverManifest:
    """Validate a manifest's data; see `load`."""
    adapters = list(adapters)
    manifest = _parsed(data, path, adapters)
    if versions.SEPARATOR in manifest.name:
        raise UsageError(f"{path}: name: {manifest.name!r} names a version", remedy='give release = "…" instead')
    if not version:
        return _for_version(manifest)
    if version not in manifest.versions:
        raise UsageError(
            f"{path}: versions: there is no version {version!r}{nearest(version, manifest.versions)}",
            remedy="nvme-lab list drivers shows the versions of each driver",
        )
    return _for_version(_version(data, manifest, version, adapters))


def _version(data: Mapping[str, Any], manifest: DriverManifest, version: str, adapters: Iterable[str]) -> DriverManifest:
    """Return the manifest of a version: its table over the others, and packages of its own where its source names them."""
    path, table = manifest.path, data["versions"][version]
    for key in FIXED:
        if key in table:
            raise UsageError(f"{path}: versions.{version}.{key}: this key is the same for all versions")
    name = f"{manifest.name}{versions.SEPARATOR}{version}"
    plain = {key: value for key, value in data.items() if key != "versions"}
    try:
        found = _parsed(versions.merged(plain, {**table, "name": name, "release": version}), path, adapters)
    except UsageError as error:
        raise UsageError(f"{error.what} (with the table versions.{version})", remedy=error.remedy) from error
    if found.source is None:
        return found
    if not found.needs:
        raise UsageError(f"{path}: versions.{version}.source: needs names no recipe", remedy="name one in needs")
    need = found.needs[0]
    own = f"{need}{versions.SEPARATOR}{version}"
    firmware = found.boot.firmware
    if firmware.startswith("{") and firmware.endswith("}"):
        firmware = f"{firmware[:-1]}{versions.SEPARATOR}{version}}}"
    boot = found.boot.model_copy(update={"firmware": firmware})
    return found.model_copy(update={"needs": (own, *found.needs[1:]), "boot": boot, "version": ""})  # its package has one


def _for_version(manifest: DriverManifest) -> DriverManifest:
    """Return the manifest with the known failures of its version only."""
    known = tuple(entry for entry in manifest.known if versions.matches(manifest.release, entry.versions))
    return manifest.model_copy(update={"known": known})


def _parsed(data: Mapping[str, Any], path: Path, adapters: Iterable[str]) -> DriverManifest:
    try:
        manifest = DriverManifest(**{**data, "path": path})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: {describe_invalid(first, _keys_at)}") from error
    _one_of(path, "adapter", manifest.adapter, adapters)
    for name in manifest.program.actions:
        _one_of(path, "program.actions", name, ACTIONS)
    for key, valid in _CHOICES.items():
        for name in getattr(manifest, key):
            _one_of(path, key, name, valid)
    return manifest


def _one_of(path: Path, key: str, name: str, valid: Iterable[str]) -> None:
    valid = list(valid)
    if name not in valid:
        raise UsageError(f"{path}: {key}: there is no {name!r}{nearest(name, valid)}")


def _keys_at(where: Sequence[str]) -> list[str]:
    """Return the keys that are valid in the table which ``where`` leads to."""
    tables: Mapping[str, type[_Table]] = {
        "boot": Boot, "push": Push, "actions": ActionSyntax, "known": Known, "limits": Limits, "lists": Listing, "disk": Disk,
        "passthrough": Passthrough, "python": Python, "program": Program, "coverage": Coverage,
        "source": Source, "machine": RealMachine,
    }  # fmt: skip
    if tuple(where[:2]) == ("machine", "disk"):
        tables = {"disk": MachineDisk}
    model = next((tables[name] for name in reversed(where) if name in tables), DriverManifest)
    return [name for name in model.model_fields if name != "path"]
