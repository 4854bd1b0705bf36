"""Scenarios on several workers: here or on other machines, whole, and again when their worker has died.

xdist hands out scopes, and a scenario is one (`conformance.run.items`). What is added: after a worker's death a scenario is
done again for all of its checks, so that they judge the same recording; the second time it is given up.
"""

from __future__ import annotations

import subprocess
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from conformance.judging.results import RunEntry, VerdictEntry
from lab.errors import LabError

ATTEMPTS = 2
WORKER_DIED = "the worker that recorded it died"


class Told(BaseModel):
    """What a report tells of a scenario: the recording where it is the first to, and verdicts."""

    run: RunEntry | None
    verdicts: list[VerdictEntry]

    @property
    def name(self) -> str:
        """driver/device/scenario."""
        return "/".join(self.verdicts[0].key[:3])


class WholeScenarios(LoadScopeScheduling):  # type: ignore[misc]
    """Of what a dead worker leaves behind nothing counts of which not all is done."""

    workqueue: OrderedDict[str, dict[str, bool]]
    """Scope → item → done, of what no worker has."""
    assigned_work: dict[Any, dict[str, dict[str, bool]]]

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        self.deaths: Counter[str] = Counter()

    def _reschedule(self, node: Any) -> None:
        """A worker starts an item when it knows the next one, and so it gets the next scenario with the last item of this one:
        not before, or it would wait there while others have nothing to do. One that has yet to collect gets none: xdist would
        take it off the queue, and lose it."""
        ready = node in self.registered_collections
        if ready and (not self.workqueue or self._pending_of(self.assigned_work[node]) < 2):
            super()._reschedule(node)

    def remove_node(self, node: Any) -> str | None:
        """The item that the worker died of, if it had not finished."""
        unfinished = {scope: unit for scope, unit in self.assigned_work.pop(node).items() if not all(unit.values())}
        if not unfinished:
            return None
        scope, unit = next(iter(unfinished.items()))  # a worker takes them in turn
        self.deaths[scope] += 1
        if self.deaths[scope] == ATTEMPTS:
            del unfinished[scope]
        again = {scope: dict.fromkeys(unit, False) for scope, unit in unfinished.items()}
        self.workqueue = OrderedDict({**again, **self.workqueue})
        for other in self.assigned_work:
            self._reschedule(other)
        return next(item for item, done in unit.items() if not done)


def pack(folder: Path) -> bytes:
    """The folder as a compressed archive that keeps the holes of images."""
    made = subprocess.run(["tar", "--sparse", "-czf", "-", "-C", folder, "."], capture_output=True, check=False)
    if made.returncode:
        raise LabError(f"{folder} cannot be packed: {made.stderr.decode(errors='replace').strip()}")
    return made.stdout


def unpack(archive: bytes, folder: Path) -> None:
    """What `pack` has packed."""
    folder.mkdir(parents=True)
    done = subprocess.run(["tar", "-xzf", "-", "-C", folder], input=archive, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"{folder} cannot be unpacked: {done.stderr.decode(errors='replace').strip()}")
