"""Statistics: percentiles against sorting, a bounded histogram, depth over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.reference.statistics import MOST_SAMPLES, SUB_BUCKETS, Histogram, Statistics, bucket_of, upper_end

LATENCIES = st.lists(st.integers(0, 10**11), min_size=1, max_size=300)


@given(st.integers(0, 10**12))
def test_a_value_is_in_its_bucket_and_the_bucket_is_narrow(value: int) -> None:
    bucket = bucket_of(value)
    assert value <= upper_end(bucket) <= value * (1 + 1 / SUB_BUCKETS)
    assert bucket == 0 or upper_end(bucket - 1) < value


@given(LATENCIES, st.floats(0, 100))
def test_a_percentile_is_that_of_the_sorted_values_within_a_bucket(values: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    position = max(0, -(-len(values) * percent // 100) - 1)
    exact = sorted(values)[int(position)]
    assert exact <= histogram.percentile(percent) <= max(exact * (1 + 1 / SUB_BUCKETS), exact)
    assert histogram.mean == pytest.approx(sum(values) / len(values))
    assert (histogram.least, histogram.most, histogram.count) == (min(values), max(values), len(values))
    assert sum(count for _, count in histogram) == len(values)


def test_nothing_counted_has_no_latency() -> None:
    histogram = Histogram()
    assert (histogram.mean, histogram.deviation, histogram.percentile(99), list(histogram)) == (0.0, 0.0, 0, [])


def test_the_depth_is_sampled_over_the_whole_run_in_bounded_memory() -> None:
    statistics = Statistics(started_at=5.0)
    for step in range(100_000):
        statistics.submitted(5.0 + step / 1000, step % 7 + 1)
    assert MOST_SAMPLES / 4 < len(statistics.depth) < MOST_SAMPLES
    assert statistics.depth[0][0] < 0.1
    assert statistics.depth[-1][0] > 99
    assert max(statistics.depth_counts) == 7


def test_errors_and_timeouts_are_counted_apart_from_what_succeeded() -> None:
    statistics = Statistics(0.0)
    statistics.ended(statistics.reads, 1.0, 0.5, 4096, 0)
    statistics.failed(statistics.reads, 2.0, timeout=True)
    statistics.failed(statistics.reads, 2.0, timeout=False)
    found = statistics.summary()["read"]
    assert (found["operations"], found["errors"], found["timeouts"]) == (1, 2, 1)
    assert found["iops"] == 0.5
