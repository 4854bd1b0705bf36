"""Evidence folders made by hand, for the rules of judging; what checks say of drivers is tested on real recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.suite.selection import SCENARIOS
from lab.data.events import Event
from lab.data.evidence import Evidence, EvidenceWriter
from lab.data.identity import Identity
from tests.toy.toy_lab import Lab

DRIVER: dict[str, Any] = {"name": "some", "actions": ["load", "read"], "stages": ["read"], "known": []}

MakeEvidence = Callable[..., Evidence]


@pytest.fixture
def make_evidence(tmp_path: Path) -> MakeEvidence:
    """Return a function that makes evidence of scenario read/basic with these events.

    ``end`` is the outcome, None for a recording cut short; ``fill`` adds files before the end marker.
    """

    def make(
        events: Sequence[Event] = (),
        end: str | None = "complete",
        driver: dict[str, Any] | None = None,
        fill: Callable[[Path], object] = lambda _: None,
        **more: Any,
    ) -> Evidence:
        folder = tmp_path / f"evidence-{len(list(tmp_path.iterdir()))}"
        scenario = SCENARIOS["read/basic"].resolve(1)
        data = {"driver": {**DRIVER, **(driver or {})}, "device": "qemu", "scenario": scenario.to_json(), **more}
        identity = Identity.model_validate(data)
        writer = EvidenceWriter(folder, identity)
        for event in events:
            writer.record(event)
        fill(folder)
        if end is not None:
            writer.close(end, "because")  # type: ignore[arg-type]
        else:
            writer._events.close()
        return Evidence(folder)

    return make


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """``nvme-lab`` with the toy, in a folder of its own."""
    return Lab(tmp_path)
