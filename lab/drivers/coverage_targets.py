"""What machine code of a driver ``run --coverage`` covers: the objects, and the addresses at which the guest runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from lab.coverage.firmware import read_firmware
from lab.coverage.objects import CodeObject, NoSymbolsError, read_object
from lab.data.manifest import DriverManifest
from lab.drivers.base import Adapter, mebibytes, own_file
from lab.errors import UsageError
from lab.toolchain import Qemu

LINUX_MODULES = "0xffffffffc0000000+0x20000000"
"""Where Linux puts modules on x86-64, as QEMU's -dfilter takes it (Linux, Documentation/x86/x86_64/mm.rst)."""
MODULES = "modules/"
"""What the names of a driver's modules begin with (`lab.drivers.base.Adapter.files`)."""
REMEDY = "name an ELF file with symbols by [coverage] objects in the manifest"
MIB = 1 << 20


@dataclass(frozen=True)
class Targets:
    """The objects to cover; ``reason`` says why there are none, "" where there are. ``addresses`` as -dfilter takes them."""

    objects: tuple[CodeObject, ...] = ()
    addresses: str = ""
    reason: str = ""


def targets(manifest: DriverManifest, driver: Adapter, qemu: Qemu | None = None) -> Targets:
    """Return what of a driver in a guest can be covered. UsageError for a manifest's object without symbols, or no file."""
    named = manifest.coverage
    if named.objects:
        files = [own_file(manifest, "coverage.objects", name) for name in named.objects]
        try:
            objects = [read_object(path, named.functions) for path in files]
        except NoSymbolsError as error:
            raise UsageError(f"{manifest.path}: coverage.objects: {error.what}", remedy="build it with symbols") from error
        return Targets(tuple(objects), named.addresses or _extent(objects))
    if named.symbols or named.module:
        return _firmware(manifest, driver, qemu)
    modules = [path for name, path in driver.files.items() if name.startswith(MODULES)]
    if modules:
        return _if_symbols(modules, named.addresses or LINUX_MODULES, named.functions)
    if kernel := driver.files.get("kernel"):
        return _if_symbols([kernel], named.addresses, named.functions)
    return Targets(reason=f"nothing of the driver {manifest.name} is an object with symbols ({REMEDY})")


def _if_symbols(files: Sequence[Path], addresses: str, functions: Sequence[str]) -> Targets:
    try:
        objects = tuple(read_object(path, functions) for path in files)
    except NoSymbolsError as error:
        return Targets(reason=f"{error.what} ({REMEDY})")
    return Targets(objects, addresses or _extent(objects))


def _firmware(manifest: DriverManifest, driver: Adapter, qemu: Qemu | None) -> Targets:
    """Return the driver's part of a firmware: QEMU's own, or the one that the manifest boots."""
    named = manifest.coverage
    path = driver.files.get("firmware")
    if named.firmware:
        path = qemu.data_file(named.firmware) if qemu else None
        if path is None:
            return Targets(reason=f"this QEMU's own {named.firmware} was not found")
    if path is None:
        raise UsageError(f"{manifest.path}: coverage: symbols and module are of a firmware, and no boot.firmware is named")
    symbols = own_file(manifest, "coverage.symbols", named.symbols) if named.symbols else None
    try:
        objects = read_firmware(path, symbols, UUID(named.module) if named.module else None)
    except NoSymbolsError as error:
        return Targets(reason=f"{error.what} ({REMEDY})")
    return Targets(objects, named.addresses or f"0x0+{mebibytes(manifest.boot.memory) * MIB:#x}")


def _extent(objects: Sequence[CodeObject]) -> str:
    """Return the addresses that the objects were linked for."""
    begin, end = min(one.extent[0] for one in objects), max(one.extent[1] for one in objects)
    return f"{begin:#x}..{end:#x}"
