"""What tests of several parts share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lab.bench.fio import Fio
from lab.toolchain import Toolchain
from lab.toolchain.closures import Fetched
from tests.files import executable_folder
from tests.report.browser import Program
from tests.setups import SETUPS, Setups, shown

settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug
settings.load_profile("lab")

SETUPS_KEY = pytest.StashKey[Setups]()


CHANGES_BEHAVIOUR = ("CI", "PYTHONUNBUFFERED")
"""By ``CI`` runs confirm what failed; without buffers, programs that forget to flush work."""


def pytest_configure() -> None:
    """Let the machine's environment change nothing that tests show."""
    for name in CHANGES_BEHAVIOUR:
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark whatever needs a guest or a download; leave out the long campaigns where `-m` does not name them."""
    for item in items:
        if _needed(item):
            item.add_marker("slow")
    if "soak" not in config.option.markexpr:
        soaks = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soaks)
        items[:] = [item for item in items if item not in soaks]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the set-ups of all selected tests before the first of them runs; the processes of a run share the work."""
    if session.config.option.collectonly:
        return
    for name in sorted({name for item in session.items for name in _needed(item)}):
        _setups(session.config).make(name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say why, once, where a set-up of the test cannot be made."""
    for name in _needed(item):
        _setups(item.config).require(name)


def _needed(item: pytest.Item) -> set[str]:
    return SETUPS.keys() & set(getattr(item, "fixturenames", ()))


def _setups(config: pytest.Config) -> Setups:
    if SETUPS_KEY not in config.stash:
        base = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # what the fixture of that name gives
        shared = base.parent if hasattr(config, "workerinput") else base
        config.stash[SETUPS_KEY] = Setups(shared, shown(config))
    return config.stash[SETUPS_KEY]


@pytest.fixture(scope="session")
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    """QEMU, the Linux guests and the firmware, in the user's own cache: fetched once per machine, not once per test run."""
    found: Toolchain = _setups(request.config).made["toolchain"]
    return found


@pytest.fixture(scope="session")
def filesystem_tools(request: pytest.FixtureRequest) -> Fetched:
    """Return the programs that make file systems."""
    found: Fetched = _setups(request.config).made["filesystem_tools"]
    return found


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> Program:
    """Return a browser, the machine's or Debian's."""
    found: Program = _setups(request.config).made["chromium"]
    return found


@pytest.fixture(scope="session")
def libnvme(request: pytest.FixtureRequest) -> Fetched:
    """Return libnvme's headers and libraries, and nvme-cli."""
    found: Fetched = _setups(request.config).made["libnvme"]
    return found


@pytest.fixture(scope="session")
def headers(request: pytest.FixtureRequest) -> Mapping[str, Path]:
    """Headers of Linux and Windows: closure and the root that it was unpacked to."""
    found: Mapping[str, Path] = _setups(request.config).made["headers"]
    return found


@pytest.fixture(scope="session")
def sshd_files(request: pytest.FixtureRequest) -> Fetched:
    """Return OpenSSH's server with its libraries."""
    found: Fetched = _setups(request.config).made["sshd_files"]
    return found


@pytest.fixture(scope="session")
def fio_files(request: pytest.FixtureRequest) -> Fio:
    """Debian's fio with its libraries."""
    found: Fio = _setups(request.config).made["fio_files"]
    return found


@pytest.fixture
def program_folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder whose programs can be executed, also where the temporary one is mounted noexec."""
    with executable_folder(tmp_path) as folder:
        yield folder
