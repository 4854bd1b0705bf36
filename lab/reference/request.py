"""A command in flight, from the driver's caller to its single end."""

from __future__ import annotations

from collections.abc import Callable

from lab.nvme.commands import Command
from lab.nvme.completions import Completion
from lab.reference.errors import CommandFailed, CommandTimedOut, DriverError


class Request:
    """A command and its result. It ends exactly once for each time that it is started."""

    def __init__(self, command: Command, on_end: Callable[[Request], None] | None = None) -> None:
        self.command = command
        self.on_end = on_end
        """Called at the end of a request that has no waiting caller."""
        self.attempts = 0
        self.timeouts = 0
        self.started_at = 0.0
        self.completion: Completion | None = None
        self.lost: DriverError | None = None
        """Why there is no completion."""

    def __repr__(self) -> str:
        return f"Request({self.command}, attempt {self.attempts}, {self.completion or self.lost or 'outstanding'})"

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.completion is not None or self.lost is not None

    @property
    def ok(self) -> bool:
        """Whether it has ended with success."""
        return self.completion is not None and self.completion.ok

    def start(self, now: float) -> None:
        """Count an attempt: it is about to be put into a ring."""
        self.attempts += 1
        self.started_at = now
        self.completion = self.lost = None

    def end(self, completion: Completion | None = None, lost: DriverError | None = None) -> None:
        """End it with a completion, or with the reason why there is none."""
        if self.done:
            raise AssertionError(f"{self!r} is ended a second time")
        self.completion, self.lost = completion, lost
        if self.on_end is not None:
            self.on_end(self)

    def result(self) -> Completion:
        """Return the completion of a command that succeeded; raise the error of one that did not."""
        if self.timeouts and not self.ok:
            raise CommandTimedOut(f"{type(self.command).__name__} was not completed in time") from self.lost
        if self.lost is not None:
            raise self.lost
        assert self.completion is not None, f"{self!r} is not done"
        if not self.completion.ok:
            raise CommandFailed(self.command, self.completion)
        return self.completion
