"""nvmectl in process: every verb, in words and for programs, and one sentence for whatever cannot be."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.drivers.bundle import bundle
from lab.drivers.nvmectl import main

BLOCKS = 1 << 15


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """Return what the verb says to programs."""
    assert main(["--json", *arguments]) == status
    return json.loads(capsys.readouterr().out)


WORDS = {
    "info": "queues of up to 2048 entries",
    "ready": "controller is up",
    "list": f"NSID 1: {BLOCKS} blocks of 512 bytes, 16.0 MiB",
    "identify": "LBA format 0: 512 bytes, 0 bytes of metadata (in use)",
    "read 1 0 2": "000003f0: 0000 0000 0000 0000 0000 0000 0000 0000  ................",
    "flush 1": "done",
    "features": "VOLATILE_WRITE_CACHE: 0x1 VolatileWriteCache(WCE=1)",
    "features volatile-write-cache": "VOLATILE_WRITE_CACHE: 0x1 VolatileWriteCache(WCE=1)",
    "features 6 0": "VOLATILE_WRITE_CACHE: 0x0",
    "features timestamp": "TIMESTAMP: 0x0",
    "smart": "temperature: 40 °C",
    "trim 1 8 8": "done",
    "reset": "done",
    "raw admin 6 --cdw10 1 --length 16": "...NVMECTL",
    "raw io 0 --nsid 1": "result 0x0",
    "bench --prepared --seconds 0.01": "read 4 KiB QD32: ",
}


@pytest.mark.parametrize("verb", WORDS)
def test_every_verb_speaks_to_people(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main(verb.split()) == 0
    said = capsys.readouterr()
    assert WORDS[verb] in said.out
    assert not said.err


@pytest.mark.parametrize("verb", [verb for verb in WORDS if "flush" not in verb])
def test_every_verb_speaks_to_programs(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    said = answer(capsys, *verb.split())
    assert said.pop("status") == "success"
    assert said or verb in ("trim 1 8 8", "reset")


def test_programs_get_the_contracts_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "list") == {
        "status": "success",
        "namespaces": [{"controller": "NVMECTL", "nsid": 1, "blocks": BLOCKS, "block_size": 512}],
    }
    figures = answer(capsys, "bench", "--prepared", "--seconds", "0.01")["figures"]
    assert [figure["name"] for figure in figures] == ["read 4 KiB QD1", "read 4 KiB QD32"]
    assert all(figure["value"] > 100 and figure["unit"] == "commands/s" for figure in figures)


def test_an_image_is_written_and_read(capsys: pytest.CaptureFixture[str], disk: Path, tmp_path: Path) -> None:
    data, copy = os.urandom(1024), tmp_path / "copy"
    (tmp_path / "data").write_bytes(data)
    assert main(["--image", str(disk), "write", "1", "3", str(tmp_path / "data"), "--fua"]) == 0
    assert disk.read_bytes()[3 * 512 : 5 * 512] == data
    assert main(["read", "1", "0x3", "2", "--image", str(disk), "--out", str(copy)]) == 0
    assert copy.read_bytes() == data
    capsys.readouterr()
    assert answer(capsys, "--image", str(disk), "list")["namespaces"][0]["blocks"] == 2048


def test_the_standard_input_is_written(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"z" * 512)))
    assert main(["--image", str(disk), "write", "1", "2047"]) == 0
    assert disk.read_bytes()[-512:] == b"z" * 512


SENTENCES = {
    f"read 1 {BLOCKS} 1": f"LBA {BLOCKS} to {BLOCKS} is not inside namespace 1, whose last LBA is {BLOCKS - 1}",
    "read 1 0 0": "a transfer needs at least 1 block, not 0",
    "read 2 0 1": "there is no active namespace 2; there are: 1",
    "features 6 0x1ffffffff": "the value 8589934591 of a feature does not fit 32 bits",
    "features 0x7b": "Invalid Field in Command (SCT 0h, SC 02h)",
    "features 7 1": "Number of Queues cannot be set any more: there are I/O queues",
    "raw io 0x99": "the controller answered Invalid Command Opcode (SCT 0h, SC 01h)",
    "raw io 2 --nsid 1 --cdw10 0x7fffffff": "LBA Out of Range (SCT 0h, SC 80h)",
    "raw admin 999": "OPC=999 does not fit 8 bits",
    "raw admin 6 --cdw10 0x1ffffffff": "CDW10=8589934591 does not fit 32 bits",
    "--image /nowhere info": "the image /nowhere cannot be used: No such file or directory",
    "--image /dev/null info": "not a whole number of blocks",
    "--transport vfio --device 0000:ff:1f.7 info": "there is no PCI function 0000:ff:1f.7; NVMe controllers here: ",
    "raw admin 6 --cdw10 1 --length 0x7fffffffff": "bytes of DMA memory are free",
    "write 1 0 /nowhere": "No such file or directory: '/nowhere'",
    "write 1 0 /dev/null": "there is nothing to write",
}


@pytest.mark.parametrize("command", SENTENCES)
def test_what_cannot_be_gets_one_sentence(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(command.split()) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("nvmectl: ")
    assert said.err.count("\n") == 1
    assert SENTENCES[command] in said.err


def test_part_of_a_block_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"abc")
    assert main(["write", "1", "0", str(tmp_path / "data")]) == 1
    assert "3 bytes are not a whole number of blocks of 512 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("--transport pigeon info", "invalid choice: 'pigeon'"),
        ("features nonsense", "'nonsense' is not a number"),
        ("features 256", "256 does not fit a feature's identifier of 8 bits"),
        ("--queues 0 info", "argument --queues: 0 is less than 1"),
        ("info --depth 1", "argument --depth: 1 is less than 2"),
        ("read 1", "the following arguments are required: lba, blocks"),
        ("fly", "invalid choice: 'fly'"),
        ("", "the following arguments are required: VERB"),
    ],
)
def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str], command: str, sentence: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_failures_reach_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(capsys, "raw", "io", "0x99", status=1)
    assert said["status"] == {"sct": 0, "sc": 1}


def test_the_bundle_is_the_same_each_time_and_needs_nothing_but_python(tmp_path: Path) -> None:
    first = bundle()
    bundle.cache_clear()
    assert bundle() == first
    program = tmp_path / "nvmectl.pyz"
    program.write_bytes(first)
    run = [sys.executable, "-I", "-S", str(program), "--device", "0000:ff:1f.7", "info"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("nvmectl: there is no PCI function 0000:ff:1f.7")
