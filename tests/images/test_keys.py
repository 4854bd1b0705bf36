from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable

import paramiko

from images import keys

Parse = Callable[[bytes], dict[str, tuple[list[int], bytes]]]


def test_both_sides_of_both_pairs_fit(parse_cpio: Parse) -> None:
    made = keys.generate()
    carried = parse_cpio(made.initrd)
    mine = paramiko.Ed25519Key(file_obj=io.StringIO(made.private_key.decode()))
    assert carried["root/.ssh/authorized_keys"][1].decode().split()[1] == mine.get_base64()

    host = carried["etc/dropbear/dropbear_ed25519_host_key"][1]
    (length,) = struct.unpack_from(">I", host, 11 + 4)
    assert host[4:15] == b"ssh-ed25519"
    assert length == 64
    assert len(host) == 15 + 4 + 64
    pinned = base64.b64decode(made.host_key.split()[1])
    assert pinned.endswith(host[-32:])


def test_secrets_are_readable_by_root_only_and_never_the_same(parse_cpio: Parse) -> None:
    one, two = keys.generate(), keys.generate()
    assert one.private_key != two.private_key
    assert one.host_key != two.host_key
    modes = {name: numbers[1] & 0o777 for name, (numbers, _) in parse_cpio(one.initrd).items()}
    assert modes["root"] == modes["root/.ssh"] == modes["etc/dropbear"] == 0o700
    assert modes["root/.ssh/authorized_keys"] == modes["etc/dropbear/dropbear_ed25519_host_key"] == 0o600
