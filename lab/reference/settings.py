"""The settings of the driver."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    """Settings whose defaults suit any controller. Times in seconds."""

    io_queues: int = field(default_factory=lambda: os.cpu_count() or 1)  # queue pairs wanted: one for each CPU
    depth: int = 64  # slots of an I/O ring, if the controller allows as many
    admin_depth: int = 32  # slots of the admin rings; AQA has room for 2 to 4096
    events: int = 4  # Asynchronous Event Requests outstanding at most
    polling: bool = False  # poll for completions instead of waiting for interrupts
    command_seconds: float = 5.0  # until a command counts as hung
    abort_seconds: float = 1.0  # until an aborted command must have ended
    check_seconds: float = 0.5  # without a completion, until ring and CSTS are checked: an interrupt may be lost
    shutdown_seconds: float = 10.0  # at least; RTD3E may ask for more
    blind_seconds: float = 0.5  # how long registers may read all ones while a controller is reset, before it counts as gone
    retries: int = 3  # of a command that failed and may be retried
    timeouts: int = 1  # how often a command may hang before its caller gets the error
