"""``nvme-lab list``: what there is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from conformance.commands.options import JSON, NearestGroup
from conformance.report.reference import check_reference
from conformance.report.terminal import show
from conformance.suite.check import Check
from conformance.suite.selection import CHECKS, SCENARIOS, profiles, stages
from lab import drivers
from lab.controller import behaviour
from lab.data import versions
from lab.defects import DEFECTS
from lab.nvme.status import Status
from lab.variants import VARIANTS


@click.group("list", cls=NearestGroup)
def list_group() -> None:
    """List what there is: drivers, stages, profiles, checks, scenarios, defects, variants, faults.

    \b
    nvme-lab list checks
    nvme-lab list drivers --json
    """


@list_group.command("drivers")
@JSON
def list_drivers(as_json: bool) -> None:
    """List the named drivers, shipped or of other packages, their versions, and what they claim.

    \b
    nvme-lab list drivers
    nvme-lab run --driver edk2@2020.11      one version; 'edk2@*' is all of them
    """
    rows: list[dict[str, Any]] = []
    for name in drivers.names():
        manifest = drivers.find(name)
        claims = {"stages": list(manifest.stages), "profiles": list(manifest.profiles)}
        table = sorted(manifest.versions, key=versions.order)
        row = {"name": name, "adapter": manifest.adapter, **claims, "release": manifest.release, "versions": table}
        rows.append({**row, "summary": manifest.summary})
    if not as_json:
        rows = [{**row, "versions": " ".join(row["versions"])} for row in rows]
    _show(rows, as_json, ("name", "adapter", "versions", "summary"))


@list_group.command("stages")
@JSON
def list_stages(as_json: bool) -> None:
    """List the steps of building a driver, with the scenarios and checks of each.

    \b
    nvme-lab list stages
    """
    rows = [
        {
            "stage": stage,
            "scenarios": sum(template.stage == stage for template in SCENARIOS.values()),
            "checks": sum(check.stage == stage for check in CHECKS.values()),
        }
        for stage in stages()
    ]
    _show(rows, as_json, ("stage", "scenarios", "checks"))


@list_group.command("profiles")
@JSON
def list_profiles(as_json: bool) -> None:
    """List the profiles: what drivers can do beyond the stages, and which drivers claim it.

    \b
    nvme-lab list profiles
    """
    claims = {name: drivers.find(name).profiles for name in drivers.names()}
    rows: list[dict[str, Any]] = [
        {
            "profile": profile,
            "scenarios": sum(template.stage == profile for template in SCENARIOS.values()),
            "checks": sum(check.stage == profile for check in CHECKS.values()),
            "claimed_by": [name for name, claimed in claims.items() if profile in claimed],
        }
        for profile in profiles()
    ]
    if not as_json:
        rows = [{**row, "claimed_by": ", ".join(row["claimed_by"])} for row in rows]
    _show(rows, as_json, ("profile", "scenarios", "checks", "claimed_by"))


@list_group.command("checks")
@click.option(
    "--stage",
    "wanted",
    multiple=True,
    type=click.Choice([*stages(), *profiles()]),
    help="only of this stage or profile (repeatable)",
)
@click.option("--write", "document", type=click.Path(path_type=Path), metavar="FILE", help="write the reference in Markdown")
@JSON
def list_checks(wanted: Sequence[str], document: Path | None, as_json: bool) -> None:
    """List the checks: what the driver must do, how binding it is, where the rule stands.

    \b
    nvme-lab list checks --stage read
    nvme-lab list checks --write checks.md
    """
    every = (check for stage in (*stages(), *profiles()) for check in CHECKS.values() if check.stage == stage)
    checks = [check for check in every if not wanted or check.stage in wanted]
    rows = [_check(check) for check in checks]
    if document:
        document.write_text(check_reference(checks, {row["id"]: row["defects"] for row in rows}), encoding="utf-8")
    elif as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        _table([{**row, "cites": str(CHECKS[row["id"]].cite)} for row in rows], ("id", "level", "statement", "cites"))


@list_group.command("scenarios")
@JSON
def list_scenarios(as_json: bool) -> None:
    """List the scenarios: what is put in front of a driver.

    \b
    nvme-lab list scenarios
    """
    rows = [{"id": name, "stage": template.stage, "title": template.title} for name, template in SCENARIOS.items()]
    _show(rows, as_json, ("id", "title"))


@list_group.command("defects")
@JSON
def list_defects(as_json: bool) -> None:
    """List the mistakes that can be seeded into the reference driver: what each does, and who shipped it.

    \b
    nvme-lab list defects
    nvme-lab run --defect read/nlb:one-fewer
    """
    rows = [{"id": one.id, "does": one.summary, "source": one.source} for one in DEFECTS.values()]
    _show(rows, as_json, ("id", "does", "source"))


@list_group.command("variants")
@JSON
def list_variants(as_json: bool) -> None:
    """List the legal peculiarities that the reference driver can have: what each does, and what allows it.

    \b
    nvme-lab list variants
    nvme-lab run --variant io-queues/priority-unused
    """
    rows = [{"id": one.id, "does": one.summary, "allowed": one.allowed} for one in VARIANTS.values()]
    _show(rows, as_json, ("id", "does", "allowed"))


@list_group.command("faults")
@JSON
def list_faults(as_json: bool) -> None:
    """List the faults that the programmable controller can inject.

    
    nvme-lab list faults
    """
    rows = [
        {
            "name": name,
            "does": inspect.cleandoc(kind.__doc__ or "").replace("\n", " ").replace("``", "`"),
            "arguments": {key: int(value) if isinstance(value, Status) else value for key, value in kind.ARGUMENTS.items()},
        }
        for name in behaviour.names()
        if (kind := behaviour.find(name))
    ]
    _show(rows, as_json, ("name", "does", "arguments"))


def _check(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "stage": check.stage,
        "level": check.level,
        "cite": vars(check.cite),
        "witnesses": list(check.witnesses),
        "statement": check.statement,
        "defects": [defect.id for defect in DEFECTS.values() if defect.check == check.id],
    }


def _show(rows: Sequence[Mapping[str, Any]], as_json: bool, columns: Iterable[str]) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        _table(rows, columns)


def _table(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    columns = list(columns)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(column, no_wrap=column == "id", overflow="fold")
    for row in rows:
        grid.add_row(*(_words(row[column]) for column in columns))
    show(grid)


def _words(value: Any, within: str = "") -> str:
    """Return a value as people write it: arguments as NAME=VALUE, those within others as NAME.NAME=VALUE."""
    if isinstance(value, Mapping):
        return " ".join(_words(one, f"{within}.{key}" if within else key) for key, one in value.items())
    shown = "" if value is None or value == "" else value
    return f"{within}={shown}" if within else str(value)
