"""What a benchmark has found, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured value beside another of the same kind."""

    name: str
    value: float
    unit: str
    against: str
    """What it is compared with."""
    against_value: float

    @property
    def ratio(self) -> float:
        """How many times the other one is as large."""
        return self.against_value / self.value

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}
