"""The commands of ``nvme-lab`` (cli.md), a module each, and how any of them ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from conformance import signals
from conformance.campaign import lab_version
from conformance.commands.behaviours import behaviours
from conformance.commands.bench import bench_group
from conformance.commands.compare import compare
from conformance.commands.defects import defects
from conformance.commands.diff import diff
from conformance.commands.evidence import judge, report
from conformance.commands.listing import list_group
from conformance.commands.machine import doctor, fetch
from conformance.commands.project import test
from conformance.commands.run import run
from conformance.commands.wire import wire
from conformance.results import WRONG_USAGE
from lab.errors import LabError
from lab.guest.folder import sweep_all


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(lab_version(), prog_name="nvme-lab")
def nvme_lab() -> None:
    """NVMe Lab tests NVMe drivers: it boots a guest under QEMU, plugs an NVMe device, asks the driver, records what the
    device saw, and judges it by the specification.

    \b
    nvme-lab run                          the Linux driver, all stages
    nvme-lab run --driver my-os.toml      your driver, by its manifest
    nvme-lab run --stage read             one stage alone
    """
    sweep_all()


for command in (run, test, list_group, judge, report, defects, bench_group, doctor, fetch, behaviours, wire, compare, diff):
    nvme_lab.add_command(command)


def run_command(arguments: Sequence[str] | None = None, *, debug: bool = False) -> int:
    """Runs a command line; its exit status. Errors are a sentence on stderr; with ``debug``, a traceback before it."""
    with signals.interrupting() as received:
        try:
            status = nvme_lab.main(args=arguments, prog_name="nvme-lab", standalone_mode=False)
        except click.exceptions.Exit as ended:
            status = ended.exit_code
        except click.ClickException as error:
            error.show()
            status = WRONG_USAGE
        except LabError as error:
            if debug:
                traceback.print_exc()
            print(f"nvme-lab: {error}", file=sys.stderr)
            status = error.exit_status
        except (KeyboardInterrupt, click.Abort):
            if debug:
                traceback.print_exc()
            print("nvme-lab: interrupted", file=sys.stderr)
            status = 2
        except BrokenPipeError:  # the reader of our output has gone, and needs no more of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it ends
            status = 0
        except Exception as error:
            if debug:
                traceback.print_exc()
            print(
                f"nvme-lab: a mistake in the lab itself: {type(error).__name__}: {error}\n"
                "  remedy: set NVME_LAB_DEBUG=1 for the traceback, and report it",
                file=sys.stderr,
            )
            status = 2
    return 128 + received[0] if received else int(status or 0)
