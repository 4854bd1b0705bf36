"""The parts of one controller that its commands use. `lab.controller.controller` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.controller.async_events import AsyncEvents
from lab.controller.completer import Completer
from lab.controller.controller_memory import ControllerMemory
from lab.controller.core import Core
from lab.controller.feature_values import FeatureValues
from lab.controller.host_memory import LentMemory
from lab.controller.interrupts import Interrupts
from lab.controller.inventory import Inventory
from lab.controller.keep_alive import KeepAliveTimer
from lab.controller.logs import Logs
from lab.controller.shadow_doorbells import ShadowDoorbells


@dataclass(frozen=True)
class Parts:
    """What a command handler may use."""

    core: Core
    features: FeatureValues
    logs: Logs
    interrupts: Interrupts
    completer: Completer
    events: AsyncEvents
    shadows: ShadowDoorbells
    inventory: Inventory
    keep_alive: KeepAliveTimer
    lent_memory: LentMemory
    controller_memory: ControllerMemory
    effects: Mapping[int, bytes]
    """Log page 05h, Commands Supported and Effects, of each I/O command set."""
