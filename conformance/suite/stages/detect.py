"""Stage 1, detect: find the controller, map BAR0, read its registers. Base 2.0, 3.1.3."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PCIE_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.admin_queue import not_ready
from lab.data.events import ConfigWrite, Doorbell, RegisterRead, RegisterWrite, Submitted
from lab.data.plan import DeviceSpec, Fault
from lab.nvme.registers import CSTS, DOORBELLS, READ_ONLY, register_at

NVME_CLASS = 0x010802
"""Class code of an NVM Express I/O controller."""
ACCESSES = RegisterRead, RegisterWrite, Doorbell
GONE = "nv0"
"""The controller of detect/one-gone that is not there any more."""
BAR0_HIGH = 0x14
"""Offset in configuration space of the high half of BAR0."""


@scenario("detect/basic", "one controller with one namespace, first only detected")
def basic(draw: Draw) -> Plan:
    return Plan(draw.device(), [do("load", until="detect"), LOAD, do("info")])


@scenario("detect/two-controllers", "two controllers behind two root ports")
def two_controllers(draw: Draw) -> Plan:
    one, two = draw.device(id="nv0"), draw.device(id="nv1")
    return Plan(DeviceSpec(controllers=one.controllers + two.controllers), [LOAD, do("info"), do("identify")])


@scenario("detect/odd-id", "an unknown vendor and device id")
def odd_id(draw: Draw) -> Plan:
    pci = {"vendor": 0x1D00 + draw.between(0, 0xFF), "device": draw.between(0x100, 0xFFF)}
    return Plan(draw.device(pci=pci), [LOAD, do("ready"), do("identify")])


@scenario("detect/other-class", "beside a controller, a function of class 0108xx that is no NVMe I/O controller")
def other_class_scenario(draw: Draw) -> Plan:
    one, other = draw.device(id="nv0"), draw.device(id="nv1", pci={"class_code": 0x010803})
    return Plan(DeviceSpec(controllers=one.controllers + other.controllers), [LOAD])


@scenario("detect/bar64", "a 64-bit BAR0 above 4 GiB; it is prefetchable, or no bridge would put it there", hostile=True)
def bar64_scenario(draw: Draw) -> Plan:
    """A conformant BAR0 is not prefetchable. PCIe Transport 1.0, 3.8.1.10."""
    return Plan(draw.device(prefetchable_bar=True), [LOAD, do("ready"), do("identify")])


@scenario("detect/command-sets", "CAP.CSS with a further bit beside that of the NVM command set")
def command_sets(draw: Draw) -> Plan:
    return Plan(draw.device(cap={"CSS": 1 << 6 | 1}), [LOAD, do("ready"), do("identify")])


@scenario("detect/stride", "doorbells 4 KiB apart, so that they reach far beyond one page; rings of some hundred entries")
def stride(draw: Draw) -> Plan:
    device = draw.device(cap={"DSTRD": 10, "MQES": draw.between(100, 900)}, io_queues=2, vectors=3)
    return Plan(device, [LOAD, do("info"), do("read", nsid=1, lba=draw.between(0, 900), blocks=8)])


@scenario("detect/all-ones", "the device goes away before the driver comes: all registers read all ones", hostile=True)
def all_ones_scenario(draw: Draw) -> Plan:
    """Its configuration space stays, as in reset/removed: it is the driver that shall notice, not the kernel below it."""
    gone = Fault(name="gone", behaviour="removed", arguments={"config": False}, armed=False)
    return Plan(draw.device(), [do("fault", name="gone", armed=True), LOAD, do("ready")], [gone])


@scenario("detect/one-gone", "two controllers, of which the first goes away before the driver comes", hostile=True)
def one_gone(draw: Draw) -> Plan:
    one, two = draw.device(id=GONE), draw.device(id="nv1")
    gone = Fault(name="gone", behaviour="removed", controller=GONE, arguments={"config": False}, armed=False)
    device = DeviceSpec(controllers=one.controllers + two.controllers)
    return Plan(device, [do("fault", name="gone", armed=True), LOAD, do("list")], [gone])


@check("detect/class-code", cite=PCIE_1_0["3.8.1.5"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       scenarios=["detect/odd-id"])  # fmt: skip
def class_code(record: Record) -> Iterator[Finding]:
    """Binds to a controller by class 010802h, whatever its vendor and device id."""
    for asked in record.answers("load"):
        bound = any(record.during(asked, RegisterRead, RegisterWrite))
        yield Finding(bound, asked.ended, "registers accessed", "accessed" if bound else "no register was touched")


@check("detect/other-class", cite=PCIE_1_0["3.8.1.5"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       scenarios=["detect/other-class"])  # fmt: skip
def other_class(record: Record) -> Iterator[Finding]:
    """Leaves functions of class 0108xx alone that are not NVMe I/O controllers."""
    classes = {id: profile.pci_class for id, profile in record.profiles.items()}
    for asked in record.answers("load"):
        written = [event for _, event in record.during(asked, RegisterWrite, Doorbell)]
        wrong = [event for event in written if classes.get(event.controller) != NVME_CLASS]
        if written:  # a driver that touches nothing at all shows nothing
            shown = f"{len(wrong)} registers written" if wrong else "untouched"
            yield Finding(not wrong, wrong[0] if wrong else asked.ended, "an untouched function", shown)


@check("detect/bar64", cite=PCIE_1_0["3.8.1.11"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       scenarios=["detect/bar64"])  # fmt: skip
def bar64(record: Record) -> Iterator[Finding]:
    """Honours both halves of a 64-bit BAR0."""
    placed = [event for event in record.all(ConfigWrite) if event.offset == BAR0_HIGH]
    high = placed[-1].value if placed else 0
    for asked in record.answers("load") if high not in (0, 0xFFFF_FFFF) else ():
        reached = any(record.during(asked, RegisterRead, RegisterWrite))
        shown = f"BAR0 high half {high:#x}, registers {'reached' if reached else 'never reached'}"
        yield Finding(reached, asked.ended, "registers reached above 4 GiB", shown)


@check("detect/css-bitmap", cite=BASE_2_0["3.5.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def css_bitmap(record: Record) -> Iterator[Finding]:
    """Takes CAP.CSS as a bitmap: a controller with further command sets is brought up like any other."""
    profile = record.only_profile
    if profile is None or profile.cap.CSS in (0, 1) or record.scenario.hostile or not record.claims("admin-queue"):
        return
    for asked in (load for load in record.answers("load") if "until" not in load.arguments):
        if not any(True for _ in record.during(asked, RegisterRead)):
            continue  # CAP was never read: whatever keeps the driver away, it is not CSS
        enabled = any(state.enabled for state, _ in record.during(asked))
        shown = f"CAP.CSS {profile.cap.CSS:#04x}, {'enabled' if enabled else 'never enabled'}"
        yield Finding(enabled, asked.ended, "a controller that is enabled", shown)


@check("detect/doorbell-span", cite=BASE_2_0["3.1.3"], level=MANDATORY, why="integrity", witnesses=["wire"],
       scenarios=["detect/stride"])  # fmt: skip
def doorbell_span(record: Record) -> Iterator[Finding]:
    """Maps as much of BAR0 as the doorbells it uses need."""
    far = [event for event in record.all(Doorbell) if event.offset >= DOORBELLS + 0x2000]
    loaded = any(asked.ok for asked in record.answers("load"))  # a driver may refuse such a stride
    for asked in record.answers("read") if loaded else ():
        shown = f"{len(far)} such doorbells, read: {asked.said}"
        yield Finding(bool(far) and asked.ok, asked.ended, "I/O doorbells beyond 3000h that take effect", shown)


@check("detect/all-ones", cite=BASE_2_0["3.1.3"], level=MANDATORY, why="safety", witnesses=["fault"],
       scenarios=["detect/all-ones"])  # fmt: skip
def all_ones(record: Record) -> Iterator[Finding]:
    """Ends cleanly when all registers read all ones: the device is gone."""
    for asked in record.answers("load"):
        yield Finding(asked.status != "timeout", asked.ended, "an end, in time", asked.status)
    yield from not_ready(record)


@check("detect/access-width", cite=PCIE_1_0["3.1.2"], level=MANDATORY, why="shall", witnesses=["wire"])
def access_width(record: Record) -> Iterator[Finding]:
    """Accesses controller registers only in aligned units of 32 or 64 bits."""
    for event in record.events:
        if isinstance(event, ACCESSES):
            ok = event.size in (4, 8) and event.offset % event.size == 0
            yield Finding(ok, event, "4 or 8 bytes, aligned", f"{event.size} bytes at {event.offset:#x}")


@check("detect/read-only", cite=BASE_2_0["3.1.3"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def read_only(record: Record) -> Iterator[Finding]:
    """Never writes a read-only register (to CSTS only 0, or NSSRO=1, which clears that bit)."""
    for event in record.all(RegisterWrite):
        register = register_at(event.offset)
        cleared = register is CSTS and (not event.value or bool(CSTS(event.value).NSSRO))
        ok = register not in READ_ONLY and (register is not CSTS or cleared)
        name = register.__name__ if register else f"{event.offset:#x}"
        yield Finding(ok, event, "a register that the host may write", f"{name} = {event.value:#x}")


@check("detect/read-only-stage", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], stops="detect",
       scenarios=["detect/basic"])  # fmt: skip
def read_only_stage(record: Record) -> Iterator[Finding]:
    """Only looks while it detects: no register is written and no command is sent before the driver goes on."""
    for asked in record.answers("load"):
        if asked.arguments.get("until") == "detect":
            deeds = [event for _, event in record.during(asked, RegisterWrite, Doorbell, Submitted)]
            if deeds or any(record.during(asked, RegisterRead)):
                shown = f"{len(deeds)} register writes, doorbells and commands"
                yield Finding(not deeds, deeds[0] if deeds else asked.ended, "registers are read, and nothing else", shown)


@check("detect/cap", cite=BASE_2_0["3.1.3.1"], level=MANDATORY, why="integrity", witnesses=["out"], needs=["info"])
def cap(record: Record) -> Iterator[Finding]:
    """Decodes what it reports of CAP exactly: MQES 0's based, TO in 500 ms, DSTRD as 4 << n, page sizes as 4096 << n."""
    profile = record.only_profile
    for asked in record.answers("info"):
        for reported in asked.all("controllers") if profile else []:
            assert profile is not None
            really = {
                "max_queue_entries": profile.cap.MQES + 1,
                "doorbell_stride": 4 << profile.cap.DSTRD,
                "timeout_ms": profile.cap.TO * 500,
                "page_size_min": 4096 << profile.cap.MPSMIN,
                "page_size_max": 4096 << profile.cap.MPSMAX,
            }
            for name, expected in really.items():
                if name in reported:
                    yield Finding(reported[name] == expected, asked.ended, f"{name} {expected}", reported[name])


@check("detect/version", cite=BASE_2_0["3.1.3.2"], level=RECOMMENDED, why="practice", witnesses=["out"], needs=["info"])
def version(record: Record) -> Iterator[Finding]:
    """Reports the version that register VS holds."""
    profile = record.only_profile
    for asked in record.answers("info"):
        for reported in asked.all("controllers") if profile else []:
            assert profile is not None
            if "version" in reported:
                names = {profile.vs.text, f"{profile.vs.MJR}.{profile.vs.MNR}.{profile.vs.TER}"}
                yield Finding(reported["version"] in names, asked.ended, profile.vs.text, reported["version"])


@check(
    "detect/all-controllers",
    cite=PCIE_1_0["3.8.1.5"],
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
        found = sorted(str(reported.get("serial", "")).strip() for reported in asked.all("controllers"))
        yield Finding(found == expected, asked.ended, expected, found)


@check("detect/others", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["fault", "wire"],
       scenarios=["detect/one-gone"])  # fmt: skip
def others(record: Record) -> Iterator[Finding]:
    """Brings the other controller up where one is gone."""
    if not record.claims("admin-queue"):
        return
    for asked in record.answers("load"):
        seen = [(state.spec.id, state.enabled) for state, _ in record.during(asked, RegisterRead, RegisterWrite)]
        if seen:  # of a driver that accesses no register nothing is known
            enabled = any(up for id, up in seen if id != GONE)
            touched = any(id != GONE for id, _ in seen)
            shown = "enabled" if enabled else "never enabled" if touched else "none of its registers is accessed"
            yield Finding(enabled, asked.ended, "the second controller enabled", shown)
