"""The toy's fixtures."""

from __future__ import annotations

from tests.toy.fixtures import make_evidence

__all__ = ["make_evidence"]
