from __future__ import annotations

from pathlib import Path

from lab.toolchain import mirrors

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/keys/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main contrib # here
deb-src http://mirror.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
"""

DEB822 = """\
Types: deb
URIs: http://tools.example/apt
Suites: bookworm
Components: main
Signed-By: /keys/tools.gpg

# the archive
Types: deb deb-src
# a comment inside a stanza
URIs: http://a.example/debian http://b.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
"""


def test_one_line_entries() -> None:
    first, second = mirrors.parse_one_line(ONE_LINE)
    assert first == mirrors.Source(
        "http://mirror.example/debian", ("bookworm",), ("main", "contrib"), "/keys/debian-archive-keyring.gpg"
    )
    assert second.suites == ("bookworm-security",)
    assert second.signed_by == ""


def test_deb822_stanzas() -> None:
    tools, a, b = mirrors.parse_deb822(DEB822)
    assert tools.signed_by == "/keys/tools.gpg"
    assert (a.uri, b.uri) == ("http://a.example/debian", "http://b.example/debian")
    assert a.suites == ("trixie", "trixie-updates")
    assert a.signed_by.splitlines()[1] == " -----BEGIN PGP PUBLIC KEY BLOCK-----"


def make_apt(folder: Path, one_line: str = "", deb822: str = "") -> Path:
    (folder / "sources.list.d").mkdir(parents=True)
    (folder / "sources.list").write_text(one_line)
    (folder / "sources.list.d" / "some.sources").write_text(deb822)
    return folder


def test_the_archive_comes_before_a_foreign_repository_and_security_never(tmp_path: Path) -> None:
    apt = make_apt(tmp_path / "apt", ONE_LINE, DEB822)
    uris = [s.uri for s in mirrors.candidates(apt, tmp_path)]
    assert uris[0] == "http://mirror.example/debian"
    assert uris[-1] == "http://tools.example/apt"
    assert not any("security" in uri or "off" in uri for uri in uris)


def test_debians_keyring_is_the_default(tmp_path: Path) -> None:
    apt = make_apt(tmp_path / "apt", "deb http://mirror.example/debian stable main\n")
    assert mirrors.candidates(apt, tmp_path)[0].signed_by == ""
    keyring = tmp_path / "debian-archive-keyring.pgp"
    keyring.touch()
    assert mirrors.candidates(apt, tmp_path)[0].signed_by == str(keyring)
    assert mirrors.override("http://x.example", tmp_path).signed_by == str(keyring)


def test_ubuntu_has_no_candidate(tmp_path: Path) -> None:
    apt = make_apt(tmp_path / "apt", "deb http://ubuntu.example/ubuntu noble main universe\n")
    assert mirrors.candidates(apt, tmp_path) == []
