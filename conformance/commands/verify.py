"""``nvme-lab verify`` and ``nvme-lab sign``: is a result what was written, and by whom."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

from conformance.judging.manifest import FILE, verify
from conformance.wire.decode import printable, printable_lines
from lab.data.evidence import evidence_folders
from lab.errors import LabError, UsageError

NAMESPACE = "nvme-lab"
SIGNATURE = f"{FILE}.sig"
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
SHOWN = 20


@click.command("verify", epilog="Exit status: 0 nothing changed, 2 something did, or the signature is wrong.")
@click.argument("result", type=FOLDER)
@click.option("--signers", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="ssh's list of allowed signers: the result must be signed by one of them")  # fmt: skip
@click.option("--signer", default="", metavar="NAME", help="the signer in that list [default: any]")
def verify_command(result: Path, signers: Path | None, signer: str) -> int:
    """Check that a result and its evidence are what was written, by digests, and who signed it.

    \b
    nvme-lab verify nvme-lab-results/latest
    nvme-lab verify nvme-lab-results/latest --signers allowed_signers --signer ci@example.org
    """
    _check(result)
    signed = (result / SIGNATURE).is_file()
    if signers is not None:
        if not signed:
            raise LabError(f"{result} is not signed.", remedy=f"nvme-lab sign {result} --key KEY")
        name = signer or _signer(result, signers)
        _ssh_keygen(["verify", "-f", str(signers), "-I", name, "-n", NAMESPACE, "-s", str(result / SIGNATURE)], result)
        click.echo(f"Signed by {printable(name)}.")
    elif signed:
        said = _ssh_keygen(["check-novalidate", "-n", NAMESPACE, "-s", str(result / SIGNATURE)], result)
        click.echo(f"{printable_lines(said.strip())}\nNobody was named whose signature it must be (--signers).")
    count = len(evidence_folders(result))
    click.echo(f"{result} is what was written: {count} recording{'' if count == 1 else 's'}.")
    return 0


@click.command("sign")
@click.argument("result", type=FOLDER)
@click.option("--key", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="an ssh key: private, or public where an agent holds the private one")  # fmt: skip
def sign_command(result: Path, key: Path) -> int:
    """Verify a result, and sign its digests with an ssh key (SHA256SUMS.sig).

    \b
    nvme-lab sign nvme-lab-results/latest --key ~/.ssh/id_ed25519
    """
    _check(result)
    (result / SIGNATURE).unlink(missing_ok=True)
    _ssh_keygen(["sign", "-f", str(key), "-n", NAMESPACE, str(result / FILE)], None)
    click.echo(f"Signed: {result / SIGNATURE}")
    return 0


def _check(result: Path) -> None:
    wrong = list(verify(result))
    for sentence in wrong[:SHOWN]:
        click.echo(printable(sentence))
    if wrong[SHOWN:]:
        click.echo(f"and {len(wrong) - SHOWN} more")
    if wrong:
        raise LabError(f"{result} is not what was written: {len(wrong)} of its files or recordings changed.")


def _signer(result: Path, signers: Path) -> str:
    found = _ssh_keygen(["find-principals", "-f", str(signers), "-s", str(result / SIGNATURE)], None)
    return found.splitlines()[0] if found.strip() else ""


def _ssh_keygen(arguments: Sequence[str], result: Path | None) -> str:
    """Run ``ssh-keygen -Y``, with the digests of a result on its standard input; LabError with its words if it fails."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise UsageError("ssh-keygen is not on the PATH.", remedy="install openssh-client")
    data = (result / FILE).read_bytes() if result else b""
    done = subprocess.run([program, "-Y", *arguments], input=data, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"ssh-keygen -Y {arguments[0]}: {printable(done.stderr.decode(errors='replace').strip())}")
    return done.stdout.decode(errors="replace")
