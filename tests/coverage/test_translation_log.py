from __future__ import annotations

import os

import pytest

from lab.coverage.log import ExecutedCode, LogReader

BLOCK = b"""----------------
IN: nvme_irq
0xffffffffc029e000:  48 89 e5                 movq     %rsp, %rbp
0xffffffffc029e003:  48 c7 84 24 90 00 00 00  movq     $0, 0x90(%rsp)
0xffffffffc029e00b:  00 00 00 00

"""


def test_instructions_are_read_with_their_first_bytes() -> None:
    executed = ExecutedCode()
    assert all(executed.take(line) for line in BLOCK.split(b"\n"))
    assert executed.code[0xFFFFFFFFC029E000] == bytes.fromhex("4889e5")
    assert executed.code[0xFFFFFFFFC029E003] == bytes.fromhex("48c7842490000000")


def test_words_of_another_processor_are_little_endian() -> None:
    executed = ExecutedCode()
    assert executed.take(b"0x40000000:  d503201f  nop")
    assert executed.code == {0x40000000: bytes.fromhex("1f2003d5")}


@pytest.mark.parametrize("line", [b"12@1.5:pci_nvme_irq_msix raising MSI-X IRQ vector 1", b"0xsomething else", b"Trace"])
def test_other_lines_are_not_of_the_log(line: bytes) -> None:
    assert not ExecutedCode().take(line)


def test_what_is_kept_is_bounded() -> None:
    executed = ExecutedCode(most=1)
    for line in BLOCK.split(b"\n"):
        executed.take(line)
    assert (len(executed.code), executed.dropped) == (1, 2)


def test_a_log_is_read_to_its_end_and_a_cut_line_is_left_out() -> None:
    executed = ExecutedCode()
    with LogReader(executed) as reader:
        os.write(reader.write_end, BLOCK + b"0xffffffffc02a0000:  48 8")
    assert len(executed.code) == 3
