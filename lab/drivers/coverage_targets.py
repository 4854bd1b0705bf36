"""What machine code of a driver ``run --coverage`` covers: the objects, and the addresses at which the guest runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.coverage.objects import CodeObject, NoSymbolsError, read_object
from lab.data.manifest import DriverManifest
from lab.drivers.base import Adapter, own_file
from lab.errors import UsageError

LINUX_MODULES = "0xffffffffc0000000+0x20000000"
"""Where Linux puts modules on x86-64, as QEMU's -dfilter takes it (Linux, Documentation/x86/x86_64/mm.rst)."""
MODULES = "modules/"
"""What the names of a driver's modules begin with (`lab.drivers.base.Adapter.files`)."""
REMEDY = "name an ELF file with symbols by [coverage] objects in the manifest"


@dataclass(frozen=True)
class Targets:
    """The objects to cover; ``reason`` says why there are none, "" where there are. ``addresses`` as -dfilter takes them."""

    objects: tuple[CodeObject, ...] = ()
    addresses: str = ""
    reason: str = ""


def targets(manifest: DriverManifest, driver: Adapter) -> Targets:
    """Return what of a driver in a guest can be covered. UsageError for a manifest's object without symbols, or no file."""
    named = manifest.coverage
    if named.objects:
        files = [own_file(manifest, "coverage.objects", name) for name in named.objects]
        try:
            objects = [read_object(path) for path in files]
        except NoSymbolsError as error:
            raise UsageError(f"{manifest.path}: coverage.objects: {error.what}", remedy="build it with symbols") from error
        return Targets(tuple(objects), named.addresses or _extent(objects))
    modules = [path for name, path in driver.files.items() if name.startswith(MODULES)]
    if modules:
        return _if_symbols(modules, named.addresses or LINUX_MODULES)
    if kernel := driver.files.get("kernel"):
        return _if_symbols([kernel], named.addresses)
    return Targets(reason=f"nothing of the driver {manifest.name} is an object with symbols ({REMEDY})")


def _if_symbols(files: Sequence[Path], addresses: str) -> Targets:
    try:
        objects = tuple(read_object(path) for path in files)
    except NoSymbolsError as error:
        return Targets(reason=f"{error.what} ({REMEDY})")
    return Targets(objects, addresses or _extent(objects))


def _extent(objects: Sequence[CodeObject]) -> str:
    """Return the addresses that the objects were linked for."""
    begin, end = min(one.extent[0] for one in objects), max(one.extent[1] for one in objects)
    return f"{begin:#x}..{end:#x}"
