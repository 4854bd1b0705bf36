"""The NVMe specification as data: declared once; encoding, decoding, printing and the reserved bits derive from it.

Standard library only: the same modules run on the host and inside guests. Nothing here knows QEMU, a driver or a check.
"""
