"""The saved state of a driver: a versioned document that is checked before any of it is used.

It is JSON: an object with ``format``, ``version``, ``digest`` (SHA-256 of the rest, keys sorted) and the keys of `SCHEMA`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from lab.reference.errors import DriverError

FORMAT, VERSION = "nvme-lab-servicing", 1

Shape = Any
"""A type; a list of one shape, for any number of it; or an object: key → shape."""

RING: Shape = {"tag": str, "entries": int, "head": int, "tail": int, "phase": int}
SCHEMA: Mapping[str, Shape] = {
    "address": str,
    "stage": str,
    "registers": {"CAP": int, "VS": int, "CC": int, "AQA": int, "ASQ": int, "ACQ": int},
    "controller": str,  # Identify Controller, hexadecimal
    "namespaces": [{"nsid": int, "identify": str, "uuid": str, "nguid": str, "eui64": str}],
    "queues": [
        {
            "qid": int,
            "vector": int,  # -1: polled
            "live": bool,
            "next_cid": int,
            "submission": RING,
            "completion": RING,
            "commands": [{"cid": int, "purpose": str, "ticket": int, "command": str}],
        }
    ],
    "operations": [{"ticket": int, "command": str, "buffer": str, "length": int, "lists": [str], "status": str}],
    "next_ticket": int,
    "events": [int],  # dword 0 of events that were received and not handled
    "creating": [int],  # queue pairs that are being created
}
"""The document's keys. ``purpose`` of a command: event, operation, create-cq, create-sq, abort."""


class ServicingError(DriverError):
    """A saved state that cannot be used. Nothing was done with it."""


def seal(state: Mapping[str, Any]) -> str:
    """Return the document of a state. ServicingError for a state that does not fit the schema."""
    _check(state, SCHEMA, "")
    whole = {"format": FORMAT, "version": VERSION, **state}
    return json.dumps({**whole, "digest": _digest(whole)}, sort_keys=True)


def unseal(text: str) -> dict[str, Any]:
    """Return the state of a document. ServicingError that says what is wrong with it."""
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise ServicingError(f"the saved state is no JSON: {error}") from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ServicingError(f"this is no saved state of this driver: its format is not {FORMAT!r}")
    if whole.get("version") != VERSION:
        raise ServicingError(f"the saved state has version {whole.get('version')!r}, and this driver reads {VERSION}")
    digest = whole.pop("digest", None)
    if digest != _digest(whole):
        raise ServicingError("the saved state is damaged: its digest does not match")
    state = {key: value for key, value in whole.items() if key not in ("format", "version")}
    _check(state, SCHEMA, "")
    return state


def _digest(whole: Mapping[str, Any]) -> str:
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _check(value: Any, shape: Shape, where: str) -> None:
    """Raise ServicingError that names the key where a value does not have its shape."""
    if isinstance(shape, type):
        if type(value) is not shape:
            raise ServicingError(f"the saved state: {where} must be {shape.__name__}, but is {value!r}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ServicingError(f"the saved state: {where} must be a list")
        for index, one in enumerate(value):
            _check(one, shape[0], f"{where}[{index}]")
    else:
        if not isinstance(value, Mapping):
            raise ServicingError(f"the saved state: {where or 'the document'} must be an object")
        if odd := sorted(set(value) ^ set(shape)):
            problem = "is missing" if odd[0] in shape else "is not known"
            raise ServicingError(f"the saved state: {f'{where}.' * bool(where)}{odd[0]} {problem}")
        for key, inner in shape.items():
            _check(value[key], inner, f"{where}.{key}" if where else key)
