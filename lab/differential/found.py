"""One thing that differs between the two sides."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from lab.differential.generate import DrawnStep
from lab.nvme.commands import Command
from lab.nvme.status import describe

Kind = Literal["status", "dw0", "more", "dnr", "head", "missing", "data", "image"]


@dataclass(frozen=True)
class SideDifference:
    """``kind`` of what differs at ``command``, and what each side has there."""

    kind: Kind
    step: DrawnStep
    command: Command
    model: Any
    qemu: Any

    @property
    def parts(self) -> bool:
        """From here on the sides are in different states, perhaps."""
        return self.kind in ("status", "missing", "image")

    def __str__(self) -> str:
        """Return both sides' values and the command, in one line."""
        ours, theirs = (self._text(value) for value in (self.model, self.qemu))
        return f"{self.kind}: model {ours}, QEMU {theirs}; {self.command} on queue {self.step.qid}"

    def _text(self, value: Any) -> str:
        if self.kind == "status":
            return describe(value >> 8, value & 0xFF)
        return sha256(value).hexdigest()[:16] if isinstance(value, bytes) else str(value)
