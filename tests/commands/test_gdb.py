"""What ``nvme-lab shell --gdb`` opens: a debugger attaches to the guest, sees where it is, and lets it go on."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from conformance.commands.shell import open_gdb
from conformance.suite.selection import SCENARIOS
from lab.data.evidence import Evidence
from lab.drivers import find
from lab.errors import UsageError
from lab.guest.machine import Machine
from lab.recording.record import record
from lab.toolchain import Toolchain

SECONDS = 20


class Debugger:
    """The least that speaks GDB's remote serial protocol: packets with their checksums."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS)
        self._socket.connect(str(path))

    def ask(self, request: str) -> str:
        self._socket.sendall(f"${request}#{sum(request.encode()) & 0xFF:02x}".encode())
        said = b""
        while b"#" not in said or len(said.partition(b"#")[2]) < 2:
            if not (more := self._socket.recv(65536)):
                raise AssertionError(f"the connection ended after {said!r}")
            said += more
        self._socket.sendall(b"+")
        body = said.partition(b"$")[2].partition(b"#")[0]
        assert int(said.partition(b"#")[2][:2], 16) == sum(body) & 0xFF
        return body.decode("latin-1")

    def close(self) -> None:
        self._socket.close()


@pytest.mark.slow
def test_a_debugger_attaches_to_a_guest_and_lets_it_go_on(toolchain: Toolchain, tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def visit(guest: Machine) -> None:
        path = tmp_path / "gdb"
        assert open_gdb(guest, str(path)) == f"gdb -ex 'target remote {path}'"
        debugger = Debugger(path)
        seen["stopped"] = debugger.ask("?")
        seen["status"] = str(guest.qmp("query-status")["status"])
        seen["memory"] = debugger.ask("m100000,10")
        seen["registers"] = debugger.ask("g")
        assert debugger.ask("D") == "OK"
        debugger.close()
        seen["after"] = str(guest.qmp("query-status")["status"])
        if shutil.which("gdb"):
            commands = ("set confirm off", f"target remote {path}", "info registers eip", "detach")
            options = [word for command in commands for word in ("-ex", command)]
            done = subprocess.run(
                ["gdb", "-nx", "-batch", *options], capture_output=True, text=True, timeout=SECONDS, check=False
            )
            seen["gdb"] = done.stdout + done.stderr
            seen["after"] = str(guest.qmp("query-status")["status"])
        with pytest.raises(UsageError, match="cannot be made"):
            open_gdb(guest, str(tmp_path / "no" / "such" / "folder"))

    scenario = SCENARIOS["detect/basic"].resolve(0)
    record(find("u-boot"), scenario, "lab", tmp_path / "evidence", toolchain=toolchain, visit=visit)
    end = Evidence(tmp_path / "evidence").end
    assert end, "the recording was cut short"
    assert end.outcome == "complete", end.reason
    assert seen["stopped"].startswith("T05"), seen
    assert (seen["status"], seen["after"]) == ("paused", "running")
    assert len(bytes.fromhex(seen["memory"])) == 16
    assert len(seen["registers"]) > 100
    assert "gdb" not in seen or "eip" in seen["gdb"], seen["gdb"]
