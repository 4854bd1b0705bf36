from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from images.modules import Modules, modinfo
from lab.errors import LabError


def module(depends: str = "", *more: str) -> bytes:
    return b"\x7fELF\0" + b"\0".join(f.encode() for f in ("license=GPL", f"depends={depends}", *more)) + b"\0"


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    contents = {
        "drivers/nvme/host/nvme.ko": module("nvme-core"),
        "drivers/nvme/host/nvme-core.ko": module("t10-pi,crc64", "alias=one", "alias=two"),
        "block/t10-pi.ko": module("crc64", "softdep=pre: wanted absent post: later"),
        "crypto/wanted.ko": module(),
        "crypto/later.ko": module(),
    }
    for path, content in contents.items():
        file = tmp_path / "kernel" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "kernel/lib").mkdir()
    (tmp_path / "kernel/lib/crc64.ko.xz").write_bytes(lzma.compress(module()))
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio-pci.ko\n")
    return Modules(tmp_path)


def test_each_module_comes_after_what_it_needs(modules: Modules) -> None:
    assert modules.order(["nvme"]) == ["crc64", "wanted", "t10_pi", "nvme_core", "nvme"]


def test_what_is_built_in_needs_no_loading(modules: Modules) -> None:
    assert modules.order(["virtio_pci", "crc64"]) == ["crc64"]


def test_a_module_that_is_not_there_is_named(modules: Modules) -> None:
    with pytest.raises(LabError, match="nvme_tpc"):
        modules.order(["nvme-tpc"])


def test_compressed_modules_are_carried_plain(modules: Modules) -> None:
    assert modules.content("crc64") == module()
    assert modules.path("crc64") == "kernel/lib/crc64.ko"


def test_modinfo_gives_all_values_of_exactly_that_key(modules: Modules) -> None:
    assert modules.aliases("nvme_core") == ["one", "two"]
    assert modinfo(module("a"), "pends") == []
