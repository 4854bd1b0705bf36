"""The benchmark's output is fio's: one parser reads fio's own output and ours, text and JSON."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.bench.fio import fetch
from lab.drivers.fio import LOADER, PROGRAM
from lab.drivers.nvmectl import main
from lab.reference import fio_output
from lab.reference.jobs import STANDARD, parse
from lab.reference.statistics import Statistics
from lab.settings import Settings

UNITS = {"": 1, "k": 1000, "M": 10**6}
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
TIMES = {"nsec": 1, "usec": 1000, "msec": 10**6, "sec": 10**9}
JOBS = ("--seconds", "0.1")


@dataclass
class Direction:
    """The figures of reads or writes of a job."""

    total: int
    iops: float
    bandwidth: float
    mean: float  # nanoseconds
    percentiles: dict[float, float]


@dataclass
class Report:
    """The figures of a job."""

    pattern: str
    depth: int
    error: int
    directions: dict[str, Direction]
    depth_levels: dict[str, float]
    latency_levels: float  # percent of all operations that some level counts


def parse_json(text: str) -> dict[str, Report]:
    """Return the report of each job of fio's JSON."""
    document = json.loads(text[text.index("{") :])
    assert re.match(r"fio-\d+\.\d+", document["fio version"])
    return {job["jobname"]: _json_job(document, job) for job in document["jobs"]}


def _json_job(document: dict[str, Any], job: dict[str, Any]) -> Report:
    options = document.get("global options", {}) | job["job options"]
    directions = {}
    for name in ("read", "write"):
        figures = job[name]
        assert set(figures) >= {
            "io_bytes",
            "io_kbytes",
            "bw_bytes",
            "bw",
            "runtime",
            "short_ios",
            "drop_ios",
            "slat_ns",
            "lat_ns",
        }
        if figures["total_ios"]:
            latency = figures["clat_ns"]
            assert latency["min"] <= latency["mean"] <= latency["max"]
            assert latency["N"] == figures["total_ios"]
            percentiles = {float(percent): float(value) for percent, value in latency["percentile"].items()}
            directions[name] = Direction(
                figures["total_ios"], figures["iops"], figures["bw_bytes"], latency["mean"], percentiles
            )
    shares = [share for unit in ("ns", "us", "ms") for share in job[f"latency_{unit}"].values()]
    assert job["usr_cpu"] >= 0
    assert job["sys_cpu"] >= 0
    return Report(options["rw"], int(options["iodepth"]), job["error"], directions, job["iodepth_level"], sum(shares))


def parse_text(text: str) -> dict[str, Report]:
    """Return the report of each job of fio's text."""
    headers = dict(re.findall(r"^(\S+): \(g=\d+\): (rw=.*)$", text, re.MULTILINE))
    assert re.search(r"^fio-\d+\.\d+", text, re.MULTILINE)
    assert re.search(r"^Starting \d+ (process|thread)", text, re.MULTILINE)
    assert re.search(r"^Run status group 0 \(all jobs\):$", text, re.MULTILINE)
    parts = re.split(
        r"^(\S+): \(groupid=\d+, jobs=\d+\): err= ?(\d+).*$", text.partition("Run status group")[0], flags=re.MULTILINE
    )
    reports = {}
    for name, error, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        fields = dict(re.findall(r"(\w+)=(\S+?)(?:,|$)", headers[name]))
        totals = re.search(r"issued rwts: total=(\d+),(\d+),", body)
        assert totals
        directions = {
            kind: _text_direction(body, kind, int(total))
            for kind, total in zip(("read", "write"), totals.groups(), strict=True)
            if int(total)
        }  # fmt: skip
        levels = re.search(r"IO depths\s+: (.*)", body)
        assert levels
        depths = {key: float(share) for key, share in re.findall(r"([>=\d]+)=([\d.]+)%", levels[1])}
        shares = [float(share) for line in re.findall(r"^  lat \(\wsec\)\s*: (.*)$", body, re.MULTILINE)
                  for share in re.findall(r"=([\d.]+)%", line)]  # fmt: skip
        reports[name] = Report(fields["rw"], int(fields["iodepth"]), int(error), directions, depths, sum(shares))
    return reports


def _text_direction(body: str, kind: str, total: int) -> Direction:
    part = body[re.search(rf"^  {kind}: ", body, re.MULTILINE).start() :]  # type: ignore[union-attr]
    rates = re.match(r"  \w+: IOPS=([\d.]+)(\w?), BW=([\d.]+)(\w+)/s \([\d.]+\w+/s\)\([\d.]+\w+/\d+msec\)", part)
    latency = re.search(r" lat \((\w+)\)\s*: min=\s*\S+, max=\s*\S+, avg=\s*([\d.]+), stdev=\s*[\d.]+", part)
    table = re.search(r"clat percentiles \((\w+)\):\n((?:     \|.*\n)+)", part)
    assert rates
    assert latency
    assert table
    percentiles = {float(percent): float(value) * TIMES[table[1]]
                   for percent, value in re.findall(r"([\d.]+)th=\[\s*(\d+)\]", table[2])}  # fmt: skip
    iops, bandwidth = float(rates[1]) * UNITS[rates[2]], float(rates[3]) * SIZES[rates[4]]
    return Direction(total, iops, bandwidth, float(latency[2]) * TIMES[latency[1]], percentiles)


def check(report: Report, block_size: int) -> None:
    """Assert what holds for any job that is not empty."""
    assert report.error == 0
    assert report.directions
    assert sum(report.depth_levels.values()) == pytest.approx(100, abs=1)
    assert report.latency_levels == pytest.approx(100, abs=1.5)
    for direction in report.directions.values():
        assert direction.bandwidth == pytest.approx(direction.iops * block_size, rel=0.02)
        assert list(direction.percentiles) == sorted(direction.percentiles)
        assert list(direction.percentiles.values()) == sorted(direction.percentiles.values())
        assert {50.0, 99.0, 99.9} <= direction.percentiles.keys()


def ours(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the output of nvmectl bench."""
    assert main(["bench", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("form", ["text", "json"])
def test_one_parser_reads_our_standard_jobs(capsys: pytest.CaptureFixture[str], form: str) -> None:
    text = ours(capsys, *JOBS, *(["--json"] if form == "json" else []))
    reports = parse_json(text) if form == "json" else parse_text(text)
    assert list(reports) == ["randread-4k", "seqread-128k", "randrw-70-30"]
    assert [report.pattern for report in reports.values()] == ["randread", "read", "randrw"]
    for job, report in zip(STANDARD, reports.values(), strict=True):
        check(report, job.bs)
        assert report.depth == 32
    mix = reports["randrw-70-30"].directions
    assert mix["read"].total / (mix["read"].total + mix["write"].total) == pytest.approx(0.7, abs=0.2)
    assert set(reports["randread-4k"].directions) == {"read"}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["normal", "json"])
def test_the_same_parser_reads_fios_own_output(tmp_path: Path, form: str) -> None:
    fio = fetch(Settings(), print)
    for name, file in fio.files.items():
        (tmp_path / name).symlink_to(file)
    options = {"name": "randrw-70-30", "rw": "randrw", "rwmixread": 70, "bs": 4096, "iodepth": 32, "size": "2m",
               "filename": tmp_path / "disk", "ioengine": "psync", "thread": 1, "output-format": form}  # fmt: skip
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [str(tmp_path / LOADER), "--library-path", str(tmp_path), str(tmp_path / PROGRAM), *words]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120).stdout
    (report,) = (parse_json(text) if form == "json" else parse_text(text)).values()
    check(report, 4096)
    assert report.pattern == "randrw"
    assert set(report.directions) == {"read", "write"}


def test_a_job_of_ones_own_has_fios_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = ours(capsys, "--job", "name=hot,rw=read,bs=8k,iodepth=4,numjobs=2,runtime=0.05", "--queues", "2", "--json")
    ((name, report),) = parse_json(text).items()
    assert (name, report.pattern, report.depth) == ("hot", "read", 4)
    check(report, 8192)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (
            "rw=sideways",
            "the option rw of a job is 'sideways', but must be one of read, write, rw, randread, randwrite, randrw",
        ),
        ("bs=100", "the option bs of a job is '100', but must be a number of bytes of at least 512, as in 4k or 1m"),
        ("iodepth=0", "the option iodepth of a job is '0', but must be a number from 1 to 65535"),
        ("speed=9", "the job 'speed=9' has an option 'speed', but the options are name, rw, bs, iodepth"),
    ],
)
def test_a_bad_job_is_wrong_usage_in_one_sentence(capsys: pytest.CaptureFixture[str], job: str, sentence: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--job", job])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_users_disk_is_overwritten_by_permission_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(range(256)) * 4096)
    before = image.read_bytes()
    assert main(["bench", "--image", str(image), *JOBS]) == 0
    said = capsys.readouterr()
    assert "left out: randrw-70-30 would overwrite data of namespace 1; --write allows it" in said.err
    assert "randrw-70-30" not in said.out
    assert main(["bench", "--image", str(image), "--job", "rw=randwrite,runtime=0.05"]) == 1
    assert "job would overwrite data of namespace 1" in capsys.readouterr().err
    assert image.read_bytes() == before
    assert main(["bench", "--image", str(image), "--job", "rw=randwrite,runtime=0.05", "--write"]) == 0
    assert image.read_bytes() != before


def test_the_line_of_progress_has_iops_and_time_left() -> None:
    statistics = Statistics(0.0)
    for number in range(1, 1001):
        statistics.ended(statistics.reads, number / 1000, 1e-4, 4096, 1)
    line = fio_output.progress_line(parse("name=hot,runtime=4"), statistics, 0.25)
    assert line == "Jobs: 1 (f=1): [hot][25.0%][r=3.91MiB/s][r=1000 IOPS][eta 00m:03s]"


def test_the_environment_runs_the_benchmark(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVME_BENCHMARK", "1")
    assert main([]) == 0
    assert set(parse_text(capsys.readouterr().out)) == {job.name for job in STANDARD}
