"""``nvme-lab completion``: what makes a shell complete our commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "nvme-lab"
VARIABLE = "_NVME_LAB_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, and the names of drivers, stages, checks and scenarios.

    \b
    eval "$(nvme-lab completion bash)"            in ~/.bashrc
    eval "$(nvme-lab completion zsh)"             in ~/.zshrc
    nvme-lab completion fish > ~/.config/fish/completions/nvme-lab.fish
    """
    made = get_completion_class(shell)
    assert made is not None, f"click completes {shell}"
    click.echo(made(context.find_root().command, {}, PROGRAM, VARIABLE).source())
