"""The generic ring of five slots: indexes, phase and bus addresses while entries pass through it."""

from lab.reference.ring import CQE_SIZE, Ring
from lab.reference.transport import Memory

ring = Ring(Memory(memoryview(bytearray(4096)), (0x8000,), 4096), 5, CQE_SIZE)
for number in range(12):
    ring.push(number.to_bytes(CQE_SIZE, "little"))
    address, entry = ring.address(ring.head), ring.memory.read(ring.offset(ring.head), ring.size)
    print(f"head {ring.head} tail {ring.tail} phase {ring.phase}: {entry[0]} at {address:#x}, {ring.free} slots free")
    assert entry[0] == number
    ring.advance()
assert (ring.head, ring.tail, ring.phase) == (2, 2, 1)
