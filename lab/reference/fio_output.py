"""The results of benchmark jobs as fio prints them: its text, its JSON, and its line of progress.

Programs that read fio's output read this: the fields that a block device job of fio 3 has, with 0 for what does not exist
here (page faults, short and dropped transfers, trims).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from lab.reference.jobs import Job, JobResult
from lab.reference.statistics import PERCENTILES, Direction, Histogram, Statistics

VERSION = "fio-3.33"
"""The version whose output this is, and what parsers look for."""
ENGINE = "nvmectl"
DEPTHS = 1, 2, 4, 8, 16, 32, 64
LATENCIES = {
    "ns": (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000),
    "us": (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000),
    "ms": (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000),
}
"""Upper ends of the buckets of latencies."""
NANOSECONDS = {"ns": 1, "us": 1000, "ms": 1_000_000}
UNIT_NAMES = {"ns": "nsec", "us": "usec", "ms": "msec"}


# -- JSON -----------------------------------------------------------------------------------------------------------


def as_json(results: Sequence[JobResult]) -> dict[str, Any]:
    """Return fio's JSON document."""
    now = time.time()
    return {
        "fio version": f"{VERSION}",
        "timestamp": int(now),
        "timestamp_ms": int(now * 1000),
        "time": time.ctime(now),
        "global options": {"ioengine": ENGINE},
        "jobs": [_job(number, result) for number, result in enumerate(results)],
    }


def _job(group: int, result: JobResult) -> dict[str, Any]:
    job, statistics = result.job, result.statistics
    seconds = statistics.seconds or 1.0
    latencies = _latency_shares(statistics)
    return {
        "jobname": job.name,
        "groupid": group,
        "error": 5 if result.first_error else 0,  # EIO
        "eta": 0,
        "elapsed": max(1, round(statistics.seconds)),
        "job options": {
            "rw": job.rw, "bs": str(job.bs), "iodepth": str(job.iodepth), "numjobs": str(job.numjobs),
            "rwmixread": str(job.rwmixread), "runtime": f"{job.runtime:g}", "randseed": str(job.randseed),
        },
        "read": _direction(statistics, statistics.reads),
        "write": _direction(statistics, statistics.writes),
        "trim": _direction(statistics, Direction()),
        "sync": {"total_ios": statistics.others.operations, "lat_ns": _latency(statistics.others.latency)},
        "job_runtime": round(statistics.seconds * 1000),
        "usr_cpu": round(result.user / seconds * 100, 6),
        "sys_cpu": round(result.system / seconds * 100, 6),
        "ctx": 0,
        "majf": 0,
        "minf": 0,
        "iodepth_level": {_depth_name(low): round(share, 6) for low, share in _depth_shares(statistics)},
        **{f"latency_{unit}": {_end_name(unit, end): share for end, share in latencies[unit]} for unit in LATENCIES},
        "latency_depth": job.iodepth,
        "latency_target": 0,
        "latency_percentile": 100.0,
        "latency_window": 0,
    }  # fmt: skip


def _direction(statistics: Statistics, direction: Direction) -> dict[str, Any]:
    throughput = statistics.throughput(direction)
    return {
        "io_bytes": direction.bytes,
        "io_kbytes": direction.bytes >> 10,
        "bw_bytes": round(throughput),
        "bw": round(throughput) >> 10,
        "iops": round(statistics.iops(direction), 6),
        "runtime": round(statistics.seconds * 1000) if direction.operations else 0,
        "total_ios": direction.operations,
        "short_ios": 0,
        "drop_ios": 0,
        "slat_ns": _latency(Histogram()),
        "clat_ns": _latency(direction.latency, percentiles=True),
        "lat_ns": _latency(direction.latency),
        "errors": direction.errors,
        "timeouts": direction.timeouts,
    }


def _latency(histogram: Histogram, *, percentiles: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {
        "min": histogram.least, "max": histogram.most, "mean": round(histogram.mean, 6),
        "stddev": round(histogram.deviation, 6), "N": histogram.count,
    }  # fmt: skip
    if percentiles and histogram.count:
        found["percentile"] = {f"{percent:.6f}": histogram.percentile(percent) for percent in PERCENTILES}
    return found


# -- text -----------------------------------------------------------------------------------------------------------


def as_text(results: Sequence[JobResult]) -> str:
    """Return fio's text."""
    lines = [line for number, result in enumerate(results) for line in _header(number, result.job)]
    lines += [VERSION, f"Starting {len(results)} process{'es' * (len(results) > 1)}", ""]
    for number, result in enumerate(results):
        lines += [*_job_lines(number, result), ""]
    for number, result in enumerate(results):
        lines += [f"Run status group {number} (all jobs):", *_group_lines(result), ""]
    return "\n".join(lines).rstrip() + "\n"


def _header(group: int, job: Job) -> Iterator[str]:
    size = f"{job.bs}B-{job.bs}B"
    yield (
        f"{job.name}: (g={group}): rw={job.rw}, bs=(R) {size}, (W) {size}, (T) {size}, ioengine={ENGINE}, iodepth={job.iodepth}"
    )


def _job_lines(group: int, result: JobResult) -> Iterator[str]:
    job, statistics = result.job, result.statistics
    seconds = statistics.seconds or 1.0
    error = 5 if result.first_error else 0
    stamp = time.ctime()
    reason = f" ({result.first_error})" if error else ""
    yield f"{job.name}: (groupid={group}, jobs={job.numjobs}): err={error:2}{reason}: pid={os.getpid()}: {stamp}"
    for name, direction in (("read", statistics.reads), ("write", statistics.writes)):
        if direction.operations:
            yield from _direction_lines(name, statistics, direction)
    for unit, shares in _latency_shares(statistics).items():
        used = [f"{_end_name(unit, end)}={share:.2f}%" for end, share in shares if share >= 0.005]
        for at in range(0, len(used), 6):
            yield f"  lat ({UNIT_NAMES[unit]})   : {', '.join(used[at : at + 6])}"
    cpu = f"usr={result.user / seconds:.2%}, sys={result.system / seconds:.2%}"
    yield f"  cpu          : {cpu}, ctx=0, majf=0, minf=0"
    yield f"  IO depths    : {', '.join(f'{_depth_name(low)}={share:.1f}%' for low, share in _depth_shares(statistics))}"
    reads, writes = statistics.reads.operations, statistics.writes.operations
    yield f"     issued rwts: total={reads},{writes},0,0 short=0,0,0,0 dropped=0,0,0,0"
    yield f"     latency   : target=0, window=0, percentile=100.00%, depth={job.iodepth}"


def _direction_lines(name: str, statistics: Statistics, direction: Direction) -> Iterator[str]:
    throughput, milliseconds = statistics.throughput(direction), round(statistics.seconds * 1000)
    yield (
        f"  {name}: IOPS={_thousands(statistics.iops(direction))}, BW={_binary(throughput)}/s ({_decimal(throughput)}/s)"
        f"({_binary(direction.bytes)}/{milliseconds}msec)"
    )
    histogram = direction.latency
    unit = _unit_of(histogram)
    scale = NANOSECONDS[unit]
    for label in ("clat", " lat"):
        yield (
            f"    {label} ({UNIT_NAMES[unit]}): min={_short(histogram.least / scale)}, max={_short(histogram.most / scale)}, "
            f"avg={histogram.mean / scale:.2f}, stdev={histogram.deviation / scale:.2f}"
        )
    yield f"    clat percentiles ({UNIT_NAMES[unit]}):"
    values = [(percent, histogram.percentile(percent) // scale) for percent in PERCENTILES]
    width = max(len(str(value)) for _, value in values)
    for at in range(0, len(values), 4):
        row = ", ".join(f"{percent:5.2f}th=[{value:{width}}]" for percent, value in values[at : at + 4])
        yield f"     | {row}{',' if at + 4 < len(values) else ''}"


def _group_lines(result: JobResult) -> Iterator[str]:
    statistics, milliseconds = result.statistics, round(result.statistics.seconds * 1000)
    for name, direction in (("READ", statistics.reads), ("WRITE", statistics.writes)):
        if direction.operations:
            throughput, total = statistics.throughput(direction), direction.bytes
            binary, decimal = f"{_binary(throughput)}/s", f"{_decimal(throughput)}/s"
            yield (
                f"{name:>7}: bw={binary} ({decimal}), {binary}-{binary} ({decimal}-{decimal}), "
                f"io={_binary(total)} ({_decimal(total)}), run={milliseconds}-{milliseconds}msec"
            )


def progress_line(job: Job, statistics: Statistics, share: float) -> str:
    """Return fio's line of progress: job, share done, throughput, IOPS, time left."""
    rates, iops = [], []
    for letter, direction in (("r", statistics.reads), ("w", statistics.writes)):
        if direction.operations:
            rates.append(f"{letter}={_binary(statistics.throughput(direction))}/s")
            iops.append(f"{letter}={_thousands(statistics.iops(direction))}")
    left = round(job.runtime * (1 - share))
    return (
        f"Jobs: {job.numjobs} (f={job.numjobs}): [{job.name}][{share:.1%}][{','.join(rates)}][{','.join(iops)} IOPS]"
        f"[eta {left // 60:02}m:{left % 60:02}s]"
    )


# -- shares and units -----------------------------------------------------------------------------------------------


def _depth_shares(statistics: Statistics) -> list[tuple[int, float]]:
    """Return (least depth, percent of submissions) of each of fio's levels."""
    total = sum(statistics.depth_counts.values()) or 1
    found = dict.fromkeys(DEPTHS, 0)
    for depth, count in statistics.depth_counts.items():
        found[max(low for low in DEPTHS if low <= max(depth, 1))] += count
    return [(low, count / total * 100) for low, count in found.items()]


def _depth_name(low: int) -> str:
    return f">={low}" if low == DEPTHS[-1] else str(low)


def _latency_shares(statistics: Statistics) -> dict[str, list[tuple[int, float]]]:
    """Return, for each unit, (upper end, percent of operations); -1 stands for all that is longer."""
    ends = [(end * NANOSECONDS[unit], unit, end) for unit, all_ends in LATENCIES.items() for end in all_ends]
    counts = dict.fromkeys(((unit, end) for _, unit, end in ends), 0)
    counts["ms", -1] = 0
    total = 0
    for histogram in (statistics.reads.latency, statistics.writes.latency):
        for value, count in histogram:
            total += count
            key = next(((unit, end) for limit, unit, end in ends if value <= limit), ("ms", -1))
            counts[key] += count
    shares: dict[str, list[tuple[int, float]]] = {unit: [] for unit in LATENCIES}
    for (unit, end), count in counts.items():
        shares[unit].append((end, round(count / (total or 1) * 100, 6)))
    return shares


def _end_name(unit: str, end: int) -> str:
    return f">={LATENCIES[unit][-1]}" if end < 0 else str(end)


def _unit_of(histogram: Histogram) -> str:
    """Return the unit in which fio prints a latency: the largest that leaves the smallest value readable."""
    if histogram.least > 2_000_000:
        return "ms"
    return "us" if histogram.least > 2000 else "ns"


def _short(value: float) -> str:
    return f"{value / 1000:.0f}k" if value >= 10_000 else f"{value:.0f}"


def _thousands(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 10_000 else f"{value:.0f}"


def _binary(value: float) -> str:
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _decimal(value: float) -> str:
    return _scaled(value, 1000, ("B", "kB", "MB", "GB", "TB"))


def _scaled(value: float, step: int, units: Sequence[str]) -> str:
    at = 0
    while value >= step and at < len(units) - 1:
        value /= step
        at += 1
    digits = 0 if value >= 100 or at == 0 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{units[at]}"
