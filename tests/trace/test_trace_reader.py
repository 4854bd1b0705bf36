from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lab.data.events import Event, Interrupt, RegisterWrite, Unknown
from lab.data.evidence import Evidence, EvidenceWriter
from lab.data.identity import DriverIdentity, Identity
from lab.deadline import Deadline
from lab.errors import GuestTimeoutError, LabError
from lab.trace.declarations import Declaration, Declarations
from lab.trace.reader import TraceReader
from lab.trace.translator import Translator

DECLARED = (
    'pci_nvme_irq_msix(uint32_t vector) "raising MSI-X IRQ vector %u"',
    'pci_nvme_mmio_write(uint64_t addr, uint64_t data, unsigned size) "addr 0x%"PRIx64" data 0x%"PRIx64" size %d"',
    'pci_cfg_write(const char *dev, uint32_t offs, uint32_t val) "%s @0x%x <- 0x%x"',
)
IRQ = b"1@5.000001:pci_nvme_irq_msix raising MSI-X IRQ vector 3\n"
HALF = b"1@5.000002:pci_nvme_mmio_write addr 0x28 data 0x1000 size 4\n"
FOREIGN = b"1@5.000003:pci_cfg_write virtio-net-pci @0x4 <- 0x6\n"


def reader(folder: Path) -> TraceReader:
    declarations = Declarations(d for line in DECLARED if (d := Declaration.of(line)) is not None)
    writer = EvidenceWriter(folder, Identity(driver=DriverIdentity(name="some"), device="qemu", scenario={}))
    return TraceReader(declarations, Translator(["nv0"]), writer)


def test_lines_become_events_and_are_kept_as_they_came(tmp_path: Path) -> None:
    trace = reader(tmp_path / "e")
    os.write(trace.write_end, IRQ + FOREIGN + b"what is this\n" + HALF + IRQ[:20])  # QEMU was killed in the middle of a line
    trace.close(Deadline(10))
    trace._evidence.close("complete")
    evidence = Evidence(tmp_path / "e")
    kinds = [type(e) for e in evidence.events()]
    assert sorted(k.__name__ for k in kinds) == ["Interrupt", "RegisterWrite", "Unknown", "Unknown"]
    assert {e.text for e in evidence.events() if isinstance(e, Unknown)} == {"what is this", IRQ[:20].decode()}
    assert evidence.end is not None
    assert evidence.end.unknown == 2
    assert (tmp_path / "e/trace.log").read_bytes() == IRQ + b"what is this\n" + HALF + IRQ[:20] + b"\n"
    assert (trace.lines, trace.foreign) == (4, 1)
    assert {Interrupt, RegisterWrite} <= set(kinds)


def test_a_trace_that_does_not_end_is_a_timeout_with_its_last_line(tmp_path: Path) -> None:
    trace = reader(tmp_path / "e")
    held = os.dup(trace.write_end)  # as a QEMU that is still there
    os.write(held, IRQ)
    with pytest.raises(GuestTimeoutError, match=r"did not end within 0\.5 s.*vector 3"):
        trace.close(Deadline(0.5))
    os.close(held)
    trace.close(Deadline(10))


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (LabError("evidence cannot be written"), "evidence cannot be written"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (AssertionError("a bug"), "could not translate .* AssertionError"),
    ],
    ids=["lab-error", "full-disk", "bug"],
)
def test_after_any_failure_the_pipe_is_drained_and_close_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, says: str
) -> None:
    def refuse(self: EvidenceWriter, event: Event) -> None:
        raise failure

    monkeypatch.setattr(EvidenceWriter, "record", refuse)
    trace = reader(tmp_path / "e")
    for _ in range(64):  # much more than the pipe holds
        os.write(trace.write_end, IRQ * 1000)
    with pytest.raises(LabError, match=says):
        trace.close(Deadline(30))
    assert trace.lines == 64_000
