"""Trace lines of QEMU's nvme to typed events.

What the lines mean and the order they come in is that of hw/nvme/ctrl.c (7.2 to 11.1):

- A register access: ``memory_region_ops_write``, ``pci_nvme_mmio_write``, an echo in words; or ``pci_nvme_mmio_read`` and
  ``memory_region_ops_read``, which alone has the value. An access of 8 bytes arrives as two of 4, low half first. Where the
  two halves of an 8-byte register come in a row they become one event: a driver that really wrote two halves, low one first,
  looks the same. The device never sees an access of one byte: it comes as one of two.
- A command: ``pci_nvme_io_cmd`` or ``admin_cmd`` when it is fetched, what it asks (`lab.trace.exact`), the PRP walk, and its
  completion if it ends at once; else the next command. One `Submitted` gathers all of that. Its 64 bytes are read from the
  ring the moment the line arrives; if they are not the command that the trace shows (the driver has reused the slot, an IOMMU
  translates the address) a `Remark` ``trace_sample`` says so, and the bytes are rebuilt: exact fields, zeros for all others.
  With rings of two entries (U-Boot's) that is the rule, with longer ones the exception.
- A completion: ``pci_nvme_enqueue_req_completion`` when it is queued; the 16 bytes appear in the ring shortly after, and are
  sampled or rebuilt likewise.
- `Dma` is what the device has mapped for a command that it then carried out; the trace does not show the transfer itself.

The lines do not say which controller they are about. With several controllers every event has ``controller=""``, and nothing
is sampled, since their queues cannot be distinguished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from lab.data.events import (
    Completed,
    ConfigWrite,
    Doorbell,
    Event,
    Interrupt,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Unknown,
)
from lab.nvme.completions import Completion
from lab.nvme.registers import ACQ, AQA, ASQ, BY_OFFSET, CC, DOORBELLS, doorbell_at
from lab.trace import exact
from lab.trace.declarations import TraceLine
from lab.trace.processing import Processing
from lab.trace.prp import Mapping
from lab.trace.queues import CQE, SQE, CompletionQueue, Posting, Queues, SubmissionQueue

EVENTS = ("pci_nvme_*", "pci_cfg_write", "memory_region_ops_read", "memory_region_ops_write")
"""The trace events to switch on, as patterns of ``-trace enable=`` and of QMP's trace-event-set-state."""

REGION = "nvme"
"""QEMU's name of the memory region with the registers and doorbells."""
CONFIG_REGIONS = frozenset({"pci-conf-data", "pcie-mmcfg-mmio"})
"""Those through which configuration space is written; only there is the size of such a write to be seen."""
_REGIONS = frozenset(name.encode() for name in (REGION, *CONFIG_REGIONS))
DEVICE = "nvme"
"""The name that configuration space writes of the device bear."""

DSTRD = 0
"""QEMU's nvme knows no other doorbell stride (CAP.DSTRD)."""
DEVICE_CONTROL = 0x88
"""PCI Express Device Control: the capability is at 80h. Bit 15 starts a function level reset."""
FLR = 1 << 15


class Memory(Protocol):
    """Guest memory, such as `lab.guest.memory.GuestMemory`."""

    def read(self, address: int, length: int) -> bytes | None:
        """Return the bytes at a guest-physical address; None where they cannot be had."""


class Translator:
    """Events of one device, line by line. Not thread-safe; `memory` may be set once the guest has it."""

    def __init__(self, controllers: Sequence[str], memory: Memory | None = None) -> None:
        """Take the ids of ``controllers`` from the DeviceSpec."""
        self.memory = memory
        self._controller = controllers[0] if len(controllers) == 1 else ""
        self._out: list[Event] = []
        self._half: RegisterRead | RegisterWrite | None = None
        self._read: TraceLine | None = None
        self._config_size = 0
        self._last_config: ConfigWrite | None = None
        self._resets = 0
        self._registers = bytearray(DOORBELLS)
        self._queues = Queues()
        self._now: Processing | None = None

    @staticmethod
    def is_elsewhere(raw: bytes) -> bool:
        """Return whether the line is an access to another region, by the name at its end.

        Firmware that polls its serial port is traced ten times as often as the device is, so most lines are rejected
        before they are parsed.
        """
        if not raw.endswith(b"'") or b" memory_region_ops_" not in raw:
            return False
        return raw[raw.rfind(b" name '") + len(b" name '") : -1] not in _REGIONS

    @staticmethod
    def concerns(line: TraceLine) -> bool:
        """Return whether the line is about the device, or needed to read one that is. QEMU traces all of its devices."""
        if line.name == "memory_region_ops_read":
            return line.args["name"] == REGION
        if line.name == "memory_region_ops_write":
            return line.args["name"] == REGION or line.args["name"] in CONFIG_REGIONS
        return line.name != "pci_cfg_write" or line.args["dev"] == DEVICE

    def feed(self, line: TraceLine) -> list[Event]:
        """Return the events that this line completes; a line that is part of a larger event gives none yet."""
        self._collect_completions()
        handle = self._HANDLERS.get(line.name)
        if handle is not None:
            handle(self, line)
        elif self._now is not None and line.name in exact.FIELDS:
            self._learn(self._now, line)
        elif line.name.endswith("_cb"):
            self._asynchronous(line)
        elif line.name not in exact.ECHOES:
            self._remark(line)
        return self._take()

    def unknown(self, text: str, t: float) -> list[Event]:
        """Take a line that no declaration explains."""
        self._finish_command()
        self._release(Unknown(**self._at(t), text=text))
        return self._take()

    def flush(self) -> list[Event]:
        """Return the events still held back. Call it when no line has come for a while, and at the end."""
        self._finish_command()
        self._unanswered_read()
        self._collect_completions()
        self._rebuild_completions()
        if self._half is not None:
            self._out.append(self._half)
            self._half = None
        return self._take()

    # -- the way out ----------------------------------------------------------------------------------------------------

    def _put(self, event: Event) -> None:
        """Put an event behind the command that is being processed, if there is one."""
        if self._now is not None:
            self._now.others.append(event)
        else:
            self._release(event)

    def _release(self, event: Event) -> None:
        """Release an event, after the halves of one 8-byte register have become one access."""
        half, self._half = self._half, None
        if half is not None:
            whole = _joined(half, event)
            self._out.append(whole or half)
            if whole is not None:
                return
        if isinstance(event, RegisterRead | RegisterWrite) and _is_low_half(event):
            self._half = event
        else:
            self._out.append(event)

    def _take(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _remark(self, line: TraceLine) -> None:
        self._put(Remark(**self._at(line.t), name=line.name, detail=line.args))

    # -- registers ------------------------------------------------------------------------------------------------------

    def _region_written(self, line: TraceLine) -> None:
        if line.args["name"] in CONFIG_REGIONS:
            self._config_size = _int(line, "size")

    def _config_written(self, line: TraceLine) -> None:
        """Put a ConfigWrite, of size 0 where the access that led to it was not traced."""
        self._finish_command()
        size, self._config_size = self._config_size, 0
        self._last_config = ConfigWrite(**self._at(line.t), offset=_int(line, "offs"), size=size, value=_int(line, "val"))
        self._put(self._last_config)

    def _read_began(self, line: TraceLine) -> None:
        self._finish_command()
        self._unanswered_read()
        self._read = line

    def _read_ended(self, line: TraceLine) -> None:
        began, self._read = self._read, None
        if began is not None:
            offset, size = _int(began, "addr"), _int(began, "size")
            self._put(RegisterRead(**self._at(began.t), offset=offset, size=size, value=_int(line, "value")))

    def _unanswered_read(self) -> None:
        """Put a remark for a read whose value was not traced."""
        began, self._read = self._read, None
        if began is not None:
            self._remark(began)

    def _written(self, line: TraceLine) -> None:
        self._finish_command()
        self._unanswered_read()
        self._last_config = None
        offset, size, value = _int(line, "addr"), _int(line, "size"), _int(line, "data")
        if offset >= DOORBELLS:
            qid, completion = doorbell_at(offset, DSTRD) or (-1, False)
            if completion:
                self._acknowledged(qid, value)
            where = {**self._at(line.t), "offset": offset, "size": size, "value": value}
            self._put(Doorbell(**where, qid=qid, completion=completion))
            return
        self._registers[offset : offset + size] = value.to_bytes(size, "little")
        self._put(RegisterWrite(**self._at(line.t), offset=offset, size=size, value=value))

    def _register(self, offset: int, size: int) -> int:
        return int.from_bytes(self._registers[offset : offset + size], "little")

    @property
    def _page(self) -> int:
        return 4096 << CC(self._register(CC.OFFSET, 4)).MPS

    def _enabled(self, line: TraceLine) -> None:
        sizes = AQA(self._register(AQA.OFFSET, 4))
        submission, completion = self._register(ASQ.OFFSET, 8), self._register(ACQ.OFFSET, 8)
        self._queues.submission[0] = SubmissionQueue(submission & ~0xFFF, sizes.ASQS + 1, cqid=0)
        self._queues.completion[0] = CompletionQueue(completion & ~0xFFF, sizes.ACQS + 1)
        self._remark(line)

    def _disabled(self, line: TraceLine) -> None:
        self._reset(line, "cc-en")

    def _function_reset(self, line: TraceLine) -> None:
        """Put a reset: QEMU resets a new function (only the first time is distinguishable: power), with its bus, and by FLR."""
        write = self._last_config
        flr = write is not None and any(
            write.offset + i == DEVICE_CONTROL + 1 and write.value >> 8 * i & FLR >> 8 for i in range(4)
        )
        self._registers = bytearray(DOORBELLS)
        self._reset(line, "flr" if flr else "bus" if self._resets else "power")

    def _reset(self, line: TraceLine, cause: str) -> None:
        self._finish_command()
        self._rebuild_completions()
        self._queues = Queues()
        self._resets += 1
        self._put(Reset(**self._at(line.t), cause=cause))

    def _msix(self, line: TraceLine) -> None:
        self._put(Interrupt(**self._at(line.t), vector=_int(line, "vector"), how="msix"))

    def _pin(self, line: TraceLine) -> None:
        self._put(Interrupt(**self._at(line.t), vector=0, how="intx"))

    # -- commands -------------------------------------------------------------------------------------------------------

    def _fetched(self, line: TraceLine) -> None:
        self._finish_command()
        sqid = _int(line, "sqid")
        queue = self._queues.submission.get(sqid) if self._controller else None
        slot = queue.fetch() if queue else -1
        sample = self._sample(queue.base + slot * SQE, SQE) if queue else None
        self._now = Processing(line.t, self._controller, sqid, slot, exact.fields(line.name, line.args), sample)

    def _learn(self, now: Processing, line: TraceLine) -> None:
        now.exact.update(exact.fields(line.name, line.args))
        if line.name not in exact.ONLY_FIELDS:
            self._remark(line)

    def _walk(self, line: TraceLine) -> None:
        now = self._now
        if now is None:
            self._remark(line)
            return
        if not now.walks:
            now.exact.update(exact.fields(line.name, line.args))
        now.walks.append(Mapping(_int(line, "len"), _int(line, "trans_len"), _int(line, "prp2")))

    def _mapped(self, line: TraceLine) -> None:
        if self._now is None:
            self._remark(line)
        else:
            self._now.map(line.t, _int(line, "addr"), _int(line, "len"))

    def _entry_refused(self, line: TraceLine) -> None:
        if self._now is not None:
            self._now.refuse(_int(line, "prplist"))
        self._remark(line)

    def _asynchronous(self, line: TraceLine) -> None:
        """Take note that the block layer has returned to an earlier command."""
        self._finish_command()
        self._remark(line)

    def _finish_command(self) -> None:
        """End the command being processed."""
        now, self._now = self._now, None
        if now is not None:
            self._queues.fetched(now.sqid, now.command)
            for event in now.events(self._page, self._sample):
                self._release(event)

    # -- completions ----------------------------------------------------------------------------------------------------

    def _completed(self, line: TraceLine) -> None:
        cid, cqid, status = _int(line, "cid"), _int(line, "cqid"), _int(line, "status")
        if self._now is not None:
            self._now.failed = status != 0 and self._now.cid == cid
        self._finish_command()
        senders = self._queues.senders(cqid, cid)
        sqid = senders[0] if len(senders) == 1 and self._controller else None
        posting = Posting(line.t, cqid, cid, _int(line, "dw0"), _int(line, "dw1"), status, sqid)
        queue = self._queues.completion.get(cqid)
        if posting.sqid is not None:
            self._queues.completed(posting.sqid, cid, ok=status == 0)
        if queue is not None and self.memory is not None and self._controller:
            queue.waiting.append(posting)
        else:
            self._release(self._posted(posting))

    def _collect_completions(self) -> None:
        """Put the completions whose bytes have appeared in the ring since."""
        for queue in self._queues.completion.values():
            while queue.waiting and self._collect(queue):
                pass

    def _collect(self, queue: CompletionQueue) -> bool:
        """Return the oldest waiting completion, if its bytes are in its slot."""
        posting, raw = queue.waiting[0], self._sample(queue.address, CQE)
        if raw is None or not posting.posted_as(raw, queue.phase):
            return False
        queue.post()
        if posting.sqid is None:
            self._queues.completed(Completion(raw).SQID, posting.cid, ok=posting.status == 0)
        self._put(self._posted(posting, raw))
        return True

    def _acknowledged(self, cqid: int, head: int) -> None:
        """Take note that the host has consumed all before ``head``: a completion missing from its slot was overwritten."""
        queue = self._queues.completion.get(cqid)
        while queue is not None and queue.waiting and queue.tail != head:
            if not self._collect(queue):
                self._rebuild(queue)

    def _rebuild_completions(self) -> None:
        for queue in self._queues.completion.values():
            while queue.waiting:
                self._rebuild(queue)

    def _rebuild(self, queue: CompletionQueue) -> None:
        """Return the oldest waiting completion from the exact parts, with a remark, since it should have been in its slot."""
        posting = queue.waiting[0]
        detail = {"cqid": posting.cqid, "slot": queue.tail, "cid": posting.cid}
        self._put(self._posted(posting))
        self._put(Remark(**self._at(posting.t), name="trace_sample", detail=detail))
        queue.post()

    def _posted(self, posting: Posting, sampled: bytes | None = None) -> Completed:
        raw, rebuilt = (posting.rebuilt(), True) if sampled is None else (sampled, False)
        return Completed(**self._at(posting.t), cqid=posting.cqid, raw=bytes(raw), exact=posting.exact, rebuilt=rebuilt)

    def _at(self, t: float) -> dict[str, Any]:
        return {"t": t, "controller": self._controller}

    def _sample(self, address: int, length: int) -> bytes | None:
        return None if self.memory is None or not self._controller else self.memory.read(address, length)

    _HANDLERS: ClassVar[dict[str, Callable[[Translator, TraceLine], None]]] = {
        "memory_region_ops_write": _region_written,
        "memory_region_ops_read": _read_ended,
        "pci_cfg_write": _config_written,
        "pci_nvme_mmio_read": _read_began,
        "pci_nvme_mmio_write": _written,
        "pci_nvme_mmio_start_success": _enabled,
        "pci_nvme_mmio_stopped": _disabled,
        "pci_nvme_pci_reset": _function_reset,
        "pci_nvme_irq_msix": _msix,
        "pci_nvme_irq_pin": _pin,
        "pci_nvme_io_cmd": _fetched,
        "pci_nvme_admin_cmd": _fetched,
        "pci_nvme_map_prp": _walk,
        "pci_nvme_map_addr": _mapped,
        "pci_nvme_err_invalid_prplist_ent": _entry_refused,
        "pci_nvme_enqueue_req_completion": _completed,
    }


def _int(line: TraceLine, name: str) -> int:
    value = line.args[name]
    assert isinstance(value, int)
    return value


def _is_low_half(access: RegisterRead | RegisterWrite) -> bool:
    register = BY_OFFSET.get(access.offset)
    return register is not None and register.SIZE == 8 and access.size == 4


def _joined(low: RegisterRead | RegisterWrite, event: Event) -> Event | None:
    """Return both halves of one 8-byte register as the one access that they can have been."""
    if not isinstance(event, type(low)) or (event.offset, event.size) != (low.offset + 4, 4):
        return None
    return replace(low, size=8, value=event.value << 32 | low.value)
