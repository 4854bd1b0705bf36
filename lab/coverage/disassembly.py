"""Machine code without symbols: its instructions, its basic blocks, and where its functions begin and end.

A function is found from its callers: what is called, jumped to from another function, or pointed at by data is the beginning of
one. From there its branches are followed, so data among the code is not taken for it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from capstone import CS_ARCH_ARM64, CS_ARCH_X86, CS_MODE_32, CS_MODE_64, CS_MODE_LITTLE_ENDIAN, Cs

PROCESSORS: Mapping[str, tuple[int, int]] = {
    "x86-64": (CS_ARCH_X86, CS_MODE_64),
    "x86": (CS_ARCH_X86, CS_MODE_32),
    "arm64": (CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN),
}
"""The disassembler's words for them."""
CALLS = frozenset({"call", "bl"})
JUMPS = frozenset({"jmp", "b"})
"""Jumps that are always taken."""
ENDS = frozenset({*JUMPS, "ret", "retn", "br", "iretd", "iretq", "ud2", "hlt", "int3"})
"""Behind them nothing is executed that no other instruction jumps to."""
BRANCH = re.compile(r"j\w+|loop\w*|b|b\.\w+|cbn?z|tbn?z")
TARGET = re.compile(r"(?:^|[ #])(0x[0-9a-f]+|\d+)$")
"""The last operand of a direct branch."""
POINTER = re.compile(r"\[rip ([+-]) (0x[0-9a-f]+|\d+)\]")
PLACEHOLDER = "add", "byte ptr [rax], al"
"""What zeros are as code: data."""
MOST_INSTRUCTIONS = 1 << 16
"""Of one function."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: where it is, its bytes, and in what words the disassembler has it."""

    at: int
    code: bytes
    mnemonic: str
    operands: str

    @property
    def after(self) -> int:
        """Return where the next one is."""
        return self.at + len(self.code)

    @property
    def target(self) -> int | None:
        """Return where a direct call or branch goes to."""
        found = TARGET.search(self.operands) if self.mnemonic in CALLS or BRANCH.fullmatch(self.mnemonic) else None
        return int(found[1], 0) if found else None

    @property
    def is_branch(self) -> bool:
        """Return whether what follows is not always executed next."""
        return self.mnemonic in ENDS or BRANCH.fullmatch(self.mnemonic) is not None

    @property
    def pointer(self) -> int | None:
        """Return the address that the instruction takes (``lea``, relative to itself)."""
        found = POINTER.search(self.operands) if self.mnemonic == "lea" else None
        return self.after + int(found[1] + found[2], 0) if found else None


@dataclass(frozen=True)
class Function:
    """A function: its instructions in the order of addresses."""

    begin: int
    instructions: tuple[Instruction, ...]


def disassemble(processor: str, code: bytes, at: int) -> Iterator[Instruction]:
    """Yield all instructions one after the other; bytes that are none are instructions ``.byte``."""
    disassembler = Cs(*PROCESSORS[processor])
    disassembler.skipdata = True
    done = 0
    for _, size, mnemonic, operands in disassembler.disasm_lite(code, at):
        yield Instruction(at + done, bytes(code[done : done + size]), mnemonic, operands)
        done += size


def block_starts(instructions: Iterable[Instruction]) -> set[int]:
    """Return where the basic blocks of a function begin: at its beginning, at targets of branches, and behind branches."""
    starts: set[int] = set()
    begins = True
    for one in instructions:
        if begins:
            starts.add(one.at)
        begins = one.is_branch
        if begins and one.target is not None:
            starts.add(one.target)
    return starts


class Discovery:
    """The functions of code without symbols."""

    def __init__(self, processor: str, content: bytes, ranges: Collection[tuple[int, int]]) -> None:
        """Take memory from address 0 on; code is in ``ranges``."""
        self._disassembler = Cs(*PROCESSORS[processor])
        self._content = content
        self._ranges = ranges
        self._found: dict[int, dict[int, Instruction]] = {}

    def functions(self, sure: Iterable[int], likely: Iterable[int] = ()) -> list[Function]:
        """Return the functions that begin at ``sure``, those that they call, and what else they point at that looks like one.

        ``likely`` are places that data points at: they count only where all behind them is code.
        """
        waiting, unsure = list(sure), list(likely)
        while waiting or unsure:
            certain = bool(waiting)
            begin = waiting.pop() if waiting else unsure.pop()
            if begin in self._found or not self._inside(begin):
                continue
            body = self._follow(begin)
            if body is None or (not certain and self._overlaps(body)):
                continue
            self._found[begin] = body
            for one in body.values():
                if one.mnemonic in CALLS and one.target is not None:
                    waiting.append(one.target)
                if one.pointer is not None:
                    unsure.append(one.pointer)
        return self._cut()

    def _inside(self, at: int) -> bool:
        return any(begin <= at < end for begin, end in self._ranges)

    def _overlaps(self, body: Mapping[int, Instruction]) -> bool:
        """Return whether something else was found in the middle of these instructions."""
        known = {at for other in self._found.values() for at in other}
        inner = {at for one in body.values() for at in range(one.at + 1, one.after)}
        return bool(known & inner)

    def _follow(self, begin: int) -> dict[int, Instruction] | None:
        """Return all that can be reached from a beginning without a call; None where that is not only code."""
        body: dict[int, Instruction] = {}
        waiting = [begin]
        while waiting:
            at = waiting.pop()
            while at not in body:
                one = self._at(at)
                if one is None or len(body) > MOST_INSTRUCTIONS:
                    return None
                body[at] = one
                if one.target is not None and one.mnemonic not in CALLS:
                    waiting.append(one.target)
                if one.mnemonic in ENDS:
                    break
                at = one.after
        return body

    def _at(self, at: int) -> Instruction | None:
        if not self._inside(at):
            return None
        for _, size, mnemonic, operands in self._disassembler.disasm_lite(self._content[at : at + 16], at, 1):
            if (mnemonic, operands) == PLACEHOLDER:
                return None
            return Instruction(at, bytes(self._content[at : at + size]), mnemonic, operands)
        return None

    def _cut(self) -> list[Function]:
        """Return the functions without what belongs to another one: a jump to the end of it, or code that several share."""
        begins = sorted(self._found)
        owner: dict[int, tuple[int, Instruction]] = {}
        for begin in begins:
            for at, one in self._found[begin].items():
                nearest = begins[max(0, bisect_right(begins, at) - 1)]
                if nearest == begin or at not in owner:
                    owner[at] = begin, one
        bodies: dict[int, list[Instruction]] = {begin: [] for begin in begins}
        for _, (begin, one) in sorted(owner.items()):
            bodies[begin].append(one)
        return [Function(begin, tuple(body)) for begin, body in bodies.items() if body]
