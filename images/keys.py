"""The keys by which lab and guest know each other, as a second initramfs that follows the image.

They are made per image in one cache, so that the image itself stays reproducible and no private key is ever shared.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from images.cpio import Archive


@dataclass(frozen=True)
class Keys:
    """The SSH keys of one guest."""

    private_key: bytes
    """The lab's, in OpenSSH's format."""
    host_key: str
    """The guest's public key: ``ssh-ed25519 BASE64``."""
    initrd: bytes
    """The archive with the guest's private key and the lab's public one."""


def generate() -> Keys:
    """Return new keys and the archive that brings them into the guest."""
    lab, host = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    archive = Archive()
    archive.directory("root", 0o700)
    archive.directory("root/.ssh", 0o700)
    archive.file("root/.ssh/authorized_keys", _public(lab).encode() + b"\n", 0o600)
    archive.directory("etc/dropbear", 0o700)
    archive.file("etc/dropbear/dropbear_ed25519_host_key", _dropbear(host), 0o600)
    private = lab.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return Keys(private, _public(host), archive.to_bytes())


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _dropbear(key: Ed25519PrivateKey) -> bytes:
    """Return a key in dropbear's own format.

    Two SSH strings: the type, and the private key followed by the public key (its gened25519.c).
    """
    secret = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return b"".join(struct.pack(">I", len(part)) + part for part in (b"ssh-ed25519", secret + public))
