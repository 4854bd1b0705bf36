"""How far a driver got, read from the wire alone: the ten steps of writing one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.data.events import Completed, Doorbell, Event, RegisterRead, RegisterWrite, Submitted
from lab.nvme.commands import (
    Command,
    CreateIoCq,
    CreateIoSq,
    Flush,
    GetFeatures,
    GetLogPage,
    Identify,
    LbaCommand,
    Read,
    SetFeatures,
    Write,
)
from lab.nvme.identify import Cns
from lab.nvme.registers import CC, CSTS

HOW_TO: dict[str, str] = {
    "detect": "the system must load a driver for PCI class 010802h; see that it has one, and that it is built in",
    "admin-queue": "the driver must set AQA, ASQ, ACQ and CC.EN, and wait for CSTS.RDY",
    "identify": "let it identify the controller and its namespaces while it boots",
    "io-queues": "let it create an I/O queue pair while it boots",
    "read": "let it read a partition table or mount a file system: --nvme-disk FILE gives one, --keys FILE types commands",
    "write": "let it mount a file system for writing, or type a command that writes: --nvme-disk FILE, --keys FILE",
    "multi-namespace": "let it list the active namespaces (Identify, CNS 02h) and use more than one",
    "reset": "a driver resets a controller after a time-out or at a shutdown: nvme-lab run --stage reset makes it",
    "multiqueue": "let it create one queue pair for each processor: --cpus 4",
    "features": "let it set or get features, or read the SMART log",
}
"""What would exercise each step."""


@dataclass
class Seen:
    """What one boot has shown: for each step, what of it was seen, in words; and what was still open at the end."""

    steps: dict[str, list[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)  # commands that ended with an error
    last: str = ""  # the last thing that the driver began
    waiting: str = ""  # a command that was not answered, or a register that is polled; "" if nothing
    accesses: int = 0
    controllers: int = 0  # that became ready
    namespaces: set[int] = field(default_factory=set)  # that were identified

    def add(self, stage: str, what: str) -> None:
        """Note something of a step, each wording once."""
        known = self.steps.setdefault(stage, [])
        if what not in known:
            known.append(what)


def seen(events: Iterable[Event]) -> Seen:
    """Return what the events show."""
    found = Seen()
    watched: dict[str, _Watch] = {}
    for event in events:
        if event.controller:
            watched.setdefault(event.controller, _Watch(found)).take(event)
    found.waiting = next((text for watch in watched.values() for text in watch.waiting()), "")
    found.controllers = sum(watch.ever_ready for watch in watched.values())
    if len(watched) > 1 and all(watch.ever_ready for watch in watched.values()):
        found.add("detect", f"{len(watched)} controllers")
    return found


class _Watch:
    """One controller."""

    def __init__(self, found: Seen) -> None:
        self._found = found
        self._in_flight: dict[tuple[int, int], Command] = {}
        self._pairs: set[int] = set()
        self._read_from: set[int] = set()
        self._enabled = self.ever_ready = False
        self._is_ready = False
        self._status_reads = 0

    def take(self, event: Event) -> None:
        found = self._found
        if isinstance(event, RegisterRead | RegisterWrite | Doorbell):
            found.accesses += 1
        match event:
            case RegisterRead():
                found.add("detect", "registers read")
                if event.offset == CSTS.OFFSET and self._enabled:
                    self._status_reads += 1
                    if CSTS(event.value).RDY and event.value != 0xFFFF_FFFF and not self._is_ready:
                        self._is_ready = self.ever_ready = True
                        found.add("admin-queue", "the controller is ready")
            case RegisterWrite(offset=CC.OFFSET):
                enabled = bool(CC(event.value).EN)
                if self.ever_ready and self._enabled and not enabled:
                    found.add("reset", "the controller is disabled again")
                if CC(event.value).SHN:
                    found.add("reset", "a shutdown is asked for")
                self._enabled = enabled
                self._is_ready, self._status_reads = False, 0
                self._in_flight.clear()
                if not enabled:
                    self._pairs.clear()
            case Submitted():
                self._in_flight[event.key] = event.command
                found.last = _shown(event.command, event.sqid)
            case Completed():
                command = self._in_flight.pop((event.completion.SQID, event.completion.CID), None)
                if command is not None:
                    self._answered(event, command)

    def _answered(self, event: Completed, command: Command) -> None:
        found, queue = self._found, event.completion.SQID
        self._is_ready = self.ever_ready = True  # whether the driver has looked or not
        found.add("admin-queue", "the controller is ready")
        if not event.completion.ok:
            found.failed.append(f"{_shown(command, queue)}: {event.completion.text}")
            return
        for stage, what in _steps(command):
            found.add(stage, what)
        if isinstance(command, Identify) and command.CNS == Cns.NAMESPACE:
            found.namespaces.add(command.NSID)
        if isinstance(command, CreateIoSq):
            self._pairs.add(command.QID)
            if len(self._pairs) > 1:
                found.add("multiqueue", "several I/O queue pairs")
        if isinstance(command, Read | Write):
            self._read_from.add(command.NSID)
            if len(self._read_from) > 1:
                found.add("multi-namespace", "several namespaces are used")

    def waiting(self) -> Iterator[str]:
        """Yield what the driver still waits for: its oldest command, or the controller's readiness."""
        for (queue, _), command in self._in_flight.items():
            if type(command).__name__ != "AsyncEventRequest":
                yield _shown(command, queue)
        if self._enabled and not self._is_ready:
            yield f"CSTS.RDY (read {self._status_reads} times since CC.EN=1)"


def _steps(command: Command) -> Iterator[tuple[str, str]]:
    """Yield the steps that a successful command belongs to, and in words what was done."""
    match command:
        case Identify(CNS=Cns.ACTIVE_NAMESPACES):
            yield "identify", "Identify"
            yield "multi-namespace", "the active namespaces are listed"
        case Identify():
            yield "identify", "Identify"
        case CreateIoCq():
            yield "io-queues", "a completion queue"
        case CreateIoSq():
            yield "io-queues", "a submission queue"
        case Read():
            yield "read", "blocks are read"
        case Write() | Flush():
            yield "write", "blocks are written" if isinstance(command, Write) else "Flush"
        case GetFeatures() | SetFeatures():
            yield "features", "features"
        case GetLogPage():
            yield "features", "log pages"


def _shown(command: Command, queue: int) -> str:
    """Return a command in words, with where it goes."""
    name = type(command).__name__
    if isinstance(command, LbaCommand):
        return f"{name} of LBA {command.SLBA} in namespace {command.NSID}"
    if isinstance(command, Identify):
        return f"Identify (CNS {command.CNS:02X}h)"
    return f"{name} on queue {queue}"
