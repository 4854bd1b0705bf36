"""Distribute whole scenarios to workers, here or on other machines, and retry a scenario whose worker died.

xdist distributes scopes; a scenario is one (`conformance.run.items`). After a worker's death a scenario is recorded again
for all of its checks, so that they judge the same recording; after the second death it is given up.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from lab.errors import LabError

LOG = logging.getLogger(__name__)

ATTEMPTS = 2


class WholeScenarios(LoadScopeScheduling):  # type: ignore[misc]
    """Requeues the unfinished scenarios of a dead worker as a whole."""

    workqueue: OrderedDict[str, dict[str, bool]]
    """Scope → item → done, of scenarios that no worker has."""
    assigned_work: dict[Any, dict[str, dict[str, bool]]]

    def __init__(self, config: Any, log: Any = None) -> None:
        """Take pytest's configuration and xdist's log."""
        super().__init__(config, log)
        self.deaths: Counter[str] = Counter()
        """Workers that died over a scope."""

    def _reschedule(self, node: Any) -> None:
        """Give a worker its next scenario together with the last item of the current one.

        A worker starts an item only when it knows the next one. A scenario that comes earlier would wait there while other
        workers idle. A worker that has yet to collect gets none: xdist would take it off the queue and lose it.
        """
        ready = node in self.registered_collections
        if ready and (not self.workqueue or self._pending_of(self.assigned_work[node]) < 2):
            super()._reschedule(node)

    def remove_node(self, node: Any) -> str | None:
        """Requeue the worker's unfinished scenarios; return the item that it was at, if any."""
        unfinished = {scope: unit for scope, unit in self.assigned_work.pop(node).items() if not all(unit.values())}
        if not unfinished:
            return None
        scope, unit = next(iter(unfinished.items()))  # a worker does them in order
        self.deaths[scope] += 1
        LOG.info("worker %s died at %s, for the %d. time", node.gateway.id, scope, self.deaths[scope])
        if self.deaths[scope] == ATTEMPTS:
            del unfinished[scope]
        requeued = {scope: dict.fromkeys(unit, False) for scope, unit in unfinished.items()}
        LOG.info("requeue %s", ", ".join(requeued) or "nothing")
        self.workqueue = OrderedDict({**requeued, **self.workqueue})
        for other in self.assigned_work:
            self._reschedule(other)
        return next(item for item, done in unit.items() if not done)


def pack(folder: Path) -> bytes:
    """Return the folder as a compressed archive that keeps the holes of images."""
    made = subprocess.run(["tar", "--sparse", "-czf", "-", "-C", folder, "."], capture_output=True, check=False)
    if made.returncode:
        raise LabError(f"{folder} cannot be packed: {made.stderr.decode(errors='replace').strip()}")
    return made.stdout


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack an archive of `pack` into a new folder, which it cannot leave; LabError for links and special files in it."""
    folder.mkdir(parents=True)
    safe = ["--no-same-owner", "--no-same-permissions", "--keep-old-files"]
    done = subprocess.run(["tar", "-xzf", "-", *safe, "-C", folder], input=archive, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"{folder} cannot be unpacked: {done.stderr.decode(errors='replace').strip()}")
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            shutil.rmtree(folder)
            raise LabError(f"{folder} cannot be unpacked: {path.name!r} in it is neither a file nor a folder")
