"""Programs for guests, each one file that any python3 runs: a zipapp, built in memory, byte-identical when repeated.

It contains each module as source and compiled for this version of Python, which then starts in a fraction of the time. Other
versions ignore the compiled modules.
"""

from __future__ import annotations

import io
import py_compile
import tempfile
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath

MAIN = "from lab.reference.nvmectl import main\n\nraise SystemExit(main())\n"
PASSTHROUGH = "import sys\n\nfrom lab.passthrough.program import Program, serve\n\nserve(Program(), sys.stdin, sys.stdout)\n"
LINUX_AGENT = "import sys\n\nfrom lab.drivers.linux_agent.program import main\n\nmain(sys.argv[1])\n"
ROOT = Path(__file__).parents[2]
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time stamp of a zip archive."""


@cache
def bundle() -> bytes:
    """Return `lab.nvme` and `lab.reference` with `nvmectl` as the program."""
    return zipapp(("lab/nvme", "lab/reference"), MAIN)


@cache
def passthrough_program() -> bytes:
    """Return `lab.nvme` and `lab.passthrough` with `lab.passthrough.program` as the program."""
    return zipapp(("lab/nvme", "lab/passthrough"), PASSTHROUGH)


@cache
def linux_agent_program() -> bytes:
    """Return `lab.drivers.linux_agent` with `lab.drivers.linux_agent.program` as the program."""
    return zipapp(("lab/drivers/linux_agent",), LINUX_AGENT)


def zipapp(packages: Iterable[str], main: str) -> bytes:
    """Return packages, named by their folders, with ``main`` as the text of their main module. Packages above are empty."""
    files = {"__main__.py": main.encode()}
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        for package in packages:
            folder = PurePosixPath(package)
            files |= {f"{parent}/__init__.py": b"" for parent in folder.parents if parent.name}
            for path in sorted((ROOT / folder).glob("*.py")):
                name = f"{folder}/{path.name}"
                files[name] = path.read_bytes()
                files[f"{name}c"] = _compiled(path, name, Path(scratch) / "module.pyc")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), content, zipfile.ZIP_DEFLATED)
    return b"#!/usr/bin/env python3\n" + out.getvalue()


def _compiled(path: Path, name: str, scratch: Path) -> bytes:
    """Return the module's byte code, which is never checked against the source."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(path), str(scratch), name, doraise=True, invalidation_mode=mode)
    return scratch.read_bytes()
