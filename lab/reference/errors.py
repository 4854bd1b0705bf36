"""The errors that the driver's caller gets: one sentence each."""

from __future__ import annotations

from lab.nvme.commands import Command
from lab.nvme.completions import Completion


class DriverError(Exception):
    """Any error of the driver; its message is one sentence."""


class Refused(DriverError):
    """A request that the driver does not carry out; no command was sent for it."""


class CommandFailed(DriverError):
    """A command completed with an error status, and retrying did not help or was not allowed."""

    def __init__(self, command: Command, completion: Completion) -> None:
        """Say which command failed, and its status."""
        super().__init__(f"{type(command).__name__}: {completion.text}")
        self.command, self.completion = command, completion


class CommandTimedOut(DriverError):
    """A command that was not completed in time; it was aborted, or the controller was reset."""


class CommandLost(DriverError):
    """A command that was outstanding at a reset: it is not known whether it was executed."""


class ManagementFailed(DriverError):
    """A management command that the endpoint answered with an error status."""


class ControllerFailed(DriverError):
    """A controller that cannot be brought up or recovered. No further command is sent to it."""


class ControllerGone(ControllerFailed):
    """A controller whose registers read all ones: no device answers on the bus any more."""
