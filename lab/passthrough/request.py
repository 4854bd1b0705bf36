"""One command with its buffers, and the answer to it: 64 bytes there, 16 bytes back (Base 2.0, 3.3.3.1 and 3.3.3.2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.nvme.commands import Command, Queue, Transfer
from lab.nvme.completions import Completion
from lab.passthrough.errors import PassthroughError

_COMPLETION = struct.Struct("<IIHHHH")


@dataclass(frozen=True)
class Request:
    """A command for the admin queue or an I/O queue.

    Of ``command`` the operating system sets CID, PSDT, MPTR and the data pointer; every other field goes out as it is.
    ``data`` goes to the controller, ``length`` bytes come from it; the low two bits of the opcode say which of them is used.
    """

    command: Command
    queue: Queue
    data: bytes = b""
    length: int = 0  # bytes
    metadata: bytes = b""
    metadata_length: int = 0  # bytes
    timeout_ms: int = 0  # 0: the operating system's own

    @property
    def data_length(self) -> int:
        """Bytes of the data buffer, whichever way they move."""
        return len(self.data) or self.length

    @property
    def metadata_size(self) -> int:
        """Bytes of the metadata buffer, whichever way they move."""
        return len(self.metadata) or self.metadata_length

    @property
    def to_controller(self) -> bool:
        """Return whether data moves to the controller."""
        return bool(self.command.transfer & Transfer.TO_CONTROLLER)

    @property
    def name(self) -> str:
        """The command in a word: its class's name, or its opcode."""
        kind = type(self.command)
        return kind.__name__ if kind.OPCODE is not None else f"opcode {self.command.OPC:02X}h"


@dataclass(frozen=True)
class Answer:
    """What came back. Of ``completion`` the operating system keeps SQHD, SQID, CID and the phase tag: they read 0.

    ``dw0_known`` and ``dw1_known`` say whether the interface carries these dwords at all; if not they read 0.
    """

    completion: Completion
    data: bytes = b""
    metadata: bytes = b""
    dw0_known: bool = True
    dw1_known: bool = False

    @property
    def status_field(self) -> int:
        """All 15 status bits: SC, SCT, CRD, M, DNR from bit 0 up (Base 2.0, 3.3.3.2.1)."""
        return int.from_bytes(self.completion[14:16], "little") >> 1

    def check(self) -> Answer:
        """Return the answer itself; CommandFailedError unless the controller completed the command successfully."""
        if not self.completion.ok:
            raise CommandFailedError(self)
        return self


class CommandFailedError(PassthroughError):
    """The controller completed the command with another status than success."""

    reason = "status"

    def __init__(self, answer: Answer) -> None:
        """Return the status of the answer."""
        done = answer.completion
        retry = ", do not retry" if done.DNR else ""
        super().__init__(f"the controller answered {done.text} (SCT {done.SCT:X}h, SC {done.SC:02X}h{retry})")
        self.answer = answer


def completion(status_field: int, dw0: int = 0, dw1: int = 0) -> Completion:
    """Return the completion with these 15 status bits and command specific dwords."""
    return Completion(_COMPLETION.pack(dw0, dw1, 0, 0, 0, status_field << 1 & 0xFFFF))
