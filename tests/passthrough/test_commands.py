"""What goes out for a request: counts, opcodes, and what needs a yes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from lab.nvme import commands as nvme
from lab.nvme.commands import Command
from lab.passthrough import commands, consent, lengths, structures
from lab.passthrough.errors import BadLengthError, NeedsYesError
from lab.passthrough.lengths import Format
from lab.passthrough.request import Request

OPCODES = {
    "identify": (commands.identify(), 0x06), "log": (commands.get_log_page(2, 512), 0x02),
    "commit": (commands.firmware_commit(2, 1), 0x10), "download": (commands.firmware_download(bytes(8)), 0x11),
    "format": (commands.format_nvm(1), 0x80), "read": (commands.read(1, 0, 1, 512), 0x02),
    "write": (commands.write(1, 0, bytes(512), 512), 0x01), "trim": (commands.dataset_management(1, [(0, 8)]), 0x09),
    "zeroes": (commands.write_zeroes(1, 0, 1), 0x08), "compare": (commands.compare(1, 0, bytes(512), 512), 0x05),
}  # fmt: skip
"""Base 2.0, Figure 138 and NVM Command Set 1.0, Figure 23."""


@pytest.mark.parametrize(("request_", "opcode"), OPCODES.values(), ids=OPCODES)
def test_opcodes_are_those_of_the_specification(request_: Request, opcode: int) -> None:
    assert request_.command.OPC == opcode
    assert len(request_.command) == 64


@pytest.mark.parametrize(("blocks", "field"), [(1, 0), (8, 7), (65536, 65535)])
def test_a_count_of_blocks_goes_out_zeros_based(blocks: int, field: int) -> None:
    request = commands.read(1, 0x1_2345_6789, blocks, 512)
    assert (request.command.CDW12 & 0xFFFF, request.command.CDW11, request.command.CDW10) == (field, 1, 0x2345_6789)
    assert request.data_length == blocks * 512


@pytest.mark.parametrize("blocks", [0, -1, 65537])
def test_a_count_that_no_command_carries_is_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match=f"the number of blocks is {blocks}; a command carries 1 to 65536"):
        commands.read(1, 0, blocks, 512)


def test_ranges_of_dataset_management_are_the_one_count_that_is_not_zeros_based() -> None:
    request = commands.dataset_management(1, [(5, 3), (1 << 33, 9)])
    assert request.command.CDW10 == 1
    assert request.command.CDW11 == 4
    assert request.data[:16] == bytes(4) + (3).to_bytes(4, "little") + (5).to_bytes(8, "little")


@pytest.mark.parametrize("make", [lambda: commands.write(1, 0, bytes(513), 512), lambda: commands.compare(1, 0, b"", 512)])
def test_data_that_is_no_whole_number_of_blocks_is_refused(make: Callable[[], Request]) -> None:
    with pytest.raises(ValueError, match="no whole number of blocks"):
        make()


@pytest.mark.parametrize("kind", [structures.PassthruCmd, structures.PassthruCmd64, structures.UringCmd])
def test_every_field_of_a_command_is_where_the_kernel_looks_for_it(kind: type[ctypes.Structure]) -> None:
    dwords = {f"CDW{number}": 0x1111_1111 * number & 0xFFFF_FFFF for number in (2, 3, *range(10, 16))}
    request = Request(Command.of(OPC=0xC5, NSID=7, FUSE=1, **dwords), "admin", bytes(24), metadata=bytes(8), timeout_ms=99)
    made = kind.from_buffer_copy(structures.whole(kind, request, 0x1000, 0x2000))
    fields = {name: getattr(made, name) for name, *_ in kind._fields_}
    meant = {name.lower(): value for name, value in dwords.items()}
    meant |= {"opcode": 0xC5, "flags": 1, "nsid": 7, "addr": 0x1000, "metadata": 0x2000, "data_len": 24, "metadata_len": 8}
    assert {name: value for name, value in fields.items() if value} == {**meant, "timeout_ms": 99}


def test_a_read_for_the_oldest_ioctl_is_spread_over_named_fields() -> None:
    request = commands.read(1, 0x1_0000_0005, 3, 512, LBAT=7, LBATM=8, ILBRT=9, DSM=10, FUA=1)
    made = structures.UserIo.from_buffer_copy(structures.user_io(request, 0x1000, 0))
    assert (made.opcode, made.slba, made.nblocks, made.addr) == (2, 0x1_0000_0005, 2, 0x1000)
    assert (made.apptag, made.appmask, made.reftag, made.dsmgmt, made.control) == (7, 8, 9, 10, 1 << 14)


def test_a_vendor_command_keeps_its_dwords_and_its_range() -> None:
    request = commands.vendor("io", 0x81, nsid=3, CDW2=1, CDW15=0xFFFF_FFFF, data=b"x" * 16)
    assert (request.command.OPC, request.command.CDW2, request.command.CDW15) == (0x81, 1, 0xFFFF_FFFF)
    assert request.to_controller
    with pytest.raises(ValueError, match=r"81h is not vendor specific on an admin queue: C0h to FFh"):
        commands.vendor("admin", 0x81)


DESTRUCTIVE = {
    "format": (commands.format_nvm(3), "all data of namespace 3"),
    "format all": (commands.format_nvm(nvme.BROADCAST_NSID), "every namespace of the controller"),
    "sanitize": (Request(nvme.Sanitize.of(SANACT=2), "admin"), "the whole NVM subsystem"),
    "commit": (commands.firmware_commit(2, 1), "the firmware in slot 2"),
    "download": (commands.firmware_download(bytes(4)), "firmware image"),
    "delete": (Request(nvme.NamespaceManagement.of(SEL=1, NSID=4), "admin"), "namespace 4 and all its data"),
    "uncorrectable": (Request(nvme.WriteUncorrectable.of(NSID=1, SLBA=9, NLB=0), "io"), "1 blocks from LBA 9 of namespace 1"),
}


@pytest.mark.parametrize(("request_", "lost"), DESTRUCTIVE.values(), ids=DESTRUCTIVE)
def test_what_destroys_data_needs_a_yes_and_the_error_names_the_loss(request_: Request, lost: str) -> None:
    with pytest.raises(NeedsYesError, match=f"on /dev/nvme0 would destroy .*{lost}.*yes=True"):
        consent.require_yes(request_, "/dev/nvme0", yes=False)
    consent.require_yes(request_, "/dev/nvme0", yes=True)


@pytest.mark.parametrize("request_", [Request(Command(bytes(one.command)), one.queue) for one, _ in DESTRUCTIVE.values()])
def test_what_a_command_destroys_follows_from_its_bytes_alone(request_: Request) -> None:
    with pytest.raises(NeedsYesError):
        consent.require_yes(request_, "/dev/nvme0", yes=False)


HARMLESS = {
    "read": commands.read(1, 0, 1, 512), "write": commands.write(1, 0, bytes(512), 512),
    "create": Request(nvme.NamespaceManagement.of(SEL=0), "admin", data=bytes(4096)),
    "exit failure mode": Request(nvme.Sanitize.of(SANACT=1), "admin"),
    "vendor I/O command with the opcode of Format": Request(Command.of(OPC=0x80), "io"),
}  # fmt: skip


@pytest.mark.parametrize("request_", HARMLESS.values(), ids=HARMLESS)
def test_what_destroys_nothing_needs_no_yes(request_: Request) -> None:
    consent.require_yes(request_, "/dev/nvme0", yes=False)


SEPARATE, EXTENDED = Format(512, 8), Format(512, 8, extended=True)
FITTING = {
    "read": (commands.read(1, 0, 4, 512), Format(512)),
    "read of larger blocks": (commands.read(1, 0, 4, 4096), Format(4096)),
    "metadata of its own": (commands.read(1, 0, 4, 512, metadata_size=8), SEPARATE),
    "metadata left out": (commands.read(1, 0, 4, 512), SEPARATE),
    "metadata in the block": (commands.read(1, 0, 4, 520), EXTENDED),
    "write zeroes": (commands.write_zeroes(1, 0, 4), Format(512)),
    "ranges": (commands.dataset_management(1, [(0, 1), (2, 3)]), Format(512)),
    "identify": (commands.identify(), None),
    "log page": (commands.get_log_page(2, 512), None),
    "vendor": (commands.vendor("io", 0x82, length=77), Format(512)),
    "an unknown format": (commands.read(1, 0, 4, 512), None),
}


@pytest.mark.parametrize(("request_", "format"), FITTING.values(), ids=FITTING)
def test_a_buffer_that_fits_passes(request_: Request, format: Format | None) -> None:
    lengths.check(request_, format)


WRONG = {
    "too short": (Request(nvme.Read.of(NSID=1, NLB=7), "io", length=512), Format(512), "moves 4096 bytes.*has 512"),
    "too long": (Request(nvme.Read.of(NSID=1, NLB=0), "io", length=4096), Format(512), "moves 512 bytes.*has 4096"),
    "none": (Request(nvme.Write.of(NSID=1, NLB=0), "io"), Format(512), "moves 512 bytes.*has 0"),
    "blocks of another size": (commands.read(1, 0, 1, 512), Format(4096), "moves 4096 bytes.*has 512"),
    "metadata too short": (
        Request(nvme.Read.of(NSID=1, NLB=1), "io", length=1024, metadata_length=8), SEPARATE, "16 bytes of metadata.*has 8",
    ),
    "metadata where there is none": (commands.read(1, 0, 1, 512, metadata_size=8), Format(512), "0 bytes of metadata"),
    "data for a command without any": (Request(nvme.WriteZeroes.of(NSID=1), "io", data=b"x"), Format(512), "."),
    "identify": (Request(nvme.Identify.of(CNS=1), "admin", length=512), None, "moves 4096 bytes.*has 512"),
    "log page": (Request(nvme.GetLogPage.reading(2, 512), "admin", length=4096), None, "moves 512 bytes"),
    "data the wrong way": (Request(nvme.Read.of(NSID=1), "io", data=bytes(512)), Format(512), "moves data to the host"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "format", "words"), WRONG.values(), ids=WRONG)
def test_a_buffer_that_does_not_fit_is_refused_with_both_lengths(request_: Request, format: Format | None, words: str) -> None:
    with pytest.raises(BadLengthError, match=words):
        lengths.check(request_, format)
