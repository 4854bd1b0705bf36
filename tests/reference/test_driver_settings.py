"""Settings by environment: defaults, values, and the sentence about a bad one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.drivers.nvmectl import main
from lab.reference.errors import Refused
from lab.reference.settings import VARIABLES, Settings, from_environment

if TYPE_CHECKING:
    from tests.reference.conftest import Make


def test_defaults() -> None:
    settings = Settings(**from_environment({}))
    assert settings.io_queues == os.cpu_count()
    assert (settings.depth, settings.polling) == (1024, False)
    assert settings.poll_interval == pytest.approx(10e-6)
    assert (settings.zero_copy, settings.scheduler, settings.benchmark) == (True, "cpuaffinity", False)


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("NVME_NUM_QUEUES", "3", "io_queues", 3),
        ("NVME_NUM_QUEUES", "0", "io_queues", os.cpu_count()),
        ("NVME_NUM_QUEUES", "65535", "io_queues", 65535),
        ("NVME_QUEUE_DEPTH", "2", "depth", 2),
        ("NVME_QUEUE_DEPTH", "65536", "depth", 65536),
        ("NVME_POLLING_MODE", "true", "polling", True),
        ("NVME_POLLING_MODE", "FALSE", "polling", False),
        ("NVME_POLLING_MODE", "1", "polling", True),
        ("NVME_POLL_INTERVAL_US", "250", "poll_interval", 250e-6),
        ("NVME_POLL_INTERVAL_US", "0", "poll_interval", 0.0),
        ("NVME_ZERO_COPY", "false", "zero_copy", False),
        ("NVME_SCHEDULER", "deadline", "scheduler", "deadline"),
        ("NVME_BENCHMARK", "1", "benchmark", True),
        ("NVME_QUEUE_DEPTH", "", "depth", 1024),
    ],
)
def test_a_variable_sets_its_setting(variable: str, text: str, setting: str, value: object) -> None:
    assert getattr(Settings(**from_environment({variable: text})), setting) == value


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("NVME_NUM_QUEUES", "-1", "a number from 0 (one for each CPU) to 65535"),
        ("NVME_NUM_QUEUES", "many", "a number from 0 (one for each CPU) to 65535"),
        ("NVME_QUEUE_DEPTH", "1", "a number from 2 to 65536"),
        ("NVME_QUEUE_DEPTH", "65537", "a number from 2 to 65536"),
        ("NVME_QUEUE_DEPTH", "1e3", "a number from 2 to 65536"),
        ("NVME_POLLING_MODE", "maybe", "true or false"),
        ("NVME_POLL_INTERVAL_US", "-5", "a number of microseconds from 0 to 1000000"),
        ("NVME_ZERO_COPY", "2", "true or false"),
        ("NVME_SCHEDULER", "fair", "one of none, round-robin, cpuaffinity, priority, deadline"),
        ("NVME_BENCHMARK", "yes", "0 or 1"),
    ],
)
def test_a_bad_value_is_one_sentence_with_variable_value_and_what_is_allowed(
    variable: str, text: str, allowed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = f"the environment variable {variable} is {text!r}, but must be {allowed}"
    with pytest.raises(Refused) as refused:
        from_environment({variable: text})
    assert str(refused.value) == sentence
    monkeypatch.setenv(variable, text)
    assert main(["ready"]) == 1
    assert capsys.readouterr().err == f"nvmectl: {sentence}\n"


def test_every_variable_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference-driver.md").read_text()
    assert not [name for name in VARIABLES if f"`{name}`" not in page]


def test_a_setting_beyond_what_the_controller_grants_is_noted(make: Make) -> None:
    rig = make(cap={"MQES": 15}, settings=Settings(io_queues=1000, depth=64))
    controller = rig.load()
    assert (
        controller.notes["NVME_QUEUE_DEPTH"] == "NVME_QUEUE_DEPTH: 64 entries of a queue are wanted, the controller allows 16"
    )
    assert controller.notes["NVME_NUM_QUEUES"].startswith(
        "NVME_NUM_QUEUES: 1000 I/O queue pairs are wanted, the controller allows"
    )
    assert controller.io[0].submission.entries == 16


def test_queues_are_polled_one_by_one_or_all(make: Make) -> None:
    controller = make(settings=Settings(io_queues=3, polled_queues=frozenset({2}))).load()
    assert [pair.vector is None for pair in (controller.admin, *controller.io)] == [False, False, True, False]
    assert controller.namespaces[1].read(0, 1) == bytes(512)
