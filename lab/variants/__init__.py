"""Legal peculiarities of drivers, seeded into the reference driver: no check may fail on any of them.

A suite that fails everything proves nothing either. Each variant is a few lines in the module of its stage, with the sentence
of the specification that allows it; `nvme-lab defects` runs them all, and ``nvme-lab run --driver reference --variant ID`` one.
"""

import lab.variants.admin_queue
import lab.variants.asking
import lab.variants.bare_metal
import lab.variants.customs
import lab.variants.detect
import lab.variants.features
import lab.variants.habits
import lab.variants.hand_over
import lab.variants.identify
import lab.variants.io_queues
import lab.variants.lending
import lab.variants.limits
import lab.variants.memory
import lab.variants.multi_namespace
import lab.variants.multiqueue
import lab.variants.performance
import lab.variants.pointers
import lab.variants.power
import lab.variants.read
import lab.variants.reset
import lab.variants.servicing
import lab.variants.vectors
import lab.variants.waiting
import lab.variants.write
import lab.variants.zoned  # noqa: F401  (importing a stage declares its variants)
from lab.variants.variant import JOIN, VARIANTS, Combination, Variant, combination, combine, find, groups

__all__ = ["JOIN", "VARIANTS", "Combination", "Variant", "combination", "combine", "find", "groups"]
