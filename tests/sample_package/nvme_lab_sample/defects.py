"""A defect of somebody else's driver that names no check: the campaign says which checks it fails."""

from conformance.api import ReferenceController, defect


@defect("any:forgets-the-last-entry")
class ForgetsLastEntry(ReferenceController):
    """Takes CAP.MQES for the number of entries."""

    @property
    def max_queue_entries(self) -> int:
        return self.cap.MQES
