"""How promptly the machine has run a recording: a part of the end marker."""

from __future__ import annotations

from dataclasses import dataclass

TOO_SLOW = "this machine was too slow"
"""How the reason of a verdict begins that blames the machine."""

WINDOW = 5.0
"""Seconds in which the pieces of a thread's waiting are added up."""
LONGEST_JUMP = 0.1
"""Seconds: a clock that is adjusted in order (adjtime(3)) does not part so far from the monotonic one in a recording."""


@dataclass(frozen=True)
class MachineReport:
    """How promptly the machine ran the guest and the lab; all in seconds."""

    bound: float
    """The longest stall that cannot have made the driver give up: half of its shortest time-out."""
    longest_stall: float
    """The longest time in which a thread of QEMU or of the lab was ready to run and was not run."""
    longest_stop: float
    """The longest time in which QEMU was stopped by a signal."""
    steal: float = 0.0
    """What the hypervisor took from all processors."""
    clock_jump: float = 0.0
    """By how much the machine's clock was set while the recording ran; the order of events depends on it."""
    most_waited: float = 0.0
    """The most of any `WINDOW` seconds in which a thread of QEMU was ready to run and was not run, in pieces too."""

    @property
    def trouble(self) -> str:
        """Why a driver may have given up because of the machine; "" if it cannot have."""
        if abs(self.clock_jump) > LONGEST_JUMP:
            return f"{TOO_SLOW} or its clock was set: by {self.clock_jump:+.1f} s while this was recorded"
        if self.longest_stop > self.bound:
            return f"{TOO_SLOW}: QEMU was stopped for {self.longest_stop:.1f} s (allowed: {self.bound:g} s)"
        if self.longest_stall > self.bound:
            return f"{TOO_SLOW}: QEMU or the lab was not run for {self.longest_stall:.1f} s (allowed: {self.bound:g} s)"
        return ""

    @property
    def starvation(self) -> str:
        """Why the guest's clock may have lagged behind and caught up at once; "" if it cannot have. Stalls need not be long."""
        if self.most_waited > self.bound:
            waited = f"a thread of QEMU was not run for {self.most_waited:.1f} s of {WINDOW:g} s"
            return f"{TOO_SLOW}: {waited}, and the guest's clock with it (allowed: {self.bound:g} s)"
        return ""
