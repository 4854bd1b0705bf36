"""The programmable controller for the tests of other projects: docs/testing.md.

::

    from lab.testing import Recording, device
    from lab.nvme.commands import Identify

    with Recording(device(blocks=4096)) as r:
        host = r.host.up()
        print(host.data(Identify.of(CNS=1))[4:24])
    print(r.verdicts())
"""

from lab.data.plan import Answer, Controller, DeviceSpec, Fault, Namespace
from lab.testing.host import Host, NoCompletionError, Ring
from lab.testing.recording import Recording, ServedRecording
from lab.testing.spec import device
from lab.testing.verdicts import Verdict, Verdicts

__all__ = [
    "Answer",
    "Controller",
    "DeviceSpec",
    "Fault",
    "Host",
    "Namespace",
    "NoCompletionError",
    "Recording",
    "Ring",
    "ServedRecording",
    "Verdict",
    "Verdicts",
    "device",
]
