"""Whatever a DeviceSpec says, the device is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.controller.in_process import InProcess
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.errors import UsageError
from lab.nvme import commands as nvme
from lab.nvme.identify import Cns, IdentifyController, IdentifyNamespace
from lab.nvme.registers import CAP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controller.conftest import MakeHost


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, field in CAP.FIELDS.items() if field.width])
def test_every_field_of_cap(make_host: MakeHost, name: str, field: Any) -> None:
    for value in {0, 1, field.mask}:
        if name == "DSTRD" and value == field.mask:
            continue  # shown with its doorbells elsewhere
        host = make_host(cap={name: value})
        assert getattr(CAP(host.read(CAP, 8)), name) == value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("MN", "Any Model", "Any Model"), ("FR", "9.9", "9.9"), ("NN", 256, 256), ("ONCS", 0x5F, 0x5F), ("VWC", 0, 0),
     ("MDTS", 3, 3), ("VID", 0x1234, 0x1234), ("IEEE", "010203", b"\1\2\3"), ("AERL", 7, 7), ("SGLS", 1, 1), ("NPSS", 2, 2)],
)  # fmt: skip
def test_identify_controller_fields_by_name(make_host: MakeHost, name: str, value: Any, expected: Any) -> None:
    host = make_host(identify={name: value}).up()
    assert getattr(IdentifyController(host.data(nvme.Identify.of(CNS=Cns.CONTROLLER))), name) == expected


@pytest.mark.parametrize(("name", "value"), [("NLBAF", 0), ("NSZE", 1 << 40), ("NSFEAT", 1), ("DLFEAT", 2), ("NOIOB", 77)])
def test_identify_namespace_fields_by_name(make_host: MakeHost, name: str, value: int) -> None:
    host = make_host(identify_namespace={name: value}).up()
    assert getattr(IdentifyNamespace(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=1))), name) == value


def test_mqes_from_the_smallest_to_the_largest(make_host: MakeHost) -> None:
    host = make_host(cap={"MQES": 1})
    host.enable()
    host.create_queues(entries=2)
    assert host.do(nvme.CreateIoCq.of(QID=2, QSIZE=2, PC=1, PRP1=host.pages())).status == 0x102
    large = make_host(cap={"MQES": 0xFFFF})
    large.memory.used = 0  # type: ignore[attr-defined]
    large.enable()
    ring = large.create_queues(entries=0x10000)
    for _ in range(3):
        large.admin(nvme.Flush.of(NSID=1), 1)
    large.function.controller.queues.submission[1].head = large.function.controller.queues.submission[1].tail = 0xFFFF
    ring.tail = 0xFFFF
    large.admin(nvme.Flush.of(NSID=1), 1)
    assert ring.tail == 0


def test_the_pci_function(make_host: MakeHost) -> None:
    host = make_host(pci={"vendor": 0xABCD, "class_code": 0x010803}, prefetchable_bar=True, vectors=33)
    read = host.function.config_read
    assert (read(0, 2), read(9, 3)) == (0xABCD, 0x010803)
    assert read(0x10, 4) & 0xF == 0xC, "64-bit, prefetchable"
    host.function.config_write(0x10, 4, 0xFFFF_FFFF)
    host.function.config_write(0x14, 4, 0xFFFF_FFFF)
    assert (read(0x10, 8) & ~0xF) + host.function.bar_size == 1 << 64
    capabilities, at = {}, read(0x34, 1)
    while at:
        capabilities[read(at, 1)] = at
        at = read(at + 1, 1)
    assert set(capabilities) == {0x01, 0x05, 0x10, 0x11}
    assert read(capabilities[0x11] + 2, 2) == 32
    assert read(capabilities[0x05] + 2, 2) >> 1 & 7 == 5, "32 messages"


def test_a_pin_alone(make_host: MakeHost) -> None:
    host = make_host(vectors=0)
    host.enable()
    host.create_queues(vector=0)
    assert host.function.config_read(0x34, 1) == 0x40
    assert host.function.config_read(0x41, 1) == 0x80
    host.function.interrupts.clear()
    host.submit(nvme.Flush.of(NSID=1), 1)
    assert host.function.interrupts
    assert host.function.controller.interrupts.intx_level
    host.completions(1)
    assert not host.function.controller.interrupts.intx_level


@pytest.mark.parametrize("fields", [{"cap": {"MQUES": 1}}, {"identify": {"SERIAL": "x"}}, {"version": "x"}, {"io_queues": 0},
                                    {"pci": {"bar": 1}}, {"identify": {"SN": "x" * 21}}])  # fmt: skip
def test_specs_that_cannot_be(make_host: MakeHost, fields: dict[str, Any]) -> None:
    with pytest.raises((UsageError, Exception), match=r"MQUES|SERIAL|version|I/O queues|bar|longer"):
        make_host(**fields)


def test_from_nothing_to_a_verified_block_is_fast(tmp_path: Path, record_property: Any, make_host: MakeHost) -> None:
    """Enable, identify, write and read: measured, and only kept from being absurd."""
    import time

    make_host().up()  # imports and first use are not the device's
    spec = DeviceSpec(controllers=(Controller(serial="S", namespaces=(Namespace(blocks=64),)),))
    began = time.perf_counter()
    with InProcess(spec, tmp_path):
        pass
    host = make_host().up()
    host.data(nvme.Identify.of(CNS=Cns.CONTROLLER))
    host.data(nvme.Read.of(NSID=1), 512, qid=1)
    seconds = time.perf_counter() - began
    record_property("milliseconds", round(seconds * 1000, 2))
    assert seconds < 5
