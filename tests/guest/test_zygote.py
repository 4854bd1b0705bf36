"""A pool of prepared guests, with things that are no guests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from lab.deadline import Deadline
from lab.errors import GuestError, Timeout
from lab.guest.zygote import Zygotes

SECONDS = 10.0


class Nursery:
    """Counts what is alive."""

    def __init__(self) -> None:
        self.made = 0
        self.alive: set[int] = set()
        self.changed = threading.Condition()

    @contextmanager
    def prepare(self) -> Iterator[int]:
        with self.changed:
            self.made += 1
            mine = self.made
            self.alive.add(mine)
            self.changed.notify_all()
        try:
            yield mine
        finally:
            self.alive.remove(mine)

    def until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, SECONDS)


def test_they_are_ready_before_they_are_taken_and_never_more_than_asked_for() -> None:
    nursery = Nursery()
    with Zygotes(nursery.prepare, 2) as pool:
        nursery.until(lambda: nursery.made == 2)
        with pool.take(Deadline(SECONDS)) as first, pool.take(Deadline(SECONDS)) as second:
            assert (first, second) == (1, 2)
            assert nursery.alive == {1, 2}
        nursery.until(lambda: nursery.made == 4)
    assert not nursery.alive


def test_one_that_was_taken_ends_with_whoever_took_it() -> None:
    nursery = Nursery()
    with Zygotes(nursery.prepare) as pool:
        with pytest.raises(ZeroDivisionError), pool.take(Deadline(SECONDS)) as guest:
            assert guest == 1
            raise ZeroDivisionError
        assert 1 not in nursery.alive
        with pool.take(Deadline(SECONDS)) as guest:
            assert guest == 2
    assert not nursery.alive


def test_a_preparation_that_fails_is_the_takers_error() -> None:
    @contextmanager
    def prepare() -> Iterator[int]:
        raise GuestError("no guest today")
        yield 0

    with Zygotes(prepare) as pool:
        for _ in range(2):
            with pytest.raises(GuestError, match="no guest today"), pool.take(Deadline(SECONDS)):
                pass


def test_nobody_waits_for_ever() -> None:
    go = threading.Event()

    @contextmanager
    def prepare() -> Iterator[int]:
        go.wait(SECONDS)
        yield 1

    with Zygotes(prepare) as pool:
        with pytest.raises(Timeout, match="a guest to be prepared"), pool.take(Deadline(0.05)):
            pass
        go.set()


def test_nothing_is_left_of_a_pool() -> None:
    threads, nursery = threading.active_count(), Nursery()
    prepare: Callable[[], AbstractContextManager[int]] = nursery.prepare
    with Zygotes(prepare, 3):
        nursery.until(lambda: nursery.made >= 1)
    assert not nursery.alive
    assert threading.active_count() == threads
