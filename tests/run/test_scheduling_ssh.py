"""Workers by SSH, as on another machine: a cache and a folder of their own, the evidence comes back with the verdicts."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest

from conformance.judging.files import read
from conformance.run.scheduler import pack, unpack
from lab.data.evidence import Evidence


class Server(paramiko.ServerInterface):
    """Lets everybody with the key run commands, like OpenSSH's. For machines that have a client only."""

    def __init__(self, key: paramiko.PKey) -> None:
        self._key = key

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL if key == self._key else paramiko.common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_execute, args=(channel, command), daemon=True).start()
        return True


def _execute(channel: paramiko.Channel, command: bytes) -> None:
    """Between a channel and a shell, until both have ended."""
    with subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as shell:
        assert shell.stdin
        assert shell.stdout
        copied = threading.Thread(target=_copy_in, args=(channel, shell.stdin.fileno(), shell), daemon=True)
        copied.start()
        while data := os.read(shell.stdout.fileno(), 1 << 16):
            channel.sendall(data)
    channel.send_exit_status(shell.returncode)
    channel.close()


def _copy_in(channel: paramiko.Channel, to: int, shell: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        while data := channel.recv(1 << 16):
            os.write(to, data)
    assert shell.stdin
    shell.stdin.close()


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[Path]:
    """Return the ssh_config of a server on the loopback, called ``elsewhere``: OpenSSH's if installed, else our own."""
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
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") if os.environ.get("NVME_LAB_TEST_SSHD") != "own" else None
        serve = threading.Thread(target=_serve, args=(listener, folder, sshd), daemon=True)
        serve.start()
        yield folder / "config"
        listener.shutdown(socket.SHUT_RDWR)
    serve.join()


def _serve(listener: socket.socket, folder: Path, sshd: str | None) -> None:
    """Serve a session for each connection, until the listener is shut down."""
    sessions: list[subprocess.Popen[bytes] | paramiko.Transport] = []
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            sessions.append(_openssh(sshd, connection, folder) if sshd else _own(connection, folder))
    for session in sessions:
        if isinstance(session, subprocess.Popen):
            session.wait(30)
        else:
            session.close()


def _openssh(sshd: str, connection: socket.socket, folder: Path) -> subprocess.Popen[bytes]:
    """As from inetd: the connection is its standard input and output."""
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    keys = (f"-oHostKey={folder / 'host'}", f"-oAuthorizedKeysFile={folder / 'user.pub'}", "-oStrictModes=no")
    others = ("-oUsePAM=no", "-oPidFile=none", "-oPasswordAuthentication=no")
    command = [sshd, "-i", "-f", os.devnull, *keys, *others]
    with connection:
        fd = connection.fileno()
        return subprocess.Popen(command, stdin=fd, stdout=fd, stderr=subprocess.DEVNULL)


def _own(connection: socket.socket, folder: Path) -> paramiko.Transport:
    transport = paramiko.Transport(connection)
    transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(folder / "host")))
    transport.start_server(server=Server(paramiko.Ed25519Key.from_private_key_file(str(folder / "user"))))
    return transport


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
    assert here.returncode == there.returncode == both.returncode == 0, here.stderr + there.stdout + there.stderr + both.stderr
    assert verdicts(tmp_path / "here") == verdicts(tmp_path / "there") == verdicts(tmp_path / "both")
    assert len(verdicts(tmp_path / "here")) > 40
    for place in ("there", "both"):
        for recorded in read(tmp_path / place).runs:
            folder = tmp_path / place / recorded.evidence
            kept = {file.name for file in folder.rglob("*") if file.is_file()}
            assert {"identity.json", "events.jsonl", "end.json"} <= kept, folder
            assert Evidence(folder).end


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
