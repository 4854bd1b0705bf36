"""The programmable controller in five lines, and the verdicts on what it saw."""

from lab.nvme.commands import Identify
from lab.testing import Recording, device

with Recording(device(serial="FIVE-LINES")) as r:
    print(r.host.up().data(Identify.of(CNS=1))[4:24].decode())
print(r.verdicts())
