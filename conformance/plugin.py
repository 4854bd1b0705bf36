"""The pytest plugin: ``pytest --pyargs conformance --nvme-driver my.toml`` in anybody's repository.

Installed but not asked (no ``--nvme-`` option), it is invisible: it collects nothing and imports nothing but this file. What
it does when asked stands in `conformance.run.items`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conformance.run.handshake import WORKER_INPUT

OPTIONS: dict[str, dict[str, Any]] = {
    "driver": {"action": "append", "metavar": "NAME|FILE", "help": "driver under test, or its manifest (default: linux)"},
    "device": {"action": "append", "metavar": "NAME", "help": "device to put in front of it (default: all that it reaches)"},
    "stage": {"action": "append", "metavar": "NAME", "help": "only this stage"},
    "check": {"action": "append", "metavar": "ID", "help": "only this check"},
    "scenario": {"action": "append", "metavar": "ID", "help": "only this scenario"},
    "seed": {"type": int, "metavar": "N", "help": "draws serial numbers, sizes and data (default: 0)"},
    "out": {"type": Path, "metavar": "DIR", "help": "folder for results and evidence"},
    "shard": {"metavar": "N/M", "help": "only this one of M parts, which cost the same (see nvme-lab report)"},
    "times": {"type": Path, "metavar": "RESULT", "help": "earlier results, by whose seconds scenarios are split and ordered"},
    "strict": {"action": "store_true", "default": None, "help": "warnings and unobserved mandatory rules fail"},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nvme", "NVMe Lab: conformance of NVMe drivers (with --pyargs conformance)")
    for name, settings in OPTIONS.items():
        group.addoption(f"--nvme-{name}", dest=_destination(name), **settings)


def _destination(name: str) -> str:
    """Plural where an option is repeatable."""
    return f"nvme_{name}s" if OPTIONS[name].get("action") == "append" else f"nvme_{name}"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    names = [_destination(name) for name in OPTIONS]
    given = {name.removeprefix("nvme_"): value for name in names if (value := config.getoption(name)) is not None}
    carried = getattr(config, "workerinput", {}).get(WORKER_INPUT)
    if carried is not None:
        config.pluginmanager.register(_session().worker(carried), "nvme-suite")
    elif given and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_session().controller(given), "nvme-suite")


def _session() -> ModuleType:
    """`conformance.run.items`, which declares the checks when it is imported; another package's that are broken end pytest."""
    from lab.errors import LabError

    try:
        from conformance.run import items as session
    except LabError as error:
        pytest.exit(str(error), returncode=error.exit_status)
    return session
