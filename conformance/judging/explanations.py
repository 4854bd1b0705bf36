"""Which checks explain which others: the tables that `conformance.judging.causes` goes by.

Each table is about one kind of connection. A check that stands in none of them always speaks for itself.
"""

from __future__ import annotations

from collections.abc import Mapping

LOAD, ANSWER, UNUSUAL, PANIC = "every/load", "every/answer", "every/unusual-device", "every/panic"
GENERIC = (LOAD, ANSWER, UNUSUAL)
"""Checks of answers as such: whatever explains an answer explains their violations."""
MEMORY = "read/owned-memory"
LENGTH = "read/nlb"

QUEUES = frozenset({
    "admin-queue/doorbell", "admin-queue/head-doorbell", "admin-queue/entry-written", "admin-queue/phase",
    "admin-queue/never-full", "admin-queue/cq-zeroed", "admin-queue/rdy0-before-en", "admin-queue/submitted-ready",
    "io-queues/wrap", "io-queues/no-overlap", "io-queues/owned-memory", "multiqueue/shadow-buffers", "reset/queue-state",
})  # fmt: skip
"""Rules without which a queue carries nothing, or what nobody has written."""
TRANSFERS = QUEUES | {
    "read/nlb", "read/prp2", "read/prp-list", "read/prp-chain", "read/prp-entries", "read/prp1-aligned", "read/sgl-shape",
    "read/sgl-gate", "read/pi-type1", "identify/mdts", "admin-queue/unique-cid", "admin-queue/bus-master",
    "multi-namespace/no-crosstalk", "multi-namespace/broadcast", "write/buffer-stable",
}  # fmt: skip
"""Rules of the wire without which a transfer cannot end well."""
DATA = (
    "read/media-error", "read/failed-data", "write/durable", "read/block-4096", "read/odd-buffer", "read/prp-chain",
    "read/out-of-order", "write/exact", "multi-namespace/block-size", "read/exact", "write/signature", "read/mbr",
    "read/first-last-high", "read/prp1-offset", "read/scattered",
)  # fmt: skip
"""Checks of what a transfer has moved, whatever it was by; of two that judge the same answers the earlier says more."""
CONTENT = frozenset({
    "multi-namespace/no-crosstalk", "write/zeroes-error", "write/retried", "write/error", "write/buffer-stable",
    "features/format-scope",
})  # fmt: skip
"""Rules without which the disk does not hold what it must: later reads show it too."""
DISCOVERY = frozenset({
    "multi-namespace/sparse", "multi-namespace/second-list", "multi-namespace/block-size", "identify/lba-format",
    "identify/capacity64", "io-queues/no-overlap",
})  # fmt: skip
"""Rules without which the driver does not know a namespace, or its queues are not its own: later transfers go wrong."""
BY_LENGTH = frozenset({MEMORY, "read/prp2", "read/prp-list", "read/prp-chain", "read/odd-buffer"})
"""Checks of one command that a wrong length of it breaks too."""

NOT_BACK = frozenset({"reset/back", "reset/queue-state"})
"""Rules without which a driver does nothing any more after a reset or a sleep."""

SAME: Mapping[str, tuple[str, ...]] = {
    "admin-queue/aligned": ("admin-queue/page-size",),
    "admin-queue/bus-master": ("reset/bme-after-flr",),
    "admin-queue/data-pointer": ("identify/prp-covers",),
    "admin-queue/doorbell": ("io-queues/wrap",),
    "detect/one-register": ("detect/access-width",),
    "identify/block-4096": ("identify/lba-format",),
    "identify/capacity64": ("identify/inactive",),
    "identify/inactive": ("multi-namespace/one-of-many",),
    "io-queues/live-cq": ("io-queues/order",),
    "io-queues/owned-memory": ("admin-queue/both-halves",),
    "multi-namespace/no-crosstalk": ("multi-namespace/broadcast",),
    "multiqueue/integrity": ("multiqueue/reset-under-load",),
    "read/failed-data": ("admin-queue/match-completion", "multi-namespace/stale"),
    "read/media-error": ("admin-queue/match-completion", "multi-namespace/stale"),
    "read/prp-chain": ("multi-namespace/no-crosstalk",),
    "read/prp-entries": ("read/prp-list",),
    "read/prp1-aligned": ("read/odd-buffer",),
    "read/prp2": ("multi-namespace/no-crosstalk",),
    "reset/once": ("reset/stall", "reset/fatal"),
    "write/exact": ("multi-namespace/no-crosstalk",),
}
"""A check to those that say the same of the same event, or of the same command, more exactly."""

EARLIER: Mapping[str, tuple[str, ...]] = {
    "admin-queue/doorbell": ("admin-queue/head-doorbell",),
    "admin-queue/doorbell-unchanged": ("admin-queue/disable-first",),
    "admin-queue/entry-written": ("admin-queue/doorbell",),
    "admin-queue/head-doorbell": ("admin-queue/doorbell", "admin-queue/cq-zeroed"),
    "admin-queue/no-disable-while-starting": ("admin-queue/submitted-ready",),
    "identify/capacity64": ("features/format-scope",),
    "identify/lba-format": ("features/format-scope",),
    "io-queues/aligned": ("admin-queue/cc-frozen",),
    "io-queues/kept-memory": ("io-queues/owned-memory",),
    "io-queues/no-overlap": ("io-queues/owned-memory",),
    "io-queues/noop": ("io-queues/no-overlap",),
    "io-queues/taken-first": ("admin-queue/phase",),
    "read/nlb": ("multi-namespace/block-size", "identify/lba-format"),
    MEMORY: (
        "io-queues/owned-memory", "admin-queue/both-halves", "admin-queue/takes-over", "features/hmb-untouched",
        "multi-namespace/block-size",
    ),
    "read/prp-chain": ("multi-namespace/block-size", "identify/lba-format", "read/prp2"),
    "read/prp2": ("multi-namespace/block-size", "identify/lba-format"),
    "reset/queue-state": (
        "admin-queue/cq-zeroed", "admin-queue/head-doorbell", "admin-queue/rdy0-before-en", "reset/new-firmware",
    ),
    "reset/shst-quiet": ("admin-queue/disable-first",),
    "reset/stuck-ready": ("admin-queue/rdy0-before-en",),
}  # fmt: skip
"""A check to those whose violation, at any moment before, brings it about."""

EVER: Mapping[str, tuple[str, ...]] = {
    "admin-queue/cq-zeroed": ("hand-over/own-queues",),
    "admin-queue/disable-first": ("hand-over/takes-over",),
    "admin-queue/unique-cid": ("servicing/cid",),
    "bare-metal/stored": ("bare-metal/beside",),
    "features/queues-early": ("reset/queue-state",),
    "io-queues/no-overlap": ("hand-over/takes-over",),
    "io-queues/qid0": ("hand-over/takes-over",),
    "read/exact": ("write/exact", "write/durable", "servicing/written", "servicing/ended"),
    "read/first-last-high": ("write/exact",),
    "read/scattered": ("write/exact", "write/durable"),
    "servicing/ended": ("servicing/cid", "servicing/once"),
    "servicing/written": ("servicing/once", "servicing/ended"),
    "write/exact": (
        "write/durable", "bare-metal/beside", "bare-metal/stored", "bare-metal/kept", "zoned/kept", "zoned/placed",
    ),
    "write/signature": ("write/exact", "write/durable"),
}  # fmt: skip
"""A check to those that explain it wherever they are violated: when the disk was looked at does not say when it went wrong."""

LATENT = frozenset({"admin-queue/cq-zeroed"})
"""Rules whose breaking mostly does no harm: a driver of which that is known lives with it, and fails for other reasons."""
OF_EMPTY_SLOTS = frozenset({"write/flush-nsid", "io-queues/qid0", "io-queues/noop"})
"""Checks that a slot full of zeros breaks, which the controller has taken for a command: Flush, or Delete I/O SQ, of id 0."""
