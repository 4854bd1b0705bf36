"""The reference driver on the programmable controller: each step, each action, and devices at the edge of what is allowed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from lab.data.events import ConfigWrite, Doorbell, Interrupt, RegisterWrite, Submitted
from lab.data.plan import Namespace
from lab.drivers import watchdog
from lab.nvme.commands import (
    AsyncEventRequest,
    CreateIoSq,
    DatasetManagement,
    Flush,
    GetLogPage,
    Identify,
    Read,
    Write,
    WriteZeroes,
)
from lab.nvme.identify import Oncs
from lab.nvme.registers import CC
from lab.reference.controller import STAGES
from lab.reference.settings import Settings

if TYPE_CHECKING:
    from tests.reference.conftest import Make


BLOCKS = 1 << 15
"""Of the namespace that a rig has by default."""
POLLING = Settings(io_queues=2, polling=True)


def test_what_is_written_reads_back_and_nothing_beside_it(make: Make) -> None:
    rig = make()
    rig.load()
    data = os.urandom(512 * 1500)
    assert rig.ask("write", data, nsid=1, lba=7, blocks=1500).status == "success"
    assert rig.ask("read", nsid=1, lba=6, blocks=1502).data == bytes(512) + data + bytes(512)
    assert rig.ask("flush", nsid=1).status == rig.ask("noop", nsid=1).status == "success"
    assert rig.ask("zeroes", nsid=1, lba=8, blocks=3).status == "success"
    assert rig.ask("read", nsid=1, lba=7, blocks=5).data == data[:512] + bytes(3 * 512) + data[4 * 512 : 5 * 512]
    assert rig.ask("trim", nsid=1, lba=100, blocks=10).status == "success"
    assert rig.broken_rules() == set()


def test_a_part_of_a_block_leaves_the_rest_of_it(make: Make) -> None:
    rig = make()
    rig.load()
    before, part = os.urandom(512 * 4), os.urandom(700)
    rig.ask("write", before, nsid=1, lba=7, blocks=4)
    assert rig.ask("write-bytes", part, nsid=1, lba=8, at=100, length=700).status == "success"
    assert rig.ask("read", nsid=1, lba=7, blocks=4).data == before[:612] + part + before[1312:]
    assert rig.ask("write-bytes", part, nsid=1, lba=BLOCKS - 1, at=100, length=700).status != "success"


def test_the_answers_are_the_devices(make: Make) -> None:
    rig = make(cap={"MQES": 127, "DSTRD": 2, "TO": 3, "MPSMIN": 0, "MPSMAX": 2}, version="1.3", mdts=3)
    rig.load()
    (info,) = rig.ask("info").fields["controllers"]
    assert info == {
        "address": "nv0", "version": "1.3", "max_queue_entries": 128, "doorbell_stride": 16, "timeout_ms": 1500,
        "page_size_min": 4096, "page_size_max": 16384,
    }  # fmt: skip
    (identity,) = rig.ask("identify").fields["controllers"]
    really = rig.device.function.controller.identity
    assert identity["serial"] == "RIG"
    assert identity["model"] == really.MN
    assert identity["vendor_id"] == really.VID
    assert identity["max_transfer_bytes"] == 8 * 4096
    assert ("write-zeroes" in identity["optional_commands"]) == bool(really.ONCS.WRITE_ZEROES)
    assert identity["lba_formats"][identity["lba_format"]] == {"block_size": 512, "metadata": 0}
    assert rig.ask("list").fields["namespaces"] == [{"controller": "RIG", "nsid": 1, "blocks": BLOCKS, "block_size": 512}]
    assert rig.ask("queues").fields == {"pairs": 2, "depth": 128, "vectors": 3}
    assert rig.ask("ready").fields == {"ready": True}
    smart = rig.ask("smart").fields
    assert smart["temperature"] == 40
    assert smart["critical_warning"] == 0


@pytest.mark.parametrize("stage", STAGES)
def test_it_can_stop_after_any_step(make: Make, stage: str) -> None:
    rig = make()
    assert rig.ask("load", until=stage).status == "success"
    assert rig.ask("info").status == "success"
    reached = STAGES.index(stage)
    asked = {
        "ready": "admin-queue", "list": "identify", "queues": "io-queues", "read": "read", "write": "write", "trim": "features",
    }  # fmt: skip
    for action, needed in asked.items():
        reply = rig.ask(action, bytes(512), nsid=1, lba=1, blocks=1)
        assert (reply.status == "success") == (reached >= STAGES.index(needed)), (action, reply)
    rig.ask("unload")
    seen = {type(event.command) for event in rig.events() if isinstance(event, Submitted)}
    assert (Identify in seen) == (reached >= 2)
    assert (CreateIoSq in seen) == (reached >= 3)
    assert (AsyncEventRequest in seen) == (reached >= STAGES.index("reset"))


def test_detection_alone_writes_no_register(make: Make) -> None:
    rig = make()
    rig.ask("load", until="detect")
    rig.ask("info")
    rig.ask("unload")
    events = rig.events()
    assert not [event for event in events if isinstance(event, RegisterWrite | Doorbell)]
    assert [event for event in events if isinstance(event, ConfigWrite)]


ODD: dict[str, dict[str, Any]] = {
    "smallest queues": {"cap": {"MQES": 1}},
    "largest queues": {"cap": {"MQES": 0xFFFF}, "settings": Settings(io_queues=1, depth=65536)},
    "wide doorbells": {"cap": {"DSTRD": 4}},
    "larger pages": {"cap": {"MPSMIN": 1, "MPSMAX": 4}},
    "contiguous queues": {"cap": {"CQR": 1}},
    "one I/O queue": {"io_queues": 1, "vectors": 1},
    "fewer vectors than queues": {"io_queues": 8, "vectors": 2, "settings": Settings(io_queues=8)},
    "INTx": {"vectors": 0},
    "polling": {"settings": POLLING},
    "no limit of transfers": {"mdts": 0},
    "one page a transfer": {"mdts": 0, "identify": {"MDTS": 1}},
    "version 1.0": {"version": "1.0"},
    "version 2.0": {"version": "2.0"},
    "all command sets": {"cap": {"CSS": 0x41}},
    "shortest time-out": {"cap": {"TO": 1}},
    "blocks of 4096": {"namespaces": (Namespace(blocks=BLOCKS, block_size=4096),)},
    "namespace 7 only": {"namespaces": (Namespace(nsid=7, blocks=BLOCKS),)},
    "no write cache": {"write_cache": False},
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_controllers_are_driven_by_the_rules(make: Make, odd: str) -> None:
    rig = make(**ODD[odd])
    rig.load()
    (namespace,) = rig.ask("list").fields["namespaces"]
    nsid, size = namespace["nsid"], namespace["block_size"]
    count = (3 << 20) // size
    data = os.urandom(count * size)
    assert rig.ask("write", data, nsid=nsid, lba=3).status == "success"
    assert rig.ask("read", nsid=nsid, lba=3, blocks=count, offset=12).data == data
    last = namespace["blocks"] - 1
    assert rig.ask("write", data[:size], nsid=nsid, lba=last).status == "success"
    assert rig.ask("read", nsid=nsid, lba=last, blocks=1).data == data[:size]
    assert rig.ask("reset").status == "success"
    assert rig.ask("read", nsid=nsid, lba=3, blocks=count).data == data
    assert rig.ask("unload").status == "success"
    assert rig.broken_rules() == set()


def test_transfers_are_split_at_mdts_and_cover_each_block_once(make: Make) -> None:
    rig = make(mdts=2)
    rig.load()
    assert rig.ask("read", nsid=1, lba=5, blocks=100).status == "success"
    reads = [event.command for event in rig.events() if isinstance(event, Submitted) and isinstance(event.command, Read)]
    assert [(read.SLBA, read.blocks) for read in reads] == [(5, 32), (37, 32), (69, 32), (101, 4)]


@pytest.mark.parametrize("offset", [0, 4, 4092, 1, 511, 4093, 8191])
def test_buffers_at_any_offset_are_described_or_bounced(make: Make, offset: int) -> None:
    rig = make(mdts=1)
    rig.load()
    data = os.urandom(40 * 512)
    assert rig.ask("write", data, nsid=1, lba=1, offset=offset).status == "success"
    assert rig.ask("read", nsid=1, lba=1, blocks=40, offset=offset).data == data
    events = rig.events()
    moved = [e.command for e in events if isinstance(e, Submitted) and isinstance(e.command, Read | Write)]
    assert moved
    assert all(command.PRP1 % 4 == 0 for command in moved)
    assert any(command.PRP1 % 4096 for command in moved) == (offset % 4096 != 0 and offset % 4 == 0)


@pytest.mark.parametrize(("lba", "blocks"), [(BLOCKS, 1), (BLOCKS - 1, 2), (1 << 40, 1), (-1, 1), (0, 0)])
@pytest.mark.parametrize("action", ["read", "write", "zeroes", "trim"])
def test_what_is_not_inside_the_namespace_is_refused_without_a_command(make: Make, action: str, lba: int, blocks: int) -> None:
    rig = make()
    rig.load()
    reply = rig.ask(action, bytes(max(0, blocks) * 512), nsid=1, lba=lba, blocks=blocks)
    assert isinstance(reply.status, dict), reply
    assert "words" in reply.status, reply
    sent = [e for e in rig.events() if isinstance(e, Submitted) and e.sqid]
    assert not sent


@pytest.mark.parametrize(("fields", "how"), [({}, {"msix"}), ({"vectors": 0}, {"intx"}), ({"settings": POLLING}, set())])
def test_completions_are_signalled_as_the_driver_wants(make: Make, fields: dict[str, Any], how: set[str]) -> None:
    rig = make(**fields)
    rig.load()
    assert rig.ask("read", nsid=1, lba=0, blocks=100).status == "success"
    assert {event.how for event in rig.events() if isinstance(event, Interrupt)} == how


def test_a_namespace_with_metadata_is_shown_and_not_touched(make: Make) -> None:
    rig = make(namespaces=(Namespace(blocks=64, metadata_size=8), Namespace(nsid=2, blocks=64)))
    rig.load()
    first, second = rig.ask("list").fields["namespaces"]
    assert "metadata" in first["refused"]
    assert "refused" not in second
    reply = rig.ask("read", nsid=1, lba=0, blocks=1)
    assert isinstance(reply.status, dict)
    assert "metadata" in reply.status["words"]
    assert rig.ask("read", nsid=2, lba=0, blocks=1).data == bytes(512)


def test_inactive_namespaces_are_not_found_with_or_without_the_list(make: Make) -> None:
    namespaces = tuple(Namespace(nsid=n, blocks=64, attached=n != 3) for n in (2, 3, 9))
    rig = make(namespaces=namespaces, version="1.0", identify={"NN": 12})
    rig.load()
    assert [one["nsid"] for one in rig.ask("list").fields["namespaces"]] == [2, 9]
    assert {e.command.CNS for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, Identify)} == {0, 1}


def test_names_of_namespaces_are_reported(make: Make) -> None:
    name = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    rig = make(namespaces=(Namespace(blocks=64, uuid=name, eui64=0x1122334455667788),))
    rig.load()
    (found,) = rig.ask("list").fields["namespaces"]
    assert (found["uuid"], found["eui64"]) == (name, "1122334455667788")


def test_optional_commands_are_sent_only_where_oncs_has_them(make: Make) -> None:
    rig = make(identify={"ONCS": Oncs()})
    rig.load()
    assert rig.ask("write", b"x" * 1024, nsid=1, lba=5).status == "success"
    assert rig.ask("zeroes", nsid=1, lba=5, blocks=2).status == "success"
    assert rig.ask("read", nsid=1, lba=5, blocks=2).data == bytes(1024)
    reply = rig.ask("trim", nsid=1, lba=5, blocks=2)
    assert isinstance(reply.status, dict)
    assert "Dataset Management" in reply.status["words"]
    saving = rig.ask("set-feature", feature=6, value=1, save=True)
    assert isinstance(saving.status, dict)
    assert "ONCS" in saving.status["words"]
    kinds = {type(e.command) for e in rig.events() if isinstance(e, Submitted)}
    assert not kinds & {WriteZeroes, DatasetManagement}


def test_without_a_volatile_cache_there_is_nothing_to_flush(make: Make) -> None:
    rig = make(write_cache=False)
    rig.load()
    assert rig.ask("flush", nsid=1).status == "success"
    assert not [e for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, Flush)]


def test_features_are_read_and_set(make: Make) -> None:
    rig = make()
    rig.load()
    assert rig.ask("get-feature", feature=0x06).fields == {"value": 1}
    assert rig.ask("set-feature", feature=0x06, value=0).status == "success"
    assert rig.ask("get-feature", feature=0x06).fields == {"value": 0}
    timestamp = rig.ask("get-feature", feature=0x0E)
    assert timestamp.status == "success"
    assert len(timestamp.data or b"") == 8
    late = rig.ask("set-feature", feature=0x07, value=0)
    assert isinstance(late.status, dict)
    assert "there are I/O queues" in late.status["words"]
    short = rig.ask("set-feature", b"abc", feature=0x0E, value=0)
    assert isinstance(short.status, dict)
    assert "takes 8 bytes" in short.status["words"]
    assert rig.ask("get-feature", feature=0x7B).status == {"sct": 0, "sc": 2}


def test_logs_are_read_as_long_as_they_are(make: Make) -> None:
    rig = make(identify={"ELPE": 3})
    controller = rig.load()
    assert rig.ask("raw", queue="io", opcode=0x70, nsid=1).status == {"sct": 0, "sc": 1}
    errors = controller.health.errors()
    assert [error.status for error in errors] == [1]
    asked = [e.command for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, GetLogPage)]
    assert [(log.LID, log.data_length) for log in asked] == [(1, 4 * 64)]


def test_raw_commands_go_as_they_are_and_their_data_always_has_room(make: Make) -> None:
    rig = make()
    rig.load()
    short = rig.ask("raw", queue="admin", opcode=6, cdw10=1, length=64)
    assert short.data is not None
    assert len(short.data) == 64
    assert b"RIG" in short.data
    block = os.urandom(512)
    assert rig.ask("raw", block, queue="io", opcode=1, nsid=1, cdw10=9).status == "success"
    assert rig.ask("raw", queue="io", opcode=2, nsid=1, cdw10=9).data == block
    assert rig.ask("raw", queue="io", command=Read.of(NSID=1, SLBA=9).hex()).data == block
    assert rig.ask("raw", queue="io", opcode=2, nsid=1, cdw10=BLOCKS).status == {"sct": 0, "sc": 0x80}
    for wrong in ({"opcode": 256}, {"opcode": 2, "cdw10": 1 << 32}, {"command": "00"}, {"command": "xy"}, {}):
        reply = rig.ask("raw", queue="io", **wrong)
        assert isinstance(reply.status, dict)
        assert "this is not a command" in reply.status["words"]


def test_a_driver_that_has_much_to_do_is_not_taken_for_one_that_hangs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "SPINS", 200)
    rig = make(cap={"MQES": 1})
    rig.load()
    assert rig.ask("read", nsid=1, lba=0, blocks=BLOCKS).status == "success"
    for _ in range(100):
        assert rig.ask("noop", nsid=1).status == "success"


def test_fifty_loads_and_unloads_leave_nothing_behind(make: Make) -> None:
    rig = make()
    for _ in range(50):
        rig.load()
        assert rig.ask("read", nsid=1, lba=0, blocks=9).status == "success"
        assert rig.ask("unload").status == "success"
        assert rig.host.memory.ranges == []
    assert rig.broken_rules() == set()


def test_a_shut_down_controller_is_left_in_silence_and_can_be_taken_again(make: Make) -> None:
    rig = make()
    rig.load()
    assert rig.ask("shutdown").status == "success"
    reply = rig.ask("read", nsid=1, lba=0, blocks=1)
    assert isinstance(reply.status, dict)
    assert "shut down" in reply.status["words"]
    rig.load()
    assert rig.ask("read", nsid=1, lba=0, blocks=1).status == "success"
    assert rig.broken_rules() == set()


def test_a_function_of_another_class_is_left_alone(make: Make) -> None:
    rig = make(pci={"class_code": 0x010801})
    reply = rig.ask("load")
    assert isinstance(reply.status, dict)
    assert "010801h" in reply.status["words"]
    assert rig.events() == [] or not [e for e in rig.events() if isinstance(e, RegisterWrite)]


def test_without_the_nvm_command_set_nothing_is_enabled(make: Make) -> None:
    rig = make(cap={"CSS": 0x02})
    reply = rig.ask("load")
    assert isinstance(reply.status, dict)
    assert "NVM command set" in reply.status["words"]


def test_a_controller_without_any_command_set_is_administered(make: Make) -> None:
    rig = make(cap={"CSS": 0x80}, identify={"CNTRLTYPE": 3})
    controller = rig.load()
    assert (controller.registers.read(CC).CSS, controller.io) == (0b111, [])


def test_many_commands_are_outstanding_and_one_doorbell_announces_several(make: Make) -> None:
    rig = make(mdts=1)
    rig.load()
    assert rig.ask("read", nsid=1, lba=0, blocks=16 * 40).status == "success"
    io_bells = [e for e in rig.events() if isinstance(e, Doorbell) and e.qid > 0 and not e.completion]
    assert len(io_bells) == 1
    assert io_bells[0].value == 40


def test_a_format_leaves_nothing_and_other_blocks(make: Make) -> None:
    rig = make()
    rig.load()
    assert rig.ask("write", b"x" * 512, nsid=1, lba=3, blocks=1).status == "success"
    assert rig.ask("format", nsid=1, format=1).status == "success"
    assert rig.ask("list").fields["namespaces"] == [{"controller": "RIG", "nsid": 1, "blocks": BLOCKS // 8, "block_size": 4096}]
    assert rig.ask("read", nsid=1, lba=0, blocks=1).data == bytes(4096)
    assert "no LBA format 9" in str(rig.ask("format", nsid=1, format=9).status)


def test_of_a_log_without_offsets_only_the_beginning_is_read(make: Make) -> None:
    rig = make(mdts=1, identify={"ELPE": 255, "LPA": 0})
    rig.load()
    assert rig.ask("get-feature", feature=0x7D).status == {"sct": 0, "sc": 2}
    assert len(rig.ask("smart", errors=True).fields["errors"]) == 1
    sent = [e.command for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, GetLogPage)]
    assert [command.data_length for command in sent if command.LID == 1] == [8192]
