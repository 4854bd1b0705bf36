"""A guest under QEMU: its arguments, its process, its console, its shell. Nothing here knows NVMe."""
