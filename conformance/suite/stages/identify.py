"""Stage 3, identify: who are you, and what do you hold. Base 2.0, 5.17; NVM Command Set 1.0, 4.1.5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from conformance.record.record import Asked, Record
from conformance.record.words import MOST_SHOWN, listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import Completed, Submitted
from lab.data.plan import Fault, Namespace
from lab.data.profile import Profile
from lab.nvme.commands import Identify, LbaCommand, Read, Write
from lab.nvme.identify import Cns, Nidt, Oacs, Oncs

UNKNOWN_NIDT = 0x7F
"""A type of identifiers that no revision defines yet."""
THIN_PROVISIONING = 1
"""NSFEAT bit 0: NCAP may be below NSZE."""


@scenario("identify/basic", "one namespace of 512-byte blocks")
def basic(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("identify"), do("list")])


@scenario("identify/block-4096", "one namespace of 4096-byte blocks")
def block_4096_scenario(draw: Draw) -> Plan:
    return Plan(draw.device(draw.namespace(block_size=4096)), [LOAD, do("identify"), do("list")])


@scenario("identify/one-id", "a controller with a single namespace id (NN 1), whose format is not the first of the list")
def one_id(draw: Draw) -> Plan:
    """Drivers keep tables of NN namespaces: one that has no room for more comes no further than this anywhere else."""
    lba = draw.between(1, 200)
    reads = [do("read", nsid=1, lba=lba, blocks=blocks) for blocks in (1, 5)]
    device = draw.device(draw.namespace(block_size=4096), identify={"NN": 1})
    return Plan(device, [LOAD, do("identify"), do("list"), *reads])


@scenario("identify/capacity", "a namespace of more than 2^32 blocks, without a byte behind most of them")
def capacity_scenario(draw: Draw) -> Plan:
    blocks = (1 << 32) + draw.between(1 << 20, 1 << 24)
    return Plan(draw.device(draw.namespace(blocks=blocks)), [LOAD, do("identify"), do("list")])


@scenario("identify/inactive", "a namespace that exists but is not attached, between two that are")
def inactive_scenario(draw: Draw) -> Plan:
    held = draw.namespace(1), draw.namespace(2, attached=False), draw.namespace(3)
    return Plan(draw.device(*held), [LOAD, do("list")])


@scenario("identify/no-limit", "MDTS 0: transfers of any length")
def no_limit(draw: Draw) -> Plan:
    return Plan(draw.device(mdts=0), [LOAD, do("identify"), do("read", nsid=1, lba=draw.between(1, 512), blocks=64)])


@scenario("identify/mdts-huge", "MDTS 20: the limit in bytes is 2^32, which 32 bits do not hold")
def mdts_huge(draw: Draw) -> Plan:
    return Plan(draw.device(mdts=20), [LOAD, do("identify"), do("read", nsid=1, lba=draw.between(1, 512), blocks=64)])


@scenario("identify/thin", "a thinly provisioned namespace: NCAP and NUSE are far below NSZE")
def thin(draw: Draw) -> Plan:
    namespace = draw.namespace()
    provisioned = {"NSFEAT": THIN_PROVISIONING, "NCAP": namespace.blocks // 2, "NUSE": draw.between(1, 100)}
    last = do("read", nsid=1, lba=namespace.blocks - 1, blocks=1)
    return Plan(draw.device(namespace, identify_namespace=provisioned), [LOAD, do("identify"), do("list"), last])


@scenario("identify/unknown-descriptor", "a namespace whose first identifier is of a type that only later revisions know")
def unknown_descriptor(draw: Draw) -> Plan:
    uuid = UUID(int=draw.fill() << 80 | draw.fill() << 16 | 1)
    listed = bytes((UNKNOWN_NIDT, 8, 0, 0)) + draw.fill().to_bytes(8, "little") + bytes((Nidt.UUID, 16, 0, 0)) + uuid.bytes
    longer = Fault(name="longer", behaviour="replace", queue="admin", opcode=Identify.OPCODE, cdw10=Cns.NAMESPACE_DESCRIPTORS,
                   arguments={"hex": listed.hex()})  # fmt: skip
    read = do("read", nsid=1, lba=draw.between(1, 512), blocks=8)
    return Plan(draw.device(draw.namespace(uuid=str(uuid)), version="1.4"), [LOAD, do("list"), read], [longer])


@scenario("identify/version-1.0", "a controller of 1.0, which has no active namespace list")
def version_1_0(draw: Draw) -> Plan:
    return Plan(draw.device(version="1.0"), [LOAD, do("identify"), do("list")])


@scenario("identify/metadata", "a format with 8 bytes of metadata beside each block", hostile=True)
def metadata(draw: Draw) -> Plan:
    device = draw.device(draw.namespace(metadata_size=8))
    return Plan(device, [LOAD, do("list"), do("read", nsid=1, lba=draw.between(0, 900), blocks=8)])


@scenario("identify/controller-fails", "Identify Controller ends with Internal Error", hostile=True)
def controller_fails(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("list")], [_failing(Cns.CONTROLLER)])


@scenario("identify/namespace-fails", "Identify Namespace ends with Internal Error", hostile=True)
def namespace_fails(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("list")], [_failing(Cns.NAMESPACE)])


def _failing(cns: Cns) -> Fault:
    internal = {"sc": 0x06, "dnr": 1}
    return Fault(name="fails", behaviour="status", queue="admin", opcode=Identify.OPCODE, cdw10=cns, arguments=internal)


def controller_claims(record: Record) -> Iterator[tuple[Asked, Mapping[str, Any], Profile]]:
    """Yield what the driver says of the only controller, beside what that controller is."""
    if (profile := record.only_profile) is not None:
        for asked in record.answers("identify"):
            for claim in asked.all("controllers"):
                yield asked, claim, profile


def namespace_claims(record: Record) -> Iterator[tuple[Asked, Mapping[str, Any], Namespace]]:
    """Yield what the driver says of each namespace, beside that namespace as it was specified; unknown ones are left out.

    So are those that have changed meanwhile: that a driver follows is multi-namespace/resized's.

    A driver that does not say which namespace a disk is can only mean the one that there is.
    """
    if len(record.controllers) != 1:
        return
    attached = [namespace for namespace in record.controllers[0].namespaces if namespace.attached]
    only = attached[0].nsid if len(attached) == 1 else 0
    for asked in record.answers("list"):
        for claim in asked.all("namespaces"):
            namespace = record.controllers[0].namespace(claim.get("nsid", only))
            if namespace and namespace == record.spec_at(record.controllers[0], asked.ended).namespace(namespace.nsid):
                yield asked, claim, namespace


@check("identify/prp-covers", cite=BASE_2_0["4.1.1"], level=MANDATORY, why="integrity", witnesses=["wire"])
def prp_covers(record: Record) -> Iterator[Finding]:
    """Gives Identify PRPs that cover its 4096 bytes at any buffer offset."""
    for state, event, command in record.commands(Identify):
        offset = command.PRP1 % state.page
        crosses = offset + 4096 > state.page
        ok = not command.PRP1 % 4 and (not crosses or (command.PRP2 != 0 and command.PRP2 % state.page == 0))
        expected = "PRP2 at the next page" if crosses else "PRP1 aligned to a dword"
        shown = f"PRP1 {command.PRP1:#x}, PRP2 {command.PRP2:#x}"
        yield Finding(ok, event, expected, shown, fields=("PRP1", "PRP2"))


@check(
    "identify/strings",
    cite=BASE_2_0["5.17.2.1"],
    level=MANDATORY,
    why="integrity",
    witnesses=["out"],
    needs=["identify"],
)
def strings(record: Record) -> Iterator[Finding]:
    """Reads SN, MN and FR as space-padded ASCII without a terminator."""
    for asked, claim, profile in controller_claims(record):
        really = {"serial": profile.controller.SN, "model": profile.controller.MN, "firmware": profile.controller.FR}
        for name, expected in really.items():
            if name in claim:
                ok = str(claim[name]).strip(" ") == expected.strip(" ")
                yield Finding(ok, asked.ended, f"{name} “{expected}”", f"“{claim[name]}”")


@check("identify/nsid-zero", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def nsid_zero(record: Record) -> Iterator[Finding]:
    """Sends NSID 0 with the Identify that does not use it (CNS 01h)."""
    for _, event, command in record.commands(Identify):
        if command.CNS == 1 and event.is_exact("CNS", "NSID"):  # sampled, it would be seen in some runs and not in others
            yield Finding(command.NSID == 0, event, "NSID 0", f"NSID {command.NSID:#x}")


@check(
    "identify/capacity64",
    cite=NVM_1_0["4.1.5"],
    level=MANDATORY,
    why="integrity",
    witnesses=["out"],
    needs=["list"],
)
def capacity64(record: Record) -> Iterator[Finding]:
    """Takes a namespace's capacity from all 64 bits of NSZE.

    A driver that cannot handle a namespace's metadata may show it without blocks.
    """
    for asked, claim, namespace in namespace_claims(record):
        if "blocks" in claim and (claim["blocks"] or not namespace.metadata_size):
            blocks = record.controllers[0].identify_namespace.get("NSZE", namespace.blocks)
            yield Finding(claim["blocks"] == blocks, asked.ended, f"{blocks} blocks", claim["blocks"])


@check(
    "identify/lba-format",
    cite=NVM_1_0["4.1.5"],
    level=MANDATORY,
    why="integrity",
    witnesses=["out"],
    needs=["list"],
)
def lba_format(record: Record) -> Iterator[Finding]:
    """Follows FLBAS to the LBA format in use."""
    for asked, claim, namespace in namespace_claims(record):
        profile = record.only_profile
        identified = profile.namespaces.get(namespace.nsid) if profile else None
        if identified is not None and "block_size" in claim:
            expected = f"format {identified.format_index}: {identified.block_size}"
            yield Finding(claim["block_size"] == identified.block_size, asked.ended, expected, claim["block_size"])


@check(
    "identify/block-4096",
    cite=NVM_1_0["4.1.5"],
    level=MANDATORY,
    why="integrity",
    witnesses=["out"],
    needs=["list"],
    scenarios=["identify/block-4096"],
)
def block_4096(record: Record) -> Iterator[Finding]:
    """Reports LBADS 12 as blocks of 4096 bytes."""
    for asked, claim, _ in namespace_claims(record):
        if "block_size" in claim:
            yield Finding(claim["block_size"] == 4096, asked.ended, 4096, claim["block_size"])


@check(
    "identify/mdts",
    cite=BASE_2_0["5.17.2.1"],
    level=MANDATORY,
    why="integrity",
    witnesses=["wire"],
    needs=["read"],
    scenarios=["identify/no-limit", "identify/mdts-huge", "read/mdts"],
)
def mdts(record: Record) -> Iterator[Finding]:
    """Takes MDTS 0 as unlimited and any other as a power of two of minimum pages."""
    for asked in record.answers("read"):
        sent = [
            (event, length)
            for state, event in record.during(asked, Submitted)
            if isinstance(event.command, LbaCommand)
            if (length := state.transfer_bytes(event.command)) is not None
        ]
        if not sent:
            continue
        controller = record.controllers[0]
        event, longest = max(sent, key=lambda pair: pair[1])
        if controller.mdts:
            limit = 4096 << controller.cap.get("MPSMIN", 0) + controller.mdts
            yield Finding(longest <= limit, event, f"at most {limit} bytes", f"{longest} bytes", fields=("NLB",))
        elif asked.ok or longest:  # any length is allowed; 0 must not be taken for a limit of nothing
            yield Finding(asked.ok, asked.ended, "a read that succeeds, whatever its length", asked.status)


BITS = {
    "optional_commands": {
        "compare": Oncs.COMPARE, "write-uncorrectable": Oncs.WRITE_UNCORRECTABLE,
        "dataset-management": Oncs.DATASET_MANAGEMENT, "write-zeroes": Oncs.WRITE_ZEROES,
        "save-select": Oncs.SAVE_AND_SELECT, "reservations": Oncs.RESERVATIONS, "timestamp": Oncs.TIMESTAMP,
        "verify": Oncs.VERIFY, "copy": Oncs.COPY,
    },
    "optional_admin": {
        "security": Oacs.SECURITY, "format": Oacs.FORMAT, "firmware": Oacs.FIRMWARE,
        "namespace-management": Oacs.NAMESPACE_MANAGEMENT, "self-test": Oacs.SELF_TEST, "directives": Oacs.DIRECTIVES,
        "mi": Oacs.NVME_MI, "virtualization": Oacs.VIRTUALIZATION, "doorbell-buffer-config": Oacs.DOORBELL_BUFFER,
        "lba-status": Oacs.GET_LBA_STATUS,
    },
}  # fmt: skip
"""The contract's names of optional commands, and the bits of ONCS and OACS that they stand for."""


@check(
    "identify/optional-bits",
    cite=BASE_2_0["5.17.2.1"],
    level=RECOMMENDED,
    why="practice",
    witnesses=["out"],
    needs=["identify"],
)
def optional_bits(record: Record) -> Iterator[Finding]:
    """Reports the optional commands from the right bits of ONCS and OACS."""
    for asked, claim, profile in controller_claims(record):
        registers = {"optional_commands": profile.controller.ONCS, "optional_admin": profile.controller.OACS}
        for field, register in registers.items():
            claimed = claim.get(field, ())
            for name in claim.get(f"{field}_shown", claimed):
                if name in BITS[field]:
                    really = bool(BITS[field][name].bits_of(register))
                    shown = "supported" if name in claimed else "not supported"
                    expected = f"{name} {'supported' if really else 'not supported'}"
                    yield Finding((name in claimed) == really, asked.ended, expected, shown)


@check(
    "identify/format-count",
    cite=NVM_1_0["4.1.5"],
    level=RECOMMENDED,
    why="practice",
    witnesses=["out"],
    needs=["identify"],
)
def format_count(record: Record) -> Iterator[Finding]:
    """Takes the number of LBA formats (NLBAF) as 0's based."""
    for asked, claim, profile in controller_claims(record):
        if "lba_formats" in claim and profile.namespaces:
            identified = next(iter(profile.namespaces.values()))
            expected, shown = identified.NLBAF + 1, len(claim["lba_formats"])
            yield Finding(shown == expected, asked.ended, f"{expected} formats", shown)


@check("identify/inactive", cite=BASE_2_0["5.17"], level=MANDATORY, why="integrity", witnesses=["out", "wire"], needs=["list"])
def inactive(record: Record) -> Iterator[Finding]:
    """Makes no disk of an inactive namespace."""
    active = {n.nsid for controller in record.controllers for n in controller.namespaces if n.attached}
    expected = f"one of namespaces {listed(sorted(active), MOST_SHOWN)}"
    looked = any(record.commands(Identify))  # what a driver lists without a look proves nothing
    for asked in record.answers("list"):
        for claim in asked.all("namespaces"):
            if "nsid" in claim and (looked or claim["nsid"] not in active):
                yield Finding(claim["nsid"] in active, asked.ended, expected, claim["nsid"])
    held = {n.nsid for controller in record.controllers for n in controller.namespaces} - active
    used = [(event, command.NSID) for _, event, command in record.commands(Read, Write)] if held else []
    if not any(nsid in held for _, nsid in used):  # such a command is refused and loses nothing: read/active-namespace warns
        for event, nsid in used:
            if nsid in active:
                yield Finding(True, event, expected, f"NSID {nsid}", fields=("NSID",))


@check("identify/cns2-by-version", cite=BASE_2_0["5.17"], level=RECOMMENDED, why="practice", witnesses=["wire"],
       scenarios=["identify/version-1.0"])  # fmt: skip
def cns2_by_version(record: Record) -> Iterator[Finding]:
    """Asks for the active namespace list only of controllers of 1.1 and later, and finds its way without it."""
    for _, event, command in record.commands(Identify):
        wanted = Cns.NAMESPACE, Cns.CONTROLLER
        yield Finding(command.CNS in wanted, event, "CNS 00h or 01h of a 1.0 controller", f"CNS {command.CNS:02x}h", ("CNS",))
    for asked in record.answers("list"):
        found = asked.all("namespaces")
        if not found or any(record.commands(Identify)):
            yield Finding(bool(found), asked.ended, "its namespace all the same", f"{len(found)} namespaces")


@check("identify/metadata-format", cite=NVM_1_0["5.8.3"], level=MANDATORY, why="integrity", witnesses=["out", "wire"],
       needs=["read"], scenarios=["identify/metadata"])  # fmt: skip
def metadata_format(record: Record) -> Iterator[Finding]:
    """Refuses a format with metadata, or gives the controller a place for it."""
    for asked in record.answers("read"):
        for _, event in record.during(asked, Submitted):
            if isinstance(event.command, Read):
                command = event.command
                ok = command.MPTR != 0 or bool(command.PRINFO & 8)
                shown = f"MPTR {command.MPTR:#x}, PRINFO {command.PRINFO:04b}b"
                yield Finding(ok, event, "an address in MPTR, or PRACT set", shown, fields=("MPTR", "PRINFO"))
        if not asked.ok and any(record.commands(Identify)):
            yield Finding(True, asked.ended, "refused or handled", f"refused: {asked.said}")


TELL_A_FORMAT = (Cns.NAMESPACE, Cns.CSI_NAMESPACE, Cns.ALLOCATED_NAMESPACE)


@check("identify/failure", cite=PRACTICE, level=MANDATORY, why="integrity", witnesses=["fault", "wire"], needs=["list"],
       scenarios=["identify/controller-fails", "identify/namespace-fails"])  # fmt: skip
def failure(record: Record) -> Iterator[Finding]:
    """Reports a failed Identify, and does not go on with zeros."""
    loads = list(record.answers("load"))
    for asked in record.answers("list"):
        made = [claim for claim in asked.all("namespaces") if claim.get("nsid", 1) == 1]
        reported = any(not load.ok for load in loads) or not made
        shown = f"load: {loads[0].said}, namespaces listed: {listed(claim.get('nsid', 1) for claim in made)}"
        if not reported or any(record.commands(Identify)):
            yield Finding(reported, asked.ended, "an error, or no disk", shown)
    known = set[int]()  # namespaces of which any Identify has told the size and format
    for state, event in record.walk(Completed, Submitted):
        match event:
            case Completed() if event.completion.ok and (sent := state.answered(event)) is not None:
                if isinstance(sent.command, Identify) and sent.command.CNS in TELL_A_FORMAT:
                    known.add(sent.command.NSID)
            case Submitted(command=Read(NSID=nsid) | Write(NSID=nsid)):
                yield Finding(nsid in known, event, "a namespace that was identified", f"NSID {nsid}", fields=("NSID",))
