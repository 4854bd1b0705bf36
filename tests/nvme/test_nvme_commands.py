"""Commands, completions and status codes, by bytes that were worked out by hand from the specification's figures."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from lab.nvme import commands as c
from lab.nvme.completions import Completion
from lab.nvme.features import Fid
from lab.nvme.status import Status, by_text, describe


def sqe(*dwords: tuple[int, int]) -> bytes:
    """64 bytes with these (index, value) dwords."""
    raw = bytearray(64)
    for index, value in dwords:
        raw[index * 4 : index * 4 + 4] = value.to_bytes(4, "little")
    return bytes(raw)


KNOWN = [
    (
        c.CreateIoCq.of(CID=0x1234, PRP1=0x1_2345_6000, QID=3, QSIZE=1023, PC=1, IEN=1, IV=2),
        sqe((0, 0x1234_0005), (6, 0x2345_6000), (7, 1), (10, 0x03FF_0003), (11, 0x0002_0003)),
    ),
    (
        c.CreateIoSq.of(CID=1, PRP1=0x7000, QID=3, QSIZE=63, PC=1, QPRIO=2, CQID=4, NVMSETID=5),
        sqe((0, 0x0001_0001), (6, 0x7000), (10, 0x003F_0003), (11, 0x0004_0005), (12, 5)),
    ),
    (
        c.Identify.of(NSID=7, CNS=0x06, CNTID=0x41, CNSSID=9, CSI=2, UIDX=1),
        sqe((0, 6), (1, 7), (10, 0x0041_0006), (11, 0x0200_0009), (14, 1)),
    ),
    (c.Abort.of(SQID=2, ABORT_CID=0xBEEF), sqe((0, 8), (10, 0xBEEF_0002))),
    (c.SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, SV=1, CDW11=0x0007_0007), sqe((0, 9), (10, 0x8000_0007), (11, 0x70007))),
    (c.GetFeatures.of(FID=6, SEL=3), sqe((0, 0xA), (10, 0x306))),
    (
        c.GetLogPage.reading(2, 512, offset=0x1_0000_0004, RAE=1, LSP=5, LSI=6, NSID=c.BROADCAST_NSID),
        sqe((0, 2), (1, 0xFFFF_FFFF), (10, 0x007F_8502), (11, 0x0006_0000), (12, 4), (13, 1)),
    ),
    (c.FormatNvm.of(NSID=1, LBAFL=2, LBAFU=1, SES=1, PI=3, PIL=1, MSET=1), sqe((0, 0x80), (1, 1), (10, 0x1372))),
    (
        c.Read.of(CID=2, NSID=1, PRP1=0x1000, PRP2=0x2000, SLBA=0x1_0000_0002, NLB=7, FUA=1),
        sqe((0, 0x0002_0002), (1, 1), (6, 0x1000), (8, 0x2000), (10, 2), (11, 1), (12, 0x4000_0007)),
    ),
    (
        c.Write.of(NSID=1, SLBA=5, NLB=0xFFFF, LR=1, DTYPE=1, PRINFO=0b1010, DSM=0x47, DSPEC=9, LBAT=1, LBATM=2),
        sqe((0, 1), (1, 1), (10, 5), (12, 0xA810_FFFF), (13, 0x0009_0047), (15, 0x0002_0001)),
    ),
    (c.WriteZeroes.of(NSID=1, SLBA=8, NLB=1, DEAC=1), sqe((0, 8), (1, 1), (10, 8), (12, 0x0200_0001))),
    (c.DatasetManagement.of(NSID=1, NR=3, AD=1), sqe((0, 9), (1, 1), (10, 3), (11, 4))),
    (
        c.Copy.of(NSID=1, SDLBA=16, NR=1, DESFMT=1, PRINFOR=2, PRINFOW=4, STCR=1, FUA=1),
        sqe((0, 0x19), (1, 1), (10, 16), (12, 0x5200_2101)),
    ),
    (c.Sanitize.of(SANACT=3, OWPASS=4, NDAS=1, OVRPAT=0xA5A5_A5A5), sqe((0, 0x84), (10, 0x243), (11, 0xA5A5_A5A5))),
    (c.SecurityReceive.of(SECP=1, SPSP=0x0203, NSSF=4, AL=512), sqe((0, 0x82), (10, 0x0102_0304), (11, 512))),
]


@pytest.mark.parametrize(("command", "raw"), KNOWN, ids=[type(command).__name__ for command, _ in KNOWN])
def test_bytes_worked_out_by_hand(command: c.Command, raw: bytes) -> None:
    assert bytes(command) == raw
    assert c.decode(raw, command.QUEUE == "admin") == command
    assert type(c.decode(raw, command.QUEUE == "admin")) is type(command)
    assert not command.reserved


def test_the_same_opcode_means_something_else_on_the_other_queue() -> None:
    raw = sqe((0, 0x01))
    assert isinstance(c.decode(raw, admin=True), c.CreateIoSq)
    assert isinstance(c.decode(raw, admin=False), c.Write)


def test_an_unknown_opcode_is_a_plain_command_that_shows_its_dwords() -> None:
    command = c.decode(sqe((0, 0xC1), (2, 9), (10, 0x1234)), admin=True)
    assert type(command) is c.Command
    assert str(command) == "Command(OPC=0xc1, CDW2=9, CDW10=0x1234)"
    assert not command.reserved
    assert c.decode(sqe((0, 0x04C1)), admin=True).reserved == {1: 4}


@pytest.mark.parametrize("size", [0, 63])
def test_too_few_bytes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="needs 64 bytes"):
        c.decode(bytes(size), admin=False)


def test_reserved_depends_on_the_opcode() -> None:
    everything = [(dword, 0xFFFF_FFFF) for dword in (10, 11, 12, 13, 14, 15)]
    assert {offset // 4 for offset in c.decode(sqe((0, 0), *everything), admin=False).reserved} == {10, 11, 12, 13, 14, 15}
    assert {offset // 4 for offset in c.decode(sqe((0, 2), *everything), admin=False).reserved} == {12, 13}
    assert c.decode(sqe((0, 2), (2, 0xFFFF_FFFF), (3, 0x0001_FFFF)), admin=False).reserved == {14: 1}
    assert c.Read.of(MPTR=8, PRP1=8, PRP2=8).reserved == {}


@pytest.mark.parametrize(
    ("command", "length"),
    [
        (c.Identify.of(CNS=1), 4096),
        (c.GetLogPage.of(NUMDL=0xFFFF, NUMDU=1), 0x80000),
        (c.FirmwareDownload.of(NUMD=1023), 4096),
        (c.DatasetManagement.of(NR=255), 4096),
        (c.Copy.of(NR=1, DESFMT=1), 80),
        (c.Copy.of(NR=1, DESFMT=7), None),
        (c.NamespaceManagement.of(SEL=0), 4096),
        (c.NamespaceManagement.of(SEL=1), 0),
        (c.SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES), 0),
        (c.SetFeatures.of(FID=Fid.HOST_IDENTIFIER, CDW11=1), 16),
        (c.GetFeatures.of(FID=Fid.HOST_IDENTIFIER), 8),
        (c.GetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER), 4096),
        (c.SetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER), 0),
        (c.GetFeatures.of(FID=Fid.TIMESTAMP, SEL=c.Select.SUPPORTED_CAPABILITIES), 0),
        (c.GetFeatures.of(FID=0xC0), None),
        (c.CreateIoCq(), 0),
        (c.Flush.of(), 0),
        (c.Read.of(NLB=7), None),
        (c.Verify.of(NLB=7), 0),
        (c.Command.of(OPC=0xC1), None),
        (c.Command.of(OPC=0xC0), 0),
    ],
)
def test_data_length(command: c.Command, length: int | None) -> None:
    assert command.data_length == length


def test_numbers_that_are_zero_based() -> None:
    assert c.Read.of(NLB=0xFFFF).blocks == 0x10000
    assert c.CreateIoSq.of(QSIZE=1).entries == 2
    assert c.DatasetManagement.of(NR=255).ranges == 256
    assert c.GetLogPage.reading(1, 4).NUMDL == 0


@pytest.mark.parametrize("length", [0, 2, 510])
def test_a_log_page_is_read_in_dwords(length: int) -> None:
    with pytest.raises(ValueError, match="dwords"):
        c.GetLogPage.reading(1, length)


def test_transfer_is_the_low_bits_of_the_opcode() -> None:
    assert c.Write.of().transfer == c.Transfer.TO_CONTROLLER
    assert c.Read.of().transfer == c.Transfer.TO_HOST
    assert c.Flush.of().transfer == c.Transfer.NONE


def test_completion_by_hand() -> None:
    raw = bytes.fromhex("785634120000000005000300efbe0bc5")
    entry = Completion(raw)
    assert (entry.DW0, entry.SQHD, entry.SQID, entry.CID, entry.P) == (0x12345678, 5, 3, 0xBEEF, 1)
    assert (entry.SC, entry.SCT, entry.CRD, entry.M, entry.DNR) == (0x85, 2, 0, 1, 1)
    assert entry.status == Status.COMPARE_FAILURE
    assert not entry.ok
    assert entry.text == "Compare Failure (SCT 2h, SC 85h)"
    assert Completion.of(P=1).ok


def test_status_is_found_both_ways() -> None:
    assert Status(0x002) is Status.INVALID_FIELD
    assert (Status.READ_ERROR.sct, Status.READ_ERROR.sc) == (2, 0x81)
    for status in Status:
        assert by_text(status.text.upper()) is status
        assert Status[status.name] is status
        assert describe(status.sct, status.sc).startswith(status.text)
    assert describe(0, 0x7F) == "unknown status (SCT 0h, SC 7Fh)"
    assert describe(7, 1) == "vendor specific status (SCT 7h, SC 01h)"


READ = c.Read.of(CID=7, NSID=1, SLBA=1 << 33, NLB=7, PRP1=0x1000)
ENTRY = Completion.of(CID=7, SCT=1, SC=2)
HOT: dict[str, Callable[[], object]] = {
    "decode": lambda raw=bytes(READ): c.decode(raw, False),  # type: ignore[misc]
    "CID": lambda: READ.CID,
    "OPC": lambda: READ.OPC,
    "NSID": lambda: READ.NSID,
    "SLBA": lambda: READ.SLBA,
    "status": lambda: ENTRY.status,
}


@pytest.mark.parametrize("name", HOT)
def test_what_is_hot_costs_about_a_microsecond(name: str) -> None:
    """Measured 0.2 to 0.5 microseconds; the bound leaves room for a loaded machine, not for another order."""
    call, costs = HOT[name], []
    for _ in range(5):
        start = time.process_time()
        for _ in range(20_000):
            call()
        costs.append((time.process_time() - start) / 20_000)
    print(f"{name}: {min(costs) * 1e9:.0f} ns")
    assert min(costs) < 3e-6


def test_decoding_takes_any_bytes() -> None:
    source = random.Random(1)
    for _ in range(2000):
        raw = source.randbytes(64)
        for admin in (True, False):
            command = c.decode(raw, admin)
            assert bytes(command) == raw
            assert str(command)
            assert command.data_length is None or command.data_length >= 0
