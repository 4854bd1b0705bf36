"""One NVMe controller: its parts, and what concerns all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.controller import identify
from lab.controller.clock import Clock, Timer
from lab.controller.events import AsyncEvents
from lab.controller.executor import Executor
from lab.controller.faults import Faults
from lab.controller.features import Features
from lab.controller.interrupts import Interrupts, Signal
from lab.controller.logs import Logs
from lab.controller.memory import DmaRefused, HostMemory
from lab.controller.namespaces import Namespace
from lab.controller.pci import ConfigSpace
from lab.controller.queues import CQE_SIZE, SQE_SIZE, CompletionQueue, Queues, Ring, SubmissionQueue
from lab.controller.record import Recorder
from lab.controller.registers import SHST_COMPLETE, SHST_PROCESSING, RegisterFile
from lab.controller.request import Failed
from lab.controller.subsystem import Subsystem
from lab.data.events import ConfigWrite, Remark, Reset
from lab.data.plan import Controller as Spec
from lab.data.plan import Fault
from lab.errors import UsageError
from lab.nvme.identify import IdentifyController, IdentifyNamespace
from lab.nvme.registers import CSTS, DOORBELLS, doorbell_offset
from lab.nvme.status import Status

SMALLEST_BAR = 0x4000
SHUTDOWN_SECONDS = 0.001
"""How long a shutdown takes: so long that a host which does not wait for it is seen."""


class Controller:
    """The device behind one PCI function. All calls come from one thread.

    The face towards the host: `read` and `write` (BAR0), `config_read` and `config_write`, `reset`; `signal` is how it
    interrupts, ``memory`` what it reaches by DMA.
    """

    def __init__(
        self, spec: Spec, subsystem: Subsystem, memory: HostMemory, record: Recorder, clock: Clock, signal: Signal,
        faults: Iterable[Fault] = (),
    ) -> None:  # fmt: skip
        if not 1 <= spec.io_queues <= 0xFFFE or not 0 <= spec.vectors <= 2048:
            raise UsageError(f"controller {spec.id}: {spec.io_queues} I/O queues, {spec.vectors} vectors: out of range")
        self.spec, self.subsystem, self.memory, self.record, self.clock = spec, subsystem, memory, record, clock
        subsystem.controllers.append(self)
        cntlid, siblings = subsystem.number(spec.id)
        self.identity: IdentifyController = identify.controller(spec, cntlid, siblings, subsystem.highest_nsid(spec.id))
        self.registers = RegisterFile(identify.capabilities(spec), identify.version(spec), self)
        self.max_transfer = self.identity.max_transfer(self.registers.cap.MPSMIN) or 0
        """Bytes that a command may move; 0 for no limit."""
        last = doorbell_offset(spec.io_queues, completion=True, dstrd=self.registers.cap.DSTRD) + 4
        self.bar_size = max(SMALLEST_BAR, 1 << (last - 1).bit_length())
        self.config = ConfigSpace(spec.pci, self.bar_size, spec.vectors, spec.prefetchable_bar, self)
        self.queues = Queues()
        self.features = Features(self)
        self.logs = Logs(self)
        self.interrupts = Interrupts(self.config, self.registers, record, signal)
        self.executor = Executor(self)
        self.events = AsyncEvents(self)
        self.faults = Faults(self, faults)
        self.attached: dict[int, Namespace] = {
            ns.nsid: ns for ns in subsystem.namespaces(self).values() if ns.spec.attached and spec.namespace(ns.nsid)
        }
        """The active namespaces."""
        self.running = False
        """Ready and not failed: doorbells have an effect."""
        self.gone = False
        """Removed by a fault: every register reads all ones."""
        self.config_gone = False
        """And so does the configuration space."""
        self.shut = True
        """The host has shut it down, or never started it."""
        self.stuck_ready = False
        self.page_size = 4096
        self.disabling = False
        """CC.EN is 0, and CSTS.RDY is still 1."""
        self._ready_timer: Timer | None = None
        self._disable_timer: Timer | None = None
        self._shutdown_timer: Timer | None = None
        self.logs.power_cycles = 1

    # -- towards the host -------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """The host reads ``size`` bytes of BAR0."""
        if self.gone:
            value = (1 << 8 * size) - 1
        elif offset < DOORBELLS:
            value = self.registers.read(offset, size)
        else:
            value = 0
            self.remark("doorbell-read", offset=offset, size=size)
        self.record.register_read(offset, size, value)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """The host writes ``size`` bytes of BAR0."""
        if self.gone:
            self._record_write(offset, size, value)
        elif offset >= DOORBELLS:
            self.executor.doorbell(offset, size, value)
        else:
            self.record.register_write(offset, size, value)
            self.registers.write(offset, size, value)

    def config_read(self, offset: int, size: int) -> bytes:
        return b"\xff" * size if self.config_gone else self.config.read(offset, size)

    def config_write(self, offset: int, data: bytes) -> None:
        value = int.from_bytes(data, "little")
        self.record.event(ConfigWrite(t=self.clock.now(), controller=self.spec.id, offset=offset, size=len(data), value=value))
        if not self.config_gone:
            self.config.write(offset, data)
            self.registers.msix = self.config.msix

    def reset(self, cause: str) -> None:
        """A reset from outside: flr, bus, power or unplug. Everything is as after power-on."""
        self._stop(cause)
        self.registers.forget()
        self.config.reset()
        self.registers.msix = False
        self.stuck_ready = False
        self.shut = True
        self.logs.power_cycles += cause == "power"

    def _record_write(self, offset: int, size: int, value: int) -> None:
        """A write that has no effect."""
        if offset < DOORBELLS:
            self.record.register_write(offset, size, value)
        else:
            self.record.doorbell(offset, size, value, *self.executor.doorbell_queue(offset))

    # -- memory -----------------------------------------------------------------------------------------------------

    def dma_read(self, address: int, length: int) -> bytes:
        """Reads host memory; DmaRefused also without Bus Master Enable."""
        if not self.config.bus_master:
            raise DmaRefused(address, length, "Bus Master Enable is 0")
        return self.memory.read(address, length)

    def dma_write(self, address: int, data: bytes) -> None:
        """Writes host memory; DmaRefused also without Bus Master Enable."""
        if not self.config.bus_master:
            raise DmaRefused(address, len(data), "Bus Master Enable is 0")
        self.memory.write(address, data)

    def check_fresh(self, cqid: int, ring: Ring) -> None:
        """Remarks on phase tags that are set in the memory of a new completion queue. Base 2.0, 3.3.1: the host clears it."""
        try:
            phases = b"".join([self.dma_read(address, length)[14::CQE_SIZE] for address, length in ring.pieces()])
        except DmaRefused as refused:
            self.remark("cq-memory", cqid=cqid, address=refused.address, length=refused.length)
            return
        if dirty := [slot for slot, phase in enumerate(phases) if phase & 1]:
            self.remark("cq-not-zeroed", cqid=cqid, slots=dirty[:8], count=len(dirty))

    # -- what the registers ask for ---------------------------------------------------------------------------------

    def remark(self, rule: str, **values: Any) -> None:
        """Records that a rule was broken."""
        self.record.event(Remark(t=self.clock.now(), controller=self.spec.id, name=rule, detail=values))

    def enable(self) -> None:
        """CC.EN=1 with valid settings."""
        self.page_size = self.registers.page_size
        self.shut = False
        allowed = [strike.enable() for strike in self.faults.at_enable()]  # each has its effect, whatever the others say
        if all(allowed):
            self._become_ready()

    def ready_in(self, seconds: float) -> None:
        """CSTS.RDY will be 1 by then."""
        self._ready_timer = self.clock.after(seconds, self._become_ready)

    def _become_ready(self) -> None:
        registers, aqa = self.registers, self.registers.aqa
        if not registers.cc.EN:
            return
        ring = Ring(aqa.ACQS + 1, CQE_SIZE, (int(registers.acq),), self.page_size)
        self.check_fresh(0, ring)
        cq = self.queues.completion[0] = CompletionQueue(0, ring, vector=0)
        ring = Ring(aqa.ASQS + 1, SQE_SIZE, (int(registers.asq),), self.page_size)
        self.queues.submission[0] = SubmissionQueue(0, ring, cq)
        registers.csts = registers.csts.but(RDY=1)
        self.running = not registers.csts.CFS

    def disable(self) -> None:
        """CC.EN=0: a Controller Level Reset."""
        was_ready = self.registers.csts.RDY
        seconds = self.faults.disable_seconds() if was_ready else 0.0
        self._stop("cc-en")
        if not was_ready or not (self.stuck_ready or seconds):
            return
        self.registers.csts = CSTS.of(RDY=1)
        if not self.stuck_ready:
            self.disabling = True
            self._disable_timer = self.clock.after(seconds, self._become_disabled)

    def _become_disabled(self) -> None:
        self.disabling = False
        self.drop_ready()

    def shut_down(self) -> None:
        """CC.SHN: what is in the write cache reaches the medium, and the controller goes silent. Base 2.0, 3.6.1"""
        self.running = False
        self.registers.csts = self.registers.csts.but(SHST=SHST_PROCESSING)
        seconds = self.faults.shutdown_seconds() or SHUTDOWN_SECONDS
        self._shutdown_timer = self.clock.after(seconds, self._become_shut)

    def _become_shut(self) -> None:
        for ns in self.attached.values():
            ns.cache.flush()
        self.registers.csts = self.registers.csts.but(SHST=SHST_COMPLETE)
        self.shut = True

    def reset_subsystem(self) -> None:
        self.subsystem.reset(self)

    def subsystem_was_reset(self) -> None:
        """An NVM Subsystem Reset reached this controller."""
        self._stop("bus")
        self.registers.forget()
        self.registers.nssro = 1

    def masks_changed(self) -> None:
        self.interrupts.again()

    def function_reset(self) -> None:
        self.reset("flr")

    def interrupts_changed(self) -> None:
        self.interrupts.again()

    def fail(self, why: str) -> None:
        """CSTS.CFS=1: nothing is executed until a reset. Base 2.0, 3.1.3.6."""
        self.remark("controller-fatal-status", why=why)
        self.registers.csts = self.registers.csts.but(CFS=1)
        self.running = False

    def drop_ready(self) -> None:
        """CSTS.RDY=0 without the host's doing."""
        self.registers.csts = self.registers.csts.but(RDY=0)
        self.running = False

    def _stop(self, cause: str) -> None:
        for timer in (self._ready_timer, self._disable_timer, self._shutdown_timer):
            if timer is not None:
                timer.cancel()
        self.disabling = False
        self.running = False
        self.executor.forget()
        self.queues.clear()
        self.events.forget()
        self.features.forget()
        self.interrupts.forget()
        self.registers.reset()
        self.registers.io_queues_exist = False
        self.record.event(Reset(t=self.clock.now(), controller=self.spec.id, cause=cause))

    # -- namespaces -------------------------------------------------------------------------------------------------

    @property
    def allocated(self) -> dict[int, Namespace]:
        """The namespaces that there are for it, active or not."""
        return self.subsystem.namespaces(self)

    def namespace(self, nsid: int) -> Namespace:
        """An active namespace; Failed with the status of Base 2.0, 3.2.1.5? otherwise."""
        found = self.attached.get(nsid)
        if found is None:
            self.check_nsid(nsid)
            raise Failed(Status.INVALID_FIELD)
        return found

    def check_nsid(self, nsid: int) -> None:
        """Failed if a namespace id is none: 0, broadcast or above NN."""
        if not 0 < nsid <= self.identity.NN:
            self.remark("nsid-invalid", nsid=nsid, NN=self.identity.NN)
            raise Failed(Status.INVALID_NAMESPACE)

    def identify_namespace(self, nsid: int) -> IdentifyNamespace:
        return identify.namespace(self.spec, self.allocated[nsid])

    def common_namespace(self) -> IdentifyNamespace:
        """What all namespaces have in common: Identify with NSID FFFFFFFFh, where namespaces can be managed."""
        if not self.identity.OACS.NAMESPACE_MANAGEMENT or not self.allocated:
            raise Failed(Status.INVALID_NAMESPACE)
        any_one = identify.namespace(self.spec, next(iter(self.allocated.values())))
        return any_one.but(NSZE=0, NCAP=0, NUSE=0, NVMCAP=0, FLBAS=0, NMIC=0, NGUID=b"", EUI64=b"")

    def attach(self, ns: Namespace) -> None:
        """The namespace becomes active."""
        self.attached[ns.nsid] = ns
        self.tell_changed(ns.nsid)

    def detach(self, nsid: int, *, tell: bool = True) -> None:
        """The namespace becomes inactive; what is in flight to it goes on."""
        del self.attached[nsid]
        if tell:
            self.tell_changed(nsid)

    def tell_changed(self, nsid: int) -> None:
        """The host is to hear of it by the event and log page 04h."""
        self.logs.changed_namespaces.add(nsid)
        self.events.namespaces_changed()
        self.interrupts.flush()

    def warn(self, critical_warning: int) -> None:
        """SMART's critical warning becomes this; new bits that feature 0Bh asks for raise their event."""
        new = critical_warning & ~self.logs.warning
        self.logs.warning = critical_warning
        self.tell_warnings(new)

    def tell_warnings(self, new: int) -> None:
        """Critical warnings came up; those that feature 0Bh asks for raise their event."""
        if asked := new & self.features.async_event_config.SMART:
            self.events.smart(asked)
            self.interrupts.flush()
