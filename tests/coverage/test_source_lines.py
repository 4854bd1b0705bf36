"""Source lines of objects with debug information."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from conformance.judging.coverage import CoveredObject
from conformance.report.coverage import lcov
from lab.coverage.objects import read_object

SOURCE = """\
int probe(int bar)
{
    int caps = bar * 3;
    if (bar > 7)
        caps += 5;
    return caps;
}

int nvme_read(void)
{
    return probe(1);
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("version", [4, 5])
def test_lines_are_those_of_the_source(tmp_path: Path, version: int) -> None:
    (tmp_path / "driver.c").write_text(SOURCE)
    options = [f"-gdwarf-{version}", "-O0", "-static", "-nostdlib", "-Wl,-e,probe", "-Wl,--build-id=none"]
    subprocess.run(["gcc", *options, "driver.c", "-o", "kernel"], cwd=tmp_path, check=True)
    item = read_object(tmp_path / "kernel")
    assert item.sources == ("driver.c",)
    probe = next(function for function in item.functions if function.name == "probe")
    assert [line for _, _, line in probe.lines] == [2, 3, 4, 5, 6, 7]
    covered = CoveredObject("toy", "lab", item.name, item.sha256, item.functions, item.sources)
    branch = next(mask for _, line, mask in probe.source_lines() if line == 5)
    everything = (1 << probe.instructions) - 1
    covered.add("read/one", [everything & ~branch if function is probe else 0 for function in item.functions])
    hits = covered.line_hits()
    assert {line: count for (_, line), count in hits.items()} == {2: 1, 3: 1, 4: 1, 5: 0, 6: 1, 7: 1, 10: 0, 11: 0, 12: 0}
    lines = lcov([covered]).splitlines()
    assert {"SF:driver.c", "FN:2,probe", "FNDA:1,probe", "FNDA:0,nvme_read", "DA:5,0", "DA:6,1", "LF:9", "LH:5"} <= {*lines}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_only_the_wanted_functions_count(tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(SOURCE)
    subprocess.run(["gcc", "-static", "-nostdlib", "-Wl,-e,probe", "driver.c", "-o", "kernel"], cwd=tmp_path, check=True)
    assert [f.name for f in read_object(tmp_path / "kernel", ["nvme_*"]).functions] == ["nvme_read"]
    assert read_object(tmp_path / "kernel").sources == ()
