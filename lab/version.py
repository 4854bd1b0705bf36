"""The version of the lab."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def lab_version() -> str:
    """Return the installed version; "unknown" in a checkout that was never installed."""
    try:
        return version("nvme-lab")
    except PackageNotFoundError:
        return "unknown"
