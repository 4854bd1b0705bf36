"""Recordings for other people's tests: a device, what it sees, and the verdicts on that.

`Recording` drives the device by function calls; `ServedRecording` serves it on sockets, for a driver in another process or for
anybody's QEMU.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.controller.dma import LocalMemory
from lab.controller.in_process import InProcess
from lab.controller.server import DeviceServer
from lab.data.events import ActionEnded, ActionStarted, Plugged
from lab.data.evidence import EvidenceWriter
from lab.data.identity import DriverIdentity, Identity
from lab.data.manifest import ACTIONS, STAGES
from lab.data.plan import Answer, DeviceSpec, Fault, Scenario
from lab.data.profile import write_profiles
from lab.device.images import create_images
from lab.device.lab import unservable
from lab.device.modelled_profile import modelled_profiles
from lab.errors import UsageError
from lab.guest.folder import run_folder
from lab.testing.host import Host
from lab.testing.verdicts import Verdicts, judge
from lab.version import lab_version

SCENARIO = "testing/free"
"""The id of the scenario of such recordings: no check names it, so invariants judge them."""
MEMORY = 64 << 20
"""Bytes of the host's memory."""


class _Recorded:
    """The evidence of a device that is driven freely."""

    def __init__(
        self,
        spec: DeviceSpec,
        faults: Iterable[Fault],
        folder: Path | None,
        driver: str,
        seed: int,
        scenario: str,
        images: Path | None,
    ) -> None:
        """Hold what is to be recorded; ``folder`` is a new evidence folder, None a temporary one."""
        self.spec, self.faults = spec, tuple(faults)
        if obstacle := unservable(spec, None, self.faults):
            raise UsageError(f"This device cannot be: {obstacle}.")
        self._driver, self._seed, self._scenario_id = driver, seed, scenario
        self._wanted, self._own_images = folder, images
        self._cleanup = ExitStack()
        self._evidence: EvidenceWriter
        self._clock: Callable[[], float] = time.time
        self._number = 0

    @property
    def folder(self) -> Path:
        """The evidence folder."""
        return self._evidence.folder

    @property
    def images(self) -> Path:
        """The folder of the namespaces' images, CONTROLLER-NSID.img."""
        return self._own_images or self.folder / "namespaces"

    def _begin(self) -> None:
        folder = self._wanted
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="nvme-lab-testing-", ignore_cleanup_errors=True)
            self._temporary = temporary  # removed with this object: verdicts may be asked for after the block
            folder = Path(temporary.name) / "evidence"
        scenario = Scenario(
            id=self._scenario_id, stage="testing", title="driven freely", seed=self._seed, device=self.spec, actions=(),
            faults=self.faults,
        )  # fmt: skip
        self._evidence = EvidenceWriter(folder, _identity(self._driver, scenario))
        if self._own_images is None:
            create_images(self.spec, self.images, self._seed)

    def _plugged(self) -> None:
        for controller in self.spec.controllers:
            self._evidence.record(Plugged(t=self._clock(), controller=controller.id, present=True))

    def ask(self, action: str, do: Callable[[], Answer | bytes | None], **arguments: Any) -> Answer:
        """Perform an action of docs/drivers.md by calling ``do``, and record the question and the answer.

        ``do`` returns the bytes that were read, an `Answer`, or None. What it raises is raised here, after an answer with its
        words was recorded.
        """
        if action not in ACTIONS:
            raise UsageError(f"there is no action {action!r}", remedy=f"one of {', '.join(ACTIONS)}")
        number, self._number = self._number, self._number + 1
        self._evidence.record(ActionStarted(t=self._clock(), number=number, action=action, arguments=arguments))
        try:
            returned = do()
        except Exception as error:
            self._answered(number, action, Answer({"words": str(error) or type(error).__name__}))
            raise
        answer = returned if isinstance(returned, Answer) else Answer(data=returned)
        self._answered(number, action, answer)
        return answer

    def _answered(self, number: int, action: str, answer: Answer) -> None:
        fields: dict[str, Any] = {"status": answer.status, **answer.fields}
        if answer.data is not None:
            fields["data"] = self._evidence.keep_answer(number, answer.data)
        self._evidence.record(ActionEnded(t=self._clock(), number=number, action=action, answer=fields))

    def verdicts(self) -> Verdicts:
        """Judge the recording, which must have ended: after the ``with`` block."""
        if not (self.folder / "end.json").exists():
            raise UsageError("The recording has not ended.", remedy="ask for verdicts after the with block")
        return judge(self.folder)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the device, then the evidence."""
        self._cleanup.close()
        self._evidence.close(
            "complete" if error is None else "lab-error", "" if error is None else f"the test failed: {error!r}"
        )


class Recording(_Recorded):
    """A device in this process, driven by `host` or by a driver of your own on `functions`.

    ::

        with Recording(device(blocks=4096), Fault(name="f", behaviour="fatal", queue="io", nth=3)) as r:
            host = r.host.up()
            …
        assert not r.verdicts().failed

    ``folder`` keeps the evidence, for nvme-lab wire, judge and diff. All calls come from one thread. Time is the device's own.
    """

    def __init__(
        self, spec: DeviceSpec, *faults: Fault, folder: Path | None = None, driver: str = "test", seed: int = 0,
        scenario: str = SCENARIO, images: Path | None = None, strict: bool = False,
    ) -> None:  # fmt: skip
        """Hold the device. With ``strict`` it accesses only memory that `memory`.own has opened, as behind an IOMMU.

        ``images`` is a folder of images to use instead of new ones.
        """
        super().__init__(spec, faults, folder, driver, seed, scenario, images)
        self._strict = strict
        self.device: InProcess
        self.hosts: Mapping[str, Host] = {}
        """A host for each controller, by its id."""

    @property
    def host(self) -> Host:
        """The host of the first controller."""
        return next(iter(self.hosts.values()))

    @property
    def memory(self) -> LocalMemory:
        """The memory of all hosts."""
        return self.device.memory

    def __enter__(self) -> Self:
        """Start the device and the recording."""
        self._begin()
        self.device = self._cleanup.enter_context(
            InProcess(
                self.spec, self.images, records=self.folder / "device", faults=self.faults,
                memory=LocalMemory(MEMORY, strict=self._strict),
            )
        )  # fmt: skip
        self._clock = self.device.device.clock.now
        write_profiles(self.folder, modelled_profiles(self.device.device))
        self._plugged()
        self.hosts = {id: Host(self.device, function) for id, function in self.device.functions.items()}
        return self

    def arm(self, fault: str, armed: bool = True) -> None:
        """Flip the switch of a fault."""
        self.device.device.arm(fault, armed)

    def wait(self, seconds: float) -> bool:
        """Advance the device's time to what is due next, by ``seconds`` at most; return whether anything was due."""
        return self.device.wait(seconds)


class ServedRecording(_Recorded):
    """A device on a socket for each controller, by the vfio-user protocol: ``sockets[id]``.

    ::

        with ServedRecording(device(blocks=4096)) as r:
            subprocess.run(["./my-driver-test", r.socket], check=True)
        assert not r.verdicts().failed
    """

    def __init__(
        self, spec: DeviceSpec, *faults: Fault, folder: Path | None = None, driver: str = "test", seed: int = 0,
        scenario: str = SCENARIO, images: Path | None = None, sockets: Path | None = None,
    ) -> None:  # fmt: skip
        """Hold the device; ``sockets`` is a folder with a short path for the sockets, by default a private one."""
        super().__init__(spec, faults, folder, driver, seed, scenario, images)
        self._sockets = sockets
        self.server: DeviceServer

    def __enter__(self) -> Self:
        """Serve the device."""
        self._begin()
        folder = self._sockets or self._cleanup.enter_context(run_folder())
        self.server = self._cleanup.enter_context(
            DeviceServer(self.spec, self.images, folder, records=self.folder / "device", faults=self.faults)
        )
        self.server.call(lambda device: write_profiles(self.folder, modelled_profiles(device)))
        self._plugged()
        return self

    @property
    def sockets(self) -> Mapping[str, Path]:
        """The sockets by the controllers' ids."""
        return self.server.sockets

    @property
    def socket(self) -> Path:
        """The socket of the first controller."""
        return next(iter(self.server.sockets.values()))

    def arm(self, fault: str, armed: bool = True) -> None:
        """Flip the switch of a fault."""
        self.server.arm(fault, armed)


def _identity(driver: str, scenario: Scenario) -> Identity:
    return Identity(
        driver=DriverIdentity(name=driver, adapter="lab.testing", actions=tuple(sorted(ACTIONS)), stages=STAGES),
        device="lab",
        scenario=scenario.to_json(),
        seed=scenario.seed,
        host={
            "system": platform.system(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
        lab=lab_version(),
    )
