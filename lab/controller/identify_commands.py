"""Identify: which structure answers which CNS. Base 2.0, 5.17."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from lab.controller import transfer
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.identify import SEVERAL_SETS, nvm_limits, zoned_namespace
from lab.controller.namespaces import StoredNamespace
from lab.controller.parts import Parts
from lab.controller.subsystem import Member
from lab.controller.zone_commands import is_offered
from lab.nvme.commands import BROADCAST_NSID, Identify
from lab.nvme.identify import (
    SIZE,
    Cns,
    CommandSets,
    ControllerList,
    Csi,
    IdentifyNamespaceNvm,
    IndependentNamespace,
    IoCommandSets,
    NamespaceList,
    Nstat,
    namespace_descriptor_list,
)
from lab.nvme.registers import VS
from lab.nvme.status import Status
from lab.nvme.zones import IdentifyControllerZoned

V1_0, V1_1, V1_3, V1_4, V2_0 = VS(0), VS.of(MJR=1, MNR=1), VS.of(MJR=1, MNR=3), VS.of(MJR=1, MNR=4), VS.of(MJR=2)


def identify(parts: Parts, request: FetchedCommand, command: Identify) -> int:
    """Execute Identify."""
    core = parts.core
    structure = STRUCTURES.get(command.CNS)
    if structure is None or core.registers.vs < structure.since:
        raise CommandStatusError(Status.INVALID_FIELD)
    if request.nsid and not structure.uses_nsid:
        core.remark("nsid-unused", sqid=0, cid=request.cid, nsid=request.nsid, cns=command.CNS)
    transfer.send(core, request, structure.build(parts, command))
    return 0


def _namespace(parts: Parts, command: Identify) -> bytes:
    if command.NSID == BROADCAST_NSID:
        return parts.inventory.identify_common()
    if command.NSID in parts.core.attached:
        return parts.inventory.identify_namespace(command.NSID)
    parts.inventory.check_nsid(command.NSID)
    return bytes(SIZE)


def _controller(parts: Parts, _command: Identify) -> bytes:
    return parts.inventory.identify_controller()


def _active(parts: Parts, command: Identify) -> bytes:
    return _namespace_list(command, parts.core.attached)


def _allocated(parts: Parts, command: Identify) -> bytes:
    return _namespace_list(command, parts.inventory.allocated)


def _namespace_list(command: Identify, ids: Iterable[int]) -> bytes:
    if command.NSID >= 0xFFFF_FFFE:
        raise CommandStatusError(Status.INVALID_NAMESPACE)
    return NamespaceList.after(command.NSID, ids)


def _descriptors(parts: Parts, command: Identify) -> bytes:
    ns = parts.inventory.active(command.NSID)
    told = parts.core.registers.vs >= V2_0 or parts.core.registers.cap.CSS & SEVERAL_SETS
    csi = command_set(ns) if told else None
    return namespace_descriptor_list(eui64=ns.eui64, nguid=ns.nguid, uuid=ns.uuid, csi=csi)


def _csi_namespace(parts: Parts, command: Identify) -> bytes:
    _check_command_set(parts, command)
    if command.NSID != BROADCAST_NSID:
        parts.inventory.check_nsid(command.NSID)
    if command.CSI != Csi.ZONED:
        return IdentifyNamespaceNvm()
    ns = parts.core.attached.get(command.NSID)
    if ns is None:
        return bytes(SIZE)
    if ns.zones is None:
        raise CommandStatusError(Status.IO_COMMAND_SET_INVALID)
    return zoned_namespace(ns, ns.zones)


def _csi_controller(parts: Parts, command: Identify) -> bytes:
    _check_command_set(parts, command)
    if command.CSI == Csi.ZONED:
        return IdentifyControllerZoned.of(ZASL=parts.core.spec.zone_append_limit)
    return nvm_limits(parts.core.spec)


def _csi_active(parts: Parts, command: Identify) -> bytes:
    _check_command_set(parts, command)
    return _namespace_list(command, [nsid for nsid, ns in parts.core.attached.items() if command_set(ns) == command.CSI])


def _independent(parts: Parts, command: Identify) -> bytes:
    if command.NSID not in parts.core.attached:
        parts.inventory.check_nsid(command.NSID)
        return bytes(SIZE)
    ns = parts.inventory.identify_namespace(command.NSID)
    return IndependentNamespace.of(
        NMIC=ns.NMIC, RESCAP=ns.RESCAP, FPI=ns.FPI, ANAGRPID=ns.ANAGRPID, NSATTR=ns.NSATTR, NVMSETID=ns.NVMSETID,
        ENDGID=ns.ENDGID, NSTAT=Nstat.of(READY=1),
    )  # fmt: skip


def _allocated_namespace(parts: Parts, command: Identify) -> bytes:
    if command.NSID in parts.inventory.allocated:
        return parts.inventory.identify_namespace(command.NSID)
    parts.inventory.check_nsid(command.NSID)
    return bytes(SIZE)


def _attached_controllers(parts: Parts, command: Identify) -> bytes:
    if command.NSID not in parts.inventory.allocated:
        raise CommandStatusError(Status.INVALID_FIELD)
    having = [other for other in parts.inventory.family if command.NSID in other.attached]
    return _controller_list(having, command.CNTID)


def _all_controllers(parts: Parts, command: Identify) -> bytes:
    return _controller_list(parts.inventory.family, command.CNTID)


def _controller_list(found: list[Member], first: int) -> bytes:
    return ControllerList.holding(number for other in found if (number := other.identity.CNTLID) >= first)


def _command_sets(parts: Parts, _command: Identify) -> bytes:
    return IoCommandSets.of(COMBINATION=(CommandSets.of(NVM=1, ZONED=is_offered(parts.core)),))


def command_set(ns: StoredNamespace) -> Csi:
    """Return the command set of a namespace."""
    return Csi.NVM if ns.zones is None else Csi.ZONED


def _check_command_set(parts: Parts, command: Identify) -> None:
    if command.CSI != Csi.NVM and not (command.CSI == Csi.ZONED and is_offered(parts.core)):
        raise CommandStatusError(Status.IO_COMMAND_SET_NOT_SUPPORTED)


class IdentifyStructure(NamedTuple):
    """How a CNS is answered, the first version that has it, and whether it uses the namespace id."""

    build: Callable[[Parts, Identify], bytes]
    since: VS
    uses_nsid: bool


STRUCTURES: dict[int, IdentifyStructure] = {
    Cns.NAMESPACE: IdentifyStructure(_namespace, V1_0, True),
    Cns.CONTROLLER: IdentifyStructure(_controller, V1_0, False),
    Cns.ACTIVE_NAMESPACES: IdentifyStructure(_active, V1_1, True),
    Cns.NAMESPACE_DESCRIPTORS: IdentifyStructure(_descriptors, V1_3, True),
    Cns.CSI_NAMESPACE: IdentifyStructure(_csi_namespace, V1_4, True),
    Cns.CSI_CONTROLLER: IdentifyStructure(_csi_controller, V1_4, False),
    Cns.CSI_ACTIVE_NAMESPACES: IdentifyStructure(_csi_active, V1_4, True),
    Cns.INDEPENDENT_NAMESPACE: IdentifyStructure(_independent, V1_4, True),
    Cns.ALLOCATED_NAMESPACES: IdentifyStructure(_allocated, V1_1, True),
    Cns.ALLOCATED_NAMESPACE: IdentifyStructure(_allocated_namespace, V1_1, True),
    Cns.ATTACHED_CONTROLLERS: IdentifyStructure(_attached_controllers, V1_1, True),
    Cns.CONTROLLERS: IdentifyStructure(_all_controllers, V1_1, False),
    Cns.IO_COMMAND_SETS: IdentifyStructure(_command_sets, V1_4, False),
}
"""CNS to its structure. What technical proposals added to 1.4 and 2.0 took up (command sets, TP 4056) counts as 1.4: Linux
asks 1.4 controllers for it."""
