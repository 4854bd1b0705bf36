"""The command that the device is at: what the trace says of it line by line, gathered into its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lab.data.events import Dma, Event, PrpList, Remark, Submitted
from lab.nvme.commands import BY_OPCODE, Command, Transfer, decode
from lab.trace.prp import Mapping

Read = Callable[[int, int], bytes | None]


@dataclass
class Processing:
    """Fetched at ``t`` from ``slot`` of ``sqid`` (-1: not known), and not yet followed by anything else."""

    t: float
    controller: str
    sqid: int
    slot: int
    exact: dict[str, int]
    sample: bytes | None  # what was in the slot when the line arrived
    walks: list[Mapping] = field(default_factory=list)
    mapped: list[tuple[float, int, int]] = field(default_factory=list)  # when, address, length
    others: list[Event] = field(default_factory=list)  # that came meanwhile
    failed: bool = False

    @property
    def cid(self) -> int:
        """Return the command identifier."""
        return self.exact["CID"]

    def map(self, t: float, address: int, length: int) -> None:
        """Note memory that the device has mapped for the command."""
        self.mapped.append((t, address, length))
        if self.walks:
            self.walks[-1].addresses.append(address)

    def refuse(self, entry: int) -> None:
        """Take the entry that ends a walk."""
        if self.walks:
            self.walks[-1].addresses.append(entry)
            self.walks[-1].refused = True

    @cached_property
    def known(self) -> dict[str, int]:
        """The exact fields that a command of this opcode has."""
        kind = BY_OPCODE["admin" if self.sqid == 0 else "io"].get(self.exact["OPC"], Command)
        return {name: value for name, value in self.exact.items() if name in kind.FIELDS}

    @cached_property
    def contradictions(self) -> list[str]:
        """The exact fields that are not as in the sample, which is then something else."""
        if self.sample is None:
            return []
        sampled = decode(self.sample, admin=self.sqid == 0)
        return [name for name, value in self.known.items() if getattr(sampled, name, None) != value]

    @cached_property
    def rebuilt(self) -> bool:
        """Return whether there are no bytes from memory."""
        return self.sample is None or bool(self.contradictions)

    @cached_property
    def command(self) -> Command:
        """Return the command: as sampled, or rebuilt from its exact fields."""
        if self.sample is not None and not self.rebuilt:
            return decode(self.sample, admin=self.sqid == 0)
        opcode = self.exact["OPC"]
        return BY_OPCODE["admin" if self.sqid == 0 else "io"].get(opcode, Command).of(**self.known)

    def events(self, page: int, read: Read) -> Iterator[Event]:
        """Return the events in the order of the device. ``page`` is the size of a memory page in bytes."""
        yield Submitted(
            **self._at(self.t),
            sqid=self.sqid,
            raw=bytes(self.command),
            slot=self.slot,
            exact=tuple(self.known),
            rebuilt=self.rebuilt,
        )
        if self.sample is not None and self.contradictions:
            yield Remark(
                **self._at(self.t),
                name="trace_sample",
                detail={"sqid": self.sqid, "slot": self.slot, "fields": self.contradictions, "raw": self.sample.hex()},
            )
        for walk in self.walks:
            for address, entries, sampled in walk.lists(page, read):
                yield PrpList(
                    **self._at(self.t), sqid=self.sqid, cid=self.cid, address=address, entries=entries, sampled=sampled
                )
        to_host = self.command.transfer == Transfer.TO_HOST
        for t, address, length in self.mapped:
            if self.failed:
                yield Remark(**self._at(t), name="pci_nvme_map_addr", detail={"addr": address, "len": length})
            else:
                yield Dma(**self._at(t), sqid=self.sqid, cid=self.cid, address=address, length=length, to_host=to_host)
        yield from self.others

    def _at(self, t: float) -> dict[str, Any]:
        return {"t": t, "controller": self.controller}
