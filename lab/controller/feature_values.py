"""The values of a controller's features, and what they are after a reset. Base 2.0, 5.27.1 "Feature Specific Information"."""

from __future__ import annotations

from lab.controller.core import Core
from lab.nvme.features import AsyncEventConfig, Fid, NumberOfQueues, Timestamp

DEFAULTS: dict[int, int] = {
    Fid.ARBITRATION: 7,  # no burst limit
    Fid.TEMPERATURE_THRESHOLD: 343,  # 70 °C
}
"""Values after a reset, where they are not 0 and depend on nothing else."""


class FeatureValues:
    """One controller's. Nothing is saved: a reset brings the defaults back."""

    def __init__(self, core: Core) -> None:
        """Begin with the values after a reset."""
        self._core = core
        self.forget()

    def forget(self) -> None:
        """Return to the values after a reset."""
        self.values: dict[tuple[int, int], int] = {}
        self.buffers: dict[int, bytes] = {}
        self.granted = self._core.spec.io_queues
        """I/O queue pairs that the host may create."""
        self._timestamp_base = 0  # milliseconds, from which the timestamp counts
        self._timestamp_set_at = self._core.clock.now()
        self._timestamp_origin = 0

    @property
    def async_event_config(self) -> AsyncEventConfig:
        """Asynchronous Event Configuration as it is set."""
        return AsyncEventConfig(self.value(Fid.ASYNC_EVENT_CONFIG))

    @property
    def write_cache(self) -> bool:
        """Whether the volatile write cache is there and switched on."""
        return bool(self._core.spec.write_cache and self.value(Fid.VOLATILE_WRITE_CACHE))

    def value(self, fid: int, which: int = 0) -> int:
        """Return the current value; ``which``: the namespace, vector or threshold, where a feature has a value for each."""
        return self.values.get((fid, which), self.default(fid, which))

    def default(self, fid: int, which: int = 0) -> int:
        """Return the value after a reset."""
        spec = self._core.spec
        if fid == Fid.INTERRUPT_VECTOR_CONFIG:
            return which
        if fid == Fid.TEMPERATURE_THRESHOLD and which:
            return 0  # no under temperature threshold
        if fid == Fid.VOLATILE_WRITE_CACHE:
            return int(spec.write_cache)
        if fid == Fid.NUMBER_OF_QUEUES:
            return int(NumberOfQueues.of(NSQR=spec.io_queues - 1, NCQR=spec.io_queues - 1))
        return DEFAULTS.get(fid, 0)

    def timestamp(self, *, default: bool = False) -> bytes:
        """Return the Timestamp feature's data: milliseconds since the reset, or from the host's on. Base 2.0, 5.27.1.11."""
        if default:
            return bytes(Timestamp())
        now = self._timestamp_base + int((self._core.clock.now() - self._timestamp_set_at) * 1000)
        return Timestamp.of(TIMESTAMP=now & (1 << 48) - 1, ORIGIN=self._timestamp_origin)

    def set_timestamp(self, data: bytes) -> None:
        """Take the host's timestamp."""
        self._timestamp_base, self._timestamp_set_at = Timestamp(data).TIMESTAMP, self._core.clock.now()
        self._timestamp_origin = 1
