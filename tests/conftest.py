"""What tests of several parts share."""

from __future__ import annotations

import pytest

from lab.settings import Settings
from lab.toolchain import WANTS, Toolchain, prepare


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """QEMU, the Linux guest and U-Boot, in the user's own cache: fetched once per machine, not once per test run."""
    return prepare(Settings(), WANTS, print)
