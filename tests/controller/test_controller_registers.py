"""The register file's rules: widths, read-only bits, enabling, shutdown, resets. Base 2.0, 3.1.3 and 3.5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.data.events import RegisterRead, RegisterWrite, Remark, Reset
from lab.nvme import commands as nvme
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, CSTS, INTMC, INTMS, NSSR, VS

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

READY = CC.of(EN=1, IOSQES=6, IOCQES=4)


def test_cap_and_version_read_as_the_device_was_made(make_host: MakeHost) -> None:
    host = make_host(version="1.3", cap={"MQES": 7, "TO": 3, "MPSMAX": 2})
    cap = CAP(host.read(CAP, 8))
    assert (cap.MQES, cap.TO, cap.MPSMAX, cap.CQR) == (7, 3, 2, 1)
    assert CAP(host.function.read(0, 4) | host.function.read(4, 4) << 32) == cap
    assert VS(host.read(VS)).text == "1.3"
    assert host.remarks() == []


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0x14, 2), (0x1C, 1), (2, 4), (0x08, 8), (0x18, 8)])
def test_reads_of_other_widths_are_remarked(make_host: MakeHost, offset: int, size: int) -> None:
    host = make_host()
    whole = host.function.read(0, 8)
    value = host.function.read(offset, size)
    if offset < 8:
        assert value == whole >> 8 * offset & (1 << 8 * size) - 1
    assert host.remarks() == ["register-width"]


@pytest.mark.parametrize("size", [1, 2])
def test_narrow_writes_have_no_effect(make_host: MakeHost, size: int) -> None:
    host = make_host()
    host.function.write(AQA.OFFSET, size, 7)
    assert host.read(AQA) == 0
    assert host.remarks() == ["register-width"]


@pytest.mark.parametrize("register", [CAP, VS, CSTS])
def test_read_only_registers_stay(make_host: MakeHost, register: type) -> None:
    host = make_host()
    before = host.read(register)
    host.function.write(register.OFFSET, 4, 0xFFFF_FFFF)  # type: ignore[attr-defined]
    assert host.read(register) == before
    assert host.remarks() == ["read-only-register"]


def test_reserved_registers_are_remarked(make_host: MakeHost) -> None:
    host = make_host()
    host.function.write(0x800, 4, 1)
    assert host.function.read(0x800, 4) == 0
    assert host.remarks() == ["reserved-register"]


def test_both_halves_of_the_admin_queue_addresses(make_host: MakeHost) -> None:
    host = make_host()
    for register in (ASQ, ACQ):
        host.function.write(register.OFFSET, 4, 0x1234_5000)
        host.function.write(register.OFFSET + 4, 4, 0x9ABC)
        assert host.read(register, 8) == 0x9ABC_1234_5000
    assert host.remarks() == []


def test_an_eight_byte_write_to_two_registers_is_remarked(make_host: MakeHost) -> None:
    host = make_host()
    host.function.write(INTMC.OFFSET, 8, 0)
    assert host.remarks() == ["register-width"]


def test_enabling_and_disabling(make_host: MakeHost) -> None:
    host = make_host()
    assert not host.csts.RDY
    assert host.enable().RDY
    assert CC(host.read(CC)) == READY
    base = host.read(ASQ, 8)
    assert not host.disable().RDY
    assert host.read(ASQ, 8) == base, "AQA, ASQ and ACQ survive a controller reset"
    assert host.enable().RDY
    causes = [event.cause for event in host.events() if isinstance(event, Reset)]
    assert causes == ["cc-en"]


@pytest.mark.parametrize(
    "cc",
    [
        READY.but(MPS=5),
        READY.but(CSS=1),
        READY.but(AMS=1),
    ],
)
def test_settings_that_the_controller_cannot_work_with_are_fatal(make_host: MakeHost, cc: CC) -> None:
    host = make_host()
    csts = host.enable(cc=cc)
    assert csts.CFS
    assert not csts.RDY
    assert "enable-invalid" in host.remarks()


@pytest.mark.parametrize(("aqa", "base"), [(0, 0), (AQA.of(ASQS=7), 0), (AQA.of(ASQS=7, ACQS=7), 64)])
def test_admin_queues_that_cannot_be_are_fatal(make_host: MakeHost, aqa: int, base: int) -> None:
    host = make_host()
    host.bus_master()
    host.function.write(AQA.OFFSET, 4, aqa)
    host.function.write(ASQ.OFFSET, 8, host.pages() + base)
    host.function.write(ACQ.OFFSET, 8, host.pages())
    host.function.write(CC.OFFSET, 4, READY)
    assert host.csts.CFS
    assert not host.csts.RDY
    host.disable()
    assert not host.csts.CFS, "a reset clears it"
    assert host.remarks() == ["enable-invalid"]


def test_what_enabling_freezes_stays(host: Host) -> None:
    host.function.write(CC.OFFSET, 4, READY.but(MPS=1))
    assert CC(host.read(CC)).MPS == 0
    host.function.write(CC.OFFSET, 4, READY.but(IOSQES=7))
    host.function.write(AQA.OFFSET, 4, 0)
    assert host.remarks() == ["cc-changed-while-enabled", "cc-changed-while-enabled", "admin-queue-while-enabled"]


def test_entry_sizes_may_be_set_until_there_are_io_queues(make_host: MakeHost) -> None:
    host = make_host()
    host.enable(cc=CC.of(EN=1))
    host.function.write(CC.OFFSET, 4, READY)
    host.create_queues()
    assert host.remarks() == []


def test_reserved_bits_of_cc(make_host: MakeHost) -> None:
    host = make_host()
    assert host.enable(cc=READY | 1 << 30).RDY
    assert host.remarks() == ["cc-reserved"]


@pytest.mark.parametrize("shn", [1, 2])
def test_shutdown(host: Host, shn: int) -> None:
    host.function.write(CC.OFFSET, 4, READY.but(SHN=shn))
    assert host.csts.SHST == 1, "processing"
    assert host.csts.RDY
    assert host.device.wait(1)
    assert host.csts.SHST == 2
    assert host.csts.RDY
    host.ring(1, completion=False, value=1)
    assert not host.disable().SHST
    assert host.enable().RDY
    events = host.events()
    assert [event.name for event in events if isinstance(event, Remark)] == ["doorbell-after-shutdown"]
    assert [event.cause for event in events if isinstance(event, Reset)] == ["cc-en"], "a shutdown is no reset"


def test_entries_may_be_given_back_during_a_shutdown(host: Host) -> None:
    host.submit(nvme.Flush.of(NSID=1), 1)
    host.function.write(CC.OFFSET, 4, READY.but(SHN=1))
    assert len(host.completions(1)) == 1, "which writes the head doorbell"
    assert host.remarks() == []


def test_interrupt_masks_are_for_pins_and_msi_only(host: Host) -> None:
    host.function.write(INTMS.OFFSET, 4, 0b101)
    host.function.write(INTMC.OFFSET, 4, 0b001)
    assert host.read(INTMS) == host.read(INTMC) == 0b100
    host.function.config_write(0x72, 2, 0x8000)  # MSI-X on
    host.function.write(INTMC.OFFSET, 4, 0b100)
    assert host.read(INTMS) == 0b100
    assert host.remarks() == ["interrupt-mask-under-msix"] * 2, "the host shall neither write nor read them"


def test_subsystem_reset(make_host: MakeHost) -> None:
    host = make_host(cap={"NSSRS": 1}).up()
    host.function.write(NSSR.OFFSET, 4, 1)
    assert host.csts.RDY
    host.function.write(NSSR.OFFSET, 4, 0x4E564D65)
    assert not host.csts.RDY
    assert host.csts.NSSRO
    host.function.write(CSTS.OFFSET, 4, CSTS.of(NSSRO=1))
    assert not host.csts.NSSRO
    assert host.remarks() == ["nssr"]


def test_function_level_reset_forgets_everything(host: Host) -> None:
    host.function.config_write(0x88, 2, 0x8000)
    assert host.function.config_read(4, 2) == 0
    host.memory_space()
    assert host.read(CC) == host.read(AQA) == host.read(ASQ, 8) == 0
    assert [event.cause for event in host.events() if isinstance(event, Reset)] == ["flr"]


def test_every_access_is_in_the_record(make_host: MakeHost) -> None:
    host = make_host()
    host.enable()
    events = [event for event in host.events() if isinstance(event, RegisterRead | RegisterWrite)]
    assert [(type(event).__name__, event.offset, event.size) for event in events] == [
        ("RegisterWrite", AQA.OFFSET, 4),
        ("RegisterWrite", ASQ.OFFSET, 8),
        ("RegisterWrite", ACQ.OFFSET, 8),
        ("RegisterWrite", CC.OFFSET, 4),
        ("RegisterRead", CSTS.OFFSET, 4),
    ]
    assert events[3].value == READY
    assert events[4].value == 1


def test_msi_and_msix_at_a_time_are_remarked(make_host: MakeHost) -> None:
    host = make_host()
    host.function.config_write(0x52, 2, 1)  # MSI on
    host.function.config_write(0x52, 2, 0)
    host.function.config_write(0x72, 2, 0x8000)  # MSI-X on
    host.function.config_write(0x52, 2, 1)
    assert host.remarks() == ["msi-and-msix"]
