"""The controller's own memory: where the host lets it be, what may lie there, and what ends it. Base 2.0, 8.5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import UsageError
from lab.nvme.commands import CreateIoCq, CreateIoSq
from lab.nvme.registers import CMBLOC, CMBMSC, CMBSTS, CMBSZ
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

AT = 0x40_0000_0000
MIB = 1 << 20


def place(host: Host, address: int) -> bool:
    """Let the controller find its memory there, and return whether it does."""
    control = CMBMSC.of(CRE=1, CMSE=1, CBA=address >> 12)
    host.function.write(CMBMSC.OFFSET + 4, 4, control >> 32)
    host.function.write(CMBMSC.OFFSET, 4, control & 0xFFFF_FFFF)
    return not CMBSTS(host.function.read(CMBSTS.OFFSET, 4)).CBAI


def create(host: Host, address: int) -> int:
    """Return the status of an I/O queue pair whose submission queue is there, for commands that never come."""
    host.admin(CreateIoCq.of(QID=2, QSIZE=63, PC=1, PRP1=host.pages()))
    return host.do(CreateIoSq.of(QID=2, QSIZE=63, PC=1, CQID=2, PRP1=address)).status


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    return make_host(controller_memory=2).up()


def test_its_size_shows_once_the_host_asks_for_it(host: Host) -> None:
    assert host.function.read(CMBSZ.OFFSET, 4) == host.function.read(CMBLOC.OFFSET, 4) == 0
    host.function.write(CMBMSC.OFFSET, 4, CMBMSC.of(CRE=1))
    size, where = CMBSZ(host.function.read(CMBSZ.OFFSET, 4)), CMBLOC(host.function.read(CMBLOC.OFFSET, 4))
    assert (size.SQS, size.CQS, size.LISTS, size.SZU, size.SZ, where.BIR) == (1, 0, 0, 2, 2, 2)
    assert len(host.function.own_memory) == 2 * MIB


def test_a_submission_queue_lies_in_it(host: Host) -> None:
    assert place(host, AT)
    assert create(host, AT + 4096) == Status.SUCCESS
    assert host.remarks() == ["controller-memory", "controller-memory-queue"]


@pytest.mark.parametrize("address", [AT + 2 * MIB - 4096, AT - 4096], ids=["beyond", "before"])
def test_no_queue_lies_in_it_by_a_part(host: Host, address: int) -> None:
    assert place(host, AT)
    host.admin(CreateIoCq.of(QID=2, QSIZE=63, PC=1, PRP1=host.pages()))
    command = CreateIoSq.of(QID=2, QSIZE=127, PC=1, CQID=2, PRP1=address)
    assert host.do(command).status == Status.CMB_INVALID_USE


def test_no_completion_queue_lies_in_it(host: Host) -> None:
    assert place(host, AT)
    assert host.do(CreateIoCq.of(QID=2, QSIZE=63, PC=1, PRP1=AT)).status == Status.CMB_INVALID_USE


def test_it_is_not_where_the_memory_of_the_host_is(host: Host) -> None:
    assert not place(host, host.pages())
    assert place(host, AT)


def test_a_reset_of_the_controller_keeps_it_and_one_of_the_function_does_not(host: Host) -> None:
    assert place(host, AT)
    host.disable()
    host.up()
    assert create(host, AT) == Status.SUCCESS
    host.function.controller.reset("flr")
    host.memory_space()
    assert host.function.read(CMBMSC.OFFSET, 4) == 0


def test_without_it_nothing_is_announced_and_its_size_must_be_possible(make_host: MakeHost) -> None:
    plain = make_host().up()
    assert not plain.function.own_memory
    plain.function.write(CMBMSC.OFFSET, 4, 1)
    assert plain.remarks() == ["reserved-register"]
    with pytest.raises(UsageError, match="not a power of two"):
        make_host(controller_memory=3)
