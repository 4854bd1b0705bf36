"""Legal peculiarities of drivers that are replaced while their controller goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.reference.document import ServicingError
from lab.reference.servicing import Servicing
from lab.variants.variant import variant

LEAP = 1000


@variant(
    "servicing/other-identifiers",
    allowed='Base 2.0, 3.3.3.1 "Submission Queue Entry", CID: any identifier that no outstanding command of the queue has',
    scenarios=("servicing/more",),
)
class OtherIdentifiers(Servicing):
    """Continues with command identifiers that are far from its predecessor's."""

    def restore_cid(self, saved: Mapping[str, Any]) -> int:
        """Return a number beyond the predecessor's."""
        return super().restore_cid(saved) + LEAP


@variant(
    "servicing/looks-twice",
    allowed='Base 2.0, 3.1.3 "Controller Properties": registers may be read at any time, as often as the host likes',
    scenarios=("servicing/two",),
)
class LooksTwice(Servicing):
    """Reads all registers twice before it trusts the saved state."""

    def check_controller(self, state: Mapping[str, Any]) -> None:
        """Check the controller twice."""
        super().check_controller(state)
        super().check_controller(state)


@variant(
    "servicing/health-first",
    allowed='Base 2.0, 5.16 "Get Log Page command": the health log may be read at any time',
    scenarios=("servicing/twice",),
)
class HealthFirst(Servicing):
    """Reads the health log of the controller as soon as it has taken it over."""

    def take_over(self) -> None:
        """Take over, and read the health log."""
        super().take_over()
        health = getattr(self._controller, "health", None)
        if health is None:
            raise ServicingError("the driver has no health log")
        health.smart()


@variant(
    "servicing/fewer-requests",
    allowed='Base 2.0, 5.2 "Asynchronous Event Request command": the host chooses how many are outstanding',
    scenarios=("servicing/two",),
    settings={"events": 1},
)
class FewerRequests(Servicing):
    """Keeps one event request outstanding."""
