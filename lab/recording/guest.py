"""Manifest × scenario × device → evidence: the only part that touches the world. It asks and writes down; it never judges.

What ends a recording, and how its end marker reads:

- all actions asked: ``complete``, whatever the driver answered;
- the guest's own last words once the driver was in place: ``panic``, at once;
- anything else that went wrong, QEMU's death and a panic before the driver was loaded included: ``lab-error``;
- Ctrl-C, or the death of the lab: no end marker.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from lab.data.events import ActionEnded, ActionStarted, Panicked, Plugged
from lab.data.evidence import EvidenceWriter
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, DeviceKind, Scenario
from lab.data.profile import write_profiles
from lab.deadline import Deadline
from lab.device.changes import LIVE, UnsupportedChangeError, change
from lab.device.lab import LabDevice
from lab.device.probe import probe
from lab.device.qemu import Place, QemuDevice
from lab.drivers import Adapter, Session, adapter
from lab.drivers.base import askable, is_stale_listing, write_payload
from lab.errors import GuestPanicError, GuestTimeoutError, LabError
from lab.guest import user
from lab.guest.accelerator import TCG, Accelerator, accelerator
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.folder import SHARED_MEMORY, run_folder, shared_root
from lab.guest.machine import Machine
from lab.guest.template import Forkable, ForkError, Template, Templates
from lab.recording.in_process import InProcessAdapter, InProcessRecording, profiles
from lab.toolchain import Qemu, Toolchain
from lab.toolchain.cache import Cache
from lab.toolchain.qemu import X86_64, dotted
from lab.trace.declarations import Declarations
from lab.trace.reader import TraceReader
from lab.trace.translator import EVENTS, Translator
from lab.version import lab_version

SCENARIO_SECONDS = 300.0
"""For all of a scenario, from QEMU's start to the last answer."""
PLUG_SECONDS = 30.0
"""Until the guest has noticed a hot plug, or has let go of what is unplugged."""
STOP_SECONDS = 5.0
"""Until QEMU has stopped the guest at the end."""
DRAIN_SECONDS = 30.0
"""From QEMU's end until the last line of its trace has been translated."""
FIRST_SLOT = "4"
"""PCI device number (hexadecimal) of the first controller that is there at start, unless the manifest says otherwise."""
Device: TypeAlias = QemuDevice | LabDevice
LAB_ACTIONS = frozenset({"plug", "unplug", "fault", *LIVE})
"""Actions that are done to the device, not asked of the driver."""
FOLLOW_SECONDS, POLL_SECONDS = 5.0, 0.02
"""How long, and how often, a driver is asked again that has not followed a change of the device yet (``until``)."""


def record(
    manifest: DriverManifest,
    scenario: Scenario,
    device: DeviceKind,
    folder: Path,
    *,
    toolchain: Toolchain,
    identity: Mapping[str, Any] | None = None,
    visit: Callable[[Machine], None] | None = None,
) -> Path:
    """Records one scenario on one driver and device into a new evidence folder, and returns it.

    The lab's failures end up in the end marker. What is raised instead: UsageError for a manifest that cannot be used, before
    anything is written, and LabError where the evidence itself cannot be written. ``identity`` adds to identity.json. ``visit``
    is given the running guest when all actions are asked, and may do with it as it likes.
    """
    driver = adapter(manifest, toolchain)
    recording: _Recording | InProcessRecording
    if isinstance(driver, InProcessAdapter):
        evidence = EvidenceWriter(folder, {**_identity(manifest, driver, scenario, device, toolchain), **(identity or {})})
        recording = InProcessRecording(driver, scenario, evidence, manifest.stops)
    else:
        qemu = toolchain.qemu_for(manifest.boot.arch)
        if qemu is None:
            raise LabError(f"no QEMU for {manifest.boot.arch} was prepared", remedy="prepare what lab.drivers.wants names")
        chosen = _accelerator(qemu, toolchain.cache)
        machine = {"accelerator": asdict(chosen), "qemu": _qemu(qemu)}
        told = {**_identity(manifest, driver, scenario, device, toolchain), **machine, **(identity or {})}
        evidence = EvidenceWriter(folder, told)
        recording = _Recording(driver, manifest, scenario, evidence, qemu, chosen, _forking(toolchain), visit)
    try:
        recording.run(device)
    except GuestPanicError as panic:
        if recording.driver_in_place:
            evidence.record(Panicked(t=recording.now(), text=recording.last_words or panic.what))
            evidence.close("panic", panic.what)
        else:
            evidence.close("lab-error", f"before the driver was loaded: {panic}")
    except LabError as error:
        evidence.close("lab-error", str(error))
    else:
        evidence.close("complete")
    return folder


class _Recording:
    """One recording, while it lasts."""

    def __init__(
        self,
        driver: Adapter,
        manifest: DriverManifest,
        scenario: Scenario,
        evidence: EvidenceWriter,
        qemu: Qemu,
        chosen: Accelerator,
        kept_in: Cache | None,
        visit: Callable[[Machine], None] | None,
    ) -> None:
        """``kept_in`` is where templates are kept; None boots every guest."""
        self._driver = driver
        self._manifest = manifest
        self._scenario = scenario
        self._evidence = evidence
        self._qemu = qemu
        self._accelerator = chosen
        self._cache = kept_in
        self._visit = visit
        self.driver_in_place = not driver.hotplug  # a firmware's driver is there from the start
        self.last_words = ""
        self._plugged = False
        self._follows = True  # changes of the device, as far as is known

    def now(self) -> float:
        """The time on the clock of the events."""
        return time.time()

    def run(self, kind: DeviceKind) -> None:
        """All of it; when this returns or raises, nothing that was started is left."""
        spec = self._driver.guest(self._scenario)
        if spec is None:
            raise LabError(f"the adapter {self._manifest.adapter!r} needs no guest, and this device is plugged into one")
        deadline = Deadline(SCENARIO_SECONDS)
        with (
            run_folder(_memory_root(spec.memory)) as scratch,
            self._device(kind, scratch) as device,
            self._shared(scratch),
            self._guest(spec, scratch / "memory", device) as machine,
            ExitStack() as cleanup,
        ):
            session = self._driver.open(machine, self._scenario, deadline)
            cleanup.callback(session.close)
            if self._driver.hotplug and not self._plugs_itself() and not _loaded(session):
                self._plug(device, machine, session)
            try:
                for number, action in enumerate(self._scenario.actions):
                    if deadline.expired:
                        raise GuestTimeoutError(
                            f"the {deadline.seconds:g} s of the scenario are over before action {number}, {action.name}"
                        )
                    self._ask(number, action, device, machine, session, deadline)
                if self._visit:
                    self._visit(machine)
                machine.check("the end of the scenario")
            finally:  # a driver that lost its device without a fault of its own may have said anything, its last words included
                if isinstance(device, LabDevice) and self._plugged and machine.process.alive:
                    device.check()

    @contextmanager
    def _device(self, kind: DeviceKind, scratch: Path) -> Iterator[Device]:
        """The scenario's device with its images, and in the evidence what it really is."""
        scenario, folder = self._scenario, self._evidence.folder
        if kind == "lab":
            served = LabDevice(
                scenario.device, folder / "namespaces", self._qemu.version,
                sockets=scratch, records=folder / "device", faults=scenario.faults,
            )  # fmt: skip
            served.create_images(scenario.seed)
            with served:
                write_profiles(folder, served.server.call(profiles))
                yield served
            return
        if scenario.faults:
            raise LabError("QEMU's own device serves no faults", remedy="use --device lab")
        device = QemuDevice(scenario.device, folder / "namespaces", self._qemu.version)
        write_profiles(folder, probe(self._qemu, scenario.device))
        device.create_images(scenario.seed)
        yield device

    @contextmanager
    def _shared(self, scratch: Path) -> Iterator[None]:
        """What QEMU opens later, where it runs as a user of its own: the images, and the sockets in ``scratch``."""
        if not user.can_switch_user():
            yield
            return
        user.share(scratch, writable=True)
        with user.group_writable(self._evidence.folder / "namespaces"):
            yield

    @contextmanager
    def _guest(self, spec: GuestSpec, memory: Path, device: Device) -> Iterator[Machine]:
        """The running guest. At the end its trace, if its own device is in there, is read before QEMU quits."""
        with ExitStack() as cleanup:
            trace = cleanup.enter_context(self._trace()) if isinstance(device, QemuDevice) else None
            try:
                with self._machine(spec, memory, device, trace) as machine:
                    if trace:
                        trace.started()
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
    def _machine(self, spec: GuestSpec, memory: Path, device: Device, trace: TraceReader | None) -> Iterator[Machine]:
        """The guest forked from its template, or booted where it cannot be forked. Its RAM is in the file ``memory``, or
        nowhere but in QEMU if nobody maps it."""

        def machine(spec: GuestSpec) -> Machine:
            return Machine(
                self._qemu.command, self._qemu.env, self._with_device(spec, device), self._accelerator.name,
                console_log=self._evidence.folder / "console.log", panics=self._driver.panics,
                trace=trace.write_end if trace else None, accessible=(self._evidence.folder / "namespaces", memory.parent),
            )  # fmt: skip

        def fork(template: Template) -> Machine:
            shutil.copyfile(template.boot_log, self._evidence.folder / "boot.log")
            return machine(template.forked(spec, memory if isinstance(device, LabDevice) else None))

        with ExitStack() as running:
            started = None
            if self._cache and isinstance(self._driver, Forkable):
                templates = Templates(self._cache, self._qemu, self._accelerator.name, self._say)
                for preparer in self._driver.snapshot_preparers(self._scenario):
                    try:
                        started = running.enter_context(templates.fork(spec, preparer, fork))
                        break
                    except ForkError as reason:
                        self._say(str(reason))
            yield started or running.enter_context(machine(replace(spec, memory_file=memory)))

    def _say(self, text: str) -> None:
        with (self._evidence.folder / "lab.log").open("a") as log:
            log.write(f"{text}\n")

    def _trace(self) -> TraceReader:
        if self._qemu.trace_events is None:
            raise LabError(
                "the declarations of QEMU's trace events (trace-events-all) were not found", remedy="install qemu-system-data"
            )
        declarations = _declarations(self._qemu.trace_events)
        translator = Translator([controller.id for controller in self._scenario.device.controllers])
        return TraceReader(declarations, translator, self._evidence)

    def _with_device(self, spec: GuestSpec, device: Device) -> GuestSpec:
        """With the device that is there at start, or with what of it cannot be plugged later."""
        if self._driver.hotplug:
            return replace(spec, devices=(*spec.devices, *device.subsystems))  # traced from its plug on: that spares the boot
        first = int(self._manifest.boot.nvme_address or FIRST_SLOT, 16)
        places: list[Place] = [{"addr": f"{first + n:#x}"} for n in range(len(self._scenario.device.controllers))]
        self._note_plugged(True)
        return replace(
            spec,
            trace=EVENTS if isinstance(device, QemuDevice) else (),
            blockdevs=(*spec.blockdevs, *device.blockdevs),
            devices=(*spec.devices, *device.subsystems, *device.devices(places)),
        )

    def _ask(self, number: int, action: Action, device: Device, machine: Machine, session: Session, deadline: Deadline) -> None:
        self._evidence.record(ActionStarted(t=time.time(), number=number, action=action.name, arguments=action.arguments))
        self.driver_in_place |= action.name == "load"
        if action.name == "load" and _loaded(session):  # driver and device meet now, as they would by its loading
            self._plug(device, machine, session)
        if action.name in LAB_ACTIONS:
            answer = self._do(action, device, machine, session)
        elif not askable(action, self._driver.actions, self._manifest.stops):
            answer = Answer("unsupported")
        else:
            answer = self._perform(action, session, deadline)
        said: dict[str, Any] = {"status": answer.status, **answer.fields}
        if answer.data is not None:
            said["data"] = self._evidence.keep_answer(number, answer.data)
        self._evidence.record(ActionEnded(t=time.time(), number=number, action=action.name, answer=said))

    def _perform(self, action: Action, session: Session, deadline: Deadline) -> Answer:
        """The driver's answer. A driver follows the device in its own time, and nobody is told when it has: a list is asked
        for again until it holds the namespaces that ``until`` names, or FOLLOW_SECONDS have passed. Who has once not followed
        in that time is not waited for again."""
        patience = Deadline(FOLLOW_SECONDS if self._follows else 0)
        while True:
            seconds = min(self._driver.seconds(action.name), deadline.remaining())
            answer = session.perform(action, write_payload(self._scenario, action), Deadline(seconds))
            if answer.status != "success" or not is_stale_listing(action, answer):
                return answer
            if patience.expired:
                self._follows = False
                return answer
            time.sleep(POLL_SECONDS)

    def _do(self, action: Action, device: Device, machine: Machine, session: Session) -> Answer:
        """An action of the lab itself."""
        if action.name == "cut-power" and "unload" not in self._driver.actions:
            return Answer("unsupported", {"log": "the driver could not be started anew"})
        if action.name in LIVE:
            try:
                change(device, machine, action, Deadline(PLUG_SECONDS))
            except UnsupportedChangeError as why:
                return Answer("unsupported", {"log": str(why)})
            return Answer()
        if action.name == "fault":
            if not isinstance(device, LabDevice):
                raise LabError(f"QEMU's own device has no fault {action.arguments['name']!r}", remedy="use --device lab")
            device.arm(action.arguments["name"], action.arguments["armed"])
            return Answer()
        if not self._driver.hotplug:
            return Answer("unsupported")
        if action.name == "plug":
            self._plug(device, machine, session)
        else:
            deadline = Deadline(PLUG_SECONDS)
            device.unplug(machine, deadline)
            self._note_plugged(False)
            session.plugged(0, deadline)
        return Answer()

    def _plug(self, device: Device, machine: Machine, session: Session) -> None:
        places: list[Place] = [{"bus": f"rp{n}"} for n in range(len(self._scenario.device.controllers))]
        for pattern in EVENTS if isinstance(device, QemuDevice) else ():
            machine.qmp("trace-event-set-state", {"name": pattern, "enable": True})
        self._note_plugged(True)
        device.plug(machine, places)
        session.plugged(len(places), Deadline(PLUG_SECONDS))

    def _plugs_itself(self) -> bool:
        """Does the scenario begin without a device?"""
        return next((a.name for a in self._scenario.actions if a.name in ("plug", "unplug")), "") == "plug"

    def _note_plugged(self, present: bool) -> None:
        self._plugged = present
        for controller in self._scenario.device.controllers:
            self._evidence.record(Plugged(t=time.time(), controller=controller.id, present=present))


def _accelerator(qemu: Qemu, cache: Cache | None) -> Accelerator:
    if qemu.arch != X86_64:
        return Accelerator(TCG, f"a guest of architecture {qemu.arch} is emulated on x86-64")
    return accelerator(qemu.command, qemu.env, cache.root / "accelerator.json" if cache else None)


def _pause_and_drain_trace(machine: Machine, trace: TraceReader) -> None:
    """Stops the guest until its trace is read, since a fork's memory is gone when QEMU is."""
    with suppress(LabError):  # it has died already
        machine.qmp("stop", deadline=Deadline(STOP_SECONDS))
        trace.caught_up(Deadline(DRAIN_SECONDS))


def _loaded(session: Session) -> bool:
    """Was the driver loaded in the template? Then it waits for the device, which is plugged when it is asked to load."""
    return getattr(session, "loaded", False)


@cache
def _declarations(trace_events: Path) -> Declarations:
    """Parsed once per process, which takes a tenth of a second."""
    return Declarations.load(trace_events, EVENTS)


def _forking(toolchain: Toolchain) -> Cache | None:
    """Where templates are kept, unless the user wants every guest booted."""
    return None if os.environ.get("NVME_LAB_FORK") == "0" else toolchain.cache


def _memory_root(memory: int) -> Path | None:
    """Where the file with ``memory`` MiB of RAM is best kept: in memory, if all of it fits; else among the other run folders.

    QEMU would be killed by SIGBUS, minutes later, where a small /dev/shm has no room for a page that the guest touches.
    """
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    roomy = status.f_bavail * status.f_frsize > 2 * memory * MIB and os.access(SHARED_MEMORY, os.W_OK)
    return shared_root() if roomy else None


def _identity(
    manifest: DriverManifest, driver: Adapter, scenario: Scenario, device: DeviceKind, toolchain: Toolchain
) -> dict[str, Any]:
    """All that tells this recording from another one, but for the machine that it ran in, where there was one."""
    text = manifest.model_dump_json(exclude={"path"})
    return {
        "driver": {
            "name": manifest.name,
            "adapter": manifest.adapter,
            "path": str(manifest.path),
            "manifest": sha256(text.encode()).hexdigest(),
            "files": {name: sha256(path.read_bytes()).hexdigest() for name, path in sorted(driver.files.items())},
            "variables": dict(manifest.variables),  # the id of a seeded defect among them
            "actions": sorted(driver.actions),
            "stages": manifest.stages,
            "stops": manifest.stops,
            "unit": manifest.limits.unit,
            "known": [known.model_dump() for known in manifest.known],
        },
        "device": device,
        "scenario": scenario.to_json(),
        "seed": scenario.seed,
        "versions": toolchain.versions,
        "host": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
        "lab": lab_version(),
    }


def _qemu(qemu: Qemu) -> dict[str, str]:
    return {"version": dotted(qemu.version), "origin": qemu.origin, "sha256": qemu.sha256}
