"""Run folders: private, gone after use, and swept up when the lab was killed before it could do so."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lab.errors import LabError

LOG = logging.getLogger(__name__)

LOCK = "lock"
SHARED_MEMORY = Path("/dev/shm")
LONGEST_SOCKET_NAME = 32
SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path, sockaddr_un.sun_path without its final zero."""


def default_root() -> Path:
    """Return the user's runtime folder where the login made one, else a folder of this user's among the temporary files."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and os.access(runtime, os.W_OK):
        return runtime / "nvme-lab"
    return Path(tempfile.gettempdir()) / f"nvme-lab-{os.getuid()}"


def shared_root() -> Path:
    """Return the same in memory, for guests' RAM that others map. Not made here: there may be no /dev/shm."""
    return SHARED_MEMORY / f"nvme-lab-{os.getuid()}"


@contextmanager
def run_folder(root: Path | None = None) -> Iterator[Path]:
    """Yield a new folder of mode 0700 under ``root`` that only this process uses and that is removed at the end.

    Its lock file is held for as long as its owner lives: a folder whose lock is free is garbage (`sweep`).
    """
    root = private(root or default_root())
    sweep(root)
    with _changes(root):
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
        owner = FileLock(folder / LOCK, thread_local=False)
        owner.acquire()
    try:
        if len(bytes(folder)) + 1 + LONGEST_SOCKET_NAME > SOCKET_PATH_LIMIT:
            raise LabError(
                f"The run folder {folder} is too deep: a unix socket's path has at most {SOCKET_PATH_LIMIT} bytes.",
                remedy="set XDG_RUNTIME_DIR or TMPDIR to a shorter folder",
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        owner.release()


def sweep(root: Path | None = None) -> list[Path]:
    """Remove the run folders under ``root`` whose owner is dead, and return their paths."""
    root = private(root or default_root())
    with _changes(root):
        garbage = [folder for folder in sorted(root.glob("run-*")) if _ownerless(folder)]
        for folder in garbage:
            LOG.info("remove %s, whose process has ended", folder)
            shutil.rmtree(folder, ignore_errors=True)
    return garbage


def sweep_all() -> list[Path]:
    """Remove all run folders of this user's whose owner is dead."""
    shared = shared_root()
    return [*sweep(), *(sweep(shared) if shared.is_dir() else ())]


def _changes(root: Path) -> FileLock:
    """Hold the lock under which folders are made and swept, so that none is seen between its creation and its locking."""
    return FileLock(root / LOCK)


def _ownerless(folder: Path) -> bool:
    """Return whether nobody holds the folder's lock. It is looked at and never made: its owner may be removing it just now."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return folder.is_dir()  # without a lock it is being removed, by its owner or by one that was killed in the middle
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def private(root: Path) -> Path:
    """Return ``root``, made when missing; LabError if it cannot be made, or if others could put files into it."""
    remedy = "remove it, or set XDG_RUNTIME_DIR or TMPDIR to a private folder"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.lstat()
    except OSError as error:
        what = "a link that leads nowhere" if root.is_symlink() else error.strerror
        raise LabError(f"The folder {root} cannot be made: {what}.", remedy=remedy) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise LabError(f"{root} is not a folder that only you can write to.", remedy=remedy)
    return root
