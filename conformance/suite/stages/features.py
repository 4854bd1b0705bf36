"""Stage 10, features and maintenance. Base 2.0, 5.14 to 5.16 and 5.27; NVM Command Set 1.0, 3.2.3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from conformance.record.disk import differences, final_disks, show
from conformance.record.record import Asked, Record
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, OPTIONAL, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import Completed, Event, Remark, Submitted
from lab.data.plan import Action, Fault
from lab.nvme.commands import (
    AsyncEventRequest,
    Command,
    DatasetManagement,
    FormatNvm,
    GetFeatures,
    GetLogPage,
    Read,
    Sanitize,
    Select,
    SetFeatures,
    WriteZeroes,
)
from lab.nvme.features import Arbitration, AsyncEventConfig, Fid, TemperatureThreshold
from lab.nvme.identify import Oacs, Oaes, Oncs
from lab.nvme.logs import KELVIN, CriticalWarning, ErrorInformation, Lid, Smart

INVALID_FIELD = {"sct": 0, "sc": 0x02}
SUCCESS = {"sct": 0, "sc": 0x00}
HEALTH = "health"
"""The fault that gives the controller another SMART log page."""
REFUSED = (Fid.ASYNC_EVENT_CONFIG, Fid.TIMESTAMP, Fid.HOST_MEMORY_BUFFER)
"""Features that drivers set by themselves and can do without."""
OPTIONAL_EVENTS = ~0xFF
"""Bits of feature 0Bh that are OAES's."""


def _get(feature: Fid) -> Action:
    return do("get-feature", feature=feature)


def _set(feature: Fid, value: int, **more: bool) -> Action:
    return do("set-feature", feature=feature, value=value, **more)


def _reads(nsid: int, lba: int, blocks: int) -> Action:
    return do("read", nsid=nsid, lba=lba, blocks=blocks)


@scenario("features/basic", "features are read and set, and health is asked for")
def basic(draw: Draw) -> Plan:
    arbitration = Arbitration.of(AB=draw.between(0, 6), LPW=draw.between(0, 99), MPW=draw.between(100, 199), HPW=200)
    threshold = TemperatureThreshold.of(TMPTH=KELVIN + draw.between(60, 90))
    cache = [_get(Fid.VOLATILE_WRITE_CACHE), _set(Fid.VOLATILE_WRITE_CACHE, 0), _get(Fid.VOLATILE_WRITE_CACHE),
             _set(Fid.VOLATILE_WRITE_CACHE, 1), _get(Fid.VOLATILE_WRITE_CACHE)]  # fmt: skip
    other = [_get(Fid.ARBITRATION), _set(Fid.ARBITRATION, int(arbitration)), _get(Fid.ARBITRATION),
             _set(Fid.TEMPERATURE_THRESHOLD, int(threshold)), _get(Fid.TEMPERATURE_THRESHOLD), _get(Fid.TIMESTAMP)]  # fmt: skip
    late = _set(Fid.NUMBER_OF_QUEUES, draw.between(0, 3) * 0x10001)  # which must not be sent: there are I/O queues
    return Plan(draw.device(), [LOAD, *cache, *other, late, do("smart", errors=True), do("reset"), do("list")])


@scenario("features/no-cache", "a controller without a volatile write cache")
def no_cache(draw: Draw) -> Plan:
    return Plan(draw.device(write_cache=False), [LOAD, _get(Fid.VOLATILE_WRITE_CACHE), do("list")])


@scenario("features/bare", "only current values of features, an error log of four entries, no format; all of it is asked for")
def bare(draw: Draw) -> Plan:
    oncs, oacs = Oncs.of(DATASET_MANAGEMENT=1, WRITE_ZEROES=1), Oacs.of(NAMESPACE_MANAGEMENT=1)
    device = draw.device(identify={"ONCS": int(oncs), "OACS": int(oacs), "ELPE": 3, "FNA": 0})
    threshold = TemperatureThreshold.of(TMPTH=KELVIN + draw.between(60, 90))
    saved = [_set(Fid.TEMPERATURE_THRESHOLD, int(threshold), save=True), _get(Fid.TEMPERATURE_THRESHOLD)]
    errors = [_get(Fid.NAMESPACE_METADATA), do("smart", errors=True)]
    formatted = [do("format", nsid=1, format=1), _reads(1, draw.between(1, 900), 4)]
    return Plan(device, [LOAD, *saved, *errors, *formatted])


@scenario("features/no-optional", "no optional command, no volatile write cache, no event; all of it is asked for")
def no_optional(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    device = draw.device(write_cache=False, identify={"ONCS": 0, "OACS": 0, "OAES": 0, "LPA": 0})
    asked = [do(name, nsid=1, lba=lba, blocks=16) for name in ("trim", "zeroes")]
    return Plan(device, [LOAD, do("identify"), *asked, _reads(1, lba - 1, 18), do("flush", nsid=1), do("smart")])


@scenario("features/unsupported", "features that drivers set by themselves are refused", hostile=True)
def unsupported_scenario(draw: Draw) -> Plan:
    refused = [
        Fault(name=f"no-{fid.name}", behaviour="status", queue="admin", opcode=opcode, cdw10=fid,
              arguments={**INVALID_FIELD, "dnr": 1})
        for fid, opcode in [*((fid, SetFeatures.OPCODE) for fid in REFUSED), (Fid.ARBITRATION, GetFeatures.OPCODE)]
    ]  # fmt: skip
    refused.append(
        Fault(name="no-setting", behaviour="status", queue="admin", opcode=SetFeatures.OPCODE, cdw10=Fid.TEMPERATURE_THRESHOLD,
              arguments={**INVALID_FIELD, "dnr": 1})
    )  # fmt: skip
    threshold = TemperatureThreshold.of(TMPTH=KELVIN + draw.between(60, 90))
    asked = [_get(Fid.ARBITRATION), _set(Fid.TEMPERATURE_THRESHOLD, int(threshold))]
    device = draw.device(identify={"HMPRE": 32})
    return Plan(device, [LOAD, *asked, _reads(1, draw.between(1, 900), 8)], refused)


@scenario("features/smart", "a SMART log page with figures that fill all their bits")
def smart_scenario(draw: Draw) -> Plan:
    page = Smart.of(
        TEMPERATURE=KELVIN + draw.between(20, 69), AVAILABLE_SPARE=draw.between(11, 99), SPARE_THRESHOLD=10,
        PERCENTAGE_USED=draw.between(1, 250), DATA_UNITS_READ=draw.fill() << 64 | draw.fill(),
        DATA_UNITS_WRITTEN=draw.fill() << 48, HOST_READS=draw.fill() << 70, HOST_WRITES=draw.fill() << 16 | draw.fill(),
        BUSY_TIME=draw.fill(), POWER_CYCLES=draw.fill() << 65, POWER_ON_HOURS=draw.fill(), UNSAFE_SHUTDOWNS=draw.between(1, 99),
        MEDIA_ERRORS=draw.fill() << 30, ERROR_LOG_ENTRIES=draw.fill() << 60,
    )  # fmt: skip
    fault = Fault(
        name=HEALTH, behaviour="replace", queue="admin", opcode=GetLogPage.OPCODE, cdw10=Lid.SMART,
        arguments={"offset": 0, "hex": page.hex()},
    )  # fmt: skip
    return Plan(draw.device(), [LOAD, do("smart")], [fault])


@scenario("features/no-log-offset", "an error log longer than a command may move, and no log page offset")
def no_log_offset(draw: Draw) -> Plan:
    device = draw.device(mdts=1, identify={"ELPE": 255, "LPA": 0})
    return Plan(device, [LOAD, _get(Fid.NAMESPACE_METADATA), do("smart", errors=True)])


@scenario("features/trim", "blocks in the middle of others are trimmed, of 512 bytes and of 4096")
def trim_scenario(draw: Draw) -> Plan:
    lba = 8 * draw.between(2, 10)
    held = [draw.namespace(n, block_size=size, blocks=draw.between(30000, 50000)) for n, size in ((1, 512), (2, 4096))]
    trims = [do("trim", nsid=n, lba=lba + at, blocks=blocks) for n in (1, 2) for at, blocks in ((0, 8), (24, 1))]
    return Plan(draw.device(*held), [LOAD, *trims, *(_reads(n, lba - 4, 40) for n in (1, 2))])


@scenario("features/trim-past-end", "a trim that ends behind the namespace, and one up to its end")
def trim_past_end(draw: Draw) -> Plan:
    namespace = draw.namespace()
    end = namespace.blocks
    trims = [do("trim", nsid=1, lba=lba, blocks=16) for lba in (end - 8, end - 16)]
    return Plan(draw.device(namespace), [LOAD, *trims, _reads(1, end - 16, 16)])


@scenario("features/trim-keeps", "a controller that keeps what was trimmed, and reports nothing about such blocks (DLFEAT 0)")
def trim_keeps(draw: Draw) -> Plan:
    lba = 8 * draw.between(2, 100)
    keeps = Fault(name="keeps", behaviour="status", queue="io", opcode=DatasetManagement.OPCODE, arguments=SUCCESS)
    device = draw.device(identify_namespace={"DLFEAT": 0})
    asked = [do("trim", nsid=1, lba=lba, blocks=16), do("zeroes", nsid=1, lba=lba + 64, blocks=8), _reads(1, lba, 16)]
    return Plan(device, [LOAD, *asked], [keeps])


@scenario("features/slow-format", "Format NVM takes its time", in_process=True)
def slow_format(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="delay", queue="admin", opcode=FormatNvm.OPCODE, arguments={"ms": 50})
    return Plan(draw.device(), [LOAD, do("format", nsid=1, format=0), do("list")], [slow])


@scenario("features/slow-sanitize", "a Sanitize would take its time", in_process=True)
def slow_sanitize(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="delay", queue="admin", opcode=Sanitize.OPCODE, arguments={"ms": 50})
    return Plan(draw.device(), [LOAD, _reads(1, draw.between(1, 900), 8)], [slow])


@scenario("features/warning", "SMART warns of the temperature while the driver is at rest")
def warning(draw: Draw) -> Plan:
    hot = CriticalWarning.of(TEMPERATURE=1)
    return Plan(draw.device(), [LOAD, _reads(1, 1, 4), do("warn", warning=int(hot)), _reads(1, 5, 4), do("smart")])


# -- features ------------------------------------------------------------------------------------------------------------


@check("features/select-gated", cite=BASE_2_0["5.15"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def select_gated(record: Record) -> Iterator[Finding]:
    """Asks for other values than the current ones, and saves, only where ONCS says that there are others."""
    for state, event, command in record.commands(GetFeatures, SetFeatures):
        if state.profile is not None and not state.profile.controller.ONCS.SAVE_AND_SELECT:
            name = "SEL" if isinstance(command, GetFeatures) else "SV"
            bits = getattr(command, name)
            yield Finding(bits == 0, event, f"{name} 0, as ONCS bit 4 is", f"{name} {bits}", fields=(name,))


@check(
    "features/buffer",
    cite=BASE_2_0["5.15"],
    level=MANDATORY,
    why="integrity",
    witnesses=["wire"],
    uses="features with a buffer",
)
def buffer(record: Record) -> Iterator[Finding]:
    """Passes a data buffer where the feature has one."""
    for _, event, command in record.commands(GetFeatures, SetFeatures):
        assert isinstance(command, GetFeatures | SetFeatures)
        if length := command.data_length:
            expected, shown = f"room for {length} bytes", f"feature {command.FID:02X}h, PRP1 {command.PRP1:#x}"
            yield Finding(command.PRP1 != 0, event, expected, shown, fields=("FID", "PRP1"))


@check("features/queues-early", cite=BASE_2_0["5.27.1.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def queues_early(record: Record) -> Iterator[Finding]:
    """Never sets Number of Queues of its own accord while there are I/O queues; what its user passes through is the user's."""
    asked = [a for a in record.asked if a.action in PASSED_THROUGH and a.arguments.get("feature") == Fid.NUMBER_OF_QUEUES]
    for state, event, command in record.commands(SetFeatures):
        if command.FID == Fid.NUMBER_OF_QUEUES and not any(a.covers(event) for a in asked):
            there = sorted({*state.sqs, *state.cqs} - {0})
            yield Finding(not there, event, "no I/O queue yet", f"queues: {listed(there)}", fields=("FID",))


PASSED_THROUGH = ("set-feature", "raw")
"""Actions by which a user sends a command of his own."""


def _values(record: Record, fid: Fid) -> Iterator[Finding]:
    """Judge whether the requested value is sent, and the returned one reported."""
    for asked in record.answers("get-feature", "set-feature"):
        if asked.arguments["feature"] != fid:
            continue
        for state, event in record.during(asked, Submitted, Completed):
            if isinstance(event, Submitted) and isinstance(event.command, SetFeatures) and event.command.FID == fid:
                wanted, sent = asked.arguments["value"], event.command.CDW11
                yield Finding(sent == wanted, event, f"dword 11 {wanted:#x}", f"{sent:#x}", fields=("FID", "CDW11"))
            elif isinstance(event, Completed) and asked.action == "get-feature" and "value" in asked.answer:
                request, claim = state.answered(event), asked.answer["value"]
                command = request.command if request else None
                current = isinstance(command, GetFeatures) and command.FID == fid and command.SEL == Select.CURRENT
                if current and event.completion.ok:
                    came = event.completion.DW0
                    yield Finding(claim == came, event, f"{came:#x} is reported", f"{claim:#x}", fields=("DW0",))


@check("features/write-cache", cite=BASE_2_0["5.27.1.4"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       needs=["get-feature"], scenarios=["features/basic", "features/no-cache"])  # fmt: skip
def write_cache(record: Record) -> Iterator[Finding]:
    """Reads and sets the volatile write cache as it is."""
    yield from _values(record, Fid.VOLATILE_WRITE_CACHE)
    for asked in record.answers("get-feature", "set-feature"):
        if asked.arguments["feature"] != Fid.VOLATILE_WRITE_CACHE or not asked.ok or asked.action == "set-feature":
            continue
        if "value" in asked.answer and any(record.commands(SetFeatures)):
            enabled, claim = _cache_enabled(record, asked), bool(asked.answer["value"])
            yield Finding(claim == enabled, asked.ended, f"write cache {_on(enabled)}", _on(claim))


def _cache_enabled(record: Record, until: Asked) -> bool:
    """Is the volatile write cache on? It is after each reset, until somebody sets the feature, be it the driver itself."""
    asked_for = [asked for asked in record.answers("set-feature") if asked.ended]
    changes = [(0.0, record.controllers[0].write_cache)]
    for asked in asked_for:
        if asked.ok and asked.arguments["feature"] == Fid.VOLATILE_WRITE_CACHE and record.saw(asked, SetFeatures):
            changes.append((asked.started.t, bool(asked.arguments["value"])))
    for state, event in record.walk(Completed):
        submitted = state.answered(event)
        command = submitted.command if submitted and event.completion.ok else None
        by_user = any(asked.ended and asked.started.t <= event.t <= asked.ended.t for asked in asked_for)
        if isinstance(command, SetFeatures) and command.FID == Fid.VOLATILE_WRITE_CACHE and not by_user:
            changes.append((event.t, bool(command.CDW11 & 1)))
    return max((change for change in changes if change[0] < until.started.t), key=lambda change: change[0])[1]


def _on(enabled: bool) -> str:
    return "on" if enabled else "off"


@check("features/arbitration", cite=BASE_2_0["5.27.1.1"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       needs=["get-feature"], scenarios=["features/basic"])  # fmt: skip
def arbitration(record: Record) -> Iterator[Finding]:
    """Reads and sets arbitration as it is."""
    yield from _values(record, Fid.ARBITRATION)


@check("features/unsupported", cite=BASE_2_0["5.27"], level=RECOMMENDED, why="practice", witnesses=["fault"], needs=["read"],
       scenarios=["features/unsupported"])  # fmt: skip
def unsupported(record: Record) -> Iterator[Finding]:
    """Goes on where the controller does not have a feature."""
    refused = [
        event
        for state, event in record.walk(Completed)
        if not event.completion.ok
        if (request := state.answered(event)) and isinstance(request.command, (GetFeatures, SetFeatures))
    ]
    if not refused:
        return
    for asked in record.answers("load", "read"):
        yield Finding(asked.ok, asked.ended, f"{asked.action}: success", asked.status)
    for asked in record.answers("get-feature"):
        yield Finding(not asked.ok, asked.ended, "an error of this feature", asked.status)


@check("features/event-mask", cite=BASE_2_0["5.27.1.8"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def event_mask(record: Record) -> Iterator[Finding]:
    """Says which events it wants if it waits for any, and wants none that the controller does not have."""
    wanted: dict[tuple[str, int], int] = {}  # by controller and epoch
    waits: dict[tuple[str, int], Submitted] = {}  # the first request of each
    for state, event, command in record.commands(SetFeatures, AsyncEventRequest):
        time = state.spec.id, state.epoch
        if isinstance(command, SetFeatures) and command.FID == Fid.ASYNC_EVENT_CONFIG:
            wanted[time] = command.CDW11
            if state.profile is not None:
                has = state.profile.controller.OAES
                stray = Oaes(command.CDW11 & OPTIONAL_EVENTS & ~has)
                shown = f"{int(stray):#x} besides"
                yield Finding(not stray, event, f"events of OAES {int(has):#x} only", shown, fields=("FID", "CDW11"))
        elif isinstance(command, AsyncEventRequest):
            waits.setdefault(time, event)
    for time, request in waits.items():
        asked_for = AsyncEventConfig(wanted.get(time, 0))
        shown = f"feature 0Bh is {int(asked_for):#x}"
        yield Finding(asked_for != 0, request, "events that are asked for (feature 0Bh)", shown, fields=("OPC",))


# -- log pages -----------------------------------------------------------------------------------------------------------

FIGURES = {
    "critical_warning": "CRITICAL_WARNING", "temperature": "celsius", "available_spare": "AVAILABLE_SPARE",
    "spare_threshold": "SPARE_THRESHOLD", "percentage_used": "PERCENTAGE_USED", "data_units_read": "DATA_UNITS_READ",
    "data_units_written": "DATA_UNITS_WRITTEN", "host_reads": "HOST_READS", "host_writes": "HOST_WRITES",
    "busy_minutes": "BUSY_TIME", "power_cycles": "POWER_CYCLES", "power_on_hours": "POWER_ON_HOURS",
    "unsafe_shutdowns": "UNSAFE_SHUTDOWNS", "media_errors": "MEDIA_ERRORS", "error_log_entries": "ERROR_LOG_ENTRIES",
}  # fmt: skip
"""The contract's names of figures, and what they are in the log page."""


@check("features/smart", cite=BASE_2_0["5.16.1.3"], level=RECOMMENDED, why="integrity", witnesses=["out", "wire"])
def smart(record: Record) -> Iterator[Finding]:
    """Reports the figures of the SMART log page correctly: counters of 128 bits, degrees Celsius."""
    page = next((Smart(bytes.fromhex(f.arguments["hex"])) for f in record.scenario.faults if f.name == HEALTH), None)
    for asked in record.answers("smart") if page else ():
        reads = [event.command for _, event in record.during(asked, Submitted) if isinstance(event.command, GetLogPage)]
        whole = any(one.LID == Lid.SMART and not one.offset and one.data_length >= Smart.SIZE for one in reads)
        for name, field in FIGURES.items():
            if whole and name in asked.answer:  # the device replaces the page where it is read at once
                really = int(getattr(page, field))
                yield Finding(asked.answer[name] == really, asked.ended, f"{name} {really}", asked.answer[name])


@check("features/error-log", cite=BASE_2_0["5.16.1.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def error_log(record: Record) -> Iterator[Finding]:
    """Asks for no more error entries than there can be (ELPE, 0's based)."""
    for state, event, command in record.commands(GetLogPage):
        if command.LID == Lid.ERROR_INFORMATION and state.profile is not None:
            entries = state.profile.controller.ELPE + 1
            end = command.offset + command.data_length
            ok = end <= entries * ErrorInformation.SIZE
            yield Finding(ok, event, f"{entries} entries of {ErrorInformation.SIZE} bytes", f"{end} bytes", ("LID", "NUMDL"))


@check("features/log-offset", cite=BASE_2_0["5.16"], level=OPTIONAL, why="shall", witnesses=["wire"])
def log_offset(record: Record) -> Iterator[Finding]:
    """Reads a log page from its middle only where LPA says that this is possible, and not from behind its end."""
    for state, event, command in record.commands(GetLogPage):
        if state.profile is None:
            continue
        if not state.profile.controller.LPA.EXTENDED_DATA:
            ok = command.offset == 0 and command.NUMDU == 0
            shown = f"offset {command.offset}, NUMDU {command.NUMDU}"
            yield Finding(ok, event, "offset and NUMDU 0, as LPA bit 2 is", shown, fields=("LPOL", "LPOU", "NUMDU"))
        elif command.LID in LOG_BYTES and not command.OT:
            ok, shown = command.offset <= LOG_BYTES[command.LID], f"log page {command.LID:02X}h from byte {command.offset} on"
            yield Finding(ok, event, f"one of its {LOG_BYTES[command.LID]} bytes", shown, fields=("LID", "LPOL", "LPOU"))


LOG_BYTES: Mapping[int, int] = {
    Lid.SMART: 512, Lid.FIRMWARE_SLOT: 512, Lid.CHANGED_NAMESPACES: 4096, Lid.COMMANDS_SUPPORTED: 4096,
    Lid.DEVICE_SELF_TEST: 564, Lid.SANITIZE_STATUS: 512,
}  # fmt: skip
"""Bytes of log pages of a fixed length: behind that, a controller has nothing to return. Base 2.0, 5.16.1."""


@check("features/critical-warning", cite=BASE_2_0["5.2"], level=OPTIONAL, why="practice", witnesses=["fault", "out"],
       scenarios=["features/warning"])  # fmt: skip
def critical_warning(record: Record) -> Iterator[Finding]:
    """Reports a SMART critical warning to its user without being asked."""
    warned = next((asked for asked in record.asked if asked.action == "warn" and asked.ok), None)
    if warned is None or not any(record.commands(GetLogPage, SetFeatures)):
        return
    later = [asked for asked in record.asked if asked.number > warned.number]
    logs = "\n".join(str(asked.answer.get("log", "")) for asked in later)
    mention = re.search(r"(?i)critical|warning|temperature", logs)
    yield Finding(bool(mention), later[-1].ended, "a word of the critical warning", logs.strip() or "nothing")


# -- maintenance ---------------------------------------------------------------------------------------------------------


def _range(event: Event) -> tuple[int, int] | None:
    """(LBA, blocks) of a range of Dataset Management, as both devices report it."""
    if isinstance(event, Remark) and event.name in ("dsm-range", "pci_nvme_dsm_deallocate"):
        return int(event.detail["slba"]), int(event.detail["nlb"])
    return None


@check("features/trim", cite=NVM_1_0["3.2.3"], level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["trim"])
def trim(record: Record) -> Iterator[Finding]:
    """Trims exactly the blocks that it was asked to: NR 0's based, and the bit for Deallocate set."""
    for asked in record.answers("trim"):
        sent = [(event, event.command) for _, event in record.during(asked, Submitted)
                if isinstance(event.command, DatasetManagement)]  # fmt: skip
        any_ad = any(command.AD for _, command in sent)
        if sent and (any_ad or asked.ok):  # after a hint that failed, a driver may give up
            event = next((event for event, command in sent if command.AD), sent[0][0])
            yield Finding(any_ad, event, "Deallocate set", f"AD {int(any_ad)}", fields=("AD",))
        hints = {event.key for event, command in sent if not command.AD}
        seen = [(event, found) for _, event in record.during(asked, Remark)
                if (found := _range(event)) and (event.detail.get("sqid"), event.detail.get("cid")) not in hints]  # fmt: skip
        if asked.ok and seen:
            wanted = int(asked.arguments["lba"]), int(asked.arguments["blocks"])
            lba, shown = wanted[0], [found for _, found in seen]
            whole = sum(blocks for _, blocks in shown) == wanted[1] and min(lba for lba, _ in shown) == lba
            ok = whole and all(blocks for _, blocks in shown)
            actual = listed(f"{blocks} blocks from LBA {first}" for first, blocks in shown)
            yield Finding(ok, seen[-1][0], f"{wanted[1]} blocks from LBA {lba}", actual)


@check("features/trim-range", cite=NVM_1_0["3.2.3"], level=RECOMMENDED, why="practice", witnesses=["wire"], guards=True)
def trim_range(record: Record) -> Iterator[Finding]:
    """Refuses to trim beyond the namespace's last block itself; the controller would answer LBA Out of Range."""
    last: dict[str, int] = {}  # blocks of the namespace of a controller's last Dataset Management
    for state, event in record.walk(Submitted, Remark):
        if isinstance(event, Submitted) and isinstance(event.command, DatasetManagement):
            namespace = state.spec.namespace(event.command.NSID)
            last[state.spec.id] = namespace.blocks if namespace else 0
        elif found := _range(event):
            owner = record.owner(event)
            namespace = state.spec.namespace(owner.command.NSID) if owner else None
            end = namespace.blocks if namespace else last.get(state.spec.id, 0)
            if end:
                yield Finding(sum(found) <= end, event, f"up to LBA {end - 1}", f"up to LBA {sum(found) - 1}")


@check("features/trim-units", cite=NVM_1_0["3.2.3"], level=RECOMMENDED, why="integrity", witnesses=["store"], needs=["trim"])
def trim_units(record: Record) -> Iterator[Finding]:
    """Counts what it trims in blocks: all others stay as they are."""
    done = [asked for asked in record.answers("trim") if asked.ok and record.saw(asked, DatasetManagement)]
    for (controller, nsid), disk in final_disks(record).items() if done else ():
        if image := record.evidence.image(controller, nsid):
            lost = next(differences(image, controller, disk), None)
            shown = f"LBA {lost.lba}: {show(lost.actual)}" if lost else "they are"
            yield Finding(lost is None, done[-1].ended, f"the other blocks of namespace {nsid} as before", shown)


@check("features/trimmed-read", cite=NVM_1_0["4.1.5"], level=RECOMMENDED, why="integrity", witnesses=["store", "wire"],
       needs=["trim", "read"], scenarios=["features/trim", "features/trim-past-end", "features/trim-keeps"])  # fmt: skip
def trimmed_read(record: Record) -> Iterator[Finding]:
    """Assumes of trimmed blocks only what DLFEAT promises."""
    trimmed = set[int]()
    for asked in record.answers("trim", "read"):
        nsid = asked.arguments["nsid"]
        if asked.action == "trim" and asked.ok and record.saw(asked, DatasetManagement):
            trimmed.add(nsid)
        elif asked.action == "read" and asked.data is not None and nsid in trimmed:
            really = _on_the_medium(record, asked, len(asked.data))
            if really is not None and (asked.data != really or record.saw(asked, Read)):
                yield Finding(asked.data == really, asked.ended, f"what is there: {show(really)}", show(asked.data))
    for state, event, command in record.commands(WriteZeroes):
        identified = state.profile.namespaces.get(command.NSID) if state.profile else None
        if identified is not None and not identified.DLFEAT.WRITE_ZEROES:
            yield Finding(not command.DEAC, event, "DEAC 0, as DLFEAT bit 3 is", f"DEAC {command.DEAC}", fields=("DEAC",))


def _on_the_medium(record: Record, asked: Asked, length: int) -> bytes | None:
    """Return what the disk holds at the end where a read began: these scenarios write nothing after their last trim."""
    controller, nsid = record.controllers[0], asked.arguments["nsid"]
    namespace, image = controller.namespace(nsid), record.evidence.image(controller.id, nsid)
    if namespace is None or image is None:
        return None
    with image.open("rb") as file:
        file.seek(int(asked.arguments["lba"]) * namespace.block_size)
        return file.read(length)


@check("features/trim-gated", cite=NVM_1_0["3.2.3"], level=OPTIONAL, why="shall", witnesses=["wire"])
def trim_gated(record: Record) -> Iterator[Finding]:
    """Sends Dataset Management only where ONCS says that the controller knows it."""
    yield from _gated(record, "trim", DatasetManagement, "ONCS", "DATASET_MANAGEMENT")


@check("features/format-gated", cite=BASE_2_0["5.14"], level=OPTIONAL, why="shall", witnesses=["wire"], needs=["format"])
def format_gated(record: Record) -> Iterator[Finding]:
    """Sends Format NVM only where OACS says that the controller knows it."""
    yield from _gated(record, "format", FormatNvm, "OACS", "FORMAT")


def _gated(record: Record, action: str, kind: type[Command], word: str, bit: str) -> Iterator[Finding]:
    """Commands that Identify Controller offers by a bit; where it does not, a driver at work may refuse the action instead."""
    for state, event, _ in record.commands(kind):
        if state.profile is not None:
            announced = getattr(state.profile.controller, word)
            yield Finding(
                bool(getattr(announced, bit)), event, f"{word}.{bit} set", f"{word} {int(announced):#x}", fields=("OPC",)
            )
    profile = record.only_profile
    if profile is None or getattr(getattr(profile.controller, word), bit):
        return
    for asked in record.answers(action):
        if not asked.ok and not record.saw(asked, kind) and any(record.commands(Read)):
            yield Finding(True, asked.ended, f"no command that {word} does not offer", f"refused: {asked.said}")
