"""The linux adapter before anything runs: modules, parameters, the guest; and the agent's parts that need no kernel."""

import ctypes
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.data.manifest import DriverManifest, parse
from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.drivers import fio
from lab.drivers.bundle import linux_agent_program
from lab.drivers.linux import Linux, can_preload, module_parameters, with_parameters
from lab.drivers.linux_agent import blocks, buffers, information, server, sysfs
from lab.drivers.linux_agent.answers import Fields, RefusedError
from lab.drivers.linux_agent.kernel_log import KernelLog
from lab.drivers.linux_agent.sysfs import read_attribute
from lab.drivers.linux_guest import HIGH_BARS, KERNEL_OPTIONS, ROOT_PORTS, STRICT_IOMMU
from lab.errors import LabError, UsageError
from lab.toolchain import LinuxGuest, Toolchain

CONTROLLERS = tuple(Controller(id=f"nv{n}", serial=f"S{n}", namespaces=(Namespace(blocks=64),)) for n in range(2))
SCENARIO = Scenario(
    id="read/x", stage="read", title="", seed=1, actions=(), device=DeviceSpec(controllers=CONTROLLERS),
    guest={"cpus": 2, "memory": 512, "iommu": True},
)  # fmt: skip


@pytest.fixture
def guest(tmp_path: Path) -> LinuxGuest:
    for name in ("nvme-core.ko", "nvme.ko", "own.ko"):
        (tmp_path / name).write_bytes(name.encode())
    return LinuxGuest(
        vmlinux=tmp_path / "vmlinux", initrd=tmp_path / "initrd", append="console=ttyS0", release="6.1",
        modules=(tmp_path / "nvme-core.ko", tmp_path / "nvme.ko"), private_key=tmp_path / "key", host_key="ssh-ed25519 AAAA",
    )  # fmt: skip


def manifest(folder: Path, **push: Any) -> DriverManifest:
    return parse({"name": "x", "adapter": "linux", "needs": ["linux-guest"], "push": push}, folder / "x.toml", ["linux"])


def adapter(folder: Path, guest: LinuxGuest, **push: Any) -> Linux:
    return Linux(manifest(folder, **push), Toolchain(qemu=None, linux=guest, firmware={}, versions={}))


def test_modules_come_from_the_package_or_from_beside_the_manifest(tmp_path: Path, guest: LinuxGuest) -> None:
    files = adapter(tmp_path, guest, modules=["nvme_core", "nvme", "own.ko"]).files
    assert [path.read_text() for path in files.values()] == ["nvme-core.ko", "nvme.ko", "own.ko"]


@pytest.mark.parametrize(
    ("push", "message"),
    [
        ({"modules": ["nvm"]}, "'nvm' is no module of the guest's kernel package; did you mean 'nvme'?"),
        ({"modules": ["build/nvme.ko"]}, "push.modules: there is no file"),
        ({"modules": ["nvme"], "parameters": {"nvm": "a=1"}}, "no module 'nvm' is pushed; did you mean 'nvme'?"),
        ({"files": {"/x": "none"}}, "push.files: there is no file"),
    ],
)
def test_what_cannot_be_pushed_is_named(tmp_path: Path, guest: LinuxGuest, push: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        adapter(tmp_path, guest, **push)
    assert message in str(refused.value)


def test_words_of_its_own_are_refused(tmp_path: Path, guest: LinuxGuest) -> None:
    given = parse({"name": "x", "adapter": "linux", "actions": {"info": {"command": "x"}}}, tmp_path / "x.toml", ["linux"])
    with pytest.raises(UsageError, match="the linux adapter knows its own words"):
        Linux(given, Toolchain(qemu=None, linux=guest, firmware={}, versions={}))


def test_without_a_guest_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="linux-guest"):
        Linux(manifest(tmp_path), Toolchain(qemu=None, linux=None, firmware={}, versions={}))


def test_the_guest_is_what_the_scenario_asks_for(tmp_path: Path, guest: LinuxGuest) -> None:
    spec = adapter(tmp_path, guest, modules=["nvme"]).guest(SCENARIO)
    assert (spec.smp, spec.memory, spec.iommu) == (2, 512, True)
    assert spec.append == f"console=ttyS0 {HIGH_BARS} {STRICT_IOMMU} {KERNEL_OPTIONS}"
    assert spec.kernel == guest.vmlinux
    assert spec.initrd == guest.initrd
    assert spec.network


def test_the_machine_presents_itself_as_the_scenario_says(tmp_path: Path, guest: LinuxGuest) -> None:
    known = replace(SCENARIO, guest={"system": "Dell Inc./XPS", "board": "ASUS/Z370"})
    assert adapter(tmp_path, guest).guest(known).extra == (
        "-smbios", "type=1,manufacturer=Dell Inc.,product=XPS",
        "-smbios", "type=2,manufacturer=ASUS,product=Z370",
    )  # fmt: skip
    assert not adapter(tmp_path, guest).guest(SCENARIO).extra


@pytest.mark.parametrize(("parts", "limit", "piece"), [(1, "4096", buffers.HUGE_PAGE), (2, "1280", buffers.PAGE)])
def test_one_request_is_as_long_as_the_device_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int, limit: str, piece: int
) -> None:
    queue = tmp_path / "nvme0n1/queue"
    queue.mkdir(parents=True)
    (queue / "max_hw_sectors_kb").write_text("4096\n")
    (queue / "max_sectors_kb").write_text("1280")
    monkeypatch.setattr(blocks, "BLOCK", str(tmp_path))
    buffer, begin = blocks.take_memory({"parts": parts, "offset": 512}, "/dev/nvme0n1", 3 << 20)
    assert len(buffer) >= begin + (3 << 20)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) + begin
    assert address % piece == 512
    assert (queue / "max_sectors_kb").read_text() == limit


@pytest.mark.parametrize(("controllers", "ports"), [(1, ROOT_PORTS), (ROOT_PORTS + 1, ROOT_PORTS + 1)])
def test_every_controller_has_a_port(tmp_path: Path, guest: LinuxGuest, controllers: int, ports: int) -> None:
    many = DeviceSpec(controllers=CONTROLLERS[:1] * controllers)
    assert adapter(tmp_path, guest).guest(replace(SCENARIO, device=many)).root_ports == ports


def test_all_that_the_agent_can_do_for_the_driver_is_an_action(tmp_path: Path, guest: LinuxGuest) -> None:
    assert adapter(tmp_path, guest).actions == server.ACTIONS.keys()
    assert not adapter(tmp_path, guest).actions & server.OF_THE_LAB.keys()


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RefusedError("no disk"), {"words": "no disk"}),
        (OSError(5, "Input/output error"), {"words": "EIO: Input/output error"}),
    ],
)
def test_a_refusal_is_an_answer(monkeypatch: pytest.MonkeyPatch, failure: Exception, status: object) -> None:
    answer, data = served(monkeypatch, failure)
    assert (answer["status"], answer["bytes"], data) == (status, 0, b"")
    assert (answer["log"], answer["log_end"]) == (["nvme0: failed"], 8)


def test_the_agents_own_failure_is_not_the_drivers_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, _ = served(monkeypatch, KeyError("mistake"))
    assert "KeyError: 'mistake'" in answer["failure"]


def served(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> tuple[dict[str, Any], bytes]:
    def fail(request: Fields) -> Fields:
        raise failure

    monkeypatch.setattr(server, "ACTIONS", {"read": fail})
    log = SimpleNamespace(after=lambda number: [(number + 1, "nvme0: failed")])
    answer = server.answer_request({"action": "read", "number": 1, "log_after": 7}, cast(KernelLog, log))
    line, _, data = answer.partition(b"\n")
    return json.loads(line), data


def test_the_agent_is_one_file_that_needs_nothing_but_python(tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(linux_agent_program())
    module = "lab.drivers.linux_agent.program"
    program = f"import sys; sys.path[:0] = ['agent.pyz']; import {module}; print(sys.modules['{module}'].__file__)"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("agent.pyz/")


def test_an_attribute_that_is_no_text_is_read(tmp_path: Path) -> None:
    """A controller may have any bytes in its serial number."""
    (tmp_path / "serial").write_bytes(b"S\xff\xfe \n")
    assert read_attribute(tmp_path / "serial") == "S\ufffd\ufffd "


def test_what_a_scenario_wants_of_the_driver_becomes_parameters_of_its_modules() -> None:
    modules = [("/run/nvme-core.ko", "multipath=0"), ("/run/nvme.ko", "")]
    assert module_parameters(modules, SCENARIO) == {}
    assert with_parameters(modules, {}) == modules
    settings = module_parameters(modules, replace(SCENARIO, guest={"command_seconds": 2, "polled_queues": 1}))
    assert settings == {"nvme_core": {"io_timeout": 2, "admin_timeout": 2}, "nvme": {"poll_queues": 1}}
    assert module_parameters(modules[1:], replace(SCENARIO, guest={"command_seconds": 2})) == {}
    assert with_parameters(modules, settings) == [
        ("/run/nvme-core.ko", "multipath=0 io_timeout=2 admin_timeout=2"),
        ("/run/nvme.ko", "poll_queues=1"),
    ]


@pytest.mark.parametrize(
    ("stage", "actions", "held"),
    [
        ("read", ["load", "read"], True),
        ("reset", ["load", "fault", "reset"], True),
        ("read", ["info", "load"], False),
        ("detect", ["load", "info"], False),
        ("reset", ["load", "unload", "load"], False),
        ("reset", ["load", "shutdown"], False),
        ("read", ["plug", "load"], False),
        ("read", ["load", "unplug", "plug"], False),
        ("read", [], False),
    ],
)
def test_a_driver_is_loaded_beforehand_only_where_that_changes_nothing(
    tmp_path: Path, guest: LinuxGuest, stage: str, actions: list[str], held: bool
) -> None:
    one = replace(SCENARIO, stage=stage, actions=tuple(map(Action, actions)), device=DeviceSpec(controllers=CONTROLLERS[:1]))
    assert can_preload(one) == held
    assert not can_preload(replace(one, device=DeviceSpec(controllers=CONTROLLERS)))
    linux = adapter(tmp_path, guest, modules=["nvme"])
    assert [preparer.base for preparer in linux.snapshot_preparers(one)] == [linux, None][not held :]


def test_a_template_with_the_driver_belongs_to_that_build_of_it(tmp_path: Path, guest: LinuxGuest) -> None:
    def cache_key(**push: Any) -> str:
        one = replace(SCENARIO, actions=(Action("load"),), device=DeviceSpec(controllers=CONTROLLERS[:1]))
        return adapter(tmp_path, guest, **push).snapshot_preparers(one)[0].cache_key

    first = cache_key(modules=["own.ko"])
    assert cache_key(modules=["own.ko"]) == first
    assert cache_key(modules=["own.ko"], parameters={"own": "a=1"}) != first
    (tmp_path / "own.ko").write_bytes(b"built again")
    assert cache_key(modules=["own.ko"]) != first


@pytest.mark.parametrize(
    ("sqsize", "limit", "reported"), [("323", "1024", 324), ("1023", "1024", None), ("0", "1024", None), ("", "1024", None)]
)
def test_the_length_of_queues_is_reported_only_below_the_drivers_own_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqsize: str, limit: str, reported: int | None
) -> None:
    (tmp_path / "limit").write_text(limit)
    (tmp_path / "sqsize").write_text(sqsize)
    monkeypatch.setattr(information, "QUEUE_DEPTH", tmp_path / "limit")
    assert information._registers(tmp_path).get("max_queue_entries") == reported


def test_a_controller_that_has_no_state_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "nvme0/state"
    state.parent.mkdir()
    monkeypatch.setattr(sysfs, "CLASS", str(tmp_path))
    waiting = threading.Thread(target=sysfs.wait_settled)
    waiting.start()
    for unsettled in ("", "new", "resetting"):
        state.write_text(unsettled)
        waiting.join(5 * sysfs.POLL_SECONDS)
        assert waiting.is_alive(), f"a controller in state {unsettled!r} counts as settled"
    state.write_text("live")
    waiting.join(10)
    assert not waiting.is_alive()


FIO_SAID = """fio: this is a warning
{"jobs": [{"read": {"total_ios": 40, "iops": 77.71, "lat_ns": {"mean": 101200000.0},
                    "clat_ns": {"percentile": {"99.000000": 110600000}}}}]}"""


@pytest.mark.parametrize(
    ("ran", "status", "fields"),
    [
        (
            {"exit": 0, "out": FIO_SAID, "err": ""},
            "success",
            {"reads": 40, "iops": 77.7, "average_us": 101200.0, "p99_us": 110600.0},
        ),
        ({"exit": 1, "out": "", "err": "fio: no such device\n"}, {"words": "fio: no such device"}, {}),
        ({"exit": None, "out": "", "err": ""}, "timeout", {"log": "fio did not end in 60 s"}),
    ],
)
def test_fio_is_copied_once_and_its_figures_are_the_answer(ran: dict[str, Any], status: Any, fields: dict[str, Any]) -> None:
    put: list[tuple[Path, str]] = []
    asked: list[list[str]] = []

    def ask(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(request["program"])
        return ran

    action = Action("load-fio", {"nsid": 1, "blocks": 8, "depth": 8, "operations": 40})
    files = {"fio": Path("/tree/fio")}
    answer = fio.perform(ask, lambda file, name: put.append((file, name)), files, "nvme0n1", 512, action)
    assert (answer.status, answer.fields) == (status, fields)
    assert put == [(Path("/tree/fio"), "/run/fio/fio")]
    (words,) = asked
    assert words[:4] == ["/run/fio/ld-linux-x86-64.so.2", "--library-path", "/run/fio", "/run/fio/fio"]
    assert {"--filename=/dev/nvme0n1", "--rw=randread", "--bs=4096", "--iodepth=8", "--io_size=163840"} < set(words)
