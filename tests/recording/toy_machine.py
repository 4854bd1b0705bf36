"""A machine of a few lines behind a pseudo-terminal: it boots, says that its controller is ready, and has a prompt."""

from __future__ import annotations

import contextlib
import os
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

SIZE = 512
BLOCKS = 8192
READY = "nvme: Controller Ready"
Write = Callable[["ToyMachine", int, bytes], None]


class ToyMachine:
    """A machine with a switch (a FIFO: whoever writes to it starts the machine again), a line and a disk, which is a file."""

    def __init__(self, folder: Path, mistake: str = "") -> None:
        self.disk, self.switch = folder / "disk.img", folder / "switch"
        self.disk.write_bytes(os.urandom(64) * (SIZE * BLOCKS // 64))
        os.mkfifo(self.switch)
        self.mistake = mistake
        self.memory = bytearray(1 << 16)
        self.cache: dict[int, bytes] = {}
        self._line, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.line = os.ttyname(self._slave)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._watch_switch, self._talk)]

    def __enter__(self) -> ToyMachine:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.close(os.open(self.switch, os.O_WRONLY | os.O_NONBLOCK))
        os.close(self._slave)

    def say(self, text: str) -> None:
        data = text.replace("\n", "\r\n").encode()
        while data:
            data = data[os.write(self._line, data) :]

    def _watch_switch(self) -> None:
        while self.switch.read_bytes():
            self.cache.clear()
            self.say("\nBIOS\nnvme: looking for a controller\n")
            if self.mistake != "never":
                self.say(f"{READY}\n> ")

    def _talk(self) -> None:
        pending = b""
        with contextlib.suppress(OSError):
            while data := os.read(self._line, 4096):
                self.say(data.decode().replace("\r", "\n"))
                pending += data
                *lines, pending = pending.replace(b"\r", b"\n").split(b"\n")
                for line in lines:
                    for command in line.decode().split(";"):
                        self.say("".join(self.answer(*command.split())))
                    self.say("> ")

    def answer(self, name: str = "", *numbers: str) -> Iterator[str]:
        values = [int(number, 0) for number in numbers]
        if name == "list":
            yield f"disk 1: {BLOCKS} blocks of {SIZE}\n"
        elif name == "put":
            at, word = values
            self.memory[at : at + 8] = word.to_bytes(8, "little")
        elif name in ("read", "write") and self.mistake == "not-ready":
            yield "no controller\n"
        elif name == "read":
            yield from self.dump(self.read(*values))
        elif name == "write":
            lba, blocks = values
            self.write(lba, bytes(self.memory[: blocks * SIZE]))
            yield "ok\n"
        elif name == "flush":
            yield "ok\n"

    def read(self, lba: int, blocks: int) -> bytes:
        held = self.disk.read_bytes()
        data = b"".join(self.cache.get(n, held[n * SIZE : (n + 1) * SIZE]) for n in range(lba, lba + blocks))
        return data[1:] + data[:1] if self.mistake == "wrong-bytes" else data

    def write(self, lba: int, data: bytes) -> None:
        WRITES.get(self.mistake, put)(self, lba, data)

    def dump(self, data: bytes) -> Iterator[str]:
        for at in range(0, len(data), 16):
            yield f"{at:08x}: {data[at : at + 16].hex()}\n"


def put(machine: ToyMachine, lba: int, data: bytes) -> None:
    """Write what is wanted, and nothing else."""
    with machine.disk.open("r+b") as file:
        file.seek(lba * SIZE)
        file.write(data)


def put_one_more(machine: ToyMachine, lba: int, data: bytes) -> None:
    """Write a block beside, too."""
    put(machine, lba, data + bytes(SIZE))


def remember(machine: ToyMachine, lba: int, data: bytes) -> None:
    """Write into memory only."""
    machine.cache |= {lba + n: data[n * SIZE : (n + 1) * SIZE] for n in range(len(data) // SIZE)}


def put_whole_units(machine: ToyMachine, lba: int, data: bytes) -> None:
    """Legal: read units of 4 KiB, change them, and write them as a whole."""
    first, last = lba // 8 * 8, -(-(lba + len(data) // SIZE) // 8) * 8
    unit = bytearray(machine.read(first, last - first))
    unit[(lba - first) * SIZE : (lba - first) * SIZE + len(data)] = data
    put(machine, first, bytes(unit))


WRITES: Mapping[str, Write] = {"beside": put_one_more, "in-memory": remember, "whole-units": put_whole_units}

MANIFEST = f"""
name = "toy"
adapter = "bare-metal"
stages = []
profiles = ["bare-metal"]

[boot]
ready = '^> '
seconds = 2

[machine]
serial = "{{line}}"
start = ["sh", "-c", "echo on > switch"]
ssh = "somebody@toy"

[machine.disk]
blocks = {BLOCKS}
scratch = 2048
scratch_blocks = 1024
read = "dd if={{disk}} bs={{{{block_size}}}} skip={{{{lba}}}} count={{{{blocks}}}} status=none"

[actions.load]
success = '{READY}'

[actions.ready]
truths.ready = '{READY}'

[actions.list]
command = "list"
lists.namespaces.each = '^disk (?P<nsid>\\d+): (?P<blocks>\\d+) blocks of (?P<block_size>\\d+)$'

[actions.read]
command = "read {{{{lba}}}} {{{{blocks}}}}"
hexdump = "xxd"
error = "no controller"

[actions.write]
command = "write {{{{lba}}}} {{{{blocks}}}}"
fill = "put {{{{address}}}} {{{{word:#x}}}}"
word = 8
line = 4000
success = "ok"

[actions.flush]
command = "flush"
success = "ok"
"""


def manifest_of(machine: ToyMachine, folder: Path) -> Path:
    """Write the machine's manifest into its folder."""
    path = folder / "toy.toml"
    path.write_text(MANIFEST.format(line=machine.line, disk=machine.disk))
    return path
