"""Show what a device node stands for, whether it takes commands, and what of passthrough there is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lab.passthrough import commands, windows
from lab.passthrough.capabilities import REGISTRY
from lab.passthrough.paths import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line a fact; exit status 4 for a path that cannot be an NVMe device."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.passthrough", description=__doc__)
    parser.add_argument("device", help="a device node, such as /dev/nvme0n1; it need not exist")
    parser.add_argument("--windows", action="store_true", help="also show a Read as IOCTL_STORAGE_PROTOCOL_COMMAND carries it")
    options = parser.parse_args(arguments)
    try:
        node = parse(options.device)
    except ValueError as error:
        parser.exit(4, f"{error}\n")
    print(f"{node.name}: {node.kind} of controller {node.controller}")
    for capability in REGISTRY.derive(options.device):
        limits = "".join(f", {name} {value}" for name, value in capability.limits.items())
        print(f"{capability.name}: {'yes' if capability.available else 'no'}, {capability.reason}{limits}")
    if options.windows:
        for line in _windows():
            print(line)
    return 0


def _windows() -> list[str]:
    """Return the fields of the buffer for a Read of one block, and where its parts are."""
    buffer = windows.marshal(commands.read(1, lba=8, blocks=1, block_size=512))
    values = windows.HEAD.unpack(buffer[: windows.COMMAND_OFFSET])
    lines = [f"  {name} {value:#x}" for name, value in zip(windows.FIELDS, values, strict=False)]
    command = buffer[windows.COMMAND_OFFSET : windows.ERROR_OFFSET].hex()
    return [f"ioctl {windows.CONTROL_CODE:#x}, {len(buffer)} bytes", *lines, f"  Command {command}"]


if __name__ == "__main__":
    raise SystemExit(main())
