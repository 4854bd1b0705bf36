"""After two guests that do not come to their driver the rest of its scenarios are not recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.run.unready import UnreadyGuests
from lab.data.evidence import End, Outcome
from lab.errors import NO_ACCESS, NOT_SET_UP

UNREADY = f"Timed out after 60 s waiting for boot.ready\n{NO_ACCESS}"


def end(outcome: Outcome, reason: str = "") -> End:
    return End(outcome, reason, 1.0, 0, 0)


def test_two_are_enough_and_name_themselves(tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    assert guests.why_not() == ""
    guests.note("read/basic", end("lab-error", UNREADY))
    assert guests.why_not() == ""
    guests.note("detect/basic", end("lab-error", UNREADY))
    assert "in detect/basic and read/basic the guest was not ready" in guests.why_not()
    assert "Timed out after 60 s" in UnreadyGuests(tmp_path, "x").why_not(), "another worker"
    assert UnreadyGuests(tmp_path, "y").why_not() == ""


@pytest.mark.parametrize("other", [end("lab-error", "QEMU died"), end("panic", "PANIC"), end("complete"), None])
def test_nothing_else_counts(other: End | None, tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    assert not guests.is_unready(other)
    for name in ("a/a", "b/b", "c/c"):
        guests.note(name, other)
    assert guests.why_not() == ""


def test_guests_that_cannot_be_set_up_are_two_at_most(tmp_path: Path) -> None:
    guests, failed = UnreadyGuests(tmp_path, "x"), end("lab-error", f"{NOT_SET_UP} no huge pages\n  remedy: …")
    assert guests.is_unready(failed), "a second attempt would end like the first"
    for name in ("a/a", "b/b"):
        guests.note(name, failed)
    assert guests.why_not() == f"not recorded, after a/a and b/b: {NOT_SET_UP} no huge pages"


def test_a_driver_that_was_reached_once_is_not_given_up(tmp_path: Path) -> None:
    guests = UnreadyGuests(tmp_path, "x")
    guests.note("detect/basic", end("complete"))
    for name in ("a/a", "b/b", "c/c"):
        guests.note(name, end("lab-error", UNREADY))
    assert guests.why_not() == ""
