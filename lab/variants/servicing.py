"""Legal peculiarities of drivers that are replaced while their controller goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.nvme.registers import CC
from lab.reference.controller import Controller
from lab.reference.document import ServicingError
from lab.reference.errors import CommandLost
from lab.reference.namespace import Namespace
from lab.reference.pending import Pending
from lab.reference.servicing import Servicing
from lab.variants.reset import SHUTDOWN_CHECKS
from lab.variants.variant import variant

LEAP = 1000
ASKS = "multi-namespace/asks-before-each"
"""A variant that asks for the namespace before each command, which a successor must not do while it takes over."""
LATE_SECONDS = 0.9
"""Less than the time in which the scenarios let a driver take a command for hung."""


@variant(
    "servicing/other-identifiers",
    allowed='Base 2.0, 3.3.3.1 "Submission Queue Entry", CID: any identifier that no outstanding command of the queue has',
    scenarios=("servicing/more",),
)
class OtherIdentifiers(Servicing):
    """Continues with command identifiers that are far from its predecessor's."""

    def restore_cid(self, saved: Mapping[str, Any]) -> int:
        """Return a number beyond the predecessor's."""
        return super().restore_cid(saved) + LEAP


@variant(
    "servicing/looks-twice",
    allowed='Base 2.0, 3.1.3 "Controller Properties": registers may be read at any time, as often as the host likes',
    scenarios=("servicing/two",),
)
class LooksTwice(Servicing):
    """Reads all registers twice before it trusts the saved state."""

    def check_controller(self, state: Mapping[str, Any]) -> None:
        """Check the controller twice."""
        super().check_controller(state)
        super().check_controller(state)


@variant(
    "servicing/health-first",
    allowed='Base 2.0, 5.16 "Get Log Page command": the health log may be read at any time',
    scenarios=("servicing/twice",),
)
class HealthFirst(Servicing):
    """Reads the health log of the controller as soon as it has taken it over."""

    def take_over(self) -> None:
        """Take over, and read the health log."""
        super().take_over()
        health = getattr(self._controller, "health", None)
        if health is None:
            raise ServicingError("the driver has no health log")
        health.smart()


@variant(
    "servicing/fewer-requests",
    allowed='Base 2.0, 5.2 "Asynchronous Event Request command": the host chooses how many are outstanding',
    scenarios=("servicing/two",),
    settings={"events": 1},
)
class FewerRequests(Servicing):
    """Keeps one event request outstanding."""


@variant(
    "servicing/late",
    allowed="Base 2.0, 3.4.1: nothing limits the time between a completion and the moment when the host takes it",
    scenarios=("servicing/two",),
)
class Late(Servicing):
    """Lets a second pass before it looks at what its predecessor has left."""

    def restore(self, document: str) -> None:
        """Wait, and take over."""
        self._c.transport.sleep(LATE_SECONDS)
        super().restore(document)


@variant(
    "servicing/writes-cc-back",
    allowed='Base 2.0, 3.1.3.5 "Offset 14h: CC": a write that leaves EN at 1 and changes no other field is no reset',
    scenarios=("servicing/two",),
)
class WritesCcBack(Servicing):
    """Writes CC with the value that it holds when it takes over."""

    def restore_interrupts(self) -> None:
        """Write CC as it is, and install the handlers."""
        self._c.registers.write(self._c.registers.read(CC))
        super().restore_interrupts()


@variant(
    "servicing/one-queue",
    allowed="Base 2.0, 3.3: which of its submission queues a host uses for a command is its own choice",
    scenarios=("servicing/two",),
)
class OneQueue(Pending):
    """Starts all operations on its first I/O queue."""

    def start(self, namespace: Namespace, lba: int, blocks: int, data: bytes = b"", *, pairs: int = 0) -> int:
        """Start the operation on the first I/O queue."""
        del pairs
        return super().start(namespace, lba, blocks, data, pairs=1)


class _AfterTakingOver(Servicing):
    """Sends a command to each namespace as soon as it has taken over."""

    def restore(self, document: str) -> None:
        """Take over, and send a command to each namespace."""
        super().restore(document)
        if self._c.failed is None:
            for namespace in self._controller.namespaces.values():
                self.send_first(namespace)

    def send_first(self, namespace: Namespace) -> None:
        """Send the command."""


@variant(
    "servicing/flushes",
    allowed='Base 2.0, 7.1 "Flush command": a host may flush at any time, also while writes are in flight',
    scenarios=("servicing/full",),
    excludes=("servicing/late", "servicing/looks-at-disk", ASKS),
)
class Flushes(_AfterTakingOver):
    """Flushes each namespace as soon as it has taken over."""

    def send_first(self, namespace: Namespace) -> None:
        """Flush the namespace."""
        namespace.flush()


@variant(
    "servicing/looks-at-disk",
    allowed='NVM 1.0, 3.2.4 "Read command": a host may read any block at any time, as often as it likes',
    scenarios=("servicing/two",),
    excludes=("servicing/late", "servicing/flushes", ASKS),
)
class LooksAtDisk(_AfterTakingOver):
    """Reads the first block of each namespace as soon as it has taken over, beside the commands of its predecessor."""

    def send_first(self, namespace: Namespace) -> None:
        """Read the first block."""
        namespace.read(0, 1)


@variant(
    "servicing/asks-first",
    allowed='Base 2.0, 5.2 "Asynchronous Event Request command": a host may send further requests before it reads the log page',
    scenarios=("servicing/namespaces",),
    excludes=("servicing/health-first",),
)
class AsksFirst(Servicing):
    """Requests further events before it acts on those that came in between."""

    def take_over(self) -> None:
        """Request events, and go on."""
        for pair in self._c.pairs():
            pair.reap()
        self._controller.events.fill()
        super().take_over()


@variant(
    "servicing/interrupts-last",
    allowed="PCIe 1.0, 3.5.1: interrupts need not be used while a host looks at the queues itself",
    scenarios=("servicing/between", "servicing/namespaces"),
    excludes=("servicing/writes-cc-back", "servicing/health-first", "servicing/asks-first"),
)
class InterruptsLast(Servicing):
    """Installs its interrupt handlers once it has looked at all queues of its predecessor."""

    def restore_interrupts(self) -> None:
        """Leave that to the end."""

    def take_over(self) -> None:
        """Look at all completion queues, install the handlers, and look again for what came in between."""
        for pair in self._c.pairs():
            pair.reap()
        super().restore_interrupts()
        super().take_over()


@variant(
    "servicing/disables",
    allowed='Base 2.0, 3.6.1 "Memory-based Controller Shutdown": to shut down before CC.EN=0 is recommended ("should")',
    scenarios=("servicing/off",),
    warns=SHUTDOWN_CHECKS,
)
class Disables(Controller):
    """Disables the controller in the end, without a shutdown."""

    def shutdown(self) -> None:
        """Delete the I/O queues, and write CC.EN=0."""
        if self.failed is None and self.stage not in ("", "detect"):
            self.take_memory_back()
            self.delete_io_queues()
            self.registers.write(self.registers.read(CC).but(EN=0))
            self.wait_ready(0)
            self.abandon(CommandLost("the controller was disabled"))
        self.stage = ""
