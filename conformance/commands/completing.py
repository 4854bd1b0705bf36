"""Completion of names in the shell. Imports are few, because it must be quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from lab.errors import LabError

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def drivers(_context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete names of drivers and paths of manifests."""
    from lab import drivers

    return [*_names(drivers.names(), begun), CompletionItem(begun, type="file")]


def stages(_context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete names of stages."""
    from lab.data.manifest import STAGES

    return _names(STAGES, begun)


def profiles(_context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete names of profiles."""
    from lab.data.manifest import PROFILES

    return _names(PROFILES, begun)


def checks(_context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete names of checks."""
    try:
        from conformance.suite.selection import CHECKS
    except LabError:  # another package's checks are broken: the command itself will say so
        return []
    return _names(CHECKS, begun)


def scenarios(_context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete names of scenarios."""
    try:
        from conformance.suite.selection import SCENARIOS
    except LabError:
        return []
    return [*_names(SCENARIOS, begun), CompletionItem(begun, type="file")]


def _names(known: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.startswith(begun)]
