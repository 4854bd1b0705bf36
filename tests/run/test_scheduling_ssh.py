"""Workers by SSH, as on another machine: a cache and a folder of their own, the evidence comes back with the verdicts."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.judging.files import read
from conformance.run.scheduler import pack, unpack
from lab.data.evidence import Evidence
from lab.toolchain import contents
from lab.toolchain.closures import Fetched

WITH_PASSWD = 'mount --bind "$0" /etc/passwd && exec "$@"'
"""What gives a program another list of users, in a mount namespace of its own."""


@dataclass(frozen=True)
class Sshd:
    """OpenSSH's server: the machine's, or Debian's."""

    command: Sequence[str]
    environment: Mapping[str, str]


@pytest.fixture
def sshd(sshd_files: Fetched, tmp_path: Path) -> Sshd:
    """Return a server that accepts this user. Root's needs a user called sshd; where there is none it is given one."""
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    if os.getuid() not in {entry.pw_uid for entry in users.values()}:
        pytest.skip(f"sshd knows no user {os.getuid()}")
    installed = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    command, environment = [installed or ""], dict(os.environ)
    if not installed:
        root = sshd_files.root
        command = [str(root / "usr/sbin/sshd")]
        libraries = (str(root / folder) for folder in contents.read(root).library_folders)
        environment["LD_LIBRARY_PATH"] = ":".join(libraries)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
        if "sshd" not in users:
            known = tmp_path / "passwd"
            known.write_text(Path("/etc/passwd").read_text() + "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n")
            within = ["unshare", "--mount", "sh", "-c", WITH_PASSWD, str(known)]
            if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
                pytest.skip("root's sshd needs a user sshd, and here is neither that nor a mount namespace")
            command = [*within, *command]
    return Sshd(command, environment)


@pytest.fixture
def configuration(tmp_path: Path, sshd: Sshd) -> Iterator[Path]:
    """Return the ssh_config of OpenSSH's server on the loopback, called ``elsewhere``."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    public = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"elsewhere {public[0]} {public[1]}\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        (folder / "config").write_text(
            f"Host elsewhere\nHostName 127.0.0.1\nPort {port}\nIdentityFile {folder}/user\nIdentitiesOnly yes\nBatchMode yes\n"
            f"HostKeyAlias elsewhere\nUserKnownHostsFile {folder}/known\n"
        )
        serve = threading.Thread(target=_serve, args=(listener, folder, sshd), daemon=True)
        serve.start()
        yield folder / "config"
        listener.shutdown(socket.SHUT_RDWR)
    serve.join()


def _serve(listener: socket.socket, folder: Path, sshd: Sshd) -> None:
    """Serve a session for each connection, until the listener is shut down."""
    sessions: list[subprocess.Popen[bytes]] = []
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            sessions.append(_session(sshd, connection, folder))
    for session in sessions:
        session.wait(30)


def _session(sshd: Sshd, connection: socket.socket, folder: Path) -> subprocess.Popen[bytes]:
    """As from inetd: the connection is its standard input and output."""
    keys = (f"-oHostKey={folder / 'host'}", f"-oAuthorizedKeysFile={folder / 'user.pub'}", "-oStrictModes=no")
    others = ("-oUsePAM=no", "-oPidFile=none", "-oPasswordAuthentication=no", f"-E{folder / 'log'}")
    command = [*sshd.command, "-i", "-f", os.devnull, *keys, *others]
    with connection:
        fd = connection.fileno()
        return subprocess.Popen(command, env=sshd.environment, stdin=fd, stdout=fd, stderr=subprocess.DEVNULL)


def tx(configuration: Path, machine: str = "elsewhere") -> str:
    """Return the worker as an xdist specification."""
    folder = configuration.parent
    path = f"env:PYTHONPATH={os.pathsep.join(sys.path)}"
    return f"ssh={machine}//ssh_config={configuration}//python={shlex.quote(sys.executable)}//chdir={folder / 'remote'}//{path}"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return the reference driver in process, two scenarios: nothing but the workers takes time."""
    asked = ("--driver", "reference", "--device", "lab", "--scenario", "read/basic", "--scenario", "detect/basic")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "conformance.cli", "run", *asked, *arguments],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def verdicts(folder: Path) -> list[tuple[str, str, str]]:
    return [(v.scenario, v.check, str(v.outcome)) for v in read(folder).verdicts]


@pytest.mark.usefixtures("toolchain")
def test_workers_elsewhere_return_the_same_verdicts_and_the_evidence(tmp_path: Path, configuration: Path) -> None:
    here = run(tmp_path, "--jobs", "1", "--out", "here")
    there = run(tmp_path, "--tx", tx(configuration), "--out", "there")
    both = run(tmp_path, "--tx", tx(configuration), "--jobs", "1", "--out", "both")
    log = (configuration.parent / "log").read_text(errors="replace")
    assert here.returncode == there.returncode == both.returncode == 0, (
        log + here.stderr + there.stdout + there.stderr + both.stderr
    )
    assert verdicts(tmp_path / "here") == verdicts(tmp_path / "there") == verdicts(tmp_path / "both")
    assert len(verdicts(tmp_path / "here")) > 40
    for place in ("there", "both"):
        for recorded in read(tmp_path / place).runs:
            folder = tmp_path / place / recorded.evidence
            kept = {file.name for file in folder.rglob("*") if file.is_file()}
            assert {"identity.json", "events.jsonl", "end.json"} <= kept, folder
            assert Evidence(folder).end


@pytest.mark.usefixtures("toolchain")
def test_each_repetition_gets_its_evidence_from_elsewhere(tmp_path: Path, configuration: Path) -> None:
    done = run(tmp_path, "--tx", tx(configuration), "--repeat", "2", "--out", "twice")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All verdicts were the same 2 times." in done.stdout
    for part in ("1", "2"):
        repetition = read(tmp_path / "twice" / part)
        assert len(repetition.runs) == 2
        for recorded in repetition.runs:
            assert Evidence(tmp_path / "twice" / part / recorded.evidence).end


@pytest.mark.usefixtures("toolchain")
def test_a_machine_that_is_not_there_is_named(tmp_path: Path, configuration: Path) -> None:
    done = run(tmp_path, "--tx", tx(configuration, "nowhere.invalid"))
    assert done.returncode == 2
    assert "nowhere.invalid: there is no way" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.usefixtures("toolchain")
def test_a_python_that_is_not_there_is_named(tmp_path: Path, configuration: Path) -> None:
    done = run(tmp_path, "--tx", tx(configuration).replace(shlex.quote(sys.executable), "/nowhere/python"))
    assert done.returncode == 2
    assert "A worker could not be started: elsewhere: there is no way to this machine, or no such Python there" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_holes_survive_the_way(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    with (tmp_path / "from" / "image").open("wb") as image:
        image.truncate(1 << 40)
        image.seek(1 << 39)
        image.write(b"block")
    archive = pack(tmp_path / "from")
    assert len(archive) < 1 << 16
    unpack(archive, tmp_path / "to")
    with (tmp_path / "to" / "image").open("rb") as image:
        image.seek(1 << 39)
        assert image.read(5) == b"block"
    assert (tmp_path / "to" / "image").stat().st_blocks * 512 < 1 << 20
