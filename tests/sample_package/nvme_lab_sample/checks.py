"""A check with the scenario in which it is judged."""

from collections.abc import Iterator

from conformance.api import LOAD, MANDATORY, PRACTICE, Draw, Fault, Finding, Plan, Record, check, commands, do, scenario

STATUS = {"sct": 7, "sc": 0xC7}


@scenario("read/sample-worn", "a read ends with a status that only its vendor knows", hostile=True)
def worn(draw: Draw) -> Plan:
    fault = Fault(
        name="worn", behaviour="sample-wear", queue="io", opcode=commands.Read.OPCODE, lba=8, arguments={"sc": STATUS["sc"]}
    )
    return Plan(draw.device(), [LOAD, do("read", nsid=1, lba=8, blocks=1)], [fault])


@check("read/sample-status", cite=PRACTICE, level=MANDATORY, why="practice", witnesses=["out", "fault"], needs=["read"],
       scenarios=["read/sample-worn"])  # fmt: skip
def vendor_status(record: Record) -> Iterator[Finding]:
    """Hands a vendor specific status to its caller as it is."""
    for asked in record.answers("read"):
        yield Finding(asked.status == STATUS, asked.ended, STATUS, asked.status)
