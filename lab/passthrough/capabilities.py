"""A registry of capabilities: each name has a rule that derives it, with its limits, from what the machine shows.

``nvme.passthrough`` is the root: commands reach hardware. The others say what of it is there, on an emulated device too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.passthrough.availability import Availability, availability, kernel_release
from lab.passthrough.host import Host
from lab.passthrough.paths import Node, parse

URING_SINCE, DWORD1_SINCE = (5, 19), (5, 4)
"""The kernels that brought NVME_URING_CMD_IO and the ioctls with 64-bit results."""


@dataclass(frozen=True)
class Capability:
    """One capability of one device: is it there, why, and how far it goes (bytes, counts)."""

    name: str
    available: bool
    reason: str
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """The machine and the device that capabilities are derived from."""

    host: Host
    node: Node
    availability: Availability

    @property
    def kernel(self) -> tuple[int, int]:
        """The kernel's version."""
        return kernel_release(self.host)

    def queue_limit(self, name: str) -> int:
        """Return a limit of the block device's queue; 0 where it shows none."""
        disk = next(iter(self.host.block_devices(self.node)), "")
        return int(self.host.text(f"/sys/class/block/{disk}/queue/{name}") or 0)

    def controller_number(self, name: str) -> int:
        """Return a number that the controller's folder in /sys shows; 0 where it shows none."""
        return int(self.host.text(f"/sys/class/nvme/nvme{self.node.controller}/{name}") or 0)


Rule = Callable[[Facts], tuple[bool, str, Mapping[str, int]]]


class Registry:
    """Capabilities by name; programs add their own with `register`."""

    def __init__(self) -> None:
        """Begin with no rule."""
        self._rules: dict[str, Rule] = {}

    def register(self, name: str) -> Callable[[Rule], Rule]:
        """Register the decorated rule; ValueError for a name that is taken."""

        def add(rule: Rule) -> Rule:
            if name in self._rules:
                raise ValueError(f"capability {name} is registered twice")
            self._rules[name] = rule
            return rule

        return add

    def derive(self, path: str, host: Host | None = None) -> Iterator[Capability]:
        """Yield every capability of a device node."""
        host = host or Host()
        facts = Facts(host, parse(path), availability(path, host))
        for name, rule in self._rules.items():
            yield Capability(name, *rule(facts))


REGISTRY = Registry()


def _shown(**limits: int) -> dict[str, int]:
    return {name: value for name, value in limits.items() if value}


@REGISTRY.register("nvme.passthrough")
def _passthrough(facts: Facts) -> tuple[bool, str, Mapping[str, int]]:
    found = facts.availability
    limits = _shown(
        max_transfer_bytes=facts.queue_limit("max_hw_sectors_kb") * 1024,
        block_size=facts.queue_limit("logical_block_size"),
        io_queues=max(facts.controller_number("queue_count") - 1, 0),
        queue_depth=facts.controller_number("sqsize") + 1 if facts.controller_number("sqsize") else 0,
    )
    return found.hardware, found.sentence, limits if found.commands else {}


@REGISTRY.register("nvme.passthrough.commands")
def _commands(facts: Facts) -> tuple[bool, str, Mapping[str, int]]:
    return facts.availability.commands, facts.availability.sentence, {}


@REGISTRY.register("nvme.passthrough.dword1")
def _dword1(facts: Facts) -> tuple[bool, str, Mapping[str, int]]:
    return _since(facts, DWORD1_SINCE, "answers carry both dwords of the completion")


@REGISTRY.register("nvme.passthrough.uring")
def _uring(facts: Facts) -> tuple[bool, str, Mapping[str, int]]:
    if facts.node.kind != "generic":
        return False, "io_uring passthrough goes through a character device such as /dev/ng0n1", {}
    return _since(facts, URING_SINCE, "commands go through an io_uring")


def _since(facts: Facts, since: tuple[int, int], what: str) -> tuple[bool, str, Mapping[str, int]]:
    if not facts.availability.commands:
        return False, facts.availability.sentence, {}
    if facts.kernel < since:
        return False, f"Linux {'.'.join(map(str, facts.kernel))} is older than {'.'.join(map(str, since))}", {}
    return True, what, {}
