"""A driver's test written in Rust, against the controller on a socket: builds ready.rs, runs it, judges what the device saw.

The program is built beside this file, since /tmp may be mounted noexec.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.testing import ServedRecording, device

HERE = Path(__file__).parent
if not shutil.which("rustc"):
    sys.exit("rustc is missing: the example is built from its source (https://rustup.rs)")
with tempfile.TemporaryDirectory(dir=HERE) as folder, ServedRecording(device(serial="FROM-RUST")) as r:
    client, program = f"{folder}/vfio_user.o", f"{folder}/ready"
    subprocess.run(["cc", "-c", "-o", client, HERE / "vfio_user.c"], check=True)
    subprocess.run(["rustc", "-o", program, "-C", f"link-arg={client}", HERE / "ready.rs"], check=True)
    subprocess.run([program, r.socket], check=True)
print(r.verdicts())
sys.exit(bool(r.verdicts().failed))
