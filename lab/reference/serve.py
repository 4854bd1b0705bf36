"""The service for another program: requests by a FIFO, one after the other, while the controllers keep their state.

A request is a line of JSON (``number``, ``action``, ``arguments``), then a write's bytes. The answer comes by the FIFO
``out.NUMBER``: a line of JSON (``status``, ``fields``, ``bytes``: how many follow; or ``failure``: the
traceback of an error of this program, not an answer of the driver), then the bytes.
"""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from pathlib import Path
from typing import Any

from lab.reference.service import Reply, Service

PROCESS = "driver.pid"
"""File in the folder that names the process that serves."""
KILLED_POLL_SECONDS = 0.001


def serve(folder: Path, service: Service) -> None:
    """Answer requests from the FIFO ``in`` of the folder until the process is ended."""
    while True:
        line, _, data = (folder / "in").read_bytes().partition(b"\n")
        request = json.loads(line)
        (folder / f"out.{request['number']}").write_bytes(answer(service, request, data, folder))


def continue_in_a_new_process(folder: Path) -> dict[str, int]:
    """Kill the process that has driven the controllers, and return in its successor; return the numbers of both.

    The successor has inherited the descriptors of the functions and the DMA memory, which is shared: so the kernel keeps both
    while the first process ends. Of the driver itself nothing is left but the saved documents.
    """
    predecessor = os.getpid()
    if os.fork():
        while True:
            signal.pause()  # until the successor kills it
    os.kill(predecessor, signal.SIGKILL)
    while os.getppid() == predecessor:
        time.sleep(KILLED_POLL_SECONDS)
    (folder / PROCESS).write_text(f"{os.getpid()}\n")
    return {"killed": predecessor, "successor": os.getpid()}


def answer(service: Service, request: dict[str, Any], data: bytes, folder: Path) -> bytes:
    """Return the encoded answer to one request. A driver that was saved is replaced by one in a new process."""
    try:
        reply = service.perform(request["action"], request["arguments"], data)
        if request["action"] == "save" and service.saved:
            reply.fields |= continue_in_a_new_process(folder)
    except Exception:  # the waiting client must get an answer
        return json.dumps({"failure": traceback.format_exc()}).encode() + b"\n"
    return encode(reply)


def encode(reply: Reply) -> bytes:
    """Encode a line of JSON, then the bytes."""
    data = reply.data or b""
    head = {"status": reply.status, "fields": reply.fields, "bytes": len(data)}
    return json.dumps(head).encode() + b"\n" + data
