"""Recording a driver in a guest: the guest, its device and its trace, from start to end."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from lab.architectures import X86_64
from lab.controller.device import Device as ModelledDevice
from lab.coverage.log import LogReader
from lab.data.evidence import EvidenceWriter
from lab.data.machine import MachineReport
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, DeviceKind, Scenario
from lab.deadline import Deadline
from lab.device.changes import BUS_ERRORS, CHANGES, UnsupportedChangeError
from lab.device.device import Device, Place
from lab.device.factory import open_device
from lab.device.lab import LabDevice
from lab.drivers import Adapter, Session
from lab.drivers.base import is_stale_listing
from lab.errors import GuestPanicError, GuestTimeoutError, LabError
from lab.guest import user
from lab.guest.accelerator import TCG, Accelerator, accelerator
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.folder import SHARED_MEMORY, run_folder, shared_root
from lab.guest.machine import Machine
from lab.guest.template import Forkable, ForkError, Template, Templates
from lab.guest.witness import MachineWitness
from lab.recording.activity import WireActivity
from lab.recording.coverage import GuestCoverage
from lab.recording.recording import Recording
from lab.recording.stopping import FAULT, PANIC, TIMEOUT, Stops
from lab.toolchain import Qemu, Toolchain
from lab.toolchain.cache import HEALED, Cache
from lab.trace.declarations import Declarations
from lab.trace.reader import TraceReader
from lab.trace.translator import EVENTS, Translator

LOG = logging.getLogger(__name__)

SCENARIO_SECONDS = 300.0
"""For all of a scenario, from QEMU's start to the last answer."""
PLUG_SECONDS = 30.0
"""Seconds until the guest has noticed a hot plug, or has released what is unplugged."""
STOP_SECONDS = 5.0
"""Until QEMU has stopped the guest at the end."""
DRAIN_SECONDS = 30.0
"""From QEMU's end until the last line of its trace has been translated."""
ROOT_PORT = "rp"
"""What the ids of root ports begin with (`lab.guest.arguments`)."""
FIRST_SLOT = "4"
"""PCI device number (hexadecimal) of the first controller that is there at start, unless the manifest says otherwise."""
FOLLOW_SECONDS = 5.0
"""How long a driver is asked for a list again that does not yet show a change of the device (``until``)."""
POLL_SECONDS = 0.02
STALE_BYTES = bytes(14) + b"\1\0"
"""What memory holds in a scenario with ``stale_memory``: completions of command 0 with phase tag 1. Base 2.0, 3.3.3.2."""


class GuestRecording(Recording):
    """A recording of a driver in a guest: booted or forked, with the device there at start or plugged."""

    _driver: Adapter

    def __init__(
        self,
        driver: Adapter,
        manifest: DriverManifest,
        scenario: Scenario,
        evidence: EvidenceWriter,
        kind: DeviceKind,
        qemu: Qemu,
        chosen: Accelerator,
        cache: Cache | None,
        templates: Cache | None,
        visit: Callable[[Machine], None] | None = None,
        coverage: GuestCoverage | None = None,
        stops: Stops | None = None,
    ) -> None:
        """Start nothing yet. ``templates`` is where templates are kept (in ``cache``); None boots every guest.

        ``coverage`` collects which code of the driver is executed; ``stops`` is where the guest is stopped for a look.
        """
        super().__init__(driver, manifest, scenario, evidence)
        self.driver_in_place = not driver.hotplug  # a firmware's driver is there from the start
        self._kind: DeviceKind = kind
        self._qemu = qemu
        self._accelerator = chosen
        self._cache = templates
        self._cache_root = cache
        self._started_from: GuestSpec | None = None
        self._visit = visit
        self._coverage = coverage
        self._stops = stops
        self._plugged = False
        self._follows = True  # changes of the device, as far as is known
        self._witness: MachineWitness | None = None
        self._user_id: int | None = None
        self._deadline: Deadline
        self._device: Device
        self._machine: Machine

    def damage(self) -> list[str]:
        """Return what of the cache that made this guest is not as it was built; it is removed, so that it is built again.

        To be asked after a panic or a time-out: a flipped bit in a template's memory is no fault of the driver.
        """
        return self._cache_root.heal(self.made_of) if self._cache_root else []

    @property
    def made_of(self) -> tuple[Path, ...]:
        """Return what of the cache has made this guest: files, and folders of whole entries. None before it has started."""
        cache, spec = self._cache_root, self._started_from
        if cache is None or spec is None:
            return ()
        files = (spec.kernel, spec.initrd, spec.bios, spec.flash, spec.disk, spec.iso, *self._driver.files.values())
        qemu = {cache.entry_of(Path(word)) for word in self._qemu.command if Path(word).is_absolute()}
        return tuple(path for path in (*files, *qemu, spec.state and spec.state.parent) if path)

    @property
    def machine_report(self) -> MachineReport | None:
        """What the witness of the machine has seen; None before the guest has started."""
        return self._witness.report() if self._witness else None

    def _stall_bound(self) -> float:
        """Return half of the driver's shortest time-out, in seconds: by its manifest, or as the scenario sets it.

        How long a driver waits for CSTS.RDY is CAP.TO, in units of 500 ms (NVMe Base 2.0, 3.1.3.1).
        """
        scenario, shortest = self._scenario, self._manifest.limits.shortest_timeout
        ready = [controller.cap["TO"] / 2 for controller in scenario.device.controllers if controller.cap.get("TO")]
        return min(shortest, float(scenario.guest.get("command_seconds", shortest)), *ready) / 2

    def now(self) -> float:
        """Return the host's time, on which the events of QEMU and of the device are too."""
        return time.time()

    # -- start ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        spec = self._driver.guest(self._scenario)
        if spec is None:
            raise LabError(f"the adapter {self._manifest.adapter!r} needs no guest, and this device is plugged into one")
        self._deadline = Deadline(SCENARIO_SECONDS)
        if self._cache_root and (damage := self._cache_root.heal([spec.bios] if spec.bios else [])):
            raise LabError(f"the cache was damaged: {'; '.join(damage)}", remedy=HEALED)
        enter = self._cleanup.enter_context
        scratch = enter(run_folder(_memory_root(spec.memory)))
        self._device = enter(open_device(self._kind, self._scenario, self._qemu, self._evidence.folder, scratch))
        if self._stops and isinstance(self._device, LabDevice):
            self._device.posted_writes = self._stops.event != FAULT
        enter(self._shared(scratch))
        self._machine = enter(self._guest(spec, scratch / "memory"))
        self._machine.activity = WireActivity(self._evidence)
        if self._stops:
            self._stops.begin(self._machine)
            self._cleanup.callback(self._stops.end)
            if isinstance(self._device, LabDevice):
                self._device.server.call(partial(ModelledDevice.listen, listener=self._stops.fault))
        self._witness = enter(MachineWitness(self._machine.process.pid, self._stall_bound()))
        self._session: Session = self._driver.open(self._machine, self._scenario, self._deadline)
        self._cleanup.callback(self._session.close)
        if self._driver.hotplug and not self._begins_unplugged() and not self._preloaded:
            self._plug()

    @contextmanager
    def _shared(self, scratch: Path) -> Iterator[None]:
        """Let QEMU, where it runs as a user of its own, open what it opens later: images, and sockets in ``scratch``."""
        if not user.can_switch_user():
            yield
            return
        with user.allocate() as self._user_id:
            user.share(scratch, self._user_id, writable=True)
            with user.group_writable(self._evidence.folder / "namespaces", self._user_id):
                yield

    @contextmanager
    def _guest(self, spec: GuestSpec, memory: Path) -> Iterator[Machine]:
        """Yield the running guest. At the end its trace, if its device is traced, is read before QEMU quits."""
        with ExitStack() as cleanup:
            trace = cleanup.enter_context(self._trace()) if self._device.traced else None
            log: TraceReader | LogReader | None = trace
            if log is None and self._covered:
                log = cleanup.enter_context(LogReader(self._covered.executed))
            try:
                with self._running(spec, memory, log) as machine:
                    if log:
                        log.started()
                    if trace:
                        trace.translator.memory = cleanup.enter_context(machine.memory())
                    try:
                        yield machine
                    finally:
                        if trace:
                            _pause_and_drain_trace(machine, trace)
                        self.last_words = machine.console.panic or ""
                        shutil.copyfile(machine.folder / "stderr", self._evidence.folder / "qemu.log")
            finally:
                if trace:
                    trace.close(Deadline(DRAIN_SECONDS))  # before the memory that it reads is closed

    @contextmanager
    def _running(self, spec: GuestSpec, memory: Path, log: TraceReader | LogReader | None) -> Iterator[Machine]:
        """Yield the guest forked from its template, or booted where it cannot be forked.

        Its RAM is in the file ``memory``, or in QEMU's own memory if no other process maps it.
        """

        def machine(spec: GuestSpec) -> Machine:
            self._started_from = spec
            return Machine(
                self._qemu.command, self._qemu.env, self._with_device(spec), self._accelerator.name,
                console_log=self._evidence.folder / "console.log", panics=self._driver.panics,
                trace=log.write_end if log else None,
                accessible=(self._evidence.folder / "namespaces", memory.parent),
                user_id=self._user_id,
            )  # fmt: skip

        def fork(template: Template) -> Machine:
            shutil.copyfile(template.boot_log, self._evidence.folder / "boot.log")
            return machine(template.forked(spec, memory if self._device.maps_memory else None))

        with ExitStack() as running:
            started = None
            if self._cache and isinstance(self._driver, Forkable):
                templates = Templates(self._cache, self._qemu, self._accelerator.name, self._note)
                for preparer in self._driver.snapshot_preparers(self._scenario):
                    try:
                        started = running.enter_context(templates.fork(spec, preparer, fork))
                        break
                    except ForkError as reason:
                        self._note(str(reason))
            fill = STALE_BYTES if self._scenario.guest.get("stale_memory") else b""
            yield started or running.enter_context(machine(replace(spec, memory_file=memory, memory_fill=fill)))

    def _note(self, text: str) -> None:
        """Write what the lab itself did into the evidence."""
        LOG.info("%s: %s", self._evidence.folder, text)
        with (self._evidence.folder / "lab.log").open("a") as log:
            log.write(f"{text}\n")

    def _trace(self) -> TraceReader:
        if self._qemu.trace_events is None:
            raise LabError(
                "the declarations of QEMU's trace events (trace-events-all) were not found", remedy="install qemu-system-data"
            )
        declarations = _declarations(self._qemu.trace_events)
        translator = Translator([controller.id for controller in self._scenario.device.controllers])
        return TraceReader(declarations, translator, self._evidence, self._covered.executed.take if self._covered else None)

    @property
    def _covered(self) -> GuestCoverage | None:
        """Return the coverage, if anything of this driver can be covered."""
        return self._coverage if self._coverage and self._coverage.addresses else None

    def _with_device(self, spec: GuestSpec) -> GuestSpec:
        """Add the device that is there at start, or what of it cannot be plugged later; and the log of what is executed."""
        device = self._device
        if self._covered:
            spec = replace(spec, translated=self._covered.addresses)
        if self._driver.hotplug:
            return replace(spec, devices=(*spec.devices, *device.subsystems))  # traced from its plug on: that spares the boot
        first = int(self._manifest.boot.nvme_address or FIRST_SLOT, 16)
        places: list[Place] = [{"addr": f"{first + n:#x}"} for n in range(len(self._scenario.device.controllers))]
        self._note_plugged(True)
        return replace(
            spec,
            trace=EVENTS if device.traced else (),
            blockdevs=(*spec.blockdevs, *device.blockdevs),
            devices=(*spec.devices, *device.subsystems, *device.devices(places)),
        )

    # -- run --------------------------------------------------------------------------------------------------------

    def run(self, loaded: Callable[[], None] = lambda: None) -> None:
        """Do all actions, and then what the visitor wants."""
        try:
            try:
                super().run(loaded)
            except GuestPanicError as panic:
                if self._stops:
                    self._stops.happened(PANIC, f"panic: {panic.what.splitlines()[0]}")
                raise
            if self._visit:
                self._visit(self._machine)
            self._machine.check("the end of the scenario")
        finally:  # a driver that lost its device without a fault of its own may have printed anything, a panic message included
            if self._plugged and self._machine.process.alive:
                self._device.check()

    def _perform(self, number: int, action: Action) -> None:
        if self._deadline.expired:
            what = f"the {self._deadline.seconds:g} s of the scenario are over before action {number}, {action.name}"
            raise GuestTimeoutError(what)
        super()._perform(number, action)
        if self._stops:
            self._stops.look(self._evidence.folder)

    def _begin_loading(self) -> None:
        super()._begin_loading()
        if self._preloaded:  # driver and device meet now, as they would by its loading
            self._plug()

    def _ask(self, action: Action, data: bytes | None) -> Answer:
        """Return the driver's answer.

        A driver follows the device in its own time and does not report when it has: a list is asked for again until it holds
        the namespaces that ``until`` names, or FOLLOW_SECONDS have passed. A driver that failed to follow in that time once is
        not waited for again.
        """
        follow = Deadline(FOLLOW_SECONDS if self._follows else 0)
        while True:
            seconds = min(self._driver.seconds(action.name), self._deadline.remaining())
            answer = self._session.perform(action, data, Deadline(seconds, self._lost_seconds))
            self._device.settle()
            if self._stops and answer.status == "timeout":
                self._stops.happened(TIMEOUT, f"timeout of {action.name}")
            if answer.status != "success" or not is_stale_listing(action, answer):
                return answer
            if follow.expired:
                self._follows = False
                return answer
            time.sleep(POLL_SECONDS)

    def _lost_seconds(self) -> float:
        """Return how long the machine has not run QEMU or the lab so far: a driver cannot have worked in that time."""
        return self._witness.lost if self._witness else 0.0

    def _change(self, action: Action) -> Answer:
        if action.name == "cut-power" and "unload" not in self._driver.actions:
            return Answer("unsupported", {"log": "the driver could not be restarted"})
        if action.name in CHANGES:
            try:
                self._device.change(self._machine, action, Deadline(PLUG_SECONDS))
            except UnsupportedChangeError as reason:
                return Answer("unsupported", {"log": str(reason)})
            return Answer()
        if action.name == "fault":
            self._device.arm(action.arguments["name"], action.arguments["armed"])
            return Answer()
        if not self._driver.hotplug:
            return Answer("unsupported")
        if action.name == "bus-error":
            return self._report_bus_error(action.arguments["kind"])
        if action.name == "plug":
            self._plug()
        else:
            deadline = Deadline(PLUG_SECONDS)
            self._device.unplug(self._machine, deadline)
            self._note_plugged(False)
            self._session.plugged(0, deadline)
        return Answer()

    def _report_bus_error(self, kind: str) -> Answer:
        """Let the port above the first controller report an error of the link to it (Advanced Error Reporting)."""
        line = f"pcie_aer_inject_error {ROOT_PORT}0 {BUS_ERRORS[kind]}"
        said = str(self._machine.qmp("human-monitor-command", {"command-line": line}))
        return Answer() if said.startswith("OK") else Answer("unsupported", {"log": said.strip()})

    def _plug(self) -> None:
        places: list[Place] = [{"bus": f"{ROOT_PORT}{n}"} for n in range(len(self._scenario.device.controllers))]
        for pattern in EVENTS if self._device.traced else ():
            self._machine.qmp("trace-event-set-state", {"name": pattern, "enable": True})
        self._note_plugged(True)
        self._device.plug(self._machine, places)
        self._session.plugged(len(places), Deadline(PLUG_SECONDS))

    def _note_plugged(self, present: bool) -> None:
        self._plugged = present
        super()._note_plugged(present)

    @property
    def _preloaded(self) -> bool:
        """The driver was loaded in the template: it waits for the device, which is plugged when it is asked to load."""
        return bool(getattr(self._session, "loaded", False))

    def _begins_unplugged(self) -> bool:
        """Return whether the scenario plugs the device itself."""
        return next((a.name for a in self._scenario.actions if a.name in ("plug", "unplug")), "") == "plug"


def choose_accelerator(qemu: Qemu, cache: Cache | None) -> Accelerator:
    """Return what this QEMU's guests run under on this machine."""
    if qemu.arch != X86_64:
        return Accelerator(TCG, f"a guest of architecture {qemu.arch} is emulated on x86-64")
    return accelerator(qemu.command, qemu.env, cache.root / "accelerator.json" if cache else None)


def template_cache(toolchain: Toolchain) -> Cache | None:
    """Return where templates are kept; None if the user wants every guest booted."""
    return None if os.environ.get("NVME_LAB_FORK") == "0" else toolchain.cache


def _pause_and_drain_trace(machine: Machine, trace: TraceReader) -> None:
    """Stop the guest until its trace is read, since a fork's memory is gone when QEMU is."""
    with suppress(LabError):  # it has died already
        machine.qmp("stop", deadline=Deadline(STOP_SECONDS))
        trace.caught_up(Deadline(DRAIN_SECONDS))


@cache
def _declarations(trace_events: Path) -> Declarations:
    """Parse QEMU's declarations, once per process: it takes a tenth of a second."""
    return Declarations.load(trace_events, EVENTS)


def _memory_root(memory: int) -> Path | None:
    """Return where the file with ``memory`` MiB of RAM is best kept: in memory if it fits, else among the other run folders.

    QEMU would be killed by SIGBUS, minutes later, where a small /dev/shm has no room for a page that the guest touches.
    """
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    roomy = status.f_bavail * status.f_frsize > 2 * memory * MIB and os.access(SHARED_MEMORY, os.W_OK)
    return shared_root() if roomy else None
