"""Files that QEMU cannot take as they are: told by their first bytes, and refused with what to do."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from lab.data.image_forms import FOREIGN_FORMS, ForeignForm, foreign_form, is_uefi_firmware, require_raw
from lab.errors import UsageError
from lab.guest.refusals import plainly, remedy_for


@pytest.mark.parametrize("form", FOREIGN_FORMS, ids=lambda form: form.what)
def test_each_form_is_refused_with_a_command(form: ForeignForm, tmp_path: Path) -> None:
    file = tmp_path / "my os.img"
    file.write_bytes(bytes(form.offset) + form.magic + bytes(600))
    with pytest.raises(UsageError, match=f"boot.disk: .* is {form.what}") as refused:
        require_raw(file, "boot.disk")
    assert "'my os.img'" in refused.value.remedy
    assert "IN" not in refused.value.remedy.split()


def test_what_programs_make_is_recognised() -> None:
    for packed, what in ((gzip.compress(b"x"), "gzip"), (lzma.compress(b"x"), "xz")):
        form = foreign_form(packed)
        assert form is not None
        assert what in form.what


@pytest.mark.parametrize(("made", "what"), [("none", "there is no file"), ("folder", "is a folder"), ("empty", "is empty")])
def test_what_is_no_image_at_all_is_said_plainly(made: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match=f"--disk: .*{what}"):
        require_raw(tmp_path / made, "--disk")


def test_some_kernels_may_be_compressed(tmp_path: Path) -> None:
    file = tmp_path / "Image.gz"
    file.write_bytes(gzip.compress(b"x"))
    assert require_raw(file, "boot.kernel", may_be_packed=True) == file
    file.write_bytes(b"QFI\xfb" + bytes(600))
    with pytest.raises(UsageError, match="qcow2"):
        require_raw(file, "boot.kernel", may_be_packed=True)


def test_a_uefi_firmware_is_told_by_its_volume(tmp_path: Path) -> None:
    file = tmp_path / "OVMF.fd"
    file.write_bytes(bytes(40) + b"_FVH" + bytes(100))
    assert is_uefi_firmware(file)
    file.write_bytes(bytes(144))
    assert not is_uefi_firmware(file)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("qemu: invalid kernel header", "nvme-lab init"),
        ("2026-12-01T02:51:42.66Z qemu-system-x86_64: Error loading uncompressed kernel without PVH ELF Note", "nvme-lab init"),
        ("qemu-system-aarch64: Couldn't load elf 'k': The image is from incompatible architecture", "boot.arch"),
        ("qemu-system-x86_64: unable to find CPU model 'foo'", "boot.cpu"),
        ("qemu-system-x86_64: Address space limit 0xff < 0x4e phys-bits too low (40)", "boot.memory"),
        ("qemu-system-x86_64: cannot set up guest memory 'ram': Cannot allocate memory", ""),
    ],
)
def test_what_qemu_refuses_comes_with_the_key(said: str, remedy: str) -> None:
    assert remedy in remedy_for(said)
    assert bool(remedy_for(said)) == bool(remedy)
    assert not plainly(said).startswith(("qemu", "2026"))
