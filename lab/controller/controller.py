"""One NVMe controller: it composes the parts, and leads them through enabling, shutdown and resets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lab.controller import admin, controller_memory, identify, io, zone_commands
from lab.controller.async_events import AsyncEvents
from lab.controller.clock import Clock, Timer
from lab.controller.commands import Table
from lab.controller.completer import Completer
from lab.controller.controller_memory import ControllerMemory
from lab.controller.core import Core
from lab.controller.dma import HostMemory
from lab.controller.doorbells import Doorbells
from lab.controller.executor import Executor
from lab.controller.faults import Faults
from lab.controller.feature_values import FeatureValues
from lab.controller.fetched import FetchedCommand, Strike
from lab.controller.host_memory import LentMemory
from lab.controller.interrupts import Interrupts, Signal
from lab.controller.inventory import Inventory
from lab.controller.keep_alive import KeepAliveTimer
from lab.controller.logs import Logs
from lab.controller.namespaces import StoredNamespace
from lab.controller.parts import Parts
from lab.controller.pci import MSIX_ENTRY, ConfigSpace
from lab.controller.queues import CQE_SIZE, SQE_SIZE, CompletionQueue, QueueMemory, Queues, SubmissionQueue
from lab.controller.record import Recorder
from lab.controller.registers import SHST_COMPLETE, SHST_PROCESSING, RegisterFile
from lab.controller.shadow_doorbells import ShadowDoorbells
from lab.controller.subsystem import Subsystem
from lab.data.events import ConfigWrite, MsixWrite, Reset
from lab.data.plan import Controller as Spec
from lab.data.plan import Fault
from lab.errors import UsageError
from lab.nvme.identify import Csi, IdentifyController, IdentifyNamespace
from lab.nvme.logs import CommandsSupported
from lab.nvme.registers import CSTS, DOORBELLS, doorbell_offset

SMALLEST_BAR = 0x4000
SHUTDOWN_SECONDS = 0.001
"""How long a shutdown takes: so long that a host which does not wait for it is seen."""
ACCESS_WIDTHS = (1, 2, 4, 8)
"""Bytes that one access to BAR0 can have."""


class ModelController:
    """The device behind one PCI function. All calls come from one thread.

    The host's side: `read` and `write` (BAR0), `config_read` and `config_write`, `reset`; ``signal`` is how it interrupts,
    ``memory`` what it reaches by DMA.
    """

    def __init__(
        self, spec: Spec, subsystem: Subsystem, memory: HostMemory, record: Recorder, clock: Clock, signal: Signal,
        faults: Iterable[Fault] = (),
    ) -> None:  # fmt: skip
        """Make a controller as after power-on; UsageError for a spec or a fault that cannot be."""
        if not 1 <= spec.io_queues <= 0xFFFE or not 0 <= spec.vectors <= 2048:
            raise UsageError(f"controller {spec.id}: {spec.io_queues} I/O queues, {spec.vectors} vectors: out of range")
        if spec.controller_memory < 0 or spec.controller_memory & spec.controller_memory - 1:
            raise UsageError(f"controller {spec.id}: {spec.controller_memory} MiB of controller memory: not a power of two")
        self.spec, self.subsystem = spec, subsystem
        subsystem.members.append(self)
        cntlid, siblings = subsystem.number(spec.id)
        identity = identify.controller(spec, cntlid, siblings, subsystem.highest_nsid(spec.id), subsystem.capacity(spec.id))
        registers = RegisterFile(
            identify.capabilities(spec), identify.version(spec), identify.ready_timeouts(spec), self,
            cmbloc=controller_memory.location(spec), cmbsz=controller_memory.size(spec),
        )  # fmt: skip
        last = doorbell_offset(spec.io_queues, completion=True, dstrd=registers.cap.DSTRD) + 4
        self.bar_size = max(SMALLEST_BAR, 1 << (last - 1).bit_length())
        config = ConfigSpace(
            spec.pci, self.bar_size, spec.vectors, spec.prefetchable_bar, self, has_msix=spec.msix,
            memory_size=spec.controller_memory * controller_memory.MIB,
        )  # fmt: skip
        self._config = config
        core = self.core = Core(spec, identity, registers, config, memory, record, clock)
        features = FeatureValues(core)
        self.logs = Logs(core, features)
        self.interrupts = Interrupts(core, signal)
        self.completer = Completer(core, self.interrupts, self.logs)
        events = AsyncEvents(core, features, self.logs, self.completer)
        self.doorbells = Doorbells(core, self.completer, events)
        self.inventory = Inventory(core, self, subsystem, self.logs, events, self.interrupts)
        self.parts = Parts(
            core=core,
            features=features,
            logs=self.logs,
            interrupts=self.interrupts,
            completer=self.completer,
            events=events,
            shadows=ShadowDoorbells(core, self.completer, self.doorbells),
            inventory=self.inventory,
            keep_alive=KeepAliveTimer(core, self.logs),
            lent_memory=LentMemory(core),
            controller_memory=ControllerMemory(core),
            effects=_all_effects(core),
        )
        self.faults = Faults(self, faults)
        self.executor = Executor(self.parts, self.doorbells, self.faults)
        core.attached.update(
            {ns.nsid: ns for ns in subsystem.namespaces(self).values() if ns.spec.attached and spec.namespace(ns.nsid)}
        )
        self.gone = False
        """Removed by a fault: every register reads all ones."""
        self.config_gone = False
        """And so does the configuration space."""
        self.was_shut_down = True
        """The host has shut it down, or never started it."""
        self.stuck_ready = False
        self._hidden = False  # registers read all ones, for a while
        self._plain = False  # the function claims accesses to BAR0, and nothing is odd about them
        self._timers: dict[str, Timer] = {}  # of enabling, disabling and shutdown

    # -- what others read -------------------------------------------------------------------------------------------

    @property
    def identity(self) -> IdentifyController:
        """Its Identify Controller data."""
        return self.core.identity

    @property
    def registers(self) -> RegisterFile:
        """The registers behind BAR0."""
        return self.core.registers

    @property
    def config(self) -> ConfigSpace:
        """The PCI configuration space."""
        return self.core.config

    @property
    def memory(self) -> HostMemory:
        """What it reaches by DMA."""
        return self.core.memory

    @property
    def record(self) -> Recorder:
        """The record that all accesses are written to."""
        return self.core.record

    @property
    def own_memory(self) -> memoryview:
        """The controller memory buffer, which BAR2 shows; no byte where there is none."""
        return self.parts.controller_memory.content

    @property
    def queues(self) -> Queues:
        """The submission and completion queues, the admin queues included."""
        return self.core.queues

    @property
    def attached(self) -> dict[int, StoredNamespace]:
        """Its active namespaces by id."""
        return self.core.attached

    def identify_namespace(self, nsid: int) -> IdentifyNamespace:
        """Return Identify Namespace of an allocated namespace; KeyError if there is none."""
        return self.inventory.identify_namespace(nsid)

    def remark(self, rule: str, **values: Any) -> None:
        """Record that the host broke a rule."""
        self.core.remark(rule, **values)

    # -- the host's side --------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Return what the host reads: ``size`` bytes (1, 2, 4 or 8) of BAR0; ValueError for an access that cannot be."""
        self._check_access(offset, size)
        value: int | None
        if self.gone or self._hidden or not self._reachable(offset, size):
            value = None
        elif offset < DOORBELLS:
            value = self.core.registers.read(offset, size)
        else:
            value = 0
            qid, completion = self.executor.doorbell_queue(offset)
            self.core.remark("doorbell-read", offset=offset, size=size, qid=qid, completion=completion)
        if value is not None and self.faults.at_accesses:
            value = self._struck_access(offset, size, value, writing=False)
        if value is None:
            value = (1 << 8 * size) - 1
        self.core.record.register_read(offset, size, value)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Take what the host writes: ``size`` bytes (1, 2, 4 or 8) of BAR0; ValueError for an access that cannot be.

        Commands that a doorbell submits are executed, and complete unless they take time, before this returns.
        """
        if size == 4 and offset >= DOORBELLS and self._plain and not self.faults.at_accesses:
            self.executor.doorbell(offset, 4, value)
            return
        self._check_access(offset, size)
        if self.gone or self._hidden or not self._reachable(offset, size):
            self._record_write(offset, size, value)
            return
        if self.faults.at_accesses:
            struck = self._struck_access(offset, size, value, writing=True)
            if struck is None or self.gone:
                self._record_write(offset, size, value)
                return
            value = struck
        if offset >= DOORBELLS:
            self.executor.doorbell(offset, size, value)
        else:
            self.core.record.register_write(offset, size, value)
            self.core.registers.write(offset, size, value)

    def config_read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of the configuration space."""
        if self.config_gone:
            return b"\xff" * size
        self.core.config.interrupt_status = self.interrupts.intx_status
        return self.core.config.read(offset, size)

    def config_write(self, offset: int, data: bytes) -> None:
        """Write bytes of the configuration space."""
        value = int.from_bytes(data, "little")
        core = self.core
        core.record.event(ConfigWrite(t=core.clock.now(), controller=self.spec.id, offset=offset, size=len(data), value=value))
        if not self.config_gone:
            core.config.write(offset, data)
            core.registers.msix = core.config.msix
            self._note_plain()

    def table_write(self, offset: int, size: int, value: int) -> None:
        """Record a write of the MSI-X table, which the sender of the interrupts keeps."""
        if offset < self._config.msix_vectors * MSIX_ENTRY:
            event = MsixWrite(t=self.core.clock.now(), controller=self.spec.id, offset=offset, size=size, value=value)
            self.core.record.event(event)

    def reset(self, cause: str) -> None:
        """Reset from outside: flr, bus, power or unplug. Everything is as after power-on."""
        self._stop(cause)
        self.core.registers.forget()
        self.parts.controller_memory.place()
        self.core.config.reset()
        self._note_plain()
        self.core.registers.msix = False
        self.stuck_ready = False
        self.was_shut_down = True
        self.logs.power_cycles += cause == "power"

    def _note_plain(self) -> None:
        """Keep whether accesses to BAR0 are answered as usual: every doorbell asks for it."""
        self._plain = self._config.claims_memory and not self.gone and not self._hidden

    def _check_access(self, offset: int, size: int) -> None:
        if size not in ACCESS_WIDTHS or offset < 0:
            raise ValueError(f"no bus makes an access of {size} bytes at {offset:#x} of BAR0: it has 1, 2, 4 or 8 bytes")

    def _reachable(self, offset: int, size: int) -> bool:
        """Return whether the function claims accesses to its memory space; remark where it does not. PCIe Base, 7.5.1.1.3."""
        if self._config.claims_memory:
            return True
        rule = "access-while-asleep" if self._config.asleep else "access-without-memory-space"
        self.core.remark(rule, offset=offset, size=size)
        return False

    def _struck_access(self, offset: int, size: int, value: int, *, writing: bool) -> int | None:
        for strike in self.faults.at_access(offset, size, value, writing=writing):
            changed = strike.register_value(offset, size, value, writing)
            if changed is None:
                return None
            value = changed
        return None if self.gone else value

    def _record_write(self, offset: int, size: int, value: int) -> None:
        """Record a write that has no effect."""
        if offset < DOORBELLS:
            self.core.record.register_write(offset, size, value)
        else:
            self.core.record.doorbell(offset, size, value, *self.executor.doorbell_queue(offset))

    # -- what the registers ask for ---------------------------------------------------------------------------------

    def ignores_enable(self) -> bool:
        """Return whether a fault lets CC.EN=1 have no effect."""
        return int(self.core.registers.aqa) == 0 and bool(self.faults.at_enable_write())

    def enable(self) -> None:
        """Begin to become ready: CC.EN=1 with valid settings."""
        self.core.page_size = self.core.registers.page_size
        self.was_shut_down = False
        allowed = [strike.enable() for strike in self.faults.at_enable()]  # each has its effect, whatever the others say
        if all(allowed):
            self._become_ready()

    def ready_in(self, seconds: float) -> None:
        """Become ready in so many seconds."""
        self._after("ready", seconds, self._become_ready)

    def _become_ready(self) -> None:
        core, registers, aqa = self.core, self.core.registers, self.core.registers.aqa
        if not registers.cc.EN:
            return
        memory = QueueMemory(aqa.ACQS + 1, CQE_SIZE, (int(registers.acq),), core.page_size)
        core.check_fresh(0, memory)
        own = self.parts.controller_memory
        own.allows(0, memory, completion=True)  # an admin queue that may not lie there is remarked on, and works
        cq = core.queues.completion[0] = CompletionQueue(0, memory, vector=0)
        memory = QueueMemory(aqa.ASQS + 1, SQE_SIZE, (int(registers.asq),), core.page_size)
        own.allows(0, memory, completion=False)
        core.queues.submission[0] = SubmissionQueue(0, memory, cq)
        registers.csts = registers.csts.but(RDY=1)
        core.running = not registers.csts.CFS and not registers.csts.SHST

    def disable(self) -> None:
        """Perform the Controller Level Reset of CC.EN=0."""
        was_ready = self.core.registers.csts.RDY
        seconds = max((strike.disable_seconds() for strike in self.faults.at_disable()), default=0.0)
        self._stop("cc-en")
        if was_ready and (self.stuck_ready or seconds):
            self.core.registers.csts = CSTS.of(RDY=1)
            if not self.stuck_ready:
                self._after("disable", seconds, self.core.drop_ready)

    def shut_down(self) -> None:
        """Begin the shutdown that CC.SHN asks for: nothing is executed any more. Base 2.0, 3.6.1."""
        registers = self.core.registers
        self.core.running = False
        registers.csts = registers.csts.but(SHST=SHST_PROCESSING)
        seconds = max((strike.shutdown_seconds() for strike in self.faults.at_shutdown()), default=SHUTDOWN_SECONDS)
        self._after("shutdown", seconds, self._become_shut)

    def _become_shut(self) -> None:
        """Complete the shutdown: what is in the write cache has reached the medium."""
        for ns in self.core.attached.values():
            ns.cache.flush()
        self.parts.lent_memory.release()
        self.core.registers.csts = self.core.registers.csts.but(SHST=SHST_COMPLETE)
        self.was_shut_down = True
        for ns in self.core.attached.values():
            if ns.zones is not None and all(other.was_shut_down for other in self.inventory.family):
                ns.zones.restart()

    def reset_subsystem(self) -> None:
        """Perform the NVM Subsystem Reset that NSSR asks for."""
        self.subsystem.reset(self)

    def subsystem_was_reset(self) -> None:
        """Reset as a part of an NVM Subsystem Reset."""
        self._stop("bus")
        self.core.registers.forget()
        self.parts.controller_memory.place()
        self.core.registers.nssro = 1

    def masks_changed(self) -> None:
        """Signal what INTMS held back."""
        self.interrupts.resignal()

    def place_memory(self) -> bool:
        """Put the controller memory buffer where CMBMSC says; return whether it can be there."""
        return self.parts.controller_memory.place()

    def function_reset(self) -> None:
        """Perform the Function Level Reset that the configuration space asks for."""
        self.reset("flr")

    def interrupts_changed(self) -> None:
        """Signal what waits, by the kind of interrupt that is switched on now."""
        if self.core.config.msix and self.core.config.msi:
            self.core.remark("msi-and-msix")
        self.interrupts.resignal()

    def _stop(self, cause: str) -> None:
        """Forget what a Controller Level Reset ends."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.core.running = False
        parts = self.parts
        parts.lent_memory.forget()
        for part in (parts.completer, parts.shadows, parts.events, parts.features, parts.interrupts, parts.keep_alive):
            part.forget()
        self.core.queues.clear()
        self.core.registers.reset()
        self.core.registers.io_queues_exist = False
        self.core.record.event(Reset(t=self.core.clock.now(), controller=self.spec.id, cause=cause))

    def _after(self, name: str, seconds: float, action: Any) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
        self._timers[name] = self.core.clock.after(seconds, action)

    # -- what faults do to it ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work off what was submitted."""
        self.executor.run()

    def resume(self, request: FetchedCommand, strikes: tuple[Strike, ...]) -> None:
        """Execute a command that was kept, with the strikes that are left."""
        self.executor.resume(request, strikes)

    def remove(self, *, config_space: bool) -> None:
        """Take the device away; ``config_space``: its configuration space too."""
        self.gone, self.config_gone = True, config_space
        self._note_plain()

    def restore(self) -> None:
        """Bring a removed device back, as after power-on."""
        if self.gone:
            self.gone = self.config_gone = False
            self.reset("power")

    def hide_registers(self, seconds: float) -> None:
        """Answer every register access with all ones for so long."""

        def show() -> None:
            self._hidden = False
            self._note_plain()

        self._hidden = True
        self._note_plain()
        self.core.clock.after(seconds, show)

    def upgrade(self, cap: Mapping[str, int], identify: Mapping[str, Any]) -> None:
        """Have other fields of CAP and of Identify Controller from now on, as after an update of the firmware."""
        core = self.core
        core.registers.cap, core.identity = core.registers.cap.but(**cap), core.identity.but(**identify)
        core.max_transfer = core.identity.max_transfer(core.registers.cap.MPSMIN) or 0
        core.remark("new-firmware", cap=dict(cap), identify=dict(identify))

    # -- a member of its subsystem ----------------------------------------------------------------------------------

    def attach(self, ns: StoredNamespace) -> None:
        """Make a namespace active."""
        self.inventory.attach(ns)

    def detach(self, nsid: int, *, report: bool = True) -> None:
        """Make a namespace inactive."""
        self.inventory.detach(nsid, report=report)

    def report_change(self, nsid: int) -> None:
        """Report a changed namespace to the host."""
        self.inventory.report_change(nsid)

    def count_unsafe_shutdown(self) -> None:
        """Count a loss of power without a shutdown."""
        self.logs.unsafe_shutdowns += 1


def _all_effects(core: Core) -> dict[int, bytes]:
    """Return Commands Supported and Effects of each command set that the controller has."""
    acs, nvm = _effects(admin.COMMANDS, core), _effects(io.COMMANDS, core)
    found: dict[int, bytes] = {Csi.NVM: CommandsSupported.of(ACS=acs, IOCS=nvm)}
    if zone_commands.is_offered(core):
        zoned = [zone_commands.COMMANDS[n].effects if n in zone_commands.COMMANDS else nvm[n] for n in range(256)]
        found[Csi.ZONED] = CommandsSupported.of(ACS=acs, IOCS=zoned)
    return found


def _effects(table: Table, core: Core) -> list[int]:
    return [table[n].effects if n in table and table[n].supported(core) else 0 for n in range(256)]
