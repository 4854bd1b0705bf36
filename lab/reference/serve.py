"""The service for another program: requests by a FIFO, one after the other, while the controllers keep their state.

A request is a line of JSON (``number``, ``action``, ``arguments``), then a write's bytes. The answer comes by the FIFO
``out.NUMBER``: a line of JSON (``status``, ``fields``, ``bytes``: how many follow; or ``failure``: the
traceback of an error of this program, not an answer of the driver), then the bytes.
"""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

from lab.reference.service import Reply, Service


def serve(folder: Path, service: Service) -> None:
    """Answer requests from the FIFO ``in`` of the folder until the process is ended."""
    while True:
        line, _, data = (folder / "in").read_bytes().partition(b"\n")
        request = json.loads(line)
        (folder / f"out.{request['number']}").write_bytes(answer(service, request, data))


def answer(service: Service, request: dict[str, Any], data: bytes) -> bytes:
    """Return the encoded answer to one request."""
    try:
        reply = service.perform(request["action"], request["arguments"], data)
    except Exception:  # the waiting client must get an answer
        return json.dumps({"failure": traceback.format_exc()}).encode() + b"\n"
    return encode(reply)


def encode(reply: Reply) -> bytes:
    """Encode a line of JSON, then the bytes."""
    data = reply.data or b""
    head = {"status": reply.status, "fields": reply.fields, "bytes": len(data)}
    return json.dumps(head).encode() + b"\n" + data
