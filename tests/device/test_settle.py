"""The programmable controller's record is not behind the driver's answer, however late its thread runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.device.lab import LabDevice

SPEC = DeviceSpec(controllers=(Controller(serial="SERIAL-OF-20-LETTERS", namespaces=(Namespace(blocks=64),)),))


def test_what_has_arrived_before_is_taken_when_it_is_settled(tmp_path: Path, monkeypatch: Any) -> None:
    """A round of the server's loop takes calls and accesses in any order, so one call alone may return before them."""
    device = LabDevice(SPEC, tmp_path, (11, 1), sockets=tmp_path)
    rounds: list[Callable[[Any], None]] = []
    monkeypatch.setattr(device.server, "call", rounds.append)
    device.settle()
    assert len(rounds) == 2
