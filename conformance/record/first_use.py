"""How a controller that somebody else has left enabled is used first: after a reset, or as it was found."""

from __future__ import annotations

from conformance.record.record import Record
from conformance.record.state import State
from lab.data.events import Doorbell, Event, RegisterWrite, Reset, Submitted
from lab.nvme.registers import CC

RESET_BEFORE_USE = "a reset before the controller is used"


def first_use(record: Record, since: float) -> tuple[State, Event, bool] | None:
    """Return the first event after ``since`` that uses the controller, the state before it, and whether a reset came before.

    A doorbell, a command and CC with EN=1 use it; a shutdown does not.
    """
    reset = False
    for state, event in record.walk(RegisterWrite, Reset, Submitted, Doorbell):
        if event.t < since or (isinstance(event, RegisterWrite) and event.offset != CC.OFFSET):
            continue
        written = CC(event.value) if isinstance(event, RegisterWrite) else None
        if isinstance(event, Reset) or (written is not None and not written.EN):
            reset = True
        elif written is None or not written.SHN:
            return state, event, reset
    return None
