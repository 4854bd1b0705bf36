"""The content-addressed cache: what is in it under its final name is complete.

An entry is built in ``NAME.partial`` beside it, under a file lock, and renamed when done. A killed or failed build
leaves at most a ``.partial``, which the next build of that entry removes.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from lab.errors import LabError
from lab.toolchain import digests

LOG = logging.getLogger(__name__)

HEALED = "run it again: what was damaged has been removed and will be rebuilt"
"""The remedy for damage that `Cache.heal` has found."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Cache:
    """``root`` exists and is writable (Settings.open_cache)."""

    root: Path

    def folder(self, *parts: str) -> Path:
        """Return a folder below `root`, which is made if there is none."""
        folder = self.root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock that one process has at a time; the others wait."""
        with FileLock(self.folder("locks") / f"{name.replace('/', '.')}.lock"):
            yield

    def entry(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """Return the finished folder ``kind/key``, built by ``build(empty folder)`` if it is not there yet."""
        final = self.root / kind / key
        if final.is_dir():
            return final
        with self.lock(f"{kind}.{key}"):
            if final.is_dir():
                return final
            partial = self.folder(kind) / f"{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            LOG.info("build %s/%s", kind, key)
            began = time.monotonic()
            try:
                with full_disk_named(self.root):
                    build(partial)
                    digests.note(self.root, kind, key, partial)
                    partial.rename(final)
            except BaseException as error:
                LOG.info("%s/%s is not built: %s", kind, key, error or type(error).__name__)
                shutil.rmtree(partial, ignore_errors=True)
                raise
            LOG.info("built %s in %.1f s", final, time.monotonic() - began)
        return final

    def entry_of(self, path: Path) -> Path | None:
        """Return the folder of the entry that a path belongs to; None for what is not in this cache."""
        parts = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        return self.root.joinpath(*parts[:2]) if len(parts) > 1 else None

    def heal(self, paths: Iterable[Path], *, trust_times: bool = False) -> list[str]:
        """Remove the entries that hold one of these files with other content than was built; what was damaged, in words.

        A path that is an entry's folder stands for all of its files. What is removed is built again by the next `entry`.
        ``trust_times``: see `lab.toolchain.digests.damaged`.
        """
        damaged = digests.damaged(self.root, paths, trust_times=trust_times)
        for entry, reason in damaged.items():
            LOG.info("remove %s, to be built again: %s", entry, reason)
            gone = entry.with_name(f"{entry.name}.gone-{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):  # another process was faster
                entry.rename(gone)  # at once, as far as others can see
                shutil.rmtree(gone, ignore_errors=True)
        return list(damaged.values())


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn "no space left" of any call inside into a sentence with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(folder) from error
        raise


def disk_full(folder: Path, need: int = 0) -> LabError:
    """Return the error for a full disk; ``need`` is in bytes."""
    needs = f"{need // 1_000_000} MB are needed, " if need else ""
    return LabError(
        f"The disk that holds {folder} is full: {needs}{shutil.disk_usage(folder).free // 1_000_000} MB are free.",
        remedy="free some space, or put the cache on another disk with NVME_LAB_CACHE",
    )


def require_space(folder: Path, need: int) -> None:
    """Fail before a long download rather than in the middle of it. ``need`` in bytes."""
    if shutil.disk_usage(folder).free < need:
        raise disk_full(folder, need)
