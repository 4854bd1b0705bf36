"""The benchmark of the reference driver, in small: what is measured is real, whatever its speed."""

from __future__ import annotations

import itertools
import time

import pytest

from lab.bench import reference
from lab.bench.fio import Fio
from lab.bench.reference import LEAST, Round, bench, copies
from lab.errors import LabError
from lab.toolchain import Toolchain


def test_all_transports_are_measured_against_their_floors(toolchain: Toolchain, fio_files: Fio) -> None:
    figures = bench(toolchain, fio_files, rounds=1, seconds=0.05)
    linux = [figure for figure in figures if figure.against == reference.LINUX]
    assert [figure.name for figure in linux] == [
        f"reads by VFIO{how}, QD{depth}" for depth in (1, 32) for how in ("", ", polled")
    ]
    assert all(figure.value > 0 and figure.against_value > 0 and figure.more_is_better for figure in linux)
    figures = [figure for figure in figures if figure not in linux]
    assert [figure.name for figure in figures] == [
        *(f"reads {how}, QD{depth}" for how in ("in process", "over qtest") for depth in (1, 32)),
        *(f"reads by VFIO{how}, QD{depth}" for depth in (1, 32) for how in ("", ", polled")),
    ]
    assert all(figure.value > 0 and figure.against_value > 0 and figure.more_is_better for figure in figures)
    assert [figure.against for figure in figures[::2]] == [reference.COPY, reference.ROUND_TRIP, reference.COPY, reference.COPY]
    assert {figure.against for figure in figures[5::2]} == {reference.INTERRUPTS}


def test_a_device_that_was_not_asked_is_no_figure() -> None:
    done = Round(rates=(1.0, 1.0), floor=1.0)
    counts = iter([0, LEAST, LEAST, 2 * LEAST - 1])
    assert reference._counted(lambda: next(counts), lambda: done) is done
    with pytest.raises(LabError, match=f"the device saw {LEAST - 1} reads"):
        reference._counted(lambda: next(counts), lambda: done)


def test_wrong_data_are_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "FIRST", bytes(4096))
    with reference._in_process(0.01) as measure, pytest.raises(LabError, match="first 4096 bytes that the benchmark read"):
        measure()


def test_the_floor_is_a_copy_and_its_rate_does_not_depend_on_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that moves by a millisecond a look, each round of 1000 copies takes that long, however fast the machine is."""
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) / 1000)
    assert [round(copies(seconds)) for seconds in (0.1, 0.5)] == pytest.approx([1e6, 1e6], rel=0.02)


def test_without_a_guest_there_is_nothing_to_measure() -> None:
    with pytest.raises(LabError, match="needs QEMU and the Linux guest"):
        bench(Toolchain(qemu=None, linux=None), Fio({}, {}))
