"""The same generated commands on the programmable controller and on QEMU's own device: the same answers, or a listed reason.

`sides` are the two devices with one and the same host memory and driver, `generate` makes the commands, `differences` is the
table of what differs, why, and which side is right; `compare` runs all of it.
"""
