from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def root() -> Iterator[Path]:
    """Where run folders are made; pytest's own folders are too deep for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="guest-") as root:
        yield Path(root)
