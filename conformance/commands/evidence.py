"""``nvme-lab judge`` and ``nvme-lab report``: what can be done without a guest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from conformance.commands.options import JSON, STRICT, VERBOSE, selection
from conformance.commands.run import DEVICES
from conformance.judging.compare import baseline as release_of
from conformance.judging.coverage import coverage_entries
from conformance.judging.files import merge, read
from conformance.judging.history import Input, history, versioned
from conformance.judging.judge import Verdict
from conformance.judging.judge import judge as judge_evidence
from conformance.judging.models import DriverEntry, KnownEntry, Results, RunEntry, VerdictEntry
from conformance.judging.summary import LAB_FAILED, exit_status, stage_index
from conformance.report import terminal
from conformance.report.annotations import github, gitlab
from conformance.report.badge import badge_of
from conformance.report.ctrf import ctrf
from conformance.report.cyclonedx import cyclonedx
from conformance.report.history import HistoryView
from conformance.report.html import Material, check_template, html
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.report.sarif import sarif
from conformance.report.tap import tap
from conformance.report.traceability import traceability
from conformance.report.witness import differences_of, hashes_of, witness_of
from conformance.run.folders import EVIDENCE
from conformance.suite.check import Outcome
from conformance.suite.measure import measurements
from conformance.suite.selection import SCENARIOS, Selection, select
from lab.data.evidence import Evidence, evidence_folders
from lab.data.manifest import PARTS
from lab.errors import LabError, UsageError
from lab.version import lab_version

FORMATS: Mapping[str, Callable[[Results], str]] = {
    "badge": badge_of,
    "csv": traceability,
    "ctrf": ctrf,
    "cyclonedx": lambda results: cyclonedx(results, hashes_of(results, Path.cwd())),
    "github": github,
    "gitlab": gitlab,
    "json": lambda results: results.model_dump_json(by_alias=True, indent=1),
    "junit": junit,
    "sarif": sarif,
    "tap": tap,
}


@dataclass(frozen=True)
class Page:
    """What the user says of a page beside the results."""

    baseline: Path | None = None
    before: Results | None = None
    """What the baseline holds."""
    template: Path | None = None
    folder: Path = Path()
    """Where it will lie."""


COMPARING: Mapping[str, Callable[[Results, Page], str]] = {
    "html": lambda results, page: html(results, _material(results, page), page.template),
    "markdown": lambda results, page: markdown(results, release_of(page.before, results)[0] if page.before else None),
}
"""The formats that can show the difference from a baseline."""


def _material(results: Results, page: Page) -> Material:
    here = Path.cwd()
    material = Material(witness_of(results, here), hashes_of(results, here), history=_history(results, page.folder))
    if page.before is None:
        return material
    before, releases = release_of(page.before, results)
    return replace(material, before=before, baseline=", ".join((str(page.baseline), *dict.fromkeys(releases.values()))))


def _history(results: Results, folder: Path) -> HistoryView | None:
    """Return what changed between the versions of the drivers of which the results hold several."""
    drivers = versioned(results)
    if not drivers:
        return None
    found = history([Input("", Path(), results)], drivers)
    return HistoryView(found, differences_of(found), folder)


@click.command()
@click.argument("evidence", nargs=-1, required=True, type=click.Path(path_type=Path))
@selection
@STRICT
@VERBOSE
@JSON
def judge(evidence: Sequence[Path], as_json: bool, verbose: bool, strict: bool, **named: Sequence[str]) -> int:
    """Judge recorded evidence again, without QEMU. EVIDENCE: folders of one scenario, or folders that hold such.

    \b
    nvme-lab judge nvme-lab-results/latest
    nvme-lab judge nvme-lab-results/latest/evidence/linux/qemu/read/basic --check read/nlb
    """
    selected = select(named["stages"], named["checks"], named["scenarios"], named["profiles"])
    narrowed = bool(named["checks"] or named["scenarios"])
    results = Results(lab={"version": lab_version()}, strict=strict, narrowed=narrowed)
    foreign: dict[str, None] = {}
    for folder in _folders(evidence):
        try:
            read = Evidence(folder)
            if not_judged := _not_judged(read):
                foreign[not_judged] = None
            _judge_into(results, read, selected, asked=[*named["stages"], *named["profiles"]])
        except UsageError:
            raise
        except LabError as error:
            _spoil(results, folder, selected, str(error))
    if not results.verdicts:
        raise UsageError("None of the selected checks judges this evidence.", remedy="select other checks, or none")
    results.coverage = coverage_entries(results.runs, Path(), results.verdicts)
    if as_json:
        click.echo(FORMATS["json"](results))
    else:
        terminal.show(terminal.summary(results, Path(), verbose=verbose))
        for sentence in foreign:
            click.echo(sentence)
    return exit_status(results)


def _not_judged(evidence: Evidence) -> str:
    """Return a sentence about what cannot be judged of evidence that another lab recorded; "" where all can."""
    missing = []
    if evidence.scenario.id not in SCENARIOS and not evidence.scenario.checks:
        missing.append("the scenario is none of the suite's: judged by the invariants, not by the checks of single scenarios")
    if evidence.identity.device not in DEVICES:
        missing.append(f"of the device {evidence.identity.device!r} nothing is assumed, and its remarks are not judged")
    if not evidence.identity.driver.actions:
        missing.append("the driver's actions are not named: what rests on its answers is not judged")
    return f"{evidence.name}: {'; '.join(missing)}." if missing else ""


def _folders(roots: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for root in roots:
        results = root.resolve() / EVIDENCE  # not the failed attempts beside it
        below = evidence_folders(results if results.is_dir() else root.resolve())
        if not below:
            raise UsageError(
                f"There is no evidence in {root}.",
                remedy="name a folder that nvme-lab run wrote, such as nvme-lab-results/latest",
            )
        found.update(dict.fromkeys(below))
    return list(found)


def _spoil(results: Results, folder: Path, selected: Selection, reason: str) -> None:
    """Add ERROR verdicts for a recording that cannot be read; its place in the results says what it was."""
    driver, device, stage, name = ("unknown", "unknown", *folder.parts)[-4:]
    scenario = f"{stage}/{name}"
    checks = selected.checks_of(scenario)
    results.drivers.setdefault(driver, DriverEntry(stages=[], asked=[]))
    for check in checks:
        verdict = Verdict(driver, device, scenario, check, Outcome.ERROR, reason=reason)
        results.verdicts.append(VerdictEntry.model_validate(verdict.to_json()))


def _judge_into(results: Results, evidence: Evidence, selected: Selection, asked: Sequence[str]) -> None:
    """Add the verdicts of the selected checks on one folder."""
    driver, scenario = evidence.identity.driver, evidence.scenario
    free = scenario.id not in SCENARIOS  # no stage's scenario, as of lab.testing: the invariants judge it
    chosen = free or scenario.id in {template.id for template in selected.scenarios}
    if not chosen or not (checks := selected.checks_for(scenario)):
        return
    verdicts = [VerdictEntry.model_validate(verdict.to_json()) for verdict in judge_evidence(evidence, checks)]
    try:
        seconds, figures = evidence.end.seconds if evidence.end else 0.0, measurements(evidence)
    except LabError:  # the verdicts say so
        seconds, figures = 0.0, []
    key = driver.name, evidence.identity.device, scenario.id
    if key in {run.key for run in results.runs}:
        raise UsageError(f"{evidence.folder} is a second recording of {'/'.join(key)}.", remedy="judge each result alone")
    known = [KnownEntry(**{**entry.model_dump(mode="json"), "expires": str(entry.expires or "")}) for entry in driver.known]
    claims = DriverEntry(
        base=driver.base,
        release=driver.release,
        package=driver.package,
        stages=list(driver.stages),
        profiles=list(driver.profiles),
        known=known,
    )
    entry = results.drivers.setdefault(driver.name, claims)
    stages = asked or [stage for stage in [scenario.stage] if not free or stage in PARTS]
    entry.asked = sorted({*entry.asked, *stages}, key=stage_index)
    results.verdicts += verdicts
    results.runs.append(
        RunEntry(
            driver=key[0],
            device=key[1],
            scenario=key[2],
            stage=scenario.stage,
            evidence=os.path.relpath(evidence.folder),
            seconds=seconds,
            build=evidence.end.build if evidence.end else "",
            measurements=figures,
        )
    )


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", *COMPARING, *FORMATS]), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="a file instead of the terminal")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="RESULT",
    help=f"show the difference from it ({', '.join(COMPARING)})",
)
@click.option(
    "--template",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="a Jinja template of your own for --format html, which extends report.html.j2",
)
@VERBOSE
def report(
    results: Sequence[Path], form: str, output: Path | None, baseline: Path | None, template: Path | None, verbose: bool
) -> int:
    """Render results; several (shards) are merged first. RESULT: folders that nvme-lab run wrote, or their results.json.

    \b
    nvme-lab report nvme-lab-results/latest --format html -o report.html
    nvme-lab report nvme-lab-results/latest --format html --baseline baseline/results.json -o report.html
    nvme-lab report nvme-lab-results/latest --format html --template ours.html.j2 -o report.html
    nvme-lab report nvme-lab-results/latest --format csv -o traceability.csv
    nvme-lab report nvme-lab-results/latest --format cyclonedx -o bom.json
    nvme-lab report nvme-lab-results/latest --format markdown
    nvme-lab report shard-1 shard-2 --format junit -o junit.xml

    Exit status: 0, or 2 where shards or some of their verdicts are missing.
    """
    if baseline is not None and form not in COMPARING:
        raise UsageError(f"--baseline goes with --format {' or '.join(COMPARING)}.", remedy="nvme-lab compare OLD NEW")
    if template is not None and form != "html":
        raise UsageError("--template goes with --format html.")
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"{output} cannot be written: there is no folder {output.parent}.", remedy=f"mkdir {output.parent}")
    if template is not None:
        check_template(template)
    before = read(baseline) if baseline is not None else None  # what was typed is read before the work begins
    merged = merge([(path if path.is_dir() else path.parent, read(path)) for path in results], Path.cwd())
    page = Page(baseline, before, template, output.parent if output else Path())
    _render(merged, form, output, page, verbose)
    if missing := merged.missing_shards:
        numbers = ", ".join(map(str, missing))
        click.echo(f"nvme-lab: missing of {merged.shards[0].of} shards: {numbers}", err=True)
    return LAB_FAILED if merged.shards and (missing or merged.unfinished) else 0


def _render(merged: Results, form: str, output: Path | None, page: Page, verbose: bool) -> None:
    if form == "text" and output is None:
        terminal.show(terminal.summary(merged, Path(), verbose=verbose))
        return
    if form == "text":
        text = terminal.plain_summary(merged, Path(), verbose=verbose)
    elif form in COMPARING:
        text = COMPARING[form](merged, page)
    else:
        text = FORMATS[form](merged)
    if output is None:
        click.echo(text.rstrip())
        return
    try:
        output.write_text(text.rstrip() + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.") from error
