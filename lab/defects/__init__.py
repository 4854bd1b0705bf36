"""Mistakes that drivers make, seeded into the reference driver: for every check one at least that it must catch.

A suite that cannot fail proves nothing. Each defect is a few lines in the module of its check's stage; `nvme-lab defects`
runs them all, and ``nvme-lab run --driver reference --defect ID`` one. Many have shipped in real drivers: their source names
the driver and the commit that fixed it.
"""

import lab.defects.admin_queue
import lab.defects.bare_metal
import lab.defects.claims
import lab.defects.detect
import lab.defects.every
import lab.defects.features
import lab.defects.fields
import lab.defects.hand_over
import lab.defects.identify
import lab.defects.io_queues
import lab.defects.leftovers
import lab.defects.lending
import lab.defects.limits
import lab.defects.multi_namespace
import lab.defects.multiqueue
import lab.defects.offers
import lab.defects.performance
import lab.defects.pointers
import lab.defects.power
import lab.defects.queue_memory
import lab.defects.read
import lab.defects.refused
import lab.defects.registers
import lab.defects.reported
import lab.defects.reset
import lab.defects.servicing
import lab.defects.settings
import lab.defects.several
import lab.defects.situations
import lab.defects.vectors
import lab.defects.waiting
import lab.defects.write
import lab.defects.zoned  # noqa: F401  (importing a stage declares its defects)
from lab import extensions
from lab.defects.defect import DEFECTS, LIAR, Defect, find
from lab.defects.senders import NEIGHBOURS

for _brought in extensions.points(extensions.DEFECTS):  # of other packages
    extensions.imported(_brought)

__all__ = ["DEFECTS", "LIAR", "NEIGHBOURS", "Defect", "find"]
