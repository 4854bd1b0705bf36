"""The golden recordings: evidence of real drivers, small enough to keep.

An archive holds an evidence folder without its images, whose first content follows from the scenario's seed: only the blocks
that the driver changed are kept. Of logs it holds what a judge may look at. To add one::

    python tests/record/recordings.py nvme-lab-results/latest/evidence/u-boot/qemu/read/basic
"""

from __future__ import annotations

import json
import sys
import tarfile
from io import BytesIO
from pathlib import Path

from conformance.record.disk import Disk, differences
from lab.data.evidence import Evidence
from lab.device.images import create_images, image
from tests.files import extract

RECORDINGS = Path(__file__).parents[1] / "recordings"
CHANGED = "changed.json"
"""{image's name: {LBA: bytes in hexadecimal}} of the blocks that are no longer as they were."""
LEFT_OUT = ("trace.log", "boot.log", "lab.log", "qemu.log")


def pack(folder: Path) -> Path:
    """Return the archive made of an evidence folder, named after its driver, device and scenario."""
    evidence = Evidence(folder)
    archive = RECORDINGS / f"{evidence.name.replace('/', '-')}.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if path.suffix != ".img" and path.name not in (*LEFT_OUT, "identity.json", "end.json"):
                _add(tar, str(path.relative_to(folder)), path.read_bytes())
        _add(tar, "identity.json", json.dumps({**evidence.identity.to_json(), "host": {}}, indent=1).encode())
        end = json.loads((folder / "end.json").read_text())
        _add(tar, "end.json", json.dumps({**end, "files": None}, indent=1).encode())  # the digests are of the whole folder
        _add(tar, CHANGED, json.dumps(_changed(evidence)).encode())
    return archive


def unpack(name: str, folder: Path) -> Evidence:
    """Return the evidence of an archive, its images as the driver left them, in a new folder."""
    extract(RECORDINGS / f"{name}.tar.xz", folder)
    scenario = Evidence(folder).scenario
    (folder / "namespaces").mkdir()
    create_images(scenario.device, folder / "namespaces", scenario.seed)
    sizes = {
        image(folder, controller.id, namespace.nsid).name: namespace.block_size
        for controller in scenario.device.controllers
        for namespace in controller.namespaces
    }
    for file, blocks in json.loads((folder / CHANGED).read_text()).items():
        with (folder / "namespaces" / file).open("r+b") as opened:
            for lba, data in blocks.items():
                opened.seek(int(lba) * sizes[file])
                opened.write(bytes.fromhex(data))
    return Evidence(folder)


def _changed(evidence: Evidence) -> dict[str, dict[int, str]]:
    found = {}
    for controller in evidence.scenario.device.controllers:
        for namespace in controller.namespaces:
            path = image(evidence.folder / "namespaces", controller.id, namespace.nsid)
            disk = Disk(evidence.scenario.seed, namespace)
            found[path.name] = {one.lba: one.actual.hex() for one in differences(path, controller.id, disk)}
    return found


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, BytesIO(content))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(pack(Path(argument)))
