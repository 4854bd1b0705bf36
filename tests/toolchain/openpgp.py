"""A signing key and detached signatures as apt checks them (RFC 4880 and RFC 8032), without a program or an agent."""

from __future__ import annotations

import base64
import hashlib
import struct
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_EDDSA, _SHA512 = 22, 10
_ED25519 = bytes.fromhex("2b06010401da470f01")
"""The curve's object identifier."""
_BINARY_DOCUMENT, _POSITIVE_CERTIFICATION = 0x00, 0x13
_SIGNATURE, _PUBLIC_KEY, _USER_ID = 2, 6, 13
"""Packet tags."""


class SigningKey:
    """An Ed25519 key of its own; ``write_keyring`` makes it known to apt."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._created = int(time.time()) - 3600
        point = b"\x40" + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        curve = bytes([len(_ED25519)]) + _ED25519
        self._body = struct.pack(">BIB", 4, self._created, _EDDSA) + curve + _integer(point)
        self._framed = b"\x99" + struct.pack(">H", len(self._body)) + self._body
        self._fingerprint = hashlib.sha1(self._framed).digest()

    def write_keyring(self, file: Path) -> Path:
        """Write the public key with its self-certification as a keyring."""
        user = b"Tests <tests@localhost>"
        certified = self._framed + b"\xb4" + struct.pack(">I", len(user)) + user
        signature = self._signature(_POSITIVE_CERTIFICATION, certified, _subpacket(27, b"\x03"))
        file.write_bytes(_packet(_PUBLIC_KEY, self._body) + _packet(_USER_ID, user) + signature)
        return file

    def sign(self, content: bytes) -> bytes:
        """Return a detached signature of the bytes in ASCII armour."""
        armoured = base64.encodebytes(self._signature(_BINARY_DOCUMENT, content))
        return b"-----BEGIN PGP SIGNATURE-----\n\n" + armoured + b"-----END PGP SIGNATURE-----\n"

    def _signature(self, kind: int, content: bytes, more: bytes = b"") -> bytes:
        hashed = _subpacket(2, struct.pack(">I", self._created)) + _subpacket(33, b"\x04" + self._fingerprint) + more
        head = struct.pack(">BBBBH", 4, kind, _EDDSA, _SHA512, len(hashed)) + hashed
        digest = hashlib.sha512(content + head + b"\x04\xff" + struct.pack(">I", len(head))).digest()
        signed = self._key.sign(digest)
        unhashed = _subpacket(16, self._fingerprint[-8:])
        tail = struct.pack(">H", len(unhashed)) + unhashed + digest[:2]
        return _packet(_SIGNATURE, head + tail + _integer(signed[:32]) + _integer(signed[32:]))


def _integer(content: bytes) -> bytes:
    value = int.from_bytes(content)
    return struct.pack(">H", value.bit_length()) + value.to_bytes((value.bit_length() + 7) // 8)


def _subpacket(kind: int, content: bytes) -> bytes:
    return bytes([len(content) + 1, kind]) + content


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body
