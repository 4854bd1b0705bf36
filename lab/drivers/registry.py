"""Which drivers and adapters there are: the shipped ones, those that other packages bring, and manifests by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import TypeAlias, cast

from lab import extensions
from lab.architectures import X86_64
from lab.data import versions
from lab.data.manifest import DriverManifest, Source, load
from lab.data.plan import DeviceKind, Scenario
from lab.drivers.base import Adapter
from lab.errors import UsageError, nearest
from lab.toolchain import Toolchain

MANIFESTS = Path(__file__).with_name("manifests")

Factory: TypeAlias = Callable[[DriverManifest, Toolchain], Adapter]

_SHIPPED = {
    "bare-metal": "lab.drivers.bare_metal:BareMetal",
    "edk2": "lab.drivers.edk2:Edk2",
    "generic-serial": "lab.drivers.generic_serial:GenericSerial",
    "guest-program": "lab.drivers.guest_program:GuestProgram",
    "linux": "lab.drivers.linux:Linux",
    "linux-kexec": "lab.drivers.succession:LinuxKexec",
    "loader-then-linux": "lab.drivers.succession:LoaderThenLinux",
    "qemu-vfio": "lab.drivers.qemu_vfio:QemuVfio",
    "reference-in-process": "lab.drivers.reference:ReferenceInProcess",
    "reference-qtest": "lab.drivers.reference:ReferenceQtest",
    "reference-vfio": "lab.drivers.reference_vfio:ReferenceVfio",
}
"""Where the shipped adapters are; each is imported only when it is used, like those of other packages."""
PYTHON = "python"
"""The adapter that is in the manifest's own Python file."""
SEEDABLE = frozenset({"reference-in-process", "reference-qtest"})
"""Adapters whose driver takes a mistake (`lab.defects`)."""


def adapters() -> list[str]:
    """Return the names of the adapters."""
    return [*dict.fromkeys([*extensions.names(extensions.ADAPTERS), PYTHON, *_SHIPPED])]


def adapter(manifest: DriverManifest, toolchain: Toolchain) -> Adapter:
    """Return the manifest's adapter with its base. Raises UsageError where the manifest does not suit it."""
    return _factory(manifest)(manifest, toolchain)


def import_python(manifest: DriverManifest) -> ModuleType | None:
    """Import the Python file that the manifest names, with all that it declares; None if it names none. UsageError."""
    if not manifest.python.file:
        return None
    return extensions.import_file(manifest.folder / manifest.python.file, f"{manifest.path}: python.file")


def _of_file(manifest: DriverManifest) -> Factory:
    """Return the factory that the manifest's own Python file brings."""
    module, name = import_python(manifest), manifest.python.adapter
    if module is None:
        raise UsageError(f'{manifest.path}: python.file: this key is required with adapter = "python"')
    found: Factory | None = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__]
        raise UsageError(f"{manifest.path}: python.adapter: {module.__file__} has no {name!r}{nearest(name, names)}")
    return found


def _factory(manifest: DriverManifest) -> Factory:
    if manifest.adapter == PYTHON:
        return _of_file(manifest)
    if manifest.adapter in _SHIPPED:
        return cast(Factory, resolve_name(_SHIPPED[manifest.adapter]))
    return cast(Factory, extensions.load(extensions.ADAPTERS, manifest.adapter, "an adapter's factory", callable))


def shipped() -> Mapping[str, Path]:
    """Return the drivers that come with the lab."""
    return {path.stem: path for path in sorted(MANIFESTS.glob("*.toml"))}


def names() -> list[str]:
    """Return the name of every driver: the shipped ones, and those of other packages."""
    return [*shipped(), *(name for name in extensions.names(extensions.DRIVERS) if name not in shipped())]


def find(name: str) -> DriverManifest:
    """Return a driver by its name or its manifest's path, with ``@VERSION`` one of its versions.

    UsageError with the nearest name if there is none.
    """
    plain, version = split(name)
    known = names()
    if plain in known:
        path = shipped().get(plain) or extensions.load(extensions.DRIVERS, plain, "a manifest's path", _is_path)
        return _with_python(load(Path(path), adapters(), version))
    if "/" in plain or plain.endswith(".toml"):
        return _with_python(load(Path(plain), adapters(), version))
    if Path(plain).is_file():
        raise UsageError(
            f"{plain} exists, but is no .toml manifest.",
            remedy=f"nvme-lab init {plain} writes one, if it is a kernel, an image, a module or a program",
        )
    raise UsageError(f"there is no driver {plain!r}{nearest(plain, known)}", remedy="name one of these, or a manifest's path")


def split(name: str) -> tuple[str, str]:
    """Return a driver's name or manifest's path, and the version behind it; a path may hold the separator itself."""
    if Path(name).is_file():
        return name, ""
    plain, at, version = name.rpartition(versions.SEPARATOR)
    return (plain, version) if at and "/" not in version else (name, "")


def expand(name: str) -> list[str]:
    """Return the drivers that a name stands for: ``edk2@*``, ``edk2@2022.11..`` and ``edk2@newest`` are some of its versions.

    UsageError where no version fits.
    """
    plain, wanted = split(name)
    if not wanted:
        return [name]
    table = find(plain).versions
    found = versions.select(table, wanted)
    if not found:
        has = nearest(wanted, table) if table else "; its manifest has no table of versions"
        raise UsageError(
            f"{plain} has no version {wanted!r}{has}", remedy="nvme-lab list drivers shows the versions of each driver"
        )
    return [f"{plain}{versions.SEPARATOR}{version}" for version in found]


def versions_of(driver: str) -> list[str]:
    """Return the full names of all versions of a driver, in their order."""
    return [f"{driver}{versions.SEPARATOR}{version}" for version in sorted(find(driver).versions, key=versions.order)]


def sources(manifests: Iterable[DriverManifest]) -> dict[str, Source]:
    """Return where the packages of versions come from, by what they are called among the wants."""
    return {manifest.needs[0]: manifest.source for manifest in manifests if manifest.source is not None}


def _with_python(manifest: DriverManifest) -> DriverManifest:
    """Import what the manifest's own file declares before anything of it is named."""
    import_python(manifest)
    return manifest


def _is_path(found: object) -> bool:
    return isinstance(found, str | Path)


def devices(manifest: DriverManifest) -> tuple[DeviceKind, ...]:
    """Return the devices that this driver can be put in front of."""
    reached: tuple[DeviceKind, ...] = getattr(_factory(manifest), "devices", ("qemu", "lab"))
    return reached


def in_qemu(manifest: DriverManifest) -> bool:
    """Return whether the driver runs with QEMU and not in this process."""
    return bool(getattr(_factory(manifest), "in_qemu", True))


def wants(manifest: DriverManifest) -> tuple[str, ...]:
    """Return what the toolchain must prepare for this driver."""
    needs = manifest.needs or tuple(getattr(_factory(manifest), "needs", ()))
    if not in_qemu(manifest):
        return needs
    return ("qemu" if manifest.boot.arch == X86_64 else f"qemu-{manifest.boot.arch}", *needs)


def programs(manifest: DriverManifest, scenario: Scenario) -> tuple[str, ...]:
    """Return what the toolchain must prepare besides, for actions of this scenario that a program in the guest carries out."""
    by_action: Mapping[str, str] = getattr(_factory(manifest), "programs", {})
    return tuple(by_action[action.name] for action in scenario.actions if action.name in by_action)
