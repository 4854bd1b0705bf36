"""The commands of ``nvme-lab``, one module each, imported on use; and how a command ends."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from signal import SIGPIPE
from typing import NamedTuple

import click

from conformance.run import signals
from conformance.run.output import guarded_stdout
from lab import log
from lab.errors import LabError, UsageError, nearest
from lab.guest.folder import sweep_all


class Entry(NamedTuple):
    """A command: its module in here and what of it is the command, and what it does in a line that fits 80 columns."""

    place: str
    summary: str


GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "Test a driver": {
        "run": Entry("run:run", "Record and judge drivers."),
        "observe": Entry("observe:observe", "Boot a system as it is, and judge its driver on the wire."),
        "init": Entry("init:init", "Write a manifest for a kernel, disk, firmware or module."),
        "shell": Entry("shell:shell", "Open a guest's console in a scenario."),
        "replay": Entry("replay:replay", "Record a scenario again, and compare the verdicts."),
        "guest": Entry("guest:guest", "Run a script in the Linux guest, on a device of yours."),
        "serve": Entry("serve:serve", "Serve a device with its faults by the vfio-user protocol."),
    },
    "Understand a verdict": {
        "explain": Entry("explain:explain", "Explain a check: the rule, why it matters, right code."),
        "wire": Entry("wire:wire", "Show what host and device said to each other, decoded."),
        "diff": Entry("diff:diff", "Show where two recordings part."),
        "list": Entry("listing:list_group", "List drivers, stages, checks, scenarios, defects, faults."),
    },
    "Use results": {
        "report": Entry("evidence:report", "Render results; several (shards) are merged first."),
        "compare": Entry("compare:compare", "Compare two results: regressions, fixes, lost checks."),
        "history": Entry("history:history", "Show which version of a driver brought which fault."),
        "matrix": Entry("matrix:matrix", "Render many results as one static site with badges."),
        "coverage": Entry("coverage:coverage", "Show which code of its drivers a run has executed."),
        "judge": Entry("evidence:judge", "Judge recorded evidence again, without QEMU."),
        "verify": Entry("verify:verify_command", "Check that a result is what was written, and who signed."),
        "sign": Entry("verify:sign_command", "Verify a result, and sign its digests with an ssh key."),
    },
    "Find new faults": {
        "sweep": Entry("sweep:sweep", "Inject each fault at every command and access."),
        "fuzz": Entry("fuzz:fuzz", "Mutate device, bytes and requests; keep what is new."),
        "shrink": Entry("shrink:shrink_command", "Find the smallest scenario that fails the same check."),
    },
    "This machine, and the lab itself": {
        "doctor": Entry("machine:doctor", "List what this machine lacks, and how to fix it."),
        "fetch": Entry("machine:fetch", "Download and build all that runs need, to work offline."),
        "defects": Entry("defects:defects", "Seed mistakes into the reference driver: are they caught?"),
        "behaviours": Entry("behaviours:behaviours", "Show each behaviour of the device on a live Linux."),
        "bench": Entry("bench:bench_group", "Measure the lab, against something else in the same run."),
        "test": Entry("project:test", "Run the project's own tests."),
        "completion": Entry("completion:completion", "Print the script that completes commands and names."),
    },
}
"""Every command by what it is for, in the order of --help, which imports none of them."""
COMMANDS: Mapping[str, Entry] = {name: entry for entries in GROUPS.values() for name, entry in entries.items()}


class Commands(click.Group):
    """A group that imports a command on use, so that completion and early errors are quick."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names of all commands, in the order of --help."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(import_module(f"conformance.commands.{module}"), attribute)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and what they do, by what they are for."""
        width = max(map(len, COMMANDS))
        for heading, entries in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:{width}}", entry.summary) for name, entry in entries.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name; an unknown name is answered with the nearest."""
        name = args[0]
        if name == "help":  # as people type it
            args = [*args[1:2], "--help"]
            name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}{nearest(name, COMMANDS)}")
        return super().resolve_command(ctx, args)


def _version(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from lab.version import lab_version

        click.echo(f"nvme-lab {lab_version()}")
        context.exit()


def _debug(_context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked:
        os.environ[log.DEBUG] = "1"
        log.show()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="the version of the lab")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_debug,
    help="log what the lab does, and show tracebacks, on stderr",
)
def nvme_lab() -> None:
    """Test NVMe drivers against the specification.

    NVMe Lab boots a guest under QEMU, plugs an NVMe device, asks the driver, records what the device saw, and judges it.

    \b
    nvme-lab run                          the Linux driver, all stages
    nvme-lab run --driver my-os.toml      your driver, by its manifest
    nvme-lab run --stage read             one stage alone
    nvme-lab observe build/kernel.elf     your system as it is, without a manifest
    nvme-lab init build/kernel.elf        a manifest for your driver
    """
    sweep_all()


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status. Errors are a sentence on stderr, after a traceback if `log.is_debug`."""
    log.show()
    with signals.interrupting() as received:
        try:
            with guarded_stdout():
                status = nvme_lab.main(args=arguments, prog_name="nvme-lab", standalone_mode=False, obj=received)
        except click.exceptions.Exit as ended:
            status = ended.exit_code
        except click.ClickException as error:
            _in_plain_words(error).show()
            status = UsageError.exit_status
        except LabError as error:
            _report(str(error))
            status = error.exit_status
        except (KeyboardInterrupt, click.Abort):
            if SIGPIPE not in received:
                _report("interrupted")
            status = LabError.exit_status
        except OSError as error:
            _report(f"{error.filename or 'the system'}: {error.strerror or error}")
            status = LabError.exit_status
        except Exception as error:
            what = f"a mistake in the lab itself: {type(error).__name__}: {error}"
            _report(f"{what}\n  remedy: nvme-lab --debug shows the traceback; report it")
            status = LabError.exit_status
    return signals.status(received, int(status or 0))


def _in_plain_words(error: click.ClickException) -> click.ClickException:
    """Return click's error about a number in words of ours; any other as it is."""
    if not isinstance(error, click.BadParameter):
        return error
    message = re.sub(r"is not a valid integer( range)?\.$", "is not a whole number.", error.message)
    return click.BadParameter(message, error.ctx, error.param, error.param_hint) if message != error.message else error


def _report(text: str) -> None:
    """Print an error to standard error, after its traceback if `log.is_debug`; a closed standard error is no error."""
    with suppress(OSError):
        if log.is_debug():
            traceback.print_exc()
        print(f"nvme-lab: {text}", file=sys.stderr)
