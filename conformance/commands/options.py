"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from conformance.commands import completing
from conformance.run.plan import DEFAULT_SEED
from lab.data.manifest import memory_size
from lab.errors import nearest
from lab.settings import Settings, load

F = TypeVar("F", bound=Callable[..., Any])


class NearestGroup(click.Group):
    """A group of commands that answers an unknown one with the nearest, and with all of them."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name; `click.UsageError` where there is none."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their whole first paragraph, which click cuts short."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        texts = {name: (command.help or "").partition("\n\n")[0] for name, command in found.items() if command}
        with formatter.section("Commands"):
            formatter.write_dl([(name, " ".join(text.split())) for name, text in texts.items()])


def size_of_memory(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return a size as it is, or end the command."""
    try:
        return value and memory_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is {error}.") from error


_FILE = click.Path(path_type=Path)

_MACHINE = (
    click.option("--mirror", metavar="URL", help="Debian mirror [default: the machine's own]"),
    click.option("--snapshot", metavar="URL", help="Debian archive of a past day, for locked versions that mirrors dropped"),
    click.option("--qemu", type=_FILE, metavar="FILE", help="QEMU to use instead of looking for one"),
    click.option("--kernel", type=_FILE, metavar="FILE", help="guest kernel to boot instead of the packaged one"),
    click.option("--image", type=_FILE, metavar="FILE", help="guest initramfs to boot instead of building one"),
    click.option("--locked", is_flag=True, default=None, help="only the versions in the lock file"),
    click.option("--offline", is_flag=True, default=None, help="only what the cache holds"),
)


def _only(what: str, metavar: str, complete: completing.Complete) -> Callable[[F], F]:
    also = "; or a scenario file, which ends in .toml" if "FILE" in metavar else ""
    return click.option(
        f"--{what}", f"{what}s", multiple=True, metavar=metavar, shell_complete=complete, callback=_split,
        help=f"only this {what} (repeatable, or with commas){also}",
    )  # fmt: skip


def _split(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Split values at commas, which no name holds; an empty value, as of an unset variable, must not select everything."""
    named = [[name for name in value.split(",") if name] for value in values]
    if not all(named):
        raise click.BadParameter("it names nothing; without the option everything is selected.")
    return tuple(name for names in named for name in names)


_SELECTION = (
    _only("stage", "NAME", completing.stages),
    _only("profile", "NAME", completing.profiles),
    _only("check", "ID", completing.checks),
    _only("scenario", "ID|FILE", completing.scenarios),
)

STRICT = click.option("--strict", is_flag=True, help="warnings, flaky and unproven mandatory checks fail; they are listed")
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="also list what could not be judged")
SEED = click.option("--seed", type=click.IntRange(0), metavar="N", default=DEFAULT_SEED, show_default=True,
                    help="draws serial numbers, sizes and data")  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="as JSON")


def selection(function: F) -> F:
    """Add --stage, --profile, --check and --scenario."""
    return _all(_SELECTION, function)


def machine(function: F) -> F:
    """Add the options that override `lab.settings.Settings`; read them with `settings`."""
    return _all(_MACHINE, function)


def settings(options: dict[str, Any]) -> Settings:
    """Return the settings, with these options over all other sources."""
    return load(options)


def _all(options: tuple[Callable[[F], F], ...], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function
