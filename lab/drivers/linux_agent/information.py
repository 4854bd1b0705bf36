"""Actions that report what Linux shows of controllers, namespaces, queues and features."""

import re
from pathlib import Path

from lab.drivers.linux_agent.answers import Fields, NotOfferedError, RefusedError
from lab.drivers.linux_agent.sysfs import controllers, disks, read_attribute

QUEUE_DEPTH = Path("/sys/module/nvme/parameters/io_queue_depth")
TEMPERATURE_THRESHOLD, VOLATILE_WRITE_CACHE = 0x04, 0x06
KELVIN = 273


def info(_request: Fields) -> Fields:
    """Return each controller's address, and what Linux shows of its registers."""
    return {"controllers": [_registers(path) for path in controllers()]}


def _registers(path: Path) -> Fields:
    """Return what the driver shows of CAP: MQES alone, and that only where it is less than the driver's own limit.

    The smaller one becomes sqsize, which is 0's based (drivers/nvme/host/pci.c, nvme_pci_enable).
    """
    entries, limit = int(read_attribute(path / "sqsize") or 0) + 1, int(read_attribute(QUEUE_DEPTH) or 0)
    return {"address": read_attribute(path / "address"), **({"max_queue_entries": entries} if 1 < entries < limit else {})}


def ready(_request: Fields) -> Fields:
    """Return whether all controllers live."""
    states = [read_attribute(path / "state") for path in controllers()]
    return {"ready": bool(states) and all(state == "live" for state in states), "states": states}


def identify(_request: Fields) -> Fields:
    """Return what the driver shows of Identify."""
    return {"controllers": [_identity(path) for path in controllers()]}


def _identity(path: Path) -> Fields:
    """Return what the driver shows of Identify; limits and optional commands show in the queues of the controller's disks."""
    found: Fields = {
        "serial": read_attribute(path / "serial"),
        "model": read_attribute(path / "model"),
        "firmware": read_attribute(path / "firmware_rev"),
    }
    queue = next((disk / "queue" for disk in disks() if (disk / "device").samefile(path)), None)
    if queue:
        found["max_transfer_bytes"] = int(read_attribute(queue / "max_hw_sectors_kb")) * 1024
        optional = {"dataset-management": "discard_max_bytes", "write-zeroes": "write_zeroes_max_bytes"}
        found["optional_commands"] = [name for name, limit in optional.items() if int(read_attribute(queue / limit) or 0)]
        found["optional_commands_shown"] = list(optional)
    return found


def list_(_request: Fields) -> Fields:
    """Return the namespaces that have disks."""
    return {"namespaces": [found for path in disks() if (found := _namespace(path))]}


def _namespace(path: Path) -> Fields:
    """Return what a disk shows; nothing of one that is being added or removed."""
    block_size, nsid, size = (read_attribute(path / name) for name in ("queue/logical_block_size", "nsid", "size"))
    if not (block_size and nsid and size):
        return {}
    found: Fields = {
        "controller": read_attribute(path / "device/serial"),
        "nsid": int(nsid),
        "blocks": int(size) * 512 // int(block_size),  # sysfs counts in 512 bytes, whatever the block size
        "block_size": int(block_size),
    }
    nguid, uuid = read_attribute(path / "nguid"), read_attribute(path / "uuid")
    shown = {
        "nguid": nguid,
        "eui64": read_attribute(path / "eui"),
        "uuid": "" if uuid == nguid else uuid,
    }  # no UUID: it shows the NGUID
    return {**found, **{name: value for name, value in shown.items() if value}}


def queues(_request: Fields) -> Fields:
    """Return the number and depth of the queues, and the interrupt vectors."""
    first = next(iter(controllers()), None)
    if first is None:
        raise RefusedError("no controller")
    return {
        "pairs": int(read_attribute(first / "queue_count")) - 1,  # one of them is the admin queue
        "depth": int(read_attribute(first / "sqsize")) + 1,  # 0's based
        "vectors": len(re.findall(rf"\b{first.name}q\d+\b", Path("/proc/interrupts").read_text())),
    }


def get_feature(request: Fields) -> Fields:
    """Return a feature that Linux shows: the volatile write cache of a controller's disks, or its temperature threshold."""
    if request["feature"] == TEMPERATURE_THRESHOLD:
        return {"value": round(int(read_attribute(_sensor() / "temp1_max")) / 1000) + KELVIN}
    if request["feature"] != VOLATILE_WRITE_CACHE:
        raise NotOfferedError
    caches = {read_attribute(path / "queue/write_cache") for path in disks()}
    if len(caches) != 1:
        raise RefusedError(f"{len(caches)} answers: {', '.join(sorted(caches))}")
    return {"value": int(caches == {"write back"})}


def set_feature(request: Fields) -> Fields:
    """Set the temperature threshold, which is a limit of the driver's sensor; Linux lets its user set no other feature."""
    if request["feature"] != TEMPERATURE_THRESHOLD or request.get("save"):
        raise NotOfferedError
    (_sensor() / "temp1_max").write_text(str((request["value"] - KELVIN) * 1000))
    return {"value": 0}


def _sensor() -> Path:
    """Return the driver's sensor of the first controller that has one."""
    sensor = next((path for controller in controllers() for path in controller.glob("hwmon*")), None)
    if sensor is None:
        raise NotOfferedError
    return sensor


def smart(_request: Fields) -> Fields:
    """Return the composite temperature as the driver's sensor shows it, and its alarm.

    See Documentation/hwmon/sysfs-interface; the unit is m°C.
    """
    sensor = _sensor()
    return {
        "temperature": round(int(read_attribute(sensor / "temp1_input")) / 1000),
        "alarm": read_attribute(sensor / "temp1_alarm") == "1",
    }
