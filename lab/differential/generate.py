"""Commands to try: right ones, wrong ones, and those in between, drawn by a seeded generator.

A `DrawnStep` is what one doorbell announces. The generator knows the device's shape and which queues live, nothing else: what
the right answer would be does not matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from lab.data.plan import Controller, Namespace
from lab.differential.sides import DATA, DATA_PAGES, ENTRIES, LIST_PAGES, LISTS, PAGE, QUEUES, RAM, RING_STEP, RINGS
from lab.nvme import commands as nvme
from lab.nvme.commands import BROADCAST_NSID, BY_OPCODE, Command
from lab.nvme.features import Fid
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid
from lab.nvme.ranges import CopyRange, DsmRange

SPARE_QUEUES = range(3, 10)
"""Queues that are created and deleted by generated commands; those of `QUEUES` stay."""
ODD_NSIDS = (0, 2, 255, 256, 257, 0x1000, 0xFFFF_FFFE, BROADCAST_NSID)
ENTRIES_OF_A_LIST = PAGE // 8
_TELLING = (
    Fid.TEMPERATURE_THRESHOLD, Fid.ERROR_RECOVERY, Fid.VOLATILE_WRITE_CACHE, Fid.NUMBER_OF_QUEUES, Fid.INTERRUPT_VECTOR_CONFIG,
    Fid.TIMESTAMP, Fid.HOST_BEHAVIOR_SUPPORT,
)  # fmt: skip
"""Features of which there is more to see than a value."""


@dataclass(frozen=True)
class DrawnStep:
    """Commands for one queue, and what is to be in memory before."""

    qid: int
    commands: tuple[Command, ...]
    memory: tuple[tuple[int, bytes], ...] = ()

    def __str__(self) -> str:
        """Return the queue and its commands, in one line."""
        return f"queue {self.qid}: {'; '.join(map(str, self.commands))}"


class Generator:
    """Draws steps for one controller from a seed."""

    def __init__(self, controller: Controller, seed: int) -> None:
        """Draw steps for this controller from the seed."""
        self._random = Random(seed)
        self._namespaces = controller.namespaces
        self._limit = (PAGE << controller.mdts) if controller.mdts else DATA_PAGES * PAGE
        self._memory: list[tuple[int, bytes]] = []
        self._free: list[int] = []
        self._free_lists: list[int] = []
        self._cid = 0
        self._alone = True
        """Of the commands of a step only one that is alone may point to page 0, or they would race for it."""

    def step(self, live: Sequence[int]) -> DrawnStep:
        """Return one more step; ``live`` are the existing I/O queues."""
        random, self._memory = self._random, []
        self._free = random.sample(range(DATA_PAGES), DATA_PAGES)
        self._free_lists = random.sample(range(LIST_PAGES), LIST_PAGES)
        qid = random.choice(tuple(live)) if random.random() < 0.6 else 0
        count = random.choice((1, 1, 1, 1, 1, 2, 4)) if qid else 1
        self._alone = count == 1
        makers, weights = zip(*(TOGETHER if count > 1 else IO if qid else ADMIN), strict=True)
        commands = [self._numbered(random.choices(makers, weights)[0](self)) for _ in range(count)]
        if not qid and self._sometimes(0.01):
            commands = self._conflict()
        return DrawnStep(qid, tuple(commands), tuple(self._memory))

    def _conflict(self) -> list[Command]:
        """Return a command with the identifier of one that is outstanding."""
        waiting = self._numbered(nvme.AsyncEventRequest.of())
        return [waiting, nvme.GetFeatures.of(FID=Fid.ARBITRATION, CID=waiting.CID)]

    def _numbered(self, command: Command) -> Command:
        self._cid = self._cid % 0xFFFE + 1
        return command.but(CID=self._cid)

    # -- what commands are made of ----------------------------------------------------------------------------------

    def _sometimes(self, chance: float = 0.1) -> bool:
        return self._random.random() < chance

    def _nsid(self) -> int:
        if self._sometimes(0.08):
            return self._random.choice(ODD_NSIDS)
        return self._random.choice(self._namespaces).nsid

    def _namespace(self, nsid: int) -> Namespace:
        return next((ns for ns in self._namespaces if ns.nsid == nsid), self._namespaces[0])

    def _page(self) -> int:
        """Return a page that no other command of this step has."""
        return DATA + self._free.pop() * PAGE

    def _buffer(self, length: int) -> dict[str, int]:
        """Return PRP1 and PRP2 for so many bytes: mostly right, in one of the legal forms."""
        random = self._random
        offset = random.randrange(0, PAGE, 4) if self._sometimes(0.4) else 0
        needed = -(-(offset + length) // PAGE)
        first = self._page()
        pages = [self._page() for _ in range(needed - 1)]
        prp1, prp2 = first + offset, 0
        if len(pages) == 1:
            prp2 = pages[0]
        elif pages:
            if self._sometimes(0.06):
                pages[random.randrange(len(pages))] += random.choice((4, 1, 0x800))  # only the first page may have an offset
            if self._alone and self._sometimes(0.04):
                pages[random.randrange(len(pages))] = random.choice((0, RAM + PAGE))
            prp2 = self._list(pages)
        if self._alone and self._sometimes(0.04):
            prp1 = random.choice((0, prp1 | 1, prp1 | 2, RAM))
        if self._alone and self._sometimes(0.04):
            # A list at an odd address can hang QEMU.
            prp2 = RAM if len(pages) > 1 else random.choice((0, prp2 | 4, prp2 | 1, RAM))
        return {"PRP1": prp1, "PRP2": prp2}

    def _list(self, entries: list[int]) -> int:
        """Store a PRP list, in a chain of lists if it begins near the end of a page; return its address."""
        room = self._random.choice((ENTRIES_OF_A_LIST, ENTRIES_OF_A_LIST, 2, 3))
        address = at = self._list_page() + (ENTRIES_OF_A_LIST - room) * 8
        while len(entries) > room:
            following = self._list_page()
            self._store(at, entries[: room - 1], following)
            entries, at, room = entries[room - 1 :], following, ENTRIES_OF_A_LIST
        self._store(at, entries)
        return address

    def _list_page(self) -> int:
        return LISTS + self._free_lists.pop() * PAGE

    def _store(self, at: int, entries: list[int], *more: int) -> None:
        self._memory.append((at, b"".join(entry.to_bytes(8, "little") for entry in (*entries, *more))))

    def _range(self, ns: Namespace) -> tuple[int, int]:
        """Return (first block, blocks): mostly within the namespace and MDTS, often at an edge of them."""
        random, limit = self._random, self._limit // ns.block_size
        blocks = random.choice((1, 2, limit, random.randint(1, limit), random.randint(1, min(8, limit))))
        if self._sometimes(0.03):
            blocks = limit + random.choice((1, 8))
        lba = random.choice((0, ns.blocks - blocks, random.randrange(ns.blocks), random.randrange(64)))
        if self._sometimes(0.06):
            lba = random.choice((ns.blocks, ns.blocks - 1, ns.blocks - blocks + 1, (1 << 64) - blocks, (1 << 64) - 1, 1 << 55))
        return max(lba, 0), blocks

    def _oddities(self) -> dict[str, int]:
        """Return bits that should be zero, or that no host sets."""
        if not self._sometimes(0.03):
            return {}
        return self._random.choice(({"FUSE": 1}, {"FUSE": 2}, {"FUSE": 3}, {"PSDT": 3}, {"MPTR": 0x1000}, {"CDW3": 5}))

    # -- I/O --------------------------------------------------------------------------------------------------------

    def _transfer(self, kind: type[nvme.LbaCommand]) -> Command:
        nsid = self._nsid()
        ns = self._namespace(nsid)
        lba, blocks = self._range(ns)
        flags = {"FUA": 1} if self._sometimes(0.2) else {"LR": 1} if self._sometimes(0.1) else {}
        buffer = self._buffer(blocks * ns.block_size)
        return kind.of(NSID=nsid, SLBA=lba, NLB=blocks - 1, **flags, **buffer, **self._oddities())

    def read(self) -> Command:
        """Return a random read command."""
        return self._transfer(nvme.Read)

    def write(self) -> Command:
        """Return a random write command."""
        return self._transfer(nvme.Write)

    def compare(self) -> Command:
        """Return a random compare command."""
        return self._transfer(nvme.Compare)

    def verify(self) -> Command:
        """Return a random verify command."""
        nsid = self._nsid()
        lba, blocks = self._range(self._namespace(nsid))
        return nvme.Verify.of(NSID=nsid, SLBA=lba, NLB=blocks - 1)

    def write_zeroes(self) -> Command:
        """Return a random write zeroes command."""
        nsid = self._nsid()
        lba, blocks = self._range(self._namespace(nsid))
        if self._sometimes(0.1):
            blocks = self._random.randint(1, 0x10000)
        return nvme.WriteZeroes.of(NSID=nsid, SLBA=lba, NLB=blocks - 1, DEAC=self._random.randrange(2), **self._oddities())

    def write_uncorrectable(self) -> Command:
        """Return a random write uncorrectable command."""
        nsid = self._nsid()
        lba, blocks = self._range(self._namespace(nsid))
        return nvme.WriteUncorrectable.of(NSID=nsid, SLBA=lba, NLB=blocks - 1)

    def flush(self) -> Command:
        """Return a random flush command."""
        return nvme.Flush.of(NSID=self._random.choice((self._nsid(), BROADCAST_NSID)))

    def dataset_management(self) -> Command:
        """Return a random dataset management command."""
        nsid, random = self._nsid(), self._random
        ns, count = self._namespace(nsid), random.choice((1, 1, 2, 5, 256))
        ranges = []
        for _ in range(count):
            lba, blocks = self._range(ns) if count < 10 else (random.randrange(ns.blocks), 1)
            ranges.append(DsmRange.of(SLBA=lba, LENGTH=random.choice((blocks, blocks, 0))))
        page = self._page()
        self._memory.append((page, b"".join(ranges)))
        return nvme.DatasetManagement.of(
            NSID=nsid, NR=count - 1, AD=random.choice((1, 1, 0)), IDR=random.randrange(2), PRP1=page
        )

    def copy(self) -> Command:
        """Return a copy that succeeds: a refused one can end QEMU (an assertion in its accounting), so tests try them alone."""
        nsid, random = self._random.choice(self._namespaces).nsid, self._random
        ns, count = self._namespace(nsid), random.choice((1, 1, 2, 3, 16))
        sizes = [random.choice((1, 3, 8, 30)) if count < 10 else 1 for _ in range(count)]
        # From one half to the other: where source and target overlap, each copies in its own order.
        half = ns.blocks // 2
        sources = [CopyRange.of(SLBA=random.randrange(half - size), NLB=size - 1) for size in sizes]
        page = self._page()
        self._memory.append((page, b"".join(sources)))
        target = half + random.randrange(half - sum(sizes))
        return nvme.Copy.of(NSID=nsid, SDLBA=target, NR=count - 1, PRP1=page)

    def unknown_io(self) -> Command:
        """Return a random unknown io command."""
        opcode = self._random.choice([n for n in range(256) if n not in BY_OPCODE["io"]])
        return Command.of(OPC=opcode, NSID=self._nsid())

    # -- admin ------------------------------------------------------------------------------------------------------

    def _any_nsid(self) -> int:
        return int(self._random.choice((0, self._nsid(), self._nsid(), *ODD_NSIDS[-2:])))

    def identify(self) -> Command:
        """Return a random identify command."""
        cns = self._random.choice((*Cns, *Cns, 0x0B, 0x1F, 0x20, 0xFF))
        return nvme.Identify.of(
            CNS=cns, NSID=self._any_nsid(), CNTID=self._random.choice((0, 0, 0, 1, 0xFFFF)),
            CSI=self._random.choice((0, 0, 0, 1, 2, 0xFF)), PRP1=self._page(), **self._oddities(),
        )  # fmt: skip

    def identify_buffer(self) -> Command:
        """Return a buffer in any form of pointers."""
        return nvme.Identify.of(CNS=self._random.choice((0, 1, 2)), NSID=self._namespaces[0].nsid, **self._buffer(PAGE))

    def get_features(self) -> Command:
        """Return a random get features command."""
        random = self._random
        return nvme.GetFeatures.of(
            FID=random.choice((*Fid, *_TELLING, *_TELLING, 0x00, 0x77, 0xC0)), SEL=random.choice((0, 0, 0, 1, 2, 3, 4, 7)),
            NSID=random.choice((0, 0, 0, self._any_nsid())), CDW11=random.choice((0, 0, 0, 1, 9, 0x10000)), PRP1=self._page(),
        )  # fmt: skip

    def set_features(self) -> Command:
        """Return a random set features command."""
        random = self._random
        fid = random.choice((*Fid, Fid.ERROR_RECOVERY, Fid.ERROR_RECOVERY, 0x00, 0x77, 0xC0))
        if fid == Fid.HOST_MEMORY_BUFFER:
            fid = Fid.ARBITRATION
        return nvme.SetFeatures.of(
            FID=fid, SV=int(self._sometimes(0.05)), NSID=random.choice((0, 0, 0, self._any_nsid())),
            CDW11=random.choice((0, 1, 3, 7, 0x157, 0x0007_0007, 0xFFFF, 0xFFFF_0000, 0x0001_0000)), PRP1=self._page(),
        )  # fmt: skip

    def get_log_page(self) -> Command:
        """Return a random get log page command."""
        random = self._random
        return nvme.GetLogPage.reading(
            random.choice((*list(Lid)[:6], *list(Lid)[:6], Lid.CHANGED_NAMESPACES, *Lid, 0x7F, 0xC0)),
            random.choice((4, 16, 64, 512, 512, 4096)),
            random.choice((0, 0, 0, 4, 64, 508, 512, 2, 4096, 1 << 20)),
            RAE=random.randrange(2), NSID=random.choice((0, BROADCAST_NSID, BROADCAST_NSID, self._any_nsid())),
            CSI=random.choice((0, 0, 0, 2)), OT=int(self._sometimes(0.1)), PRP1=self._page(),
        )  # fmt: skip

    def _qid(self) -> int:
        return int(self._random.choice((*SPARE_QUEUES, *SPARE_QUEUES, 0, 1, 9, 10, 0xFFFF)))

    def create_cq(self) -> Command:
        """Return a random create cq command."""
        random, qid = self._random, self._qid()
        return nvme.CreateIoCq.of(
            QID=qid, QSIZE=random.choice((ENTRIES - 1, ENTRIES - 1, 1, 0, 2047, 2048, 0xFFFF)),
            PC=int(not self._sometimes(0.05)), IEN=random.randrange(2), IV=random.choice((0, 1, 8, 9, 0xFFFF)),
            PRP1=self._ring(qid) + 0x2000,
        )  # fmt: skip

    def create_sq(self) -> Command:
        """Return a random create sq command."""
        random, qid = self._random, self._qid()
        return nvme.CreateIoSq.of(
            QID=qid, QSIZE=random.choice((ENTRIES - 1, ENTRIES - 1, 1, 0, 2048, 0xFFFF)), PC=int(not self._sometimes(0.05)),
            CQID=random.choice((qid, qid, qid, self._qid())), QPRIO=random.choice((0, 0, 1, 3)), PRP1=self._ring(qid),
        )  # fmt: skip

    def _ring(self, qid: int) -> int:
        """Return the place of a queue's rings; clear their memory, or a new queue would see entries of an old one."""
        if qid not in SPARE_QUEUES:
            return self._page()
        at = RINGS + qid * RING_STEP
        if self._sometimes(0.05):
            return at + self._random.choice((4, 0x800, -at))
        return at

    def delete_sq(self) -> Command:
        """Return a random delete sq command."""
        return nvme.DeleteIoSq.of(QID=self._random.choice((*SPARE_QUEUES, 0, 0xFFFF)))

    def delete_cq(self) -> Command:
        """Return a random delete cq command."""
        return nvme.DeleteIoCq.of(QID=self._random.choice((*SPARE_QUEUES, *QUEUES, 0, 0xFFFF)))

    def abort(self) -> Command:
        """Return a random abort command."""
        return nvme.Abort.of(SQID=self._random.choice((*QUEUES, 0, 7, 0xFFFF)), ABORT_CID=self._random.randrange(0x10000))

    def async_event_request(self) -> Command:
        """Return a random async event request command."""
        return nvme.AsyncEventRequest.of()

    def directive(self) -> Command:
        """Return a random directive command."""
        kind = self._random.choice((nvme.DirectiveSend, nvme.DirectiveReceive))
        operation, what = self._random.choice((1, 2)), self._random.choice((0, 1, 2))
        return kind.of(NSID=self._any_nsid(), NUMD=1023, DOPER=operation, DTYPE=what, PRP1=self._page())

    def namespace_attachment(self) -> Command:
        """Return a random namespace attachment command."""
        page = self._page()
        self._memory.append((page, self._random.choice((0, 1, 2)).to_bytes(2, "little") + bytes(6)))
        return nvme.NamespaceAttachment.of(NSID=self._any_nsid(), SEL=self._random.choice((0, 0, 2, 15)), PRP1=page)

    def unknown_admin(self) -> Command:
        """Return a random unknown admin command."""
        opcode = self._random.choice([n for n in range(256) if n not in BY_OPCODE["admin"]])
        return Command.of(OPC=opcode, NSID=self._any_nsid())

    def optional_admin(self) -> Command:
        """Return a command that neither side announces."""
        kind = self._random.choice(
            (nvme.KeepAlive, nvme.DeviceSelfTest, nvme.FirmwareCommit, nvme.FirmwareDownload, nvme.Sanitize, nvme.Lockdown,
             nvme.GetLbaStatus, nvme.CapacityManagement, nvme.NvmeMiReceive, nvme.VirtualizationManagement)
        )  # fmt: skip
        return kind.of(NSID=self._any_nsid(), PRP1=self._page())


Maker = Callable[[Generator], Command]
IO: tuple[tuple[Maker, int], ...] = (
    (Generator.read, 30), (Generator.write, 24), (Generator.compare, 8), (Generator.write_zeroes, 6),
    (Generator.dataset_management, 6), (Generator.copy, 6), (Generator.flush, 4), (Generator.verify, 2),
    (Generator.write_uncorrectable, 1), (Generator.unknown_io, 2),
)  # fmt: skip
TOGETHER: tuple[tuple[Maker, int], ...] = (
    (Generator.read, 10), (Generator.compare, 3), (Generator.flush, 1), (Generator.unknown_io, 1)
)  # fmt: skip
"""What is drawn where several are submitted at once: nothing whose effect depends on the order, which is undefined."""
ADMIN: tuple[tuple[Maker, int], ...] = (
    (Generator.identify, 20), (Generator.identify_buffer, 6), (Generator.get_features, 16), (Generator.set_features, 14),
    (Generator.get_log_page, 14), (Generator.create_cq, 10), (Generator.create_sq, 10), (Generator.delete_sq, 6),
    (Generator.delete_cq, 5), (Generator.abort, 4), (Generator.async_event_request, 1), (Generator.directive, 2),
    (Generator.namespace_attachment, 2), (Generator.unknown_admin, 3), (Generator.optional_admin, 3),
)  # fmt: skip
"""What is drawn, and how often."""


def steps(controller: Controller, seed: int, live: Callable[[], Sequence[int]]) -> Iterator[DrawnStep]:
    """Yield steps without end."""
    generator = Generator(controller, seed)
    while True:
        yield generator.step(live())
