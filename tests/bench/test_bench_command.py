"""``nvme-lab bench``: what it prints, with benchmarks that take no time."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.commands import bench, run_command
from conformance.proof import benchmarks
from lab.bench import controller, fio, fork, reference, virtme
from lab.bench.figures import Figure, environment
from lab.errors import LabError
from lab.toolchain import Toolchain

FIGURES = [
    Figure("a rate", 6000.0, "per s", "the other", 8000.0, more_is_better=True),
    Figure("a time", 0.25, "s", "the other", 1.0),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what the benchmarks were called; they find `FIGURES` at once."""
    calls: list[dict[str, Any]] = []

    def instead(toolchain: Toolchain, *others: object, **options: Any) -> Sequence[Figure]:
        calls.append({"others": others, **options})
        return FIGURES

    for module in (controller, fork, reference):
        monkeypatch.setattr(module, "bench", instead)
    for name in ("scaling", "judging"):
        monkeypatch.setattr(benchmarks, name, instead)
    monkeypatch.setattr(fio, "fetch", lambda settings, progress: "fio")
    monkeypatch.setattr(bench, "prepare", lambda settings, wants, progress: Toolchain(qemu=None, linux=None))
    return calls


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("fork", "--rounds"),
        ("controller", "--rounds"),
        ("reference", "--rounds"),
        ("judge", "--rounds"),
        ("scaling", "--scenarios"),
    ],
)
def test_figures_for_programs(name: str, option: str, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", name, "--json", option, "2"]) == 0
    assert 2 in (asked[0].get(option.strip("-")), *asked[0]["others"])
    said = json.loads(capsys.readouterr().out)
    assert said["figures"] == [
        {"name": "a rate", "value": 6000, "unit": "per s", "against": "the other", "against_value": 8000, "ratio": 0.75},
        {"name": "a time", "value": 0.25, "unit": "s", "against": "the other", "against_value": 1, "ratio": 4},
    ]
    assert {"system", "machine", "cpus", "load", "python"} <= said["environment"].keys()


def test_figures_for_people(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "reference", "--seconds", "0.5"]) == 0
    _, first, second, *_ = capsys.readouterr().out.splitlines()
    assert re.split(" {2,}", first) == ["a rate", "6,000", "per s", "8,000", "the other", "0.75"]
    assert re.split(" {2,}", second) == ["a time", "0.25", "s", "1", "4"]
    (given,) = asked
    assert callable(given.pop("say"))
    assert given == {"others": ("fio",), "rounds": 5, "seconds": 0.5}


def test_the_controllers_benchmark_gets_fio_and_a_folder_for_its_time(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["bench", "controller", "--json", "--rounds", "1", "--seconds", "2"]) == 0
    program, folder = asked[0]["others"]
    assert program == "fio"
    assert isinstance(folder, Path)
    assert not folder.exists()
    assert (asked[0]["rounds"], asked[0]["seconds"]) == (1, 2)


@pytest.mark.parametrize("words", [["nothing"], ["fork", "--rounds", "0"], ["fork", "--seconds", "1"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", *words]) == 4
    assert "Error:" in capsys.readouterr().err


def test_the_environment_names_what_figures_depend_on(toolchain: Toolchain) -> None:
    measured = environment(toolchain)
    assert toolchain.qemu
    assert measured["qemu"] == ".".join(map(str, toolchain.qemu.version))
    assert measured["accelerator"] in ("kvm", "tcg,thread=multi")
    assert measured["cpus"] >= 1
    assert toolchain.linux
    assert measured["guest"] == toolchain.linux.release


@pytest.mark.usefixtures("asked")
def test_a_peer_that_cannot_boot_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> Figure:
        raise LabError("virtme-ng's guest did not read the block; it said: busybox is missing")

    monkeypatch.setattr(virtme, "find_program", lambda _: "vng")
    monkeypatch.setattr(virtme, "fetch_kernel", lambda *_: Path())
    monkeypatch.setattr(virtme, "beside", fails)
    assert run_command(["bench", "fork"]) == 0
    said = capsys.readouterr().out
    assert "a rate" in said
    assert "left out  virtme-ng: virtme-ng's guest did not read the block; it said: busybox is missing" in said
    assert run_command(["bench", "fork", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["left_out"]) == 1
