"""``nvme-lab run --watch``: once more whenever a file of a driver's manifest changes, what failed first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from conformance.commands.run import NEWEST
from conformance.judging.files import read
from conformance.run import signals
from conformance.run.plan import DEFAULT_DRIVER
from conformance.run.runner import failed
from lab import drivers
from lab.data.manifest import DriverManifest
from lab.errors import LabError, UsageError

POLL_SECONDS = 0.2
SETTLE_LOOKS = 3
"""Looks without a further change after which a build counts as done."""
EXCLUDED = {"out": None, "resume": None, "repeat": 1, "as_json": False, "dry_run": False, "last_failed": None, "bisect": False}
"""Options that do not go with --watch, and their values where they are not given."""

Stamps = Mapping[Path, tuple[int, int]]


def watch(options: Mapping[str, Any], run: Callable[[Mapping[str, Any]], int], console: Console) -> int:
    """Run, wait for a change, run what failed, and so on until Ctrl-C; return the status of the last run.

    Where nothing failed, the next change runs everything again.
    """
    for name, default in EXCLUDED.items():
        if options[name] != default:
            raise UsageError(f"--watch does not go with --{name.removeprefix('as_').replace('_', '-')}.")
    names = options["drivers"] or (DEFAULT_DRIVER,)
    chosen, status = options, 0
    while True:
        before = stamps(names)
        if not before:
            raise UsageError(
                "--watch: none of these drivers has files of its own that could change.",
                remedy="name the manifest of your driver with --driver",
            )
        try:
            status = run(chosen)
        except LabError as error:  # a manifest that is being edited: the next change may correct it
            console.print(f"nvme-lab: {error}", style="red", markup=False)
            status = error.exit_status
        if signals.interrupted():
            return status
        console.print(
            f"Watching {len(before)} file{'' if len(before) == 1 else 's'} of {', '.join(names)}; Ctrl-C ends.",
            style="dim",
            markup=False,
        )
        changed = wait_for_change(names, before)
        console.print(f"{changed} has changed.", markup=False)
        chosen = {**options, "last_failed": NEWEST} if _has_failures() else options


def wait_for_change(names: Iterable[str], before: Stamps) -> Path:
    """Wait until a file has changed and all stay as they are for a while; return the first that changed."""
    pause, names = threading.Event(), list(names)
    while (now := stamps(names)) == before:
        pause.wait(POLL_SECONDS)
    changed = next((path for path in {**before, **now} if before.get(path) != now.get(path)), Path())
    still = 0
    while still < SETTLE_LOOKS:
        pause.wait(POLL_SECONDS)
        later = stamps(names)
        still, now = (still + 1 if later == now else 0), later
    return changed


def stamps(names: Iterable[str]) -> Stamps:
    """Return (time of change, size) of the manifests of these drivers, and of every file that they name."""
    found: dict[Path, tuple[int, int]] = {}
    for name in names:
        manifest = Path(name)
        paths = [manifest] if manifest.suffix == ".toml" else []
        with suppress(LabError):  # broken at the moment: it is watched all the same
            paths += files_of(drivers.find(name)) if paths else []
        for path in paths:
            try:
                about = path.stat()
            except OSError:
                continue
            found[path] = about.st_mtime_ns, about.st_size
    return found


def files_of(manifest: DriverManifest) -> list[Path]:
    """Return the files beside a manifest that it names: kernels, modules, images, programs."""
    texts = _texts(manifest.model_dump(exclude={"path", "name", "summary", "stages", "profiles", "known"}))
    paths = (manifest.folder / text for text in texts if text and len(text) < 1024 and "\n" not in text and "\0" not in text)
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _has_failures() -> bool:
    try:
        return bool(failed(read(NEWEST)))
    except LabError:
        return False
