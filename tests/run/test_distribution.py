"""Who gets which scenario when workers die: no scenario is lost, and none is tried a third time."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance.run.scheduler import WholeScenarios, unpack
from lab.errors import LabError

ITEMS = [f"conformance::{scenario}::{check}" for scenario in "abcdef" for check in ("one", "two")]


class Worker:
    """As far as the scheduler knows one: it is sent the numbers of items, and it dies whenever a test says so."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send_runtest_some(self, items: list[int]) -> None:
        self.sent += items

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def scenarios(self) -> str:
        return "".join(dict.fromkeys(ITEMS[item].split("::")[1] for item in self.sent))


@pytest.fixture
def scheduler() -> WholeScenarios:
    config = SimpleNamespace(getvalue=lambda name: ["popen"] * 2, option=SimpleNamespace(loadscopereorder=False))
    return WholeScenarios(cast(Any, config))


def born(scheduler: WholeScenarios) -> Worker:
    """Return a worker that has said that it lives."""
    worker = Worker()
    scheduler.add_node(worker)
    return worker


def collected(scheduler: WholeScenarios, worker: Worker) -> None:
    scheduler.add_node_collection(worker, ITEMS)
    if scheduler.collection_is_completed:
        scheduler.schedule()


def working(scheduler: WholeScenarios) -> tuple[Worker, Worker]:
    workers = born(scheduler), born(scheduler)
    for worker in workers:
        collected(scheduler, worker)
    return workers


def done(scheduler: WholeScenarios, worker: Worker) -> None:
    """All that it was sent, and what it is sent meanwhile."""
    for item in worker.sent:
        scheduler.mark_test_complete(worker, item)


def test_a_worker_that_dies_while_another_is_being_born_loses_nothing(scheduler: WholeScenarios) -> None:
    first, second = working(scheduler)
    assert (first.scenarios, second.scenarios) == ("a", "b")
    assert scheduler.remove_node(first) == ITEMS[0]
    unready = born(scheduler)
    assert scheduler.remove_node(second) == "conformance::b::one"
    assert unready.scenarios == ""
    ready = born(scheduler)
    for worker in (unready, ready):
        collected(scheduler, worker)
    for worker in (unready, ready):
        done(scheduler, worker)
    assert {*unready.scenarios, *ready.scenarios} == set("abcdef")
    assert scheduler.tests_finished
    assert not scheduler.has_pending


def test_a_scenario_that_was_begun_is_done_again_whole(scheduler: WholeScenarios) -> None:
    first, second = working(scheduler)
    scheduler.mark_test_complete(first, 0)
    scheduler.remove_node(first)
    done(scheduler, second)
    assert second.scenarios == "bacdef"
    assert ITEMS[0] in {ITEMS[item] for item in second.sent}


def test_what_two_workers_have_died_of_is_given_up(scheduler: WholeScenarios) -> None:
    first, _ = working(scheduler)
    assert scheduler.remove_node(first) == ITEMS[0]
    again = born(scheduler)
    collected(scheduler, again)
    assert again.scenarios[0] == "a"
    assert scheduler.remove_node(again) == ITEMS[0]
    assert scheduler.deaths["conformance::a"] == 2
    last = born(scheduler)
    collected(scheduler, last)
    assert "a" not in last.scenarios


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "outside", "fifo"])
def test_an_archive_cannot_leave_its_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_text("secret")
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        entry = tarfile.TarInfo("../escaped" if kind == "outside" else "./answers.bin")
        entry.type = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}.get(
            kind, tarfile.REGTYPE
        )
        entry.linkname = str(tmp_path / "secret")
        tar.addfile(entry, BytesIO(b""))
    with pytest.raises(LabError, match="cannot be unpacked"):
        unpack(content.getvalue(), tmp_path / "to")
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "escaped").exists()
