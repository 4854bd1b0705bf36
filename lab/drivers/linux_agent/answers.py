"""What an action returns, and how it fails."""

import errno
from typing import Any

Fields = dict[str, Any]
"""A request, or the fields of an answer."""


class RefusedError(Exception):
    """The driver, or its loading, failed in its own words."""


class CompletedWithError(Exception):
    """The controller completed a command with another status than success, which the driver hands through."""


class NotOfferedError(Exception):
    """Linux has no interface for the action but passthrough, which is no function of the driver."""


def errno_text(error: OSError) -> str:
    """Return "EIO: Input/output error" for an error."""
    return f"{errno.errorcode.get(error.errno or 0, error.errno)}: {error.strerror}"
