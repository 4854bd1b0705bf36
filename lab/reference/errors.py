"""What can go wrong, as the caller of the driver reads it: one sentence each."""

from __future__ import annotations

from lab.nvme.commands import Command
from lab.nvme.completions import Completion


class DriverError(Exception):
    """Whatever the driver has to say besides a result."""


class Refused(DriverError):
    """The driver does not do what was asked, and has not bothered the controller with it."""


class CommandFailed(DriverError):
    """The controller completed a command with another status than success, and retrying did not help or was not allowed."""

    def __init__(self, command: Command, completion: Completion) -> None:
        super().__init__(f"{type(command).__name__}: {completion.text}")
        self.command, self.completion = command, completion


class CommandTimedOut(DriverError):
    """The controller did not complete a command in time; it was aborted, or the controller was reset."""


class CommandLost(DriverError):
    """The controller was reset while the command was outstanding: nobody knows whether it was executed."""


class ControllerFailed(DriverError):
    """The controller cannot be brought up, or cannot be recovered. Nothing more is asked of it."""


class ControllerGone(ControllerFailed):
    """Registers read all ones: nobody answers on the bus any more."""
