"""Which faults strike what. The behaviours themselves are in `lab.controller.behaviour`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lab.controller import behaviour
from lab.controller.behaviour import Behaviour, Moment, Target
from lab.controller.fetched import FetchedCommand
from lab.data.events import FaultInjected
from lab.data.plan import Fault
from lab.errors import UsageError, nearest
from lab.nvme.commands import BY_OPCODE, Command, LbaCommand, decode
from lab.nvme.fields import Register
from lab.nvme.registers import REGISTERS

LOG = logging.getLogger(__name__)

SUBMISSION_BYTES = 64
NO_TARGET: Any = None
"""The target of a behaviour that is only looked at."""
_COMMANDS: tuple[type[Command], ...] = (Command, *BY_OPCODE["admin"].values(), *BY_OPCODE["io"].values())
_REGISTERS: dict[str, type[Register]] = {register.__name__: register for register in REGISTERS}


class ArmedFault:
    """One fault with its switch, its predicate and its counts."""

    def __init__(self, fault: Fault, behaviour: Behaviour) -> None:
        """Compile the predicate; UsageError for one that cannot be."""
        fault = _completed(fault, behaviour)
        self.fault, self.behaviour = fault, behaviour
        self.armed = fault.armed
        self.seen = 0
        """How many commands (or enablings, accesses …) have fitted while it was armed."""
        self.struck = 0
        """How often it has struck."""
        self._mask, self._match = _masked(fault)
        self._span = _register_span(fault) or behaviour.REGISTERS
        for name in fault.fields or {}:
            if not any(name in kind.FIELDS for kind in _COMMANDS):
                raise UsageError(f"fault {fault.name!r}: no command has a field {name!r}")
        commands = (fault.queue, fault.sqid, fault.opcode, fault.nsid, fault.lba, fault.cdw10, fault.mask, fault.fields)
        self._names_command = any(part is not None for part in commands)
        if self._span is not None and not behaviour.strikes_access:
            raise UsageError(f"fault {fault.name!r}: {behaviour.NAME} strikes no register accesses")
        if self._span is not None and self._names_command:
            raise UsageError(f"fault {fault.name!r}: it names a register and a command", remedy="make two faults of it")

    @property
    def names_nothing(self) -> bool:
        """Whether it names neither a command nor an access: it is about the controller as a whole."""
        return not self._names_command and self._span is None and self.fault.nth is None

    @property
    def moment(self) -> Moment:
        """When the fault is considered: at a command, an access, a change of CC, or at once."""
        if self._span is not None:
            return Moment.ACCESS
        if self.behaviour.moment is Moment.COMMAND and self.behaviour.applies_when_armed and self.names_nothing:
            return Moment.ARMED
        return self.behaviour.moment

    def counts(self) -> bool:
        """Count one more that fits; return whether this is one to strike."""
        if self.fault.times is not None and self.struck >= self.fault.times:
            return False
        self.seen += 1
        return self.fault.nth is None or self.seen == self.fault.nth

    def fits(self, request: FetchedCommand) -> bool:
        """Return whether the predicate fits a command."""
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
        if self._mask and int.from_bytes(request.raw, "little") & self._mask != self._match:
            return False
        if f.fields is not None and not _has_fields(request, f.fields):
            return False
        return f.lba is None or _covers(request, f.lba)

    def fits_access(self, offset: int, size: int, value: int, *, writing: bool) -> bool:
        """Return whether the predicate fits an access to BAR0; ``value`` is what is written."""
        start, end = self._span or (0, 0)
        if not (offset < end and start < offset + size):
            return False
        f = self.fault
        if f.access is not None and (f.access == "write") != writing:
            return False
        if not self.behaviour.wants_access(offset, size, writing):
            return False
        return f.value is None or (writing and value & (f.value_mask if f.value_mask is not None else -1) == f.value)


def check_fault(fault: Fault) -> None:
    """Raise UsageError for a fault that no controller of the lab can have: an unknown behaviour, or what does not fit it."""
    ArmedFault(fault, _kind(fault)(NO_TARGET, fault))


def _kind(fault: Fault) -> type[Behaviour]:
    kind = behaviour.find(fault.behaviour)
    if kind is None:
        raise UsageError(
            f"fault {fault.name!r}: there is no behaviour {fault.behaviour!r}{nearest(fault.behaviour, behaviour.names())}"
        )
    return kind


class Faults:
    """A controller's faults. UsageError for a behaviour that is not known, or arguments that are not its own."""

    def __init__(self, target: Target, faults: Iterable[Fault]) -> None:
        """Make the behaviours, which act on ``target``."""
        self._target = target
        self.listener: Callable[[str], None] | None = None
        """Is called with the name of each fault that strikes, once its strike is recorded."""
        self._all: dict[str, ArmedFault] = {}
        self._elsewhere = set[str]()
        """The names of faults that strike another controller only."""
        for fault in faults:
            if fault.controller in (None, target.core.spec.id):
                self._all[fault.name] = ArmedFault(fault, _kind(fault)(target, fault))
            else:
                self._elsewhere.add(fault.name)
        self._select()

    def arm(self, name: str, armed: bool) -> None:
        """Flip the switch of a fault. One that is about the controller as a whole strikes when it is switched on."""
        if name in self._elsewhere:
            return
        found = self._find(name)
        LOG.debug("fault %s of %s is %s", name, self._target.core.spec.id, "armed" if armed else "disarmed")
        found.armed = armed
        self._select()
        if armed and found.moment is Moment.ARMED and found.counts():
            self._strike(found)
            found.behaviour.apply()
        if not armed:
            found.behaviour.disarmed()

    def release(self, name: str, count: int) -> int:
        """Let a fault that holds something release ``count`` of it; return how many were released."""
        return 0 if name in self._elsewhere else self._find(name).behaviour.release(count)

    def strikes(self, name: str) -> int:
        """Return how often a fault has struck."""
        return 0 if name in self._elsewhere else self._find(name).struck

    def at_plug(self) -> None:
        """Let faults strike that are about the controller as a whole and armed from the start."""
        for found in self._at(Moment.ARMED):
            found.apply()

    def at_command(self, request: FetchedCommand) -> tuple[Behaviour, ...]:
        """Return the behaviours that strike this command, and record their strikes."""
        struck = []
        for found in self.at_commands:
            if found.fits(request) and found.counts():
                self._strike(found, request)
                struck.append(found.behaviour)
        return tuple(struck)

    def at_enable_write(self) -> list[Behaviour]:
        """Return the behaviours that let CC.EN=1 have no effect."""
        return self._at(Moment.ENABLE_WRITE)

    def at_enable(self) -> list[Behaviour]:
        """Return the behaviours that strike CC.EN=1; the predicate's count is that of enablings."""
        return self._at(Moment.ENABLE)

    def at_disable(self) -> list[Behaviour]:
        """Return the behaviours that strike CC.EN=0."""
        return self._at(Moment.DISABLE)

    def at_shutdown(self) -> list[Behaviour]:
        """Return the behaviours that strike CC.SHN."""
        return self._at(Moment.SHUTDOWN)

    def at_access(self, offset: int, size: int, value: int, *, writing: bool) -> list[Behaviour]:
        """Return the behaviours that strike an access to BAR0, and record their strikes."""
        struck = []
        for found in self.at_accesses:
            if found.fits_access(offset, size, value, writing=writing) and found.counts():
                self._strike(found)
                struck.append(found.behaviour)
        return struck

    def _at(self, moment: Moment) -> list[Behaviour]:
        struck = []
        for found in self._all.values():
            if found.armed and found.moment is moment and found.counts():
                self._strike(found)
                struck.append(found.behaviour)
        return struck

    def _strike(self, found: ArmedFault, request: FetchedCommand | None = None) -> None:
        found.struck += 1
        core = self._target.core
        sqid, cid = (request.sq.qid, request.cid) if request else (-1, -1)
        LOG.debug("fault %s of %s strikes (SQ %d, CID %d)", found.fault.name, core.spec.id, sqid, cid)
        core.record.event(
            FaultInjected(t=core.clock.now(), controller=core.spec.id, fault=found.fault.name, sqid=sqid, cid=cid)
        )
        if self.listener:
            self.listener(found.fault.name)

    def _find(self, name: str) -> ArmedFault:
        found = self._all.get(name)
        if found is None:
            raise UsageError(f"there is no fault {name!r}; the scenario has {', '.join(sorted(self._all)) or 'none'}")
        return found

    def _select(self) -> None:
        armed = [found for found in self._all.values() if found.armed]
        self.at_commands = [found for found in armed if found.moment is Moment.COMMAND]
        """The armed faults that look at commands: usually none, and then no command pays for them."""
        self.at_accesses = [found for found in armed if found.moment is Moment.ACCESS]
        """The same of accesses to BAR0."""


def _completed(fault: Fault, behaviour: Behaviour) -> Fault:
    """Return the fault with what its behaviour strikes by default, where it does not say otherwise."""
    given = {name: value for name, value in behaviour.PREDICATE.items() if getattr(fault, name) is None}
    return dataclasses.replace(fault, **given) if given else fault


def _masked(fault: Fault) -> tuple[int, int]:
    """Return the mask over a submission's 64 bytes and what the masked bytes must be, as little-endian numbers."""
    if fault.mask is None and fault.match is None:
        return 0, 0
    try:
        mask, match = (bytes.fromhex(text or "") for text in (fault.mask, fault.match))
    except ValueError as error:
        raise UsageError(f"fault {fault.name!r}: mask and match are hexadecimal: {error}") from error
    if not 0 < len(mask) <= SUBMISSION_BYTES or len(match) != len(mask) or not any(mask):
        raise UsageError(
            f"fault {fault.name!r}: mask and match are of {len(mask)} and {len(match)} bytes",
            remedy=f"give both, equally long, at most {SUBMISSION_BYTES} bytes, and not all zero",
        )
    bits = int.from_bytes(mask, "little")
    return bits, int.from_bytes(match, "little") & bits


def _register_span(fault: Fault) -> tuple[int, int] | None:
    """Return the offsets in BAR0 that a fault's register takes; None where it names none."""
    if fault.register is None:
        return None
    if isinstance(fault.register, int):
        return fault.register, fault.register + 4
    known = _REGISTERS.get(fault.register)
    if known is None:
        raise UsageError(f"fault {fault.name!r}: there is no register {fault.register!r}", remedy=", ".join(_REGISTERS))
    return known.OFFSET, known.OFFSET + known.SIZE


def _has_fields(request: FetchedCommand, fields: Mapping[str, int]) -> bool:
    command = decode(request.raw, admin=request.sq.qid == 0)
    return all(getattr(command, name, None) == value for name, value in fields.items())


def _covers(request: FetchedCommand, lba: int) -> bool:
    if request.sq.qid == 0:
        return False
    command = decode(request.raw, admin=False)
    return isinstance(command, LbaCommand) and command.SLBA <= lba < command.SLBA + command.blocks
