"""A QEMU that stands for a board on a desk: U-Boot behind a pseudo-terminal, with an NVMe disk and a switch.

``python board.py``: judge it by `nvme-lab run`, whose options may follow. ``python board.py switch``: start it again.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCKS = 65536
START_SECONDS = 30.0


def switch() -> None:
    """Reset the board, as a relay or a management controller would."""
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.connect("qmp.sock")
        answers = qmp.makefile()
        answers.readline()
        for command in ("qmp_capabilities", "system_reset"):
            qmp.sendall(json.dumps({"execute": command}).encode())
            while "return" not in json.loads(answers.readline()):
                pass


def run(options: list[str]) -> int:
    """Start the board in a folder of its own, judge it, and end it."""
    from lab import settings
    from lab.toolchain import prepare

    toolchain = prepare(settings.load(), ("qemu", "u-boot"), print)
    assert toolchain.qemu is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("board.py", "board.toml"):
            shutil.copy(Path(__file__).with_name(file), folder)
        with (folder / "disk.img").open("wb") as disk:
            disk.truncate(BLOCKS * 512)
        board = subprocess.Popen(
            [
                *toolchain.qemu.command, "-nodefaults", "-display", "none", "-machine", "q35", "-m", "256",
                "-bios", str(toolchain.firmware["u-boot"]), "-qmp", "unix:qmp.sock,server=on,wait=off",
                "-chardev", "pty,id=line,path=line", "-serial", "chardev:line",
                "-drive", "if=none,id=disk,format=raw,file=disk.img", "-device", "nvme,serial=BOARD,drive=disk,addr=5",
            ],
            cwd=folder, env=dict(toolchain.qemu.env), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            give_up = time.monotonic() + START_SECONDS
            while not (folder / "line").exists() and board.poll() is None and time.monotonic() < give_up:
                time.sleep(0.05)
            lab = Path(sys.executable).with_name("nvme-lab")
            return subprocess.run([lab, "run", "--driver", str(folder / "board.toml"), *options], check=False).returncode
        finally:
            board.terminate()
            board.wait()


if __name__ == "__main__":
    sys.exit(switch() if sys.argv[1:] == ["switch"] else run(sys.argv[1:]))
