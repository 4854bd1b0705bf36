"""Asks a passthrough SDK in the Linux guest: steps go to its program as lines of JSON, and so do the answers come back.

The program is the lab's own library, or the user's, which the manifest names (docs/passthrough.md). The lab resolves what a
step leaves open: which device node stands for a namespace, and which bytes a pattern stands for.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.data import content
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, Namespace, Scenario
from lab.drivers.base import own_file
from lab.drivers.bundle import passthrough_program
from lab.drivers.linux_guest import IN_GUEST
from lab.errors import LabError

PROFILE = "passthrough"
ACTIONS = frozenset({"passthrough", "file-reads"})
"""What can be asked where the manifest claims the profile."""
PROGRAM = f"{IN_GUEST}/passthrough"
MOUNT_POINT = "/mnt"
NOBODY = 65534
"""A user without privileges."""
SECONDS = 40.0
"""For all steps of one action, below the lab's own time-out for an action."""
READ_FILE = """
import mmap, os
file, count, size = os.open({file!r}, os.O_RDONLY | os.O_DIRECT), {count}, {size}
buffer = mmap.mmap(-1, size)
print(sum(os.preadv(file, [buffer], number * size) for number in range(count)))
"""
WRITE_FILE = "import os; file = open({file!r}, 'wb'); file.write(os.urandom({length})); file.flush(); os.fsync(file.fileno())"

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Asks the agent: a request, and the fields of its answer. NodeError where it says no."""


class NodeError(Exception):
    """A namespace has no device node: an SDK may have deleted it."""


class Sdk:
    """The program of one manifest."""

    def __init__(self, manifest: DriverManifest) -> None:
        """Find the program of the manifest; UsageError if there is none."""
        self._named = manifest.passthrough.program
        self.arguments = manifest.passthrough.arguments
        self.files: Mapping[str, Path] = (
            {PROGRAM: own_file(manifest, "passthrough.program", self._named)} if self._named else {}
        )

    @property
    def program(self) -> bytes:
        """The bytes that are pushed into the guest."""
        return self.files[PROGRAM].read_bytes() if self._named else passthrough_program()

    @property
    def command(self) -> list[str]:
        """What starts it there."""
        return [PROGRAM, *self.arguments]


def perform(sdk: Sdk, ask: Ask, scenario: Scenario, action: Action) -> Answer:
    """Return the answer to one of `ACTIONS`. LabError where the guest's own tools fail."""
    guest = _Guest(ask, scenario)
    try:
        if action.name == "file-reads":
            return _file_reads(guest, action.arguments)
        return _passthrough(sdk, guest, action.arguments)
    except NodeError as error:
        return Answer({"words": str(error)})


def _passthrough(sdk: Sdk, guest: _Guest, arguments: Mapping[str, Any]) -> Answer:
    steps = [guest.resolved(step) for step in arguments["steps"]]
    mounted = arguments.get("mounted")
    if mounted:
        guest.mount(f"/dev/{guest.nodes(mounted)['namespace']}p1", "-o", "ro")
    try:
        ran = guest.run(
            sdk.command, input="".join(f"{json.dumps(step)}\n" for step in steps), await_ready=True, check=False,
            **{"user": NOBODY} if arguments.get("unprivileged") else {},
            **{"signal_ms": arguments["signal_ms"]} if "signal_ms" in arguments else {},
        )  # fmt: skip
    finally:
        if mounted:
            guest.run(["umount", MOUNT_POINT])
    return _read_answers(ran, len(steps))


def _read_answers(ran: Mapping[str, Any], steps: int) -> Answer:
    """Return the program's lines as an answer; words where it did not keep to the form."""
    last = ran["err"].strip()[-800:]
    if ran["exit"] is None:
        return Answer("timeout", {"log": f"the program did not end in {SECONDS:g} s: {last}"})
    lines = ran["out"].splitlines()[1:]
    try:
        answers = [json.loads(line) for line in lines]
    except ValueError:
        return Answer({"words": f"the program printed a line that is no JSON: {next(filter(None, lines), '')[:200]} {last}"})
    if ran["exit"] not in (0, -signal.SIGUSR1) or len(answers) != steps:  # a signal may come after the last answer
        return Answer({"words": f"the program answered {len(answers)} of {steps} steps and ended with {ran['exit']}: {last}"})
    return Answer("success", {"answers": answers})


def _file_reads(guest: _Guest, arguments: Mapping[str, Any]) -> Answer:
    """Read a file on ext4 past the page cache, one read after the other."""
    count, size = arguments["count"], arguments["bytes"]
    file = f"{MOUNT_POINT}/file"
    guest.mount(f"/dev/{guest.nodes(arguments['nsid'])['namespace']}")
    try:
        guest.run(["python3", "-c", WRITE_FILE.format(file=file, length=count * size)])
        ran = guest.run(["python3", "-c", READ_FILE.format(file=file, count=count, size=size)])
    finally:
        guest.run(["umount", MOUNT_POINT])
    return Answer("success", {"bytes": int(ran["out"])})


class _Guest:
    """What the lab does in the guest around the steps."""

    def __init__(self, ask: Ask, scenario: Scenario) -> None:
        self._ask, self._scenario = ask, scenario
        self._nodes: dict[int, Mapping[str, str]] = {}

    def nodes(self, nsid: int) -> Mapping[str, str]:
        """Return the names of the device nodes of a namespace."""
        if nsid not in self._nodes:
            serial, _ = self._namespace(nsid)
            self._nodes[nsid] = self._ask({"action": "node", "serial": serial, "nsid": nsid})
        return self._nodes[nsid]

    def _namespace(self, nsid: int) -> tuple[str, Namespace]:
        """Return a namespace with its controller's serial number."""
        for controller in self._scenario.device.controllers:
            if namespace := controller.namespace(nsid):
                return controller.serial, namespace
        raise LabError(f"scenario {self._scenario.id} has no namespace {nsid}")

    def resolved(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """Return a step as the program gets it: ``on`` becomes ``device``, ``send`` becomes ``data``."""
        found = {key: value for key, value in step.items() if key not in ("on", "of", "send")}
        if "on" in step:
            found["device"] = f"/dev/{self.nodes(step.get('of', 1))[step['on']]}"
        if "send" in step:
            meant = step["send"]
            size = self._namespace(meant["nsid"])[1].block_size
            found["data"] = content.blocks(meant["fill"], meant["nsid"], meant["lba"], meant["blocks"], size).hex()
        if "steps" in step:
            found["steps"] = [self.resolved(one) for one in step["steps"]]
        return found

    def mount(self, node: str, *options: str) -> None:
        """Make a file system on a node and mount it as ext4."""
        self.run(["modprobe", "ext4"])
        self.run(["mke2fs", "-F", node])
        self.run(["mount", "-t", "ext4", *options, node, MOUNT_POINT])

    def run(self, program: list[str], *, check: bool = True, **more: Any) -> Mapping[str, Any]:
        """Run a program in the guest. LabError if it fails, unless ``check`` is off."""
        ran = self._ask({"action": "run", "program": program, "seconds": SECONDS, **more})
        if check and ran["exit"] != 0:
            raise LabError(f"{' '.join(program[:2])} failed in the guest: {ran['err'].strip() or ran['out'].strip()}")
        return ran
