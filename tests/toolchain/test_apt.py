from __future__ import annotations

from pathlib import Path

import pytest

from images.recipe import Closure
from lab.errors import LabError
from lab.toolchain.apt import NATIVE, Apt, MirrorError, Package, file_sha256
from lab.toolchain.lock import request
from lab.toolchain.mirrors import Source


def make(folder: Path) -> Apt:
    return Apt(folder, Source(f"file://{folder}/no-mirror", (), ("main",), "/keys/some.gpg"), ["one", "two"], print)


def test_the_remedy_without_apt_is_an_own_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="no apt-get") as caught:
        make(tmp_path)
    assert all(option in caught.value.remedy for option in ("--qemu", "--kernel", "--image"))


def test_a_mirror_that_does_not_serve_the_suites_is_named(tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="no-mirror") as caught:
        make(tmp_path).update()
    assert "--mirror" in caught.value.remedy


def test_its_configuration_stays_in_its_folder(tmp_path: Path) -> None:
    sources = (tmp_path / "sources" / "mirror.sources").read_text() if make(tmp_path) else ""
    assert "Suites: one two\n" in sources
    assert "Signed-By: /keys/some.gpg\n" in sources
    assert str(tmp_path / "lists") in (tmp_path / "apt.conf").read_text()


def test_packages_of_another_architecture_are_asked_for_by_themselves(tmp_path: Path) -> None:
    source = Source(f"file://{tmp_path}/no-mirror", (), ("main",), "/keys/some.gpg")
    Apt(tmp_path, source, ["one"], print, "arm64")
    assert 'APT::Architectures { "arm64"; };' in (tmp_path / "apt.conf").read_text()
    native, foreign = (Closure(suites=["one"], packages=["x"], architecture=name) for name in (NATIVE, "arm64"))
    assert request(native) == request(Closure(suites=["one"], packages=["x"])) != request(foreign)


def test_the_plan_is_read_with_epochs_unquoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = f"'http://m.example/pool/b.deb' busybox_1%3a1.35.0-4+b1_amd64.deb 452120 SHA256:{'a' * 64}\n"
    apt = make(tmp_path)
    monkeypatch.setattr(apt, "_run", lambda *command: plan)
    assert apt.resolve(["busybox"]) == (Package("busybox", "1:1.35.0-4+b1", "a" * 64, 452120),)


def test_the_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
