"""A command in flight, from the driver's caller to its single end."""

from __future__ import annotations

from collections.abc import Callable

from lab.nvme.commands import Command
from lab.nvme.completions import Completion
from lab.reference.errors import CommandFailed, CommandTimedOut, DriverError


class Request:
    """A command and its result. It ends exactly once for each time that it is started."""

    __slots__ = ("attempts", "command", "completion", "lost", "ok", "on_end", "started_at", "timeouts")

    def __init__(self, command: Command, on_end: Callable[[Request], None] | None = None) -> None:
        """Wrap a command; ``on_end`` is called at its end."""
        self.command = command
        self.on_end = on_end
        """Called at the end of a request that has no waiting caller."""
        self.attempts = 0
        self.timeouts = 0
        self.started_at = 0.0
        self.completion: Completion | None = None
        self.lost: DriverError | None = None
        """Why there is no completion."""
        self.ok = False
        """Whether it has ended with success."""

    def __repr__(self) -> str:
        """Show the command and its state."""
        return f"Request({self.command}, attempt {self.attempts}, {self.completion or self.lost or 'outstanding'})"

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.completion is not None or self.lost is not None

    def start(self, now: float) -> None:
        """Count an attempt: it is about to be put into a ring."""
        self.attempts += 1
        self.started_at = now
        self.completion = self.lost = None
        self.ok = False

    def end(self, completion: Completion | None = None, lost: DriverError | None = None) -> None:
        """End it with a completion, or with the reason why there is none."""
        if self.completion is not None or self.lost is not None:
            raise AssertionError(f"{self!r} is ended a second time")
        self.completion, self.lost = completion, lost
        self.ok = completion is not None and completion.ok
        if self.on_end is not None:
            self.on_end(self)

    def result(self) -> Completion:
        """Return the completion of a command that succeeded; raise the error of one that did not."""
        if self.ok:
            assert self.completion is not None
            return self.completion
        if self.timeouts:
            raise CommandTimedOut(f"{type(self.command).__name__} was not completed in time") from self.lost
        if self.lost is not None:
            raise self.lost
        assert self.completion is not None, f"{self!r} is not done"
        raise CommandFailed(self.command, self.completion)
