"""What becomes of the programmable controller's remarks: each kind is judged by a check, or is informational for a reason.

A check may read the remark itself or judge the same from the accesses and commands that the record holds.
"""

from __future__ import annotations

from collections.abc import Mapping

JUDGED: Mapping[str, str] = {
    "admin-queue-while-enabled": "admin-queue/disable-first",
    "abort-limit": "admin-queue/acl",
    "aer-limit": "admin-queue/aerl",
    "cc-changed-while-enabled": "admin-queue/cc-frozen",
    "cc-reserved": "detect/reserved-bits",
    "cid-conflict": "admin-queue/unique-cid",
    "cq-not-zeroed": "io-queues/cq-zeroed",
    "cq-full": "admin-queue/head-doorbell",
    "copy-range": "write/copy-lengths",
    "dma-refused": "read/owned-memory",
    "doorbell-after-shutdown": "reset/shst-quiet",
    "doorbell-read": "admin-queue/no-doorbell-read",
    "doorbell-reserved": "admin-queue/doorbell-upper",
    "doorbell-unchanged": "admin-queue/doorbell-unchanged",
    "doorbell-undefined": "admin-queue/doorbell",
    "doorbell-value": "admin-queue/doorbell",
    "doorbell-while-not-ready": "admin-queue/submitted-ready",
    "doorbell-width": "admin-queue/doorbell",
    "dsm-range": "features/trim-range",
    "enable-invalid": "admin-queue/cc-valid",
    "entry-size": "admin-queue/entry-sizes",
    "feature-data-reserved": "features/value-reserved",
    "feature-reserved": "features/value-reserved",
    "fuse": "write/fused-pair",
    "fused-pair": "write/fused-pair",
    "hmb-descriptor": "features/hmb-shape",
    "hmb-enabled": "features/hmb-untouched",
    "hmb-returned": "features/hmb-return",
    "hmb-touched": "features/hmb-untouched",
    "host-behavior": "reset/crd",
    "interrupt-late": "io-queues/handled-vector",
    "interrupt-mask-under-msix": "admin-queue/no-intm-with-msix",
    "interrupt-unhandled": "io-queues/handled-vector",
    "mdts": "read/mdts-split",
    "mptr-alignment": "read/mptr-aligned",
    "mptr-unused": "read/mptr-zero",
    "msi-and-msix": "io-queues/one-interrupt-mode",
    "nsid-invalid": "read/active-namespace",
    "nsid-unused": "admin-queue/nsid-unused",
    "nssr": "detect/nssr-gated",
    "opcode": "admin-queue/opcode",
    "power-transitions": "features/apst-table",
    "prp": "read/prp-list",
    "prp2-unused": "admin-queue/prp2-unused",
    "psdt": "read/sgl-gate",
    "read-only-register": "detect/read-only",
    "register-width": "detect/access-width",
    "reservation-key": "multi-namespace/resv-keys",
    "reservation-type": "multi-namespace/resv-type",
    "reserved-register": "detect/reserved-register",
    "sgl": "read/sgl-shape",
    "shadow-doorbell-value": "multiqueue/shadow-barrier",
    "sqe-reserved": "admin-queue/sqe-clean",
    "vector-unused": "io-queues/ivc-order",
}
"""Kind of remark to the check that judges it."""

INFORMATIONAL: Mapping[str, str] = {
    "access-while-asleep": "the bus answers such an access with all ones; what a driver makes of that is judged by its answers",
    "access-without-memory-space": "firmware and the kernel's bus layer do it while they assign addresses",
    "controller-fatal-status": "the device reports its own state; the driver's answer to it is judged in the reset stage",
    "cq-memory": "the device could not look at the memory, which proves nothing of its content",
    "edit-impossible": "a fault of the scenario did not apply",
    "host-disk": "the lab's own disk, not the driver's doing",
    "memory-watched": "the lab says what it records",
    "must-never-come": "a trap that the scenario sets: the scenario's own check reads it",
    "namespace-changed": "the lab has given a namespace another size or format; the record goes by it from then on",
    "qprio-unused": "the field is ignored under round robin arbitration. Base 2.0, 5.5, figure 160",
    "shutdown-while-disabled": "a shutdown may be asked of a controller that is disabled. Base 2.0, 3.6.1",
    "verify": "a trap that the scenario sets: the scenario's own check reads it",
    "vfio-user": "a message between QEMU and the device, not the driver's doing",
    "vfio-user-closed": "the end of the connection between QEMU and the device",
}
"""Kind of remark to the reason why no check follows from it."""
