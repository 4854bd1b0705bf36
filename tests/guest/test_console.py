from __future__ import annotations

import contextlib
import itertools
import os
import pty
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.data import patterns
from lab.data.patterns import SlowPatternError
from lab.deadline import Deadline
from lab.errors import GuestDiedError, GuestPanicError, GuestTimeoutError, LabError
from lab.guest import console
from lab.guest.console import Console, plain
from lab.guest.terminal import ESCAPE, talk

SOON = 10.0


class Line:
    """A console and the guest's end of it."""

    def __init__(self, log: Path, *panics: str) -> None:
        ours, self.guest = socket.socketpair()
        self.log = log
        died = lambda waiting_for: GuestDiedError(f"QEMU exited while the lab waited for {waiting_for}")  # noqa: E731
        self.console = Console(ours, log, died, panics) if panics else Console(ours, log, died)

    def says(self, text: str) -> None:
        self.guest.sendall(text.encode())


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path / "console.log")
    yield line
    line.guest.close()
    line.console.close()


def test_expect_gives_what_came_before_and_the_groups(line: Line) -> None:
    line.says("U-Boot 2023.01\r\nHit any key: 2\r\n=> ")
    seen = line.console.expect([r"never", r"any (\w+)"], Deadline(SOON))
    assert (seen.before, seen.match[1], seen.which) == ("U-Boot 2023.01\r\nHit ", "key", 1)
    assert line.console.expect("=> ", Deadline(SOON)).before == ": 2\r\n"


def test_expect_finds_what_comes_in_pieces(line: Line) -> None:
    def slowly() -> None:
        for byte in "NVME-LAB READY ü".encode():
            line.guest.sendall(bytes([byte]))

    threading.Thread(target=slowly).start()
    assert line.console.expect("READY ü", Deadline(SOON)).before == "NVME-LAB "


def test_the_rest_is_all_that_comes_until_qemu_hangs_up(line: Line) -> None:
    line.says("prompt> rest\r\n")
    line.console.expect("> ", Deadline(SOON))
    with pytest.raises(GuestTimeoutError, match="waiting for the guest to end"):
        line.console.rest(Deadline(0.05))
    line.says("of it")
    line.guest.shutdown(socket.SHUT_RDWR)
    assert line.console.rest(Deadline(SOON)) == "rest\r\nof it"


def test_send_reaches_the_guest(line: Line) -> None:
    line.console.send("nvme scan\n")
    assert line.guest.recv(100) == b"nvme scan\n"


def test_everything_is_recorded_unasked_for_and_as_it_came(line: Line) -> None:
    line.says("a\x1b[31mb\xff\r\n")
    line.guest.close()
    assert line.console.drained(Deadline(SOON))
    assert line.log.read_bytes() == "a\x1b[31mb\xff\r\n".encode()


def test_timeout_names_what_was_waited_for_and_the_last_lines(line: Line) -> None:
    line.says("one\r\n\x1b[1mtwo\x1b[0m\r\nthr")
    with pytest.raises(GuestTimeoutError) as caught:
        line.console.expect("prompt> ", Deadline(0.2), "the shell's prompt")
    assert "0.2 s" in str(caught.value)
    assert "the shell's prompt" in str(caught.value)
    assert caught.value.last == "one\ntwo\nthr"


def test_what_a_timed_out_wait_has_read_is_still_there(line: Line) -> None:
    line.says("early")
    with pytest.raises(GuestTimeoutError):
        line.console.expect("late", Deadline(0.1))
    assert line.console.expect("early", Deadline(0))


def test_panic_ends_the_wait_at_once_and_for_good(line: Line) -> None:
    line.says("[ 1.0] Kernel panic - not syncing: Attempted to kill init!\r\nmore\r\n")
    begin = time.monotonic()
    with pytest.raises(GuestPanicError, match=r"waited for the console to show .login:.: .*Attempted to kill init!"):
        line.console.expect("login:", Deadline(60))
    with pytest.raises(GuestPanicError):
        line.console.expect("more", Deadline(60))
    assert time.monotonic() - begin < SOON


def test_what_came_before_a_panic_still_counts(line: Line) -> None:
    line.says("ready\r\nKernel panic - not syncing: oops\r\n")
    assert line.console.expect("ready", Deadline(SOON))
    with pytest.raises(GuestPanicError, match="oops"):
        line.console.expect("never", Deadline(SOON))


def test_panic_is_seen_without_a_wait_however_it_is_cut(tmp_path: Path) -> None:
    line = Line(tmp_path / "log", "PANIC!", "GURU")
    assert line.console.panic is None
    for piece in ("text PA", "NI", "C!", " text"):
        line.says(piece)
    line.guest.close()
    assert line.console.drained(Deadline(SOON))
    assert line.console.panic == "PANIC!"
    line.console.close()


def test_end_of_qemu_ends_the_wait(line: Line) -> None:
    threading.Timer(0.1, line.guest.shutdown, [socket.SHUT_RDWR]).start()
    with pytest.raises(GuestDiedError, match="waited for the console to show 'login:'"):
        line.console.expect("login:", Deadline(60))
    with pytest.raises(GuestDiedError):
        line.console.expect("login:", Deadline(60))


def test_sending_to_a_closed_console_fails(line: Line) -> None:
    line.guest.close()
    with pytest.raises(GuestDiedError, match="to take 'x'"):
        line.console.send("x")


def test_a_record_that_cannot_be_written_is_the_labs_failure() -> None:
    line = Line(Path("/dev/full"))
    line.says("text")
    with pytest.raises(LabError, match="Cannot record the console in /dev/full: No space left"):
        line.console.expect("never", Deadline(SOON))
    line.console.close()


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("\x1b[2J\x1b[01;01H\x1b[=3hShell> ", "Shell> "),
        ("a\r\nb", "a\nb"),
        ("\x1b]0;title\x07x\x1b(By\x1b=z", "xyz"),
        ("\x1b[?25l\x1b[0m\x1b[35mok", "ok"),
        ("[plain] text", "[plain] text"),
    ],
)
def test_plain(text: str, bare: str) -> None:
    assert plain(text) == bare


def test_a_screen_that_is_gone_does_not_end_the_record(line: Line) -> None:
    keys, terminal = pty.openpty()
    screen, gone = os.pipe()
    os.close(screen)
    seated = threading.Event()

    def alive() -> bool:
        seated.set()  # the console is shown from here on
        return True

    sitting = threading.Thread(target=talk, args=(line.console, line.console.send, alive, terminal, gone))
    sitting.start()
    assert seated.wait(SOON)
    line.says("not read, ")
    assert line.console.expect("read, ", Deadline(SOON))
    line.says("and the record goes on\r\n")
    assert line.console.expect("goes on", Deadline(SOON))
    os.write(keys, b"ls\r" + ESCAPE)
    assert line.guest.recv(100) == b"ls\r"
    sitting.join(SOON)
    assert not sitting.is_alive()
    assert line.log.read_bytes().startswith(b"not read, and the record goes on")
    for descriptor in (keys, terminal, gone):
        os.close(descriptor)


# -- hostile guests and manifests -----------------------------------------------------------------------------------


def test_a_pattern_that_does_not_end_is_given_up(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    line.says("x" * 5000)
    with pytest.raises(SlowPatternError, match=r"manifest's pattern '\(x\+x\+\)\+y'"):
        line.console.expect("(x+x+)+y", Deadline(60))


def test_a_panic_s_pattern_that_does_not_end_is_told_by_the_next_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    line = Line(tmp_path / "log", "(x+x+)+y")
    line.says("x" * 5000)
    with pytest.raises(SlowPatternError):
        line.console.expect("never", Deadline(60))
    line.guest.close()
    line.console.close()


def test_a_guest_that_never_stops_printing_is_stopped(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MOST", 1 << 20)

    def print_on() -> None:
        with contextlib.suppress(OSError):
            while True:
                line.says("more and more\r\n" * 1000)

    printer = threading.Thread(target=print_on)
    printer.start()
    with pytest.raises(LabError, match="more than 1 MiB"):
        line.console.expect("never", Deadline(60))
    line.console.close()
    printer.join()


def test_a_guest_that_prints_on_does_not_put_the_deadline_off(line: Line) -> None:
    ended = threading.Event()

    def print_on() -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                line.says("more\r\n")

    printer = threading.Thread(target=print_on)
    printer.start()
    with pytest.raises(GuestTimeoutError):
        line.console.expect("never", Deadline(0.1))
    ended.set()
    line.guest.close()
    printer.join()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_change_of_the_clock_changes_no_wait(line: Line, jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps at each look at it."""
    clock = itertools.count(time.time(), jump)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    line.says("some")
    began = time.monotonic()
    with pytest.raises(GuestTimeoutError):
        line.console.expect("thing", Deadline(0.2))
    assert 0.2 <= time.monotonic() - began < SOON
    line.says("thing")
    assert line.console.expect("something", Deadline(SOON))


class Dripping:
    """A connection on which a byte comes every 20 µs."""

    def __init__(self, total: int) -> None:
        self.left, self.pieces, self.asked = total, 0, time.monotonic()

    def recv(self, size: int, /) -> bytes:
        now = time.monotonic()
        come = min(self.left, size, max(1, int((now - self.asked) / 20e-6)))
        self.left, self.pieces, self.asked = self.left - come, self.pieces + 1, now
        return b"x" * come

    def sendall(self, data: bytes, /) -> None:
        raise AssertionError("nothing is typed")

    def shutdown(self, how: int, /) -> None:
        pass

    def close(self) -> None:
        pass


def test_bytes_that_come_one_by_one_are_taken_by_the_hundred(tmp_path: Path) -> None:
    """A hex dump of a megabyte took a minute of processor time."""
    dripping = Dripping(20_000)
    found = Console(dripping, tmp_path / "log", lambda _: GuestDiedError("it ended"))
    assert len(found.rest(Deadline(30))) == 20_000
    found.close()
    assert dripping.pieces < 1000
