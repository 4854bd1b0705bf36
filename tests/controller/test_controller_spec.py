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
    for value in {0, 1, 0x7F if name == "CSS" else field.mask}:  # bit 7 of CSS stands alone
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


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cap": {"MQUES": 1}}, "controller nv0: cap: CAP has no field MQUES; nearest is MQES"),
        ({"cap": {"CSS": 0x81}}, "controller nv0: cap: CSS 0x81 says that there is no I/O command set"),
        ({"identify": {"SERIAL": "x"}}, "controller nv0: identify: IdentifyController has no field SERIAL"),
        ({"version": "x"}, "controller nv0: version 'x' is not of the form 1.4 or 1.2.1"),
        ({"io_queues": 0}, "controller nv0: 0 I/O queues, 9 vectors: out of range"),
        ({"vectors": 2049}, "controller nv0: 8 I/O queues, 2049 vectors: out of range"),
        ({"pci": {"bar": 1}}, "pci has no field 'bar'"),
        ({"identify": {"SN": "x" * 21}}, "is longer than 20 characters"),
    ],
)
def test_specs_that_cannot_be_are_refused_by_name(make_host: MakeHost, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as refused:
        make_host(**fields)
    assert named in str(refused.value)


def test_from_power_on_to_a_verified_block(tmp_path: Path, make_host: MakeHost) -> None:
    """A block that is on the medium before power-on arrives; one that is written is on the medium after a flush."""
    pattern = bytes(range(256)) * 2
    spec = DeviceSpec(controllers=(Controller(serial="S", namespaces=(Namespace(blocks=64),)),))
    with InProcess(spec, tmp_path) as device:
        image = device.function.controller.attached[1].image
    image.write_bytes(pattern + bytes(63 * 512))
    with InProcess(spec, tmp_path) as device:
        assert device.function.controller.attached[1].read(0, 1) == pattern
    host = make_host().up()
    buffer = host.pages()
    host.poke(buffer, pattern)
    host.admin(nvme.Write.of(NSID=1, SLBA=3, PRP1=buffer), 1)
    assert host.data(nvme.Read.of(NSID=1, SLBA=3), 512, qid=1) == pattern
    host.admin(nvme.Flush.of(NSID=1), 1)
    assert host.function.controller.attached[1].image.read_bytes()[3 * 512 : 4 * 512] == pattern


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (0, 3), (0, 16), (-4, 4), (0x1000, 3)])
def test_accesses_that_no_bus_makes(make_host: MakeHost, offset: int, size: int) -> None:
    host = make_host()
    with pytest.raises(ValueError, match="1, 2, 4 or 8 bytes"):
        host.function.read(offset, size)
    with pytest.raises(ValueError, match="1, 2, 4 or 8 bytes"):
        host.function.write(offset, size, 0)
