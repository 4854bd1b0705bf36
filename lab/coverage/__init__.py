"""Which machine code of a driver was executed, from QEMU's translation log: nothing of the driver is instrumented."""
