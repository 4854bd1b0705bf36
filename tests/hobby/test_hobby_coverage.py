"""Coverage of a kernel that is no Linux, as it is booted, by its ELF symbols."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.suite.selection import SCENARIOS
from lab.data.coverage import read_coverage
from lab.data.plan import DeviceKind
from lab.recording.record import record
from lab.toolchain import Toolchain
from tests.hobby.conftest import Build, manifest


@pytest.mark.parametrize("device", ["qemu", "lab"])
def test_functions_of_a_hobby_kernel_are_covered(
    toolchain: Toolchain, build: Build, tmp_path: Path, device: DeviceKind
) -> None:
    given = manifest({"kernel": str(build() / "kernel.elf")})
    folder = record(given, SCENARIOS["read/basic"].resolve(0), device, tmp_path / "e", toolchain=toolchain, coverage=True)
    covered = read_coverage(folder)
    assert covered is not None
    (kernel,) = covered.objects
    assert kernel.places == (0,)
    entered = {function.name: function.executed.bit_count() for function in kernel.functions}
    assert entered["nvme_read"] > 50
    assert entered["nvme_noop"] == 0
