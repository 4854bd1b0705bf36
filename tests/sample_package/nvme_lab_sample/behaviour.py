"""A behaviour of the programmable controller: a vendor's own status."""

from typing import ClassVar

from lab.controller.behaviour import Behaviour
from lab.controller.fetched import FetchedCommand
from lab.controller.queues import Posting

VENDOR_SPECIFIC = 7


class Wear(Behaviour, name="sample-wear"):
    """The command is executed, and ends with the vendor specific status ``sc``."""

    ARGUMENTS: ClassVar = {"sc": 0xC5}

    def end(self, request: FetchedCommand, posting: Posting) -> list[Posting]:
        return [posting._replace(status=VENDOR_SPECIFIC << 8 | self.arguments["sc"])]
