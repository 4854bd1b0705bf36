"""From addresses in a guest to functions of the driver: program counters, return addresses on a stack, words on a console."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from lab.coverage.disassembly import CALLS, disassemble
from lab.coverage.objects import CodeObject
from lab.data.backtrace import Frame

MOST_FRAMES = 32
LINUX_FRAME = re.compile(r"\b([A-Za-z_][\w.]*)\+0x([0-9a-f]+)/0x[0-9a-f]+ \[(\w+)")
"""What Linux prints of a module's code: nvme_irq+0x12/0x40 [nvme]."""
ADDRESS = re.compile(r"(?<![\w+])(?:0x)?([0-9a-fA-F]{8,16})\b")
"""A firmware's or kernel's own words for a place."""


class Symbols:
    """The functions of a driver's objects at the places where they were loaded."""

    def __init__(self, objects: Iterable[tuple[CodeObject, Sequence[int]]]) -> None:
        """Take objects, each with the addresses at which its offsets begin."""
        self._objects = list(objects)
        rows = [
            (place + function.offset, place, item, function)
            for item, places in self._objects
            for place in places
            for function in item.functions
        ]
        self._rows = sorted(rows, key=lambda row: row[0])
        self._begins = [row[0] for row in self._rows]

    @property
    def modules(self) -> set[str]:
        """The objects' names as Linux has them of modules."""
        return {item.name.removesuffix(".ko").replace("-", "_") for item, _ in self._objects}

    def frame(self, address: int) -> Frame | None:
        """Return the function in which an address is; None if it is in none of the driver."""
        number = bisect_right(self._begins, address) - 1
        if number < 0:
            return None
        begin, _, item, function = self._rows[number]
        size = sum(int(digit, 16) for digit in function.sizes)
        return Frame(function.name, address - begin, item.name, address) if address < begin + size else None

    def returns(self, address: int) -> bool:
        """Return whether an address is one behind a call, to which that returns."""
        frame = self.frame(address - 1)
        if frame is None:
            return False
        _, place, item, function = self._rows[bisect_right(self._begins, address - 1) - 1]
        at = function.offset
        for digit in function.sizes:
            code = item.code[at]
            at += int(digit, 16)
            if at + place == address:
                return any(one.mnemonic in CALLS for one in disassemble(item.processor, code, 0))
        return False

    def backtrace(self, pc: int, stack: Iterable[int]) -> tuple[Frame, ...]:
        """Return the driver's frames from the program counter outwards, by the words on the stack."""
        inner = self.frame(pc)
        found = [inner] if inner else []
        for word in stack:
            if len(found) < MOST_FRAMES and self.returns(word) and (frame := self.frame(word - 1)):
                found.append(Frame(frame.function, frame.offset + 1, frame.object, word))
        return tuple(found)

    def spoken(self, text: str) -> tuple[Frame, ...]:
        """Return the driver's places in what a guest has printed about its end, in that order, each once."""
        found: dict[tuple[str, int], Frame] = {}
        for line in text.splitlines():
            for name, offset, module in LINUX_FRAME.findall(line):
                if module in self.modules:
                    frame = Frame(name, int(offset, 16), module, 0)
                    found.setdefault((name, frame.offset), frame)
            for digits in ADDRESS.findall(line):
                if named := self.frame(int(digits, 16)):
                    found.setdefault((named.function, named.offset), named)
        return tuple(found.values())[:MOST_FRAMES]
