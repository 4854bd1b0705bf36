"""The device driven by function calls: no QEMU, no socket, no thread.

A command is executed inside the write of its doorbell. What takes time (a delay, a slow controller) happens in `wait`, which
moves the device's clock on instead of letting anybody wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from lab.controller.controller import ModelController
from lab.controller.device import Device
from lab.controller.dma import LocalMemory
from lab.data.plan import DeviceSpec, Fault


class Function:
    """One controller as a driver finds it: BAR0, configuration space, memory, interrupts."""

    def __init__(self, controller: ModelController, memory: LocalMemory, interrupts: deque[int]) -> None:
        """Put a driver in front of a controller; ``interrupts`` collects the vectors."""
        self.controller, self.memory = controller, memory
        self.interrupts = interrupts
        """Vectors in the order of their signals; the driver of the device removes them."""
        self.on_interrupt: Callable[[int], bool] | None = None
        """Called with the vector instead, inside the write that caused it; whether anybody listens to that vector."""
        self.bar_size = controller.bar_size

    def read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes (1, 2, 4 or 8) of BAR0; ValueError for an access that no bus can make."""
        return self.controller.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes (1, 2, 4 or 8) of BAR0; ValueError for an access that no bus can make.

        The commands that a doorbell submits are executed inside this call, and those that take no time complete in it.
        """
        self.controller.write(offset, size, value)

    @property
    def own_memory(self) -> memoryview:
        """The memory behind BAR2; no byte where there is none."""
        return self.controller.own_memory

    def table_write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes of the MSI-X table."""
        self.controller.table_write(offset, size, value)

    def config_read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes of the configuration space."""
        return int.from_bytes(self.controller.config_read(offset, size), "little")

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes of the configuration space."""
        self.controller.config_write(offset, value.to_bytes(size, "little"))

    def signal(self, how: str, vector: int) -> None:
        """Take an interrupt of the controller."""
        if self.on_interrupt is None:
            self.interrupts.append(vector)
        elif not self.on_interrupt(vector):
            self.controller.remark("interrupt-unhandled", how=how, vector=vector)


class InProcess:
    """A device in this process; use it in a ``with`` block. All controllers reach one `LocalMemory`."""

    def __init__(
        self,
        spec: DeviceSpec,
        images: Path,
        *,
        records: Path | None = None,
        faults: Iterable[Fault] = (),
        memory: LocalMemory | None = None,
    ) -> None:
        """Make the device; ``images``, ``records`` and ``faults`` as for `Device`."""
        self.memory = memory or LocalMemory()
        self.functions: dict[str, Function] = {}
        """The functions by controller id."""
        self.device = Device(
            spec,
            images,
            memory=lambda _: self.memory,
            signal=lambda id: lambda how, vector: self.functions[id].signal(how, vector) if id in self.functions else None,
            records=records,
            faults=faults,
        )
        for id, controller in self.device.controllers.items():
            self.functions[id] = Function(controller, self.memory, deque())

    @property
    def function(self) -> Function:
        """The first function: the only one of most devices."""
        return next(iter(self.functions.values()))

    def wait(self, seconds: float) -> bool:
        """Advance the device's time to what is due next, by ``seconds`` at most; return whether anything was due."""
        return self.device.clock.wait(seconds)

    def close(self) -> None:
        """End the records and close the images; may be called again."""
        self.device.close()

    def __enter__(self) -> InProcess:
        """Return the device."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the device."""
        self.close()
