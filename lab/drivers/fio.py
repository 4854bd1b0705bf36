"""The action ``load-fio`` on Linux: Debian's fio with its libraries, copied into the guest on first use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.data.plan import Action, Answer

ACTION = "load-fio"
PROGRAM = "fio"
LOADER = "ld-linux-x86-64.so.2"
IN_GUEST = "/run/fio"
SECONDS = 60.0
"""For one call of fio."""
PERCENTILE = "99.000000"

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Asks the agent in the guest, and returns the fields of its answer."""


def perform(
    ask: Ask, put: Callable[[Path, str], None], files: Mapping[str, Path], node: str, size: int, action: Action
) -> Answer:
    """Read random blocks of a disk as fio does: so many in all, so many outstanding. ``size`` is the bytes of a block.

    ``files`` are copied into the guest by ``put``; none where they are there already.
    """
    for name, file in files.items():
        put(file, f"{IN_GUEST}/{name}")
    arguments = action.arguments
    bytes_each = arguments["blocks"] * size
    options = {
        "name": "load", "filename": f"/dev/{node}", "rw": "randread", "bs": bytes_each, "iodepth": arguments["depth"],
        "io_size": arguments["operations"] * bytes_each, "norandommap": 1, "ioengine": "libaio", "direct": 1, "thread": 1,
        "disk_util": 0, "output-format": "json",
    }  # fmt: skip
    program = [f"{IN_GUEST}/{LOADER}", "--library-path", IN_GUEST, f"{IN_GUEST}/{PROGRAM}"]
    words = [f"--{name}={value}" for name, value in options.items()]
    ran = ask({"action": "run", "program": [*program, *words], "seconds": SECONDS})
    if ran["exit"] is None:
        return Answer("timeout", {"log": f"fio did not end in {SECONDS:g} s"})
    if ran["exit"]:
        return Answer({"words": (ran["err"].strip() or ran["out"].strip())[-400:]})
    return Answer("success", figures(ran["out"]))


def figures(said: str) -> dict[str, float]:
    """Return what fio says of the reads of its only job, in JSON, before which there may be warnings."""
    reads = json.loads(said[said.index("{") :])["jobs"][0]["read"]
    return {
        "reads": reads["total_ios"],
        "iops": round(reads["iops"], 1),
        "average_us": round(reads["lat_ns"]["mean"] / 1000, 1),
        "p99_us": round(reads["clat_ns"].get("percentile", {}).get(PERCENTILE, 0) / 1000, 1),
    }
