"""What a guest's QEMU may do on this machine: as little as the lab can arrange."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lab.errors import QmpError
from lab.guest import user
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.toolchain import Toolchain

TCG = "tcg,thread=multi"


def test_qemu_has_no_capabilities_cannot_gain_any_and_is_filtered(toolchain: Toolchain) -> None:
    qemu = toolchain.qemu
    assert qemu
    with Machine(qemu.command, qemu.env, GuestSpec(memory=16, extra=("-S",)), TCG) as machine:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{machine.process.pid}/status").read_text().splitlines())
    for powers in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[powers], 16) == 0, powers
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_qemu_is_a_user_of_its_own_where_root_runs_the_lab(toolchain: Toolchain, tmp_path: Path) -> None:
    """It reaches what it must below a folder that is closed to it, and nothing else there."""
    qemu = toolchain.qemu
    assert qemu
    mine = tmp_path / "mine"
    (mine / "reached").mkdir(parents=True)
    for name in ("reached/image", "reached/closed", "other"):
        (mine / name).write_bytes(bytes(512))
    (mine / "reached/closed").chmod(0o600)
    mine.chmod(0o700)
    spec = GuestSpec(memory=16, memory_file=tmp_path / "memory", extra=("-S",))
    with Machine(qemu.command, qemu.env, spec, TCG, accessible=[mine / "reached"]) as machine:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{machine.process.pid}/status").read_text().splitlines())
        expected = range(user.FIRST, user.LAST) if user.can_switch_user() else [os.getuid()]
        (numbers,) = {status[ids] for ids in ("Uid", "Gid")}
        (number,) = set(map(int, numbers.split()))
        assert number in expected
        assert machine.memory().read(0, 4) is not None

        def opens(name: str) -> bool:
            file = {"driver": "file", "filename": str(mine / name)}
            try:
                machine.qmp("blockdev-add", {"driver": "raw", "node-name": "n", "read-only": True, "file": file})
            except QmpError as refused:
                assert "Permission denied" in str(refused)  # noqa: PT017 - either outcome is right
                return False
            machine.qmp("blockdev-del", {"node-name": "n"})
            return True

        assert opens("reached/image")
        assert opens("reached/closed") == opens("other") == (not user.can_switch_user())


def test_no_two_qemus_are_the_same_user(toolchain: Toolchain) -> None:
    """And none may look into what another one works in."""
    qemu = toolchain.qemu
    assert qemu
    spec = GuestSpec(memory=16, extra=("-S",))
    with (
        Machine(qemu.command, qemu.env, spec, TCG) as one,
        Machine(qemu.command, qemu.env, spec, TCG) as other,
    ):
        users = [Path(f"/proc/{machine.process.pid}").stat().st_uid for machine in (one, other)]
        groups = [machine.folder.stat().st_gid for machine in (one, other)]
        modes = [machine.folder.stat().st_mode & 0o007 for machine in (one, other)]
    if user.can_switch_user():
        assert len(set(users)) == len(set(groups)) == 2
    assert modes == [0, 0]


def test_a_number_is_given_back(tmp_path: Path) -> None:
    with user.allocate(tmp_path) as first, user.allocate(tmp_path) as second:
        assert (first, second) == (user.FIRST, user.FIRST + 1)
    with user.allocate(tmp_path) as again:
        assert again == first


def test_files_are_lent_and_come_back_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "namespaces"
    folder.mkdir(mode=0o700)
    (folder / "image").write_bytes(b"x")
    (folder / "image").chmod(0o600)
    paths = (folder, folder / "image")

    def known() -> list[tuple[int, int, int]]:
        return [(status.st_uid, status.st_gid, status.st_mode & 0o777) for status in (path.stat() for path in paths)]

    before = known()
    if user.can_switch_user():
        with user.group_writable(folder, user.FIRST):
            assert known() == [(os.getuid(), user.FIRST, 0o770), (os.getuid(), user.FIRST, 0o660)]
    assert known() == before == [(os.getuid(), os.getgid(), 0o700), (os.getuid(), os.getgid(), 0o600)]


def test_paths_go_through_the_folders(tmp_path: Path) -> None:
    home = tmp_path / "my höme"
    (home / "lab/images").mkdir(parents=True)
    image = home / "lab/images/one.img"
    image.write_bytes(b"bytes")
    home.chmod(0o700)
    folders = user.InheritedFolders()
    folders.add(image)
    folders.add_paths_in("/usr/bin/env /dev/fd/0 --path=/none/at/all")
    (descriptor,) = folders.descriptors
    request = {"file": {"name": f"{image}"}, "paths": [f"a={home}/lab:{home}/lab/images,b", 7, None], "else": f"/x{home}/lab/y"}
    through = folders.translate(request)
    assert Path(through["file"]["name"]).read_bytes() == b"bytes"
    door = f"/proc/self/fd/{descriptor}"
    assert through["file"]["name"] == f"{door}/images/one.img"
    assert through["paths"] == [f"a={door}:{door}/images,b", 7, None]
    assert through["else"] == request["else"]
    assert folders.translate(f"{home}/label") == f"{home}/label"
    assert folders.translate(json.dumps({"path": f"{image}"})) == f'{{"path": "{door}/images/one.img"}}'
    folders.close()


def test_the_only_way_into_the_guest_is_a_loopback_port(toolchain: Toolchain) -> None:
    qemu = toolchain.qemu
    assert qemu
    with Machine(qemu.command, qemu.env, GuestSpec(memory=16, network=True, extra=("-S",)), TCG) as machine:
        port = machine.ssh_address()
        inodes = {link.readlink().name for link in Path(f"/proc/{machine.process.pid}/fd").iterdir() if link.is_symlink()}
        listening = []
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[9]}]" in inodes:
                    listening.append((table, fields[1]))
    assert listening == [("tcp", f"0100007F:{port:04X}")]
