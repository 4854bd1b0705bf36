"""Stage 1, detect: find the controller, map BAR0, read its registers. Base 2.0, 3.1.3."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.citations import BASE_2_0, PCIE_1_0
from conformance.record import Record
from conformance.scenario import LOAD, Draw, Plan, do, scenario
from lab.events import Doorbell, RegisterRead, RegisterWrite
from lab.nvme.registers import CSTS, READ_ONLY, register_at
from lab.plan import DeviceSpec


@scenario("detect/basic", "one controller with one namespace")
def basic(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("info")])


@scenario("detect/two-controllers", "two controllers behind two root ports")
def two_controllers(draw: Draw) -> Plan:
    one, two = draw.device(id="nv0"), draw.device(id="nv1")
    return Plan(DeviceSpec(controllers=one.controllers + two.controllers), [LOAD, do("info"), do("identify")])


@check("detect/access-width", cite=BASE_2_0["3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def access_width(record: Record) -> Iterator[Finding]:
    """Accesses controller registers only in aligned units of 32 or 64 bits."""
    for event in record.events:
        if isinstance(event, RegisterRead | RegisterWrite | Doorbell):
            ok = event.size in (4, 8) and event.offset % event.size == 0
            yield Finding(ok, event, "4 or 8 bytes, aligned", f"{event.size} bytes at {event.offset:#x}")


@check("detect/read-only", cite=BASE_2_0["3.1.3"], level=MANDATORY, why="safety", witnesses=["wire"])
def read_only(record: Record) -> Iterator[Finding]:
    """Never writes a read-only register (of CSTS only NSSRO, which is cleared by writing 1)."""
    for event in record.events:
        if isinstance(event, RegisterWrite):
            register = register_at(event.offset)
            ok = register not in READ_ONLY and (register is not CSTS or CSTS(event.value) == CSTS.of(NSSRO=1))
            name = register.__name__ if register else f"{event.offset:#x}"
            yield Finding(ok, event, "a register that the host may write", f"{name} = {event.value:#x}")


@check("detect/cap", cite=BASE_2_0["3.1.3.1"], level=MANDATORY, why="integrity", witnesses=["out"], needs=["info"])
def cap(record: Record) -> Iterator[Finding]:
    """Decodes what it reports of CAP exactly: MQES 0's based, TO in 500 ms, DSTRD as 4 << n, page sizes as 4096 << n."""
    profile = record.only_profile
    for asked in record.answers("info"):
        for told in asked.all("controllers") if profile else []:
            assert profile is not None
            really = {
                "max_queue_entries": profile.cap.MQES + 1,
                "doorbell_stride": 4 << profile.cap.DSTRD,
                "timeout_ms": profile.cap.TO * 500,
                "page_size_min": 4096 << profile.cap.MPSMIN,
                "page_size_max": 4096 << profile.cap.MPSMAX,
            }
            for name, expected in really.items():
                if name in told:
                    yield Finding(told[name] == expected, asked.ended, f"{name} {expected}", told[name])


@check("detect/version", cite=BASE_2_0["3.1.3.2"], level=RECOMMENDED, why="practice", witnesses=["out"], needs=["info"])
def version(record: Record) -> Iterator[Finding]:
    """Reports the version that register VS holds."""
    profile = record.only_profile
    for asked in record.answers("info"):
        for told in asked.all("controllers") if profile else []:
            assert profile is not None
            if "version" in told:
                names = {profile.vs.text, f"{profile.vs.MJR}.{profile.vs.MNR}.{profile.vs.TER}"}
                yield Finding(told["version"] in names, asked.ended, profile.vs.text, told["version"])


@check(
    "detect/all-controllers",
    cite=PCIE_1_0["3.1"],
    level=RECOMMENDED,
    why="practice",
    witnesses=["out"],
    needs=["identify"],
    scenarios=["detect/two-controllers"],
)
def all_controllers(record: Record) -> Iterator[Finding]:
    """Finds every controller behind every bridge."""
    expected = sorted(controller.serial for controller in record.controllers)
    for asked in record.answers("identify"):
        found = sorted(str(told.get("serial", "")).strip() for told in asked.all("controllers"))
        yield Finding(found == expected, asked.ended, expected, found)
