"""Defects of asking who the controller is and what it holds."""

from __future__ import annotations

from lab.defects.defect import defect
from lab.nvme.commands import Command, Identify
from lab.nvme.identify import (
    SIZE,
    Cns,
    IdentifyController,
    IdentifyNamespace,
    NamespaceList,
    Nidt,
    namespace_descriptors,
)  # fmt: skip
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.errors import CommandFailed, Refused
from lab.reference.identification import Identification, Identifiers
from lab.reference.namespace import Namespace
from lab.reference.transport import Memory


@defect("identify/prp-covers:half-page")
class HalfPage(DataPath):
    """Identifies into a buffer that begins in the middle of a page, and names that page alone."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return Identify with PRP1 2048 bytes into the page, and without PRP2."""
        described = super().describe(command, memory, offset, length, lists)
        return described.but(PRP1=described.PRP1 + 2048) if isinstance(command, Identify) else described


@defect("identify/strings:terminated", source="EDK2 da7c72740f")
class Terminated(Identification):
    """Puts a terminator over the last character of the serial number, which has none."""

    def controller(self) -> IdentifyController:
        """Return the data with byte 20 of the serial number 0."""
        identity = super().controller()
        return identity.but(SN=identity.SN[:19].ljust(19) + "\0")


@defect("identify/nsid-zero:stale", source="EDK2 3971a4dba9")
class StaleNsid(Identification):
    """Sends NSID 1 with every Identify."""

    def identify(self, cns: Cns, nsid: int = 0) -> bytes:
        """Send NSID 1 where it should be 0."""
        return super().identify(cns, nsid or 1)


@defect("identify/capacity64:low-half", source="U-Boot f81d83d5345")
class LowHalf(Namespace):
    """Takes the capacity from the lower half of NSZE."""

    @property
    def blocks(self) -> int:
        """The lower 32 bits of NSZE."""
        return self.identity.NSZE & 0xFFFF_FFFF


@defect("identify/lba-format:first", source="Genode issue 4832", scenarios=("identify/block-4096",))
class FirstFormat(Namespace):
    """Takes the block size from format 0, whatever FLBAS says."""

    @property
    def block_size(self) -> int:
        """The block size of LBA format 0."""
        return self.identity.formats[0].block_size


@defect("identify/lba-format:stride", source="SeaBIOS 829b0f1a", scenarios=("identify/block-4096",))
class FormatStride(Namespace):
    """Looks for the LBA format in use at half the distance between two of them."""

    @property
    def block_size(self) -> int:
        """The block size of the format at half the index."""
        return self.identity.formats[self.identity.format_index // 2].block_size


@defect("identify/block-4096:fixed-512")
class Always512(Namespace):
    """Takes every block for 512 bytes."""

    @property
    def block_size(self) -> int:
        """512."""
        return 512


@defect("identify/mdts:twice", scenarios=("read/mdts",))
class TwiceMdts(Controller):
    """Takes MDTS for a power of two of half pages, and so sends twice what the controller can move."""

    @property
    def max_transfer(self) -> int | None:
        """Twice the limit in bytes; None without a limit."""
        limit = super().max_transfer
        return None if limit is None else 2 * limit


@defect("identify/optional-bits:shifted", source="U-Boot nvme_show.c at 6073c36b2c8")
class Shifted(Identification):
    """Reads the bits of ONCS one place too low."""

    def controller(self) -> IdentifyController:
        """Return the data with ONCS shifted right by one bit."""
        identity = super().controller()
        return identity.but(ONCS=identity.ONCS >> 1)


@defect("identify/format-count:drops-the-last", source="U-Boot nvme_show.c at 6073c36b2c8")
class DropsTheLast(Identification):
    """Takes NLBAF for the number of formats."""

    def namespace(self, nsid: int) -> IdentifyNamespace | None:
        """Return the data with one format too few."""
        found = super().namespace(nsid)
        return found.but(NLBAF=found.NLBAF - 1) if found else None


@defect("identify/inactive:all-of-nn", source="U-Boot 478f7fc6a04", scenarios=("identify/inactive",))
class AllOfNn(Identification):
    """Makes a disk of every namespace id up to NN."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return all ids up to NN."""
        return list(range(1, identity.NN + 1))

    def namespace(self, nsid: int) -> IdentifyNamespace:
        """Return the data of an id, also where it is all zeros because the namespace is inactive."""
        return IdentifyNamespace(self.identify(Cns.NAMESPACE, nsid))


@defect("identify/cns2-by-version:always", source="SeaBIOS f21e3044")
class AlwaysTheList(Identification):
    """Asks for the active namespace list, also a controller of 1.0, which does not know it."""

    def active_namespaces(self, identity: IdentifyController) -> list[int]:
        """Return the list of CNS 02h, whatever the version."""
        return list(NamespaceList(self.identify(Cns.ACTIVE_NAMESPACES)).ids)


@defect("identify/metadata-format:unseen", source="EDK2 79f2734e5a")
class MetadataUnseen(Namespace):
    """Reads a format with metadata as if there were none."""

    @property
    def unsupported_reason(self) -> str:
        """Nothing: every format is supported."""
        return ""


@defect("identify/failure:zeros")
class GoesOnWithZeros(Identification):
    """Takes the zeroed buffer for the answer when Identify fails."""

    def identify(self, cns: Cns, nsid: int = 0) -> bytes:
        """Return the data, or 4096 zeros if the command fails."""
        try:
            return super().identify(cns, nsid)
        except CommandFailed:
            return bytes(SIZE)


@defect("identify/capacity64:provisioned", scenarios=("identify/thin",))
class Provisioned(Namespace):
    """Takes NCAP, the blocks that may be allocated, for the size."""

    @property
    def blocks(self) -> int:
        """Return NCAP."""
        return self.identity.NCAP


@defect("read/exact:limit-of-32-bits", scenarios=("identify/mdts-huge",))
class LimitOf32Bits(Controller):
    """Computes the transfer limit in 32 bits, where 2^32 bytes are 0, and sends nothing longer than that."""

    @property
    def max_transfer(self) -> int | None:
        """Return the limit without what 32 bits do not hold."""
        limit = super().max_transfer
        if limit is not None and not limit & 0xFFFF_FFFF:
            raise Refused("the controller moves no data at all: its transfer limit is 0 bytes")
        return limit


@defect("every/unusual-device:unknown-identifier", scenarios=("identify/unknown-descriptor",))
class UnknownIdentifier(Identification):
    """Takes a namespace with an identifier of an unknown type for damaged."""

    def identifiers(self, nsid: int, identity: IdentifyNamespace) -> Identifiers:
        """Refuse what is not known."""
        raw = self.identify(Cns.NAMESPACE_DESCRIPTORS, nsid)
        known = {int(kind) for kind in Nidt}
        if any(kind not in known for kind, _ in namespace_descriptors(raw)):
            raise Refused(f"namespace {nsid} has an identifier of an unknown type")
        return super().identifiers(nsid, identity)
