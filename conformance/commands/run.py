"""``nvme-lab run``: what can be said on the command line. What it does is in `conformance.commands.running`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from conformance.commands import completing
from conformance.commands.options import STRICT, VERBOSE, machine, selection
from lab.data.manifest import PROFILES, STAGES
from lab.data.plan import MACHINE, DeviceKind

DEVICES: tuple[DeviceKind, ...] = get_args(DeviceKind)
EMULATED = tuple(device for device in DEVICES if device != MACHINE)
"""Devices that stand in front of a guest."""
NEWEST = Path("nvme-lab-results/latest")


def option_for(name: str) -> str:
    """Return the option that takes a name: --stage, --profile, --check, --scenario, --driver; "" if none does."""
    from conformance.suite.selection import CHECKS, SCENARIOS
    from lab import drivers

    known = {"--stage": STAGES, "--profile": PROFILES, "--check": CHECKS, "--scenario": SCENARIOS, "--driver": drivers.names()}
    if name.endswith(".toml"):
        return "--driver"
    return next((option for option, names in known.items() if name in names), "")


PYTESTS: Mapping[str, str] = {
    "-k": "--check, --scenario or --stage selects",
    "-m": "--stage or --check selects",
    "-n": "--jobs N records N scenarios at once",
    "-x": "a run goes on after a failure; --check or --scenario narrows it",
    "--exitfirst": "a run goes on after a failure; --check or --scenario narrows it",
    "--lf": "--last-failed runs what failed",
    "--junitxml": "a run writes junit.xml into its folder, --out DIR",
}
"""Options of pytest that people type here, and what does it instead."""


class Selecting(click.Command):
    """A command that knows what people mean who name a stage, check, scenario or driver without its option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; for one that is no option, say which option takes it."""
        words = list(args)  # the parser takes them off the list
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in PYTESTS:
                ctx.fail(f"No such option {error.option_name!r}: {PYTESTS[error.option_name]}.")
            raise
        except click.UsageError as error:
            found = re.match(r"Got unexpected extra arguments? \((\S+)", error.message)
            named = found[1].rstrip(")") if found else ""
            if named in words and (option := option_for(named)):
                ctx.fail(f"Got unexpected extra argument {named!r}; did you mean {option} {named}?")
            raise


@click.command(
    cls=Selecting,
    epilog="Exit status: 0 nothing new failed, 1 a driver failed, 2 the lab failed, 3 a selected stage with nothing judged, "
    "4 wrong usage, 129, 130 or 143 interrupted, 141 its output was closed.",
)
@click.option(
    "--driver", "drivers", multiple=True, metavar="NAME|FILE", shell_complete=completing.drivers,
    help="a driver's name or its manifest, with @VERSION, @FIRST..LAST, @newest or '@*' its versions (repeatable) "
    "[default: linux]",
)  # fmt: skip
@selection
@click.option("--device", "devices", multiple=True, type=click.Choice(DEVICES), help="device in front of it [default: all]")
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="scenarios at once [default: two more than processors]")
@click.option("--tx", multiple=True, metavar="SPEC", help="workers elsewhere, as pytest-xdist has it: ssh=HOST (repeatable)")
@click.option("--shard", default="", metavar="N/M", help="only this one of M parts, which cost the same (see report)")
@click.option("--times", type=click.Path(path_type=Path), metavar="RESULT", help="earlier results, to split and order by")
@click.option(
    "--cover", type=click.Path(path_type=Path), metavar="RESULT",
    help="only a cover: the few scenarios that together judge, and find, all that RESULT did, and those that it does not hold",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), metavar="N", help="draws serial numbers, sizes and data [default: 0]")
@click.option("--defect", default="", metavar="ID", help="seed this mistake into the reference driver (see nvme-lab defects)")
@click.option("--variant", default="", metavar="ID", help="give the reference driver this legal peculiarity, or ID+ID…")
@click.option(
    "--last-failed", type=click.Path(path_type=Path), is_flag=False, flag_value=NEWEST, metavar="[RESULT]",
    help="only the scenarios in which a driver or the lab failed in RESULT, or in the newest results here; "
    "drivers, seed and defect are theirs unless you name others",
)  # fmt: skip
@click.option(
    "--repeat", type=click.IntRange(1, 1000), default=1, metavar="N",
    help="record all of it N times, and count how often each check failed",
)  # fmt: skip
@click.option(
    "--resume", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="go on with the unfinished run in DIR, after a kill, a crash or a reboot",
)  # fmt: skip
@click.option(
    "--confirm/--no-confirm", default=lambda: os.environ.get("CI", "").lower() in ("1", "true"),
    show_default="on where CI=true",
    help="record a scenario with a new failure once more: a failure that does not come back is FLAKY",
)  # fmt: skip
@click.option("--coverage", is_flag=True, help="which code of the driver each scenario executes (see nvme-lab coverage)")
@click.option(
    "--stop-at", default="", metavar="EVENT|CHECK",
    help="stop the guest at fault, panic, timeout or a check's first violation, and show where in the driver it is",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="folder for the results")
@STRICT
@click.option("--keep", is_flag=True, help="remove no older results (otherwise the ten newest stay)")
@click.option(
    "--bisect", is_flag=True,
    help="exit 125 on lab failure or no verdict (for git bisect run); with --driver NAME@FIRST..LAST: which version changed it",
)  # fmt: skip
@click.option("--watch", is_flag=True, help="run what failed again when a file of the driver's manifest changes, until Ctrl-C")
@click.option("--dry-run", is_flag=True, help="say what would be recorded and how long it would take, and do nothing")
@click.option("--console-text", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="with --dry-run: what the driver's manifest reads in this text of a console")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="events as they happen, a JSON object a line; all else goes to stderr")
@VERBOSE
@machine
def run(**options: Any) -> int:
    """Record and judge drivers.

    \b
    nvme-lab run                                     Linux, all stages
    nvme-lab run --driver u-boot --driver my.toml    two drivers
    nvme-lab run --check read/nlb --seed 7           one check, other data
    nvme-lab run --driver my.toml --stage read --watch   what failed, after each build
    nvme-lab run --last-failed                       what failed in the run before, again
    nvme-lab run --check read/nlb --repeat 20        is the verdict the same each time?
    nvme-lab run --driver edk2@2020.11               an older version; 'edk2@*' is all of them
    nvme-lab run --driver 'edk2@*' --cover all.json  few scenarios that find all that all.json has
    nvme-lab run --resume nvme-lab-results/latest    go on after a kill or a reboot
    """
    from conformance.commands.running import run as running  # takes a while to import, and completion must not

    return running(**options)
