"""Operations that are started and collected later: they may end in the hands of a successor of the driver that started them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.nvme.commands import Command, LbaCommand, Read, Write
from lab.reference.core import Core
from lab.reference.data import DataPath
from lab.reference.errors import CommandFailed, DriverError
from lab.reference.execution import Execution
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.transport import Memory

SUCCESS = "success"


@dataclass(eq=False)
class PendingOperation:
    """A read or write with its buffer. ``ticket`` is its name, for its caller and for a successor."""

    ticket: int
    command: Command
    memory: Memory
    length: int
    lists: list[Memory] = field(default_factory=list)
    status: str = ""
    """success, or the driver's words; "" until it has ended."""
    request: Request | None = None


class Pending:
    """The started operations of one controller."""

    def __init__(self, core: Core, data: DataPath, execution: Execution) -> None:
        """Begin without operations."""
        self._c, self._data, self._execution = core, data, execution
        self.operations: dict[int, PendingOperation] = {}
        """By ticket, in the order of their start."""
        self.next_ticket = 1

    def start(self, namespace: Namespace, lba: int, blocks: int, data: bytes = b"", *, pairs: int = 0) -> int:
        """Start a write of ``data``, or a read without it, of one command; return its ticket.

        ``pairs`` limits the I/O queue pairs that are used to the first so many. Refused for a range outside the namespace.
        """
        namespace.check_range(lba, blocks)
        kind: type[LbaCommand] = Write if data else Read
        memory = self._c.transport.allocate(blocks * namespace.block_size, self._c.page_size)
        memory.write(0, data)
        lists: list[Memory] = []
        described = self._data.describe(
            namespace.command(kind, lba, blocks, {}), memory, 0, blocks * namespace.block_size, lists
        )
        ticket, self.next_ticket = self.next_ticket, self.next_ticket + 1
        one = PendingOperation(ticket, described, memory, blocks * namespace.block_size, lists)
        self.operations[ticket] = one
        usable = self._c.io[: pairs or None]
        self.submit(one, usable[ticket % len(usable)] if usable else self._c.pair())
        return ticket

    def submit(self, one: PendingOperation, pair: QueuePair) -> None:
        """Put an operation's command into a ring, once there is room."""
        while not pair.room:
            pair.ring()
            self.wait(pair)
        one.request = Request(one.command, lambda request: self.ended(one, request))
        pair.submit(one.request, self._c.transport.now())

    def ring(self) -> None:
        """Ring the doorbells for what was started."""
        for pair in self._c.io:
            pair.ring()

    def ended(self, one: PendingOperation, request: Request) -> None:
        """Note the end of a command; it may be retried by `collect`."""
        done = request.completion
        one.status = SUCCESS if request.ok else str(request.lost if done is None else CommandFailed(request.command, done))

    def collect(self) -> list[tuple[int, str, bytes]]:
        """Wait for all operations; return (ticket, status, data of a read) of each, in the order of their start."""
        self.ring()
        while waiting := [one for one in self.operations.values() if not one.status or self.should_retry(one)]:
            for one in waiting:
                if one.status:
                    self.retry(one)
            self.ring()
            pairs = [(one, self.pair_of(one)) for one in waiting if not one.status]
            for one in [one for one, pair in pairs if pair is None]:
                one.status = "the command is in no queue any more"
            for pair in {id(pair): pair for _, pair in pairs if pair is not None}.values():
                self.wait(pair)
        ended = [(one.ticket, one.status, self.content(one)) for one in self.operations.values()]
        for one in self.operations.values():
            for memory in (one.memory, *one.lists):
                self._data.release(memory)
        self.operations.clear()
        return ended

    def content(self, one: PendingOperation) -> bytes:
        """Return the bytes that an operation has read; none for a write or a failure."""
        return one.memory.read(0, one.length) if one.status == SUCCESS and isinstance(one.command, Read) else b""

    def should_retry(self, one: PendingOperation) -> bool:
        """Return whether an operation that has failed is tried again."""
        return one.status not in ("", SUCCESS) and one.request is not None and self._execution.should_retry(one.request)

    def retry(self, one: PendingOperation) -> None:
        """Send a failed operation's command once more."""
        assert one.request is not None
        attempts = one.request.attempts
        one.status = ""
        try:
            self.submit(one, self._c.pair())
        except DriverError as error:
            one.status = str(error)
            return
        one.request.attempts += attempts

    def pair_of(self, one: PendingOperation) -> QueuePair | None:
        """Return the queue pair that an operation waits on; None if it has ended."""
        return next((pair for pair in self._c.io if one.request in pair.outstanding.values()), None)

    def wait(self, pair: QueuePair) -> None:
        """Wait a while for completions of a queue pair; handle a command that hangs."""
        if pair.reap():
            return
        transport, settings = self._c.transport, self._c.settings
        transport.wait(pair.vector, settings.check_seconds)
        if pair.reap() or not pair.outstanding:
            return
        before = transport.now() - settings.command_seconds
        late = next((request for request in pair.outstanding.values() if request.started_at <= before), None)
        if late is not None:
            self._execution.recovery.handle_timeout(pair, late)
        else:
            self._execution.check_progress(pair, transport.now())

    def adopt(self, operations: Sequence[PendingOperation], next_ticket: int) -> None:
        """Take the operations of a predecessor over."""
        self.operations = {one.ticket: one for one in operations}
        self.next_ticket = next_ticket
