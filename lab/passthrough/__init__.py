"""A passthrough SDK: NVMe commands from user space to the device, past the file system. Standard library only.

::

    from lab.passthrough import Device, commands

    with Device("/dev/nvme0n1") as device:
        answer = device.submit(commands.read(device.nsid, lba=0, blocks=8, block_size=512))
        answer.check()                  # raises CommandFailedError unless the controller said success
        mbr = answer.data[:512]

``Device`` waits for each command; `lab.passthrough.queue.Queue` keeps many outstanding. `lab.passthrough.availability` says
what may be sent at all, and why not. Commands that destroy data need ``yes=True`` (`lab.passthrough.consent`). The same
requests are marshalled for Windows by `lab.passthrough.windows`. Commands and completions are those of `lab.nvme`.
"""

from __future__ import annotations

from lab.passthrough.device import Device
from lab.passthrough.errors import PassthroughError
from lab.passthrough.request import Answer, CommandFailedError, Request

__all__ = ["Answer", "CommandFailedError", "Device", "PassthroughError", "Request"]
