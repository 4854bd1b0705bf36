"""The processors of a guest that is stopped: program counter, stack pointer and stack, by QEMU's monitor."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.guest.machine import Machine

WORDS = 1024
"""Of the stack, at most: 8 KiB on a processor of 64 bits."""
_PC = re.compile(r"\b(?:RIP|EIP|PC)=([0-9a-f]+)")
_SP = re.compile(r"\b(?:RSP|ESP|SP)=([0-9a-f]+)")
_WORD = re.compile(r" 0x([0-9a-f]+)")
NARROW_DIGITS = 8


@dataclass(frozen=True)
class ProcessorState:
    """One processor; ``stack`` holds the words from the stack pointer up."""

    number: int
    pc: int
    stack: tuple[int, ...]


def processors(machine: Machine) -> list[ProcessorState]:
    """Return the state of each processor; the guest should be stopped. LabError as QMP has it."""
    return [_state(machine, int(cpu["cpu-index"])) for cpu in machine.qmp("query-cpus-fast")]


def _state(machine: Machine, number: int) -> ProcessorState:
    registers = _ask(machine, "info registers", number)
    pc, sp = _PC.search(registers), _SP.search(registers)
    if pc is None or sp is None:
        return ProcessorState(number, 0, ())
    size = "w" if len(sp[1]) == NARROW_DIGITS else "g"
    shown = _ask(machine, f"x /{WORDS}{size}x 0x{sp[1]}", number)
    return ProcessorState(number, int(pc[1], 16), tuple(int(word, 16) for word in _WORD.findall(shown)))


def _ask(machine: Machine, line: str, number: int) -> str:
    return str(machine.qmp("human-monitor-command", {"command-line": line, "cpu-index": number}))
