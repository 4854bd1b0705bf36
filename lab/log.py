"""The lab's log: what it does and decides, for those who look for the reason of a failure.

Modules log to ``logging.getLogger(__name__)``. Nothing is shown unless the environment has `DEBUG`, which workers inherit.
Under the user's own pytest, its ``--log-level`` and ``--log-cli-level`` show it too.
"""

from __future__ import annotations

import logging
import os
import sys

DEBUG = "NVME_LAB_DEBUG"
"""The variable that shows the log, and the traceback of an error."""
PACKAGES = ("conformance", "images", "lab")
FORMAT = "%(asctime)s [%(process)d] %(name)s: %(message)s"
_HANDLER = "nvme-lab"


def is_debug() -> bool:
    """Return whether the environment asks for the log."""
    return bool(os.environ.get(DEBUG))


def show() -> None:
    """Write the log of every module to standard error where `is_debug`. May be called again."""
    if not is_debug():
        return
    for package in PACKAGES:
        logger = logging.getLogger(package)
        if any(handler.name == _HANDLER for handler in logger.handlers):
            continue
        handler = logging.StreamHandler(sys.stderr)
        handler.name = _HANDLER
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
