"""Drivers under test: manifests say what they are, adapters translate between the contract's words and theirs."""

from lab.drivers.base import Adapter, Session
from lab.drivers.registry import (
    SEEDABLE,
    adapter,
    adapters,
    devices,
    expand,
    find,
    import_python,
    in_qemu,
    names,
    programs,
    shipped,
    sources,
    split,
    versions_of,
    wants,
)

__all__ = [
    "SEEDABLE",
    "Adapter",
    "Session",
    "adapter",
    "adapters",
    "devices",
    "expand",
    "find",
    "import_python",
    "in_qemu",
    "names",
    "programs",
    "shipped",
    "sources",
    "split",
    "versions_of",
    "wants",
]
