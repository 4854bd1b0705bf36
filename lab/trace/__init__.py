"""What QEMU's own nvme device did, from its trace: parsers, typed events, and the thread that reads them."""
