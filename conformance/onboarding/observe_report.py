"""The report of ``nvme-lab observe`` in three parts: what the driver did, what it broke, and what was never exercised."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.judging.judge import Verdict, place
from conformance.onboarding.linux_boot import what_it_lacks
from conformance.onboarding.observation import Boot, DeviceComparison, Group, compared, groups, machine_words
from conformance.onboarding.rungs import RUNGS
from conformance.onboarding.steps_seen import HOW_TO
from conformance.suite.check import Finding, Outcome
from conformance.wire.decode import WireLine, printable_lines, timeline
from conformance.wire.excerpts import excerpts, key
from lab.data.evidence import Evidence
from lab.data.manifest import STAGES
from lab.errors import REMEDY, LabError

FORMAT = 1
EXCERPT_ROWS = 14
PROMPT_LETTERS = 40


@dataclass(frozen=True)
class Report:
    """All boots of one system; the first is the plain one."""

    name: str
    what: str
    machine: Mapping[str, Any]
    boots: tuple[Boot, ...]
    tried: tuple[str, ...] = ()  # machines
    left_out: tuple[str, ...] = ()  # rungs for which no time was left
    kernel: Path | None = None  # that QEMU loads
    has_initrd: bool = False

    @property
    def plain(self) -> Boot:
        """The boot before the plain device."""
        return self.boots[0]

    @cached_property
    def groups(self) -> list[Group]:
        """The broken rules."""
        return groups(self.boots)

    @cached_property
    def comparisons(self) -> list[DeviceComparison]:
        """The other boots beside the plain one."""
        return [compared(self.plain, boot) for boot in self.boots[1:]]

    @property
    def passed(self) -> int:
        """Rules that were met wherever they could be judged."""
        met = {v.check.id for boot in self.boots for v in boot.verdicts if v.outcome is Outcome.PASS}
        return len(met - {group.verdict.check.id for group in self.groups})

    @cached_property
    def unproven(self) -> list[str]:
        """Rules whose violations prove nothing, for this machine was too slow while they were seen."""
        broken = {group.verdict.check.id for group in self.groups}
        seen = {
            v.check.id for boot in self.boots for v in boot.verdicts if v.outcome is Outcome.ERROR and violation(v) is not None
        }
        return sorted(seen - broken)

    @property
    def unexercised(self) -> list[str]:
        """The steps that no boot has shown."""
        return [stage for stage in STAGES if not any(stage in boot.seen.steps for boot in self.boots)]

    @property
    def headline(self) -> str:
        """The report in a sentence."""
        plain = self.plain
        if plain.how == "lab-error":
            return f"{self.name} could not be observed: {plain.reason.partition(REMEDY)[0]}"
        if not plain.reached:
            return f"Not reached: {self.name} accessed no register of the NVMe device. Nothing is said of its driver."
        broken = sum(group.is_mandatory for group in self.groups)
        worse = [comparison.boot.rung.name for comparison in self.comparisons if comparison.is_worse]
        done = [stage for stage in STAGES if stage in plain.seen.steps]
        parts = [f"{self.name} does {len(done)} of the ten steps: {', '.join(done)}"]
        rules = "rule is" if broken == 1 else "rules are"
        parts.append(f"{broken} mandatory {rules} broken" if broken else "no mandatory rule is broken")
        parts.append(f"{self.passed} rules are met")
        if worse:
            parts.append(f"it gets less far on {', '.join(worse)}")
        if self.unproven:
            parts.append(f"{len(self.unproven)} more not proven on a machine that was too slow")
        return "; ".join(parts) + "."


def advice(report: Report) -> Iterator[str]:
    """Yield what to try where the driver was not reached."""
    boot = report.plain
    output, prompt = boot.prompt
    if boot.how == "lab-error":
        return
    if boot.found_nothing:
        yield "The firmware found nothing to boot on it: it holds no boot code, or is not the image of a whole disk."
        yield "What starts by UEFI only is booted with --firmware OVMF.fd; a disk for a system to mount goes to --nvme-disk."
        return
    if boot.crash:
        yield f"It says that it has crashed: {boot.crash}"
        if boot.is_rootless:
            yield f"{what_it_lacks(report.kernel, has_initrd=report.has_initrd)}."
            return
    elif boot.how == "ended":
        yield f"The machine ended: {ended_by(boot)}."
    elif prompt:
        shown = _end_of(prompt.strip())
        yield f"It waits at a prompt on {output} ({shown}): --keys FILE types the command that starts its driver."
        if prompt.startswith("=> "):
            yield "It looks like U-Boot, whose driver is started by these two lines in that file: pci enum, nvme scan."
    elif boot.said or boot.own_screen:
        yield "It spoke, and its driver did not come to the device: if a command starts it, --keys FILE types lines."
    else:
        yield "It said nothing on COM1, COM2 or port E9h, and its screen shows no text; look at the picture of the screen."
    if not prompt:
        if why := _still(boot.reason):
            yield f"When the wait ended, {why}."
        yield f"It was booted on: {'; '.join(report.tried)}. What else it needs --machine, --cpu, --memory, --qemu-option give."
    yield "Does it have a driver for PCI class 010802h, and is that loaded while it boots?"


def _end_of(line: str) -> str:
    """Return a line's end, as far as it fits into a sentence: what draws on its terminal has no lines."""
    return line if len(line) <= PROMPT_LETTERS else "…" + line[-PROMPT_LETTERS:]


def ended_by(boot: Boot) -> str:
    """Return in a few words how the machine ended."""
    return boot.reason.splitlines()[0].partition(" while the lab waited")[0]


def _still(reason: str) -> str:
    """Return why a wait ended early, out of the reason; "" if it took its whole time."""
    found = re.search(r"Timed out after [\d.]+ s \((it[^)]*)\)", reason)
    return found[1] if found else ""


def left_out(report: Report) -> str:
    """Return a sentence about the devices for which no time was left; "" if there are none."""
    if not report.left_out:
        return ""
    return f"Not tried, for the time was over: {', '.join(report.left_out)}. --seconds 0 tries all of them."


def unproven(report: Report) -> str:
    """Return a sentence about violations that prove nothing; "" if there are none."""
    if not report.unproven:
        return ""
    return (
        f"Not proven, for this machine was too slow while it was seen: {', '.join(report.unproven)}. "
        "Observe it again when less is running."
    )


# -- terminal -------------------------------------------------------------------------------------------------------


def show_plain(console: Console, boot: Boot, machine: Mapping[str, Any]) -> None:
    """Print the first answer."""
    shown = machine_words(machine)
    if not boot.reached:
        return
    steps = ", ".join(stage for stage in STAGES if stage in boot.seen.steps)
    console.print(f"Reached ({shown}): {steps}", style="bold", soft_wrap=True)
    failed = [v.check.id for v in boot.verdicts if v.outcome is Outcome.FAIL]
    if failed:
        console.print(f"Broken so far: {', '.join(failed)}", style="red", soft_wrap=True)


def show_rung(console: Console, plain: Boot, boot: Boot) -> None:
    """Print what one more boot came to."""
    comparison = compared(plain, boot)
    console.print(f"  {comparison.sentence}", style="yellow" if comparison.is_worse else "", markup=False, soft_wrap=True)


def show(console: Console, report: Report) -> None:
    """Print the report."""
    if report.plain.how == "lab-error":  # the command ends with the reason
        return
    console.print()
    console.print(printable_lines(report.headline), style="bold", markup=False, soft_wrap=True)
    if not report.plain.reached:
        for text in advice(report):
            console.print(f"- {text}", markup=False, soft_wrap=True)
        for name, tail in report.plain.tail():
            console.print(f"\nThe last lines on {name}:", style="dim")
            console.print(printable_lines(tail), markup=False, soft_wrap=True)
        if report.plain.picture:
            console.print(f"\nIts screen: {report.plain.picture}", markup=False, soft_wrap=True)
        return
    console.print("\n1. What the driver did", style="bold")
    console.print(_steps_table(report.plain))
    console.print(_boots_table(report))
    if report.left_out:
        console.print(left_out(report), markup=False, soft_wrap=True)
    console.print("2. What it broke", style="bold")
    for group in report.groups:
        _show_group(console, group)
    if not report.groups:
        console.print("Nothing that the wire shows.")
    if report.unproven:
        console.print(unproven(report), style="yellow", markup=False, soft_wrap=True)
    console.print("\n3. What was never exercised", style="bold")
    for stage in report.unexercised:
        console.print(f"- {stage}: {HOW_TO[stage]}", markup=False, soft_wrap=True)
    if not report.unexercised:
        console.print("Each of the ten steps was seen.")
    console.print(
        "What a driver answers, and whether data arrive, is not judged here: that needs a manifest (--write-manifest)."
    )


def _steps_table(boot: Boot) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for number, stage in enumerate(STAGES, 1):
        seen = boot.seen.steps.get(stage)
        table.add_row(str(number), stage, Text(", ".join(seen) if seen else "not seen", style="" if seen else "dim"))
    for failed in dict.fromkeys(boot.seen.failed):
        table.add_row("", "", Text(f"failed: {failed}", style="yellow"))
    if boot.seen.waiting:
        table.add_row("", "", Text(f"still waits for {boot.seen.waiting}", style="yellow"))
    return table


def _boots_table(report: Report) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for comparison in report.comparisons:
        style = "yellow" if comparison.is_worse else ""
        table.add_row(comparison.boot.rung.name, Text(printable_lines(comparison.sentence), style=style))
    return table


def _show_group(console: Console, group: Group) -> None:
    verdict = group.verdict
    mark = Text(str(verdict.outcome), style="bold red" if group.is_mandatory else "yellow")
    console.print(mark, Text(f"{verdict.check.id}: {verdict.check.statement}"), soft_wrap=True)
    finding = violation(verdict)
    if finding is not None:
        console.print(Text(f"  expected {finding.expected}; actual {printable_lines(str(finding.actual))}"), soft_wrap=True)
    where = ", ".join(group.boots)
    console.print(Text(f"  {verdict.check.cite}; seen on: {where}", style="dim"), soft_wrap=True)
    if group.follows:
        console.print(Text(f"  from it follow: {', '.join(group.follows)}", style="dim"), soft_wrap=True)
    console.print(Text(f"  nvme-lab wire {os.path.relpath(verdict.evidence)}", style="dim"), soft_wrap=True)


def violation(verdict: Verdict) -> Finding | None:
    """Return the first violation of a verdict."""
    return next((finding for finding in verdict.findings if not finding.ok), None)


# -- JSON and HTML --------------------------------------------------------------------------------------------------


def to_json(report: Report, folder: Path) -> dict[str, Any]:
    """Return the report as data; paths are relative to ``folder``."""
    return {
        "format": FORMAT,
        "name": report.name,
        "what": report.what,
        "machine": dict(report.machine),
        "outcome": report.plain.how if report.plain.reached or report.plain.how == "lab-error" else "not-reached",
        "headline": report.headline,
        "tried": list(report.tried),
        "left_out": list(report.left_out),
        "unproven": report.unproven,
        "met": report.passed,
        "steps": report.plain.seen.steps,
        "boots": [
            {
                "rung": boot.rung.name, "title": boot.rung.title, "hostile": boot.rung.hostile, "how": boot.how,
                "reason": boot.reason, "steps": boot.seen.steps, "waiting": boot.seen.waiting, "failed": boot.seen.failed,
                "crash": boot.crash, "seconds": round(boot.seconds, 1), "evidence": os.path.relpath(boot.evidence, folder),
                "verdicts": {v.check.id: str(v.outcome) for v in boot.verdicts},
            }
            for boot in report.boots
        ],
        "comparisons": [
            {"rung": c.boot.rung.name, "sentence": c.sentence, "worse": c.is_worse} for c in report.comparisons
        ],
        "broken": [
            {**group.verdict.to_json(), "boots": list(group.boots), "follows": list(group.follows)} for group in report.groups
        ],
        "unexercised": {stage: HOW_TO[stage] for stage in report.unexercised},
    }  # fmt: skip


def html(report: Report, folder: Path) -> str:
    """Return the report as one page that needs no network. All that the system printed is escaped."""
    environment = Environment(loader=PackageLoader("conformance.onboarding"), autoescape=True, undefined=StrictUndefined)
    pictures = {
        boot.rung.name: "data:image/png;base64," + base64.b64encode(boot.picture.read_bytes()).decode()
        for boot in report.boots[:1]
        if boot.picture
    }
    return environment.get_template("observe.html.j2").render(
        report=report, stages=STAGES, how_to=HOW_TO, pictures=pictures, advice=list(advice(report)),
        left_out=left_out(report), unproven=unproven(report),
        violation=violation, printable=printable_lines, rows=_rows(report), place=place, total=len(RUNGS),
        relative=lambda path: os.path.relpath(path, folder),
    )  # fmt: skip


def _rows(report: Report) -> dict[str, list[tuple[WireLine | None, bool]]]:
    """Return, by check, the wire around its first violation; None is a gap, and the flag marks the event itself."""
    found: dict[str, list[tuple[WireLine | None, bool]]] = {}
    for group in report.groups:
        finding = violation(group.verdict)
        if finding is None or finding.event is None:
            continue
        wanted = key(finding.event)
        try:
            evidence = Evidence(group.verdict.evidence)
            shown = excerpts(list(timeline(evidence.scenario, evidence.events())), {wanted}).get(wanted, ())
        except (LabError, OSError):
            continue
        rows = [(row if isinstance(row, WireLine) else None) for row in shown][:EXCERPT_ROWS]
        found[group.verdict.check.id] = [(row, row is not None and key(row.event) == wanted) for row in rows]
    return found
