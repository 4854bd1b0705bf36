"""The program that runs inside the Linux guest and asks the kernel by sysfs, block devices and its log.

It is a server, since Python takes a quarter of a second to start in the guest, behind a virtio-serial port
(`lab.guest.channel`). A request is a line of JSON (``action``, its arguments, ``number``, ``bytes``: how many follow) and then
bytes. The answer is a line of JSON (``number``, ``status``, ``fields``, ``log``, ``bytes``; or ``failure``: the server's own)
and then bytes. Each action is a function of about its name; what the kernel refuses is answered with its errno.

The guest gets these modules as one file (`lab.drivers.bundle`), so they need the standard library only. Under TCG a fork pays
for each piece of code that it runs first: what is asked in every scenario uses little of Python and of the kernel.
"""
