"""Profile hand-over: one system after another on one device, as a boot loader leaves it to a kernel, or a kernel to the next.

Nothing is saved and nobody is told: the successor finds whatever the predecessor has left. Base 2.0, 3.5.1, 3.7.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.record.disk import replay, show
from conformance.record.first_use import RESET_BEFORE_USE, first_use
from conformance.record.record import Record
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import Dma, RegisterWrite, Reset, Submitted
from lab.data.plan import Action, Fault
from lab.nvme.commands import CreateIoCq, CreateIoSq, Read
from lab.nvme.registers import ACQ, AQA, ASQ, CC

BLOCKS = 8
HAND_OVER = do("hand-over")
SET_UP = {"AQA": (AQA.OFFSET,), "ASQ": (ASQ.OFFSET, ASQ.OFFSET + 4), "ACQ": (ACQ.OFFSET, ACQ.OFFSET + 4)}
RING_PAGE = 4096
"""Bytes at the begin of a ring that are certainly its own: a page, where it is not smaller."""


def _blocks(lba: int) -> dict[str, Any]:
    return {"nsid": 1, "lba": lba, "blocks": BLOCKS}


def _plan(draw: Draw, *between: Action, faults: tuple[Fault, ...] = (), **device: Any) -> Plan:
    """Let the first system write and read, and its successor read what is there, the other's bytes too, and write."""
    old, mine, theirs = draw.between(16, 300), draw.between(320, 500), draw.between(520, 900)
    first = [LOAD, do("read", **_blocks(old)), do("write", **_blocks(mine), fill=draw.fill()), *between]
    second = [LOAD, do("read", **_blocks(mine)), do("write", **_blocks(theirs), fill=draw.fill())]
    reads = [do("read", **_blocks(lba)) for lba in (old, theirs)]
    return Plan(draw.device(**device), [*first, HAND_OVER, *second, *reads], faults)


@scenario("hand-over/used", "a system is replaced by another one, which finds the controller as it was used", memory=512)
def used(draw: Draw) -> Plan:
    return _plan(draw)


@scenario("hand-over/outstanding", "the same, with a command of the first system in flight", memory=512)
def outstanding(draw: Draw) -> Plan:
    lba = draw.between(1000, 1200)
    held = Fault(name="held", behaviour="hold", queue="io", lba=lba)
    return _plan(draw, do("submit", **_blocks(lba), each=BLOCKS), faults=(held,))


@scenario("hand-over/busy", "the same, and the controller takes 300 ms to stop", memory=512)
def busy(draw: Draw) -> Plan:
    return _plan(draw, faults=(Fault(name="busy", behaviour="slow-disable", arguments={"ms": 300}, times=1),))


SCENARIOS = ("hand-over/used", "hand-over/outstanding", "hand-over/busy")
RULE: dict[str, Any] = {"needs": ["hand-over"], "scenarios": SCENARIOS}


def _found(record: Record) -> float | None:
    """Return when the successor's system was there; None if there was no hand-over."""
    return next((asked.ended.t for asked in record.answers("hand-over") if asked.ok and asked.ended), None)


@check("hand-over/comes-up", cite=BASE_2_0["3.5.1"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"], **RULE)
def comes_up(record: Record) -> Iterator[Finding]:
    """Brings a controller up in whatever state the system before has left it."""
    found = _found(record)
    for asked in record.answers("load") if found is not None else ():
        if found is not None and asked.started.t >= found and (any(record.during(asked, RegisterWrite)) or not asked.ok):
            yield Finding(asked.ok, asked.ended, "a controller that comes up", asked.said)


@check("hand-over/takes-over", cite=BASE_2_0["3.5.1"], level=MANDATORY, why="integrity", witnesses=["wire"], **RULE)
def takes_over(record: Record) -> Iterator[Finding]:
    """Resets a controller that the system before has left enabled before it uses it with queues of its own."""
    found = _found(record)
    if found is not None and (use := first_use(record, found)):
        state, event, reset = use
        reset = reset or not state.cc.EN  # it was left disabled
        yield Finding(reset, event, RESET_BEFORE_USE, "reset" if reset else "no reset")


@check("hand-over/own-queues", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], **RULE)
def own_queues(record: Record) -> Iterator[Finding]:
    """Gives the controller admin queues of its own before it enables it: AQA, ASQ and ACQ are written anew."""
    found, written = _found(record), set[int]()
    for _, event in record.walk(RegisterWrite):
        if found is None or event.t < found or not isinstance(event, RegisterWrite):
            continue
        written |= {event.offset, event.offset + 4} if event.size == 8 else {event.offset}
        if event.offset == CC.OFFSET and CC(event.value).EN and not CC(event.value).SHN:
            left = [name for name, offsets in SET_UP.items() if not written & {*offsets}]
            yield Finding(
                not left, event, "AQA, ASQ and ACQ written since the hand-over", f"{listed(left)} not" if left else "all"
            )
            return


@check("hand-over/former-memory", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], **RULE)
def former_memory(record: Record) -> Iterator[Finding]:
    """Lets the device access no memory of the system before once it has reset the controller, but what it names itself."""
    found, reset_at = _found(record), None
    former, own = set[int](), set[int]()
    for state, event in record.walk(Submitted, RegisterWrite, Reset, Dma) if record.exact else ():
        named = set[int]()
        if isinstance(event, Submitted) and isinstance(event.command, CreateIoCq | CreateIoSq):
            named = {event.command.PRP1 // RING_PAGE}
        elif isinstance(event, RegisterWrite) and event.offset == CC.OFFSET and CC(event.value).EN:
            named = {int(state.asq) // RING_PAGE, int(state.acq) // RING_PAGE}
        if found is None or event.t < found:
            former |= named
            continue
        own |= named
        if isinstance(event, Reset) and reset_at is None:
            reset_at = event
            yield Finding(True, event, "a reset that ends what the system before has asked for", "reset")
        elif isinstance(event, Dma) and reset_at is not None and event.address // RING_PAGE in former - own:
            yield Finding(False, event, "no access to a ring of the system before", f"an access at {event.address:#x}")


@check("hand-over/data", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out", "wire"],
       needs=["hand-over", "read"], scenarios=SCENARIOS)  # fmt: skip
def data(record: Record) -> Iterator[Finding]:
    """Reads what the disk holds, the bytes of the system before included, once it has taken over."""
    found = _found(record)
    for asked, disk in replay(record):
        if found is None or asked.action != "read" or asked.started.t < found or (asked.ok and not record.saw(asked, Read)):
            continue
        expected = disk.expect_range(int(asked.arguments["lba"]), int(asked.arguments["blocks"]))
        if not asked.ok or expected is None:
            yield Finding(asked.ok, asked.ended, "a read that succeeds", asked.said)
            continue
        yield Finding(asked.data == expected, asked.ended, show(expected), show(asked.data or b""))
