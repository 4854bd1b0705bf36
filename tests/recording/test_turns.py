"""Recordings side by side, and one alone."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

from lab.recording.turns import turn

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


def _gate_is_held(root: Path) -> bool:
    with (root / "gate.lock").open("a") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
