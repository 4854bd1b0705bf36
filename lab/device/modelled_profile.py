"""What the programmable controller really is, asked of the model itself."""

from __future__ import annotations

from lab.controller.controller import ModelController
from lab.controller.device import Device as ModelledDevice
from lab.controller.identify import nvm_limits
from lab.controller.pci import PM
from lab.data.profile import Profile


def modelled_profiles(device: ModelledDevice) -> dict[str, Profile]:
    """Return the profile of each controller by its id."""
    return {id: _profile(controller) for id, controller in device.controllers.items()}


def _profile(controller: ModelController) -> Profile:
    ids, class_code = (int.from_bytes(controller.config_read(offset, 4), "little") for offset in (0x00, 0x08))
    return Profile(
        cap=controller.registers.cap,
        vs=controller.registers.vs,
        controller=controller.identity,
        namespaces={nsid: controller.identify_namespace(nsid) for nsid in controller.attached},
        pci_class=class_code >> 8,
        pci_id=(ids & 0xFFFF, ids >> 16),
        nvm=nvm_limits(controller.spec),
        crto=controller.registers.crto,
        power_control=PM + 4,
    )
