"""The programmable NVMe controller: a device that can be anything, sees everything, and can do anything wrong.

It records, answers, and does what its faults say; it does not judge. `lab.controller.device` makes one of a DeviceSpec;
`lab.controller.in_process` drives it by function calls, `lab.controller.server` by QEMU's vfio-user-pci.
"""
