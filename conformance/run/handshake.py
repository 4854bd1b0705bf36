"""Names that the pytest plugin and the run agree on. It imports nothing, so that an unused plugin stays cheap."""

WORKER_INPUT = "nvme_campaign"
"""The key of xdist's worker input that carries the campaign."""
