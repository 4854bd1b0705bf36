"""Deadlines, and time that does not count."""

from __future__ import annotations

import pytest

from lab import deadline
from lab.deadline import MOST_GIVEN_BACK, Deadline


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadline, "time", clock)
    return clock


def test_it_expires_when_its_seconds_are_over(clock: Clock) -> None:
    limit = Deadline(5.0)
    clock.now += 4.0
    assert limit.remaining() == 1.0
    clock.now += 1.5
    assert limit.expired
    assert limit.remaining() == 0.0


def test_lost_time_is_given_back_but_not_what_was_lost_before(clock: Clock) -> None:
    lost = 7.0
    limit = Deadline(5.0, lambda: lost)
    clock.now += 6.0
    assert limit.expired
    lost += 3.0
    assert limit.remaining() == 2.0


def test_no_wait_lasts_for_ever(clock: Clock) -> None:
    lost = 0.0
    limit = Deadline(5.0, lambda: lost)
    lost = 1e6
    assert limit.remaining() == 5.0 * (1 + MOST_GIVEN_BACK)
