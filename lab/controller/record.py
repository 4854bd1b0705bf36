"""Where a controller's record goes: to the evidence (`lab.data.stream.StreamWriter`), or nowhere."""

from __future__ import annotations

from typing import Protocol

from lab.data.events import Event


class Recorder(Protocol):
    """What a controller records; the parameters are the fields of the events in `lab.data.events`."""

    def register_read(self, offset: int, size: int, value: int) -> None:
        """Record a RegisterRead."""

    def register_write(self, offset: int, size: int, value: int) -> None:
        """Record a RegisterWrite."""

    def doorbell(self, offset: int, size: int, value: int, qid: int, completion: bool) -> None:
        """Record a Doorbell."""

    def submitted(self, sqid: int, slot: int, raw: bytes) -> None:
        """Record a Submitted."""

    def completed(self, cqid: int, raw: bytes) -> None:
        """Record a Completed."""

    def prp_list(self, sqid: int, cid: int, address: int, entries: tuple[int, ...]) -> None:
        """Record a PrpList."""

    def dma(self, sqid: int, cid: int, address: int, data: bytes | memoryview, to_host: bool) -> None:
        """Record a Dma."""

    def interrupt(self, vector: int, how: str) -> None:
        """Record an Interrupt."""

    def dma_map(self, address: int, length: int, mapped: bool) -> None:
        """Record a DmaMap."""

    def memory_access(self, address: int, length: int, raw: bytes, write: bool) -> None:
        """Record a MemoryRead or MemoryWrite."""

    def barrier(self) -> None:
        """Record a Barrier."""

    def event(self, event: Event) -> None:
        """Record an event of another kind."""

    def close(self) -> None:
        """End the record."""


class Unrecorded:
    """A record that keeps nothing."""

    def register_read(self, offset: int, size: int, value: int) -> None:
        """Do nothing."""

    def register_write(self, offset: int, size: int, value: int) -> None:
        """Do nothing."""

    def doorbell(self, offset: int, size: int, value: int, qid: int, completion: bool) -> None:
        """Do nothing."""

    def submitted(self, sqid: int, slot: int, raw: bytes) -> None:
        """Do nothing."""

    def completed(self, cqid: int, raw: bytes) -> None:
        """Do nothing."""

    def prp_list(self, sqid: int, cid: int, address: int, entries: tuple[int, ...]) -> None:
        """Do nothing."""

    def dma(self, sqid: int, cid: int, address: int, data: bytes | memoryview, to_host: bool) -> None:
        """Do nothing."""

    def interrupt(self, vector: int, how: str) -> None:
        """Do nothing."""

    def dma_map(self, address: int, length: int, mapped: bool) -> None:
        """Do nothing."""

    def memory_access(self, address: int, length: int, raw: bytes, write: bool) -> None:
        """Do nothing."""

    def barrier(self) -> None:
        """Do nothing."""

    def event(self, event: Event) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
