"""The controller's identity and its namespaces. Base 2.0, 5.17 "Identify command"; NVM Command Set 1.0, 4.1.5."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, field

from lab.nvme.commands import Identify
from lab.nvme.identify import (
    SIZE,
    Cns,
    Csi,
    IdentifyController,
    IdentifyControllerNvm,
    IdentifyNamespace,
    NamespaceList,
    Nidt,
    namespace_descriptors,
)
from lab.nvme.registers import VS
from lab.nvme.zones import IdentifyControllerZoned, IdentifyNamespaceZoned
from lab.reference.core import Core
from lab.reference.errors import CommandFailed
from lab.reference.execution import Execution

ACTIVE_LIST_SINCE = VS.of(MJR=1, MNR=1)
DESCRIPTORS_SINCE = VS.of(MJR=1, MNR=3)
LIMITS_SINCE = VS.of(MJR=2)
LIST_LENGTH = 1024
"""Namespace ids in one list."""


@dataclass(frozen=True)
class Identifiers:
    """The names of a namespace that are the same on every controller and system; "" for those it does not have."""

    uuid: str = ""
    nguid: str = ""
    eui64: str = ""
    csi: int = field(default=Csi.NVM, compare=False)
    """Its command set, which is no name."""

    @property
    def saved(self) -> dict[str, str]:
        """Return the names by their kind."""
        return {"uuid": self.uuid, "nguid": self.nguid, "eui64": self.eui64}


@dataclass(frozen=True)
class ZonedIdentity:
    """What Identify says of a zoned namespace, and of its controller's limits. Zoned Namespace Command Set 1.1, 4.1.5."""

    namespace: IdentifyNamespaceZoned
    controller: IdentifyControllerZoned


class Identification:
    """Reads Identify data structures. A failed Identify raises: the driver never continues with zeros."""

    def __init__(self, core: Core, execution: Execution) -> None:
        """Take the controller that is identified."""
        self._c, self._execution = core, execution

    def identify(self, cns: Cns, nsid: int = 0) -> bytes:
        """Return the 4096 bytes of one data structure; ``nsid`` is 0 where the structure is not a namespace's."""
        return self._execution.admin_in(Identify.of(CNS=cns, NSID=nsid), SIZE)

    def identify_zoned(self, cns: Cns, nsid: int = 0) -> bytes:
        """Return the 4096 bytes of a data structure of the zoned namespace command set."""
        return self._execution.admin_in(Identify.of(CNS=cns, NSID=nsid, CSI=Csi.ZONED), SIZE)

    def controller(self) -> IdentifyController:
        """Read CNS 01h. Base 2.0, 5.17.2.1."""
        return IdentifyController(self.identify(Cns.CONTROLLER))

    def nvm_limits(self) -> IdentifyControllerNvm:
        """Read CNS 06h, the limits of the NVM command set; zeros of a controller before 2.0. NVM 1.0, 4.1.5.4."""
        if self._c.version < LIMITS_SINCE:
            return IdentifyControllerNvm()
        with suppress(CommandFailed):
            return IdentifyControllerNvm(self.identify(Cns.CSI_CONTROLLER))
        return IdentifyControllerNvm()

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the ids of the active namespaces, rising. Base 2.0, 5.17.2.2 (CNS 02h).

        A controller of version 1.0 does not know the list: every id up to NN is a candidate there.
        """
        if self._c.version < ACTIVE_LIST_SINCE:
            return list(range(1, identity.NN + 1))
        nsids = list[int]()
        while True:
            part = NamespaceList(self.identify(Cns.ACTIVE_NAMESPACES, nsids[-1] if nsids else 0)).ids
            nsids += part
            if len(part) < LIST_LENGTH:
                return nsids

    def namespace(self, nsid: int) -> IdentifyNamespace | None:
        """Read CNS 00h; None for an inactive namespace, whose structure is all zeros. NVM Command Set 1.0, 4.1.5.1."""
        raw = self.identify(Cns.NAMESPACE, nsid)
        return IdentifyNamespace(raw) if raw.strip(b"\0") else None

    def zoned(self, nsid: int) -> ZonedIdentity:
        """Read what only a zoned namespace has. Zoned Namespace Command Set 1.1, 4.1.5."""
        return ZonedIdentity(
            IdentifyNamespaceZoned(self.identify_zoned(Cns.CSI_NAMESPACE, nsid)),
            IdentifyControllerZoned(self.identify_zoned(Cns.CSI_CONTROLLER)),
        )

    def identifiers(self, nsid: int, identity: IdentifyNamespace) -> Identifiers:
        """Read CNS 03h, which controllers have since 1.3, or else use Identify Namespace. Base 2.0, 5.17.2.3."""
        names: dict[int, bytes] = {Nidt.NGUID: identity.NGUID, Nidt.EUI64: identity.EUI64}
        if self._c.version >= DESCRIPTORS_SINCE:
            with suppress(CommandFailed):  # a namespace works without them as well
                names |= dict(namespace_descriptors(self.identify(Cns.NAMESPACE_DESCRIPTORS, nsid)))
        name = names.get(Nidt.UUID, b"")
        return Identifiers(
            uuid=str(uuid.UUID(bytes=name)) if len(name) == 16 and any(name) else "",
            nguid=_hex(names[Nidt.NGUID]),
            eui64=_hex(names[Nidt.EUI64]),
            csi=(names.get(Nidt.CSI) or bytes(1))[0],
        )


def _hex(identifier: bytes) -> str:
    return identifier.hex() if any(identifier) else ""
