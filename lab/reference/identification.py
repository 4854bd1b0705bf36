"""Who the controller is and what it holds. Base 2.0, 5.17 "Identify command"; NVM Command Set 1.0, 4.1.5."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.nvme.commands import Identify
from lab.nvme.identify import (
    SIZE,
    Cns,
    IdentifyController,
    IdentifyNamespace,
    NamespaceList,
    Nidt,
    namespace_descriptors,
)
from lab.nvme.registers import VS
from lab.reference.errors import CommandFailed

if TYPE_CHECKING:
    from lab.reference.controller import Controller

ACTIVE_LIST_SINCE = VS.of(MJR=1, MNR=1)
DESCRIPTORS_SINCE = VS.of(MJR=1, MNR=3)
LIST_LENGTH = 1024
"""Namespace ids in one list."""


@dataclass(frozen=True)
class Identifiers:
    """A namespace's names that are the same on every controller and system; "" where it has none."""

    uuid: str = ""
    nguid: str = ""
    eui64: str = ""


class Identification:
    """Asks Identify. A failed Identify raises: nobody goes on with zeros."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller

    def ask(self, cns: Cns, nsid: int = 0) -> bytes:
        """The 4096 bytes of one data structure; ``nsid`` is 0 where the structure is not a namespace's."""
        return self._c.execution.admin_in(Identify.of(CNS=cns, NSID=nsid), SIZE)

    def controller(self) -> IdentifyController:
        """CNS 01h. Base 2.0, 5.17.2.1."""
        return IdentifyController(self.ask(Cns.CONTROLLER))

    def active(self, identity: IdentifyController) -> list[int]:
        """The ids of the active namespaces, rising. Base 2.0, 5.17.2.2? (CNS 02h).

        A controller of version 1.0 does not know the list: every id up to NN is a candidate there.
        """
        if self._c.version < ACTIVE_LIST_SINCE:
            return list(range(1, identity.NN + 1))
        found = list[int]()
        while True:
            part = NamespaceList(self.ask(Cns.ACTIVE_NAMESPACES, found[-1] if found else 0)).ids
            found += part
            if len(part) < LIST_LENGTH:
                return found

    def namespace(self, nsid: int) -> IdentifyNamespace | None:
        """CNS 00h; None for an inactive namespace, whose structure is all zeros. NVM Command Set 1.0, 4.1.5.1"""
        raw = self.ask(Cns.NAMESPACE, nsid)
        return IdentifyNamespace(raw) if raw.strip(b"\0") else None

    def identifiers(self, nsid: int, identity: IdentifyNamespace) -> Identifiers:
        """From CNS 03h, which controllers have since 1.3, or else from Identify Namespace. Base 2.0, 5.17.2.3?"""
        found: dict[int, bytes] = {Nidt.NGUID: identity.NGUID, Nidt.EUI64: identity.EUI64}
        if self._c.version >= DESCRIPTORS_SINCE:
            with suppress(CommandFailed):  # a namespace works without them as well
                found |= dict(namespace_descriptors(self.ask(Cns.NAMESPACE_DESCRIPTORS, nsid)))
        name = found.get(Nidt.UUID, b"")
        return Identifiers(
            uuid=str(uuid.UUID(bytes=name)) if len(name) == 16 and any(name) else "",
            nguid=_hex(found[Nidt.NGUID]),
            eui64=_hex(found[Nidt.EUI64]),
        )


def _hex(identifier: bytes) -> str:
    return identifier.hex() if any(identifier) else ""
