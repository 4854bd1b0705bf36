"""Where a rule stands: document, section, and the section's title as the document prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """A section of a specification, or sound practice (``section`` "-")."""

    revision: str
    section: str
    title: str

    def __str__(self) -> str:
        return self.title if self.section == "-" else f"{self.revision}, {self.section} “{self.title}”"


def _sections(revision: str, titles: Mapping[str, str]) -> Mapping[str, Citation]:
    return {section: Citation(revision, section, title) for section, title in titles.items()}


BASE_2_0 = _sections(
    "NVM Express Base Specification 2.0",
    {
        "3.1.2": "Controller Types",
        "3.1.3": "Controller Properties",
        "3.1.3.1": "Offset 0h: CAP – Controller Capabilities",
        "3.1.3.2": "Offset 8h: VS – Version",
        "3.1.3.3": "Offset Ch: INTMS – Interrupt Mask Set",
        "3.1.3.5": "Offset 14h: CC – Controller Configuration",
        "3.1.3.6": "Offset 1Ch: CSTS – Controller Status",
        "3.1.3.7": "Offset 20h: NSSR – NVM Subsystem Reset",
        "3.1.3.8": "Offset 24h: AQA – Admin Queue Attributes",
        "3.1.3.9": "Offset 28h: ASQ – Admin Submission Queue Base Address",
        "3.1.3.12": "Offset 3Ch: CMBSZ – Controller Memory Buffer Size",
        "3.2.1": "Namespaces",
        "3.3.1": "Memory-based Transport Queue Model (PCIe)",
        "3.3.3.1": "Submission Queue Entry",
        "3.3.3.2": "Common Completion Queue Entry",
        "3.3.3.2.1": "Status Field Definition",
        "3.4": "Command Architecture Submission and Completion Mechanism",
        "3.4.2": "Fused Operation",
        "3.5.1": "Memory-based Transport Controller Initialization (PCIe)",
        "3.5.3": "Controller Ready Modes During Initialization",
        "3.5.4": "Controller Ready Timeouts During Initialization",
        "3.6.1": "Memory-based Transport Controller Shutdown (PCIe)",
        "3.7.2": "Controller Level Reset",
        "3.9": "Keep Alive",
        "4.1.1": "Physical Region Page Entry and List",
        "4.1.2": "Scatter Gather List (SGL)",
        "4.2": "Feature Values",
        "5": "Admin Command Set",
        "5.1": "Abort command",
        "5.2": "Asynchronous Event Request command",
        "5.4": "Create I/O Completion Queue command",
        "5.5": "Create I/O Submission Queue command",
        "5.6": "Delete I/O Completion Queue command",
        "5.7": "Delete I/O Submission Queue command",
        "5.8": "Doorbell Buffer Config command",
        "5.13": "Firmware Image Download command",
        "5.14": "Format NVM command",
        "5.15": "Get Features command",
        "5.16": "Get Log Page command",
        "5.16.1.2": "Error Information (Log Identifier 01h)",
        "5.16.1.3": "SMART / Health Information (Log Identifier 02h)",
        "5.16.1.8": "Telemetry Host-Initiated (Log Identifier 07h)",
        "5.17": "Identify command",
        "5.17.2.1": "Identify Controller data structure (CNS 01h)",
        "5.24": "Sanitize command",
        "5.27": "Set Features command",
        "5.27.1.1": "Arbitration (Feature Identifier 01h)",
        "5.27.1.2": "Power Management (Feature Identifier 02h)",
        "5.27.1.4": "Volatile Write Cache (Feature Identifier 06h)",
        "5.27.1.5": "Number of Queues (Feature Identifier 07h)",
        "5.27.1.7": "Interrupt Vector Configuration (Feature Identifier 09h)",
        "5.27.1.8": "Asynchronous Event Configuration (Feature Identifier 0Bh)",
        "5.27.1.9": "Autonomous Power State Transition (Feature Identifier 0Ch)",
        "5.27.1.10": "Host Memory Buffer (Feature Identifier 0Dh)",
        "5.27.1.13": "Host Controlled Thermal Management (Feature Identifier 10h)",
        "5.27.1.25": "Host Identifier (Feature Identifier 81h)",
        "7.1": "Flush command",
        "7.4": "Reservation Release command",
        "8.5": "Controller Memory Buffer",
        "8.7": "Directives",
        "8.9": "Host Memory Buffer",
        "8.10": "Host Operation with Asymmetric Namespace Access Reporting",
        "8.15.1": "Non-Operational Power States",
        "8.19": "Reservations",
        "8.21": "Sanitize Operations",
        "9.1": "Command and Queue Error Handling",
        "9.2": "Media and Data Error Handling",
        "9.5": "Controller Fatal Status Condition",
        "B.5": "Updating Controller Doorbell Properties using a Shadow Doorbell Buffer",
    },
)
NVM_1_0 = _sections(
    "NVM Command Set Specification 1.0",
    {
        "2.1.2": "Command Ordering Requirements",
        "2.1.3": "Fused Operation",
        "3.2.1": "Compare command",
        "3.2.2": "Copy command",
        "3.2.3": "Dataset Management command",
        "3.2.4": "Read command",
        "3.2.5": "Verify command",
        "3.2.6": "Write command",
        "3.2.8": "Write Zeroes command",
        "4.1.2": "Format NVM command",
        "4.1.3": "Get Features & Set Features commands",
        "4.1.5": "Identify Command",
        "5.2": "End-to-end Data Protection",
        "5.8.3": "Metadata Handling",
    },
)
ZONED_1_1 = _sections(
    "Zoned Namespace Command Set Specification 1.1",
    {
        "2.1.1": "Namespaces",
        "2.1.2": "Command Ordering Requirements",
        "3.4.1": "Zone Append command",
        "3.4.2": "Zone Management Receive command",
        "3.4.3": "Zone Management Send command",
        "4.1.5": "Identify Command",
        "A.2": "Writing to Zones",
        "A.3": "Open Zone Considerations",
    },
)
PCIE_1_0 = _sections(
    "NVMe over PCIe Transport Specification 1.0",
    {
        "3.1.2": "Transport Specific Controller Properties",
        "3.1.2.1": "SQyTDBL – Submission Queue y Tail Doorbell",
        "3.2": "Queue Model Instantiation",
        "3.3": "Resets",
        "3.4": "Data Transfer Model",
        "3.5": "Interrupts",
        "3.8.1.2": "Offset 04h: CMD - Command",
        "3.8.1.5": "Offset 09h: CC - Class Code",
        "3.8.1.11": "Offset 14h: MUBAR (BAR1) – Memory Register Base Address, upper 32-bits",
    },
)
PRACTICE = Citation("practice", "-", "sound practice")
INTEGRITY = Citation("practice", "-", "data integrity")
