"""After a guest that does not come to its driver the rest of the driver's scenarios are not recorded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.run.unready import UnreadyGuests
from lab.data.evidence import End, Outcome
from lab.data.machine import MachineReport
from lab.errors import NO_ACCESS, NOT_SET_UP

UNREADY = f"Timed out after 60 s waiting for boot.ready\n{NO_ACCESS}"


SLOW = MachineReport(bound=1.0, longest_stall=0.2, longest_stop=0.0, most_waited=3.0)
PROMPT = MachineReport(bound=1.0, longest_stall=0.2, longest_stop=0.0, most_waited=0.5)


def end(outcome: Outcome, reason: str = "", machine: MachineReport | None = PROMPT) -> End:
    return End(outcome, reason, 1.0, 0, 0, machine=machine)


@pytest.mark.parametrize("machine", [PROMPT, None])
def test_one_is_enough_and_names_itself(machine: MachineReport | None, tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    assert guests.why_not() == ""
    guests.note("read/basic", end("lab-error", UNREADY, machine))
    assert "in read/basic the guest was not ready" in guests.why_not()
    assert "in read/basic" in UnreadyGuests(tmp_path, "x").why_not(), "another worker"
    assert UnreadyGuests(tmp_path, "y").why_not() == ""


def test_a_slow_machine_needs_two(tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    guests.note("read/basic", end("lab-error", UNREADY, SLOW))
    assert guests.why_not() == ""
    guests.note("read/sizes", end("lab-error", UNREADY, SLOW))
    assert "in read/basic the guest was not ready" in guests.why_not()


@pytest.mark.parametrize("other", [end("lab-error", "QEMU died"), end("panic", "PANIC"), end("complete"), None])
def test_nothing_else_counts(other: End | None, tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    assert not guests.is_unready(other)
    for name in ("a/a", "b/b", "c/c"):
        guests.note(name, other)
    assert guests.why_not() == ""


def test_guests_that_cannot_be_set_up_are_one(tmp_path: Path) -> None:
    guests, failed = UnreadyGuests(tmp_path, "x"), end("lab-error", f"{NOT_SET_UP} no huge pages\n  remedy: …")
    assert guests.is_unready(failed), "a second attempt would end like the first"
    guests.note("a/a", failed)
    assert guests.why_not() == f"not recorded, after a/a: {NOT_SET_UP} no huge pages"


def test_a_driver_that_was_reached_once_is_not_given_up(tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    guests.note("detect/basic", end("complete"))
    for name in ("a/a", "b/b", "c/c"):
        guests.note(name, end("lab-error", UNREADY))
    assert guests.why_not() == ""


@pytest.mark.parametrize("early", [True, False], ids=["reached", "ended"])
def test_until_one_guest_was_reached_there_is_one_at_a_time(early: bool, tmp_path: Path) -> None:
    """Four workers began with four guests, and each waited three times as long for one that polls."""
    began, ended = threading.Event(), threading.Event()

    def second() -> bool:
        with UnreadyGuests(tmp_path, "x").turn():
            began.set()
            return ended.is_set()

    with ThreadPoolExecutor() as workers:
        with UnreadyGuests(tmp_path, "x").turn() as reached:
            with UnreadyGuests(tmp_path, "y").turn():
                pass  # another driver's guest is another matter
            other = workers.submit(second)
            assert not began.wait(0.2)
            if early:
                reached()
                assert began.wait(10), "the end of the first recording need not come before"
            ended.set()
        assert other.result(10) is not early


def test_guests_that_were_reached_wait_for_nobody(tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    guests.note("read/basic", end("complete"))
    with guests.turn(), guests.turn():
        assert guests.why_not() == ""


def test_a_turn_that_nobody_reached_says_nothing(tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    with guests.turn():
        assert guests.why_not() == ""
    assert guests.why_not() == ""
