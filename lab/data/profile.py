"""What a controller really is: its registers and Identify data, read by the lab itself and not by the driver under test.

A driver's answers about the device are judged against this. It stands in the evidence as device.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.nvme.identify import SIZE, IdentifyController, IdentifyControllerNvm, IdentifyNamespace
from lab.nvme.registers import CAP, CRTO, VS

FILE = "device.json"


@dataclass(frozen=True)
class Profile:
    """One controller; ``namespaces`` holds the Identify Namespace data of its active namespaces by NSID."""

    cap: CAP
    vs: VS
    controller: IdentifyController
    namespaces: Mapping[int, IdentifyNamespace]
    pci_class: int = 0x010802
    pci_id: tuple[int, int] = (0, 0)  # vendor, device
    nvm: IdentifyControllerNvm = field(default_factory=IdentifyControllerNvm)
    """The limits of the NVM command set (CNS 06h); 0 where there is none, or the controller does not say."""
    crto: CRTO = field(default_factory=CRTO)
    power_control: int = 0
    """Where Power Management Control/Status lies in configuration space; 0 where that is not known."""


def write_profiles(folder: Path, profiles: Mapping[str, Profile]) -> None:
    """Store the profiles by controller id in an evidence folder."""
    data = {
        id: {
            "cap": f"{p.cap:#x}",
            "vs": f"{p.vs:#x}",
            "pci_class": f"{p.pci_class:#08x}",
            "pci_id": [f"{part:#06x}" for part in p.pci_id],
            "crto": f"{p.crto:#x}",
            "power_control": p.power_control,
            "controller": p.controller.hex(),
            "nvm": p.nvm.rstrip(b"\0").hex(),
            "namespaces": {str(nsid): ns.hex() for nsid, ns in p.namespaces.items()},
        }
        for id, p in profiles.items()
    }
    (folder / FILE).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_profiles(folder: Path) -> Mapping[str, Profile]:
    """Return the profiles of an evidence folder by controller id; none if the file is not there. LabError if it is broken."""
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        return {
            id: Profile(
                cap=CAP(int(data["cap"], 16)),
                vs=VS(int(data["vs"], 16)),
                controller=IdentifyController(bytes.fromhex(data["controller"])),
                namespaces={int(nsid): IdentifyNamespace(bytes.fromhex(raw)) for nsid, raw in data["namespaces"].items()},
                pci_class=int(data["pci_class"], 16),
                pci_id=(int(data["pci_id"][0], 16), int(data["pci_id"][1], 16)),
                nvm=IdentifyControllerNvm(bytes.fromhex(data.get("nvm", "")).ljust(SIZE, b"\0")),
                crto=CRTO(int(data.get("crto", "0"), 16)),
                power_control=int(data.get("power_control", 0)),
            )
            for id, data in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise LabError(f"{path}: not a device profile: {error}") from error
