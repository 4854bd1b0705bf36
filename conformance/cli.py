"""``nvme-lab``: the entry point. It checks that the packages behind it are its own.

It imports nothing before the names `lab`, `conformance` and `images` are known to be its own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
PACKAGES = ("conformance", "images", "lab")
DEBUG = "NVME_LAB_DEBUG"
WRONG_USAGE = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    if trouble := foreign_package():
        print(f"nvme-lab: {trouble}", file=sys.stderr)
        raise SystemExit(2)
    from conformance.commands import run_command

    raise SystemExit(run_command(arguments, debug=bool(os.environ.get(DEBUG))))


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
