"""What the shell offers after a TAB: names of what there is. Only what these need is imported, for it must be quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from lab.errors import LabError

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def drivers(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of drivers, and manifests' paths."""
    from lab import drivers

    return [*_names(drivers.names(), begun), CompletionItem(begun, type="file")]


def stages(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    from lab.data.manifest import STAGES

    return _names(STAGES, begun)


def checks(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    try:
        from conformance.suite.selection import CHECKS
    except LabError:  # another package's checks are broken: the command itself will say so
        return []
    return _names(CHECKS, begun)


def scenarios(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    try:
        from conformance.suite.selection import SCENARIOS
    except LabError:
        return []
    return _names(SCENARIOS, begun)


def _names(known: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.startswith(begun)]
