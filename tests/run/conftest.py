"""The toy's fixtures."""

from __future__ import annotations

from tests.toy.fixtures import lab, make_evidence

__all__ = ["lab", "make_evidence"]
