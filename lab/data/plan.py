"""What is to happen, as data only: devices, faults, actions, scenarios.

Nothing here acts. A `Scenario` is complete and resolved: the same value on any machine gives the same device, the same bytes
and the same questions to the driver, so it can be stored in the evidence and replayed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

DeviceKind = Literal["qemu", "lab", "machine"]
"""What stands in front of the driver. ``machine`` is whatever a real machine has: there is no record of what it saw."""
MACHINE: DeviceKind = "machine"


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """One namespace.

    Sizes in logical blocks of ``block_size`` bytes; ``areas`` are the (first LBA, blocks) that hold the pattern of
    `lab.data.content` at the start, everything else is zero.
    """

    nsid: int = 1
    blocks: int
    block_size: int = 512
    metadata_size: int = 0  # bytes of metadata per block; 0 for none
    interleaved: bool = False  # metadata at the end of each block, else in a buffer of its own
    protection: int = 0  # type of end-to-end protection information, 1 to 3; 0 for none
    zone_blocks: int = 0  # a zoned namespace, of zones of so many blocks that are written in order; 0 for none
    zone_capacity: int = 0  # blocks of a zone that can be written; 0 for all of them
    max_active_zones: int = 0  # zones that may be active at once (MAR); 0 for any number
    max_open_zones: int = 0  # zones that may be open at once (MOR); 0 for as many as may be active
    areas: tuple[tuple[int, int], ...] = ()
    attached: bool = True
    shared: bool = False
    uuid: str = ""
    eui64: int = 0
    nguid: str = ""
    filesystem: Literal["", "ext4", "xfs", "vfat", "gpt"] = (
        ""  # it holds `lab.data.filesystems.image` instead of areas with pattern
    )
    contents: str = ""  # a raw image that it holds from its first block on, instead of a pattern; nothing is known of its bytes

    @property
    def writable_zone(self) -> int:
        """Return the blocks of a zone that can be written; 0 where there are no zones."""
        return self.zone_capacity or self.zone_blocks

    @property
    def is_unknown(self) -> bool:
        """Return whether nothing is known of its bytes: a system may mount what it holds by itself, and change it."""
        return bool(self.contents) or self.filesystem == "gpt"


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One NVMe controller as the driver will find it; what is not said is each device's own default."""

    id: str = "nv0"
    serial: str
    namespaces: tuple[Namespace, ...]
    version: str = ""  # VS as "1.4"; "" for the device's own
    mdts: int = 7  # 2**mdts pages of 4096 << CAP.MPSMIN bytes at most per command; 0 for no limit
    io_queues: int = 8  # I/O queue pairs granted at most
    vectors: int = 9  # MSI-X vectors; 0 leaves INTx only
    msix: bool = True  # false leaves MSI and INTx, and ``vectors`` are those of MSI
    write_cache: bool = True  # a volatile write cache (Identify VWC bit 0)
    sgl: bool = False  # offers SGLs, which drivers then prefer to PRP lists (QEMU's own device always does)
    controller_memory: int = 0  # MiB of a controller memory buffer that takes submission queues; 0 for none
    shadow_doorbells: bool = False  # Doorbell Buffer Config: tails and heads in memory, of which a record sees only a part
    cap: Mapping[str, int] = field(default_factory=dict)  # CAP fields by name
    identify: Mapping[str, Any] = field(default_factory=dict)  # Identify Controller fields by name
    identify_namespace: Mapping[str, Any] = field(default_factory=dict)  # Identify Namespace fields, all namespaces
    zone_append_limit: int = 0  # Zone Append moves 2**n pages of 4096 << CAP.MPSMIN bytes at most (ZASL); 0 for MDTS
    identify_nvm: Mapping[str, int] = field(default_factory=dict)  # of the NVM command set's Identify Controller (CNS 06h)
    crto: Mapping[str, int] = field(default_factory=dict)  # CRTO fields by name
    pci: Mapping[str, int] = field(default_factory=dict)  # vendor, device, class_code, revision, subsystem_vendor, subsystem
    prefetchable_bar: bool = False  # BAR0 64-bit prefetchable, so that firmware may place it above 4 GiB

    def namespace(self, nsid: int) -> Namespace | None:
        """Return the namespace with this id; None if there is none."""
        return next((n for n in self.namespaces if n.nsid == nsid), None)


@dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """What is plugged into the guest: one controller or several (of one NVM subsystem where they share namespaces)."""

    controllers: tuple[Controller, ...]

    def controller(self, id: str) -> Controller | None:
        """Return the controller with this id; None if there is none."""
        return next((c for c in self.controllers if c.id == id), None)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """*When* a command (or an access) fits, *do* something to it.

    The predicate is the conjunction of what is not None. ``nth`` counts the fitting ones from 1; None strikes at every one.
    ``times`` bounds how often it strikes. The switch: an Action ``fault`` with ``name`` and ``armed`` flips it live.
    """

    name: str
    behaviour: str  # a name out of the device's table of behaviours
    arguments: Mapping[str, Any] = field(default_factory=dict)
    controller: str | None = None  # the id of the only controller that it strikes
    queue: Literal["admin", "io"] | None = None
    sqid: int | None = None
    opcode: int | None = None
    nsid: int | None = None
    lba: int | None = None  # strikes a command whose range covers this block
    cdw10: int | None = None  # compared with the low byte: CNS, feature or log page identifier
    mask: str | None = None  # hexadecimal, up to 64 bytes: which bits of the submission `match` is compared with
    match: str | None = None  # hexadecimal, as long as `mask`
    fields: Mapping[str, int] | None = None  # fields of the command by name, `lab.nvme.commands`
    register: str | int | None = None  # strikes accesses to a register of BAR0, by name or offset, instead of commands
    access: Literal["read", "write"] | None = None  # of the register: only such accesses
    value: int | None = None  # of the register: only writes of this value, under `value_mask`
    value_mask: int | None = None
    nth: int | None = None
    times: int | None = None
    armed: bool = True


@dataclass(frozen=True)
class Action:
    """One request to the driver: a name and arguments of docs/drivers.md, "Actions and answers"; JSON values only.

    ``lba``, ``blocks`` and ``fill`` of a write stand for bytes: `lab.data.content.blocks(fill, nsid, lba, blocks, block_size)`.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Status = str | Mapping[str, Any]
"""success, timeout or unsupported; or {"sct": …, "sc": …} of the completion; or {"words": …}, the driver's own."""


@dataclass(frozen=True)
class Answer:
    """A driver's answer to an action, with the fields of docs/drivers.md, "Actions and answers"."""

    status: Status = "success"
    fields: Mapping[str, Any] = field(default_factory=dict)
    data: bytes | None = None


UNKNOWN_SCENARIO: Mapping[str, Any] = {
    "id": "unknown/unknown", "stage": "unknown", "title": "", "seed": 0, "device": {"controllers": ()}, "actions": (),
    "faults": (),
}  # fmt: skip
"""What the evidence of another lab may leave out."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A device, faults in it, and what the driver is asked, in order."""

    id: str  # stage/slug
    stage: str
    title: str
    seed: int
    device: DeviceSpec
    actions: tuple[Action, ...]
    faults: tuple[Fault, ...] = ()
    guest: Mapping[str, Any] = field(default_factory=dict)
    """What the guest must be: cpus, memory (MiB), system and board (MAKER/NAME, as SMBIOS presents the machine), iommu,
    command_seconds; queue_depth, polled_queues, write_queues, sgl_bytes (transfers whose pieces are so long on average go by
    SGLs), where a driver can be told; watch_memory: record what a driver in this process does in its DMA memory; stale_memory:
    memory that is not zero at the start; in_process: only for drivers in this process."""
    hostile: bool = False  # the device is odd or faulty: a driver may refuse it, and actions may fail in good order
    checks: tuple[str, ...] = ()  # judged by these too, which otherwise judge other scenarios only

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scenario:
        """Return the scenario from what `to_json` returned, after a trip through JSON; KeyError or TypeError if it is none.

        What another lab left out is as in a scenario of which nothing is known: no actions, no faults, no device.
        """
        data = {**UNKNOWN_SCENARIO, **data}
        controllers = tuple(
            Controller(
                **{
                    **c,
                    "namespaces": tuple(
                        Namespace(**{**n, "areas": tuple((a, b) for a, b in n.get("areas", ()))}) for n in c["namespaces"]
                    ),
                }
            )
            for c in data["device"]["controllers"]
        )
        return cls(
            **{
                **data,
                "device": DeviceSpec(controllers=controllers),
                "actions": tuple(Action(**a) for a in data["actions"]),
                "faults": tuple(Fault(**f) for f in data["faults"]),
                "checks": tuple(data.get("checks", ())),
            }
        )
