"""``nvme-lab explain``: a check, or a finding, for the author of a driver."""

from __future__ import annotations

import json

import click

from conformance.commands import completing
from conformance.commands.options import JSON
from conformance.report.explain import Bug, Explanation, rendered
from conformance.report.terminal import console, show
from conformance.suite import findings
from conformance.suite.check import Check
from conformance.suite.guidance import guidance
from conformance.suite.selection import CHECKS
from lab.data.manifest import PARTS
from lab.defects import DEFECTS
from lab.defects.defect import PRACTICE
from lab.errors import UsageError, nearest
from lab.variants import VARIANTS

LEGAL = 4
"""Peculiarities of drivers that are named."""


@click.command()
@click.argument("name", metavar="CHECK|FINDING", shell_complete=completing.checks)
@JSON
def explain(name: str, as_json: bool) -> None:
    """Explain a check: the rule, why it matters, wrong and right code, bugs of this kind, what was found in drivers.

    \b
    nvme-lab explain read/prp2
    nvme-lab explain u-boot-odd-buffer      a page about a driver's fault
    """
    page = next((page for page in findings.pages() if page.name == name), None)
    if page is not None:
        click.echo(json.dumps({"name": page.name, "checks": page.checks, "text": page.text}) if as_json else page.text)
        return
    check = CHECKS.get(name.partition(":")[0])
    if check is None:
        if name in PARTS:
            raise UsageError(f"{name!r} is a part of the suite, not a check", remedy=f"nvme-lab list checks --stage {name}")
        names = [*CHECKS, *(page.name for page in findings.pages())]
        raise UsageError(f"there is no check {name!r}{nearest(name, names)}", remedy="nvme-lab list checks")
    explanation = explanation_of(check)
    if as_json:
        click.echo(json.dumps(explanation.to_json(), indent=1, ensure_ascii=False))
    else:
        show(rendered(explanation, console().width))


def explanation_of(check: Check) -> Explanation:
    """Return everything that is known of a check."""
    seeded = (one for one in DEFECTS.values() if one.check == check.id)
    bugs = [Bug(one.id, one.summary, "" if one.source == PRACTICE else one.source) for one in seeded]
    neighbours = (one for one in VARIANTS.values() if {*one.scenarios[:1]} & {*check.scenarios})
    legal = [(one.summary, one.allowed) for one in neighbours if check.id not in one.warns][:LEGAL]
    return Explanation(check, guidance(check), bugs, legal, findings.about(check.id))
