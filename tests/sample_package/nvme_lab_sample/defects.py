"""A defect of somebody else's driver that names no check: the campaign says which checks it fails."""

from lab.defects.defect import defect
from lab.reference.controller import Controller


@defect("any:forgets-the-last-entry")
class ForgetsLastEntry(Controller):
    """Takes CAP.MQES for the number of entries."""

    @property
    def max_queue_entries(self) -> int:
        return self.cap.MQES
