"""A page for each check, made of what ``nvme-lab explain`` says."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.commands.explain import explanation_of
from conformance.report.explain import WITNESSES, Explanation
from conformance.suite.check import EVERY, Check
from conformance.suite.selection import CHECKS
from lab.data.manifest import part_name


def check_pages() -> Iterator[tuple[str, str]]:
    """Yield the address and the Markdown of each check's page."""
    for check in CHECKS.values():
        yield address(check.id), "\n".join(_lines(explanation_of(check)))


def address(check: str) -> str:
    """Return where the page of a check is, from the site's root."""
    return f"checks/{check}.md"


def with_links(reference: str) -> str:
    """Return the check reference with a link to the page of each check."""
    return "\n".join(map(_with_link, reference.splitlines())) + "\n"


def _with_link(line: str) -> str:
    check = line.removeprefix("### ")
    return line if check == line or check not in CHECKS else f"### [{check}]({address(check)}) {{ #{check.replace('/', '')} }}"


def _lines(explanation: Explanation) -> Iterator[str]:
    check, guidance = explanation.check, explanation.guidance
    yield f"# {check.id}\n"
    yield f"The driver {check.statement[:1].lower()}{check.statement[1:]}\n"
    yield from _facts(check, explanation.level)
    yield f"\n## Why it matters\n\n{guidance.matters}\n"
    if guidance.wrong:
        yield f"## Wrong\n\n```c\n{guidance.wrong.rstrip()}\n```\n"
        yield f"## Right\n\n```c\n{guidance.right.rstrip()}\n```\n"
    if explanation.bugs:
        yield "## Bugs of this kind\n"
        for bug in sorted(explanation.bugs, key=lambda bug: not bug.shipped):
            yield f"- {bug.does} " + (f"Shipped in {bug.shipped}. " if bug.shipped else "") + f"`{bug.defect}`"
    if explanation.legal:
        yield "\n## Legal, although unusual\n"
        for does, allowed in explanation.legal:
            yield f"- {does} ({allowed})"
    if explanation.pages:
        yield "\n## Found in drivers\n"
        up = "../" * address(check.id).count("/")
        for page in explanation.pages:
            yield f"- [{page.title}]({up}findings/{page.name}.md)"
    yield "\n## Try\n\n```sh"
    for command, shows in explanation.commands:
        yield f"{command}  # {shows}"
    yield "```"


def _facts(check: Check, level: str) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield f"| level | {level} |"
    yield f"| part | {'every' if check.stage == EVERY else part_name(check.stage)} |"
    yield f"| stands in | {check.cite} |"
    yield f"| seen by | {', '.join(WITNESSES[witness] for witness in check.witnesses)} |"
    yield f"| judged in | {', '.join(f'`{scenario}`' for scenario in check.scenarios) or 'every scenario'} |"
    if check.uses:
        yield f"| about | {check.uses} (which a driver is free never to use) |"
    if check.needs:
        yield f"| needs | {', '.join(check.needs)} (a driver that cannot be asked is UNSUPPORTED) |"
