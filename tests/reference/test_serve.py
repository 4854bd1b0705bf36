"""A service whose process is killed, and goes on in another one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

REPLACED = """
import mmap, os, sys
from pathlib import Path
from lab.reference.serve import continue_in_a_new_process

shared = mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
shared[:5] = b"saved"
read, write = os.pipe()
found = continue_in_a_new_process(Path(sys.argv[1]))
os.write(write, b"kept")
what = found["killed"], found["successor"], shared[:5].decode(), os.read(read, 4).decode()
Path(sys.argv[1], "found").write_text("{} {} {} {}".format(*what))
print("done", flush=True)
"""


def test_the_process_is_killed_and_its_successor_has_memory_and_descriptors(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", REPLACED, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.read() == "done\n", "the successor has the output too"
        assert process.wait() == -signal.SIGKILL
    killed, successor, memory, pipe = (tmp_path / "found").read_text().split()
    assert int(killed) == process.pid != int(successor)
    assert (memory, pipe) == ("saved", "kept")
    assert (tmp_path / "driver.pid").read_text() == f"{successor}\n"
