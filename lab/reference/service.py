"""The driver as somebody who asks sees it: contract.md's actions in, its answers out. One session, any transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.nvme.commands import Command, LbaCommand, Transfer, decode
from lab.nvme.fields import Register
from lab.nvme.identify import Oacs, Oncs
from lab.nvme.logs import Smart
from lab.reference.controller import LAST, Controller
from lab.reference.errors import CommandFailed, CommandTimedOut, DriverError, Refused
from lab.reference.identification import Identifiers
from lab.reference.namespace import Namespace
from lab.reference.settings import Settings
from lab.reference.transport import Transport

Status = str | Mapping[str, Any]
Open = Callable[[], Sequence[Transport]]

OPTIONAL_COMMANDS: Mapping[str, Any] = {
    "compare": Oncs.COMPARE, "write-uncorrectable": Oncs.WRITE_UNCORRECTABLE, "dataset-management": Oncs.DATASET_MANAGEMENT,
    "write-zeroes": Oncs.WRITE_ZEROES, "save-select": Oncs.SAVE_AND_SELECT, "reservations": Oncs.RESERVATIONS,
    "timestamp": Oncs.TIMESTAMP, "verify": Oncs.VERIFY, "copy": Oncs.COPY,
}  # fmt: skip
OPTIONAL_ADMIN: Mapping[str, Any] = {
    "security": Oacs.SECURITY, "format": Oacs.FORMAT, "firmware": Oacs.FIRMWARE,
    "namespace-management": Oacs.NAMESPACE_MANAGEMENT, "self-test": Oacs.SELF_TEST, "directives": Oacs.DIRECTIVES,
    "mi": Oacs.NVME_MI, "virtualization": Oacs.VIRTUALIZATION, "doorbell-buffer-config": Oacs.DOORBELL_BUFFER,
    "lba-status": Oacs.GET_LBA_STATUS,
}  # fmt: skip


@dataclass
class Reply:
    """An answer: status, fields and bytes of contract.md."""

    status: Status = "success"
    fields: dict[str, Any] = field(default_factory=dict)
    data: bytes | None = None


class Service:
    """Answers actions. ``driver`` is the class that drives each controller that ``open`` finds."""

    def __init__(self, open: Open, settings: Settings | None = None, driver: type[Controller] = Controller) -> None:
        self._open, self._settings, self._driver = open, settings or Settings(), driver
        self.controllers: list[Controller] = []

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """The answer to an action; what the driver has to say instead of a result becomes its status."""
        before = self._told()  # what has come meanwhile counts: the answer shall not be out of date
        try:
            reply = _ACTIONS[action](self, arguments, data)
        except CommandFailed as failure:
            done = failure.completion
            reply = Reply({"sct": done.SCT, "sc": done.SC}, {"log": str(failure)})
        except CommandTimedOut as late:
            reply = Reply("timeout", {"log": str(late)})
        except DriverError as error:
            reply = Reply({"words": str(error)})
        told = [*before, *self._told()]
        if told:
            reply.fields["log"] = "\n".join(filter(None, [reply.fields.get("log", ""), *told]))
        return reply

    def close(self) -> None:
        """Leaves every controller in order."""
        for controller in self.controllers:
            controller.close()
        self.controllers = []

    def _told(self) -> list[str]:
        """What the controllers have told by themselves meanwhile."""
        told = []
        for controller in self.controllers:
            if controller.failed is None and controller.stage == LAST:
                try:
                    controller.events.handle()
                except DriverError as error:
                    told.append(str(error))
            told += controller.events.told
            controller.events.told.clear()
        return told

    # -- who is asked -----------------------------------------------------------------------------------------------

    def loaded(self) -> list[Controller]:
        """All controllers, in whatever state; Refused without any."""
        if not self.controllers:
            raise Refused("the driver is not loaded")
        return self.controllers

    def at(self, stage: str) -> list[Controller]:
        """The controllers that have got that far; where none has, its reason is raised."""
        found = []
        reasons: list[DriverError] = []
        for controller in self.loaded():
            try:
                controller.require(stage)
            except DriverError as reason:
                reasons.append(reason)
            else:
                found.append(controller)
        if not found:
            raise reasons[0]
        return found

    def chosen(self, arguments: Mapping[str, Any], stage: str) -> Controller:
        """The controller that ``serial`` names, else the first."""
        serial = arguments.get("serial", "").rstrip(" ")
        for controller in self.loaded():
            if not serial or (controller.identity is not None and controller.identity.SN == serial):
                controller.require(stage)
                return controller
        raise Refused(f"there is no controller with the serial number {serial}")

    def namespace(self, arguments: Mapping[str, Any], stage: str) -> Namespace:
        """The namespace that ``nsid`` names, on the chosen controller."""
        controller, nsid = self.chosen(arguments, stage), arguments.get("nsid", 1)
        if nsid in controller.unusable:
            raise Refused(f"namespace {nsid} cannot be used: {controller.unusable[nsid]}")
        if nsid not in controller.namespaces:
            there = ", ".join(map(str, controller.namespaces)) or "none"
            raise Refused(f"there is no active namespace {nsid}; there are: {there}")
        return controller.namespaces[nsid]


# -- the actions ----------------------------------------------------------------------------------------------------

Asked = Mapping[str, Any]


def load(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """Finds all controllers and brings them up, to the stage ``until`` or wholly."""
    service.close()
    opened = service._open()
    if not opened:
        raise Refused("no NVMe controller was found")
    service.controllers = [service._driver(transport, service._settings) for transport in opened]
    failures: list[DriverError] = []
    log = []
    for controller in service.controllers:
        try:
            controller.start(asked.get("until", LAST))
        except DriverError as error:  # one controller that does not come up must not take the others with it
            failures.append(error)
            log.append(str(error))
        else:
            log.append(f"{controller.transport.name}: NVMe {controller.version.text}, {controller.stage} done")
    if len(failures) == len(opened):
        raise failures[0]
    return Reply(fields={"log": "\n".join(log)})


def unload(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """Shuts every controller down and gives it back."""
    service.loaded()
    service.close()
    return Reply()


def info(service: Service, asked: Asked, data: bytes | None) -> Reply:
    return Reply(fields={"controllers": [_info(controller) for controller in service.at("detect")]})


def _info(controller: Controller) -> dict[str, Any]:
    cap = controller.cap
    return {
        "address": controller.transport.name,
        "version": controller.version.text,
        "max_queue_entries": controller.max_queue_entries,
        "doorbell_stride": 4 << cap.DSTRD,
        "timeout_ms": cap.TO * 500,
        "page_size_min": 4096 << cap.MPSMIN,
        "page_size_max": 4096 << cap.MPSMAX,
    }


def ready(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """Ready is what CSTS says now, and only if it says so of every controller."""
    up = service.at("admin-queue")
    states = [controller.status() for controller in up]
    return Reply(fields={"ready": up == service.controllers and all(state.RDY and not state.CFS for state in states)})


def identify(service: Service, asked: Asked, data: bytes | None) -> Reply:
    return Reply(fields={"controllers": [_identity(controller) for controller in service.at("identify")]})


def _identity(controller: Controller) -> dict[str, Any]:
    identity = controller.identity
    assert identity is not None
    found: dict[str, Any] = {
        "serial": identity.SN,
        "model": identity.MN,
        "firmware": identity.FR,
        "vendor_id": identity.VID,
        "max_transfer_bytes": controller.max_transfer or 0,
        "optional_commands": _set(identity.ONCS, OPTIONAL_COMMANDS),
        "optional_commands_shown": list(OPTIONAL_COMMANDS),
        "optional_admin": _set(identity.OACS, OPTIONAL_ADMIN),
        "optional_admin_shown": list(OPTIONAL_ADMIN),
        "namespaces": len(controller.namespaces),
    }
    first = next(iter(controller.namespaces.values()), None)
    if first is not None:
        formats = first.identity.formats
        found["lba_formats"] = [{"block_size": one.block_size, "metadata": one.MS} for one in formats]
        found["lba_format"] = first.identity.format_index
    return found


def _set(register: Register, names: Mapping[str, Any]) -> list[str]:
    return [name for name, bits in names.items() if bits.bits_of(register)]


def list_(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """Every namespace once: what several controllers share has the same names on all of them, and is its first one's."""
    found = list[dict[str, Any]]()
    known = set[Identifiers]()
    for controller in service.at("identify"):
        for namespace in controller.namespaces.values():
            if namespace.shared and namespace.names in known:
                continue
            known.add(namespace.names)
            found.append(_listed(controller, namespace))
    return Reply(fields={"namespaces": found})


def _listed(controller: Controller, namespace: Namespace) -> dict[str, Any]:
    assert controller.identity is not None
    found: dict[str, Any] = {
        "controller": controller.identity.SN,
        "nsid": namespace.nsid,
        "blocks": namespace.blocks,
        "block_size": namespace.block_size,
    }
    names = {"uuid": namespace.names.uuid, "nguid": namespace.names.nguid, "eui64": namespace.names.eui64}
    refused = {"refused": namespace.refusal}
    return {**found, **{name: text for name, text in (names | refused).items() if text}}


def rescan(service: Service, asked: Asked, data: bytes | None) -> Reply:
    for controller in service.at("identify"):
        controller.scan()
    return list_(service, asked, data)


def queues(service: Service, asked: Asked, data: bytes | None) -> Reply:
    controller = service.chosen(asked, "io-queues")
    depth = controller.io[0].submission.entries
    return Reply(fields={"pairs": len(controller.io), "depth": depth, "vectors": controller.vectors})


def noop(service: Service, asked: Asked, data: bytes | None) -> Reply:
    service.namespace(asked, "io-queues").noop()
    return Reply()


def read(service: Service, asked: Asked, data: bytes | None) -> Reply:
    namespace = service.namespace(asked, "read")
    return Reply(data=namespace.read(asked["lba"], asked["blocks"], asked.get("offset", 0)))


def write(service: Service, asked: Asked, data: bytes | None) -> Reply:
    namespace = service.namespace(asked, "write")
    namespace.write(asked["lba"], data or b"", fua=bool(asked.get("fua")), offset=asked.get("offset", 0))
    return Reply()


def write_bytes(service: Service, asked: Asked, data: bytes | None) -> Reply:
    service.namespace(asked, "write").patch(asked["lba"], asked["at"], data or b"")
    return Reply()


def flush(service: Service, asked: Asked, data: bytes | None) -> Reply:
    service.namespace(asked, "write").flush()
    return Reply()


def zeroes(service: Service, asked: Asked, data: bytes | None) -> Reply:
    service.namespace(asked, "write").zeroes(asked["lba"], asked["blocks"])
    return Reply()


def trim(service: Service, asked: Asked, data: bytes | None) -> Reply:
    service.namespace(asked, "features").trim([(asked["lba"], asked["blocks"])])
    return Reply()


def reset(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """A Controller Level Reset of every controller; it stays lost where it does not come back."""
    for controller in service.at("reset"):
        controller.recovery.reset("the user asked for it")
        if controller.failed is not None:
            raise controller.failed
    return Reply()


def shutdown(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """As the system halts: the controllers are told, and left as they are."""
    for controller in service.loaded():
        controller.shutdown()
    return Reply()


def load_mix(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """Run many reads and writes at once (see `lab.data.mix`); report how many ended, how, and what each job's region holds."""
    namespace = service.namespace(asked, "multiqueue")
    load = service.chosen(asked, "multiqueue").load
    done = load.run(namespace, asked["blocks"], asked["lanes"], data or b"")
    fields: dict[str, Any] = {"operations": done.operations, "errors": done.errors, "mismatches": done.mismatches}
    fields["regions"] = [load.digest(namespace, job, lba, count) for job, (lba, count) in enumerate(asked["regions"])]
    return Reply(fields=fields | ({"first_error": done.first_error} if done.first_error else {}))


def get_feature(service: Service, asked: Asked, data: bytes | None) -> Reply:
    value, found = service.chosen(asked, "identify").features.get(asked["feature"], nsid=asked.get("nsid", 0))
    return Reply(fields={"value": value}, data=found or None)


def set_feature(service: Service, asked: Asked, data: bytes | None) -> Reply:
    features = service.chosen(asked, "identify").features
    save, nsid = bool(asked.get("save")), asked.get("nsid", 0)
    return Reply(fields={"value": features.set(asked["feature"], asked["value"], save=save, nsid=nsid, data=data or b"")})


def smart(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """What SMART tells; with ``errors`` the error log too, the newest entry first."""
    health = service.chosen(asked, "identify").health
    found = health_figures(health.smart())
    if asked.get("errors"):
        found["errors"] = [{"sqid": entry.SQID, "status": entry.status, "nsid": entry.NSID} for entry in health.errors()]
    return Reply(fields=found)


def health_figures(log: Smart) -> dict[str, Any]:
    """The log page's figures: temperatures in degrees Celsius, data units in thousands of 512 bytes, times as named."""
    return {
        "critical_warning": int(log.CRITICAL_WARNING),
        "temperature": log.celsius,
        "available_spare": log.AVAILABLE_SPARE,
        "spare_threshold": log.SPARE_THRESHOLD,
        "percentage_used": log.PERCENTAGE_USED,
        "data_units_read": log.DATA_UNITS_READ,
        "data_units_written": log.DATA_UNITS_WRITTEN,
        "host_reads": log.HOST_READS,
        "host_writes": log.HOST_WRITES,
        "busy_minutes": log.BUSY_TIME,
        "power_cycles": log.POWER_CYCLES,
        "power_on_hours": log.POWER_ON_HOURS,
        "unsafe_shutdowns": log.UNSAFE_SHUTDOWNS,
        "media_errors": log.MEDIA_ERRORS,
        "error_log_entries": log.ERROR_LOG_ENTRIES,
    }


def format_(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """Formats a namespace with the LBA format of that index: nothing is left in it."""
    service.namespace(asked, "features").format(asked["format"])
    service.chosen(asked, "features").scan()
    return Reply()


def raw(service: Service, asked: Asked, data: bytes | None) -> Reply:
    """One command as it is, sent once: 64 bytes in hexadecimal, or ``opcode``, ``nsid`` and ``cdw10`` to ``cdw15``.

    The driver fills in the command identifier and the PRPs. ``length`` is how many bytes the command returns.
    """
    admin = asked.get("queue", "admin") == "admin"
    controller = service.chosen(asked, "identify" if admin else "io-queues")
    command = raw_command(asked, admin)
    pair = controller.admin if admin else controller.pair()
    moved = max(raw_length(controller, command), len(data or b""), asked.get("length", 0))
    if not moved:
        done = controller.execution.run(pair, [command], retry=False)[0]
        return Reply(fields={"result": done.DW0})
    with controller.data.buffer(moved) as memory:
        memory.write(0, data or b"")
        done = controller.execution.with_data(pair, command, memory, moved, retry=False)
        returned = memory.read(0, asked.get("length", moved)) if command.OPC & Transfer.TO_HOST else None
        return Reply(fields={"result": done.DW0}, data=returned)


def raw_command(asked: Asked, admin: bool) -> Command:
    """The command that the arguments say; Refused for a value that does not fit."""
    try:
        if "command" in asked:
            return decode(bytes.fromhex(asked["command"]), admin=admin).but(CID=0, PRP1=0, PRP2=0)
        numbers = {name.upper(): asked[name] for name in asked if name == "nsid" or name.startswith("cdw")}
        plain = Command.of(OPC=asked["opcode"], **numbers)
    except (ValueError, KeyError) as error:
        raise Refused(f"this is no command: {error}") from error
    return decode(plain, admin=admin)


def raw_length(controller: Controller, command: Command) -> int:
    """Bytes that a command moves as far as it tells: the buffer must hold them, whatever its sender says."""
    if isinstance(command, LbaCommand) and command.transfer and command.NSID in controller.namespaces:
        return command.blocks * controller.namespaces[command.NSID].block_size
    return command.data_length or 0


_ACTIONS: Mapping[str, Callable[[Service, Asked, bytes | None], Reply]] = {
    "load": load, "unload": unload, "info": info, "ready": ready, "identify": identify, "list": list_, "rescan": rescan,
    "queues": queues, "noop": noop, "read": read, "write": write,
    "write-bytes": write_bytes, "flush": flush, "zeroes": zeroes, "trim": trim,
    "reset": reset, "shutdown": shutdown, "get-feature": get_feature, "set-feature": set_feature, "smart": smart,
    "format": format_, "raw": raw, "load-mix": load_mix,
}  # fmt: skip
ACTIONS = frozenset(_ACTIONS)
"""What can be asked."""
