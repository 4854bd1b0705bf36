"""Which faults strike which command. The behaviours themselves are in `lab.controller.behaviour`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lab.controller import behaviour
from lab.controller.behaviour import Behaviour
from lab.controller.request import Request
from lab.data.events import FaultInjected
from lab.data.plan import Fault
from lab.errors import UsageError
from lab.nvme.commands import LbaCommand, decode

if TYPE_CHECKING:
    from lab.controller.controller import Controller


class Armed:
    """One fault with its switch and its counts."""

    def __init__(self, fault: Fault, behaviour: Behaviour) -> None:
        self.fault, self.behaviour = fault, behaviour
        self.armed = fault.armed
        self.seen = 0
        """How many commands (or enablings) have fitted while it was armed."""
        self.struck = 0
        """How often it has struck."""

    @property
    def whole(self) -> bool:
        """It names no command: it strikes the controller as a whole."""
        f = self.fault
        return all(part is None for part in (f.queue, f.sqid, f.opcode, f.nsid, f.lba, f.cdw10, f.nth))

    @property
    def strikes_commands(self) -> bool:
        """It looks at commands."""
        b = self.behaviour
        return not (b.strikes_enable or b.strikes_disable or b.strikes_shutdown or (self.whole and b.whole_at_once))

    def counts(self) -> bool:
        """One more that fits; whether this is one to strike."""
        if self.fault.times is not None and self.struck >= self.fault.times:
            return False
        self.seen += 1
        return self.fault.nth is None or self.seen == self.fault.nth

    def fits(self, request: Request) -> bool:
        f = self.fault
        if f.queue is not None and (f.queue == "admin") != (request.sq.qid == 0):
            return False
        if f.sqid is not None and f.sqid != request.sq.qid:
            return False
        if f.opcode is not None and f.opcode != request.opcode:
            return False
        if f.nsid is not None and f.nsid != request.nsid:
            return False
        if f.cdw10 is not None and f.cdw10 != request.raw[40]:
            return False
        return f.lba is None or _covers(request, f.lba)


class Faults:
    """A controller's faults. UsageError for a behaviour that is not known, or arguments that are not its own."""

    def __init__(self, controller: Controller, faults: Iterable[Fault]) -> None:
        self._c = controller
        self._all: dict[str, Armed] = {}
        for fault in faults:
            kind = behaviour.find(fault.behaviour)
            if kind is None:
                raise UsageError(
                    f"fault {fault.name!r}: there is no behaviour {fault.behaviour!r}",
                    remedy=f"the device knows {', '.join(behaviour.names())}",
                )
            self._all[fault.name] = Armed(fault, kind(controller, fault))
        self._select()

    def arm(self, name: str, armed: bool) -> None:
        """Flips the switch of a fault. One that strikes the controller as a whole strikes when it is switched on."""
        found = self._all.get(name)
        if found is None:
            raise UsageError(f"there is no fault {name!r}; the scenario has {', '.join(sorted(self._all)) or 'none'}")
        found.armed = armed
        self._select()
        if armed and found.whole and found.behaviour.whole_at_once and found.counts():
            self._strike(found, None)
        if not armed:
            found.behaviour.disarmed()

    def strikes(self, name: str) -> int:
        """How often a fault has struck."""
        return self._all[name].struck

    def at_plug(self) -> None:
        """The device is there: whole faults that are armed from the start strike."""
        for found in self._all.values():
            if found.armed and found.whole and found.behaviour.whole_at_once and found.counts():
                self._strike(found, None)

    def at_command(self, request: Request) -> tuple[Behaviour, ...]:
        """The behaviours that strike this command; their strikes are recorded."""
        struck = []
        for found in self.at_commands:
            if found.fits(request) and found.counts():
                self._strike(found, request)
                struck.append(found.behaviour)
        return tuple(struck)

    def at_enable(self) -> list[Behaviour]:
        """The behaviours that strike CC.EN=1; the predicate's count is that of enablings."""
        return self._at(lambda behaviour: behaviour.strikes_enable)

    def disable_seconds(self) -> float:
        """Return how long CSTS.RDY stays 1 after CC.EN=0, by the behaviours that strike it."""
        return max((one.disable_seconds() for one in self._at(lambda behaviour: behaviour.strikes_disable)), default=0.0)

    def shutdown_seconds(self) -> float:
        """Return how long CSTS.SHST stays 01b, by the behaviours that strike CC.SHN."""
        return max((one.shutdown_seconds() for one in self._at(lambda behaviour: behaviour.strikes_shutdown)), default=0.0)

    def _at(self, selects: Callable[[Behaviour], bool]) -> list[Behaviour]:
        struck = []
        for found in self._all.values():
            if found.armed and selects(found.behaviour) and found.counts():
                self._strike(found, None)
                struck.append(found.behaviour)
        return struck

    def _strike(self, found: Armed, request: Request | None) -> None:
        found.struck += 1
        sqid, cid = (request.sq.qid, request.cid) if request else (-1, -1)
        self._c.record.event(
            FaultInjected(t=self._c.clock.now(), controller=self._c.spec.id, fault=found.fault.name, sqid=sqid, cid=cid)
        )
        if request is None:
            found.behaviour.whole()

    def _select(self) -> None:
        self.at_commands = [found for found in self._all.values() if found.armed and found.strikes_commands]
        """The armed faults that look at commands: usually none, and then no command pays for them."""


def _covers(request: Request, lba: int) -> bool:
    if request.sq.qid == 0:
        return False
    command = decode(request.raw, admin=False)
    return isinstance(command, LbaCommand) and command.SLBA <= lba < command.SLBA + command.blocks
