"""``nvme-lab``: the entry point. It checks that the packages behind it are its own.

It imports nothing before the names `lab`, `conformance` and `images` are known to be its own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT

HOME = Path(__file__).resolve().parents[1]
LAB_FAILED = 2
PACKAGES = ("conformance", "images", "lab")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    if hiding := foreign_package():
        print(f"nvme-lab: {hiding}", file=sys.stderr)
        raise SystemExit(LAB_FAILED)
    try:
        from conformance.commands import run_command
        from conformance.run.output import open_standard_descriptors

        open_standard_descriptors()
        status = run_command(arguments)
    except KeyboardInterrupt:  # before the command has begun
        status = 128 + SIGINT
    except Exception as error:  # an import of ours, or of a dependency: Python would exit with 1, "a driver failed"
        print(f"nvme-lab: it cannot start: {type(error).__name__}: {error}", file=sys.stderr)
        status = LAB_FAILED
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        os._exit(status)  # Python would complain, and exit with 120
    raise SystemExit(status)


def foreign_package() -> str:
    """Return a sentence about a foreign package that hides one of the lab's; "" if there is none."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return f"its own package {name!r} is missing: install nvme-lab again"
        places = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
        if HOME / name not in places:
            return (
                f"a foreign package {name!r} at {places[0]} hides its own, which is at {HOME / name}\n"
                "  remedy: run it from another folder, or take that one out of PYTHONPATH"
            )
    return ""


if __name__ == "__main__":
    main()
