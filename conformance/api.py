"""The public names for packages of others (docs/packages.md): they stay, and mean the same, within a major version.

Everything else may move or change in any version. Names of the lab are here, too, so that a package needs one import path.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.judging.files import merge, read
    from conformance.judging.judge import Verdict, judge
    from conformance.judging.models import DriverEntry, FindingEntry, Results, RunEntry, VerdictEntry
    from conformance.judging.summary import exit_status, gate_failures
    from conformance.record.record import Record
    from conformance.suite.check import CHECKS, MANDATORY, OPTIONAL, RECOMMENDED, Check, Finding, Level, Outcome, Witness, check
    from conformance.suite.citations import BASE_2_0, INTEGRITY, NVM_1_0, PCIE_1_0, PRACTICE, Citation
    from conformance.suite.measure import MEASURES, Axis, Measurement, Point, Series, histogram, measure
    from conformance.suite.scenario import LOAD, SCENARIOS, Draw, Plan, do, scenario
    from lab.controller.behaviour import Behaviour
    from lab.controller.fetched import FetchedCommand
    from lab.controller.queues import Posting
    from lab.data import events
    from lab.data.evidence import Evidence, EvidenceWriter
    from lab.data.identity import Identity
    from lab.data.manifest import DriverManifest
    from lab.data.plan import Action, Answer, Controller, DeviceSpec, Fault, Namespace, Scenario
    from lab.defects.defect import defect
    from lab.drivers.base import Adapter, Session
    from lab.drivers.reference import ReferenceInProcess
    from lab.errors import LabError, UsageError
    from lab.nvme import commands, completions, registers, status
    from lab.reference.controller import Controller as ReferenceController
    from lab.reference.settings import Settings as ReferenceSettings

__all__ = [
    "BASE_2_0",
    "CHECKS",
    "INTEGRITY",
    "LOAD",
    "MANDATORY",
    "MEASURES",
    "NVM_1_0",
    "OPTIONAL",
    "PCIE_1_0",
    "PRACTICE",
    "RECOMMENDED",
    "SCENARIOS",
    "Action",
    "Adapter",
    "Answer",
    "Axis",
    "Behaviour",
    "Check",
    "Citation",
    "Controller",
    "DeviceSpec",
    "Draw",
    "DriverEntry",
    "DriverManifest",
    "Evidence",
    "EvidenceWriter",
    "Fault",
    "FetchedCommand",
    "Finding",
    "FindingEntry",
    "Identity",
    "LabError",
    "Level",
    "Measurement",
    "Namespace",
    "Outcome",
    "Plan",
    "Point",
    "Posting",
    "Record",
    "ReferenceController",
    "ReferenceInProcess",
    "ReferenceSettings",
    "Results",
    "RunEntry",
    "Scenario",
    "Series",
    "Session",
    "UsageError",
    "Verdict",
    "VerdictEntry",
    "Witness",
    "check",
    "commands",
    "completions",
    "defect",
    "do",
    "events",
    "exit_status",
    "gate_failures",
    "histogram",
    "judge",
    "measure",
    "merge",
    "read",
    "registers",
    "scenario",
    "status",
]

_SOURCES = {
    "conformance.judging.files": "merge read",
    "conformance.judging.judge": "Verdict judge",
    "conformance.judging.models": "DriverEntry FindingEntry Results RunEntry VerdictEntry",
    "conformance.judging.summary": "exit_status gate_failures",
    "conformance.record.record": "Record",
    "conformance.suite.check": "CHECKS MANDATORY OPTIONAL RECOMMENDED Check Finding Level Outcome Witness check",
    "conformance.suite.citations": "BASE_2_0 INTEGRITY NVM_1_0 PCIE_1_0 PRACTICE Citation",
    "conformance.suite.measure": "MEASURES Axis Measurement Point Series histogram measure",
    "conformance.suite.scenario": "LOAD SCENARIOS Draw Plan do scenario",
    "lab.controller.behaviour": "Behaviour",
    "lab.controller.fetched": "FetchedCommand",
    "lab.controller.queues": "Posting",
    "lab.data": "events",
    "lab.data.evidence": "Evidence EvidenceWriter",
    "lab.data.identity": "Identity",
    "lab.data.manifest": "DriverManifest",
    "lab.data.plan": "Action Answer Controller DeviceSpec Fault Namespace Scenario",
    "lab.defects.defect": "defect",
    "lab.drivers.base": "Adapter Session",
    "lab.drivers.reference": "ReferenceInProcess",
    "lab.errors": "LabError UsageError",
    "lab.nvme": "commands completions registers status",
    "lab.reference.controller": "Controller:ReferenceController",
    "lab.reference.settings": "Settings:ReferenceSettings",
}
"""Module → the public names in it, ``NAME:PUBLIC`` where they differ. They are imported on use: a package that brings checks is
itself imported while the suite is."""


def __getattr__(name: str) -> Any:
    for module, names in _SOURCES.items():
        for pair in names.split():
            inner, _, public = pair.partition(":")
            if name == (public or inner):
                return getattr(import_module(module), inner, None) or import_module(f"{module}.{inner}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
