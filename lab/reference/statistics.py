"""Statistics of I/O: rates, latency with percentiles and a histogram, queue depth over time, errors and time-outs.

Latencies are counted in buckets whose width is at most 1/32 of their value, so that a percentile is exact to 3.2 % and a
million operations need no more memory than ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SUB_BUCKETS = 32
PERCENTILES = 1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99
"""Those that fio prints."""
MOST_SAMPLES = 4096
"""Samples of the queue depth that are kept; then every second one is dropped, and half as many are taken."""


class Histogram:
    """Latencies in nanoseconds."""

    def __init__(self) -> None:
        """Begin with no latency."""
        self.buckets: Counter[int] = Counter()
        self.count = self.total = self.squares = 0
        self.least, self.most = 0, 0

    def add(self, nanoseconds: int) -> None:
        """Count one latency, in nanoseconds."""
        self.buckets[bucket_of(nanoseconds)] += 1
        self.least = nanoseconds if not self.count else min(self.least, nanoseconds)
        self.most = max(self.most, nanoseconds)
        self.count += 1
        self.total += nanoseconds
        self.squares += nanoseconds * nanoseconds

    @property
    def mean(self) -> float:
        """The average latency; 0 without any."""
        return self.total / self.count if self.count else 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return max(0.0, self.squares / self.count - self.mean**2) ** 0.5 if self.count else 0.0

    def percentile(self, percent: float) -> int:
        """Return the latency that so many percent of all do not exceed; 0 without any."""
        wanted, seen = self.count * percent / 100, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(max(upper_end(bucket), self.least), self.most)
        return self.most

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (upper end, count) of each bucket in use, rising."""
        for bucket in sorted(self.buckets):
            yield upper_end(bucket), self.buckets[bucket]


def bucket_of(value: int) -> int:
    """Return the number of a value's bucket."""
    exponent = max(0, value.bit_length() - SUB_BUCKETS.bit_length())
    return exponent * SUB_BUCKETS + (value >> exponent)


def upper_end(bucket: int) -> int:
    """Return the largest value of a bucket."""
    if bucket < 2 * SUB_BUCKETS:
        return bucket
    exponent = bucket // SUB_BUCKETS - 1
    return ((bucket - exponent * SUB_BUCKETS + 1) << exponent) - 1


@dataclass
class Direction:
    """The statistics of reads, or of writes."""

    bytes: int = 0
    errors: int = 0
    timeouts: int = 0
    latency: Histogram = field(default_factory=Histogram)

    @property
    def operations(self) -> int:
        """The number of operations that succeeded."""
        return self.latency.count


class Statistics:
    """The statistics of one run. ``started_at`` and all times are of the transport's clock, in seconds."""

    def __init__(self, started_at: float) -> None:
        """Begin a run at ``started_at``."""
        self.started_at = self.ended_at = started_at
        self.reads, self.writes, self.others = Direction(), Direction(), Direction()
        self.depth: list[tuple[float, int]] = []
        """(time, commands outstanding), at most `MOST_SAMPLES`, over the whole run."""
        self.depth_counts: Counter[int] = Counter()
        """How many operations were submitted at each depth, themselves included."""
        self._every, self._skipped = 1, 0

    @property
    def seconds(self) -> float:
        """How long the run took so far."""
        return self.ended_at - self.started_at

    def submitted(self, now: float, depth: int) -> None:
        """Record the queue depth after a submission."""
        self.depth_counts[depth] += 1
        self._sample(now, depth)

    def ended(self, direction: Direction, now: float, seconds: float, length: int, depth: int) -> None:
        """Record an operation that succeeded, and the queue depth after it."""
        direction.latency.add(round(seconds * 1e9))
        direction.bytes += length
        self.ended_at = now
        self._sample(now, depth)

    def failed(self, direction: Direction, now: float, *, timeout: bool) -> None:
        """Record an operation that failed."""
        direction.errors += 1
        direction.timeouts += timeout
        self.ended_at = now

    def _sample(self, now: float, depth: int) -> None:
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        self.depth.append((now - self.started_at, depth))
        if len(self.depth) >= MOST_SAMPLES:
            self.depth = self.depth[::2]
            self._every *= 2

    def iops(self, direction: Direction) -> float:
        """Return operations a second."""
        return direction.operations / self.seconds if self.seconds > 0 else 0.0

    def throughput(self, direction: Direction) -> float:
        """Return bytes a second."""
        return direction.bytes / self.seconds if self.seconds > 0 else 0.0

    def summary(self) -> dict[str, Any]:
        """Return all figures for programs: latencies in microseconds, throughput in bytes a second."""
        return {
            "seconds": self.seconds,
            "read": self._figures(self.reads),
            "write": self._figures(self.writes),
            "depth": {"most": max(self.depth_counts, default=0), "over_time": self.depth},
        }

    def _figures(self, direction: Direction) -> dict[str, Any]:
        latency = direction.latency
        return {
            "operations": direction.operations,
            "iops": self.iops(direction),
            "throughput": self.throughput(direction),
            "average": latency.mean / 1000,
            "p50": latency.percentile(50) / 1000,
            "p99": latency.percentile(99) / 1000,
            "p99.9": latency.percentile(99.9) / 1000,
            "histogram": [(end / 1000, count) for end, count in latency],
            "errors": direction.errors,
            "timeouts": direction.timeouts,
        }
