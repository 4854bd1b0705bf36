from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from lab.guest.arguments import Endpoints, GuestSpec, arguments

ENDPOINTS = Endpoints(qmp=7, console=8)
NVME = {"driver": "nvme", "id": "nvme0", "serial": "a,b=c", "bus": "pcie.0", "addr": "5"}
DISK = {"driver": "file", "node-name": "disk0", "filename": "/tmp/with,comma"}


def options(spec: GuestSpec, endpoints: Endpoints = ENDPOINTS) -> list[tuple[str, str]]:
    """Each argument with the one that follows it."""
    return list(pairwise(arguments(spec, endpoints, "tcg,thread=multi")))


def devices(spec: GuestSpec) -> list[dict[str, object]]:
    return [json.loads(value) for option, value in options(spec) if option == "-device"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (GuestSpec(), ("-accel", "tcg,thread=multi")),
        (GuestSpec(), ("-machine", "q35")),
        (GuestSpec(), ("-display", "none")),
        (GuestSpec(), ("-msg", "timestamp=on")),
        (GuestSpec(), ("-chardev", "socket,id=qmp,fd=7")),
        (GuestSpec(), ("-chardev", "socket,id=console,fd=8")),
        (GuestSpec(), ("-qmp", "chardev:qmp")),
        (GuestSpec(), ("-serial", "chardev:console")),
        (GuestSpec(cpu="qemu64", smp=2, memory=512), ("-cpu", "qemu64")),
        (GuestSpec(cpu="qemu64", smp=2, memory=512), ("-smp", "2")),
        (GuestSpec(cpu="qemu64", smp=2, memory=512), ("-m", "512")),
        (GuestSpec(kernel=Path("/k"), append="console=ttyS0 quiet"), ("-kernel", "/k")),
        (GuestSpec(kernel=Path("/k"), append="console=ttyS0 quiet"), ("-append", "console=ttyS0 quiet")),
        (GuestSpec(kernel=Path("/k"), initrd=Path("/i")), ("-initrd", "/i")),
        (GuestSpec(bios=Path("u-boot.rom")), ("-bios", "u-boot.rom")),
        (GuestSpec(network=True), ("-netdev", "user,id=net0,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:0-:22")),
        (GuestSpec(iommu=True), ("-machine", "q35,kernel-irqchip=split")),
        (GuestSpec(memory_file=Path("/r")), ("-machine", "q35,memory-backend=ram")),
        (GuestSpec(trace=("pci_nvme_*", "vfio_user_*")), ("-trace", "enable=pci_nvme_*")),
        (GuestSpec(trace=("pci_nvme_*", "vfio_user_*")), ("-trace", "enable=vfio_user_*")),
        (GuestSpec(strict_boot=True), ("-boot", "strict=on")),
        (GuestSpec(disk=Path("/a,b")), ("-drive", "if=none,id=boot,format=raw,snapshot=on,file=/a,,b")),
        (GuestSpec(extra=("-S", "-rtc", "base=utc")), ("-rtc", "base=utc")),
    ],
)
def test_spec_to_option(spec: GuestSpec, expected: tuple[str, str]) -> None:
    assert expected in options(spec)


@pytest.mark.parametrize(
    ("spec", "absent"),
    [
        (GuestSpec(), "-kernel"),
        (GuestSpec(), "-append"),
        (GuestSpec(), "-bios"),
        (GuestSpec(), "-netdev"),
        (GuestSpec(), "-object"),
        (GuestSpec(), "-device"),
        (GuestSpec(), "-D"),
        (GuestSpec(), "-boot"),
        (GuestSpec(), "-S"),
        (GuestSpec(console="debug-console"), "-serial"),
        (GuestSpec(sandbox=False), "-sandbox"),
    ],
)
def test_what_is_not_asked_for_is_not_there(spec: GuestSpec, absent: str) -> None:
    assert absent not in arguments(spec, ENDPOINTS, "tcg")


def test_memory_file_is_shared_and_as_large_as_the_ram() -> None:
    (backend,) = [
        json.loads(value) for option, value in options(GuestSpec(memory=64, memory_file=Path("/a,b"))) if option == "-object"
    ]
    assert backend == {"qom-type": "memory-backend-file", "id": "ram", "size": 64 << 20, "mem-path": "/a,b", "share": True}


def test_trace_goes_to_the_inherited_pipe() -> None:
    assert ("-D", "/dev/fd/9") in options(GuestSpec(), Endpoints(7, 8, 9))


def test_root_ports_have_names_and_places_of_their_own() -> None:
    ports = devices(GuestSpec(root_ports=15))
    assert [port["id"] for port in ports] == [f"rp{n}" for n in range(15)]
    for key in ("addr", "chassis", "slot"):
        assert len({port[key] for port in ports}) == 15


def test_more_root_ports_than_the_bus_has_room_for() -> None:
    with pytest.raises(ValueError, match="16 root ports"):
        arguments(GuestSpec(root_ports=16), ENDPOINTS, "tcg")


def test_iommu_comes_before_what_it_covers_and_given_devices_last() -> None:
    drivers = [
        device["driver"] for device in devices(GuestSpec(iommu=True, root_ports=1, network=True, vmgenid=True, devices=(NVME,)))
    ]
    assert drivers == ["intel-iommu", "pcie-root-port", "vmgenid", "virtio-net-pci", "nvme"]


def test_block_devices_come_before_devices_and_keep_their_commas() -> None:
    given = [
        (option, json.loads(value))
        for option, value in options(GuestSpec(blockdevs=(DISK,), devices=(NVME,)))
        if "dev" in option[-6:] and value[0] == "{"
    ]
    assert given == [("-blockdev", DISK), ("-device", NVME)]


def test_what_is_booted_from_comes_first_in_line() -> None:
    (disk,) = devices(GuestSpec(disk=Path("/d")))
    (disc,) = devices(GuestSpec(iso=Path("/i")))
    assert (disk["driver"], disk["drive"], disk["bootindex"]) == ("ide-hd", "boot", 0)
    assert (disc["driver"], disc["drive"], disc["bootindex"]) == ("ide-cd", "boot", 0)
    assert '"read-only":true' in dict(options(GuestSpec(iso=Path("/i"))))["-blockdev"]


def test_a_debug_console_and_an_exit_code_have_their_ports() -> None:
    console, debug_exit = devices(GuestSpec(console="debug-console", debug_exit=True))
    assert console == {"driver": "isa-debugcon", "iobase": 0xE9, "chardev": "console"}
    assert debug_exit == {"driver": "isa-debug-exit", "iobase": 0xF4, "iosize": 4}


def test_u_boot_shape_in_full() -> None:
    spec = GuestSpec(cpu="qemu64", bios=Path("u-boot.rom"), blockdevs=(DISK,), devices=(NVME,), sandbox=False)
    assert " ".join(arguments(spec, ENDPOINTS, "tcg")).split(" -blockdev ")[0] == (
        "-nodefaults -no-user-config -no-reboot -display none -msg timestamp=on -accel tcg -machine q35 -cpu qemu64 "
        "-smp 1 -m 256 -chardev socket,id=qmp,fd=7 -qmp chardev:qmp -chardev socket,id=console,fd=8 -serial "
        "chardev:console -bios u-boot.rom"
    )


@pytest.mark.parametrize(
    ("accelerator", "cpus", "counted"), [("tcg,thread=multi", 1, True), ("tcg,thread=multi", 2, False), ("kvm", 1, False)]
)
def test_a_clock_of_instructions_needs_tcg_and_one_processor(accelerator: str, cpus: int, counted: bool) -> None:
    given = arguments(GuestSpec(counted_clock=True, smp=cpus), ENDPOINTS, accelerator)
    assert ("-icount" in given) == counted
    assert given[given.index("-accel") + 1] == ("tcg,thread=single" if counted else accelerator)
