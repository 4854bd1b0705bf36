"""The line protocol of NVMe Lab's adapter guest-program in Python, with a driver that has none: docs/guest-programs.md."""

import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

Handler = Callable[[dict[str, str], bytes], dict[str, Any] | bytes]


def serve(handlers: dict[str, Handler]) -> None:
    """Answer requests until there is none any more. A handler returns fields, or bytes, or raises with its own words."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := requests.readline():
        action, *words = shlex.split(line.decode())
        arguments = dict(word.partition("=")[::2] for word in words)
        sent = requests.read(int(arguments.pop("nbytes", "0")))
        data = b""
        head: dict[str, Any] = {"status": "success"}
        try:
            found = handlers[action](arguments, sent) if action in handlers else {}
            if action not in handlers:
                head["status"] = "unsupported"
            elif isinstance(found, bytes):
                data = found
            else:
                head["fields"] = found
        except Exception as error:
            head["status"] = {"words": str(error)}
        answers.write(json.dumps({**head, "bytes": len(data)}).encode() + b"\n" + data)
        answers.flush()


def load(arguments: dict[str, str], data: bytes) -> dict[str, Any]:
    """Bring the driver up; here is none."""
    del arguments, data
    raise RuntimeError("put your driver here")


if __name__ == "__main__":
    serve({"load": load})
