from __future__ import annotations

import pytest

from lab.data.events import (
    Completed,
    ConfigWrite,
    Doorbell,
    Event,
    Interrupt,
    PrpList,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Submitted,
    Unknown,
)
from lab.nvme.commands import CreateIoSq, GetLogPage, Identify, Read
from lab.nvme.registers import CC
from lab.trace.declarations import TraceLine
from lab.trace.prp import Mapping
from lab.trace.translator import Translator


class Script:
    """Feeds lines a microsecond apart."""

    def __init__(self, *controllers: str) -> None:
        self.translator = Translator(controllers or ("nv0",))
        self.t = 0.0
        self.events: list[Event] = []

    def __call__(self, event: str, /, **args: int | str) -> Script:
        line = TraceLine(self.t, event, args)
        self.t += 1e-6
        if self.translator.concerns(line):
            self.events += self.translator.feed(line)
        return self

    def done(self) -> list[Event]:
        return self.events + self.translator.flush()

    def write(self, offset: int, value: int, size: int = 4) -> Script:
        return self("pci_nvme_mmio_write", addr=offset, data=value, size=size)

    def read(self, offset: int, value: int, size: int = 4) -> Script:
        self("pci_nvme_mmio_read", addr=offset, size=size)
        where = 0xE000_0000 + offset
        return self("memory_region_ops_read", cpu_index=0, mr=1, addr=where, value=value, size=size, name="nvme")

    def config(self, offset: int, value: int, size: int, dev: str = "nvme") -> Script:
        self("memory_region_ops_write", cpu_index=0, mr=2, addr=0xCFC, value=value, size=size, name="pci-conf-data")
        return self("pci_cfg_write", dev=dev, bus=1, slot=0, func=0, offs=offset, val=value)

    def enable(self) -> Script:
        self.write(0x24, 7 << 16 | 7).write(0x28, 0x1000).write(0x30, 0x2000)
        return self.write(0x14, CC.of(EN=1, IOSQES=6, IOCQES=4))("pci_nvme_mmio_start_success")

    def admin(self, cid: int, opcode: int) -> Script:
        return self("pci_nvme_admin_cmd", cid=cid, sqid=0, opcode=opcode, opname="NAME")

    def complete(self, cid: int, cqid: int = 0, status: int = 0, dw0: int = 0) -> Script:
        return self("pci_nvme_enqueue_req_completion", cid=cid, cqid=cqid, dw0=dw0, dw1=0, status=status)


def bare(events: list[Event]) -> list[tuple[object, ...]]:
    """Register accesses as (kind, offset, size, value)."""
    return [(type(e), e.offset, e.size, e.value) for e in events if isinstance(e, RegisterRead | RegisterWrite | Doorbell)]


def test_two_halves_of_an_8_byte_register_in_a_row_are_one_access() -> None:
    script = Script().write(0x28, 0x5000)("pci_nvme_mmio_asqaddr", data=0x5000).write(0x2C, 1)
    script("pci_nvme_mmio_asqaddr_hi", data=1, new_addr=0x1_0000_5000)
    assert bare(script.read(0, 7).read(4, 9).done()) == [
        (RegisterWrite, 0x28, 8, 0x1_0000_5000),
        (RegisterRead, 0, 8, 9 << 32 | 7),
    ]


def test_halves_that_do_not_follow_each_other_stay_apart() -> None:
    script = (
        Script().write(0x28, 1).write(0x30, 2).write(0x34, 3).write(0x2C, 4).write(0x14, 5).write(0x18, 6).read(4, 7).read(0, 8)
    )
    assert bare(script.done()) == [
        (RegisterWrite, 0x28, 4, 1),
        (RegisterWrite, 0x30, 8, 3 << 32 | 2),
        (RegisterWrite, 0x2C, 4, 4),
        (RegisterWrite, 0x14, 4, 5),
        (RegisterWrite, 0x18, 4, 6),
        (RegisterRead, 4, 4, 7),
        (RegisterRead, 0, 4, 8),
    ]


def test_a_write_with_all_its_echoes_is_one_event() -> None:
    script = Script()
    for region in ("nvme", "serial"):
        script("memory_region_ops_write", cpu_index=0, mr=1, addr=0, value=1, size=4, name=region)
    script.write(0x100C, 3)("pci_nvme_mmio_doorbell_cq", cqid=1, new_head=3).write(0x1001, 1, 2)
    bells = [e for e in script.done() if isinstance(e, Doorbell)]
    assert script.done() == bells
    assert [(b.qid, b.completion, b.value, b.size) for b in bells] == [(1, True, 3, 4), (-1, False, 1, 2)]


def test_a_read_whose_value_is_not_traced_is_only_a_remark() -> None:
    events = Script()("pci_nvme_mmio_read", addr=0x1C, size=4).write(0x14, 0).done()
    assert [type(e) for e in events] == [Remark, RegisterWrite]


def test_config_writes_have_the_size_of_their_access_and_are_only_ours() -> None:
    events = Script().config(4, 6, 2).config(4, 7, 2, dev="virtio-net-pci").config(0x10, 8, 4).done()
    assert [(e.offset, e.size, e.value) for e in events if isinstance(e, ConfigWrite)] == [(4, 2, 6), (0x10, 4, 8)]
    (alone,) = Script()("pci_cfg_write", dev="nvme", bus=1, slot=0, func=0, offs=0x10, val=8).done()
    assert isinstance(alone, ConfigWrite)
    assert alone.size == 0


def test_what_a_reset_came_from() -> None:
    script = Script()("pci_nvme_pci_reset")("pci_nvme_pci_reset").config(0x88, 0x8810, 2)("pci_nvme_pci_reset")
    script.config(0x88, 0x0810, 2)("pci_nvme_pci_reset").enable()("pci_nvme_mmio_stopped")
    assert [e.cause for e in script.done() if isinstance(e, Reset)] == ["power", "bus", "flr", "bus", "cc-en"]


def test_the_lines_of_a_command_are_one_event_and_the_next_thing_ends_it() -> None:
    script = Script().enable().admin(5, 6)("pci_nvme_identify", cid=5, cns=0, ctrlid=0, csi=0)
    script("pci_nvme_identify_ns", ns=3)
    script("pci_nvme_map_prp", trans_len=4096, len=4096, prp1=0x8000, prp2=0, num_prps=2)
    (submitted,) = [e for e in script.done() if isinstance(e, Submitted)]
    assert submitted.command == Identify.of(CID=5, NSID=3, PRP1=0x8000)
    assert set(submitted.exact or ()) == {"CID", "OPC", "CNS", "CNTID", "CSI", "NSID", "PRP1", "PRP2"}
    assert submitted.rebuilt  # no memory to sample


def test_a_log_page_s_length_is_in_dwords() -> None:
    script = Script().enable().admin(1, 2)
    script("pci_nvme_get_log", cid=1, lid=2, lsp=0, rae=1, len=4 * 0x1_0003, off=0x2_0000_0010)
    (submitted,) = [e for e in script.done() if isinstance(e, Submitted)]
    assert submitted.command == GetLogPage.reading(2, 4 * 0x1_0003, 0x2_0000_0010, CID=1, RAE=1)


def test_an_unknown_opcode_keeps_what_is_known() -> None:
    (submitted,) = [e for e in Script().enable().admin(9, 0xC5).done() if isinstance(e, Submitted)]
    assert submitted.raw[:4] == bytes([0xC5, 0, 9, 0])
    assert submitted.exact == ("CID", "OPC")


def create(script: Script, sqid: int, cqid: int, status: int = 0) -> Script:
    script.admin(sqid, 1)("pci_nvme_create_sq", addr=0x9000, sqid=sqid, cqid=cqid, qsize=3, qflags=5)
    return script.complete(sqid, status=status)


def test_a_completion_names_its_queue_only_where_the_trace_leaves_no_doubt() -> None:
    script = create(create(create(Script().enable(), 1, 1), 2, 1), 3, 1, status=0x4101)
    for sqid in (1, 2):
        script("pci_nvme_io_cmd", cid=7, nsid=1, sqid=sqid, opcode=0, opname="FLUSH")
    script("pci_nvme_io_cmd", cid=8, nsid=1, sqid=2, opcode=0, opname="FLUSH")
    events = script.complete(7, 1).complete(8, 1, status=0x4002).done()
    *created, unclear, clear = [e for e in events if isinstance(e, Completed)]
    assert [e.completion.status for e in created] == [0, 0, 0x101]
    assert all(e.is_exact("SQID", "SC", "DNR") for e in created)
    assert not unclear.is_exact("SQID")
    assert unclear.completion.CID == 7
    assert clear.is_exact("SQID")
    assert (clear.completion.SQID, clear.completion.SC, clear.completion.DNR) == (2, 2, 1)
    made = [e.command for e in events if isinstance(e, Submitted) and isinstance(e.command, CreateIoSq)]
    assert [(c.QID, c.CQID, c.QSIZE, c.PC, c.QPRIO, c.PRP1) for c in made][:1] == [(1, 1, 3, 1, 2, 0x9000)]


def test_several_controllers_cannot_be_distinguished_and_nothing_is_sampled() -> None:
    class Everything:
        def read(self, address: int, length: int) -> bytes | None:
            raise AssertionError("sampled")

    script = Script("nv0", "nv1")
    script.translator.memory = Everything()
    events = script.enable().admin(1, 6).complete(1).done()
    assert {e.controller for e in events} == {""}
    assert any(isinstance(e, Submitted) for e in events)
    assert any(isinstance(e, Completed) for e in events)


def test_all_else_is_a_remark_or_unknown() -> None:
    script = Script()("pci_nvme_err_cfs")("pci_nvme_irq_msix", vector=3)("pci_nvme_irq_pin")("pci_nvme_map_addr", addr=1, len=2)
    events = script.done() + script.translator.unknown("nonsense", 5.0)
    assert [type(e) for e in events] == [Remark, Interrupt, Interrupt, Remark, Unknown]
    assert [(e.vector, e.how) for e in events if isinstance(e, Interrupt)] == [(3, "msix"), (0, "intx")]


def test_a_command_that_failed_at_once_moved_nothing() -> None:
    script = Script().enable()("pci_nvme_io_cmd", cid=1, nsid=1, sqid=1, opcode=Read.OPCODE or 0, opname="READ")
    script("pci_nvme_map_prp", trans_len=4096, len=12288, prp1=0x1000, prp2=0x8000, num_prps=3)
    script("pci_nvme_map_addr", addr=0x1000, len=4096)("pci_nvme_err_invalid_prplist_ent", prplist=0x9008)
    events = script.complete(1, 1, status=0x4013).done()
    assert [e.entries for e in events if isinstance(e, PrpList)] == [(0x9008,)]
    assert [e.name for e in events if isinstance(e, Remark)][-2:] == ["pci_nvme_map_addr", "pci_nvme_err_invalid_prplist_ent"]


def test_a_chain_that_memory_does_not_confirm_is_not_made_up() -> None:
    walk = Mapping(4 * 4096, 4096, 0x8FF0, [0, 0xA000, 0xB000, 0xC000])
    assert list(walk.lists(4096, lambda address, length: None)) == [
        (0x8FF0, (0xA000,), False),
        (-1, (0xB000, 0xC000), True),
    ]
    memory = {0x8FF8: 0xD000, 0xD000: 0xB000, 0xD008: 0xC000}

    def read(address: int, length: int) -> bytes | None:
        return b"".join(memory[at].to_bytes(8, "little") for at in range(address, address + length, 8))

    assert list(walk.lists(4096, read)) == [(0x8FF0, (0xA000, 0xD000), True), (0xD000, (0xB000, 0xC000), True)]
    memory[0xD008] = 0
    assert list(walk.lists(4096, read))[-1] == (-1, (0xB000, 0xC000), True)


@pytest.mark.parametrize(
    ("line", "elsewhere"),
    [
        (b"2026-11-20T14:01:25Z memory_region_ops_read cpu 0 mr 0x5 addr 0x3fd value 0x60 size 1 name 'serial'", True),
        (b"2026-11-20T14:01:25Z memory_region_ops_write cpu 0 mr 0x5 addr 0xc0 value 0x1 size 4 name 'nvme'", False),
        (b"2026-11-20T14:01:25Z memory_region_ops_write cpu 0 mr 0x5 addr 0xcfc value 0x1 size 4 name 'pci-conf-data'", False),
        (b"2026-11-20T14:01:25Z pci_nvme_rw_cb cid 135 blk ''", False),
    ],
)
def test_lines_about_other_regions_are_recognised_by_their_end(line: bytes, elsewhere: bool) -> None:
    assert Translator.is_elsewhere(line) == elsewhere
