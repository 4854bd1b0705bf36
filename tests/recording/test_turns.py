"""Recordings side by side, and one alone."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.suite.selection import SCENARIOS
from lab.data import evidence
from lab.data.evidence import Evidence
from lab.drivers import find
from lab.recording.record import record
from lab.recording.turns import turn
from lab.toolchain import Toolchain

SECONDS = 10.0


def test_side_by_side(tmp_path: Path) -> None:
    with turn(alone=False, root=tmp_path), turn(alone=False, root=tmp_path):
        pass


def test_alone_waits_for_the_others_and_goes_before_new_ones(tmp_path: Path) -> None:
    order: list[str] = []
    waiting, left = threading.Event(), threading.Event()

    def alone() -> None:
        waiting.set()
        with turn(alone=True, root=tmp_path):
            order.append("alone begins")
            assert not left.wait(0.2), "another one has begun meanwhile"
            order.append("alone ends")

    def other() -> None:
        with turn(alone=False, root=tmp_path):
            order.append("other")
            left.set()

    threads = [threading.Thread(target=alone), threading.Thread(target=other)]
    with turn(alone=False, root=tmp_path):
        threads[0].start()
        assert waiting.wait(SECONDS)
        while not _gate_is_held(tmp_path):
            pass
        threads[1].start()
        order.append("first ends")
    for thread in threads:
        thread.join(SECONDS)
    assert order == ["first ends", "alone begins", "alone ends", "other"]


def test_waiting_for_a_turn_is_none_of_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = 0.0

    @contextmanager
    def slow_turn(*, alone: bool) -> Iterator[None]:
        nonlocal waited
        waited = 5000.0
        yield

    class Clock:
        time = staticmethod(time.time)

        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + waited

    monkeypatch.setattr(evidence, "time", Clock)
    monkeypatch.setattr("lab.recording.record.turn", slow_turn)
    scenario = SCENARIOS["identify/basic"].resolve(0)
    end = Evidence(record(find("reference"), scenario, "lab", tmp_path / "e", toolchain=Toolchain(None, None))).end
    assert end is not None
    assert end.outcome == "complete", end.reason
    assert 0 < end.seconds < 5000


def _gate_is_held(root: Path) -> bool:
    with (root / "gate.lock").open("a") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
