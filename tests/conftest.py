"""What tests of several parts share."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from lab.settings import Settings
from lab.toolchain import WANTS, Toolchain, prepare

settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug
settings.load_profile("lab")


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """QEMU, the Linux guest and U-Boot, in the user's own cache: fetched once per machine, not once per test run."""
    return prepare(Settings(), WANTS, print)
