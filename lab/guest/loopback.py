"""The way to a guest's SSH server: a forwarded port of 127.0.0.1, or a socket's path where IPv4 has no loopback.

QEMU's user network (libslirp) binds a port of 127.0.0.1 in both cases. Where there is none QEMU gets a network namespace of its
own, whose loopback is as usual; a socket's path leads into it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TypeAlias

HOST = "127.0.0.1"

SshAddress: TypeAlias = int | Path
"""A port of `HOST`, or the path of a socket."""

_WITH_LOOPBACK = 'ip link set lo up && exec "$@"'


def own_network() -> tuple[str, ...]:
    """Return what starts a command in a network of its own, with a loopback: util-linux's unshare and iproute2's ip."""
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    return "unshare", "--net", *rights, "sh", "-c", _WITH_LOOPBACK, "sh"


def has_ipv4_loopback() -> bool:
    """Return whether a port of `HOST` can be had: there are machines and network namespaces with ::1 only, or with none."""
    try:
        with socket.create_server((HOST, 0)):
            return True
    except OSError:
        return False


def connect(address: SshAddress, seconds: float) -> socket.socket:
    """Return a connection that waits so long for everything, being made included."""
    if isinstance(address, int):
        connection = socket.create_connection((HOST, address), timeout=seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        connection.connect(str(address))
    except BaseException:
        connection.close()
        raise
    return connection
