"""Many controllers: concurrent across devices, serial per device, found by the names of their namespaces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.controller.in_process import InProcess
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.drivers.reference_in_process import Host, InProcessTransport
from lab.reference import controller as driver
from lab.reference.errors import ControllerGone, DriverError, Refused
from lab.reference.manager import DeviceManager, Location
from lab.reference.settings import Settings
from lab.reference.transport import Transport

UUIDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(9)]
NGUID = "00112233445566778899aabbccddeeff"
SECONDS = 30


class Stuck(InProcessTransport):
    """A device that never answers: every read of a register waits for the end of the test."""

    released: threading.Event

    def read32(self, offset: int) -> int:
        self.released.wait()
        return super().read32(offset)


class Computer:
    """Devices by PCI address, each with a clock and memory of its own."""

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        self.devices: dict[str, InProcess] = {}
        self.released = threading.Event()
        self._folder, self._cleanup = folder, cleanup

    def plug(self, address: str, *namespaces: Namespace, faults: tuple[Fault, ...] = ()) -> str:
        host = Host()
        folder = self._folder / address
        folder.mkdir()
        spec = DeviceSpec(controllers=(Controller(id=address, serial=address, namespaces=namespaces),))
        device = InProcess(spec, folder, faults=faults, memory=host.memory)
        self.devices[address] = self._cleanup.enter_context(device)
        self._hosts = getattr(self, "_hosts", {}) | {address: host}
        return address

    def open(self, address: str) -> Transport:
        device = self.devices[address]
        kind = Stuck if address == "stuck" else InProcessTransport
        transport = kind(self._hosts[address], device, device.function)
        if isinstance(transport, Stuck):
            transport.released = self.released
        return transport


@pytest.fixture
def computer(tmp_path: Path) -> Iterator[Computer]:
    with ExitStack() as cleanup:
        yield Computer(tmp_path, cleanup)


@pytest.fixture
def manager(computer: Computer) -> Iterator[DeviceManager]:
    manager = DeviceManager(computer.open, Settings(io_queues=1))
    yield manager
    computer.released.set()
    assert manager.close(SECONDS) == []


def namespace(number: int, nsid: int = 1) -> Namespace:
    return Namespace(nsid=nsid, blocks=2048, uuid=UUIDS[number])


def read(controller: driver.Controller) -> bytes:
    return controller.namespaces[1].read(0, 1)


def test_one_stuck_device_delays_no_other(computer: Computer, manager: DeviceManager) -> None:
    stuck = manager.add(computer.plug("stuck", namespace(0)))
    for number in range(1, 4):
        manager.add(computer.plug(f"0{number}:00.0", namespace(number))).result(SECONDS)
        assert manager.run(f"0{number}:00.0", read).result(SECONDS) == bytes(512)
    assert not stuck.done()
    assert manager.states() == {"01:00.0": "up", "02:00.0": "up", "03:00.0": "up", "stuck": "added"}


def test_requests_to_one_device_are_done_one_after_the_other(computer: Computer, manager: DeviceManager) -> None:
    address = computer.plug("01:00.0", namespace(1))
    manager.add(address)
    order: list[int] = []
    futures = [manager.run(address, lambda _, number=number: order.append(number)) for number in range(50)]  # type: ignore[misc]
    for future in futures:
        future.result(SECONDS)
    assert order == list(range(50))


def test_a_namespace_is_found_by_any_of_its_names(computer: Computer, manager: DeviceManager) -> None:
    one = Namespace(nsid=7, blocks=2048, uuid=UUIDS[1], nguid=NGUID, eui64=0x1122334455667788)
    manager.add(computer.plug("01:00.0", namespace(2))).result(SECONDS)
    manager.add(computer.plug("02:00.0", one)).result(SECONDS)
    for name in (UUIDS[1], UUIDS[1].upper(), NGUID, "1122334455667788"):
        assert manager.find(name) == Location("02:00.0", 7)
    with pytest.raises(Refused, match="no namespace is named 42"):
        manager.find("42")


def test_a_namespace_is_found_again_after_it_was_renumbered(computer: Computer, manager: DeviceManager) -> None:
    manager.add(computer.plug("01:00.0", namespace(1, nsid=1), namespace(2, nsid=2))).result(SECONDS)
    device = computer.devices["01:00.0"]
    assert manager.find(UUIDS[2]) == Location("01:00.0", 2)

    def renumber(controller: driver.Controller) -> None:
        device.device.detach("01:00.0", 2)
        controller.scan()

    manager.run("01:00.0", renumber).result(SECONDS)
    with pytest.raises(Refused):
        manager.find(UUIDS[2])
    manager.add(computer.plug("02:00.0", namespace(2, nsid=5))).result(SECONDS)
    assert manager.find(UUIDS[2]) == Location("02:00.0", 5)


def test_a_device_that_is_removed_by_surprise_is_gone_and_the_others_stay(computer: Computer, manager: DeviceManager) -> None:
    removed = Fault(name="out", behaviour="removed", queue="io", nth=1)
    manager.add(computer.plug("01:00.0", namespace(1), faults=(removed,))).result(SECONDS)
    manager.add(computer.plug("02:00.0", namespace(2))).result(SECONDS)
    with pytest.raises(ControllerGone):
        manager.run("01:00.0", read).result(SECONDS)
    assert manager.states() == {"01:00.0": "gone", "02:00.0": "up"}
    with pytest.raises(Refused):
        manager.find(UUIDS[1])
    assert manager.run("02:00.0", read).result(SECONDS) == bytes(512)


def test_a_removed_device_can_be_added_again(computer: Computer, manager: DeviceManager) -> None:
    manager.add(computer.plug("01:00.0", namespace(1))).result(SECONDS)
    with pytest.raises(Refused, match="managed already"):
        manager.add("01:00.0")
    manager.remove("01:00.0").result(SECONDS)
    assert manager.states() == {}
    with pytest.raises(Refused, match=r"01:00\.0 is not managed; devices: none"):
        manager.run("01:00.0", read)
    manager.add("01:00.0").result(SECONDS)
    assert manager.states() == {"01:00.0": "up"}


def test_a_stuck_device_is_named_when_all_are_closed(computer: Computer) -> None:
    manager = DeviceManager(computer.open, Settings(io_queues=1))
    stuck = manager.add(computer.plug("stuck", namespace(0)))
    manager.add(computer.plug("01:00.0", namespace(1))).result(SECONDS)
    assert manager.close(seconds=0.2) == ["stuck"]
    computer.released.set()
    stuck.exception(SECONDS)


def test_a_controller_that_does_not_come_up_says_so(computer: Computer, manager: DeviceManager) -> None:
    never = Fault(name="never", behaviour="never-ready")
    with pytest.raises(DriverError, match="CSTS"):
        manager.add(computer.plug("01:00.0", namespace(1), faults=(never,))).result(SECONDS)
