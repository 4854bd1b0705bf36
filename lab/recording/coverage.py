"""What one recording with ``run --coverage`` collects: QEMU's log while the guest runs, coverage.json at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.coverage.log import ExecutedCode
from lab.data.coverage import RecordingCoverage, write_coverage
from lab.data.manifest import DriverManifest
from lab.drivers.base import Adapter
from lab.guest.accelerator import TCG, Accelerator
from lab.toolchain import Qemu

if TYPE_CHECKING:
    from lab.coverage.symbols import Symbols

NO_MACHINE_CODE = "the driver is Python in the lab's own process: there is no machine code of it"


class GuestCoverage:
    """The coverage of one guest; ``addresses`` is "" where nothing can be covered."""

    def __init__(self, manifest: DriverManifest, driver: Adapter, chosen: Accelerator, qemu: Qemu | None = None) -> None:
        """Find the driver's objects. UsageError for those of a manifest that cannot be used."""
        from lab.drivers.coverage_targets import Targets, targets  # with a disassembler, which most runs do not need

        self._targets = (
            targets(manifest, driver, qemu)
            if chosen.name.startswith(TCG)
            else Targets(
                reason=f"under {chosen.name} the processor runs the guest's code, and QEMU sees none of it: UNSUPPORTED"
            )
        )
        self.addresses = self._targets.addresses
        self.executed = ExecutedCode()

    def symbols(self) -> Symbols:
        """Return the driver's functions at the places where they have been executed so far."""
        from lab.coverage.places import cover
        from lab.coverage.symbols import Symbols

        executed = dict(self.executed.code)  # the reader of the log goes on
        return Symbols([(item, cover(item, executed).places) for item in self._targets.objects])

    @property
    def reason(self) -> str:
        """Why nothing can be covered; "" where something can."""
        return self._targets.reason

    def write(self, folder: Path) -> None:
        """Write coverage.json into the evidence."""
        from lab.coverage.places import cover, last_function

        code = dict(self.executed.code)
        objects = tuple(cover(one, code) for one in self._targets.objects)
        write_coverage(folder, RecordingCoverage(objects, self._targets.reason, last_function(objects, code)))
