"""Actions on the zones of a namespace (linux/blkzoned.h). The kernel counts in sectors of 512 bytes."""

import fcntl
import os
import struct
from pathlib import Path

from lab.drivers.linux_agent.answers import Fields, NotOfferedError
from lab.drivers.linux_agent.buffers import OpenFile
from lab.drivers.linux_agent.sysfs import find_disk, read_attribute

BLKREPORTZONE = 0xC0101282  # _IOWR(0x12, 130, 16 bytes)
OPERATIONS = {"reset": 0x40101283, "open": 0x40101286, "close": 0x40101287, "finish": 0x40101288}
"""_IOW(0x12, 131 and 134 to 136, 16 bytes)."""
REPORT, ZONE, RANGE = struct.Struct("<QII"), struct.Struct("<QQQBBBB4xQ24x"), struct.Struct("<QQ")
"""blk_zone_report, blk_zone and blk_zone_range."""
SECTOR = 512


def zones(request: Fields) -> Fields:
    """Return every zone: its first block, how many blocks can be written, write pointer and state, which is as in NVMe."""
    node, size = find_disk(request)
    count = int(read_attribute(_about(node) / "queue/nr_zones") or 0)
    if not count:
        raise NotOfferedError
    content = bytearray(REPORT.pack(0, count, 0) + bytes(count * ZONE.size))
    with OpenFile(node, os.O_RDONLY) as source:
        fcntl.ioctl(source, BLKREPORTZONE, content)
    held = REPORT.unpack_from(content)[1]
    found = (ZONE.unpack_from(content, REPORT.size + number * ZONE.size) for number in range(held))
    each = size // SECTOR
    return {
        "zones": [
            {"lba": start // each, "capacity": capacity // each, "pointer": pointer // each, "state": state}
            for start, _, pointer, _, state, _, _, capacity in found
        ]
    }


def _about(node: str) -> Path:
    return Path("/sys/block", Path(node).name)


def zone(request: Fields) -> Fields:
    """Open, close, finish or reset the zone from ``lba`` on, or all zones where none is named."""
    node, size = find_disk(request)
    if request["operation"] not in OPERATIONS:
        raise NotOfferedError
    if "lba" in request:
        where = request["lba"] * size // SECTOR, int(read_attribute(_about(node) / "queue/chunk_sectors"))
    else:
        where = 0, int(read_attribute(_about(node) / "size"))
    with OpenFile(node, os.O_WRONLY) as target:
        fcntl.ioctl(target, OPERATIONS[request["operation"]], RANGE.pack(*where))
    return {}
