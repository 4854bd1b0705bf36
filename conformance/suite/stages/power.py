"""What reaches a driver by no command: the system sleeps and wakes, a function or subsystem is reset, the bus has errors.

Most of it is judged by rules that hold everywhere; drivers that cannot be asked are UNSUPPORTED here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.io_queues import creations
from conformance.suite.stages.reset import PATIENCE, WAS_RESET, acts, proven
from lab.data.events import Completed, Reset
from lab.data.plan import Action, Controller, DeviceSpec, Fault
from lab.nvme.commands import Read, SetFeatures
from lab.nvme.features import Fid, PowerManagement

BLOCKS = 8
INTERRUPTIONS = ("suspend", "reset-function", "reset-subsystem")
"""Actions after which a driver that says success must serve its disks again."""
POWER_STATES = {"NPSS": 1, "APSTA": 1}
"""Two power states, and transitions between them by the controller itself."""
LONG = 512
"""Blocks of a transfer of many pages."""
THRESHOLD = 0x04
"""The feature Temperature Threshold. Base 2.0, 5.27.1.3."""


def _moves(draw: Draw, **more: bool) -> list[Action]:
    """Return a write and the read that checks it."""
    lba = draw.between(8, 900)
    write = do("write", nsid=1, lba=lba, blocks=BLOCKS, fill=draw.fill())
    return [write, do("read", nsid=1, lba=lba - 1, blocks=BLOCKS + 2, **more)]


@scenario("reset/sleep", "the system sleeps and wakes, twice, between writes and reads")
def sleep(draw: Draw) -> Plan:
    asleep = do("suspend")
    return Plan(draw.device(), [LOAD, *_moves(draw), asleep, *_moves(draw), do("suspend", state="memory"), *_moves(draw)])


@scenario("reset/sleep-lent", "the system sleeps while the controller has memory of the host, and once leaves the power to it",
          watch_memory=True)  # fmt: skip
def sleep_lent(draw: Draw) -> Plan:
    device = draw.device(identify={"HMPRE": 32, "HMMIN": 8, **POWER_STATES})
    asleep = [do("suspend"), *_moves(draw), do("suspend", state="low-power"), *_moves(draw)]
    return Plan(device, [LOAD, *_moves(draw), *asleep, do("unload")])


@scenario("reset/sleep-refused", "the controller refuses a power state, once as the system wakes, and once as it goes to sleep",
          hostile=True)  # fmt: skip
def sleep_refused(draw: Draw) -> Plan:
    refused = [
        Fault(name=f"refused-{nth}", behaviour="status", queue="admin", opcode=SetFeatures.OPCODE, cdw10=Fid.POWER_MANAGEMENT,
              nth=nth, arguments={"sc": 6, "dnr": 1})
        for nth in (2, 3)
    ]  # fmt: skip
    asleep = [do("suspend", state="low-power"), *_moves(draw)]
    return Plan(draw.device(identify=POWER_STATES), [LOAD, *_moves(draw), *asleep, *asleep], refused)


@scenario("reset/hibernate", "the system goes to sleep as if its memory were saved to a disk, and wakes", memory=512)
def hibernate(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, *_moves(draw), do("suspend", state="disk"), *_moves(draw)])


@scenario("reset/function", "the function is reset by PCI between writes and reads")
def function(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, *_moves(draw), do("reset-function"), *_moves(draw), do("reset-function"), *_moves(draw)])


@scenario("reset/subsystem-asked", "the NVM subsystem is reset by its user between writes and reads", command_seconds=PATIENCE)
def subsystem_asked(draw: Draw) -> Plan:
    return Plan(draw.device(cap={"NSSRS": 1}), [LOAD, *_moves(draw), do("reset-subsystem"), *_moves(draw), *_moves(draw)])


@scenario("reset/power-off", "the system powers itself off after a write")
def power_off(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, *_moves(draw), do("shutdown", halt=True)])


for _kind, _title in (
    ("correctable", "the port above the controller reports an error that was corrected"),
    ("nonfatal", "the port above the controller reports an error that is not fatal"),
):

    def _bus_error(draw: Draw, kind: str = _kind) -> Plan:
        return Plan(draw.device(), [LOAD, *_moves(draw), do("bus-error", kind=kind), *_moves(draw), *_moves(draw)])

    scenario(f"reset/bus-error-{_kind}", _title, hostile=True, command_seconds=PATIENCE)(_bus_error)


@scenario(
    "features/host-memory-switched", "lent memory is taken back and lent again while the controller works", watch_memory=True
)
def host_memory_switched(draw: Draw) -> Plan:
    back, lent = do("host-memory", lent=False), do("host-memory", lent=True)
    device = draw.device(identify={"HMPRE": 32, "HMMIN": 8})
    return Plan(device, [LOAD, *_moves(draw), back, *_moves(draw), lent, *_moves(draw), back])


@scenario("features/threshold", "the temperature threshold is set")
def threshold(draw: Draw) -> Plan:
    asked = [do("set-feature", feature=THRESHOLD, value=draw.between(340, 360)), do("get-feature", feature=THRESHOLD)]
    return Plan(draw.device(), [LOAD, do("smart"), *asked, *_moves(draw)])


@scenario("io-queues/polled-some", "some I/O queues are polled, and others are for writes alone", cpus=2, polled_queues=1,
          write_queues=1, queue_depth=64)  # fmt: skip
def polled_some(draw: Draw) -> Plan:
    moves = [action for _ in range(4) for action in _moves(draw, polled=True)]
    return Plan(draw.device(), [LOAD, do("queues"), *moves, do("reset"), *moves])


@scenario("read/sgl-lists", "transfers of many pages and of one, where SGLs are offered and wanted", sgl_bytes=1)
def sgl_lists(draw: Draw) -> Plan:
    lba = draw.between(8, 300)
    long = [do("write", nsid=1, lba=lba, blocks=LONG, fill=draw.fill()), do("read", nsid=1, lba=lba - 1, blocks=LONG + 2)]
    odd = [do("read", nsid=1, lba=lba, blocks=BLOCKS, offset=offset) for offset in (512, 3584)]
    return Plan(draw.device(sgl=True), [LOAD, *long, *odd, *_moves(draw)])


@scenario("reset/new-firmware", "a reset activates firmware under which rings have 16 entries and transfers four pages at most",
          hostile=True)  # fmt: skip
def new_firmware(draw: Draw) -> Plan:
    new = Fault(name="new", behaviour="new-firmware", armed=False, times=1,
                arguments={"cap": {"MQES": 15}, "identify": {"MDTS": 2, "FR": "2.0"}})  # fmt: skip
    lba = draw.between(8, 900)
    long = do("read", nsid=1, lba=lba, blocks=LONG // 8)
    armed = do("fault", name="new", armed=True)
    return Plan(draw.device(), [LOAD, *_moves(draw), long, armed, do("reset"), *_moves(draw), long], [new])


KNOWN_IDS = ((0x144D, 0xA80D), (0x2646, 0x2263), (0x144D, 0xA808), (0x144D, 0xA804))
"""Vendor and device of models for which drivers have rules of their own, some on certain boards only."""
KNOWN_ON_BOARDS = ((0x144D, 0xA802), (0x144D, 0xA804), (0x106B, 0x2001), (0x144D, 0xA821))
"""The same, of models with rules for certain computers and boards, for one interrupt, and for short queues."""
KNOWN_ON_NOTEBOOKS = ((0x144D, 0xA801), (0x144D, 0xA808), (0x144D, 0xA809), (0x1E0F, 0x0001))
KNOWN_ON_BAREBONES = ((0x2646, 0x2263), (0x2646, 0x500F))
"""And of models that are put to sleep in other ways on some boards."""


def _models(draw: Draw, ids: Sequence[tuple[int, int]], between: Action | None = None) -> Plan:
    """Return controllers with such ids, and reads of each before and after a reset, or what else is done in between."""
    controllers = tuple(
        Controller(id=f"nv{n}", serial=draw.serial(), namespaces=(draw.namespace(),), pci={"vendor": vendor, "device": device})
        for n, (vendor, device) in enumerate(ids)
    )
    lba = draw.between(8, 900)
    asked = [do("read", nsid=1, controller=one.id, lba=lba, blocks=BLOCKS) for one in controllers]
    return Plan(DeviceSpec(controllers=controllers), [LOAD, do("list"), *asked, between or do("reset"), *asked])


@scenario("identify/known-models", "four controllers with the PCI ids of models that drivers treat in their own ways")
def known_models(draw: Draw) -> Plan:
    return _models(draw, KNOWN_IDS)


@scenario("identify/known-boards", "the same on a computer and a board on which drivers treat some of them in other ways",
          system="Dell Inc./Precision 5510", board="ASUSTeK COMPUTER INC./PRIME Z370-A")  # fmt: skip
def known_boards(draw: Draw) -> Plan:
    return _models(draw, KNOWN_ON_BOARDS)


@scenario("identify/known-notebook", "models that drivers put to sleep in their own way on this board, and a sleep",
          board="LENOVO/LNVNB161216")  # fmt: skip
def known_notebook(draw: Draw) -> Plan:
    return _models(draw, KNOWN_ON_NOTEBOOKS, do("suspend"))


@scenario("identify/known-barebone", "the same, of other models on another board", board="TUXEDO/NS5X_NS7XAU")
def known_barebone(draw: Draw) -> Plan:
    return _models(draw, KNOWN_ON_BAREBONES, do("suspend"))


@scenario("identify/same-name", "two controllers of different makers whose namespaces have one and the same name", hostile=True)
def same_name(draw: Draw) -> Plan:
    nguid = f"{draw.fill():032x}"
    controllers = tuple(
        Controller(id=f"nv{n}", serial=draw.serial(), namespaces=(draw.namespace(nguid=nguid),)) for n in range(2)
    )
    reads = [do("read", nsid=1, controller=f"nv{n}", lba=draw.between(8, 900), blocks=BLOCKS) for n in range(2)]
    return Plan(DeviceSpec(controllers=controllers), [LOAD, do("list"), *reads])


@check("reset/back", cite=PRACTICE, level=MANDATORY, why="integrity", witnesses=["out", "wire"], needs=["read"],
       scenarios=["reset/sleep", "reset/sleep-lent", "reset/hibernate", "reset/function", "reset/subsystem-asked",
                  "identify/known-notebook", "identify/known-barebone"])  # fmt: skip
def back(record: Record) -> Iterator[Finding]:
    """Serves reads again once it says that the system has woken, or that its function or subsystem was reset."""
    done = [
        asked
        for asked in record.answers(*INTERRUPTIONS)
        if asked.ok and asked.ended and (asked.action == "suspend" or not record.exact or WAS_RESET in acts(record, asked))
    ]  # what a driver only says that it has done interrupts nothing
    for asked in record.answers("read") if not record.scenario.hostile else ():
        sent = record.saw(asked, Read)  # else it was from a cache, which tells nothing of the controller
        if any(one.started.t < asked.started.t for one in done) and (sent or not asked.ok):
            yield Finding(asked.ok and proven(record, asked), asked.ended, "a read that completes", asked.said)


@check("reset/power-back", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       scenarios=["reset/sleep-lent", "reset/sleep-refused"])  # fmt: skip
def power_back(record: Record) -> Iterator[Finding]:
    """Once the system has woken, the controller is in no lower power state than before, or it was reset."""
    changes = [(0.0, 0)]
    for state, event in record.walk(Completed, Reset):
        sent = state.answered(event) if isinstance(event, Completed) and event.completion.ok else None
        if isinstance(event, Reset):
            changes.append((event.t, 0))
        elif sent is not None and isinstance(sent.command, SetFeatures) and sent.command.FID == Fid.POWER_MANAGEMENT:
            changes.append((event.t, PowerManagement(sent.command.CDW11).PS))
    for asked in record.answers("suspend"):
        if asked.ok and asked.ended and any(asked.started.t < t for t, _ in changes):
            ended = asked.ended.t
            before = [power for t, power in changes if t <= asked.started.t][-1]
            after = [power for t, power in changes if t <= ended][-1]
            yield Finding(after <= before, asked.ended, f"power state {before}", f"power state {after}")


@check("reset/new-firmware", cite=BASE_2_0["3.1.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire", "fault"],
       needs=["reset"], scenarios=["reset/new-firmware"])  # fmt: skip
def new_firmware_size(record: Record) -> Iterator[Finding]:
    """Goes by CAP as it is after a reset: it creates no larger queues than the firmware that was activated takes."""
    for state, event, command in creations(record):
        if state.renewed and state.cap is not None:
            most, entries = state.cap.MQES + 1, command.entries
            yield Finding(2 <= entries <= most, event, f"2 to {most} entries", f"{entries}", fields=("QSIZE",))
