"""Manifest × scenario × device → evidence: the one way to record. It asks and writes down; it never judges.

What ends a recording, and how its end marker reads:

- all actions asked: ``complete``, whatever the driver answered;
- the guest's panic message once the driver was in place: ``panic``, at once, unless what the guest was made of is damaged;
- anything else that went wrong, QEMU's death and a panic before the driver was loaded included: ``lab-error``;
- Ctrl-C, or the death of the lab: no end marker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.data.coverage import RecordingCoverage, write_coverage
from lab.data.events import Panicked
from lab.data.evidence import EvidenceWriter, Outcome
from lab.data.manifest import DriverManifest
from lab.data.plan import DeviceKind, Scenario
from lab.drivers import adapter
from lab.errors import GuestPanicError, LabError
from lab.guest.machine import Machine
from lab.recording import guest
from lab.recording.bare_metal import BareMetalRecording, MachineAdapter, on_machine
from lab.recording.contents import with_contents
from lab.recording.coverage import NO_MACHINE_CODE, GuestCoverage
from lab.recording.identity import identify, in_guest
from lab.recording.in_process import InProcessAdapter, InProcessRecording
from lab.recording.recording import Recording
from lab.recording.stopping import Judge, Stops
from lab.recording.turns import turn
from lab.toolchain import Toolchain


def record(
    manifest: DriverManifest,
    scenario: Scenario,
    device: DeviceKind,
    folder: Path,
    *,
    toolchain: Toolchain,
    shell: bool = False,
    alone: bool = False,
    visit: Callable[[Machine], None] | None = None,
    coverage: bool = False,
    stop_at: str = "",
    stop_when: Judge | None = None,
    sealed: bool = True,
    made_of: Callable[[Sequence[Path]], None] = lambda _: None,
    loaded: Callable[[], None] = lambda: None,
) -> Path:
    """Record one scenario on one driver and device into a new evidence folder, and return the folder.

    The lab's failures end up in the end marker. What is raised instead: UsageError for a manifest that cannot be used, before
    anything is written, and LabError where the evidence itself cannot be written.

    ``alone`` waits until no other recording of this user runs on this machine, and keeps others from starting meanwhile.
    ``coverage`` writes down which code of the driver was executed. ``stop_at`` (one of `lab.recording.stopping.EVENTS`, or
    what ``stop_when`` looks for) stops a guest there, and writes down where its processors were.
    Without ``sealed`` no digests are taken of what was recorded, for evidence that nobody keeps.
    ``shell`` marks the evidence of a guest that a person sat at. ``visit`` is called with the running guest when all actions
    are done. ``loaded`` is called when the driver has answered a load. ``made_of`` is told, at the end, what of the cache the
    guest was made of (for `lab.toolchain.cache.Cache.heal`).
    """
    driver = adapter(manifest, toolchain)
    on_real_machine = isinstance(driver, MachineAdapter)
    scenario = on_machine(manifest, scenario) if on_real_machine else with_contents(manifest, scenario)
    identity = identify(manifest, driver, scenario, device, toolchain, shell=shell)
    recording: Recording
    covering: GuestCoverage | None = None
    stops: Stops | None = None
    if isinstance(driver, MachineAdapter):
        evidence = EvidenceWriter(folder, identity, sealed=sealed)
        recording = BareMetalRecording(driver, manifest, scenario, evidence, device)
    elif isinstance(driver, InProcessAdapter):
        evidence = EvidenceWriter(folder, identity, sealed=sealed)
        recording = InProcessRecording(driver, manifest, scenario, evidence, device)
    else:
        qemu = toolchain.qemu_for(manifest.boot.arch)
        if qemu is None:
            raise LabError(f"no QEMU for {manifest.boot.arch} was prepared", remedy="prepare what lab.drivers.wants names")
        chosen = guest.choose_accelerator(qemu, toolchain.cache)
        covering = GuestCoverage(manifest, driver, chosen, qemu) if coverage or stop_at else None
        evidence = EvidenceWriter(folder, in_guest(identity, qemu, chosen), sealed=sealed)
        stops = Stops(stop_at, covering, time.time, stop_when) if stop_at and covering else None
        recording = guest.GuestRecording(
            driver,
            manifest,
            scenario,
            evidence,
            device,
            qemu,
            chosen,
            toolchain.cache,
            guest.template_cache(toolchain),
            visit,
            covering,
            stops,
        )
    outcome: Outcome = "complete"
    reason = ""
    try:
        with turn(alone=alone):
            evidence.begin()
            with recording:
                recording.run(loaded)
    except GuestPanicError as panic:
        outcome, reason = "panic", panic.what
        if recording.driver_in_place:
            evidence.record(Panicked(t=recording.now(), text=recording.last_words or panic.what))
        else:
            outcome, reason = "lab-error", f"before the driver was loaded: {panic}"
    except LabError as error:
        outcome, reason = "lab-error", str(error)
    if (outcome != "complete" or recording.timed_out) and (damage := recording.damage()):
        what = f"the cache was damaged: {'; '.join(damage)}"
        outcome, reason = "lab-error", f"{what} (what came of it: {reason or 'a time-out'})"
    made_of(recording.made_of)
    if stops:
        stops.write(folder, evidence_console(folder) if outcome == "panic" else "")
    if covering and coverage:
        covering.write(folder)
    elif coverage:
        write_coverage(folder, RecordingCoverage(reason=NO_MACHINE_CODE))
    evidence.close(outcome, reason, recording.machine_report, recording.build)
    return folder


def evidence_console(folder: Path) -> str:
    """Return what a guest has printed; "" where nothing was kept."""
    try:
        return (folder / "console.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
