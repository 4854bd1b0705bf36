"""Legal ways to bring up a controller and its admin queue, and to use rings in general."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, repeat

from lab.nvme.fields import Register
from lab.nvme.registers import ACQ, AQA, ASQ, CC, INTMS
from lab.reference import pci
from lab.reference.controller import CAP_CSS_NVM, CSS_NVM, Controller
from lab.reference.errors import DriverError
from lab.reference.execution import Execution
from lab.reference.queue_pair import CIDS, QueuePair
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.ring import CQE_SIZE, SQE_SIZE, SubmissionRing
from lab.variants.variant import local, variant

BASIC = ("admin-queue/basic",)
WRAPS = ("admin-queue/wraps",)
SHST_PROCESSING = 0b01
CIDS_ALLOWED = 'Base 2.0, 3.3.3.1 "Submission Queue Entry": a CID is unique among the commands in flight of its queue'


@variant(
    "admin-queue/two-steps",
    allowed='Base 2.0, 3.5.1 "Memory-based Controller Initialization": the settings of CC are a step before EN=1',
    scenarios=BASIC,
)
class TwoSteps(Registers):
    """Writes the settings of CC with EN=0, and EN=1 by a second write."""

    def write(self, value: Register) -> None:
        """Write the register; CC with EN=1 first with EN=0."""
        if isinstance(value, CC) and value.EN and not value.SHN and not self.read(CC).EN:
            super().write(value.but(EN=0))
        super().write(value)


@variant(
    "admin-queue/two-entries",
    allowed='Base 2.0, 3.1.3.8 "Offset 24h: AQA": the smallest size of an admin queue is two entries',
    scenarios=BASIC,
    settings={"admin_depth": 2},
)
class TwoEntries(Controller):
    """Has admin queues of two entries, so that one command is outstanding and none is left for events."""


@variant(
    "admin-queue/4096-entries",
    allowed='Base 2.0, 3.1.3.8 "Offset 24h: AQA": the largest size of an admin queue is 4096 entries',
    scenarios=BASIC,
    settings={"admin_depth": 4096},
)
class ManyEntries(Controller):
    """Has admin queues of 4096 entries."""


class _OwnSizes(Controller):
    """Makes an admin completion queue whose size is not the submission queue's."""

    def completion_entries(self, entries: int) -> int:
        raise NotImplementedError

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        if qid == 0 and qid not in self._pairs:
            slots = self.completion_entries(entries)
            submission = self.parts.submission_ring(self.ring_memory(entries * SQE_SIZE), entries)
            completion = self.parts.completion_ring(self.ring_memory(slots * CQE_SIZE), slots)
            self._pairs[qid] = self.parts.queue_pair(self.registers, qid, submission, completion, vector)
        return super().make_pair(qid, entries, vector)


@variant(
    "admin-queue/long-completion-queue",
    allowed='Base 2.0, 3.1.3.8 "Offset 24h: AQA": ASQS and ACQS are given apart',
    scenarios=BASIC,
    excludes=("admin-queue/short-completion-queue",),
)
class LongCompletionQueue(_OwnSizes):
    """Has an admin completion queue of twice as many entries as the submission queue."""

    def completion_entries(self, entries: int) -> int:
        """Return twice the number, 4096 at most."""
        return min(2 * entries, 4096)


class BoundedPair(QueuePair):
    """Lets no more commands out than their completions have room for."""

    @property
    def room(self) -> int:
        """The number of commands whose completions have a slot."""
        return min(super().room, self.completion.entries - 1 - len(self.outstanding))


class _ShortOfAdmin(_OwnSizes):
    """Makes a short admin completion queue."""

    def completion_entries(self, entries: int) -> int:
        return max(2, entries // 4)


@variant(
    "admin-queue/short-completion-queue",
    allowed='Base 2.0, 3.1.3.8 "Offset 24h: AQA": ASQS and ACQS are given apart; no more commands are outstanding than fit',
    scenarios=BASIC,
    also=(_ShortOfAdmin,),
)
class ShortCompletionQueue(BoundedPair):
    """Has an admin completion queue of a quarter of the submission queue, and sends no more than it can hold."""


@variant(
    "admin-queue/attributes-last",
    allowed='Base 2.0, 3.5.1 "Memory-based Controller Initialization": AQA, ASQ and ACQ are one step, in no given order',
    scenarios=BASIC,
)
class AttributesLast(Controller):
    """Writes ACQ, then ASQ, then AQA."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Write ACQ, ASQ and AQA in this order."""
        submission, completion = admin.submission, admin.completion
        self.registers.write(ACQ(completion.memory.address))
        self.registers.write(ASQ(submission.memory.address))
        self.registers.write(AQA.of(ASQS=submission.entries - 1, ACQS=completion.entries - 1))


@variant("admin-queue/random-cids", allowed=CIDS_ALLOWED, scenarios=BASIC)
class RandomCids(QueuePair):
    """Draws command identifiers by lot."""

    lot: random.Random | None = None

    def new_cid(self) -> int:
        """Return a random identifier that is not outstanding."""
        self.lot = self.lot or random.Random(self.qid)
        while (cid := self.lot.randrange(CIDS)) in self.outstanding:
            pass
        return cid


@variant("admin-queue/reuses-cids", allowed=CIDS_ALLOWED, scenarios=BASIC)
class ReusesCids(QueuePair):
    """Takes the lowest command identifier that is free, as a bitmap of tags does: it is used again at once."""

    def new_cid(self) -> int:
        """Return the lowest identifier that is not outstanding."""
        return next(cid for cid in count() if cid not in self.outstanding)


@variant("admin-queue/falling-cids", allowed=CIDS_ALLOWED, scenarios=BASIC)
class FallingCids(QueuePair):
    """Counts command identifiers down, so that they are not in the order of submission."""

    def new_cid(self) -> int:
        """Return the next lower identifier that is not outstanding."""
        return next(cid for number in self._cids if (cid := CIDS - 1 - number % CIDS) not in self.outstanding)


@variant("admin-queue/tagged-cids", allowed=CIDS_ALLOWED, scenarios=WRAPS)
class TaggedCids(QueuePair):
    """Keeps a slot in the lower bits of the command identifier and how often it was used in the upper four."""

    def new_cid(self) -> int:
        """Return the next slot with its round in bits 12 to 15."""
        slots = min(self.submission.entries, 1 << 12)
        tagged = (number % slots | (number // slots & 15) << 12 for number in self._cids)
        return next(cid for cid in tagged if cid < CIDS and cid not in self.outstanding)


@variant(
    "admin-queue/lazy-head",
    allowed='PCIe 1.0, 3.4.1 "Command Processing", step 8: many entries may be consumed before the head doorbell',
    scenarios=BASIC,
)
class LazyHead(QueuePair):
    """Gives completion slots back only when half of the ring was consumed."""

    given_back = 0

    def restart(self) -> None:
        """Restart with nothing to give back."""
        super().restart()
        self.given_back = 0

    def give_back(self) -> None:
        """Ring the head doorbell once half of the slots are kept."""
        if 2 * self.kept >= self.completion.entries:
            super().give_back()
            self.given_back = self.completion.head

    def settle(self) -> None:
        """Give everything back: the successor does not know what was kept."""
        super().settle()
        if self.kept:
            super().give_back()
            self.given_back = self.completion.head

    def resume(self, next_cid: int) -> None:
        """Go on with nothing to give back."""
        super().resume(next_cid)
        self.given_back = self.completion.head

    @property
    def kept(self) -> int:
        """Slots consumed and not given back."""
        return (self.completion.head - self.given_back) % self.completion.entries

    @property
    def room(self) -> int:
        """The number of commands whose completions have a slot that is not kept."""
        return max(0, min(super().room, self.completion.entries - 1 - len(self.outstanding) - self.kept))


@variant(
    "admin-queue/tail-each",
    allowed='PCIe 1.0, 3.4.1 "Command Processing", step 2: the tail doorbell is written once a command is in the queue',
    scenarios=("multiqueue/plain",),
    warns=("multiqueue/batch",),
)
class TailEach(QueuePair):
    """Writes the tail doorbell for each command on its own."""

    def submit(self, request: Request, now: float) -> None:
        """Submit, and ring at once."""
        super().submit(request, now)
        self.ring()


@variant(
    "admin-queue/patient",
    allowed='Base 2.0, 3.1.3.1 "Offset 0h: CAP": TO is how long the host should wait at least; nothing bounds it above',
    scenarios=("admin-queue/never-ready",),
    warns=("admin-queue/ready-wait",),
)
class Patient(Controller):
    """Waits twice as long for CSTS.RDY as CAP.TO says."""

    @property
    def ready_seconds(self) -> float:
        """Twice CAP.TO."""
        return 2 * super().ready_seconds


@variant(
    "admin-queue/steady-looks",
    allowed='Base 2.0, 3.1.3.6 "Offset 1Ch: CSTS": how often RDY is looked at is the host\'s choice',
    scenarios=("admin-queue/slow-ready",),
)
class SteadyLooks(Controller):
    """Looks at CSTS every 2 ms while it waits for RDY."""

    def poll_delays(self) -> Iterator[float]:
        """Return 2 ms without end."""
        return repeat(0.002)


@variant(
    "admin-queue/polling",
    allowed='Base 2.0, 5.4 "Create I/O Completion Queue command": IEN 0 means that the queue does not interrupt',
    scenarios=BASIC,
    settings={"polling": True},
)
class Polling(Controller):
    """Looks for completions and opens no interrupt vector."""


@variant(
    "admin-queue/polls-masked",
    allowed='Base 2.0, 3.1.3.3 "Offset Ch: INTMS": the host may mask interrupts; it finds completions by the phase tag',
    scenarios=BASIC,
    excludes=("admin-queue/polling", "admin-queue/pin", "admin-queue/msi"),
)
class PollsMasked(Controller):
    """Asks for interrupts (IEN=1) and leaves them masked: MSI-X by Function Mask, else by INTMS. It polls."""

    def open_vectors(self) -> None:
        """Open the vectors, and mask them all."""
        super().open_vectors()
        at, there = pci.msix(self.transport)
        if there:
            self.transport.config_write(at + 2, 2, self.transport.config_read(at + 2, 2) | pci.MSIX_MASK_ALL)
        else:
            self.registers.write(INTMS(0xFFFF_FFFF))


@variant(
    "admin-queue/pin",
    allowed='PCIe 1.0, 3.1.1 "PCI Device Requirements": MSI-X is the recommended mechanism, not the only one',
    scenarios=BASIC,
    warns=("multiqueue/own-vector",),
    excludes=("admin-queue/polling", "detect/pin-off", "io-queues/falling-vectors"),
)
class Pin(Controller):
    """Takes INTx although the controller has MSI-X."""

    @property
    def vectors(self) -> int:
        """One vector at most."""
        return min(1, super().vectors)

    def open_vectors(self) -> None:
        """Open INTx."""
        local(self.transport).open_pin()


@variant(
    "admin-queue/msi",
    allowed='PCIe 1.0, 3.5 "Interrupts": pin based, single message MSI, multiple message MSI and MSI-X are the mechanisms',
    scenarios=BASIC,
    excludes=("admin-queue/polling", "io-queues/falling-vectors"),
)
class MultipleMsi(Controller):
    """Takes MSI with several messages although the controller has MSI-X."""

    messages = 0

    @property
    def vectors(self) -> int:
        """The number of MSI messages once they are open."""
        return min(super().vectors, self.messages) if self.messages else super().vectors

    def open_vectors(self) -> None:
        """Open MSI where there is MSI-X too; else as usual."""
        if not pci.msix(self.transport)[1]:
            super().open_vectors()
            return
        self.messages = local(self.transport).open_msi(super().vectors)


@variant(
    "admin-queue/large-pages",
    allowed='Base 2.0, 3.1.3.5 "Offset 14h: CC": MPS is any page size within CAP.MPSMIN and CAP.MPSMAX',
    scenarios=BASIC,
)
class LargePages(Controller):
    """Uses memory pages of twice the smallest size, where the controller takes them."""

    @property
    def page_size(self) -> int:
        """Twice the smallest size in bytes, where CAP.MPSMAX allows it."""
        return super().page_size << (self.cap.MPSMAX > self.cap.MPSMIN)

    def configuration(self) -> CC:
        """Return CC with MPS one larger, where CAP.MPSMAX allows it."""
        cc = super().configuration()
        return cc.but(MPS=cc.MPS + (self.cap.MPSMAX > self.cap.MPSMIN))


@variant(
    "admin-queue/one-command-set",
    allowed='Base 2.0, 3.1.3.5 "Offset 14h: CC": CSS 000b selects the NVM command set; 110b is what the host should choose',
    scenarios=("detect/command-sets",),
    warns=("admin-queue/all-command-sets", "every/unusual-device"),
)
class OneCommandSet(Controller):
    """Selects the NVM command set alone wherever the controller has it."""

    def command_set(self) -> int:
        """Return 000b where CAP.CSS has the NVM command set."""
        selected = super().command_set()
        return CSS_NVM if self.cap.CSS & CAP_CSS_NVM else selected


@variant(
    "admin-queue/keeps-entries",
    allowed='Base 2.0, 3.3.1 "Memory-based Transport Queue Model": only a completion queue is initialised by the host',
    scenarios=WRAPS,
)
class KeepsEntries(SubmissionRing):
    """Leaves old entries in a submission queue when it is used again after a reset."""

    def restart(self) -> None:
        """Reset head and tail, and leave the entries in memory."""
        self.tail = self.head = 0


@variant(
    "admin-queue/new-rings",
    allowed='Base 2.0, 3.5.1 "Memory-based Controller Initialization": ASQ and ACQ are programmed again each time',
    scenarios=("reset/asked",),
)
class NewRings(Controller):
    """Takes new memory for its rings after each reset."""

    def restart(self) -> None:
        """Allocate all rings anew, free the old ones, and restart."""
        for pair in self._pairs.values():
            for ring in (pair.submission, pair.completion):
                old, ring.memory = ring.memory, self.ring_memory(len(ring.memory))
                self.transport.free(old)
        super().restart()


@variant(
    "admin-queue/looks-after-each",
    allowed='Base 2.0, 3.1.3.6 "Offset 1Ch: CSTS": it may be read at any time',
    scenarios=BASIC,
)
class LooksAfterEach(Execution):
    """Reads CSTS before each batch of commands, to see whether the controller is still there."""

    def run(self, pair, commands, *, retry=True, depth=None):  # type: ignore[no-untyped-def]
        """Read CSTS, and run the commands; a controller that is gone is given up."""
        try:
            self._c.registers.status()
        except DriverError as gone:
            self._c.give_up(gone)
        return super().run(pair, commands, retry=retry, depth=depth)


@variant(
    "admin-queue/waits-out-a-shutdown",
    allowed='Base 2.0, 3.6.1 "Memory-based Transport Controller Shutdown": a host may wait for CSTS.SHST=10b before it resets',
    scenarios=("admin-queue/owned-shutting-down",),
)
class WaitsOutShutdown(Controller):
    """Waits for the end of a shutdown that it finds before it clears CC.EN."""

    def stop(self) -> None:
        """Wait for SHST=10b where a shutdown goes on, and stop the controller."""
        if self.registers.status().SHST == SHST_PROCESSING:
            self.wait_shut_down()
        super().stop()
