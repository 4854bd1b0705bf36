"""The pytest plugin: ``pytest --pyargs conformance --nvme-driver my.toml`` in anybody's repository.

Without any ``--nvme-`` option it does nothing: it collects nothing and imports nothing but this file. The rest is in
`conformance.run.controller` and `conformance.run.worker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.run.handshake import WORKER_INPUT

OPTIONS: dict[str, dict[str, Any]] = {
    "driver": {"action": "append", "metavar": "NAME|FILE", "help": "driver under test, or its manifest (default: linux)"},
    "device": {"action": "append", "metavar": "NAME", "help": "device in front of it (default: all that it reaches)"},
    "stage": {"action": "append", "metavar": "NAME", "help": "only this stage"},
    "profile": {"action": "append", "metavar": "NAME", "help": "only this profile"},
    "check": {"action": "append", "metavar": "ID", "help": "only this check"},
    "scenario": {"action": "append", "metavar": "ID", "help": "only this scenario"},
    "seed": {"type": int, "metavar": "N", "help": "draws serial numbers, sizes and data (default: 0)"},
    "out": {"type": Path, "metavar": "DIR", "help": "folder for results and evidence"},
    "shard": {"metavar": "N/M", "help": "only this one of M parts of equal cost (see nvme-lab report)"},
    "times": {"type": Path, "metavar": "RESULT", "help": "earlier results, by whose seconds scenarios are split and ordered"},
    "coverage": {"action": "store_true", "default": None, "help": "which code of the driver each scenario executes"},
    "confirm": {
        "action": "store_true",
        "default": None,
        "help": "record once more what failed: a failure that does not come back is FLAKY, and fails only with --nvme-strict",
    },
    "strict": {"action": "store_true", "default": None, "help": "warnings and mandatory checks without proof fail"},
}


PASTED = "conformance::"
"""How the ids of items begin, as pytest prints them and takes them again."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--nvme-`` options."""
    group = parser.getgroup("nvme", "NVMe Lab: conformance of NVMe drivers (with --pyargs conformance)")
    for name, settings in OPTIONS.items():
        group.addoption(f"--nvme-{name}", dest=_destination(name), **settings)


def _destination(name: str) -> str:
    """Return the name of an option's value: plural where the option is repeatable."""
    return f"nvme_{name}s" if OPTIONS[name].get("action") == "append" else f"nvme_{name}"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the suite where an option of ours, or a controller, asks for it."""
    names = [_destination(name) for name in OPTIONS]
    options = {name.removeprefix("nvme_"): value for name in names if (value := config.getoption(name)) is not None}
    carried = getattr(config, "workerinput", {}).get(WORKER_INPUT)
    if carried is not None:
        with _lab_errors_end_pytest():
            from conformance.run.worker import worker
        config.pluginmanager.register(worker(carried), "nvme-suite")
    elif not hasattr(config, "workerinput"):
        ids = [argument for argument in config.args if argument.startswith(PASTED)]
        if not options and not ids:
            return
        if ids:  # pytest itself takes an id for the name of a file
            config.args[:] = [*(argument for argument in config.args if argument not in ids), str(Path(__file__).parent)]
        with _lab_errors_end_pytest():
            from conformance.run.controller import controller
        config.pluginmanager.register(controller(options, ids), "nvme-suite")
    if config.pluginmanager.has_plugin("nvme-suite"):
        from conformance.run.items import MARKERS

        for name, meaning in MARKERS.items():
            config.addinivalue_line("markers", f"{name}: {meaning}")


@contextmanager
def _lab_errors_end_pytest() -> Iterator[None]:
    """End pytest with the error where the suite cannot be imported: checks of another package may be broken."""
    from lab.errors import LabError

    try:
        yield
    except LabError as error:
        pytest.exit(str(error), returncode=error.exit_status)
