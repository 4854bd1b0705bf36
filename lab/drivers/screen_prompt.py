"""A driver whose prompt is on a PC's screen in text, and whose input is a keyboard: answers are read from the text memory."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from lab.data import patterns
from lab.deadline import Deadline
from lab.drivers.prompt import KEY_ATTEMPTS, KEY_SECONDS
from lab.drivers.serial_session import SerialSession
from lab.errors import GuestPanicError, GuestTimeoutError, LabError
from lab.guest import keyboard, screen

POLL_SECONDS, TYPING_SECONDS = 0.02, 0.005
"""Between two looks at the screen while an answer comes, and while a key is typed."""


class ScreenSession(SerialSession):
    """See `lab.drivers.base.Session`."""

    def ask(self, line: str, deadline: Deadline) -> str:
        """Type a line, and return the rows that come behind it."""
        if self._busy:
            self._follow(Deadline(0), f"the prompt after {self._busy!r}, which came too late before", Scroll(self._rows()))
        self._busy = line
        typed = ""
        for character in line:
            typed += character
            self._show(character, typed, deadline)
        before = self._rows()
        asked = _last_used(before)
        self._send(self._manifest.boot.enter)
        scroll = Scroll(before)
        rows = self._follow(deadline, f"the prompt after {line[:80]!r}", scroll)
        self._busy = ""
        if scroll.is_torn:
            raise LabError(
                f"a part of the answer to {line[:80]!r} left the screen before it was read",
                remedy="let it print less at once (data by memory = true), or print on a serial port",
            )
        return joined(rows[asked + 1 : -1])

    def _until_ready(self, deadline: Deadline) -> str:
        """Wait until the guest is ready; return what its screen shows."""
        boot = self._manifest.boot
        if boot.ready_screen or boot.quiet or boot.after:
            return self._until_signs(deadline)
        self._follow(deadline, f"boot.ready {boot.ready!r}", Scroll([""]), anywhere=boot.input == "none")
        return screen.text_of(self._machine)

    def _show(self, character: str, typed: str, deadline: Deadline) -> None:
        """Press a key until the screen ends with what was typed so far. LabError if it never does."""
        for _ in range(KEY_ATTEMPTS):
            keyboard.press(self._machine, character)
            wait = Deadline(min(KEY_SECONDS, deadline.remaining()))
            while not wait.expired:
                if "".join(self._rows()).rstrip().endswith(typed.rstrip()):
                    return
                time.sleep(TYPING_SECONDS)
            self._machine.check(f"the echo of {character!r}")
            if deadline.expired:
                raise GuestTimeoutError(f"the screen does not show {character!r}, typed on the keyboard", last=self._last())
        raise LabError(
            f"the key {character!r} was typed {KEY_ATTEMPTS} times, and the screen does not end with {typed[-80:]!r}",
            remedy="give boot.ready by the prompt's last line; or boot.output, where it echoes in another place",
        )

    def _follow(self, deadline: Deadline, what: str, scroll: Scroll, *, anywhere: bool = False) -> list[str]:
        """Wait for the prompt in the last row that is used; return all rows that have come by then, scrolled away or not."""
        first, last = scroll.rows, [""]
        while True:
            rows = self._rows()
            self._look_for_death(rows, what)
            scroll.take(rows)
            is_new = anywhere or rows != first
            if is_new and rows == last and self._is_ready(rows, anywhere=anywhere):
                return scroll.all_rows
            last = rows
            if deadline.expired:
                what, shown = f"Timed out after {deadline.seconds:g} s waiting for the screen to show {what}", self._last()
                raise GuestTimeoutError(f"{what}; it shows:\n{shown or '(nothing)'}", last=shown)
            time.sleep(POLL_SECONDS)

    def _is_ready(self, rows: Sequence[str], *, anywhere: bool) -> bool:
        ready = self._manifest.boot.ready
        if anywhere:
            return patterns.search(ready, "\n".join(row.rstrip() for row in rows)) is not None
        row = rows[_last_used(rows)].rstrip() + " "  # a blank behind it cannot be told from none
        found = patterns.search(ready, row)
        return found is not None and not row[found.end() :].strip()

    def _look_for_death(self, rows: Sequence[str], what: str) -> None:
        """Raise GuestPanicError where the screen or another output says that the guest has died, or QEMU has ended."""
        self._machine.check(what)
        dead = self._manifest.boot.dead
        text = "\n".join(row.rstrip() for row in rows)
        if dead and (found := patterns.search(f"(?m-s:{dead})", text)):
            raise GuestPanicError(f"The guest panicked while the lab waited for {what}: {found[0]}", last=text.strip())

    def _rows(self) -> list[str]:
        return screen.rows_of(self._machine)

    def _last(self) -> str:
        return screen.text_of(self._machine).strip("\n")


class Scroll:
    """What has been on a screen from a moment on, put together from looks at it."""

    def __init__(self, rows: list[str]) -> None:
        """Begin with what it shows."""
        self.rows = rows
        self._gone: list[str] = []
        self.is_torn = False

    @property
    def all_rows(self) -> list[str]:
        """All rows since the beginning, up to the last one that is used."""
        return [*self._gone, *self.rows[: _last_used(self.rows) + 1]]

    def take(self, rows: list[str]) -> None:
        """Take the next look: it shows the same rows further up, and the last of them may have grown."""
        used = _last_used(self.rows)
        for shift in range(used + 1):
            kept = used - shift
            is_same_row = rows[kept].startswith(self.rows[used].rstrip()) or any(row.strip() for row in rows[:kept])
            if self.rows[shift:used] == rows[:kept] and is_same_row:
                self._gone += self.rows[:shift]
                self.rows = rows
                return
        if any(re.search(r"\S", row) for row in self.rows):
            self.is_torn = True
        self.rows = rows


def joined(rows: Sequence[str]) -> str:
    """Return the rows as lines: one that is full to its end goes on in the next."""
    return "".join(row if row[-1:].strip() else f"{row.rstrip()}\n" for row in rows)


def _last_used(rows: Sequence[str]) -> int:
    """Return the number of the last row that is not blank; 0 if all are."""
    return max((number for number, row in enumerate(rows) if row.strip()), default=0)
