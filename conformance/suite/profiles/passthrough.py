"""Profile passthrough: commands from user space, by the lab's own library or a user's SDK, through Linux to the device.

What was asked is what the device receives; what it answers is what the caller gets; what must not be sent stays away. The
command and its completion: Base 2.0, 3.3.3.1 and 3.3.3.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY, NVM_1_0, PRACTICE
from conformance.suite.measure import Axis, Point, Series, measure
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.sdk_commands import (
    Pair,
    SdkStep,
    arrived,
    differences,
    pairs,
    refused_steps,
    sdk_actions,
    sdk_steps,
)
from lab.data import content
from lab.data.events import Completed, Dma, Submitted
from lab.data.plan import Action, Fault
from lab.data.stream import digest
from lab.nvme import commands as nvme
from lab.nvme.commands import Read

BLOCK = 512
OTHER_DATA = 0x5EED
"""Added to a fill: a pattern that is certainly another one."""


# -- steps --------------------------------------------------------------------------------------------------------------


def _ask(*steps: Mapping[str, Any], **arguments: Any) -> Action:
    return do("passthrough", steps=list(steps), **arguments)


def _admin(opcode: int | None, length: int = 0, *, on: str = "controller", **more: Any) -> dict[str, Any]:
    """Return a step with an admin command; fields by name (nsid, cdw10 …), all else goes into the step."""
    return _command("admin", opcode, length, on=on, **more)


def _io(opcode: int | None, length: int = 0, *, on: str = "namespace", nsid: int = 1, **more: Any) -> dict[str, Any]:
    more.setdefault("of", nsid)
    return _command("io", opcode, length, on=on, nsid=nsid, **more)


def _command(queue: str, opcode: int | None, length: int, **more: Any) -> dict[str, Any]:
    fields = {name: more.pop(name) for name in list(more) if name == "nsid" or name.startswith("cdw")}
    return {"do": "command", "queue": queue, "fields": {"opcode": opcode, **fields}, "length": length, **more}


def _read(lba: int, blocks: int, nsid: int = 1, on: str = "namespace", **more: Any) -> dict[str, Any]:
    about = {"do": "read", "queue": "io", "on": on, "of": nsid, "nsid": nsid, "lba": lba, "blocks": blocks}
    return {**about, "block_size": BLOCK, **more}


def _write(lba: int, blocks: int, fill: int, nsid: int = 1, on: str = "namespace", **more: Any) -> dict[str, Any]:
    send = {"fill": fill, "nsid": nsid, "lba": lba, "blocks": blocks}
    about = {"do": "write", "queue": "io", "on": on, "of": nsid, "nsid": nsid, "lba": lba, "send": send}
    return {**about, "block_size": BLOCK, **more}


def _raw_read(lba: int, blocks: int, length: int | None = None, **more: Any) -> dict[str, Any]:
    """Return a Read as dwords; ``length`` is that of the buffer, if it is not that of the blocks."""
    return _io(Read.OPCODE, blocks * BLOCK if length is None else length, cdw10=lba, cdw12=blocks - 1, **more)


def _available(on: str, *, commands: bool, reason: str = "", nsid: int = 1) -> dict[str, Any]:
    return {
        "do": "available",
        "on": on,
        "of": nsid,
        "expected": {"commands": commands, **({"reason": reason} if reason else {})},
    }


# -- scenarios ------------------------------------------------------------------------------------------------------------


@scenario("passthrough/commands", "admin and I/O commands of all kinds, by every way into the kernel, and commands of vendors")
def commands_scenario(draw: Draw) -> Plan:
    lba, fill = draw.between(1, 200) * 8, draw.fill()
    admin = [
        _admin(nvme.Identify.OPCODE, 4096, cdw10=1),
        _admin(nvme.Identify.OPCODE, 4096, cdw10=1, interface="admin-cmd"),
        _admin(nvme.GetLogPage.OPCODE, 512, nsid=nvme.BROADCAST_NSID, cdw10=2 | 127 << 16),
        _admin(nvme.GetFeatures.OPCODE, cdw10=7),
        _admin(nvme.GetFeatures.OPCODE, cdw10=7, interface="admin-cmd"),
        _admin(nvme.GetFeatures.OPCODE, cdw10=0xBF),
        _admin(0xC1, cdw2=0x1234_5678, cdw3=0x9ABC_DEF0, cdw10=1, cdw11=2, cdw12=3, cdw13=4, cdw14=5, cdw15=0xFFFF_FFFF),
    ]
    moving = [
        _read(0, 1),
        _read(lba, 8),
        _write(lba, 8, fill),
        _read(lba, 8, on="generic"),
        _raw_read(lba + 8, 2, interface="io-cmd"),
        _raw_read(lba + 16, 3, interface="submit-io"),
        _io(nvme.Compare.OPCODE, send={"fill": fill, "nsid": 1, "lba": lba, "blocks": 8}, cdw10=lba, cdw12=7),
        _io(nvme.Compare.OPCODE, send={"fill": fill + OTHER_DATA, "nsid": 1, "lba": lba, "blocks": 8}, cdw10=lba, cdw12=7),
        _io(nvme.WriteZeroes.OPCODE, cdw10=lba + 64, cdw12=15),
        _read(lba + 60, 24),
        _io(nvme.Flush.OPCODE),
        _raw_read(0xFFFF_FFF0, 1),
        _io(0x90, cdw2=7, cdw3=8, cdw10=9, cdw15=10),
    ]
    return Plan(draw.device(), [LOAD, _ask(*admin), _ask(*moving), _ask(_available("generic", commands=True))])


@scenario("passthrough/namespaces", "two namespaces with the same addresses, and commands by the node of the wrong one")
def namespaces_scenario(draw: Draw) -> Plan:
    lba, fill = draw.between(1, 200) * 8, draw.fill()
    both = [draw.namespace(1), draw.namespace(2)]
    right = [
        _read(lba, 4, 1), _read(lba, 4, 2), _write(lba, 4, fill, 2), _read(lba, 4, 1), _read(lba, 4, 2),
        _write(lba + 8, 2, fill, 1, on="generic"), _read(lba + 8, 2, 2, on="generic"), _read(lba + 8, 2, 1),
    ]  # fmt: skip
    wrong = [
        _write(lba + 16, 1, fill, 1, of=2, refused="wrong-namespace"),
        _raw_read(lba, 1, nsid=2, of=1, refused="wrong-namespace"),
        _read(lba, 1, 2, on="generic", of=1, refused="wrong-namespace"),
    ]
    return Plan(draw.device(*both), [LOAD, _ask(*right), _ask(*wrong)])


@scenario("passthrough/metadata", "blocks with eight bytes of metadata, which go and come in a buffer of their own")
def metadata_scenario(draw: Draw) -> Plan:
    lba, fill = draw.between(1, 100) * 8, draw.fill()
    tags = content.block(fill, 1, 0, 32).hex()
    send = {"fill": fill, "nsid": 1, "lba": lba, "blocks": 4}
    write = _io(nvme.Write.OPCODE, send=send, metadata=tags, cdw10=lba, cdw12=3, on="generic")
    read = _raw_read(lba, 4, on="generic", metadata_length=32)
    return Plan(draw.device(draw.namespace(metadata_size=8)), [LOAD, _ask(write, read)])


@scenario("passthrough/threads", "many threads on one device, and many commands outstanding on one queue", cpus=2)
def threads_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 50) * 8
    places = [lba + 3 * number for number in range(32)]
    steps = [_read(place, 1 + number % 3) for number, place in enumerate(places)]
    queued = [_read(place, 1 + number % 3, on="generic") for number, place in enumerate(places)]
    threads = {"do": "together", "threads": 8, "on": "namespace", "steps": steps}
    queue = {"do": "together", "depth": 16, "on": "generic", "steps": queued}
    return Plan(draw.device(), [LOAD, _ask(threads), _ask(queue)])


@scenario("passthrough/status", "every bit of a status, and command specific dwords", command_seconds=10)
def status_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 100) * 8
    reported = [
        {"sct": 2, "sc": 0x81, "dnr": 1, "crd": 0, "dw0": draw.between(1, 0xFFFF_FFFF)},
        {"sct": 1, "sc": 0x0E, "dnr": 0, "crd": 2, "dw0": 0},
        {"sct": 7, "sc": 0xFF, "dnr": 1, "crd": 3, "dw0": 0xFFFF_FFFF},
    ]
    faults = [
        Fault(name=f"status-{number}", behaviour="status", queue="io", opcode=Read.OPCODE, lba=lba + number, arguments=one)
        for number, one in enumerate(reported)
    ]
    dwords = {"DW0": draw.between(1, 0xFFFF_FFFF), "DW1": draw.between(1, 0xFFFF_FFFF)}
    faults.append(
        Fault(
            name="dwords",
            behaviour="edit-completion",
            queue="io",
            opcode=Read.OPCODE,
            lba=lba + 3,
            arguments={"fields": dwords},
        )
    )
    vendor = {"sct": 7, "sc": 1, "dw0": draw.between(1, 9999)}
    faults.append(Fault(name="vendor", behaviour="status", queue="admin", opcode=0xC5, arguments=vendor))
    steps = [_raw_read(lba + number, 1, on=on) for number in range(4) for on in ("namespace", "generic")]
    queued = {"do": "together", "depth": 4, "on": "generic", "steps": [_raw_read(lba + n, 1, on="generic") for n in range(4)]}
    return Plan(draw.device(), [LOAD, _ask(*steps, _admin(0xC5)), _ask(queued)], faults)


@scenario("passthrough/lengths", "buffers that are not as long as their commands move")
def lengths_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 200) * 8
    wrong = [
        _raw_read(lba, 8, 512, refused="bad-length"),
        _raw_read(lba, 1, 4096, refused="bad-length"),
        _raw_read(lba, 1, 0, refused="bad-length"),
        _io(
            nvme.Write.OPCODE, send={"fill": draw.fill(), "nsid": 1, "lba": lba, "blocks": 1}, cdw10=lba, cdw12=3,
            refused="bad-length",
        ),
        _admin(nvme.GetLogPage.OPCODE, 32, nsid=nvme.BROADCAST_NSID, cdw10=1 | 15 << 16, refused="bad-length"),
    ]  # fmt: skip
    return Plan(draw.device(), [LOAD, _ask(*wrong, _read(lba + 8, 8))])


@scenario("passthrough/unprivileged", "a user without privileges")
def unprivileged_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 200) * 8
    steps = [
        _read(lba, 1, refused="no-permission"),
        _write(lba, 1, draw.fill(), on="generic", refused="no-permission"),
        _admin(nvme.Identify.OPCODE, 4096, cdw10=1, refused="no-permission"),
        _available("namespace", commands=False, reason="no-permission"),
    ]
    return Plan(draw.device(), [LOAD, _ask(*steps, unprivileged=True)])


@scenario("passthrough/closed", "commands on a device that was closed, while another is open")
def closed_scenario(draw: Draw) -> Plan:
    lba, fill = draw.between(1, 200) * 8, draw.fill()
    both = [draw.namespace(1), draw.namespace(2)]
    steps = [
        {"do": "open", "handle": "first", "on": "namespace", "of": 1},
        _read(lba, 1, handle="first"),
        {"do": "close", "handle": "first"},
        {"do": "open", "handle": "second", "on": "namespace", "of": 2},
        _read(lba, 2, handle="first", refused="closed"),
        _write(lba + 1, 1, fill, handle="first", refused="closed"),
        _read(lba, 3, 2, handle="second"),
        {"do": "close", "handle": "second"},
    ]
    return Plan(draw.device(*both), [LOAD, _ask(*steps)])


@scenario("passthrough/signals", "signals while commands are outstanding", cpus=2)
def signals_scenario(draw: Draw) -> Plan:
    lba, fill = draw.between(1, 50) * 8, draw.fill()
    steps = [_write(lba + number, 1, fill) for number in range(4)]
    queued = [_write(lba + 8 + number, 1, fill, on="generic") for number in range(4)]
    return Plan(
        draw.device(),
        [LOAD, _ask(*steps, {"do": "together", "depth": 2, "on": "generic", "steps": queued}, signal_ms=10)],
        [Fault(name="slow", behaviour="delay", queue="io", opcode=nvme.Write.OPCODE, arguments={"ms": 60})],
    )


@scenario("passthrough/mounted", "a namespace with a mounted file system, and another without one")
def mounted_scenario(draw: Draw) -> Plan:
    fill = draw.fill()
    both = [draw.namespace(1), draw.namespace(2)]
    high = both[0].blocks - draw.between(100, 200)
    steps = [
        _write(high, 1, fill, refused="mounted", words=["/mnt"]),
        _write(high, 1, fill, on="generic", refused="mounted", words=["/mnt"]),
        _io(nvme.WriteZeroes.OPCODE, cdw10=high, cdw12=0, refused="mounted", words=["/mnt"]),
        _available("namespace", commands=False, reason="mounted"),
        _read(high, 1, 2),
        _available("namespace", commands=True, nsid=2),
    ]
    return Plan(draw.device(*both), [LOAD, _ask(*steps, mounted=1)])


@scenario("passthrough/destructive", "commands that destroy data, without a yes and with one")
def destructive_scenario(draw: Draw) -> Plan:
    lost: Sequence[tuple[dict[str, Any], str]] = [
        (_admin(nvme.FormatNvm.OPCODE, nsid=1), "namespace 1"),
        (_admin(nvme.FormatNvm.OPCODE, nsid=nvme.BROADCAST_NSID), "every namespace"),
        (_admin(nvme.Sanitize.OPCODE, cdw10=2), "subsystem"),
        (_admin(nvme.FirmwareCommit.OPCODE, cdw10=1 | 1 << 3), "firmware"),
        (_admin(nvme.FirmwareDownload.OPCODE, data="00" * 64, cdw10=15), "firmware"),
        (_admin(nvme.NamespaceManagement.OPCODE, nsid=1, cdw10=1), "namespace 1"),
    ]
    refused = [{**step, "refused": "needs-yes", "words": [words]} for step, words in lost]
    meant = [_admin(nvme.FirmwareCommit.OPCODE, cdw10=1 | 1 << 3, yes=True), _read(8, 1)]
    return Plan(draw.device(), [LOAD, _ask(*refused), _ask(*meant)])


@scenario("passthrough/timeout", "a command that is never answered", hostile=True, command_seconds=10)
def timeout_scenario(draw: Draw) -> Plan:
    lba = draw.between(1, 50) * 8
    lost = Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, lba=lba, times=1)
    return Plan(draw.device(), [LOAD, _ask(_raw_read(lba, 1, timeout_ms=500), _read(lba + 8, 1))], [lost])


READS, READ_BLOCKS = 256, 8


@scenario("passthrough/throughput", "the same reads by passthrough and through ext4", cpus=2)
def throughput_scenario(draw: Draw) -> Plan:
    def reads(on: str, depth: int) -> dict[str, Any]:
        return {"do": "reads", "on": on, "count": READS, "blocks": READ_BLOCKS, "block_size": BLOCK, "depth": depth}

    through_files = do("file-reads", nsid=1, count=READS, bytes=READ_BLOCKS * BLOCK)
    return Plan(draw.device(), [LOAD, _ask(reads("namespace", 1)), _ask(reads("generic", 16)), through_files])


# -- what arrives and what comes back -------------------------------------------------------------------------------------

MOVING = ["passthrough/commands", "passthrough/namespaces", "passthrough/metadata", "passthrough/threads"]
NEEDS = ["passthrough"]


def _pairs(record: Record) -> Iterator[Pair]:
    for asked in sdk_actions(record):
        yield from pairs(record, asked)


def _shown(command: nvme.Command) -> str:
    return type(command).__name__ if type(command).OPCODE is not None else f"opcode {command.OPC:02X}h"


@check(
    "passthrough/command", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=[*MOVING, "passthrough/status", "passthrough/closed", "passthrough/destructive"],
)  # fmt: skip
def command(record: Record) -> Iterator[Finding]:
    """Sends the command that was asked for, every field of it."""
    for pair in _pairs(record):
        expected = pair.step.command
        if pair.submitted is None:
            if pair.step.status is not None:
                yield Finding(False, pair.step.asked.ended, f"{_shown(expected)} at the device", "an answer, and no command")
            continue
        wrong = [] if pair.split else differences(expected, pair.submitted)
        for name, meant, actual in wrong:
            yield Finding(False, pair.submitted, f"{_shown(expected)}: {name} {meant:#x}", f"{actual:#x}", (name,))
        if not wrong:
            yield Finding(True, pair.submitted, f"{_shown(expected)} as asked", "the same")


@check(
    "passthrough/answer", cite=PRACTICE, level=MANDATORY, why="practice", witnesses=["out"], needs=NEEDS,
    scenarios=[*MOVING, "passthrough/lengths", "passthrough/closed", "passthrough/unprivileged", "passthrough/destructive",
               "passthrough/throughput"],
    timed=True,
)  # fmt: skip
def answer(record: Record) -> Iterator[Finding]:
    """Answers every step, by a completion or by a refusal with its reason."""
    for asked in sdk_actions(record):
        yield Finding(asked.ok, asked.ended, "an answer to each step", _words(asked.status))
        for step in sdk_steps(asked) if asked.ok else ():
            ok = isinstance(step.status, int) or bool(step.error)
            yield Finding(ok, asked.ended, f"a completion or a refusal for {_shown(step.command)}", str(step.answer)[:120])


def _words(status: Any) -> Any:
    """Return a driver's own words alone."""
    return status["words"] if isinstance(status, Mapping) and "words" in status else status


@check(
    "passthrough/zeros-based", cite=NVM_1_0["3.2.4"], level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=[*MOVING, "passthrough/closed", "passthrough/lengths"],
)  # fmt: skip
def zeros_based(record: Record) -> Iterator[Finding]:
    """Turns a count of blocks into the 0's based NLB."""
    for pair in _pairs(record):
        if (
            pair.step.about["do"] in ("read", "write")
            and pair.submitted
            and isinstance(pair.submitted.command, Read | nvme.Write)
        ):
            expected = pair.step.command.CDW12 & 0xFFFF
            nlb = expected if pair.split else pair.submitted.command.NLB
            yield Finding(nlb == expected, pair.submitted, f"NLB {expected} for {expected + 1} blocks", f"NLB {nlb}", ("NLB",))


@check(
    "passthrough/once", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=[*MOVING, "passthrough/closed"],
)  # fmt: skip
def once(record: Record) -> Iterator[Finding]:
    """Sends a command that changes something only once, if that one succeeds."""
    yield from _sent_once(record)


@check(
    "passthrough/signal", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=["passthrough/signals"],
)  # fmt: skip
def signal(record: Record) -> Iterator[Finding]:
    """Neither repeats a command nor loses its answer when a signal arrives during the wait."""
    yield from _sent_once(record)
    for pair in _pairs(record):
        answered = pair.step.status == 0 or (pair.completed is None and not pair.split)
        if pair.submitted is not None:
            yield Finding(answered, pair.step.asked.ended, "the answer of the device", pair.step.answer.get("status", "none"))


def _changes(step: SdkStep) -> bool:
    """Return whether a command may change something: what only reads may be sent as often as an SDK likes."""
    harmless = isinstance(step.command, nvme.Compare | nvme.Flush | nvme.Verify)
    return step.command.transfer is not nvme.Transfer.TO_HOST and not harmless


def _sent_once(record: Record) -> Iterator[Finding]:
    done = {id(record.owner(event)): event.completion for event in record.all(Completed)}
    for asked in sdk_actions(record):
        wanted: dict[bytes, list[SdkStep]] = {}
        for step in sdk_steps(asked):
            wanted.setdefault(bytes(step.command), []).append(step)
        for steps in wanted.values():
            sent = list(arrived(record, steps[0]))
            if sent and _changes(steps[0]) and all(id(event) in done and done[id(event)].ok for event in sent):
                shown = f"{_shown(steps[0].command)} {len(steps)} times at most"
                yield Finding(len(sent) <= len(steps), sent[-1], shown, f"{len(sent)} times")


@check(
    "passthrough/completion", cite=BASE_2_0["3.3.3.2"], level=MANDATORY, why="integrity", witnesses=["wire", "out"],
    needs=NEEDS, scenarios=[*MOVING, "passthrough/status"],
)  # fmt: skip
def completion(record: Record) -> Iterator[Finding]:
    """Hands the caller every status bit of the answer, and the command specific dwords that the interface carries."""
    for pair in _pairs(record):
        if pair.completed is None or pair.step.status is None:
            continue
        done, answer = pair.completed.completion, pair.step.answer
        status = int.from_bytes(pair.completed.raw[14:16], "little") >> 1
        bits = ("SC", "SCT", "CRD", "M", "DNR")
        yield Finding(answer["status"] == status, pair.completed, f"status {status:#06x}", f"{answer['status']:#06x}", bits)
        if "dw0" in answer or pair.step.admin:
            dword = answer.get("dw0")
            yield Finding(
                dword == done.DW0, pair.completed, f"DW0 {done.DW0:#x}", "none" if dword is None else f"{dword:#x}", ("DW0",)
            )
        if "dw1" in answer:
            yield Finding(answer["dw1"] == done.DW1, pair.completed, f"DW1 {done.DW1:#x}", f"{answer['dw1']:#x}", ("DW1",))


# -- data -------------------------------------------------------------------------------------------------------------------


@check(
    "passthrough/data", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire", "store"], needs=NEEDS,
    scenarios=[*MOVING, "passthrough/closed"],
)  # fmt: skip
def data(record: Record) -> Iterator[Finding]:
    """Moves exactly the bytes: the caller gets what the device sent, and the device what the caller gave."""
    moved = _transfers(record)
    blocks = _Blocks(record)
    for pair in _pairs(record):
        if pair.submitted is None or pair.step.status is None:
            continue
        if not pair.split and (pieces := moved.get(id(pair.submitted))):
            yield from _pieces(pair, pieces)
        if pair.step.status == 0:
            yield from blocks.judge(pair)
    yield from blocks.stored()


def _transfers(record: Record) -> dict[int, list[Dma]]:
    """Return what the device moved for each command, by the submission's identity, where it knows the bytes."""
    found: dict[int, list[Dma]] = {}
    for event in record.all(Dma):
        if event.digest and (owner := record.owner(event)) is not None:
            found.setdefault(id(owner), []).append(event)
    return found


def _pieces(pair: Pair, pieces: Sequence[Dma]) -> Iterator[Finding]:
    """Compare the caller's bytes, data first and then metadata, with what the device moved."""
    step = pair.step
    if pieces[0].to_host:
        own = bytes.fromhex(step.answer.get("data", "")) + bytes.fromhex(step.answer.get("metadata", ""))
    else:
        own = _sent(step) + bytes.fromhex(step.about.get("metadata", ""))
    total = sum(piece.length for piece in pieces)
    if len(own) != total:
        yield Finding(False, pieces[0], f"{total} bytes", f"{len(own)} bytes with the caller")
        return
    at = 0
    for piece in pieces:
        part = own[at : at + piece.length]
        yield Finding(digest(part) == piece.digest, piece, f"bytes {at} to {at + piece.length - 1} as moved", part[:16].hex())
        at += piece.length


def _sent(step: SdkStep) -> bytes:
    """Return the bytes that a step sends."""
    if meant := step.about.get("send"):
        return content.blocks(meant["fill"], meant["nsid"], meant["lba"], meant["blocks"], BLOCK)
    return bytes.fromhex(step.about.get("data", ""))


class _Blocks:
    """What the namespaces hold while the steps go on: of what was written, the last bytes."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._written: dict[tuple[int, int], bytes] = {}

    def judge(self, pair: Pair) -> Iterator[Finding]:
        """Compare a Read with what the blocks hold; keep what changes them."""
        meant = pair.step.command
        match meant:
            case Read():
                held = b"".join(self._held(meant.NSID, meant.SLBA + number) for number in range(meant.blocks))
                got = bytes.fromhex(pair.step.answer.get("data", ""))
                ok = got == held
                yield Finding(
                    ok, pair.step.asked.ended, f"LBA {meant.SLBA} of {meant.NSID}: {held[:16].hex()}…", got[:16].hex()
                )
            case nvme.Write():
                sent = _sent(pair.step)
                for number in range(meant.blocks):
                    self._written[meant.NSID, meant.SLBA + number] = sent[number * BLOCK : (number + 1) * BLOCK]
            case nvme.WriteZeroes():
                for number in range(meant.blocks):
                    self._written[meant.NSID, meant.SLBA + number] = bytes(BLOCK)

    def _held(self, nsid: int, lba: int) -> bytes:
        namespace = self._record.controllers[0].namespace(nsid)
        assert namespace is not None
        return self._written.get((nsid, lba), content.initial(self._record.scenario.seed, namespace, lba))

    def stored(self) -> Iterator[Finding]:
        """Compare the images with what was written."""
        controller = self._record.controllers[0].id
        for (nsid, lba), held in self._written.items():
            if image := self._record.evidence.image(controller, nsid):
                with image.open("rb") as file:
                    file.seek(lba * BLOCK)
                    there = file.read(BLOCK)
                yield Finding(there == held, None, f"LBA {lba} of namespace {nsid}: {held[:16].hex()}…", there[:16].hex())


@check(
    "passthrough/metadata", cite=NVM_1_0["5.8.3"], level=MANDATORY, why="integrity", witnesses=["store"], needs=NEEDS,
    scenarios=["passthrough/metadata"],
)  # fmt: skip
def metadata(record: Record) -> Iterator[Finding]:
    """Moves metadata in its own buffer: what was written beside a block is read back beside it."""
    written = ""
    for pair in _pairs(record):
        if pair.submitted is None or pair.step.status != 0:
            continue
        if isinstance(pair.step.command, nvme.Write):
            written = pair.step.about["metadata"]
        elif written:
            got = pair.step.answer.get("metadata", "")
            yield Finding(got == written, pair.step.asked.ended, f"metadata {written[:32]}…", got[:32] or "none")


# -- what must stay away ------------------------------------------------------------------------------------------------------


def _stays_away(record: Record, reason: str, *, any_namespace: bool = False) -> Iterator[Finding]:
    """Yield a finding for each step that must be refused for a reason: neither sent nor reported as done."""
    for step in refused_steps(record, reason):
        came = next(iter(arrived(record, step, any_namespace=any_namespace)), None)
        shown = f"no {_shown(step.command)} at the device"
        if came is not None:
            yield Finding(False, came, shown, f"it came for namespace {came.command.NSID}", ("OPC",))
        else:
            status = step.answer.get("status")
            yield Finding(status is None, step.asked.ended, f"{shown}, and no completion for the caller", f"status {status}")


@check(
    "passthrough/namespace", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=["passthrough/namespaces", "passthrough/closed", "passthrough/mounted"],
)  # fmt: skip
def namespace(record: Record) -> Iterator[Finding]:
    """Reaches by the node of a namespace that namespace only."""
    yield from _stays_away(record, "wrong-namespace")
    for pair in _pairs(record):
        if pair.submitted is not None and not pair.step.admin:
            own, nsid = pair.step.about["of"], pair.submitted.command.NSID
            yield Finding(nsid == own, pair.submitted, f"namespace {own}", f"namespace {nsid}", ("NSID",))


@check(
    "passthrough/length", cite=BASE_2_0["4.1.1"], level=RECOMMENDED, why="safety", witnesses=["wire"], needs=NEEDS,
    scenarios=["passthrough/lengths"],
)  # fmt: skip
def length(record: Record) -> Iterator[Finding]:
    """Refuses a command whose buffer is not as long as what it moves."""
    yield from _stays_away(record, "bad-length")


@check(
    "passthrough/privilege", cite=PRACTICE, level=MANDATORY, why="integrity", witnesses=["wire", "out"], needs=NEEDS,
    scenarios=["passthrough/unprivileged"],
)  # fmt: skip
def privilege(record: Record) -> Iterator[Finding]:
    """Sends nothing for a user who may not, and says so."""
    yield from _stays_away(record, "no-permission")


@check(
    "passthrough/closed", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=["passthrough/closed"],
)  # fmt: skip
def closed(record: Record) -> Iterator[Finding]:
    """Sends nothing for a device that was closed, to no other device either."""
    yield from _stays_away(record, "closed", any_namespace=True)


@check(
    "passthrough/mounted", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=["passthrough/mounted"],
)  # fmt: skip
def mounted(record: Record) -> Iterator[Finding]:
    """Changes no block below a mounted file system."""
    yield from _stays_away(record, "mounted")


@check(
    "passthrough/consent", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], needs=NEEDS,
    scenarios=["passthrough/destructive"],
)  # fmt: skip
def consent(record: Record) -> Iterator[Finding]:
    """Sends nothing that destroys data without an explicit yes."""
    yield from _stays_away(record, "needs-yes")


@check(
    "passthrough/reason", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out"], needs=NEEDS,
    scenarios=[
        "passthrough/lengths", "passthrough/unprivileged", "passthrough/closed", "passthrough/mounted",
        "passthrough/destructive", "passthrough/namespaces",
    ],
)  # fmt: skip
def reason(record: Record) -> Iterator[Finding]:
    """Gives the reason why it refuses a command: the mount point, what would be lost."""
    for step in refused_steps(record):
        if step.status is not None:
            continue  # it was not refused at all, which other checks judge
        wanted, words = step.about["refused"], str(step.answer.get("words", ""))
        yield Finding(step.error == wanted, step.asked.ended, f"reason {wanted}", step.error or "no answer")
        for part in step.about.get("words", ()):
            yield Finding(part in words, step.asked.ended, f"words with {part!r}", words[:120] or "none")


@check(
    "passthrough/availability", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out"], needs=NEEDS,
    scenarios=["passthrough/commands", "passthrough/unprivileged", "passthrough/mounted"],
)  # fmt: skip
def availability(record: Record) -> Iterator[Finding]:
    """Knows beforehand whether a device takes commands, and why not."""
    for asked in sdk_actions(record):
        for step, answer in zip(asked.arguments["steps"], asked.all("answers"), strict=False):
            for name, expected in step.get("expected", {}).items():
                yield Finding(answer.get(name) == expected, asked.ended, f"{name} {expected}", answer.get(name, answer))


@check(
    "passthrough/timeout", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire", "fault", "out"], needs=NEEDS,
    scenarios=["passthrough/timeout"],
)  # fmt: skip
def timeout(record: Record) -> Iterator[Finding]:
    """Never reports success where the device did not complete the command successfully."""
    for asked in sdk_actions(record):
        for step in sdk_steps(asked):
            sent = list(arrived(record, step))
            done = [event for event in record.all(Completed) if record.owner(event) in sent]
            succeeded = any(event.completion.ok for event in done)
            if sent:
                yield Finding(step.status != 0 or succeeded, step.asked.ended, "no success", f"status {step.status}")


# -- figures ----------------------------------------------------------------------------------------------------------------


def _rates(record: Record) -> dict[str, float]:
    """Return the reads per second that the device saw in each action, by what was read through."""
    found: dict[str, float] = {}
    for asked in record.answers("passthrough", "file-reads"):
        reads = [
            e for _, e in record.during(asked, Submitted) if isinstance(e.command, Read) and e.command.blocks == READ_BLOCKS
        ]
        if asked.ok and len(reads) >= READS:
            began, ended = reads[-READS].t, reads[-1].t
            name = f"passthrough, {asked.arguments['steps'][0]['depth']} outstanding" if "steps" in asked.arguments else "ext4"
            found[name] = (READS - 1) / max(ended - began, 1e-9)
    return found


@measure(
    "passthrough/throughput", title="Reads of 4 KiB by passthrough and through ext4", x=Axis("size of a read", "bytes"),
    y=Axis("reads", "reads/s"), scenarios=["passthrough/throughput"],
)  # fmt: skip
def throughput(record: Record) -> Iterator[Series]:
    for name, rate in _rates(record).items():
        yield Series(name, (Point(READ_BLOCKS * BLOCK, rate),))


@measure(
    "passthrough/ratio", title="Rate of reads by passthrough over that through ext4", x=Axis("size of a read", "bytes"),
    y=Axis("ratio", "× ext4"), scenarios=["passthrough/throughput"],
)  # fmt: skip
def ratio(record: Record) -> Iterator[Series]:
    rates = _rates(record)
    for name, rate in rates.items():
        if name != "ext4" and rates.get("ext4"):
            yield Series(name, (Point(READ_BLOCKS * BLOCK, rate / rates["ext4"]),))
