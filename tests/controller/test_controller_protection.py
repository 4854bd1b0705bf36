"""Protection information: what the controller inserts, checks and strips. NVM Command Set 1.0, 5.2."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.controller.fetched import CommandStatusError
from lab.controller.namespaces import StoredNamespace
from lab.controller.protection import check, check_command, generate, strips
from lab.data.plan import Namespace
from lab.nvme.commands import Read, Write
from lab.nvme.status import Status

GUARDED, TAGGED, INSERTED = 0b0100, 0b0001, 0b1000


@pytest.fixture
def namespace(tmp_path: Path) -> StoredNamespace:
    return StoredNamespace(Namespace(blocks=64, metadata_size=8, protection=1), tmp_path / "image")


def test_inserted_information_has_the_tags_of_the_command(namespace: StoredNamespace) -> None:
    data = bytes(range(32)) * 16
    information = generate(namespace, Write.of(SLBA=7, ILBRT=7, LBAT=0x1234), data)
    assert information[2:] == bytes.fromhex("123400000007")
    check(namespace, Read.of(PRINFO=GUARDED | TAGGED, ILBRT=7), data, information)


def test_the_guard_has_the_check_value_of_its_polynomial(namespace: StoredNamespace) -> None:
    """CRC-16/T10-DIF of "123456789", and of zeros."""
    namespace.block_size = 9
    assert generate(namespace, Write.of(), b"123456789")[:2] == b"\xd0\xdb"
    assert generate(namespace, Write.of(), bytes(9))[:2] == bytes(2)


def test_blocks_that_were_never_written_are_not_checked(namespace: StoredNamespace) -> None:
    assert namespace.read_metadata(0, 2) == b"\xff" * 16
    check(namespace, Read.of(PRINFO=GUARDED | TAGGED), bytes(512), namespace.read_metadata(0, 1))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"PRINFO": GUARDED}, Status.GUARD_CHECK_ERROR),
        ({"PRINFO": TAGGED, "ILBRT": 9}, Status.REFERENCE_TAG_CHECK_ERROR),
        ({"PRINFO": 0b0010, "LBAT": 1, "LBATM": 1}, Status.APPLICATION_TAG_CHECK_ERROR),
    ],
)
def test_the_first_check_that_fails_is_reported(namespace: StoredNamespace, fields: dict[str, int], status: Status) -> None:
    information = generate(namespace, Write.of(ILBRT=7), bytes(512))
    with pytest.raises(CommandStatusError) as failed:
        check(namespace, Read.of(**fields), b"\1" * 512, information)
    assert failed.value.status == status


def test_type_1_wants_the_low_half_of_the_lba(namespace: StoredNamespace) -> None:
    check_command(namespace, Read.of(SLBA=1 << 32 | 5, ILBRT=5, PRINFO=TAGGED))
    check_command(namespace, Read.of(SLBA=5, PRINFO=GUARDED))
    with pytest.raises(CommandStatusError):
        check_command(namespace, Read.of(SLBA=5, ILBRT=6, PRINFO=TAGGED))


def test_it_is_stripped_only_where_there_is_nothing_else(namespace: StoredNamespace) -> None:
    assert strips(namespace, Read.of(PRINFO=INSERTED))
    assert not strips(namespace, Read.of(PRINFO=GUARDED))
    namespace.format(0, extended=False)
    assert not strips(namespace, Read.of(PRINFO=INSERTED))
