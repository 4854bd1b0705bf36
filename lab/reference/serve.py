"""The service for somebody outside: requests by a FIFO, one after the other, while the controllers stay as they are.

A request is a line of JSON (``number``, ``action``, ``arguments``), then a write's bytes. The answer comes by the FIFO
``out.NUMBER``: a line of JSON (``status``, ``fields``, ``bytes``: how many follow; or ``failure``: not the driver's word, but
an error of this program), then the bytes.
"""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

from lab.reference.service import Reply, Service


def serve(folder: Path, service: Service) -> None:
    """Answers what comes by the FIFO ``in`` of the folder, for ever."""
    while True:
        line, _, data = (folder / "in").read_bytes().partition(b"\n")
        request = json.loads(line)
        (folder / f"out.{request['number']}").write_bytes(answered(service, request, data))


def answered(service: Service, request: dict[str, Any], data: bytes) -> bytes:
    """The answer to one request, as it goes out."""
    try:
        reply = service.perform(request["action"], request["arguments"], data)
    except Exception:  # whatever it was, whoever waits must hear of it
        return json.dumps({"failure": traceback.format_exc()}).encode() + b"\n"
    return encoded(reply)


def encoded(reply: Reply) -> bytes:
    """A line of JSON, then the bytes."""
    data = reply.data or b""
    head = {"status": reply.status, "fields": reply.fields, "bytes": len(data)}
    return json.dumps(head).encode() + b"\n" + data
