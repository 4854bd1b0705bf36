"""The programmable controller under a real QEMU, driven by U-Boot; and what it cannot be."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.data.content import blocks, initial
from lab.data.events import ConfigWrite, Dma, Doorbell, FaultInjected, RegisterWrite, Remark, Submitted
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.data.stream import digest, read_stream
from lab.deadline import Deadline
from lab.device.images import create_images, image
from lab.device.lab import LabDevice, unservable
from lab.errors import LabError
from lab.guest.accelerator import accelerator
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.nvme.commands import Read, Write
from lab.nvme.registers import CC
from lab.toolchain import Toolchain

PROMPT = r"(?:^|\n)=> "
SEED = 11
NAMESPACE = Namespace(blocks=4096, areas=((0, 16),))


def device(**fields: object) -> DeviceSpec:
    return DeviceSpec(controllers=(Controller(**{"serial": "LAB-U", "namespaces": (NAMESPACE,), **fields}),))  # type: ignore[arg-type]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ld-") as name:
        yield Path(name)


def drive(toolchain: Toolchain, folder: Path, spec: DeviceSpec, commands: list[str], *faults: Fault) -> list[str]:
    """Return what U-Boot answers to each command with the device plugged from the start."""
    qemu = toolchain.qemu
    assert qemu is not None
    lab = LabDevice(spec, folder, qemu.version, sockets=folder, records=folder, faults=faults)
    lab.create_images(SEED)
    guest = GuestSpec(
        memory=128,
        memory_file=folder / "ram",
        bios=toolchain.firmware["u-boot"],
        devices=lab.devices([{"bus": "pcie.0", "addr": "5"}]),
    )
    answers = []
    with (
        lab,
        Machine(
            qemu.command, qemu.env, guest, accelerator(qemu.command, qemu.env).name, root=folder, writable=[folder]
        ) as machine,
    ):
        console = machine.console
        console.expect("Hit any key to stop autoboot", Deadline(30))
        console.send("\n")
        console.expect(PROMPT, Deadline(30))
        for command in commands:
            console.send(command + "\n")
            answers.append(console.expect(PROMPT, Deadline(30)).before)
    return answers


def dumped(text: str) -> bytes:
    """Return the bytes of U-Boot's md.b."""
    return b"".join(bytes.fromhex(line) for line in re.findall(r"^[0-9a-f]{8}: ((?:[0-9a-f]{2} ){16})", text, re.MULTILINE))


def test_u_boot_reads_and_writes_through_it(toolchain: Toolchain, folder: Path) -> None:
    written = blocks(3, 1, 9, 1, 512)
    words = [f"mw.b {0x2100000 + index:x} {byte:x}" for index, byte in enumerate(written[:32])]
    answers = drive(
        toolchain,
        folder,
        device(),
        [
            "nvme scan", "nvme info", "nvme read 2000000 0 10", "md.b 2000000 200", "mw.b 2100000 0 200", *words,
            "nvme write 2100000 64 1",
        ],
    )  # fmt: skip
    assert "LAB-U" in answers[1]
    assert dumped(answers[3]) == initial(SEED, NAMESPACE, 0)
    stored = image(folder, "nv0", 1).read_bytes()
    assert stored[100 * 512 : 101 * 512] == written[:32] + bytes(480)
    events = list(read_stream(folder / "nv0.rec", complete=True))
    assert any(isinstance(event, ConfigWrite) and event.offset == 4 and event.value & 4 for event in events)
    assert any(isinstance(event, RegisterWrite) and event.offset == CC.OFFSET and event.value & 1 for event in events)
    io = [event.command for event in events if isinstance(event, Submitted) and event.sqid == 1]
    assert any(isinstance(command, Read) and command.blocks == 16 for command in io)
    assert isinstance(io[-1], Write)
    assert (io[-1].SLBA, io[-1].blocks) == (100, 1)
    last = [event for event in events if isinstance(event, Dma)][-1]
    assert not last.to_host
    assert last.digest == digest(written[:32] + bytes(480))
    tails = [event for event in events if isinstance(event, Doorbell) and not event.completion and event.qid == 1]
    assert len(tails) == len(io)
    assert {event.name for event in events if isinstance(event, Remark)} <= {"qprio-unused"}, "U-Boot sets QPRIO"


def test_u_boot_on_an_odd_device_with_a_fault(toolchain: Toolchain, folder: Path) -> None:
    spec = device(cap={"DSTRD": 2, "MQES": 1}, mdts=1, prefetchable_bar=True, version="1.3")
    fault = Fault(name="bad block", behaviour="status", arguments={"sct": 2, "sc": 0x81}, opcode=2, lba=5)
    answers = drive(toolchain, folder, spec, ["nvme scan", "nvme read 2000000 0 5", "nvme read 2000000 0 10"], fault)
    assert "5 blocks read: OK" in answers[1]
    assert "OK" not in answers[2]
    events = list(read_stream(folder / "nv0.rec", complete=True))
    assert [event.fault for event in events if isinstance(event, FaultInjected)] == ["bad block"]
    sizes = [event.command.blocks for event in events if isinstance(event, Submitted) and isinstance(event.command, Read)]
    assert max(sizes) <= 16, "MDTS of two pages"


def test_images_hold_the_pattern_and_are_shared(tmp_path: Path) -> None:
    shared = Namespace(nsid=3, blocks=64, shared=True, areas=((60, 4),), metadata_size=8)
    spec = DeviceSpec(controllers=tuple(Controller(id=id, serial="S", namespaces=(shared,)) for id in ("a", "b")))
    create_images(spec, tmp_path, SEED)
    first, second = image(tmp_path, "a", 3), image(tmp_path, "b", 3)
    assert first.samefile(second)
    assert first.stat().st_size == 64 * 520
    assert first.read_bytes()[60 * 512 : 61 * 512] == initial(SEED, shared, 60)
    with pytest.raises(LabError, match="cannot be made"):
        create_images(spec, tmp_path, SEED)


@pytest.mark.parametrize(
    ("spec", "version", "faults", "named"),
    [
        (device(), (7, 2), (), "vfio-user-pci"),
        (device(vectors=4096), (11, 1), (), "MSI-X vectors"),
        (device(namespaces=(Namespace(blocks=8, block_size=520),)), (11, 1), (), "blocks of 520"),
        (device(), (11, 1), (Fault(name="x", behaviour="melt"),), "melt"),
    ],
)
def test_what_it_cannot_be(
    tmp_path: Path, spec: DeviceSpec, version: tuple[int, ...], faults: tuple[Fault, ...], named: str
) -> None:
    assert named in (unservable(spec, version, faults) or "")
    with pytest.raises(LabError, match=named):
        LabDevice(spec, tmp_path, version, sockets=tmp_path, faults=faults)
    assert unservable(device(), (10, 1)) is None
