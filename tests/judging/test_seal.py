"""Evidence that was damaged or forged is an error of the lab, never a verdict; nothing outside its folder is read."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.commands import run_command
from conformance.judging.files import write
from conformance.judging.judge import judge
from conformance.judging.manifest import write_manifest
from conformance.judging.models import Results
from conformance.suite.check import CHECKS, Outcome
from lab.data.events import ActionEnded, ActionStarted, RegisterWrite
from lab.data.evidence import Evidence
from lab.data.seal import BLOCK, seal
from lab.data.stream import StreamWriter
from lab.errors import LabError
from tests.toy.fixtures import MakeEvidence

Damage = Callable[[Path], object]


@pytest.fixture
def folder(make_evidence: MakeEvidence) -> Path:
    """Evidence with one of everything that is sealed."""
    events = [
        ActionStarted(t=1.0, number=0, action="read", arguments={"nsid": 1, "lba": 0, "blocks": 1}),
        RegisterWrite(t=1.5, offset=0x14, size=4, value=1),
        ActionEnded(t=2.0, number=0, action="read", answer={"status": "success", "data": "answers/0.bin"}),
    ]

    def fill(folder: Path) -> None:
        (folder / "answers/0.bin").write_bytes(b"answer")
        with (folder / "namespaces/nv0-1.img").open("wb") as image:
            image.truncate(1 << 30)
            image.seek(1 << 29)
            image.write(b"block")
        record = StreamWriter(folder / "device/nv0.rec")
        record.register_write(0x14, 4, 1)
        record.register_write(0x24, 4, 7)
        record.close()

    return make_evidence(events, fill=fill).folder


def outcomes(folder: Path) -> set[Outcome]:
    return {verdict.outcome for verdict in judge(Evidence(folder), CHECKS.values())}


def _cut_last_line(folder: Path) -> None:
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "events.jsonl").write_bytes(b"".join(lines[:-1]))


def _flip(name: str, at: int) -> Damage:
    def flip(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes()[: 1 << 20])
        data[at] ^= 4
        with (folder / name).open("r+b") as file:
            file.write(data)

    return flip


def _replace(name: str, make: Callable[[Path], object]) -> Damage:
    def replace(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return replace


DAMAGES: dict[str, Damage] = {
    "the last event cut off": _cut_last_line,
    "no event left": lambda folder: (folder / "events.jsonl").write_bytes(b""),
    "a bit of a record": _flip("device/nv0.rec", 40),
    "a bit of an answer": _flip("answers/0.bin", 0),
    "a bit of a hole of an image": _flip("namespaces/nv0-1.img", 5000),
    "an answer missing": lambda folder: (folder / "answers/0.bin").unlink(),
    "a record missing": lambda folder: (folder / "device/nv0.rec").unlink(),
    "an answer added": lambda folder: (folder / "answers/1.bin").write_bytes(b"more"),
    "another identity": _flip("identity.json", 60),
    "an image shortened": lambda folder: os.truncate(folder / "namespaces/nv0-1.img", 1 << 28),
    "an answer that is a link": _replace("answers/0.bin", lambda path: path.symlink_to("/etc/passwd")),
    "an answer that is a pipe": _replace("answers/0.bin", os.mkfifo),
    "an answer without an end": _replace("answers/0.bin", lambda path: path.symlink_to("/dev/zero")),
    "events without an end": _replace("events.jsonl", lambda path: path.symlink_to("/dev/zero")),
    "an image elsewhere": _replace("namespaces/nv0-1.img", lambda path: path.symlink_to("/dev/zero")),
}


def test_whole_evidence_is_judged(folder: Path) -> None:
    assert not [(v.check.id, v.reason) for v in judge(Evidence(folder), CHECKS.values()) if v.outcome is Outcome.ERROR]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_evidence_proves_nothing(folder: Path, damage: Damage) -> None:
    damage(folder)
    try:
        found = outcomes(folder)
    except LabError as error:  # the identity itself cannot be read any more
        assert "identity.json" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert found == {Outcome.ERROR}


def test_any_bit_of_what_is_judged_counts(folder: Path) -> None:
    draw = random.Random(7)
    for name in ("events.jsonl", "device/nv0.rec", "answers/0.bin"):
        whole = (folder / name).read_bytes()
        for _ in range(30):
            data = bytearray(whole)
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            (folder / name).write_bytes(data)
            with pytest.raises(LabError, match=name):
                Evidence(folder).check()
        (folder / name).write_bytes(whole)
    Evidence(folder).check()


def test_events_of_older_evidence_are_counted(folder: Path) -> None:
    end = json.loads((folder / "end.json").read_text())
    del end["files"]
    (folder / "end.json").write_text(json.dumps(end))
    Evidence(folder).check()
    _cut_last_line(folder)
    assert outcomes(folder) == {Outcome.ERROR}


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "answers/../../secret", ""])
def test_an_answer_outside_the_folder_is_not_read(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    with pytest.raises(LabError, match="no name of a file in the evidence"):
        Evidence(folder).answer_bytes({"data": name})


def test_holes_do_not_matter_to_a_digest(tmp_path: Path) -> None:
    for kind in ("sparse", "dense"):
        (tmp_path / kind / "namespaces").mkdir(parents=True)
        with (tmp_path / kind / "namespaces/a.img").open("wb") as image:
            if kind == "dense":
                image.write(bytes(4 * BLOCK))
            image.truncate(4 * BLOCK)
            image.seek(2 * BLOCK + 17)
            image.write(b"data")
    assert seal(tmp_path / "sparse") == seal(tmp_path / "dense")


@pytest.mark.parametrize(
    "content",
    ['{"outcome": 7, "files": []}', "[" * 100_000, '{"outcome": "complete", "events": "many", "files": {"a": 1}}', "[]"],
)
def test_an_end_marker_of_wrong_types_is_the_labs_error(folder: Path, content: str) -> None:
    (folder / "end.json").write_text(content)
    assert outcomes(folder) == {Outcome.ERROR}


def test_one_bad_recording_spoils_one_scenario(
    folder: Path, make_evidence: MakeEvidence, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder.parent / "root"
    good, bad = root / "evidence/some/qemu/read/basic", root / "evidence/some/qemu/read/sizes"
    shutil.copytree(folder, good)
    shutil.copytree(folder, bad)
    (bad / "identity.json").write_text("[" * 100_000)
    assert run_command(["judge", str(root), "--json"]) == 2
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    assert {v["outcome"] for v in verdicts if v["scenario"] == "read/sizes"} == {"ERROR"}
    assert "ERROR" not in {v["outcome"] for v in verdicts if v["scenario"] == "read/basic"}
    assert any(v["scenario"] == "read/basic" for v in verdicts)


# -- verify and sign --------------------------------------------------------------------------------------------------


@pytest.fixture
def result(folder: Path, tmp_path: Path) -> Path:
    """Return a result folder with one recording and its manifest."""
    root = tmp_path / "result"
    shutil.copytree(folder, root / "evidence/some/qemu/read/basic")
    write(Results(), root)
    write_manifest(root)
    return root


def test_an_unchanged_result_is_verified(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["verify", str(result)]) == 0
    assert "is what was written: 1 recording." in capsys.readouterr().out
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=result, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("results.json", "results.json is not what was written"),
        ("evidence/some/qemu/read/basic/end.json", "end.json is not what was written"),
        ("evidence/some/qemu/read/basic/events.jsonl", "events.jsonl is not what was recorded"),
        ("evidence/some/qemu/read/basic/namespaces/nv0-1.img", "nv0-1.img is not what was recorded"),
    ],
)
def test_a_change_anywhere_is_named(result: Path, capsys: pytest.CaptureFixture[str], name: str, says: str) -> None:
    with (result / name).open("r+b") as file:
        file.write(b"?")
    assert run_command(["verify", str(result)]) == 2
    assert says in capsys.readouterr().out


def test_a_signature_names_its_signer(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True, timeout=60)
    public = (tmp_path / "mine.pub").read_text()
    (tmp_path / "signers").write_text(f"me@example.org {public}")
    (tmp_path / "others").write_text(f"you@example.org {(tmp_path / 'other.pub').read_text()}")
    assert run_command(["verify", str(result), "--signers", str(tmp_path / "signers")]) == 2
    assert "is not signed" in capsys.readouterr().err
    assert run_command(["sign", str(result), "--key", str(tmp_path / "mine")]) == 0
    assert run_command(["verify", str(result), "--signers", str(tmp_path / "signers")]) == 0
    assert "Signed by me@example.org." in capsys.readouterr().out
    assert run_command(["verify", str(result), "--signers", str(tmp_path / "others")]) == 2
    write_manifest(result)
    (result / "SHA256SUMS").write_text((result / "SHA256SUMS").read_text() + "\n")
    assert run_command(["verify", str(result), "--signers", str(tmp_path / "signers")]) == 2


def test_reading_a_pipe_does_not_hang(folder: Path) -> None:
    (folder / "events.jsonl").unlink()
    os.mkfifo(folder / "events.jsonl")
    done = threading.Event()

    def look() -> None:
        with pytest.raises(LabError, match="no regular file"):
            Evidence(folder).check()
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(20), "it hangs"
