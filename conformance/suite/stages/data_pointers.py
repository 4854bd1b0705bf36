"""Rules about data pointers that hold for every command that moves data. Base 2.0, 4.1.1."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Record
from conformance.record.state import State
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0
from conformance.suite.stages.fields import own
from lab.data.events import Submitted
from lab.nvme.commands import Command, Flush, Psdt, Verify, WriteUncorrectable, WriteZeroes

DWORD, ENTRY = 4, 8
"""What PRP1 is aligned to, and the bytes of an entry of a PRP list."""
FIELDS = ("OPC", "PSDT", "PRP1", "PRP2", "CDW10", "CDW11")
"""What the pointers and the length of an admin command rest on."""


def by_prps(record: Record, *, admin: bool) -> Iterator[tuple[State, Submitted, int]]:
    """Yield the commands of the driver's own that move data by PRPs, with the number of bytes."""
    for state, event, command in own(record, Command):
        if (event.sqid == 0) == admin and command.OPCODE is not None and command.PSDT == Psdt.PRP and command.transfer:
            length = state.transfer_bytes(command)
            if length:
                yield state, event, length


@check("read/prp1-aligned", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def prp1_aligned(record: Record) -> Iterator[Finding]:
    """Aligns PRP1 to a dword in every I/O command that moves data."""
    for _, event, _ in by_prps(record, admin=False):
        shown = f"{type(event.command).__name__}, PRP1 {event.command.PRP1:#x}"
        yield Finding(event.command.PRP1 % DWORD == 0, event, "a multiple of 4", shown, fields=("OPC", "PRP1"))


@check("admin-queue/data-pointer", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def data_pointer(record: Record) -> Iterator[Finding]:
    """Names all the data of an admin command: PRP1 at a dword, and PRP2 the second page, or a list at a qword."""
    for state, event, length in by_prps(record, admin=True):
        one, two, page = event.command.PRP1, event.command.PRP2, state.page
        first = page - one % page
        if one % DWORD:
            expected, ok = "PRP1 a multiple of 4", False
        elif length <= first:
            expected, ok = "PRP1 a multiple of 4", True  # PRP2 is admin-queue/prp2-unused's
        elif length <= first + page:
            expected, ok = "PRP2 the second page", two != 0 and two % page == 0
        else:
            expected, ok = "PRP2 a PRP list at a multiple of 8", two != 0 and two % ENTRY == 0
        shown = f"{type(event.command).__name__} of {length} bytes, PRP1 {one:#x}, PRP2 {two:#x}"
        yield Finding(ok, event, expected, shown, fields=FIELDS)


WITHOUT_DATA = Flush, Verify, WriteUncorrectable, WriteZeroes
"""I/O commands that move no data, and so leave their pointers reserved. Base 2.0, 7.1; NVM Command Set 1.0, 3.2.5 to 3.2.8."""


@check("write/pointers-unused", cite=BASE_2_0["3.3.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def pointers_unused(record: Record) -> Iterator[Finding]:
    """Leaves PRP1 and PRP2 0 in I/O commands that move no data."""
    for _, event, command in own(record, *WITHOUT_DATA):
        shown = f"{type(command).__name__} with PRP1 {command.PRP1:#x}, PRP2 {command.PRP2:#x}"
        yield Finding(not command.PRP1 and not command.PRP2, event, "PRP1 0, PRP2 0", shown, fields=("OPC", "PRP1", "PRP2"))
