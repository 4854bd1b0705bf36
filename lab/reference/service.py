"""The actions of the driver contract (docs/drivers.md) on the reference driver, over any transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from lab.nvme.commands import Command, LbaCommand, Read, Transfer, decode
from lab.nvme.fields import Register
from lab.nvme.identify import Oacs, Oncs
from lab.nvme.logs import Smart
from lab.nvme.zones import ZoneDescriptor, ZoneSendAction
from lab.reference import jobs
from lab.reference.controller import LAST, Controller
from lab.reference.errors import CommandFailed, CommandTimedOut, ControllerFailed, DriverError, Refused
from lab.reference.fat import FatVolume
from lab.reference.identification import Identifiers
from lab.reference.io_ring import IoRing
from lab.reference.namespace import Namespace
from lab.reference.operation import CLASSES, PHYSICAL, Operation
from lab.reference.pool import DmaPool, pooled
from lab.reference.recovery import Recovery
from lab.reference.settings import Settings
from lab.reference.transport import Transport
from lab.reference.zoned import ZonedNamespace

Status = str | Mapping[str, Any]
ZONE_OPERATIONS = {
    "open": ZoneSendAction.OPEN, "close": ZoneSendAction.CLOSE, "finish": ZoneSendAction.FINISH,
    "reset": ZoneSendAction.RESET, "offline": ZoneSendAction.OFFLINE,
}  # fmt: skip
"""What can be done to zones."""
KELVIN = 273
"""Kelvin at 0 °C, as SMART figures are computed."""
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
    """The answer to an action: status, fields and bytes."""

    status: Status = "success"
    fields: dict[str, Any] = field(default_factory=dict)
    data: bytes | None = None


class Service:
    """Performs actions. ``driver`` is the class that drives each controller that ``open`` finds."""

    ring: type[IoRing] = IoRing
    """The rings of asynchronous operations."""
    volume: type[FatVolume] = FatVolume
    """The file systems that it can read."""

    def __init__(self, open: Open, settings: Settings | None = None, driver: type[Controller] = Controller) -> None:
        """Control the functions that ``open`` returns, by drivers of class ``driver``."""
        self._open, self.settings, self._driver = open, settings or Settings(), driver
        self.controllers: list[Controller] = []
        self.saved: list[tuple[str, DmaPool]] = []
        """The documents of drivers that were saved, with the memory that outlives them."""
        self.collected: list[tuple[int, str, bytes]] = []
        """The ended operations of a driver that was shut down to be replaced."""
        self._pools: list[DmaPool] = []

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Perform an action; an error of the driver becomes the status of the reply."""
        before = self._messages()  # events first, so that the answer is not out of date
        try:
            reply = _ACTIONS[action](Call(self, arguments, data))
        except CommandFailed as failure:
            done = failure.completion
            reply = Reply({"sct": done.SCT, "sc": done.SC}, {"log": str(failure)})
        except DriverError as error:
            reply = Reply({"words": str(error)})
        messages = [*before, *self._messages()]
        if messages:
            reply.fields["log"] = "\n".join(filter(None, [reply.fields.get("log", ""), *messages]))
        return reply

    def close(self) -> None:
        """Shut every controller down and release it."""
        for controller in self.controllers:
            controller.close()
        self.controllers, self.saved = [], []
        for pool in self._pools:
            pool.close()
        self._pools = []

    def open_functions(self) -> Sequence[Transport]:
        """Return all functions."""
        return self._open()

    def make(self, transport: Transport, pool: DmaPool | None = None, settings: Settings | None = None) -> Controller:
        """Return a driver of a function: with memory that outlives it, in a predecessor's pool or a new one, for keep-alive."""
        settings = settings or self.settings
        if not settings.keep_alive:
            return self._driver(transport, settings)
        if pool is None:
            pool = DmaPool(transport)
            self._pools.append(pool)
        return self._driver(pooled(transport, pool), settings)

    def _messages(self) -> list[str]:
        """Handle events, and take the messages about them."""
        messages = list[str]()
        for controller in self.controllers:
            if controller.failed is None and controller.stage == LAST:
                try:
                    controller.events.handle()
                except DriverError as error:
                    messages.append(str(error))
            messages += controller.events.messages
            controller.events.messages.clear()
        return messages

    # -- who is arguments -----------------------------------------------------------------------------------------------

    def loaded(self) -> list[Controller]:
        """Return all controllers, in any state; Refused if there are none."""
        if not self.controllers:
            raise Refused("the driver is not loaded")
        return self.controllers

    def controllers_at(self, stage: str) -> list[Controller]:
        """Return the controllers that have completed a stage; raise the first one's reason if none has."""
        ready = []
        reasons: list[DriverError] = []
        for controller in self.loaded():
            try:
                controller.require(stage)
            except DriverError as reason:
                reasons.append(reason)
            else:
                ready.append(controller)
        if not ready:
            raise reasons[0]
        return ready

    def controller_for(self, arguments: Mapping[str, Any], stage: str) -> Controller:
        """Return the controller that ``serial`` names, else the first."""
        serial = arguments.get("serial", "").rstrip(" ")
        for controller in self.loaded():
            if not serial or (controller.identity is not None and controller.identity.SN == serial):
                controller.require(stage)
                return controller
        raise Refused(f"there is no controller with the serial number {serial}")

    def namespace(self, arguments: Mapping[str, Any], stage: str) -> Namespace:
        """Return the namespace that ``nsid`` names, on the controller that ``serial`` names."""
        controller, nsid = self.controller_for(arguments, stage), arguments.get("nsid", 1)
        if nsid in controller.unusable:
            raise Refused(f"namespace {nsid} cannot be used: {controller.unusable[nsid]}")
        if nsid not in controller.namespaces:
            active = ", ".join(map(str, controller.namespaces)) or "none"
            raise Refused(f"there is no active namespace {nsid}; there are: {active}")
        return controller.namespaces[nsid]


# -- the actions ----------------------------------------------------------------------------------------------------

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """An action that a service is asked to perform."""

    service: Service
    arguments: Arguments
    data: bytes | None

    def controller(self, stage: str) -> Controller:
        """Return the controller that the arguments name, once it has completed a stage."""
        return self.service.controller_for(self.arguments, stage)

    def namespace(self, stage: str) -> Namespace:
        """Return the namespace that the arguments name, once its controller has completed a stage."""
        return self.service.namespace(self.arguments, stage)


def load(call: Call) -> Reply:
    """Find all controllers and bring them up, to the stage ``until`` or completely."""
    return _load(call, call.service.settings)


def load_polled(call: Call) -> Reply:
    """Find all controllers and bring them up, with I/O queues that are polled."""
    return _load(call, replace(call.service.settings, polling=True))


def _load(call: Call, settings: Settings) -> Reply:
    call.service.close()
    opened = call.service._open()
    if not opened:
        raise Refused("no NVMe controller was found")
    call.service.controllers = [call.service.make(transport, settings=settings) for transport in opened]
    failures: list[DriverError] = []
    log = []
    for controller in call.service.controllers:
        try:
            controller.start(call.arguments.get("until", LAST))
        except DriverError as error:  # a controller that does not come up must not hinder the others
            failures.append(error)
            log.append(str(error))
        else:
            log.append(f"{controller.transport.name}: NVMe {controller.version.text}, {controller.stage} done")
    if len(failures) == len(opened):
        raise failures[0]
    return Reply(fields={"log": "\n".join(log)})


def unload(call: Call) -> Reply:
    """Shut every controller down and release it."""
    call.service.loaded()
    call.service.close()
    return Reply()


def info(call: Call) -> Reply:
    """Describe the registers of each controller."""
    return Reply(fields={"controllers": [_register_fields(controller) for controller in call.service.controllers_at("detect")]})


def _register_fields(controller: Controller) -> dict[str, Any]:
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


def ready(call: Call) -> Reply:
    """Return whether CSTS says now that every controller is ready."""
    up = call.service.controllers_at("admin-queue")
    states = [controller.status() for controller in up]
    return Reply(fields={"ready": up == call.service.controllers and all(state.RDY and not state.CFS for state in states)})


def identify(call: Call) -> Reply:
    """Describe the identity of each controller."""
    return Reply(
        fields={"controllers": [_identity_fields(controller) for controller in call.service.controllers_at("identify")]}
    )


def _identity_fields(controller: Controller) -> dict[str, Any]:
    identity = controller.known_identity
    fields: dict[str, Any] = {
        "serial": identity.SN,
        "model": identity.MN,
        "firmware": identity.FR,
        "vendor_id": identity.VID,
        "max_transfer_bytes": controller.max_transfer or 0,
        "optional_commands": _set_bits(identity.ONCS, OPTIONAL_COMMANDS),
        "optional_commands_shown": list(OPTIONAL_COMMANDS),
        "optional_admin": _set_bits(identity.OACS, OPTIONAL_ADMIN),
        "optional_admin_shown": list(OPTIONAL_ADMIN),
        "namespaces": len(controller.namespaces),
    }
    first = next(iter(controller.namespaces.values()), None)
    if first is not None:
        formats = first.identity.formats
        fields["lba_formats"] = [{"block_size": one.block_size, "metadata": one.MS} for one in formats]
        fields["lba_format"] = first.identity.format_index
    return fields


def _set_bits(register: Register, names: Mapping[str, Any]) -> list[str]:
    return [name for name, bits in names.items() if bits.bits_of(register)]


def list_(call: Call) -> Reply:
    """List every namespace once: one that several controllers share has the same identifiers on all of them."""
    listed = list[dict[str, Any]]()
    known = set[Identifiers]()
    for controller in call.service.controllers_at("identify"):
        for namespace in controller.namespaces.values():
            if namespace.shared and namespace.names in known:
                continue
            known.add(namespace.names)
            listed.append(_namespace_fields(controller, namespace))
    return Reply(fields={"namespaces": listed})


def _namespace_fields(controller: Controller, namespace: Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "controller": controller.known_identity.SN,
        "nsid": namespace.nsid,
        "blocks": namespace.blocks,
        "block_size": namespace.block_size,
    }
    names = {"uuid": namespace.names.uuid, "nguid": namespace.names.nguid, "eui64": namespace.names.eui64}
    refused = {"refused": namespace.unsupported_reason}
    return {**fields, **{name: text for name, text in (names | refused).items() if text}}


def rescan(call: Call) -> Reply:
    """Find the namespaces again, and list them."""
    for controller in call.service.controllers_at("identify"):
        controller.scan()
    return list_(call)


def queues(call: Call) -> Reply:
    """Return the I/O queue pairs, their depth, and the vectors."""
    controller = call.controller("io-queues")
    depth = controller.io[0].submission.entries
    return Reply(fields={"pairs": len(controller.io), "depth": depth, "vectors": controller.vectors})


def noop(call: Call) -> Reply:
    """Send a command without data."""
    call.namespace("io-queues").noop()
    return Reply()


def read(call: Call) -> Reply:
    """Read blocks."""
    namespace = call.namespace("read")
    return Reply(data=namespace.read(call.arguments["lba"], call.arguments["blocks"], call.arguments.get("offset", 0)))


def mount(call: Call) -> Reply:
    """Return a file of the file system that a namespace holds; only FAT16 is known."""
    if call.arguments["filesystem"] != "vfat":
        return Reply("unsupported")
    return Reply(data=call.service.volume(call.namespace("read")).read(call.arguments["file"]))


def write(call: Call) -> Reply:
    """Write blocks."""
    namespace = call.namespace("write")
    namespace.write(
        call.arguments["lba"], call.data or b"", fua=bool(call.arguments.get("fua")), offset=call.arguments.get("offset", 0)
    )
    return Reply()


def write_bytes(call: Call) -> Reply:
    """Write bytes inside blocks, and keep the rest of the blocks."""
    call.namespace("write").patch(call.arguments["lba"], call.arguments["at"], call.data or b"")
    return Reply()


def flush(call: Call) -> Reply:
    """Put what was written on the medium."""
    call.namespace("write").flush()
    return Reply()


def zeroes(call: Call) -> Reply:
    """Zero blocks."""
    call.namespace("write").zeroes(call.arguments["lba"], call.arguments["blocks"])
    return Reply()


def clear(call: Call) -> Reply:
    """Write the bytes of one block to many."""
    call.namespace("write").clear(call.arguments["lba"], call.arguments["blocks"], call.data or b"")
    return Reply()


def trim(call: Call) -> Reply:
    """Deallocate blocks."""
    call.namespace("features").trim([(call.arguments["lba"], call.arguments["blocks"])])
    return Reply()


def reset(call: Call) -> Reply:
    """Reset every controller (Controller Level Reset)."""
    for controller in call.service.controllers_at("reset"):
        controller.recovery.reset("the user asked for it")
        if controller.failed is not None:
            raise controller.failed
    return Reply()


def shutdown(call: Call) -> Reply:
    """Shut every controller down, as when the system halts, and keep it."""
    for controller in call.service.loaded():
        controller.shutdown()
    return Reply()


LOW_POWER = "low-power"
"""The state of a system that sleeps and leaves the power to its devices: docs/drivers.md, "Actions and answers"."""


def suspend(call: Call) -> Reply:
    """Shut every controller down, as before the system sleeps, and bring it up again, as after that.

    One that is to keep its power, and has power states, only rests meanwhile.
    """
    for controller in call.service.controllers_at("reset"):
        if call.arguments.get("state") == LOW_POWER and controller.rest():
            controller.rouse()
        else:
            controller.sleep()
            controller.wake()
    return Reply()


def reset_function(call: Call) -> Reply:
    """Reset every function by PCI, and bring its controller up again."""
    return _reset_by(call, lambda recovery: recovery.reset_function())


def reset_subsystem(call: Call) -> Reply:
    """Reset the NVM subsystem, and bring its controllers up again; Refused where they cannot."""
    return _reset_by(call, lambda recovery: recovery.reset_subsystem())


def _reset_by(call: Call, way: Callable[[Recovery], None]) -> Reply:
    for controller in call.service.controllers_at("reset"):
        way(controller.recovery)
        if controller.failed is not None:
            raise controller.failed
    return Reply()


def host_memory(call: Call) -> Reply:
    """Lend every controller memory of the host, or take it back."""
    for controller in call.service.controllers_at("features"):
        if call.arguments["lent"]:
            controller.lend_memory()
        else:
            controller.take_memory_back()
    return Reply(fields={"lent": bool(call.arguments["lent"])})


def load_mix(call: Call) -> Reply:
    """Run many reads and writes at once (see `lab.data.mix`); return counts, and a digest of each job's region."""
    namespace = call.namespace("multiqueue")
    load = call.controller("multiqueue").load
    done = load.run(namespace, call.arguments["blocks"], call.arguments["lanes"], call.data or b"")
    fields: dict[str, Any] = {"operations": done.operations, "errors": done.errors, "mismatches": done.mismatches}
    fields["regions"] = [load.digest(namespace, job, lba, count) for job, (lba, count) in enumerate(call.arguments["regions"])]
    return Reply(fields=fields | ({"first_error": done.first_error} if done.first_error else {}))


def submit(call: Call) -> Reply:
    """Start reads, or writes of the data, of ``each`` blocks over a range, without waiting; ``pairs`` limits the queues."""
    namespace, arguments = call.namespace("write"), call.arguments
    pending = call.controller("write").pending
    each, size = arguments["each"], namespace.block_size
    tickets = []
    for at in range(arguments["lba"], arguments["lba"] + arguments["blocks"], each):
        begin = (at - arguments["lba"]) * size
        data = (call.data or b"")[begin : begin + each * size]
        tickets.append(pending.start(namespace, at, each, data, pairs=arguments.get("pairs", 0)))
    pending.ring()
    return Reply(fields={"tickets": tickets})


def collect(call: Call) -> Reply:
    """Wait for what `submit` has started; return the status of each operation, and the bytes of all reads."""
    service = call.service
    ended = [*service.collected, *(one for controller in service.loaded() for one in controller.pending.collect())]
    service.collected = []
    statuses = [{"ticket": ticket, "status": status} for ticket, status, _ in ended]
    return Reply(fields={"operations": statuses}, data=b"".join(data for *_, data in ended) or None)


def save(call: Call) -> Reply:
    """Save the state of every controller and let go of it; ``during``: what the first one is in the middle of."""
    service = call.service
    first, during = service.loaded()[0], call.arguments.get("during")
    if not service.settings.keep_alive:
        for controller in service.controllers:
            service.collected += controller.pending.collect()
        service.close()
        return Reply(fields={"keep_alive": False})
    if during == "create-cq":
        first.servicing.begin_recreation()
    elif during == "abort":
        first.servicing.begin_abort()
    for controller in service.controllers:
        controller.require(LAST)
        service.saved.append((controller.servicing.save(), controller.servicing.pool()))
        controller.transport.detach()
    service.controllers = []
    return Reply(fields={"keep_alive": True, "bytes": sum(len(document) for document, _ in service.saved)})


def hand_over(call: Call) -> Reply:
    """Let go of all controllers as they are, as a boot loader does when it starts a kernel: the next load knows nothing."""
    service = call.service
    for controller in service.loaded():
        controller.transport.detach()
    service.controllers = []
    return Reply()


def restore(call: Call) -> Reply:
    """Start the successor of the driver that was saved."""
    service = call.service
    if not service.settings.keep_alive:
        return load(call)
    if not service.saved:
        raise Refused("nothing was saved")
    saved, service.saved = service.saved, []
    failures = []
    for transport, (document, pool) in zip(service.open_functions(), saved, strict=True):
        controller = service.make(transport, pool)
        service.controllers.append(controller)
        try:
            controller.servicing.restore(document)
        except DriverError as error:
            controller.give_up(error)
            failures.append(f"{transport.name}: {error}")
    if failures:
        raise ControllerFailed("; ".join(failures))
    return Reply()


def load_ring(call: Call) -> Reply:
    """Submit ``operations`` reads of ``blocks`` at once to a ring, side by side from ``lba`` on, into memory of the caller.

    With the scheduler ``priority`` the first ones have the lowest class and the last ones the highest. With ``deadline`` the
    last one has ``first_ms`` to end, and each one before it ``step_ms`` more. The reply has the outcome of each, by its LBA,
    and the bus address of the memory that the caller gave.
    """
    namespace, arguments = call.namespace("multiqueue"), call.arguments
    controller, count, blocks = call.controller("multiqueue"), arguments["operations"], arguments["blocks"]
    scheduler, length = arguments["scheduler"], blocks * namespace.block_size
    with call.service.ring(controller, scheduler=scheduler) as ring:
        memory, now = ring.allocate(count * length), controller.transport.now()
        for number in range(count):
            milliseconds = arguments.get("first_ms", 0) + (count - 1 - number) * arguments.get("step_ms", 0)
            operation = Operation(
                Read, namespace, arguments["lba"] + number * blocks, blocks, memory.address + number * length | PHYSICAL,
                cpu=number, priority=CLASSES - 1 - number * CLASSES // count,
                deadline=now + milliseconds / 1000 if scheduler == "deadline" else inf,
            )  # fmt: skip
            if not ring.prepare(operation):
                raise Refused(f"a ring has room for {ring.entries} operations, not {count}")
        ended = [
            {
                "lba": result.operation.lba,
                "address": result.operation.address & ~PHYSICAL,
                "outcome": _outcome(result.error),
            }
            for result in ring.wait(count)
        ]
    return Reply(fields={"operations": ended})


def load_fio(call: Call) -> Reply:
    """Read random blocks as fio's job does: ``operations`` reads of ``blocks``, ``depth`` outstanding; return its figures."""
    namespace, arguments = call.namespace("multiqueue"), call.arguments
    count, depth, size = arguments["operations"], arguments["depth"], arguments["blocks"] * namespace.block_size
    job = jobs.Job("load", bs=size, iodepth=depth, runtime=inf, number_ios=count)
    done = jobs.run(call.controller("multiqueue"), namespace, job)
    if done.first_error:
        raise Refused(f"the load stopped at an error: {done.first_error}")
    reads = done.statistics.reads
    figures = {
        "iops": done.statistics.iops(reads),
        "average_us": reads.latency.mean / 1000,
        "p99_us": reads.latency.percentile(99) / 1000,
    }
    return Reply(fields={"reads": reads.operations, **{name: round(value, 1) for name, value in figures.items()}})


def _outcome(error: DriverError | None) -> str:
    if error is None:
        return "success"
    return "timeout" if isinstance(error, CommandTimedOut) else str(error)


def get_feature(call: Call) -> Reply:
    """Get the current value of a feature."""
    value, content = call.controller("identify").features.get(call.arguments["feature"], nsid=call.arguments.get("nsid", 0))
    return Reply(fields={"value": value}, data=content or None)


def set_feature(call: Call) -> Reply:
    """Set a feature."""
    features = call.controller("identify").features
    save, nsid = bool(call.arguments.get("save")), call.arguments.get("nsid", 0)
    return Reply(
        fields={
            "value": features.set(
                call.arguments["feature"], call.arguments["value"], save=save, nsid=nsid, data=call.data or b""
            )
        }
    )


def smart(call: Call) -> Reply:
    """Read the SMART figures; with ``errors`` the error log too, newest entry first."""
    health = call.controller("identify").health
    fields = health_figures(health.smart())
    if call.arguments.get("errors"):
        fields["errors"] = [{"sqid": entry.SQID, "status": entry.status, "nsid": entry.NSID} for entry in health.errors()]
    return Reply(fields=fields)


def health_figures(log: Smart) -> dict[str, Any]:
    """Return the log page's figures: temperature in degrees Celsius, data units in thousands of 512 bytes."""
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


def manage(call: Call) -> Reply:
    """Ask the management endpoint in band: subsystem, controllers, and their health; with ``clear`` clear its status."""
    management = call.controller("identify").management
    if call.arguments.get("clear"):
        management.clear_status()
    subsystem, health = management.subsystem(), management.subsystem_health()
    fields: dict[str, Any] = {
        "version": f"{subsystem.MJR}.{subsystem.MNR}",
        "ports": subsystem.NUMP + 1,
        "functional": bool(health.NSS.FUNCTIONAL),
        "reset_required": not health.NSS.RESET_NOT_REQUIRED,
        "warnings": ~int(health.SW) & 0x1F,
        "temperature": health.CTEMP - (256 if health.CTEMP > 127 else 0),
        "percentage_used": health.PDLU,
        "composite_status": int(health.CCS),
    }
    infos = {number: management.controller(number) for number in management.controllers()}
    fields["controllers"] = [
        {
            "id": one.CTLID,
            "vendor_id": infos[one.CTLID].VID,
            "device_id": infos[one.CTLID].DID,
            "ready": bool(one.CSTS.READY),
            "temperature": one.CTEMP - KELVIN,
            "available_spare": one.SPARE,
            "percentage_used": one.PDLU,
            "warnings": int(one.CWARN),
        }
        for one in management.controller_health()
    ]
    return Reply(fields=fields)


def zones(call: Call) -> Reply:
    """Report the zones of a zoned namespace."""
    found = _zoned(call).report()
    return Reply(fields={"zones": [_zone_fields(one) for one in found]})


def _zone_fields(zone: ZoneDescriptor) -> dict[str, int]:
    return {"lba": zone.ZSLBA, "capacity": zone.ZCAP, "pointer": zone.WP, "state": zone.ZS}


def zone(call: Call) -> Reply:
    """Open, close, finish or reset a zone, or all zones where no ``lba`` is given."""
    namespace, operation = _zoned(call), call.arguments["operation"]
    if operation not in ZONE_OPERATIONS:
        raise Refused(f"there is no operation {operation} on zones")
    namespace.manage(ZONE_OPERATIONS[operation], call.arguments.get("lba"))
    return Reply()


def zone_append(call: Call) -> Reply:
    """Append blocks to the zone from ``lba`` on; return where they are."""
    placed = _zoned(call).append(call.arguments["lba"], call.data or b"")
    return Reply(fields={"placed": [{"lba": lba, "blocks": blocks} for lba, blocks in placed]})


def _zoned(call: Call) -> ZonedNamespace:
    namespace = call.namespace("write")
    if not isinstance(namespace, ZonedNamespace):
        raise Refused(f"namespace {namespace.nsid} has no zones")
    return namespace


def format_(call: Call) -> Reply:
    """Format a namespace with the LBA format of an index, which destroys its data."""
    call.namespace("features").format(call.arguments["format"])
    call.controller("features").scan()
    return Reply()


def raw(call: Call) -> Reply:
    """Send one command once: 64 bytes in hexadecimal, or ``opcode``, ``nsid`` and ``cdw10`` to ``cdw15``.

    The driver fills in the command identifier and the PRPs. ``length`` is how many bytes the command returns.
    """
    admin = call.arguments.get("queue", "admin") == "admin"
    controller = call.controller("identify" if admin else "io-queues")
    command = raw_command(call.arguments, admin)
    pair = controller.admin if admin else controller.pair()
    moved = max(raw_length(controller, command), len(call.data or b""), call.arguments.get("length", 0))
    if not moved:
        done = controller.execution.run(pair, [command], retry=False)[0]
        return Reply(fields={"result": done.DW0})
    with controller.data.buffer(moved) as memory:
        memory.write(0, call.data or b"")
        done = controller.execution.with_data(pair, command, memory, moved, retry=False)
        returned = memory.read(0, call.arguments.get("length", moved)) if command.OPC & Transfer.TO_HOST else None
        return Reply(fields={"result": done.DW0}, data=returned)


def raw_command(arguments: Arguments, admin: bool) -> Command:
    """Return the command of the arguments; Refused for a value that does not fit."""
    try:
        if "command" in arguments:
            return decode(bytes.fromhex(arguments["command"]), admin=admin).but(CID=0, PRP1=0, PRP2=0)
        numbers = {name.upper(): arguments[name] for name in arguments if name == "nsid" or name.startswith("cdw")}
        plain = Command.of(OPC=arguments["opcode"], **numbers)
    except (ValueError, KeyError) as error:
        raise Refused(f"this is not a command: {error}") from error
    return decode(plain, admin=admin)


def raw_length(controller: Controller, command: Command) -> int:
    """Return the bytes that a command moves, as far as its fields say: the buffer must hold them."""
    if isinstance(command, LbaCommand) and command.transfer and command.NSID in controller.namespaces:
        return command.blocks * controller.namespaces[command.NSID].block_size
    return command.data_length or 0


_ACTIONS: Mapping[str, Callable[[Call], Reply]] = {
    "load": load, "unload": unload, "info": info, "ready": ready, "identify": identify, "list": list_, "rescan": rescan,
    "queues": queues, "noop": noop, "read": read, "mount": mount, "write": write,
    "write-bytes": write_bytes, "flush": flush, "zeroes": zeroes, "clear": clear,
    "trim": trim,
    "reset": reset, "shutdown": shutdown, "get-feature": get_feature, "set-feature": set_feature, "smart": smart,
    "submit": submit, "collect": collect, "save": save, "restore": restore, "hand-over": hand_over,
    "format": format_, "mi": manage, "raw": raw, "load-mix": load_mix,
    "load-polled": load_polled, "load-ring": load_ring, "load-fio": load_fio,
    "zones": zones, "zone": zone, "zone-append": zone_append,
    "suspend": suspend, "reset-function": reset_function, "reset-subsystem": reset_subsystem, "host-memory": host_memory,
}  # fmt: skip
ACTIONS = frozenset(_ACTIONS)
"""What can be arguments."""
