"""The settings of the driver, and the environment variables that set them.

==========================  ============================================  ===========
variable                    value                                         default
==========================  ============================================  ===========
``NVME_NUM_QUEUES``         I/O queue pairs; 0 means one for each CPU     0
``NVME_QUEUE_DEPTH``        entries of an I/O queue                       1024
``NVME_POLLING_MODE``       true: poll instead of using interrupts        false
``NVME_POLL_INTERVAL_US``   microseconds between two polls                10
``NVME_ZERO_COPY``          true: use a caller's DMA memory directly      true
``NVME_SCHEDULER``          which queue an operation goes to              cpuaffinity
``NVME_VFIO``               drive the function from user space            true
``NVME_KEEP_ALIVE``         keep the controller while it is replaced      false
``NVME_BENCHMARK``          1: nvmectl without a verb runs the benchmark  0
==========================  ============================================  ===========
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.reference.errors import Refused

SCHEDULERS = "none", "round-robin", "cpuaffinity", "priority", "deadline"
"""See `lab.reference.schedulers`."""


def cpus() -> int:
    """Return the number of CPUs of this machine."""
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Settings:
    """Settings whose defaults suit any controller. Times in seconds."""

    io_queues: int = field(default_factory=cpus)  # queue pairs wanted: one for each CPU
    depth: int = 1024  # entries of an I/O queue, if the controller allows as many
    admin_depth: int = 32  # entries of the admin queues; AQA has room for 2 to 4096
    events: int = 4  # Asynchronous Event Requests outstanding at most
    polling: bool = False  # poll for completions on all queues instead of waiting for interrupts
    polled_queues: frozenset[int] = frozenset()  # identifiers of I/O queues that are polled while the others interrupt
    poll_interval: float = 10e-6  # between two polls
    zero_copy: bool = True  # move data directly between the device and DMA memory of the caller
    scheduler: str = "cpuaffinity"  # one of SCHEDULERS
    vfio: bool = True  # drive the function from user space; off leaves it to the kernel's driver
    keep_alive: bool = False  # leave the controller as it is while the driver is replaced
    benchmark: bool = False  # nvmectl without a verb runs the benchmark
    command_seconds: float = 5.0  # until a command counts as hung
    abort_seconds: float = 1.0  # until an aborted command must have ended
    check_seconds: float = 0.5  # without a completion, until ring and CSTS are checked: an interrupt may be lost
    shutdown_seconds: float = 10.0  # at least; RTD3E may ask for more
    blind_seconds: float = 0.5  # how long registers may read all ones while a controller is reset, before it counts as gone
    pause_seconds: float = 30.0  # how long a controller may pause (CSTS.PP) before it counts as hung
    retries: int = 3  # of a command that failed and may be retried
    timeouts: int = 1  # how often a command may hang before its caller gets the error

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.keep_alive and not self.vfio:
            raise Refused(
                "NVME_KEEP_ALIVE=true needs NVME_VFIO=true: a kernel's driver resets the controller that it takes over"
            )

    def polls(self, qid: int) -> bool:
        """Return whether a queue is polled."""
        return self.polling or qid in self.polled_queues


def from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the settings that the environment gives, as arguments of `Settings`.

    Refused for a bad value, in one sentence that names the variable, the value and what is allowed. An empty value counts as
    not set.
    """
    settings = {}
    for name, (setting, convert, allowed) in VARIABLES.items():
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            settings[setting] = convert(text)
        except ValueError:
            raise Refused(f"the environment variable {name} is {text!r}, but must be {allowed}") from None
    return settings


def _between(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return convert


def _choice(values: Mapping[str, Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        if text.lower() not in values:
            raise ValueError(text)
        return values[text.lower()]

    return convert


def _queues(text: str) -> int:
    return _between(0, MOST_QUEUES)(text) or cpus()


def _microseconds(text: str) -> float:
    return _between(0, MOST_MICROSECONDS)(text) / 1e6


MOST_QUEUES, MOST_ENTRIES, MOST_MICROSECONDS = 65535, 65536, 1_000_000
_boolean = _choice({"true": True, "1": True, "false": False, "0": False})
_TRUE_OR_FALSE = "true or false"

VARIABLES: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "NVME_NUM_QUEUES": ("io_queues", _queues, f"a number from 0 (one for each CPU) to {MOST_QUEUES}"),
    "NVME_QUEUE_DEPTH": ("depth", _between(2, MOST_ENTRIES), f"a number from 2 to {MOST_ENTRIES}"),
    "NVME_POLLING_MODE": ("polling", _boolean, _TRUE_OR_FALSE),
    "NVME_POLL_INTERVAL_US": ("poll_interval", _microseconds, f"a number of microseconds from 0 to {MOST_MICROSECONDS}"),
    "NVME_ZERO_COPY": ("zero_copy", _boolean, _TRUE_OR_FALSE),
    "NVME_SCHEDULER": ("scheduler", _choice({name: name for name in SCHEDULERS}), f"one of {', '.join(SCHEDULERS)}"),
    "NVME_VFIO": ("vfio", _boolean, _TRUE_OR_FALSE),
    "NVME_KEEP_ALIVE": ("keep_alive", _boolean, _TRUE_OR_FALSE),
    "NVME_BENCHMARK": ("benchmark", _choice({"0": False, "1": True}), "0 or 1"),
}
"""Name: the setting, how its text is converted, and what is allowed, for the error message."""
