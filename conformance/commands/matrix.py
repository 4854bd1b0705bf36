"""``nvme-lab matrix``: many results as one static site."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from conformance.judging.files import read
from conformance.judging.models import FILE
from conformance.report import matrix as pages
from lab.errors import UsageError


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="the site")
def matrix(results: Sequence[Path], output: Path) -> None:
    """Render many RESULTs (drivers, versions) as one static site: a table by stage, and a badge for each driver and result.

    RESULT: a folder that nvme-lab run wrote, its results.json, or a folder of such folders. A result is called like its folder.

    \b
    nvme-lab matrix results/6.1 results/6.12 -o site
    nvme-lab matrix nvme-lab-results -o site
    """
    named = [(_name(path), read(path)) for path in _found(results)]
    try:
        pages.write(pages.site(named), output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.", remedy="name another folder with -o") from error
    click.echo(f"Wrote {output / 'index.html'}, with {len(named)} results.")


def _name(path: Path) -> str:
    return (path.parent if path.name == FILE else path).resolve().name


def _found(results: Sequence[Path]) -> list[Path]:
    """Return the results in the order in which they were named; those of a folder of folders by name, links left out."""
    found: dict[Path, Path] = {}
    for path in results:
        inside = [path] if path.is_file() or (path / FILE).is_file() else sorted(path.glob(f"*/{FILE}"))
        if not inside:
            raise UsageError(f"There is no result in {path}.", remedy="name a folder that nvme-lab run wrote")
        for one in inside:
            found.setdefault(one.resolve(), one)
    return list(found.values())
