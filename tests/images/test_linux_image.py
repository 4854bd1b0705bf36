"""The real thing: fetched packages, two builds, one boot."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pexpect
import pytest
from qemu.qmp.legacy import QEMUMonitorProtocol

from images import recipe
from images.elf import Tree
from lab import settings
from lab.toolchain import Toolchain
from lab.toolchain.cache import Cache
from lab.toolchain.closures import Closures

Parse = Callable[[bytes], dict[str, tuple[list[int], bytes]]]

BUILD = """
import sys
from pathlib import Path
from images import builder, recipe
built = builder.build(recipe.load("linux").image, {"linux-kernel": Path(sys.argv[1]), "linux-tools": Path(sys.argv[2])})
Path(sys.argv[3]).write_bytes(built.initrd)
"""


@pytest.fixture(scope="module")
def roots(toolchain: Toolchain) -> list[Path]:
    """Return the unpacked closures of the recipe: kernel, tools."""
    loaded = settings.load()
    closures = Closures(loaded, Cache(loaded.open_cache()), print)
    return [closures.fetch(name, closure).root for name, closure in recipe.load("linux").closures.items()]


def base_image(toolchain: Toolchain) -> Path:
    assert toolchain.linux is not None
    return toolchain.linux.modules[0].parents[1] / "base.cpio"


def test_two_builds_give_the_same_bytes(toolchain: Toolchain, roots: list[Path], tmp_path: Path) -> None:
    """In processes of different hash seeds and time zones, and again the same as what is in the cache."""
    digests = {hashlib.sha256(base_image(toolchain).read_bytes()).hexdigest()}
    for number, zone in enumerate(("UTC", "Asia/Tokyo"), start=1):
        out = tmp_path / f"{number}.cpio"
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "TZ": zone}
        subprocess.run([sys.executable, "-c", BUILD, *roots, out], env=environment, check=True)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_image_holds_no_nvme_driver_but_all_that_it_needs(toolchain: Toolchain, parse_cpio: Parse) -> None:
    assert toolchain.linux is not None
    entries = parse_cpio(base_image(toolchain).read_bytes())
    modules = {name.rsplit("/", 1)[1] for name in entries if name.endswith(".ko")}
    assert not {"nvme.ko", "nvme-core.ko"} & modules
    assert {"t10-pi.ko", "vfio-pci.ko", "ext4.ko", "virtio_net.ko"} <= modules
    assert [m.name for m in toolchain.linux.modules] == ["nvme-core.ko", "nvme.ko"]
    preload = entries["etc/nvme-lab/preload"][1].decode()
    assert "/t10-pi.ko" in preload
    assert "/vfio-pci.ko" not in preload


def test_programs_of_other_closures_bring_their_loader_and_libraries(toolchain: Toolchain, parse_cpio: Parse) -> None:
    variant = toolchain.variants["qemu-vfio-guest"]
    entries = parse_cpio((variant.modules[0].parents[1] / "base.cpio").read_bytes())
    script = entries["usr/bin/qemu-io"][1].decode()
    loader, program = (entries[path.lstrip("/")] for path in (script.split()[3], script.split()[-2]))
    assert loader[1].startswith(b"\x7fELF")
    assert program[1].startswith(b"\x7fELF")
    assert "opt/qemu-tools/libc.so.6" in entries
    assert "usr/bin/qemu-io" not in parse_cpio(base_image(toolchain).read_bytes())


def test_the_kernel_of_the_backports_is_newer(toolchain: Toolchain) -> None:
    """Its modules are compressed, and its kernel lies elsewhere and is packed otherwise."""
    assert toolchain.linux is not None
    old, new = ([int(part) for part in guest.release.split("-")[0].split("+")[0].split(".")] for guest in
                (toolchain.linux, toolchain.variants["linux-backports-guest"]))  # fmt: skip
    assert new > old
    assert [m.name for m in toolchain.variants["linux-backports-guest"].modules] == ["nvme-core.ko", "nvme.ko"]
    assert all(m.read_bytes().startswith(b"\x7fELF") for m in toolchain.variants["linux-backports-guest"].modules)


def test_busybox_reads_the_archive_too(toolchain: Toolchain, roots: list[Path], parse_cpio: Parse) -> None:
    archive = base_image(toolchain).read_bytes()
    command = [*Tree(roots[1]).command("/bin/busybox"), "cpio", "-t"]
    listed = subprocess.run(command, input=archive, capture_output=True, check=True).stdout.decode().splitlines()
    assert set(listed) == set(parse_cpio(archive))


def test_versions_and_firmware_are_listed(toolchain: Toolchain) -> None:
    assert toolchain.firmware["u-boot"].stat().st_size >= 1 << 20
    kernel = [name for name in toolchain.versions if name.startswith("linux-kernel/linux-image-6")]
    assert len(kernel) == 1
    assert len(toolchain.versions[kernel[0]]["sha256"]) == 64
    assert toolchain.versions["qemu"]["version"]


@pytest.fixture(scope="module")
def guest(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[paramiko.SSHClient]:
    """Return the image under the chosen QEMU, up to READY and an SSH login that knows the guest's key."""
    qemu, linux = toolchain.qemu, toolchain.linux
    assert qemu is not None
    assert linux is not None
    monitor_path = str(tmp_path_factory.mktemp("qemu") / "qmp")
    arguments = [
        *qemu.command[1:], "-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "max", "-m", "512", "-smp", "2",
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-qmp", f"unix:{monitor_path},server=on,wait=off",
        "-kernel", str(linux.vmlinux), "-initrd", str(linux.initrd), "-append", linux.append,
        "-netdev", "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
        "-device", "virtio-net-pci,netdev=n0,romfile=",
        "-blockdev", "null-co,node-name=disk,size=67108864,read-zeroes=on", "-device", "nvme,serial=lab,drive=disk",
    ]  # fmt: skip
    process = pexpect.spawn(qemu.command[0], arguments, env={**os.environ, **qemu.env}, timeout=120)
    try:
        process.expect_exact("NVME-LAB READY")
        monitor = QEMUMonitorProtocol(monitor_path)
        monitor.connect()
        usernet = monitor.cmd("human-monitor-command", **{"command-line": "info usernet"})
        monitor.close()
        port = next(int(line.split()[3]) for line in str(usernet).splitlines() if "HOST_FORWARD" in line)
        client = paramiko.SSHClient()
        pinned = paramiko.Ed25519Key(data=base64.b64decode(linux.host_key.split()[1]))
        client.get_host_keys().add(f"[127.0.0.1]:{port}", "ssh-ed25519", pinned)
        client.connect("127.0.0.1", port, "root", key_filename=str(linux.private_key), look_for_keys=False, allow_agent=False)
        yield client
        client.close()
    finally:
        process.close(force=True)


def run(guest: paramiko.SSHClient, command: str) -> str:
    _, out, err = guest.exec_command(command, timeout=60)
    said = out.read().decode()
    assert out.channel.recv_exit_status() == 0, said + err.read().decode()
    return said


def test_no_nvme_driver_is_loaded_until_it_is_pushed(guest: paramiko.SSHClient, toolchain: Toolchain) -> None:
    assert toolchain.linux is not None
    assert "nvme" not in run(guest, "lsmod; ls /sys/block")
    with guest.open_sftp() as sftp:
        for module in toolchain.linux.modules:
            sftp.put(str(module), f"/tmp/{module.name}")
    run(guest, " && ".join(f"insmod /tmp/{m.name}" for m in toolchain.linux.modules))
    run(guest, "for i in $(seq 100); do [ -b /dev/nvme0n1 ] && exit 0; usleep 100000; done; exit 1")
    assert "/dev/nvme0n1" in run(guest, "nvme list")
    assert run(guest, "uname -r").strip() == toolchain.linux.release


def test_python_runs_what_a_driver_in_user_space_needs(guest: paramiko.SSHClient) -> None:
    said = run(guest, "python3 -c 'import ctypes, mmap, json, struct, zipimport, runpy, argparse, asyncio; print(6 * 7)'")
    assert said.strip() == "42"


def test_carried_modules_load_with_what_they_need(guest: paramiko.SSHClient) -> None:
    run(guest, "modprobe vfio-pci && modprobe vfio_iommu_type1 && modprobe ext4 && modprobe vfat")
    assert {"vfio_pci", "ext4", "jbd2", "fat"} <= set(run(guest, "lsmod").split())
