"""A fault at the third Read, and a driver that must notice."""

from lab.nvme.commands import Read
from lab.testing import Fault, Recording, device

bad = Fault(name="bad", behaviour="status", opcode=Read.OPCODE, nth=3, arguments={"sct": 2, "sc": 0x81})
with Recording(device(), bad) as r:
    host = r.host.up()
    buffer = host.pages()
    statuses = [host.do(Read.of(NSID=1, SLBA=lba, PRP1=buffer), qid=1).text for lba in range(4)]
print(*statuses, sep="\n")
assert not r.verdicts().failed
