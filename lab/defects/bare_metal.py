"""Mistakes that show in what a machine says and in what its disk holds, without a look at the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.defects.defect import defect
from lab.reference.service import Reply, Service


@defect("bare-metal/says-ready:never", scenarios=("bare-metal/ready",))
class NeverReady(Service):
    """Works, but never says that its controller is ready."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Say that nothing is ready."""
        return Reply(fields={"ready": False}) if action == "ready" else super().perform(action, arguments, data)


@defect("bare-metal/is-ready:too-early", scenarios=("bare-metal/ready",))
class TooEarly(Service):
    """Says that the controller is ready before it has looked for one."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Say so, and do nothing."""
        if action == "load":
            return Reply()
        return Reply(fields={"ready": True}) if action == "ready" else super().perform(action, arguments, data)


@defect("bare-metal/data:wrong-bytes")
class WrongBytes(Service):
    """Gives bytes back with one bit wrong in the last block of long reads."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Read, with the mistake."""
        reply = super().perform(action, arguments, data)
        if action == "read" and reply.data and arguments["blocks"] > 1:
            return Reply(reply.status, reply.fields, reply.data[:-1] + bytes([reply.data[-1] ^ 1]))
        return reply


@defect("bare-metal/beside:one-more")
class OneMore(Service):
    """Writes a block more than it was asked for, with zeros."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Write, with the mistake."""
        reply = super().perform(action, arguments, data)
        if action == "write" and data:
            block = len(data) // arguments["blocks"]
            further = {**arguments, "lba": arguments["lba"] + arguments["blocks"], "blocks": 1}
            super().perform(action, further, bytes(block))
        return reply


class _InMemory(Service):
    """Keeps what is written in its memory, and reads it from there."""

    kept: dict[int, bytes]

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Answer writes, flushes and reads from the memory, which a start empties."""
        if action == "load":
            self.kept = {}
        if action == "write" and data:
            size = len(data) // arguments["blocks"]
            self.kept |= {arguments["lba"] + n: data[n * size : (n + 1) * size] for n in range(arguments["blocks"])}
            return Reply()
        reply = super().perform(action, arguments, data)
        if action == "read" and reply.data:
            size = len(reply.data) // arguments["blocks"]
            blocks = range(arguments["blocks"])
            parts = [self.kept.get(arguments["lba"] + n, reply.data[n * size : (n + 1) * size]) for n in blocks]
            return Reply(reply.status, reply.fields, b"".join(parts))
        return reply


@defect("bare-metal/kept:in-memory")
class LostAtRestart(_InMemory):
    """Keeps what is written in its memory only: a restart loses it."""


@defect("bare-metal/stored:in-memory", scenarios=("bare-metal/data",))
class NeverStored(_InMemory):
    """Answers reads from memory that the disk never gets."""


@defect("bare-metal/capacity:kilobytes")
class Kilobytes(Service):
    """Shows capacities in KiB where blocks are meant."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """List, with the mistake."""
        reply = super().perform(action, arguments, data)
        if action != "list":
            return reply
        listed = [{**one, "blocks": one["blocks"] * one["block_size"] // 1024} for one in reply.fields["namespaces"]]
        return Reply(reply.status, {**reply.fields, "namespaces": listed}, reply.data)
