"""Status codes. Base 2.0, 3.3.3.2.1 "Status Field Definition"; NVM Command Set 1.0 and Zoned Namespaces 1.1 for theirs.

A status is one number here, ``SCT << 8 | SC``; CRD, M and DNR of a completion are not part of it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class StatusType(IntEnum):
    """Status Code Type."""

    GENERIC = 0
    COMMAND_SPECIFIC = 1
    MEDIA = 2
    PATH = 3
    VENDOR = 7


class Status(IntEnum):
    """Every status code: ``Status.INVALID_FIELD`` is 002h, its ``text`` "Invalid Field in Command".

    From a number: ``Status(0x281)``; from a name: ``Status["READ_ERROR"]``. Codes whose meaning depends on the command
    set (80h to BFh) are those of the NVM and Zoned Namespace command sets.
    """

    text: str

    def __new__(cls, value: int, text: str = "") -> Self:
        """Make a member of its number and its text."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member

    # Generic command status
    SUCCESS = 0x000, "Successful Completion"
    INVALID_OPCODE = 0x001, "Invalid Command Opcode"
    INVALID_FIELD = 0x002, "Invalid Field in Command"
    COMMAND_ID_CONFLICT = 0x003, "Command ID Conflict"
    DATA_TRANSFER_ERROR = 0x004, "Data Transfer Error"
    ABORTED_POWER_LOSS = 0x005, "Commands Aborted due to Power Loss Notification"
    INTERNAL_ERROR = 0x006, "Internal Error"
    ABORT_REQUESTED = 0x007, "Command Abort Requested"
    ABORTED_SQ_DELETION = 0x008, "Command Aborted due to SQ Deletion"
    ABORTED_FAILED_FUSED = 0x009, "Command Aborted due to Failed Fused Command"
    ABORTED_MISSING_FUSED = 0x00A, "Command Aborted due to Missing Fused Command"
    INVALID_NAMESPACE = 0x00B, "Invalid Namespace or Format"
    COMMAND_SEQUENCE_ERROR = 0x00C, "Command Sequence Error"
    SGL_INVALID_SEGMENT = 0x00D, "Invalid SGL Segment Descriptor"
    SGL_INVALID_COUNT = 0x00E, "Invalid Number of SGL Descriptors"
    SGL_DATA_LENGTH_INVALID = 0x00F, "Data SGL Length Invalid"
    SGL_METADATA_LENGTH_INVALID = 0x010, "Metadata SGL Length Invalid"
    SGL_TYPE_INVALID = 0x011, "SGL Descriptor Type Invalid"
    CMB_INVALID_USE = 0x012, "Invalid Use of Controller Memory Buffer"
    PRP_OFFSET_INVALID = 0x013, "PRP Offset Invalid"
    ATOMIC_WRITE_UNIT_EXCEEDED = 0x014, "Atomic Write Unit Exceeded"
    OPERATION_DENIED = 0x015, "Operation Denied"
    SGL_OFFSET_INVALID = 0x016, "SGL Offset Invalid"
    HOST_ID_INCONSISTENT_FORMAT = 0x018, "Host Identifier Inconsistent Format"
    KEEP_ALIVE_EXPIRED = 0x019, "Keep Alive Timer Expired"
    KEEP_ALIVE_INVALID = 0x01A, "Keep Alive Timeout Invalid"
    ABORTED_PREEMPT = 0x01B, "Command Aborted due to Preempt and Abort"
    SANITIZE_FAILED = 0x01C, "Sanitize Failed"
    SANITIZE_IN_PROGRESS = 0x01D, "Sanitize In Progress"
    SGL_GRANULARITY_INVALID = 0x01E, "SGL Data Block Granularity Invalid"
    COMMAND_NOT_SUPPORTED_IN_CMB = 0x01F, "Command Not Supported for Queue in CMB"
    NAMESPACE_WRITE_PROTECTED = 0x020, "Namespace is Write Protected"
    COMMAND_INTERRUPTED = 0x021, "Command Interrupted"
    TRANSIENT_TRANSPORT_ERROR = 0x022, "Transient Transport Error"
    PROHIBITED_BY_LOCKDOWN = 0x023, "Command Prohibited by Command and Feature Lockdown"
    ADMIN_MEDIA_NOT_READY = 0x024, "Admin Command Media Not Ready"
    LBA_OUT_OF_RANGE = 0x080, "LBA Out of Range"
    CAPACITY_EXCEEDED = 0x081, "Capacity Exceeded"
    NAMESPACE_NOT_READY = 0x082, "Namespace Not Ready"
    RESERVATION_CONFLICT = 0x083, "Reservation Conflict"
    FORMAT_IN_PROGRESS = 0x084, "Format In Progress"

    # Command specific status
    CQ_INVALID = 0x100, "Completion Queue Invalid"
    QID_INVALID = 0x101, "Invalid Queue Identifier"
    QUEUE_SIZE_INVALID = 0x102, "Invalid Queue Size"
    ABORT_LIMIT_EXCEEDED = 0x103, "Abort Command Limit Exceeded"
    ASYNC_EVENT_LIMIT_EXCEEDED = 0x105, "Asynchronous Event Request Limit Exceeded"
    FIRMWARE_SLOT_INVALID = 0x106, "Invalid Firmware Slot"
    FIRMWARE_IMAGE_INVALID = 0x107, "Invalid Firmware Image"
    INTERRUPT_VECTOR_INVALID = 0x108, "Invalid Interrupt Vector"
    LOG_PAGE_INVALID = 0x109, "Invalid Log Page"
    FORMAT_INVALID = 0x10A, "Invalid Format"
    FIRMWARE_NEEDS_CONVENTIONAL_RESET = 0x10B, "Firmware Activation Requires Conventional Reset"
    QUEUE_DELETION_INVALID = 0x10C, "Invalid Queue Deletion"
    FEATURE_NOT_SAVEABLE = 0x10D, "Feature Identifier Not Saveable"
    FEATURE_NOT_CHANGEABLE = 0x10E, "Feature Not Changeable"
    FEATURE_NOT_NAMESPACE_SPECIFIC = 0x10F, "Feature Not Namespace Specific"
    FIRMWARE_NEEDS_SUBSYSTEM_RESET = 0x110, "Firmware Activation Requires NVM Subsystem Reset"
    FIRMWARE_NEEDS_RESET = 0x111, "Firmware Activation Requires Controller Level Reset"
    FIRMWARE_NEEDS_MAX_TIME = 0x112, "Firmware Activation Requires Maximum Time Violation"
    FIRMWARE_ACTIVATION_PROHIBITED = 0x113, "Firmware Activation Prohibited"
    OVERLAPPING_RANGE = 0x114, "Overlapping Range"
    NAMESPACE_INSUFFICIENT_CAPACITY = 0x115, "Namespace Insufficient Capacity"
    NAMESPACE_ID_UNAVAILABLE = 0x116, "Namespace Identifier Unavailable"
    NAMESPACE_ALREADY_ATTACHED = 0x118, "Namespace Already Attached"
    NAMESPACE_IS_PRIVATE = 0x119, "Namespace Is Private"
    NAMESPACE_NOT_ATTACHED = 0x11A, "Namespace Not Attached"
    THIN_PROVISIONING_NOT_SUPPORTED = 0x11B, "Thin Provisioning Not Supported"
    CONTROLLER_LIST_INVALID = 0x11C, "Controller List Invalid"
    SELF_TEST_IN_PROGRESS = 0x11D, "Device Self-test In Progress"
    BOOT_PARTITION_WRITE_PROHIBITED = 0x11E, "Boot Partition Write Prohibited"
    CONTROLLER_ID_INVALID = 0x11F, "Invalid Controller Identifier"
    SECONDARY_CONTROLLER_STATE_INVALID = 0x120, "Invalid Secondary Controller State"
    CONTROLLER_RESOURCES_INVALID = 0x121, "Invalid Number of Controller Resources"
    RESOURCE_ID_INVALID = 0x122, "Invalid Resource Identifier"
    SANITIZE_PROHIBITED_BY_PMR = 0x123, "Sanitize Prohibited While Persistent Memory Region is Enabled"
    ANA_GROUP_ID_INVALID = 0x124, "ANA Group Identifier Invalid"
    ANA_ATTACH_FAILED = 0x125, "ANA Attach Failed"
    INSUFFICIENT_CAPACITY = 0x126, "Insufficient Capacity"
    NAMESPACE_ATTACHMENT_LIMIT_EXCEEDED = 0x127, "Namespace Attachment Limit Exceeded"
    PROHIBITION_NOT_SUPPORTED = 0x128, "Prohibition of Command Execution Not Supported"
    IO_COMMAND_SET_NOT_SUPPORTED = 0x129, "I/O Command Set Not Supported"
    IO_COMMAND_SET_NOT_ENABLED = 0x12A, "I/O Command Set Not Enabled"
    IO_COMMAND_SET_COMBINATION_REJECTED = 0x12B, "I/O Command Set Combination Rejected"
    IO_COMMAND_SET_INVALID = 0x12C, "Invalid I/O Command Set"
    ID_UNAVAILABLE = 0x12D, "Identifier Unavailable"
    CONFLICTING_ATTRIBUTES = 0x180, "Conflicting Attributes"
    PROTECTION_INFO_INVALID = 0x181, "Invalid Protection Information"
    READ_ONLY_RANGE = 0x182, "Attempted Write to Read Only Range"
    COMMAND_SIZE_LIMIT_EXCEEDED = 0x183, "Command Size Limit Exceeded"
    ZONED_INVALID_OPERATION = 0x1B6, "Invalid Zone Operation Request"
    ZONED_ZRWA_UNAVAILABLE = 0x1B7, "ZRWA Resources Unavailable"
    ZONED_BOUNDARY_ERROR = 0x1B8, "Zoned Boundary Error"
    ZONED_FULL = 0x1B9, "Zone Is Full"
    ZONED_READ_ONLY = 0x1BA, "Zone Is Read Only"
    ZONED_OFFLINE = 0x1BB, "Zone Is Offline"
    ZONED_INVALID_WRITE = 0x1BC, "Zone Invalid Write"
    ZONED_TOO_MANY_ACTIVE = 0x1BD, "Too Many Active Zones"
    ZONED_TOO_MANY_OPEN = 0x1BE, "Too Many Open Zones"
    ZONED_INVALID_TRANSITION = 0x1BF, "Invalid Zone State Transition"

    # Media and data integrity errors
    WRITE_FAULT = 0x280, "Write Fault"
    READ_ERROR = 0x281, "Unrecovered Read Error"
    GUARD_CHECK_ERROR = 0x282, "End-to-end Guard Check Error"
    APPLICATION_TAG_CHECK_ERROR = 0x283, "End-to-end Application Tag Check Error"
    REFERENCE_TAG_CHECK_ERROR = 0x284, "End-to-end Reference Tag Check Error"
    COMPARE_FAILURE = 0x285, "Compare Failure"
    ACCESS_DENIED = 0x286, "Access Denied"
    UNWRITTEN_BLOCK = 0x287, "Deallocated or Unwritten Logical Block"
    STORAGE_TAG_CHECK_ERROR = 0x288, "End-to-End Storage Tag Check Error"

    # Path related status
    PATH_INTERNAL_ERROR = 0x300, "Internal Path Error"
    ANA_PERSISTENT_LOSS = 0x301, "Asymmetric Access Persistent Loss"
    ANA_INACCESSIBLE = 0x302, "Asymmetric Access Inaccessible"
    ANA_TRANSITION = 0x303, "Asymmetric Access Transition"
    CONTROLLER_PATHING_ERROR = 0x360, "Controller Pathing Error"
    HOST_PATHING_ERROR = 0x370, "Host Pathing Error"
    ABORTED_BY_HOST = 0x371, "Command Aborted By Host"

    @property
    def sct(self) -> int:
        """Status Code Type."""
        return self >> 8

    @property
    def sc(self) -> int:
        """Status Code."""
        return self & 0xFF


_BY_TEXT = {status.text.casefold(): status for status in Status}


def by_text(text: str) -> Status:
    """Return the status whose text this is, in any case; KeyError if there is none."""
    return _BY_TEXT[text.casefold()]


def describe(sct: int, sc: int) -> str:
    """Return a status in words: ``Invalid Field in Command (SCT 0h, SC 02h)``; unknown codes are marked as such."""
    try:
        text = Status(sct << 8 | sc).text
    except ValueError:
        text = "vendor specific status" if sct == StatusType.VENDOR or sc >= 0xC0 else "unknown status"
    return f"{text} (SCT {sct:X}h, SC {sc:02X}h)"
