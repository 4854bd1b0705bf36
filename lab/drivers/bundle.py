"""The reference driver as one file that any python3 runs: a zipapp, made in memory, the same bytes each time."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import lab.nvme
import lab.reference

MAIN = "from lab.reference.nvmectl import main\n\nraise SystemExit(main())\n"
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip archive can name."""


@cache
def bundle() -> bytes:
    """`lab.nvme` and `lab.reference` with `nvmectl` as the program."""
    files = {"__main__.py": MAIN.encode(), "lab/__init__.py": b""}
    for package in (lab.nvme, lab.reference):
        folder = Path(package.__path__[0])
        for path in sorted(folder.glob("*.py")):
            files[f"lab/{folder.name}/{path.name}"] = path.read_bytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), content, zipfile.ZIP_DEFLATED)
    return b"#!/usr/bin/env python3\n" + out.getvalue()
