"""What the parts of one controller share: its registers, configuration space, queues, memory, record and clock.

The core is passive: it holds state, and no part of the controller is known to it. `lab.controller.controller` composes.
"""

from __future__ import annotations

from typing import Any

from lab.controller.clock import Clock
from lab.controller.dma import DmaRefusedError, HostMemory
from lab.controller.namespaces import StoredNamespace
from lab.controller.pci import ConfigSpace
from lab.controller.queues import CQE_SIZE, QueueMemory, Queues
from lab.controller.record import Recorder
from lab.controller.registers import RegisterFile
from lab.data.events import Remark
from lab.data.plan import Controller as Spec
from lab.nvme.identify import IdentifyController

ADMIN_TRANSFER_LIMIT = 16 << 20
"""Bytes that an admin command moves at most where MDTS sets no limit: nothing is allocated by a field's word."""


class Core:
    """The state of one controller. All calls come from one thread."""

    def __init__(
        self,
        spec: Spec,
        identity: IdentifyController,
        registers: RegisterFile,
        config: ConfigSpace,
        memory: HostMemory,
        record: Recorder,
        clock: Clock,
    ) -> None:
        """Hold what the controller was made of."""
        self.spec, self.identity = spec, identity
        self.registers, self.config = registers, config
        self.memory, self.record, self.clock = memory, record, clock
        self.queues = Queues()
        self.attached: dict[int, StoredNamespace] = {}
        """The active namespaces by id."""
        self.max_transfer = identity.max_transfer(registers.cap.MPSMIN) or 0
        """Bytes that a command may move; 0 for no limit."""
        self.running = False
        """Ready, not failed and not shut down: doorbells have an effect."""
        self.composite_status = self.last_conditions = 0
        """Composite Controller Status in band, and the conditions at its last update. Management Interface 1.2, 5.6."""
        self.page_size = 4096
        """Bytes of a memory page, as CC.MPS was when the controller was enabled."""

    # -- the record -------------------------------------------------------------------------------------------------

    def remark(self, rule: str, **values: Any) -> None:
        """Record that the host broke a rule."""
        self.record.event(Remark(t=self.clock.now(), controller=self.spec.id, name=rule, detail=values))

    # -- memory -----------------------------------------------------------------------------------------------------

    def dma_read(self, address: int, length: int) -> bytes:
        """Read host memory; DmaRefusedError also without Bus Master Enable."""
        if not self.config.masters_bus:
            raise DmaRefusedError(address, length, self.config.why_no_dma)
        return self.memory.read(address, length)

    def dma_write(self, address: int, data: bytes) -> None:
        """Write host memory; DmaRefusedError also without Bus Master Enable."""
        if not self.config.masters_bus:
            raise DmaRefusedError(address, len(data), self.config.why_no_dma)
        self.memory.write(address, data)

    def check_fresh(self, cqid: int, memory: QueueMemory) -> None:
        """Remark on phase tags that are set in the memory of a new completion queue. Base 2.0, 3.3.3.2: the host clears it."""
        try:
            phases = b"".join([self.dma_read(address, length)[14::CQE_SIZE] for address, length in memory.pieces()])
        except DmaRefusedError as refused:
            self.remark("cq-memory", cqid=cqid, address=refused.address, length=refused.length)
            return
        if dirty := [slot for slot, phase in enumerate(phases) if phase & 1]:
            self.remark("cq-not-zeroed", cqid=cqid, slots=dirty[:8], count=len(dirty))

    # -- the end of work --------------------------------------------------------------------------------------------

    def fail(self, why: str) -> None:
        """Set CSTS.CFS: nothing is executed until a reset. Base 2.0, 3.1.3.6."""
        self.remark("controller-fatal-status", why=why)
        self.registers.csts = self.registers.csts.but(CFS=1)
        self.running = False

    def drop_ready(self) -> None:
        """Set CSTS.RDY to 0; nothing is executed until the controller is enabled."""
        self.registers.csts = self.registers.csts.but(RDY=0)
        self.running = False
