"""Which mirror to fetch from: the machine's own apt configuration knows one.

No address of a mirror is written here. An entry that serves one Debian suite is taken to serve the others: a
Debian 12 machine fetches Debian 13's QEMU from the mirror that it gets its own packages from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from debian.deb822 import Deb822

SUITES = {
    "bullseye", "bookworm", "trixie", "forky", "duke", "sid",
    "oldoldstable", "oldstable", "stable", "testing", "unstable",
}  # fmt: skip
"""Names by which an entry is recognised as the Debian archive (its -updates and -security are other archives)."""

_KEYRINGS = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>\S.*)")


@dataclass(frozen=True)
class Source:
    """One entry of an apt configuration; ``signed_by`` is a path or, over several lines, the key itself."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    dated: bool = False
    """A snapshot: its lists are as old as it is, and count all the same."""


def candidates(apt: Path = Path("/etc/apt"), keyrings: Path = Path("/usr/share/keyrings")) -> list[Source]:
    """Return the machine's Debian mirrors, the most likely one first; empty where there is no Debian entry."""
    found = [s for s in machine_sources(apt) if "main" in s.components and SUITES.intersection(s.suites)]
    found.sort(key=lambda s: ("debian-archive" not in s.signed_by, not s.uri.rstrip("/").endswith("/debian")))
    by_uri = {s.uri: s for s in reversed(found)}
    return [replace(s, signed_by=s.signed_by or default_keyring(keyrings)) for s in sorted(by_uri.values(), key=found.index)]


def override(uri: str, keyrings: Path = Path("/usr/share/keyrings")) -> Source:
    """Return the mirror that the user named, checked with Debian's keyring."""
    return Source(uri, (), ("main",), default_keyring(keyrings))


def snapshot(uri: str, keyrings: Path = Path("/usr/share/keyrings")) -> Source:
    """Return the archive of a certain day that the user named."""
    return replace(override(uri, keyrings), dated=True)


def default_keyring(folder: Path) -> str:
    """Return Debian's own keyring, or nothing: then apt uses the keys that the machine trusts for all."""
    return next((str(folder / name) for name in _KEYRINGS if (folder / name).is_file()), "")


def machine_sources(apt: Path) -> Iterator[Source]:
    """Yield all enabled ``deb`` entries, of both formats."""
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    for file in lists:
        if file.is_file():
            yield from parse_one_line(file.read_text(errors="replace"))
    for file in sorted((apt / "sources.list.d").glob("*.sources")):
        yield from parse_deb822(file.read_text(errors="replace"))


def parse_one_line(text: str) -> Iterator[Source]:
    """Parse sources.list(5), one-line style: ``deb [signed-by=/path] uri suite component...``."""
    for line in text.splitlines():
        if match := _ONE_LINE.match(line.split("#")[0].strip()):
            options = dict(o.partition("=")[::2] for o in (match["options"] or "").split())
            signed_by = options.get("signed-by", "")
            yield Source(match["uri"], (match["suite"],), tuple(match["components"].split()), signed_by)


def parse_deb822(text: str) -> Iterator[Source]:
    """Parse sources.list(5), deb822 style: stanzas of ``Key: value``, continued by lines that begin with white space."""
    for stanza in Deb822.iter_paragraphs(text, use_apt_pkg=False):
        if "deb" not in stanza.get("Types", "").split() or stanza.get("Enabled", "yes").lower() in ("no", "false", "0"):
            continue
        for uri in stanza.get("URIs", "").split():
            suites, components = stanza.get("Suites", "").split(), stanza.get("Components", "").split()
            yield Source(uri, tuple(suites), tuple(components), stanza.get("Signed-By", ""))
