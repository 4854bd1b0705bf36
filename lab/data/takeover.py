"""A system that boots from an NVMe disk: what its firmware did to the controllers is none of its driver's doing.

Firmware enables a controller, reads by it (the boot loader does so too, through the firmware), and leaves it enabled. A
system's own driver shows itself by the first write to a register of the set-up after that: CC, AQA, ASQ or ACQ. The registers
that it read just before, since the firmware's last doorbell, are its own accesses too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.data.events import (
    Completed,
    Dma,
    Doorbell,
    Event,
    Interrupt,
    PrpList,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Submitted,
)
from lab.nvme.registers import ACQ, AQA, ASQ, CC

SET_UP = frozenset({CC.OFFSET, AQA.OFFSET, ASQ.OFFSET, ACQ.OFFSET, ASQ.OFFSET + 4, ACQ.OFFSET + 4})
_OF_A_COMMAND = (Doorbell, Submitted, Completed, PrpList, Dma, Interrupt, Remark)
_OF_A_DRIVER = (RegisterRead, RegisterWrite, Reset, *_OF_A_COMMAND)


def after_firmware(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events without what a driver before the system's own has done, for each controller."""
    events = list(events)
    handed_over = {controller: _hand_over(events, controller) for controller in {e.controller for e in events} - {""}}
    for event in events:
        last_doorbell, taken = handed_over.get(event.controller, (0.0, 0.0))
        limit = taken if isinstance(event, _OF_A_COMMAND) else last_doorbell
        if not isinstance(event, _OF_A_DRIVER) or event.t > limit or event.t >= taken:
            yield event


def _hand_over(events: Iterable[Event], controller: str) -> tuple[float, float]:
    """Return the time of the last doorbell before a driver takes the controller over, and of that moment; both inf if none."""
    doorbell, is_used = 0.0, False
    for event in events:
        if event.controller != controller:
            continue
        if isinstance(event, Doorbell):
            doorbell = event.t
        elif isinstance(event, Submitted) and event.sqid:
            is_used = True
        elif is_used and isinstance(event, RegisterWrite) and event.offset in SET_UP:
            return doorbell, event.t
    return float("inf"), float("inf")
