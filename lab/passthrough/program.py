"""The library as a program, for the lab's profile ``passthrough``: a step is a line of JSON, and so is the answer to it.

It says ``{"ready": true}`` first, then answers each line of its standard input until that ends. A program around another SDK
does the same (docs/passthrough.md): the steps are the methods of `Program`, named after ``do``. SIGUSR1 may come at any time.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO

from lab.nvme.commands import Command
from lab.passthrough import commands
from lab.passthrough.availability import availability
from lab.passthrough.device import Device
from lab.passthrough.errors import PassthroughError
from lab.passthrough.interfaces import Interface
from lab.passthrough.queue import Queue
from lab.passthrough.request import Answer, Request

Step = Mapping[str, Any]
Reply = dict[str, Any]


class Program:
    """Handles that stay open from step to step, and a method a step."""

    def __init__(self) -> None:
        """Begin with no device open."""
        self._handles: dict[str, Device] = {}
        self._steps: Mapping[str, Callable[[Step], Reply]] = {
            "open": self.open, "close": self.close, "command": self.command, "read": self.read, "write": self.write,
            "together": self.together, "available": self.available, "reads": self.reads,
        }  # fmt: skip

    def answer(self, step: Step) -> Reply:
        """Return the answer to a step; a refusal is one too."""
        try:
            return self._steps[step["do"]](step)
        except PassthroughError as error:
            return {"error": error.reason, "words": str(error)}
        except ValueError as error:
            return {"error": "usage", "words": str(error)}

    # -- steps ----------------------------------------------------------------------------------------------------------

    def open(self, step: Step) -> Reply:
        """Open ``device`` and keep it under the name ``handle``."""
        self._handles[step["handle"]] = self.device(step["device"])
        return {}

    def close(self, step: Step) -> Reply:
        """Close a handle, and keep it: further steps may name it all the same."""
        self._handles[step["handle"]].close()
        return {}

    def command(self, step: Step) -> Reply:
        """Send one command as it is: ``fields`` are opcode, nsid, cdw2, cdw3, cdw10 to cdw15."""
        return self._send(step, self.raw(step))

    def read(self, step: Step) -> Reply:
        """Read ``blocks`` blocks of ``block_size`` bytes from ``lba``."""
        return self._send(step, self.request(step))

    def write(self, step: Step) -> Reply:
        """Write ``data`` from ``lba``."""
        return self._send(step, self.request(step))

    def together(self, step: Step) -> Reply:
        """Do many steps at once: each in a thread of ``threads``, or all of them outstanding on a queue of ``depth``."""
        if "depth" in step:
            return {"answers": self._queued(step["device"], step["steps"], step["depth"])}
        with ThreadPoolExecutor(step["threads"]) as threads:
            return {"answers": list(threads.map(self.answer, step["steps"]))}

    def available(self, step: Step) -> Reply:
        """Return whether ``device`` takes commands, and why."""
        found = availability(step["device"])
        return {"commands": found.commands, "hardware": found.hardware, "reason": str(found.reason), "words": found.sentence}

    def reads(self, step: Step) -> Reply:
        """Read ``count`` times ``blocks`` blocks in order, ``depth`` outstanding, and keep nothing."""
        with self.device(step["device"]) as device:
            requests = [
                commands.read(device.nsid, number * step["blocks"], step["blocks"], step["block_size"])
                for number in range(step["count"])
            ]
            if step["depth"] == 1:
                prepared = [device.prepare(request) for request in requests]
                failed = sum(bool(one.status()) for one in prepared)
            else:
                with Queue(device, step["depth"]) as queue:
                    failed = sum(not one.result().completion.ok for one in [queue.submit(request) for request in requests])
        return {"reads": step["count"], "failed": failed}

    # -- how ------------------------------------------------------------------------------------------------------------

    def device(self, path: str) -> Device:
        """Return the opened device."""
        return Device(path)

    def request(self, step: Step) -> Request:
        """Return the request of a ``command``, ``read`` or ``write`` step."""
        if step["do"] == "read":
            return commands.read(step["nsid"], step["lba"], step["blocks"], step["block_size"])
        if step["do"] == "write":
            return commands.write(step["nsid"], step["lba"], bytes.fromhex(step["data"]), step["block_size"])
        return self.raw(step)

    def raw(self, step: Step) -> Request:
        """Return the request of a ``command`` step."""
        names = {"opcode": "OPC", "nsid": "NSID"}
        fields = {names.get(name, name.upper()): value for name, value in step["fields"].items()}
        return Request(
            Command.of(**fields), step["queue"], bytes.fromhex(step.get("data", "")), step.get("length", 0),
            bytes.fromhex(step.get("metadata", "")), step.get("metadata_length", 0), step.get("timeout_ms", 0),
        )  # fmt: skip

    def _send(self, step: Step, request: Request) -> Reply:
        interface = Interface(step["interface"]) if "interface" in step else None
        if "handle" in step:
            return to_json(self._handles[step["handle"]].submit(request, yes=step.get("yes", False), interface=interface))
        with self.device(step["device"]) as device:
            return to_json(device.submit(request, yes=step.get("yes", False), interface=interface))

    def _queued(self, path: str, steps: Iterable[Step], depth: int) -> list[Reply]:
        """Return the answers to steps whose commands were outstanding together."""
        with self.device(path) as device, Queue(device, depth) as queue:
            requests = [self.request(step) for step in steps]
            return [to_json(promise.result()) for promise in [queue.submit(request) for request in requests]]


def to_json(answer: Answer) -> Reply:
    """Return an answer as JSON has it. A dword that the interface does not carry is left out."""
    dwords = {"dw0": answer.completion.DW0} if answer.dw0_known else {}
    dwords |= {"dw1": answer.completion.DW1} if answer.dw1_known else {}
    return {"status": answer.status_field, **dwords, "data": answer.data.hex(), "metadata": answer.metadata.hex()}


def serve(program: Program, source: TextIO, sink: TextIO) -> None:
    """Answer every line of ``source`` by one of ``sink``."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    print(json.dumps({"ready": True}), file=sink, flush=True)
    for line in source:
        print(json.dumps(program.answer(json.loads(line))), file=sink, flush=True)


if __name__ == "__main__":
    serve(Program(), sys.stdin, sys.stdout)
