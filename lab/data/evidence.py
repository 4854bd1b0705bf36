"""The evidence folder: what one scenario on one driver and device left behind, and all that a judge may look at.

identity.json   first: driver, device, scenario (resolved), seed, versions; a folder with it is attributable
events.jsonl    an event a line, as it came; order of time, not of lines (several threads write)
device/         CONTROLLER.rec: what the programmable controller saw, a record of `lab.data.stream` for each
coverage.json   what of the driver was executed, where that was asked for (`lab.data.coverage`)
answers/        the bytes that the driver returned
namespaces/     the backing images as the scenario left them: CONTROLLER-NSID.img, raw
console.log  qemu.log  trace.log   what guest and QEMU said, where there was one
end.json        last: outcome, counts, digests of all that is judged; a folder without it was cut short
"""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from lab.data.events import ActionEnded, ActionStarted, Event, FaultInjected, Panicked, Plugged, from_json, to_json
from lab.data.identity import Identity, parse_identity
from lab.data.machine import MachineReport
from lab.data.plan import Controller, DeviceSpec, Namespace, Scenario
from lab.data.profile import read_profiles
from lab.data.seal import ANSWER_BYTES, DAMAGED, DOCUMENT_BYTES, Seal, check_seal, open_inside, seal
from lab.data.stream import Tail, read_stream
from lab.data.takeover import after_firmware
from lab.errors import LabError
from lab.files import write_atomically

Outcome = Literal["complete", "panic", "lab-error"]
"""How a scenario ended: all actions asked; the guest died of the driver; the lab failed."""

_FLUSH_AT_ONCE = (ActionStarted, ActionEnded, Panicked, Plugged, FaultInjected)


@dataclass(frozen=True)
class End:
    """The end marker of a recording."""

    outcome: Outcome
    reason: str
    seconds: float
    events: int
    unknown: int  # trace lines kept but not understood
    machine: MachineReport | None = None  # None where no guest ran
    files: Seal | None = None  # what is judged, with sizes and digests; None in evidence of an older lab, or that nobody keeps
    build: str = ""  # which build of the driver it was, as that says itself; "" where it does not


class EvidenceWriter:
    """Writes one evidence folder; `record` may be called from any thread. LabError if the folder cannot be written."""

    def __init__(self, folder: Path, identity: Identity, *, sealed: bool = True) -> None:
        """Create the folder, which must not exist yet, and write its identity; ``sealed`` as in `End.files`."""
        self.folder = folder
        self._sealed = sealed
        self._lock = threading.Lock()
        self._count = self._unknown = 0
        self._began = time.monotonic()
        with _Writing(folder):
            folder.mkdir(parents=True, exist_ok=False)
            for name in ("answers", "namespaces", "device"):
                (folder / name).mkdir()
            _write(folder / "identity.json", identity.model_copy(update={"started": time.time()}).to_json())
            self._events = (folder / "events.jsonl").open("w", encoding="utf-8", buffering=1 << 16)

    def begin(self) -> None:
        """Count the seconds of the recording from now on: until here it waited for others."""
        self._began = time.monotonic()

    def record(self, event: Event) -> None:
        """Write an event."""
        line = json.dumps(to_json(event), separators=(",", ":")) + "\n"
        with self._lock, _Writing(self.folder):
            self._events.write(line)
            self._count += 1
            self._unknown += type(event).__name__ == "Unknown"
            if isinstance(event, _FLUSH_AT_ONCE):
                self._events.flush()

    def flush(self) -> None:
        """Write all events so far to the file, for those who follow the recording."""
        with self._lock, _Writing(self.folder):
            self._events.flush()

    def keep_answer(self, number: int, data: bytes) -> str:
        """Store the bytes of action ``number``'s answer; return their name inside the folder."""
        name = f"answers/{number}.bin"
        with _Writing(self.folder):
            (self.folder / name).write_bytes(data)
        return name

    def close(self, outcome: Outcome, reason: str = "", machine: MachineReport | None = None, build: str = "") -> None:
        """Flush everything and set the end marker; ``machine`` says how promptly the guest was run."""
        with self._lock, _Writing(self.folder):
            self._events.close()
            end = {
                "outcome": outcome,
                "reason": reason,
                "seconds": round(time.monotonic() - self._began, 3),
                "events": self._count,
                "unknown": self._unknown,
                "machine": machine and asdict(machine),
                "files": seal(self.folder) if self._sealed else None,
                "build": build,
            }
            _write(self.folder / "end.json", end)


class Evidence:
    """Reads one evidence folder. Broken parts are LabErrors that name the file and line; nothing is guessed."""

    def __init__(self, folder: Path) -> None:
        """Read the identity; LabError if there is none, or a broken one."""
        self.folder = folder
        if not (folder / "identity.json").is_file():
            raise LabError(
                f"{folder} is no evidence folder: it has no identity.json",
                remedy="name a folder that nvme-lab run wrote (it stands in results.json as 'evidence')",
            )
        self.identity = parse_identity(_read(folder, "identity.json"), folder / "identity.json")

    @property
    def name(self) -> str:
        """driver/device/scenario, for people."""
        return f"{self.identity.driver.name}/{self.identity.device}/{self.scenario.id}"

    @cached_property
    def scenario(self) -> Scenario:
        """Return the scenario; LabError if it cannot be read."""
        try:
            found = Scenario.from_json(self.identity.scenario)
            return found if found.device.controllers else replace(found, device=self._device_of_profiles())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabError(f"{self.folder}/identity.json: the scenario cannot be read: {error}") from error

    def _device_of_profiles(self) -> DeviceSpec:
        """Return the device of a scenario that names none, from what its controllers say of themselves (device.json)."""
        profiles = read_profiles(self.folder)
        if not profiles:
            raise LabError(
                f"{self.folder}/identity.json: neither the scenario nor device.json says which controllers were there",
                remedy="write device.json (lab.data.profile), or the scenario's device",
            )
        return DeviceSpec(
            controllers=tuple(
                Controller(
                    id=id, serial=profile.controller.SN,
                    namespaces=tuple(
                        Namespace(nsid=nsid, blocks=found.NSZE, block_size=found.block_size)
                        for nsid, found in profile.namespaces.items()
                    ),
                )
                for id, profile in profiles.items()
            )
        )  # fmt: skip

    @cached_property
    def end(self) -> End | None:
        """The end marker; None if the recording was cut short."""
        path = self.folder / "end.json"
        if not path.exists() and not path.is_symlink():
            return None
        try:
            end = _read(self.folder, "end.json")
            machine = end.get("machine")
            return End(**{**end, "machine": machine and MachineReport(**machine)})
        except (TypeError, AttributeError) as error:
            raise LabError(f"{path}: not an end marker: {error}") from error

    def check(self) -> None:
        """Raise LabError where the evidence is not what was recorded; an unfinished recording has nothing to check."""
        if self.end is None:
            return
        if self.end.files is not None:
            check_seal(self.folder, self.end.files)
        with open_inside(self.folder, "events.jsonl") as lines:
            count = sum(text.endswith(b"\n") for text in iter(lambda: lines.readline(DOCUMENT_BYTES), b""))
        if count != self.end.events:
            raise LabError(f"{self.folder}/events.jsonl holds {count} events, {self.end.events} were recorded", remedy=DAMAGED)

    def events(self) -> Iterator[Event]:
        """Yield all events in the order of time.

        A last line or record that was cut off is left out if the end marker is missing too.

        The controllers' records come one event at a time, however long they are.
        """
        records = sorted((self.folder / "device").glob("*.rec"))
        complete = self.end is not None
        for path in records:
            open_inside(self.folder, f"device/{path.name}").close()
        streams = [read_stream(path, complete=complete) for path in records]
        seen = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_time)
        merged = _put_between(self._lines(), seen)
        yield from after_firmware(merged) if self.identity.driver.boots_from_nvme else merged

    def _lines(self) -> list[Event]:
        """Return the events of events.jsonl."""
        path = self.folder / "events.jsonl"
        found: list[Event] = []
        if not path.is_file():
            raise LabError(f"{path} is missing: the evidence is not whole", remedy=DAMAGED)
        with open_inside(self.folder, "events.jsonl") as lines:
            for number, text in enumerate(iter(lambda: lines.readline(DOCUMENT_BYTES), b""), 1):
                try:
                    found.append(_event(path, number, text))
                except LabError:
                    if not text.endswith(b"\n") and self.end is None:
                        break
                    raise
        found.sort(key=_time)
        return found

    def answer_bytes(self, answer: Mapping[str, Any]) -> bytes | None:
        """Return the bytes that an answer's ``data`` names; None if it has none."""
        name = answer.get("data")
        if name is None:
            return None
        with open_inside(self.folder, str(name), ANSWER_BYTES) as file:
            return file.read()

    def image(self, controller: str, nsid: int) -> Path | None:
        """Return the backing image of a namespace as the scenario left it; None if it was not kept."""
        path = self.folder / "namespaces" / f"{controller}-{nsid}.img"
        if not path.exists() and not path.is_symlink():
            return None
        open_inside(self.folder, f"namespaces/{path.name}").close()
        return path


_time = attrgetter("t")


def _put_between(lines: Sequence[Event], seen: Iterable[Event]) -> Iterator[Event]:
    """Yield what the device saw, with each of the few lines before whatever came later, or at the same time."""
    at, due = 0, lines[0].t if lines else inf
    for event in seen:
        while due <= event.t and at < len(lines):
            yield lines[at]
            at += 1
            due = lines[at].t if at < len(lines) else inf
        yield event
    yield from lines[at:]


class Follower:
    """The events of a recording in progress."""

    def __init__(self, folder: Path) -> None:
        """Follow a folder from its first event on."""
        self._folder = folder
        self._lines = _Lines(folder / "events.jsonl")
        self._records: dict[Path, Tail] = {}

    def new(self, *, ended: bool = False) -> list[Event]:
        """Return the events since the last call, in the order of time; all that are left once the recording has ``ended``."""
        for path in (self._folder / "device").glob("*.rec"):
            self._records.setdefault(path, Tail(path))
        found = [*self._lines.new(), *(event for tail in self._records.values() for event in tail.new(ended=ended))]
        return sorted(found, key=lambda event: event.t)


def following(folder: Path) -> Iterator[list[Event]]:
    """Yield the events of a recording in progress, until the end marker.

    Each list holds the events since the last one, in order of time.
    """
    follower = Follower(folder)
    ended = False
    while not ended:
        ended = (folder / "end.json").is_file()  # looked at before the events, so that none is missed
        yield follower.new(ended=ended)


class _Lines:
    """The lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = self._number = 0

    def new(self) -> Iterator[Event]:
        """Return the events of the lines since the last look; an incomplete line waits for the next look."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at, self._number = self._at + len(line), self._number + 1
                yield _event(self._path, self._number, line)


def _event(path: Path, number: int, text: str | bytes) -> Event:
    """Return the event of a line. LabError that names the line if it is none."""
    try:
        return from_json(json.loads(text), number)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LabError(f"{path}:{number}: not an event ({error}): {text[:120]!r}") from error


def evidence_folders(root: Path) -> list[Path]:
    """Yield every evidence folder at or below ``root``, in the order of names."""
    return sorted(path.parent for path in root.rglob("identity.json"))


class _Writing:
    """Turns an operating system error while writing into a LabError with a remedy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise LabError(
                f"evidence cannot be written to {self.folder}: {error.strerror}",
                remedy="free some space or choose another folder with --out",
            ) from error


def _write(path: Path, data: Any) -> None:
    write_atomically(path, json.dumps(data, indent=1, default=str) + "\n")


def _read(folder: Path, name: str) -> Any:
    try:
        with open_inside(folder, name, DOCUMENT_BYTES) as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(f"{folder / name} cannot be read: {error}") from error
