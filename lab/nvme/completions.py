"""The completion queue entry. Base 2.0, 3.3.3.2 "Common Completion Queue Entry"."""

from __future__ import annotations

from lab.nvme.fields import U16, U32, Bits, Structure
from lab.nvme.status import describe


class Completion(Structure, size=16):
    """Sixteen bytes that the controller writes into a completion queue."""

    DW0 = U32(0)  # command specific
    DW1 = U32(4)  # command specific
    SQHD = U16(8)  # submission queue head pointer
    SQID = U16(10)
    CID = U16(12)
    P = Bits(16, dword=3)  # phase tag
    SC = Bits(24, 17, dword=3)
    SCT = Bits(27, 25, dword=3)
    CRD = Bits(29, 28, dword=3)  # command retry delay: index into CRDT1..3
    M = Bits(30, dword=3)  # more about it in the Error Information log page
    DNR = Bits(31, dword=3)  # do not retry

    @property
    def status(self) -> int:
        """``SCT << 8 | SC``, the values of `lab.nvme.status.Status`."""
        return self[14] >> 1 | (self[15] & 0xF) << 7

    @property
    def ok(self) -> bool:
        """Whether the command was successful."""
        return not self.status

    @property
    def text(self) -> str:
        """The status in words."""
        return describe(self.SCT, self.SC)
