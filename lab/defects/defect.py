"""What a seeded defect is: one part of the reference driver replaced by one that makes one mistake.

::

    @defect("read/nlb:one-fewer")
    class OneFewer(Namespace):
        \"\"\"Takes NLB for 0's based twice, and reads one block too few.\"\"\"

        def command(self, kind, lba, blocks, flags):
            return super().command(kind, lba, max(blocks - 1, 1), flags)

The id is that of the check which must catch it, a colon, and a slug; the docstring says what the driver does wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from lab.errors import UsageError
from lab.reference.controller import Controller
from lab.reference.parts import Parts
from lab.reference.service import Service

PRACTICE = "known mistake"
"""The source of a defect that has no driver's history behind it."""

LIAR = "liar"
"""No single mistake: a driver that answers every question rightly, writes what it is given behind the device's back, and never
sends the device a command. Nothing that the device must have seen may be trusted from it."""

Part = TypeVar("Part", bound=type)


@dataclass(frozen=True)
class Defect:
    """One mistake. ``driver`` and ``service`` are the reference driver's classes, with the mistake in them."""

    id: str
    summary: str
    source: str  # a driver that shipped it, and the commit or issue; else `PRACTICE`
    scenarios: tuple[str, ...]  # where it shows; none: wherever its check is judged
    driver: type[Controller]
    service: type[Service]

    @property
    def check(self) -> str:
        """The check that must catch it."""
        return self.id.partition(":")[0]


DEFECTS: dict[str, Defect] = {}
"""Every defect by its id, filled as the stages' modules are imported (`lab.defects`)."""


def defect(id: str, *, source: str = PRACTICE, scenarios: tuple[str, ...] = ()) -> Callable[[Part], Part]:
    """Register a subclass of a part of the driver, of `Controller` or of `Service`. ValueError for an id that is taken."""

    def register(changed: Part) -> Part:
        if id in DEFECTS:
            raise ValueError(f"defect {id} is declared twice")
        if not changed.__doc__:
            raise ValueError(f"defect {id} has no docstring")
        service = changed if issubclass(changed, Service) else Service
        driver = Controller if issubclass(changed, Service) else with_part(changed)
        DEFECTS[id] = Defect(id, inspect.cleandoc(changed.__doc__).replace("\n", " "), source, scenarios, driver, service)
        return changed

    return register


def with_part(changed: type) -> type[Controller]:
    """Return the driver that has this class in the place of the part that it is derived from."""
    if issubclass(changed, Controller):
        return changed
    part = next(part.name for part in fields(Parts) if issubclass(changed, getattr(Controller.parts, part.name)))
    exchange: dict[str, Any] = {part: changed}
    return type(changed.__name__, (Controller,), {"parts": replace(Controller.parts, **exchange)})


def find(id: str) -> Defect:
    """Return the defect of that id. UsageError with the nearest id if there is none."""
    if id not in DEFECTS:
        close = " or ".join(get_close_matches(id, DEFECTS, 3))
        hint = f"; did you mean {close}?" if close else ""
        raise UsageError(f"there is no defect {id!r}{hint}", remedy="nvme-lab list defects")
    return DEFECTS[id]
