"""A behaviour of the programmable controller: a vendor's own status."""

from typing import ClassVar

from conformance.api import Behaviour, FetchedCommand, Posting

VENDOR_SPECIFIC = 7


class Wear(Behaviour, name="sample-wear"):
    """The command is executed, and ends with the vendor specific status ``sc``."""

    ARGUMENTS: ClassVar = {"sc": 0xC5}

    def end(self, request: FetchedCommand, posting: Posting) -> list[Posting]:
        return [posting._replace(status=VENDOR_SPECIFIC << 8 | self.arguments["sc"])]
