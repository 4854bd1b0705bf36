"""The namespaces as one controller has them: which are allocated, which are active, and who hears of changes."""

from __future__ import annotations

from lab.controller import identify
from lab.controller.async_events import AsyncEvents
from lab.controller.core import Core
from lab.controller.fetched import CommandStatusError
from lab.controller.interrupts import Interrupts
from lab.controller.logs import Logs
from lab.controller.namespaces import StoredNamespace
from lab.controller.subsystem import Member, Subsystem
from lab.nvme.identify import IdentifyController, IdentifyNamespace
from lab.nvme.status import Status


class Inventory:
    """One controller's view of its NVM subsystem."""

    def __init__(
        self, core: Core, member: Member, subsystem: Subsystem, logs: Logs, events: AsyncEvents, interrupts: Interrupts
    ) -> None:
        """Create the inventory; ``member`` is the controller itself, as the subsystem knows it."""
        self._core, self.member, self.subsystem = core, member, subsystem
        self._logs, self._events, self._interrupts = logs, events, interrupts

    @property
    def allocated(self) -> dict[int, StoredNamespace]:
        """The namespaces that exist for the controller, active or not, by id."""
        return self.subsystem.namespaces(self.member)

    @property
    def family(self) -> list[Member]:
        """The controllers of the NVM subsystem as the host sees it."""
        return self.subsystem.family(self.member)

    def active(self, nsid: int) -> StoredNamespace:
        """Return an active namespace; CommandStatusError as Base 2.0, 3.2.1 "Namespace Identifiers" says otherwise."""
        found = self._core.attached.get(nsid)
        if found is None:
            self.check_nsid(nsid)
            raise CommandStatusError(Status.INVALID_FIELD)
        return found

    def check_nsid(self, nsid: int) -> None:
        """Raise CommandStatusError if a namespace id is invalid: 0, broadcast or above NN."""
        if not 0 < nsid <= self._core.identity.NN:
            self._core.remark("nsid-invalid", nsid=nsid, NN=self._core.identity.NN)
            raise CommandStatusError(Status.INVALID_NAMESPACE)

    def identify_controller(self) -> IdentifyController:
        """Return Identify Controller with the capacity that is unallocated now."""
        identity = self._core.identity
        if not identity.TNVMCAP or "UNVMCAP" in self._core.spec.identify:
            return identity
        return identity.but(UNVMCAP=max(0, identity.TNVMCAP - self.subsystem.allocated_bytes(self.member)))

    def identify_namespace(self, nsid: int) -> IdentifyNamespace:
        """Return Identify Namespace of an allocated namespace; KeyError if there is none."""
        return identify.namespace(self._core.spec, self.allocated[nsid])

    def identify_common(self) -> IdentifyNamespace:
        """Return what all namespaces have in common: Identify with NSID FFFFFFFFh, where namespaces can be managed."""
        if not self._core.identity.OACS.NAMESPACE_MANAGEMENT:
            raise CommandStatusError(Status.INVALID_NAMESPACE)
        return identify.common_namespace(self._core.spec)

    def attach(self, ns: StoredNamespace) -> None:
        """Make a namespace active."""
        self._core.attached[ns.nsid] = ns
        self.report_change(ns.nsid)

    def detach(self, nsid: int, *, report: bool = True) -> None:
        """Make a namespace inactive; commands in flight to it continue."""
        del self._core.attached[nsid]
        if report:
            self.report_change(nsid)

    def report_change(self, nsid: int) -> None:
        """Report a changed namespace to the host by the event and log page 04h."""
        self._logs.changed_namespaces.add(nsid)
        self._events.namespaces_changed()
        self._interrupts.flush()

    def warn(self, critical_warning: int) -> None:
        """Set SMART's critical warning; report new bits that feature 0Bh asks for."""
        new = critical_warning & ~self._logs.warning
        self._logs.warning = critical_warning
        self._events.warnings_raised(new)
        self._interrupts.flush()
