"""Requests and answers on the port, each request in a thread, so that one that hangs in the kernel holds up no other."""

import json
import threading
import traceback
from collections.abc import Callable, Mapping

from lab.drivers.linux_agent import blocks, files, information, lab_requests, lifecycle, mix, power, zones
from lab.drivers.linux_agent.answers import CompletedWithError, Fields, NotOfferedError, RefusedError, errno_text
from lab.drivers.linux_agent.kernel_log import KernelLog
from lab.drivers.linux_agent.port import Port

OF_THE_LAB: Mapping[str, Callable[[Fields], Fields | bytes]] = {
    "begin": lab_requests.begin, "quiet": lab_requests.quiet, "put": lab_requests.put,
    "node": lab_requests.node, "run": lab_requests.run,
    "plugged": lifecycle.plugged, "preload": lifecycle.preload, "kexec": power.kexec,
}  # fmt: skip
"""What the lab asks for itself."""
ACTIONS: Mapping[str, Callable[[Fields], Fields | bytes]] = {
    "load": lifecycle.load, "unload": lifecycle.unload, "reset": lifecycle.reset, "rescan": lifecycle.rescan,
    "shutdown": lifecycle.shutdown,
    "suspend": power.suspend, "reset-function": power.reset_function, "reset-subsystem": power.reset_subsystem,
    "host-memory": power.host_memory,
    "info": information.info, "ready": information.ready, "identify": information.identify, "list": information.list_,
    "queues": information.queues, "get-feature": information.get_feature, "set-feature": information.set_feature,
    "smart": information.smart,
    "noop": blocks.flush, "read": blocks.read, "mount": files.mount, "write": blocks.write, "write-bytes": blocks.write_bytes,
    "flush": blocks.flush, "zeroes": blocks.zeroes, "trim": blocks.trim, "raw": blocks.raw_,
    "load-mix": mix.load_mix, "zones": zones.zones, "zone": zones.zone,
}  # fmt: skip
"""The actions of scenarios."""


def answer_request(request: Fields, kernel_log: KernelLog) -> bytes:
    """Return the encoded answer to a request."""
    answer: Fields = {"number": request["number"], "status": "success", "fields": {}, "bytes": 0}
    data = b""
    try:
        action = request["action"]
        found = (ACTIONS.get(action) or OF_THE_LAB[action])(request)
        if isinstance(found, bytes):
            data = found
            answer["bytes"] = len(data)
        else:
            answer["fields"] = found
    except RefusedError as refused:
        answer["status"] = {"words": str(refused)}
    except NotOfferedError:
        answer["status"] = "unsupported"
    except OSError as error:
        answer["status"] = {"words": errno_text(error)}
    except CompletedWithError as status:
        answer["status"] = {"sct": status.args[0] >> 8 & 7, "sc": status.args[0] & 0xFF}
    except Exception:
        answer["failure"] = traceback.format_exc()
    log = kernel_log.after(request["log_after"])
    answer["log"] = [line for _, line in log]
    answer["log_end"] = log[-1][0] if log else request["log_after"]
    return json.dumps(answer).encode() + b"\n" + data


class Server:
    """Threads that take turns in reading requests; a new one starts only when no other is left to read the next."""

    def __init__(self, port: Port, kernel_log: KernelLog) -> None:
        """Serve requests from a port."""
        self._port = port
        self._kernel_log = kernel_log
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._counting = threading.Lock()
        self._idle = 0

    def work(self) -> None:
        """Serve requests without end, in this thread and in others that it starts."""
        while True:
            with self._counting:
                self._idle += 1
            with self._reading:
                request = self._port.read()
            with self._counting:
                self._idle -= 1
                if not self._idle:
                    threading.Thread(target=self.work).start()
            answer = answer_request(request, self._kernel_log)
            with self._writing:
                self._port.write(answer)
