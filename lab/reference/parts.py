"""What the driver is made of: a class for each part, so that one can be exchanged without touching the others."""

from __future__ import annotations

from dataclasses import dataclass

from lab.reference.async_events import Events
from lab.reference.controller_memory import ControllerMemory
from lab.reference.data import DataPath
from lab.reference.execution import Execution
from lab.reference.features import Features
from lab.reference.health import Health
from lab.reference.identification import Identification
from lab.reference.load import Load
from lab.reference.management import Management
from lab.reference.namespace import Namespace
from lab.reference.pending import Pending
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.registers import Registers
from lab.reference.ring import CompletionRing, SubmissionRing
from lab.reference.servicing import Servicing
from lab.reference.shadow_doorbells import ShadowDoorbells
from lab.reference.zoned import ZonedNamespace


@dataclass(frozen=True)
class Parts:
    """See `lab.reference.controller.Controller`, which puts them together."""

    registers: type[Registers] = Registers
    controller_memory: type[ControllerMemory] = ControllerMemory
    shadow_doorbells: type[ShadowDoorbells] = ShadowDoorbells
    submission_ring: type[SubmissionRing] = SubmissionRing
    completion_ring: type[CompletionRing] = CompletionRing
    queue_pair: type[QueuePair] = QueuePair
    data: type[DataPath] = DataPath
    execution: type[Execution] = Execution
    recovery: type[Recovery] = Recovery
    identification: type[Identification] = Identification
    zoned_namespace: type[ZonedNamespace] = ZonedNamespace  # before what it is derived from
    namespace: type[Namespace] = Namespace
    events: type[Events] = Events
    features: type[Features] = Features
    health: type[Health] = Health
    load: type[Load] = Load
    management: type[Management] = Management
    pending: type[Pending] = Pending
    servicing: type[Servicing] = Servicing
