"""Whatever a driver in a guest sends, the device lives: no exception, no growth, no stall.

A step is one access to the device: a command with fields out of hand, a register, a doorbell, the configuration space, or time
that passes. Each step may take one second of this thread's processor time at most; the load of the machine does not count.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lab.controller.dma import LocalMemory
from lab.controller.in_process import InProcess
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.nvme import commands as nvme
from lab.nvme.commands import BY_OPCODE
from lab.nvme.registers import CC
from tests.controller.bounds import MEBIBYTE, Bounds

PAGE = 4096
SPECS = (
    Controller(serial="PLAIN", namespaces=(Namespace(blocks=4096), Namespace(nsid=2, blocks=512, metadata_size=8))),
    Controller(
        serial="ODD",
        namespaces=(Namespace(blocks=4096, shared=True),),
        mdts=0,
        sgl=True,
        shadow_doorbells=True,
        version="2.0",
        cap={"CQR": 0, "MQES": 0xFFFF, "NSSRS": 1},
        identify={"KAS": 1, "SGLS": 0x1_0002, "NWPC": 7},
    ),
)


class HostileDriver:
    """Drives one function with nonsense that is often nearly right."""

    def __init__(self, device: InProcess, seed: int) -> None:
        """Take a device; ``seed`` decides everything that is done."""
        self.device, self.function, self.memory = device, device.function, device.memory
        self.chance = random.Random(seed)
        self.tails = dict.fromkeys(range(4), 0)
        self.sizes = {0: 32, 1: 32, 2: 32, 3: 32}
        self.submitted = 0
        self.start()

    def start(self) -> None:
        """Bring the controller up, as a driver would that has lost track of it."""
        f, base = self.function, self.memory.base
        f.config_write(0x44, 2, 0)
        f.config_write(4, 2, 6)
        f.write(CC.OFFSET, 4, 0)
        self.memory.arena[: 64 * PAGE] = bytes(64 * PAGE)
        f.write(0x24, 4, 0x001F001F)
        f.write(0x28, 8, base)
        f.write(0x30, 8, base + PAGE)
        f.write(CC.OFFSET, 4, CC.of(EN=1, IOSQES=6, IOCQES=4))
        self.tails = dict.fromkeys(range(4), 0)
        for qid in (1, 2):
            queue = base + (2 + 2 * qid) * PAGE
            self.submit(0, nvme.CreateIoCq.of(QID=qid, QSIZE=31, PC=1, IEN=1, IV=qid, PRP1=queue))
            self.submit(0, nvme.CreateIoSq.of(QID=qid, QSIZE=31, PC=1, CQID=qid, PRP1=queue + PAGE))

    def submit(self, qid: int, command: bytes) -> None:
        """Put a command into a queue, give all its completions back, and ring."""
        self.submitted += 1
        at = (qid and (3 + 2 * qid) * PAGE) + 64 * self.tails[qid]
        self.memory.arena[at : at + 64] = command
        self.tails[qid] = (self.tails[qid] + 1) % self.sizes[qid]
        cq = self.function.controller.queues.completion.get(qid)
        if cq is not None:
            self.function.write(0x1004 + 8 * qid, 4, cq.tail)
        self.function.write(0x1000 + 8 * qid, 4, self.tails[qid])
        self.function.interrupts.clear()

    def step(self) -> None:
        """Do one thing."""
        kinds = (self.command, self.command, self.command, self.command, self.register, self.doorbell, self.config, self.pause)
        kind = self.chance.choice(kinds)
        works = self.function.controller.core.running and self.function.controller.config.masters_bus
        if not works and self.chance.random() < 0.5:
            kind = self.start
        kind()

    def address(self) -> int:
        """Return an address: of memory, near its end, unaligned, or none at all."""
        c = self.chance
        inside = self.memory.base + c.randrange(64, self.memory.size // PAGE) * PAGE
        return c.choice(
            (inside, inside, inside, inside + c.randrange(PAGE), 0, 1 << 63, self.memory.base + self.memory.size - 8)
        )

    def command(self) -> None:
        """Submit a command: usually a known one, with a few fields out of hand."""
        c, qid = self.chance, self.chance.choice((0, 0, 1, 2))
        kinds = BY_OPCODE["io" if qid else "admin"]
        opcode = c.choice((*kinds, c.randrange(256))) if c.random() < 0.95 else c.randrange(256)
        raw = bytearray(64)
        raw[0], raw[2:4] = opcode, c.randrange(1, 0xFFFF).to_bytes(2, "little")
        raw[4:8] = c.choice((1, 1, 1, 1, 1, 1, 1, 2, 0, 7, 33, 0xFFFF_FFFF)).to_bytes(4, "little")
        for at in (16, 24, 32):
            raw[at : at + 8] = self.address().to_bytes(8, "little")
        if c.random() < 0.2:
            raw[1] = c.choice((0x40, 0x80, 0xC0, 0x01, 0x02))
            raw[32:40] = (c.choice((16, 512, 4096, 0xFFFF_FFF0)) | c.choice((0, 1, 2, 3)) << 60).to_bytes(8, "little")
        for at in range(40, 64, 4):
            wild = c.choice((0, 0, 0, 1, 7, 31, 0xFF, 0xFFFF, 0xFFFF_FFFF, c.randrange(1 << 32)))
            raw[at : at + 4] = wild.to_bytes(4, "little")
        if c.random() < 0.8:
            raw[40:56] = self.nearly_right(qid, opcode)
        elif opcode == 0x0D:
            return
        if c.random() < 0.3:  # a list, a range, a controller list or a namespace's data where the command points
            page = int.from_bytes(raw[24:32], "little") - self.memory.base & ~(PAGE - 1)
            if 0 <= page < self.memory.size - PAGE:
                words = [c.choice((self.address(), c.randrange(4096), (1 << 64) - 1)) for _ in range(8)]
                self.memory.arena[page : page + 64] = b"".join(word.to_bytes(8, "little") for word in words)
        self.submit(qid, bytes(raw))

    def nearly_right(self, qid: int, opcode: int) -> bytes:
        """Return dwords 10 to 13 that such a command may well have."""
        c = self.chance
        if qid:
            blocks: int = c.choice((0, 0, 7, 15, 255, 0xFFFF))
            return c.choice((0, 1, 100, 4080, 4095, 4096)).to_bytes(8, "little") + blocks.to_bytes(4, "little") + bytes(4)
        if opcode in (0x00, 0x04):
            return c.choice((0, 3, 7)).to_bytes(4, "little") + bytes(12)  # the queues in use are kept
        if opcode == 0x0D:
            return int(c.random() < 0.01).to_bytes(4, "little") + bytes(12)  # namespaces are rarely deleted
        if opcode == 0x15:
            return int(c.random() < 0.1).to_bytes(4, "little") + bytes(12)
        selector: int = c.choice((*range(0x20), 0x80, 0x81, 0x84))
        upper: int = c.choice((0, 0, 1, 0x7F, 0x3FF))
        return (
            (selector | upper << 16).to_bytes(4, "little") + c.choice((0, 1, 0x1_0001, 0xFFFF)).to_bytes(4, "little") + bytes(8)
        )

    def register(self) -> None:
        """Access a register by any width that a bus has."""
        c, size = self.chance, self.chance.choice((1, 2, 4, 4, 8))
        offset = c.choice((0x00, 0x08, 0x0C, 0x10, 0x14, 0x1C, 0x20, 0x24, 0x28, 0x30, 0x38, 0x68, 0x6C, c.randrange(0x1000)))
        if c.random() < 0.5:
            self.function.read(offset, size)
        elif offset not in (CC.OFFSET, 0x20) or c.random() < 0.05:
            self.function.write(offset, size, c.choice((0, 1, 0x4E564D65, c.randrange(1 << 8 * size))) & (1 << 8 * size) - 1)

    def doorbell(self) -> None:
        """Write any value to a doorbell, or to what is none."""
        c = self.chance
        offset = 0x1000 + c.choice((0, 4, 8, 12, 16, 20, 2, 0x800, c.randrange(0x2000)))
        self.function.write(offset, c.choice((4, 4, 4, 1, 2, 8)), c.choice((0, 1, 31, 32, 0xFFFF, 0xFFFF_FFFF)) & 0xFF)

    def config(self) -> None:
        """Write the configuration space."""
        c = self.chance
        wild = c.random() < 0.05
        offset = c.choice((4, 0x44, 0x88)) if wild else c.choice((6, 0x10, 0x3C, 0x52, 0x72, c.randrange(0x100, 4092)))
        self.function.config_write(offset, 2, c.randrange(1 << 16))

    def pause(self) -> None:
        """Let time pass."""
        self.device.wait(self.chance.choice((0, 0.001, 0.1)))


def attack(folder: Path, spec: Controller, seed: int, steps: int) -> None:
    """Do so many steps; the device works afterwards, and neither grew nor stalled."""
    device_spec = DeviceSpec(controllers=(spec,))
    with InProcess(device_spec, folder, memory=LocalMemory(8 * MEBIBYTE)) as device:
        driver = HostileDriver(device, seed)
        bounds = Bounds(f"steps of a hostile driver of {spec.serial}", steps)
        for _ in range(steps):
            driver.step()
            bounds.step()
        bounds.check(f"{driver.submitted} of them commands")
        driver.start()
        page = 100 * PAGE
        driver.submit(0, nvme.Identify.of(CNS=1, CID=0xABC, PRP1=device.memory.base + page))
        assert bytes(device.memory.arena[page + 4 : page + 4 + len(spec.serial)]) == spec.serial.encode()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.serial)
@pytest.mark.parametrize("seed", range(3))
def test_nonsense_of_a_driver(tmp_path: Path, spec: Controller, seed: int) -> None:
    attack(tmp_path, spec, seed, 4000)


@pytest.mark.soak
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.serial)
def test_a_million_steps_of_a_hostile_driver(tmp_path: Path, spec: Controller) -> None:
    attack(tmp_path, spec, 4711, 1_000_000)
