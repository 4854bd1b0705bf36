"""QEMU, guests and firmware out of Debian packages: chosen, fetched, verified, cached."""
