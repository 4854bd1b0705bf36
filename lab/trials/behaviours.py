"""What the live Linux driver makes of each behaviour of the programmable controller: one trial a behaviour.

A trial arms the behaviour, provokes it from inside the guest, and collects what Linux said in its log, what became of the
command, and whether the disk still works. Linux's time-outs are 2 s, and CAP.TO is 1 s, so that a trial takes seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lab.controller.behaviour import BEHAVIOURS
from lab.data.content import initial
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.errors import LabError
from lab.nvme.commands import Flush, Read
from lab.nvme.status import Status
from lab.toolchain import Toolchain
from lab.trials.live_linux import LiveLinux

Provocation = Literal["read", "reads", "sync", "reset"]
"""One direct read; 8 of them at once; fsync after a write, which sends Flush; a reset of the controller by sysfs."""

SEED = 1
NAMESPACE = Namespace(blocks=65536, areas=((0, 64),))
DEVICE = DeviceSpec(controllers=(Controller(serial="BEHAVIOUR", namespaces=(NAMESPACE,), cap={"TO": 2}),))
TIMEOUT = 2
"""Seconds that Linux gives a command."""
FIRST, SECOND = 8, 16
"""The block that the provocation reads, and the one that is read afterwards."""
READ: Mapping[str, Any] = {"queue": "io", "opcode": Read.OPCODE, "times": 1}
_MEDIA = {"sct": Status.READ_ERROR >> 8, "sc": Status.READ_ERROR & 0xFF, "dnr": 1}


@dataclass(frozen=True)
class Trial:
    """How one behaviour is shown: its arguments, the commands it strikes, and what makes Linux send one."""

    behaviour: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    strikes: Mapping[str, Any] = field(default_factory=lambda: READ)
    provocation: Provocation = "read"

    @property
    def fault(self) -> Fault:
        """Return the fault that the trial arms."""
        return Fault(name="trial", behaviour=self.behaviour, arguments=self.arguments, armed=False, **self.strikes)


TRIALS: tuple[Trial, ...] = (
    Trial("drop"),
    Trial("delay", {"ms": 500}),
    Trial("status", _MEDIA),
    Trial("corrupt", {"offset": 7, "length": 1}),
    Trial("replace", {"offset": 0, "hex": "00" * 16}),
    Trial("dma-refused"),
    Trial("must-never-come", strikes={"queue": "io", "opcode": Flush.OPCODE, "times": 1}, provocation="sync"),
    Trial("verify", {"fields": {"NLB": 63}}),
    Trial("wrong-phase"),
    Trial("wrong-cid"),
    Trial("wrong-sqid"),
    Trial("wrong-sqhd"),
    Trial("duplicate"),
    Trial("out-of-order", provocation="reads"),
    Trial("no-interrupt"),
    Trial("completion-status", _MEDIA),
    Trial("fatal"),
    Trial("ready-drops"),
    Trial("bus-master-off"),
    Trial("removed"),
    Trial("spurious-interrupt", {"vector": 1, "count": 3}),
    Trial("never-ready", strikes={"times": 1}, provocation="reset"),
    Trial("slow-ready", {"ms": 500}, strikes={"times": 1}, provocation="reset"),
    Trial("slow-disable", {"ms": 500}, strikes={"times": 1}, provocation="reset"),
    Trial("late-ready", strikes={"times": 1}, provocation="reset"),
    Trial("new-firmware", strikes={"times": 1}, provocation="reset"),
    Trial("ones-after-disable", strikes={"times": 1}, provocation="reset"),
    Trial("aer-refused", strikes={}, provocation="reset"),
    Trial("hold"),
    Trial("gather", {"ms": 500}),
    Trial("edit-submission", {"fields": {"SLBA": 16}}),
    Trial("edit-completion", {"fields": {"DW1": 1}}),
    Trial("register-value", strikes={"times": 1}, provocation="reset"),
    Trial("fatal-at-enable", strikes={"times": 1}, provocation="reset"),
    Trial("stuck-ready", strikes={}, provocation="reset"),
)


NOT_PROVOKED: Mapping[str, str] = {
    "slow-shutdown": "Linux shuts a controller down when the machine halts, after which nothing can be asked",
    "late-abort": "strikes Abort, which Linux sends only after a lost command",
    "paused": "Linux looks at CSTS.PP only after an event that announces the activation of firmware",
    "log-delayed": "Linux reads its log pages once, before the fault can be armed",
    "queue-count-zero": "strikes Get Features, and Linux sends Set Features only",
    "unchanged-doorbell": "Linux writes no doorbell twice with the same value",
    "msix-reserved": "QEMU answers for MSI-X, so no guest sees it",
    "enable-ignored": "Linux sets AQA before CC.EN",
    "earlier-owner": "strikes the first access to a register, which comes before Linux knows the controller",
    "dword-only": "Linux reads and writes 64-bit registers by halves",
}
"""Behaviours that no trial shows, and why not; tests show them on the device itself."""


@dataclass(frozen=True)
class Shown:
    """What a trial has shown."""

    trial: Trial
    struck: int
    provoked: str  # success, or an errno's name
    seconds: float
    right: bool | None  # whether the bytes were those of the medium; None where none were read
    state: str  # of the controller afterwards, as sysfs shows it; "gone" without one
    afterwards: str  # another read: success, an errno's name, or "no disk"
    log: tuple[str, ...]
    remarks: tuple[str, ...]  # what the device remarked on

    @property
    def effects(self) -> tuple[str, ...]:
        """What Linux did, in the order of getting worse."""
        done = list(dict.fromkeys(name for words, name in _EFFECTS if any(words in line for line in self.log)))
        if self.provoked != "success":
            done.append(f"{self.provoked} to the caller")
        if self.right is False:
            done.append("wrong data to the caller")
        if self.state != "live":
            done.append(f"controller {self.state}")
        return tuple(done or ["nothing"])


_EFFECTS = (
    ("completion polled", "polled"),
    ("timeout, aborting", "Abort"),
    ("reset controller", "reset"),
    ("will reset", "reset"),
    ("genctr mismatch", "completion dropped"),
    ("could not locate request", "completion dropped"),
    ("Removing after probe failure", "removal"),
)
"""ActionSyntax of Linux's nvme driver (6.1), and what they mean."""


def check_complete() -> None:
    """Raise LabError unless every behaviour has its trial, or the reason why it has none."""
    missing = BEHAVIOURS.keys() - {trial.behaviour for trial in TRIALS} - NOT_PROVOKED.keys()
    if missing:
        raise LabError(f"no trial shows the behaviour {sorted(missing)[0]!r}", remedy="add one to lab.trials.behaviours.TRIALS")


def show(toolchain: Toolchain, trial: Trial, folder: Path) -> Shown:
    """Run one trial in a guest of its own; ``folder`` is for the device's images and records."""
    with LiveLinux(toolchain, DEVICE, folder, faults=(trial.fault,), seed=SEED) as linux:
        linux.load(io_timeout=TIMEOUT, admin_timeout=TIMEOUT)
        linux.plug()
        linux.appears("/sys/block/nvme0n1/nvme0n1p1")
        linux.log()
        before = len(linux.remarks())
        linux.arm("trial")
        answer = linux.python(_GUEST, trial.provocation, FIRST, SECOND)
        expected = hashlib.sha256(initial(SEED, NAMESPACE, FIRST)).hexdigest()
        return Shown(
            trial=trial,
            struck=linux.strikes("trial"),
            provoked=answer["provoked"],
            seconds=answer["seconds"],
            right=None if answer["sha256"] is None else answer["sha256"] == expected,
            state=answer["state"],
            afterwards=answer["afterwards"],
            log=tuple(linux.log()),
            remarks=tuple(dict.fromkeys(linux.remarks()[before:])),
        )


_GUEST = """
import errno, hashlib, json, mmap, os, sys, threading, time

DISK, STATE, RESET = "/dev/nvme0n1", "/sys/class/nvme/nvme0/state", "/sys/class/nvme/nvme0/reset_controller"
provocation, first, second = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
found = {"provoked": "success", "sha256": None}

def attempt(do):
    try:
        do()
        return "success"
    except OSError as error:
        return errno.errorcode[error.errno]

def read(block):
    buffer = mmap.mmap(-1, 4096)
    disk = os.open(DISK, os.O_RDONLY | os.O_DIRECT)
    try:
        if os.preadv(disk, [memoryview(buffer)[:512]], block * 512) < 512:
            raise OSError(errno.ENXIO, "the disk has no such block any more")
    finally:
        os.close(disk)
    if block == first:
        found["sha256"] = hashlib.sha256(buffer[:512]).hexdigest()

def reads():
    failed = []
    def one(block):
        result = attempt(lambda: read(block))
        if result != "success":
            failed.append(result)
    threads = [threading.Thread(target=one, args=(first + n,)) for n in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    if failed:
        raise OSError(getattr(errno, failed[0]), failed[0])

def sync():
    disk = os.open(DISK, os.O_RDWR)
    try:
        os.pwrite(disk, bytes(4096), 4096 * 1000)
        os.fsync(disk)
    finally:
        os.close(disk)

def reset():
    with open(RESET, "w") as file:
        file.write("1")

def state():
    try:
        with open(STATE) as file:
            return file.read().strip()
    except OSError:
        return "gone"

began = time.monotonic()
actions = {"read": lambda: read(first), "reads": reads, "sync": sync, "reset": reset}
found["provoked"] = attempt(actions[provocation])
found["seconds"] = round(time.monotonic() - began, 1)
until = time.monotonic() + 10
while (now := state()) not in ("live", "gone") and time.monotonic() < until:
    time.sleep(0.05)
found["state"] = now
found["afterwards"] = attempt(lambda: read(second)) if os.path.exists(DISK) else "no disk"
print(json.dumps(found))
"""
