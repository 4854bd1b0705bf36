"""Where a controller's record goes: to the evidence (`lab.data.stream.StreamWriter`), or nowhere."""

from __future__ import annotations

from typing import Protocol

from lab.data.events import Event


class Recorder(Protocol):
    """What a controller tells; the fields are those of the events in `lab.data.events`."""

    def register_read(self, offset: int, size: int, value: int) -> None: ...
    def register_write(self, offset: int, size: int, value: int) -> None: ...
    def doorbell(self, offset: int, size: int, value: int, qid: int, completion: bool) -> None: ...
    def submitted(self, sqid: int, slot: int, raw: bytes) -> None: ...
    def completed(self, cqid: int, raw: bytes) -> None: ...
    def prp_list(self, sqid: int, cid: int, address: int, entries: tuple[int, ...]) -> None: ...
    def dma(self, sqid: int, cid: int, address: int, data: bytes | memoryview, to_host: bool) -> None: ...
    def interrupt(self, vector: int, how: str) -> None: ...
    def dma_map(self, address: int, length: int, mapped: bool) -> None: ...
    def event(self, event: Event) -> None: ...
    def close(self) -> None: ...


class Unrecorded:
    """Takes everything and keeps nothing."""

    def register_read(self, offset: int, size: int, value: int) -> None:
        pass

    def register_write(self, offset: int, size: int, value: int) -> None:
        pass

    def doorbell(self, offset: int, size: int, value: int, qid: int, completion: bool) -> None:
        pass

    def submitted(self, sqid: int, slot: int, raw: bytes) -> None:
        pass

    def completed(self, cqid: int, raw: bytes) -> None:
        pass

    def prp_list(self, sqid: int, cid: int, address: int, entries: tuple[int, ...]) -> None:
        pass

    def dma(self, sqid: int, cid: int, address: int, data: bytes | memoryview, to_host: bool) -> None:
        pass

    def interrupt(self, vector: int, how: str) -> None:
        pass

    def dma_map(self, address: int, length: int, mapped: bool) -> None:
        pass

    def event(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass
