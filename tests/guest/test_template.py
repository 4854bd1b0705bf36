"""The keeping of templates, with a guest so small that it takes a tenth of a second: QEMU alone, its processor never runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lab.deadline import Deadline
from lab.errors import GuestError, LabError
from lab.guest import template as module
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.machine import Machine
from lab.guest.memory import ForkMemory
from lab.guest.template import ForkError, SnapshotPreparer, Template, Templates, clear, copy_sparse, dig_holes, templates
from lab.toolchain import Toolchain
from lab.toolchain.cache import Cache

TCG = "tcg,thread=multi"
SMALL = GuestSpec(memory=16, extra=("-S",))


class Counting:
    """Settles nothing, and counts how often it was asked to."""

    cache_key = "test"

    def __init__(self, base: SnapshotPreparer | None = None) -> None:
        self.base = base
        self.built = 0

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        self.built += 1


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kept(toolchain: Toolchain, cache: Cache, said: list[str]) -> Templates:
    assert toolchain.qemu
    return Templates(cache, toolchain.qemu, TCG, said.append)


@pytest.fixture
def start(toolchain: Toolchain) -> Callable[[Template], Machine]:
    qemu = toolchain.qemu
    assert qemu
    return lambda template: Machine(qemu.command, qemu.env, template.forked(SMALL), TCG)


def test_built_once(kept: Templates, said: list[str]) -> None:
    preparer = Counting()
    first = kept.get(SMALL, preparer)
    assert kept.get(SMALL, preparer) == first
    assert preparer.built == 1
    assert [text.split(",")[0] for text in said] == ["booting a guest with 1 CPU and 16 MiB"]


@pytest.mark.parametrize("other", [{"memory": 32}, {"smp": 2}, {"iommu": True}, {"root_ports": 1}, {"extra": ("-S", "-S")}])
def test_another_guest_has_another_template(kept: Templates, other: dict[str, object]) -> None:
    preparer = Counting()
    assert kept.get(SMALL, preparer) != kept.get(replace(SMALL, **other), preparer)  # type: ignore[arg-type]
    assert preparer.built == 2


def test_another_file_or_settler_has_another_template(kept: Templates, tmp_path: Path, toolchain: Toolchain) -> None:
    kernel = tmp_path / "vmlinux"
    assert toolchain.linux
    spec = replace(SMALL, kernel=kernel, memory=128)
    kernel.symlink_to(toolchain.linux.vmlinux)
    preparer = Counting()
    first = kept.get(spec, preparer)
    os.utime(kernel)
    second = kept.get(spec, preparer)
    preparer.cache_key = "another version"
    assert len({first.folder, second.folder, kept.get(spec, preparer).folder}) == 3


RACER = """
import json, sys, time
from pathlib import Path
from lab.guest.arguments import GuestSpec
from lab.guest.template import Templates
from lab.toolchain.cache import Cache
from lab.toolchain.qemu import Qemu

class Slow:
    cache_key, base = "test", None
    def prepare(self, machine, deadline):
        with open(sys.argv[2], "a") as log:
            log.write(f"{machine.process.pid}\\n")
        time.sleep(float(sys.argv[3]))

cache, given = sys.argv[1], json.loads(sys.argv[4])
qemu = Qemu(tuple(given["command"]), given["env"], (9,), "machine", None, given["sha256"], (), None)
print("ready", flush=True)
sys.stdin.readline()
spec = GuestSpec(memory=16, extra=("-S",))
print(Templates(Cache(Path(cache)), qemu, "tcg,thread=multi", lambda text: None).get(spec, Slow()).born, flush=True)
"""


def racer(toolchain: Toolchain, cache: Cache, log: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that is about to ask for the template."""
    qemu = toolchain.qemu
    assert qemu
    given = json.dumps({"command": qemu.command, "env": dict(qemu.env), "sha256": qemu.sha256})
    process = subprocess.Popen(
        [sys.executable, "-c", RACER, str(cache.root), str(log), str(seconds), given],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_two_processes_one_builds(toolchain: Toolchain, cache: Cache, tmp_path: Path) -> None:
    log = tmp_path / "built"
    racers = [racer(toolchain, cache, log, 0.3) for _ in range(2)]
    for process in racers:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    born = {process.communicate(timeout=60)[0] for process in racers}
    assert [process.returncode for process in racers] == [0, 0]
    assert len(born) == 1
    assert len(log.read_text().splitlines()) == 1


def test_a_killed_build_leaves_nothing_half(toolchain: Toolchain, cache: Cache, tmp_path: Path, kept: Templates) -> None:
    log = tmp_path / "built"
    process = racer(toolchain, cache, log, 600)
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    deadline = Deadline(30)
    while not (log.exists() and log.read_text().endswith("\n")) and not deadline.expired:
        time.sleep(0.01)
    pid = int(log.read_text())
    process.kill()
    process.communicate(timeout=30)
    assert templates(cache) == []
    preparer = Counting()
    kept.get(SMALL, preparer)
    assert preparer.built == 1
    assert [path.suffix for path in (cache.root / "templates").iterdir()] == [""]
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() and not deadline.expired:
        time.sleep(0.01)
    assert not deadline.expired, "the killed builder's QEMU still runs"


def test_a_build_that_fails_leaves_nothing(kept: Templates, cache: Cache) -> None:
    class Failing(Counting):
        def prepare(self, machine: Machine, deadline: Deadline) -> None:
            raise GuestError("no")

    with pytest.raises(GuestError, match="no"):
        kept.get(SMALL, Failing())
    assert list((cache.root / "templates").iterdir()) == []


def test_what_cannot_be_saved_cannot_be_forked(kept: Templates, cache: Cache) -> None:
    blocking = replace(SMALL, devices=({"driver": "ivshmem-plain", "memdev": "m"},),
                       extra=("-S", "-object", "memory-backend-ram,id=m,size=1M"))  # fmt: skip
    with pytest.raises(ForkError, match=r"cannot fork this guest: QEMU refused .* migrat"):
        kept.get(blocking, Counting())
    assert templates(cache) == []


@pytest.mark.parametrize("damage", ["state", "ram", "template.json", "missing"])
def test_what_is_damaged_is_built_again(kept: Templates, said: list[str], damage: str) -> None:
    preparer = Counting()
    first = kept.get(SMALL, preparer)
    match damage:
        case "state":
            content = bytearray((first.folder / "state").read_bytes())
            content[len(content) // 2] ^= 1
            (first.folder / "state").write_bytes(content)
        case "ram":
            os.truncate(first.folder / "ram", MIB)
        case "template.json":
            (first.folder / "template.json").write_text("{")
        case "missing":
            (first.folder / "ram").unlink()
    assert kept.get(SMALL, preparer).born != first.born
    assert preparer.built == 2
    assert "is damaged" in said[1]


def forge(template: Template) -> None:
    """Replace the state by one that matches its digest, and that no QEMU restores."""
    (template.folder / "state").write_bytes(b"nonsense")
    facts = json.loads((template.folder / "template.json").read_text())
    facts["sizes"]["state"] = 8
    facts["state"] = module._digest(template.folder / "state")
    (template.folder / "template.json").write_text(json.dumps(facts))


def test_what_does_not_restore_is_built_again_once(
    kept: Templates, said: list[str], start: Callable[[Template], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    preparer = Counting()
    forge(kept.get(SMALL, preparer))
    with kept.fork(SMALL, preparer, start) as machine:
        assert machine.qmp("query-status")["status"] == "running"
    assert preparer.built == 2
    assert "does not restore" in said[1]

    build = Templates._build

    def hopeless(self: Templates, folder: Path, *rest: object) -> None:
        build(self, folder, *rest)  # type: ignore[arg-type]
        forge(Template(folder, ""))

    monkeypatch.setattr(Templates, "_build", hopeless)
    forge(kept.get(SMALL, preparer))
    with pytest.raises(GuestError), kept.fork(SMALL, preparer, start):
        pass
    assert preparer.built == 3


def test_an_error_of_the_forks_user_is_not_the_templates(kept: Templates, start: Callable[[Template], Machine]) -> None:
    preparer = Counting()
    with pytest.raises(GuestError, match="mine"), kept.fork(SMALL, preparer, start):
        raise GuestError("mine")
    assert preparer.built == 1


def test_discarding_spares_what_another_has_built_since(kept: Templates) -> None:
    template = kept.get(SMALL, Counting())
    kept.discard(Template(template.folder, "an earlier one"))
    assert template.folder.is_dir()
    kept.discard(template)
    assert not template.folder.exists()
    kept.discard(template)


def test_the_least_used_go_first(kept: Templates, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (16, 24, 32)
    folders = [kept.get(replace(SMALL, memory=memory), Counting()).folder for memory in sizes]
    for age, folder in enumerate([folders[1], folders[2], folders[0]]):
        os.utime(folder / "template.json", (age, age))
    assert [found.folder for found in templates(cache)] == [folders[1], folders[2], folders[0]]
    monkeypatch.setattr(module, "LIMIT", sum(found.size for found in templates(cache)[1:]))
    kept.get(replace(SMALL, memory=16), Counting())
    assert {found.folder for found in templates(cache)} == {folders[0], folders[2]}
    monkeypatch.setattr(module, "LIMIT", 0)
    kept.get(replace(SMALL, memory=16), Counting())
    assert [found.folder for found in templates(cache)] == [folders[0]], "the one in use stays"


def test_what_a_kill_left_is_removed_in_the_end(kept: Templates, cache: Cache) -> None:
    old, new = (cache.folder("templates", name) for name in ("x.partial", "y.partial"))
    os.utime(old, (0, 0))
    kept.get(SMALL, Counting())
    assert not old.exists()
    assert new.exists()


def test_clearing_frees_all(kept: Templates, cache: Cache, start: Callable[[Template], Machine]) -> None:
    with kept.fork(SMALL, Counting(), start) as machine:
        (found,) = templates(cache)
        assert found.size > 100_000
        assert found.facts["guest"]["memory"] == 16
        assert clear(cache) > 100_000  # blocks are allocated late: not found.size to the byte
        assert machine.qmp("query-status")["status"] == "running", "a fork that runs goes on"
    assert templates(cache) == []
    assert list((cache.root / "templates").iterdir()) == []


def test_forks_leave_nothing(kept: Templates, start: Callable[[Template], Machine]) -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with kept.fork(SMALL, Counting(), start) as machine:
        pass
    assert machine.process.status == 0
    assert not machine.folder.exists()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_a_sparse_copy(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    with source.open("wb") as file:
        file.truncate(64 * MIB)
        for place, text in ((0, b"first"), (20 * MIB + 17, b"middle"), (64 * MIB - 4, b"last")):
            file.seek(place)
            file.write(text)
    copy_sparse(source, copy)
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_blocks * 512 < MIB


def test_a_copy_of_nothing_but_a_hole(tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    os.truncate(tmp_path / "source", MIB)
    copy_sparse(tmp_path / "source", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == MIB


def test_what_is_zero_takes_no_space(tmp_path: Path) -> None:
    file, content = tmp_path / "ram", bytes(8 * MIB) + b"in use" + bytes(8 * MIB)
    file.write_bytes(content)
    dig_holes(file)
    assert file.read_bytes() == content
    assert file.stat().st_blocks * 512 < MIB


def test_a_template_grows_from_another_one(kept: Templates, start: Callable[[Template], Machine]) -> None:
    class Grown(Counting):
        cache_key = "more"

        def prepare(self, machine: Machine, deadline: Deadline) -> None:
            super().prepare(machine, deadline)
            assert machine.spec.state, "it was booted"

    base = Counting()
    grown = Grown(base)
    template = kept.get(SMALL, grown)
    assert (base.built, grown.built) == (1, 1)
    assert sorted(path.name for path in template.folder.iterdir()) == ["boot.log", "ram", "state", "template.json"]
    assert kept.get(SMALL, base).folder != template.folder
    with kept.fork(SMALL, grown, start) as machine:
        assert machine.qmp("query-status")["running"]
    base.cache_key = "another version"
    assert kept.get(SMALL, grown).folder != template.folder
    assert (base.built, grown.built) == (2, 2)


def test_what_was_refused_is_not_tried_again(kept: Templates) -> None:
    class Refusing(Counting):
        cache_key = "refusing"

        def prepare(self, machine: Machine, deadline: Deadline) -> None:
            super().prepare(machine, deadline)
            raise ForkError("not so")

    preparer = Refusing()
    for _ in range(2):
        with pytest.raises(ForkError, match="not so"):
            kept.get(SMALL, preparer)
    assert preparer.built == 1


def test_memory_of_a_process_that_maps_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not mapped"):
        ForkMemory(os.getpid(), tmp_path / "ram", 16)


def test_an_interrupted_build_ends_in_order(kept: Templates) -> None:
    class Interrupted(Counting):
        def prepare(self, machine: Machine, deadline: Deadline) -> None:
            signal.raise_signal(signal.SIGINT)

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        kept.get(SMALL, Interrupted())
    assert threading.active_count() == threads
