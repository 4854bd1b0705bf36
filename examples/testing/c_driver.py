"""A driver's test written in C, against the controller on a socket: builds ready.c, runs it, judges what the device saw.

The program is built beside this file, since /tmp may be mounted noexec.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from lab.testing import ServedRecording, device

HERE = Path(__file__).parent
with tempfile.TemporaryDirectory(dir=HERE) as folder, ServedRecording(device(serial="FROM-C")) as r:
    program = f"{folder}/ready"
    subprocess.run(["cc", "-Wall", "-O1", "-o", program, HERE / "ready.c", HERE / "vfio_user.c"], check=True)
    subprocess.run([program, r.socket], check=True)
print(r.verdicts())
sys.exit(bool(r.verdicts().failed))
