"""QEMU's qtest protocol: the lab's own hands on the guest's buses, beside or instead of the guest's processor.

The server is added to a running QEMU over QMP, so that it works with any accelerator, also where QEMU was built without the
qtest one. Configuration space is reached by the ports CF8h and CFCh of PCI Local Bus 3.0, 3.2.2.3.2, or where there are no
ports, as memory: by the Enhanced Configuration Access Mechanism of PCI Express Base 3.0, 7.2.2.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from types import TracebackType

from lab.errors import GuestError
from lab.guest.machine import Machine

SECONDS = 10.0
"""For one answer."""


class Qtest:
    """Reads and writes of ports, MMIO and memory, one command after another."""

    def __init__(self, machine: Machine, ecam: int | None = None) -> None:
        """Create the client. ``ecam``: where configuration space is memory; None for the ports."""
        path = machine.folder / "qtest.sock"
        backend = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": str(path)}}, "wait": False}}
        machine.qmp("chardev-add", {"id": "qtest", "backend": backend})
        machine.qmp("object-add", {"qom-type": "qtest", "id": "qtest0", "chardev": "qtest", "log": "none"})
        self._machine = machine
        self._ecam = ecam
        with ExitStack() as cleanup:
            self._socket = cleanup.enter_context(socket.socket(socket.AF_UNIX))
            self._socket.settimeout(SECONDS)
            self._socket.connect(str(path))
            self._lines = cleanup.enter_context(self._socket.makefile("rb"))
            self._cleanup = cleanup.pop_all()

    def __enter__(self) -> Qtest:
        """Return the connection."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the connection."""
        self._cleanup.close()

    def command(self, text: str) -> str:
        """Return what follows ``OK`` in the answer. GuestError if QEMU refuses or is gone."""
        try:
            self._socket.sendall(text.encode() + b"\n")
            while (line := self._lines.readline()).startswith(b"IRQ "):
                pass
        except OSError as error:
            raise GuestError(f"QEMU did not answer the qtest command {text.split()[0]}: {error}.") from error
        if not line:
            raise self._machine.died(f"the answer to the qtest command {text.split()[0]}")
        answer = line.decode().strip()
        if not answer.startswith("OK"):
            raise GuestError(f"QEMU refused the qtest command {text[:60]!r}: {answer}.")
        return answer[3:]

    def read32(self, address: int) -> int:
        """Read 4 bytes."""
        return int(self.command(f"readl {address:#x}"), 16)

    def read64(self, address: int) -> int:
        """Read 8 bytes."""
        return int(self.command(f"readq {address:#x}"), 16)

    def write32(self, address: int, value: int) -> None:
        """Write 4 bytes."""
        self.command(f"writel {address:#x} {value:#x}")

    def write64(self, address: int, value: int) -> None:
        """Write 8 bytes."""
        self.command(f"writeq {address:#x} {value:#x}")

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes of guest-physical memory."""
        return bytes.fromhex(self.command(f"read {address:#x} {length:#x}")[2:])

    def write(self, address: int, data: bytes) -> None:
        """Write bytes to guest-physical memory."""
        self.command(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def read_config(self, bdf: int, offset: int) -> int:
        """Read dword ``offset`` of the configuration space of function ``bdf`` (bus << 8 | device << 3 | function)."""
        if self._ecam is not None:
            return self.read32(self._ecam + (bdf << 12) + offset)
        self.command(f"outl 0xcf8 {0x8000_0000 | bdf << 8 | offset:#x}")
        return int(self.command("inl 0xcfc"), 16)

    def write_config(self, bdf: int, offset: int, value: int) -> None:
        """Write dword ``offset`` of the configuration space of function ``bdf``."""
        if self._ecam is not None:
            self.write32(self._ecam + (bdf << 12) + offset, value)
            return
        self.command(f"outl 0xcf8 {0x8000_0000 | bdf << 8 | offset:#x}")
        self.command(f"outl 0xcfc {value:#x}")
