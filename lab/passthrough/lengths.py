"""How many bytes a command moves, and whether its buffer fits.

The kernel does not compare a passthrough command's buffer with its block count: a Read of eight blocks into a buffer of one
lets the device write past its end. So the library does, from the format that the namespace has.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.nvme.commands import Command, LbaCommand, Transfer, decode
from lab.passthrough.errors import BadLengthError
from lab.passthrough.request import Request


@dataclass(frozen=True)
class Format:
    """How a namespace's blocks are laid out; ``metadata_size`` bytes of each block are in a buffer of their own."""

    block_size: int
    metadata_size: int = 0
    extended: bool = False  # metadata at the end of each block instead


def expected(command: Command, format: Format | None) -> tuple[int, int] | None:
    """Return how many bytes of (data, metadata) a command moves; None if that is vendor specific or unknown."""
    if not command.transfer:
        return (0, 0)
    if isinstance(command, LbaCommand) and command.OPCODE is not None:
        return _of_blocks(command, format) if format else None
    length = command.data_length if command.OPCODE is not None else None
    return None if length is None else (length, 0)


def _of_blocks(command: LbaCommand, format: Format) -> tuple[int, int]:
    size = format.block_size + (format.metadata_size if format.extended else 0)
    metadata = 0 if format.extended else format.metadata_size
    return command.blocks * size, command.blocks * metadata


def check(request: Request, format: Format | None) -> None:
    """Raise BadLengthError where the buffers are not as long as the command moves.

    Metadata may be left out altogether, where the namespace has any: the kernel then sends none. ``format`` is of the opened
    namespace; without it block commands cannot be checked.
    """
    command = decode(request.command, admin=request.queue == "admin")
    if request.command.transfer is not Transfer.BOTH and request.data and not request.to_controller:
        raise BadLengthError(f"{request.name} moves data to the host, and {len(request.data)} bytes were given to send")
    moves = expected(command, format)
    if moves is None:
        return
    if request.data_length != moves[0]:
        raise BadLengthError(f"{request.name} moves {moves[0]} bytes, and the buffer has {request.data_length}")
    if request.metadata_size not in (0, moves[1]):
        raise BadLengthError(f"{request.name} moves {moves[1]} bytes of metadata, and their buffer has {request.metadata_size}")
