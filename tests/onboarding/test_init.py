"""``nvme-lab init``: what a file is, and a manifest that runs at once against it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from conformance.commands import run_command
from conformance.commands.init import CI, in_repository, render
from conformance.onboarding.own_source import PLACEHOLDER, own_source
from conformance.onboarding.recognise import recognise
from lab.drivers import find
from lab.errors import UsageError
from lab.toolchain import Toolchain
from tests.onboarding.bare_kernels import ARM, kernel
from tests.onboarding.boot_sectors import COM1, COM2, image, printer, shower

ROOT = Path(__file__).parents[2]


def elf(*segments: tuple[int, bytes], bits: int = 64, kind: int = 2, more: bytes = b"") -> bytes:
    """Return an ELF file with these program headers (type, content), and ``more`` behind all."""
    wide = bits == 64
    head, size = (64, 56) if wide else (52, 32)
    at = head + size * len(segments)
    table, body = b"", b""
    for type, content in segments:
        where = at + len(body)
        fields = (type, 0, where, 0, 0, len(content), 0, 0) if wide else (type, where, 0, 0, len(content), 0, 0, 0)
        table += struct.pack("<IIQQQQQQ" if wide else "<IIIIIIII", *fields)
        body += content
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    middle = struct.pack("<QQQ" if wide else "<III", 0, head, 0)
    machine = 62 if wide else 3
    rest = struct.pack("<IHHHHHH", 0, head, size, len(segments), 0, 0, 0)
    return ident + struct.pack("<HHI", kind, machine, 1) + middle + rest + table + body + more


def note(name: bytes, kind: int, content: bytes) -> bytes:
    return struct.pack("<III", len(name) + 1, len(content), kind) + (name + b"\0").ljust(len(name) + 4 & ~3, b"\0") + content


def multiboot(magic: int, words: int) -> bytes:
    content = [magic, *[0] * (words - 2)]
    return struct.pack(f"<{words}I", *content, -sum(content) & 0xFFFFFFFF)


def at(*parts: tuple[int, bytes], size: int) -> bytes:
    found = bytearray(size)
    for offset, content in parts:
        found[offset : offset + len(content)] = content
    return bytes(found)


PVH = note(b"Xen", 18, bytes(8))
MODULE = elf(kind=1, more=b"\0name=nvme\0depends=nvme-core\0vermagic=6.1.0-9 SMP mod_unload \0")
SECTOR = (510, b"\x55\xaa")


@pytest.mark.parametrize(
    ("content", "what", "boots"),
    [
        (elf((4, note(b"GNU", 3, bytes(20)) + PVH)), "a 64-bit ELF kernel with a PVH entry", "kernel"),
        (elf((4, PVH), bits=32), "a 32-bit ELF kernel with a PVH entry", "kernel"),
        (elf(bits=32, more=multiboot(0x1BADB002, 3)), "a 32-bit ELF kernel with a multiboot header", "kernel"),
        (elf(more=multiboot(0x1BADB002, 3)), "a 64-bit ELF kernel with a multiboot header", ""),
        (elf(more=multiboot(0xE85250D6, 4)), "a 64-bit ELF kernel with a multiboot2 header", ""),
        (elf((3, b"/lib64/ld.so\0")), "a 64-bit Linux program", "program"),
        (elf((4, note(b"GNU", 1, bytes(16)))), "a 64-bit Linux program, linked statically", "program"),
        (at(SECTOR, size=1440 << 10), "a floppy disk image with a boot sector (1440 KiB)", "floppy"),
        (elf((4, note(b"Xen", 17, bytes(8)))), "a 64-bit ELF file for x86-64 without PVH note", ""),
        (MODULE, "a Linux kernel module for 6.1.0-9", "module"),
        (elf(kind=1), "an object file", ""),
        (at((0x202, b"HdrS"), SECTOR, size=4096), "a Linux kernel (bzImage)", "kernel"),
        (at((32769, b"CD001"), (34816, b"\0CD001\1EL TORITO SPECIFICATION"), size=40960), "an ISO 9660 image, bootable", "iso"),
        (at((32769, b"CD001"), SECTOR, size=40960), "an ISO 9660 image", "iso"),
        (at((0, b"QFI\xfb"), size=4096), "a disk image in qcow2 format", ""),
        (at(SECTOR, size=4096), "a disk image with a boot sector (master boot record)", "disk"),
        (at(SECTOR, (512, b"EFI PART"), size=4096), "a disk image with a boot sector (GPT)", "disk"),
        (at((40, b"_FVH"), size=4096), "a UEFI firmware volume", "firmware"),
        (at((65520, b"\xea\x5b\xe0\0\xf0"), size=65536), "a firmware image", "firmware"),
        (at((0, b"MZ"), (60, b"\x80\0\0\0PE"), (128, b"PE\0\0"), size=4096), "a UEFI application (PE)", ""),
        (at((8, multiboot(0x1BADB002, 3)), size=4096), "a multiboot kernel (not ELF)", "kernel"),
    ],
)  # fmt: skip
def test_what_a_file_is(tmp_path: Path, content: bytes, what: str, boots: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    found = recognise(file)
    assert found.what.startswith(what)
    assert found.boots == boots
    assert boots or found.remedy


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello", bytes(65536), elf(more=multiboot(0x1BADB002, 3)[:-1] + b"\0")[:64],
        elf()[:4], elf()[:20], elf((4, PVH))[:100], elf((3, b"\xff\xfe")),
    ],
)  # fmt: skip
def test_unknown_and_damaged_files_are_not_guessed(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    if content.startswith(b"\x7fELF"):
        assert recognise(file).boots == ""
    else:
        with pytest.raises(UsageError, match="nothing that is known here" if content else "is empty"):
            recognise(file)


def test_a_module_becomes_a_manifest_for_the_linux_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NVME_LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "build").mkdir()
    for name in ("nvme.ko", "nvme-core.ko"):
        (tmp_path / "build" / name).write_bytes(MODULE)
    assert run_command(("init", "build/nvme.ko", "-o", "lab/mine.toml", "--name", "mine", "--ci", "gitlab")) == 0
    manifest = find("lab/mine.toml")
    assert (manifest.name, manifest.adapter, manifest.needs) == ("mine", "linux", ("linux-guest",))
    assert manifest.push.modules == ("../build/nvme-core.ko", "../build/nvme.ko")
    assert "DRIVER: lab/mine.toml\n" in (tmp_path / ".gitlab-ci.yml").read_text()


def test_a_program_becomes_a_manifest_of_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-driver").write_bytes(elf((4, note(b"GNU", 1, bytes(16)))))
    assert run_command(("init", "my-driver")) == 0
    manifest = find("./my-driver.toml")
    assert (manifest.adapter, manifest.program.command) == ("guest-program", ("/run/driver/my-driver",))
    assert manifest.push.files == {"/run/driver/my-driver": "my-driver"}
    lines = [line for line in (tmp_path / "my-driver.toml").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 10


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk.img").write_bytes(at(SECTOR, size=4096))
    workflow = tmp_path / ".github/workflows/nvme.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text("mine")
    assert run_command(("init", "disk.img", "--no-boot", "--ci", "github")) == 4
    assert "nvme.yml exists already" in capsys.readouterr().err
    assert workflow.read_text() == "mine"
    assert not (tmp_path / "disk.toml").exists()
    assert run_command(("init", "disk.img", "--no-boot")) == 0
    assert find("disk.toml").boot.disk == "disk.img"
    assert run_command(("init", "disk.img", "--no-boot")) == 4
    assert "disk.toml exists already" in capsys.readouterr().err


@pytest.mark.parametrize("server", list(CI))
def test_the_job_is_the_one_that_the_documentation_explains(server: str) -> None:
    page = ROOT / "docs" / "ci" / f"{server}.yml"
    assert render(f"{server}.yml.j2", manifest="my-os.toml", source=PLACEHOLDER) == page.read_text()


def test_a_job_installs_a_pinned_commit_and_never_a_bare_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"url": "https://git.example/nvme-lab", "vcs_info": {"vcs": "git", "commit_id": "0123abcd"}}
    monkeypatch.setattr("conformance.onboarding.own_source._direct_url", lambda: installed)
    assert own_source() == "git+https://git.example/nvme-lab@0123abcd"
    monkeypatch.setattr("conformance.onboarding.own_source._direct_url", dict)
    remotes = {"remote": "git@git.example:lab/nvme-lab.git", "rev-parse": "0123abcd"}
    monkeypatch.setattr("conformance.onboarding.own_source._git", lambda _, verb, *more: remotes[verb])
    assert own_source() == "git+ssh://git@git.example/lab/nvme-lab.git@0123abcd"
    remotes["remote"] = "/home/me/nvme-lab"
    assert own_source() == PLACEHOLDER


@pytest.mark.parametrize("server", list(CI))
def test_a_job_without_a_source_refuses_before_it_installs(server: str) -> None:
    text = render(f"{server}.yml.j2", manifest="my-os.toml", source=PLACEHOLDER)
    checks = [line.strip() for line in text.splitlines() if line.strip().startswith("case ")]
    assert len(checks) == text.count("python3 -m venv")
    for source, status in ((PLACEHOLDER, 1), ("git+https://git.example/nvme-lab@0123", 0)):
        done = subprocess.run(["sh", "-c", checks[0]], env={"NVME_LAB": source}, capture_output=True, check=False)
        assert done.returncode == status


def test_a_generated_job_holds_no_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk.img").write_bytes(at(SECTOR, size=1024))
    manifest = str(tmp_path / "drivers" / "my.toml")
    assert run_command(("init", "disk.img", "--no-boot", "--ci", "github", "-o", manifest)) == 0
    text = CI["github"].read_text()
    assert str(tmp_path) not in text
    assert "DRIVER: drivers/my.toml" in text
    with pytest.raises(UsageError, match="outside of this folder"):
        in_repository(tmp_path.parent / "my.toml")


PRINTS = bytes.fromhex("31c0 8ed8 fc be167c baf803 ac 84c0 7403 ee ebf8 f4 ebfd")
"""A boot sector that sends the text behind it to the first serial port, and halts."""


@pytest.mark.parametrize(
    ("says", "ready", "input"),
    [("my-os 7\r\nos> ", "^os> ", "serial"), ("no disk\r\nall 3 done\r\n", r"^all \d+ done", "none")],
)
def test_a_system_is_booted_once_and_its_last_words_are_waited_for(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, ready: str, input: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "os.img").write_bytes(at((0, PRINTS), (len(PRINTS), says.encode()), SECTOR, size=1 << 20))
    assert run_command(("init", "os.img", "--seconds", "8")) == 0
    boot = find("os.toml").boot
    assert (boot.disk, boot.ready, boot.input, boot.output) == ("os.img", ready, input, "serial")
    selected = ("--device", "qemu", "--scenario", "detect/basic", "--check", "every/load")
    assert run_command(("run", "--driver", "os.toml", *selected)) == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (printer(COM1, b"up\r\nKERNEL PANIC: no root\r\n"), {"dead": "KERNEL PANIC", "ready": "", "quiet": 1.5}),
        (printer(COM2, b"os> "), {"output": "serial2", "ready": "^os> "}),
        (shower(b"No init found"), {"screen": True, "quiet": 1.5, "input": "none"}),
    ],
    ids=["crash", "com2", "screen"],
)
def test_a_crash_is_no_prompt_and_all_outputs_are_heard(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: bytes, expected: dict[str, object]
) -> None:
    """Obstacles 1, 4 and 9."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "os.img").write_bytes(image(code))
    assert run_command(("init", "os.img")) == 0
    boot = find("os.toml").boot
    assert {key: getattr(boot, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--name", "Bad_Name!"), "is no name of a driver"),
        (("-o", "../missing-folder/os.toml"), "the folder ../missing-folder is not there"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "os.img").write_bytes(image(b""))
    assert run_command(("init", "os.img", *words)) == 4
    shown = capsys.readouterr()
    assert says in shown.err
    assert "booting" not in shown.out
    assert not (tmp_path.parent / "missing-folder").exists()


def test_a_triple_fault_is_no_success(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del toolchain  # its fixture has fetched QEMU
    monkeypatch.chdir(tmp_path)
    (tmp_path / "os.img").write_bytes(image(bytes.fromhex("fa 31c0 8ed8 0f011e007d cc ebfe")))  # no vectors, and int3
    assert run_command(("init", "os.img")) == 2
    assert "triple fault" in capsys.readouterr().err
    assert not (tmp_path / "os.toml").exists()


def test_a_file_that_qemu_refuses_is_said_and_no_manifest_is_left(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.elf").write_bytes(elf((4, PVH[:4] + b"\xff\xff\xff\x7f" + PVH[8:]), bits=32))
    assert run_command(("init", "bad.elf", "--seconds", "2")) == 2
    assert "It does not boot" in capsys.readouterr().err
    assert not (tmp_path / "bad.toml").exists()


def test_what_is_said_of_the_machine_stands_in_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.img").write_bytes(at(SECTOR, size=4096))
    told = ("--no-boot", "--machine", "pc", "--cpu", "qemu64", "--memory", "64M")
    assert run_command(("init", "d.img", *told)) == 0
    boot = find(str(tmp_path / "d.toml")).boot
    assert (boot.machine, boot.cpu, boot.memory) == ("pc", "qemu64", "64M")


def test_a_kernel_for_arm64_becomes_a_manifest_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.elf").write_bytes(kernel(ARM, b"> "))
    assert run_command(("init", "k.elf", "--no-boot", "--append", "x=1")) == 0
    boot = find(str(tmp_path / "k.toml")).boot
    assert (boot.arch, boot.machine, boot.cpu, boot.append) == ("aarch64", "virt", "cortex-a57", "x=1")


def test_a_size_that_is_none_is_refused_before_the_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.img").write_bytes(at(SECTOR, size=4096))
    assert run_command(("init", "d.img", "--memory", "lots")) == 4
    said = capsys.readouterr()
    assert "'lots' is not a size of memory, such as 128M or 1G" in said.err
    assert "booting" not in said.out
    assert not (tmp_path / "d.toml").exists()
