"""Every offset, size and number that goes to a kernel, against its own headers: static assertions that gcc checks."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.passthrough import structures, uring, windows
from lab.passthrough.structures import Ioctl
from tests.passthrough.conftest import Headers

STRUCTURES: dict[type[ctypes.Structure], str] = {
    structures.UserIo: "struct nvme_user_io",
    structures.PassthruCmd: "struct nvme_passthru_cmd",
    structures.PassthruCmd64: "struct nvme_passthru_cmd64",
    structures.UringCmd: "struct nvme_uring_cmd",
    uring.SubmissionOffsets: "struct io_sqring_offsets",
    uring.CompletionOffsets: "struct io_cqring_offsets",
    uring.Parameters: "struct io_uring_params",
}
ENTRY = {"cmd_op": "cmd_op", "pad1": "__pad1", "cmd": "cmd", "unused": None}
COMPLETION = {"result": "big_cqe", "extra": None}
"""Where our names of an io_uring's entries are not theirs; None: a part of something that has no name there."""
OPEN_ENDED = ("cmd", "big_cqe")
"""Arrays without a length, which entries of the large kind fill."""
NUMBERS = {
    "IORING_SETUP_SQE128": uring.SQE128, "IORING_SETUP_CQE32": uring.CQE32, "IORING_ENTER_GETEVENTS": uring.GETEVENTS,
    "IORING_FEAT_SINGLE_MMAP": uring.SINGLE_MMAP, "IORING_OP_URING_CMD": uring.URING_CMD,
    "IORING_OFF_SQ_RING": uring.OFF_RINGS, "IORING_OFF_SQES": uring.OFF_ENTRIES, "NVME_IOCTL_ID": structures.ID,
}  # fmt: skip


def fields(kind: type[ctypes.Structure], theirs: str, names: dict[str, str | None] | None = None) -> Iterator[str]:
    for name, *_ in kind._fields_:
        there = (names or {}).get(name, name)
        if there is not None:
            yield f"offsetof({theirs}, {there}) == {getattr(kind, name).offset}"
            if there not in OPEN_ENDED:
                yield f"sizeof((({theirs} *)0)->{there}) == {getattr(kind, name).size}"


def linux_claims() -> Iterator[str]:
    for kind, theirs in STRUCTURES.items():
        yield f"sizeof({theirs}) == {ctypes.sizeof(kind)}"
        yield from fields(kind, theirs)
    yield from fields(uring.Entry, "struct io_uring_sqe", ENTRY)
    yield from fields(uring.Completion, "struct io_uring_cqe", COMPLETION)
    yield f"sizeof(struct io_uring_sqe) + 64 == {ctypes.sizeof(uring.Entry)}"
    yield f"sizeof(struct io_uring_cqe) + 16 == {ctypes.sizeof(uring.Completion)}"
    for number in Ioctl:
        prefix = "NVME_" if number.name.startswith("URING") else "NVME_IOCTL_"
        yield f"(unsigned int){prefix}{number.name} == {number.value}U"
    for name, value in NUMBERS.items():
        yield f"(unsigned long long){name} == {value}ULL"


def windows_claims() -> Iterator[str]:
    command = "STORAGE_PROTOCOL_COMMAND"
    for place, name in enumerate(windows.FIELDS):
        yield f"offsetof({command}, {name}) == {place * 4} && sizeof((({command} *)0)->{name}) == 4"
    yield f"offsetof({command}, Command) == {windows.COMMAND_OFFSET}"
    yield f"sizeof({command}) == {windows.LENGTH}"
    yield f"IOCTL_STORAGE_PROTOCOL_COMMAND == {windows.CONTROL_CODE}"
    yield f"STORAGE_PROTOCOL_STRUCTURE_VERSION == {windows.VERSION} && ProtocolTypeNvme == {windows.NVME}"
    yield f"STORAGE_PROTOCOL_COMMAND_LENGTH_NVME == {windows.COMMAND_LENGTH}"
    yield f"STORAGE_PROTOCOL_COMMAND_FLAG_ADAPTER_REQUEST == {windows.ADAPTER_REQUEST}"
    yield f"STORAGE_PROTOCOL_SPECIFIC_NVME_ADMIN_COMMAND == {windows.ADMIN}"
    yield f"STORAGE_PROTOCOL_SPECIFIC_NVME_NVM_COMMAND == {windows.NVM}"
    for status in windows.ReturnStatus:
        yield f"STORAGE_PROTOCOL_STATUS_{status.name} == {status.value}"


def test_linux_has_these_layouts_and_numbers(linux_headers: Headers, tmp_path: Path) -> None:
    claims = list(linux_claims())
    assert len(claims) > 150
    assert linux_headers.disagreements(claims, tmp_path / "proof.o") == ""


def test_windows_has_these_layouts_and_numbers(windows_headers: Headers, tmp_path: Path) -> None:
    claims = list(windows_claims())
    assert len(claims) > 30
    assert windows_headers.disagreements(claims, tmp_path / "proof.o") == ""


def test_gcc_would_disagree_with_a_wrong_offset_of_linux(linux_headers: Headers, tmp_path: Path) -> None:
    claim = "offsetof(struct nvme_passthru_cmd, addr) == 25"
    assert claim in linux_headers.disagreements([claim], tmp_path / "proof.o")


def test_gcc_would_disagree_with_a_wrong_offset_of_windows(windows_headers: Headers, tmp_path: Path) -> None:
    claim = "offsetof(STORAGE_PROTOCOL_COMMAND, Command) == 81"
    assert claim in windows_headers.disagreements([claim], tmp_path / "proof.o")


def test_a_pointer_and_a_dword_are_as_wide_as_on_windows(windows_headers: Headers, tmp_path: Path) -> None:
    assert windows_headers.disagreements(["sizeof(DWORD) == 4", "sizeof(void *) == 8"], tmp_path / "proof.o") == ""


@pytest.mark.parametrize("kind", STRUCTURES, ids=STRUCTURES.values())
def test_no_member_is_left_out(kind: type[ctypes.Structure]) -> None:
    ends = [getattr(kind, name).offset + getattr(kind, name).size for name, *_ in kind._fields_]
    assert [getattr(kind, name).offset for name, *_ in kind._fields_] == [0, *ends[:-1]]
    assert ctypes.sizeof(kind) - ends[-1] < ctypes.alignment(kind)
