"""``run --stop-at``: the guest is stopped at an event, and where its processors are is written down; then it goes on.

Events: ``fault`` (a fault of the device strikes; the device's thread waits a moment for QEMU to stop), ``timeout`` (an
action was not answered in its time), ``panic`` (the guest has died; QEMU stays), or whatever a judge finds in what is recorded
so far, at the end of each action.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from lab.data.backtrace import Backtrace, ProcessorStop, write_backtraces
from lab.deadline import Deadline
from lab.errors import LabError
from lab.guest.machine import Machine
from lab.guest.processors import processors
from lab.recording.coverage import GuestCoverage

FAULT, PANIC, TIMEOUT = "fault", "panic", "timeout"
EVENTS = (FAULT, PANIC, TIMEOUT)
MOST_STOPS = 8
POLL_SECONDS = 0.05
STOP_SECONDS = 10.0
ASKED_SECONDS = 0.1
"""How long the device waits at a fault, so that QEMU has been asked to stop: it does once its processor no longer waits for the
device, a few instructions behind the access."""
Judge = Callable[[Path], str]
"""Says what is wrong with the evidence so far; "" if nothing is."""


class Stops:
    """The stops of one recording."""

    def __init__(self, event: str, coverage: GuestCoverage, now: Callable[[], float], judge: Judge | None = None) -> None:
        """Stop at ``event``; with ``judge`` wherever that finds something."""
        self.event = event
        self.done: list[Backtrace] = []
        self._coverage, self._now, self._judge = coverage, now, judge
        self._machine: Machine | None = None
        self._struck: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._naming = threading.Lock()
        self._names: list[str] = []
        """Faults that have struck since the guest was last stopped."""
        watch = self._watch_end if event == PANIC else self._watch
        self._ended = threading.Event()
        self._thread = threading.Thread(target=watch, name="stops", daemon=True)
        self._busy = threading.Lock()

    def begin(self, machine: Machine) -> None:
        """Watch a guest that runs."""
        self._machine = machine
        if self.event == PANIC:
            machine.qmp("set-action", {"shutdown": "pause"})
        self._thread.start()

    def end(self) -> None:
        """Watch no more."""
        if self._machine is not None:
            self._struck.put(None)
            self._ended.set()
            self._thread.join(STOP_SECONDS)
            self._machine = None

    def fault(self, name: str) -> None:
        """Stop at a fault, in the device's thread: return when QEMU has been asked to, or will be a moment later."""
        if self.event != FAULT or self._machine is None or len(self.done) >= MOST_STOPS:
            return
        with self._naming:
            self._names.append(name)
            if len(self._names) > 1:
                return  # another one at the same moment: QEMU has been asked already
        asked = threading.Event()
        self._struck.put(asked)
        asked.wait(ASKED_SECONDS)

    def happened(self, event: str, what: str) -> None:
        """Stop if it is this event that is wanted."""
        if event == self.event and not (event == PANIC and self.done):
            self._stop(what)

    def look(self, evidence: Path) -> None:
        """Stop where the judge finds something in the evidence so far, the first time."""
        if self._judge is not None and not self.done and (finding := self._judge(evidence)):
            self._stop(finding)

    def write(self, evidence: Path, console: str) -> None:
        """Write what was stopped at into the evidence; ``console`` is what the guest said when it died, "" if it did not."""
        spoken = self._coverage.symbols().spoken(console) if console else ()
        if spoken:
            last = self.done.pop() if self.done else Backtrace("panic", self._now(), reason="it was not stopped there")
            self.done.append(Backtrace(last.event, last.t, last.processors, spoken, last.reason))
        if self.done:
            write_backtraces(evidence, self.done)

    def _watch(self) -> None:
        while (asked := self._struck.get()) is not None:
            self._stop("fault", asked)

    def _watch_end(self) -> None:
        """Look at a guest that has ended its machine, and end QEMU then, which was told to stay."""
        machine = self._machine
        while machine is not None and not self._ended.wait(POLL_SECONDS):
            try:
                if machine.qmp("query-status", deadline=Deadline(STOP_SECONDS))["status"] == "shutdown":
                    self.happened(PANIC, "panic: the guest has ended its machine")
                    machine.qmp("quit", deadline=Deadline(STOP_SECONDS))
                    return
            except LabError:
                return

    def _stop(self, what: str, asked: threading.Event | None = None) -> None:
        """Stop the guest, write down where it is, and let it go on. A guest that is gone has no backtrace."""
        machine = self._machine
        if machine is None or len(self.done) >= MOST_STOPS:
            return
        with self._busy:
            if self.event == PANIC and self.done:
                return  # it died in more than one way
            try:
                running = asked is not None or machine.qmp("query-status", deadline=Deadline(STOP_SECONDS))["running"]
                if running:
                    machine.qmp("stop", deadline=Deadline(STOP_SECONDS))
                if asked:
                    asked.set()
                    with self._naming:
                        what, self._names = f"fault {', '.join(dict.fromkeys(self._names))}", []
                states, symbols = processors(machine), self._coverage.symbols()
                found = tuple(ProcessorStop(one.number, one.pc, symbols.backtrace(one.pc, one.stack)) for one in states)
                self.done.append(Backtrace(what, self._now(), found, reason=self._coverage.reason))
                if running:
                    machine.qmp("cont", deadline=Deadline(STOP_SECONDS))
            except LabError as failure:
                self.done.append(Backtrace(what, self._now(), reason=f"the guest could not be looked at: {failure.what}"))
