"""What an adapter is: it describes the guest, and once that runs it puts actions into the guest's words. It never judges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.data import content
from lab.data.manifest import DriverManifest
from lab.data.mix import Mix, spelled_out
from lab.data.plan import Action, Answer, Namespace, Scenario
from lab.deadline import Deadline
from lab.errors import LabError, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine


class Session(Protocol):
    """A driver that can be asked.

    It may also have ``build``, a text: which build of the driver it is, as that says itself.
    """

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Wait until the guest's PCI core has followed a hot plug or unplug: it sees so many controllers.

        This is the machine's doing, not the driver's; it raises GuestTimeoutError when it does not come.
        """

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Ask the driver and return its answer, ``timeout`` if it is too slow; ``data`` is what a write shall write.

        Raises GuestPanicError or GuestDiedError when the guest has ended.
        """

    def close(self) -> None:
        """Close what the session has opened; the guest keeps running."""


class Adapter(Protocol):
    """One driver under test, before anything runs.

    Its class may also have ``devices``, where it reaches only some (`lab.data.plan.DeviceKind`), and ``in_qemu = False``, where
    the driver runs in this very process (`lab.recording.in_process.InProcessAdapter`).
    """

    hotplug: bool
    """The device is plugged into the running guest; else it is there at start."""
    actions: frozenset[str]
    """What the driver can be asked; the rest is unsupported."""
    panics: tuple[str, ...]
    """Regular expressions for the guest's panic messages."""
    files: Mapping[str, Path]
    """All that is brought into the guest for this driver, by a name that does not depend on the machine."""

    def guest(self, scenario: Scenario) -> GuestSpec | None:
        """Return the guest, without the device; None for a driver that needs none."""

    def seconds(self, action: str) -> float:
        """Return the seconds that the driver may take for an action."""

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> Session:
        """Wait until the guest accepts requests."""


@dataclass(frozen=True)
class Target:
    """The namespace that an action is about."""

    namespace: Namespace
    serial: str  # of its controller
    index: int  # among all attached namespaces, in the order of controllers and namespace ids, from 0


def target(scenario: Scenario, action: Action) -> Target | None:
    """Return the namespace that the action names by ``nsid`` and, where several have it, by ``controller`` (its id)."""
    if "nsid" not in action.arguments:
        return None
    attached = [(c, n) for c in scenario.device.controllers for n in sorted(c.namespaces, key=lambda n: n.nsid) if n.attached]
    wanted = action.arguments.get("controller")
    for index, (controller, namespace) in enumerate(attached):
        if namespace.nsid == action.arguments["nsid"] and wanted in (None, controller.id):
            return Target(namespace, controller.serial, index)
    raise LabError(f"scenario {scenario.id}: {action.name} names namespace {action.arguments['nsid']}, which is not attached")


def askable(action: Action, actions: Collection[str], stops: Collection[str]) -> bool:
    """Return whether a driver that knows these actions can be asked that. To load ``until`` a stage it must be able to stop."""
    return action.name in actions and (action.name != "load" or action.arguments.get("until") in (None, *stops))


def write_payload(scenario: Scenario, action: Action) -> bytes | None:
    """Return the bytes that ``fill`` stands for; None for an action without it."""
    asked = action.arguments
    if "fill" not in asked or (found := target(scenario, action)) is None:
        return None
    size = found.namespace.block_size
    if action.name == "write-bytes":
        end = asked["at"] + asked["length"]
        return content.blocks(asked["fill"], asked["nsid"], asked["lba"], -(-end // size), size)[asked["at"] : end]
    blocks = 1 if action.name == "clear" else asked["blocks"]  # all of them get the bytes of the first one
    return content.blocks(asked["fill"], asked["nsid"], asked["lba"], blocks, size)


def is_stale_listing(action: Action, answer: Answer) -> bool:
    """Return whether the driver shows other namespaces than those that a list waits for.

    ``until`` are their ids, and ``blocks`` the size of the first of them.
    """
    wanted = action.arguments.get("until") if action.name == "list" else None
    if wanted is None:
        return False
    shown = {listed["nsid"]: listed.get("blocks") for listed in answer.fields.get("namespaces", ())}
    if sorted(shown) != wanted:
        return True
    size: int | None = action.arguments.get("blocks")
    return size is not None and shown[wanted[0]] != size


def explicit_arguments(scenario: Scenario, action: Action, data: bytes | None) -> tuple[dict[str, Any], bytes]:
    """Return the arguments and the bytes for a driver that knows controllers by serial number, and nothing of patterns."""
    arguments, found = dict(action.arguments), target(scenario, action)
    if found:
        arguments["serial"] = found.serial
    if found and action.name == "load-mix":
        lanes, data = spelled_out(Mix.of(arguments), found.namespace)
        arguments |= lanes
    return arguments, data or b""


def own_file(manifest: DriverManifest, key: str, name: str) -> Path:
    """Return a file that the manifest names, relative to itself. UsageError if it is not there."""
    path = manifest.folder / name
    if path.is_dir():
        raise UsageError(f"{manifest.path}: {key}: {path} is a folder", remedy="name a file")
    if not path.is_file():
        raise UsageError(f"{manifest.path}: {key}: there is no file {path}", remedy="build it, or correct the path")
    return path


def mebibytes(size: str) -> int:
    """Return ``256M`` or ``1G`` (`Boot.memory`) in MiB."""
    return int(size[:-1]) * {"M": 1, "G": 1024}[size[-1]]
