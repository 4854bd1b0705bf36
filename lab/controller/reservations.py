"""Registering, reserving and releasing a namespace. Base 2.0, 7.2 to 7.5, 8.19 "Reservations".

Access is not restricted: no device of the lab has several hosts. Reservation Report, preemption and persistence through power
loss are answered as far as one host needs them.
"""

from __future__ import annotations

from lab.controller import transfer
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.namespaces import StoredNamespace
from lab.controller.parts import Parts
from lab.nvme.commands import ReservationAcquire, ReservationRegister, ReservationRelease, ReservationReport
from lab.nvme.features import Fid
from lab.nvme.status import Status

REGISTER, UNREGISTER, REPLACE = range(3)
ACQUIRE, PREEMPT, PREEMPT_AND_ABORT = range(3)
RELEASE, CLEAR = range(2)
TYPES = range(1, 7)
"""Reservation types."""
KEY_BYTES = 8


def register(parts: Parts, request: FetchedCommand, command: ReservationRegister) -> int:
    """Execute Reservation Register."""
    ns, host = _reservable(parts, request), _host(parts)
    current, new = _keys(parts, request, command.data_length)
    held = ns.registrants.get(host)
    if command.RREGA == REGISTER:
        if held not in (None, new):
            raise CommandStatusError(Status.RESERVATION_CONFLICT)
        ns.registrants[host] = new
    elif command.RREGA in (UNREGISTER, REPLACE):
        if not command.IEKEY and (held is None or held != current):
            raise CommandStatusError(Status.RESERVATION_CONFLICT)
        if command.RREGA == REPLACE:
            ns.registrants[host] = new
        else:
            ns.registrants.pop(host, None)
            if ns.holder is not None and ns.holder[0] == host:
                ns.holder = None
    else:
        raise CommandStatusError(Status.INVALID_FIELD)
    return 0


def acquire(parts: Parts, request: FetchedCommand, command: ReservationAcquire) -> int:
    """Execute Reservation Acquire; a remark says whether the host was a registrant, by this key."""
    ns, host = _reservable(parts, request), _host(parts)
    current, _ = _keys(parts, request, command.data_length)
    held = ns.registrants.get(host)
    _remark_on_key(parts, request, "acquires" if command.RACQA == ACQUIRE else "preempts", held, current)
    if command.IEKEY or command.RTYPE not in TYPES or command.RACQA > PREEMPT_AND_ABORT:
        raise CommandStatusError(Status.INVALID_FIELD)
    if held is None or held != current or ns.holder not in (None, (host, command.RTYPE)):
        raise CommandStatusError(Status.RESERVATION_CONFLICT)
    ns.holder = host, command.RTYPE
    return 0


def release(parts: Parts, request: FetchedCommand, command: ReservationRelease) -> int:
    """Execute Reservation Release; remarks say whether it was by the host's key, and by the type that the reservation has."""
    ns, host = _reservable(parts, request), _host(parts)
    current, _ = _keys(parts, request, command.data_length)
    _remark_on_key(parts, request, "releases" if command.RRELA == RELEASE else "clears", ns.registrants.get(host), current)
    if command.RRELA == RELEASE and ns.holder is not None and ns.holder[0] == host:
        parts.core.remark("reservation-type", sqid=request.sq.qid, cid=request.cid, named=command.RTYPE, held=ns.holder[1])
    if command.IEKEY or command.RRELA not in (RELEASE, CLEAR):
        raise CommandStatusError(Status.INVALID_FIELD)
    if ns.registrants.get(host) != current:
        raise CommandStatusError(Status.RESERVATION_CONFLICT)
    if command.RRELA == CLEAR:
        ns.registrants.clear()
    elif ns.holder is not None and ns.holder[0] == host and ns.holder[1] != command.RTYPE:
        raise CommandStatusError(Status.INVALID_FIELD)
    ns.holder = None
    return 0


def report(parts: Parts, request: FetchedCommand, command: ReservationReport) -> int:
    """Execute Reservation Report: the type of the reservation, and no registrants of other controllers."""
    ns = _reservable(parts, request)
    status = bytearray(command.data_length)
    status[4:5] = bytes([ns.holder[1] if ns.holder else 0])
    transfer.check_length(parts.core, request, len(status))
    transfer.send(parts.core, request, bytes(status))
    return 0


def _remark_on_key(parts: Parts, request: FetchedCommand, does: str, held: int | None, current: int) -> None:
    parts.core.remark(
        "reservation-key",
        sqid=request.sq.qid, cid=request.cid, does=does, registered=held is not None, matches=held == current,
    )  # fmt: skip


def _reservable(parts: Parts, request: FetchedCommand) -> StoredNamespace:
    """Return the namespace, which must support reservations."""
    ns = parts.inventory.active(request.nsid)
    if not int(parts.inventory.identify_namespace(request.nsid).RESCAP):
        raise CommandStatusError(Status.INVALID_OPCODE)
    return ns


def _host(parts: Parts) -> bytes:
    """Return the Host Identifier; without one the controller has a host of its own."""
    return parts.features.buffers.get(Fid.HOST_IDENTIFIER, b"") or parts.core.spec.id.encode()


def _keys(parts: Parts, request: FetchedCommand, length: int) -> tuple[int, int]:
    """Return the current and the new (or preempted) key of the command's data."""
    data = transfer.receive(parts.core, request, length)
    return int.from_bytes(data[:KEY_BYTES], "little"), int.from_bytes(data[KEY_BYTES:], "little")
