"""The commands besides ``run``, the front door, and where results go."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from conformance import cli
from conformance.commands import COMMANDS, GROUPS, run_command
from conformance.judging.files import schema, write
from conformance.judging.models import FILE, Cite, DriverEntry, Results, VerdictEntry
from conformance.onboarding import doctor
from conformance.onboarding.doctor import Diagnosis, examine
from conformance.run import folders
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.data.events import ActionStarted
from lab.errors import LabError, UsageError
from lab.settings import Settings
from lab.toolchain import mirrors
from tests.toy.fixtures import MakeEvidence


def lab(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run_command(arguments)
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, out, _ = lab(capsys, name, "--help")
    assert status == 0
    assert re.search(rf"^ +nvme-lab {name}\b", out, re.M), out


def test_help_names_every_command_in_80_columns_and_imports_none_of_them() -> None:
    names = ", ".join(f"'conformance.commands.{entry.place.partition(':')[0]}'" for entry in COMMANDS.values())
    program = (
        "import sys; from conformance.commands import run_command; status = run_command(['--help']); "
        f"sys.exit(status or any(name in sys.modules for name in ({names})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.partition(f"{next(iter(GROUPS))}:\n")[2].splitlines()
    listed = [line for line in lines if line.startswith("  ")]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert max(map(len, listed)) <= 80
    assert [line.rstrip(":") for line in lines if line and not line.startswith(" ")] == list(GROUPS)[1:]


def test_checks_are_listed_as_the_contract_says(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = lab(capsys, "list", "checks", "--json")
    listed = {entry["id"]: entry for entry in json.loads(out)}
    assert status == 0
    assert listed.keys() == CHECKS.keys()
    assert all(
        entry.keys() == {"id", "stage", "level", "cite", "witnesses", "statement", "defects"} for entry in listed.values()
    )
    assert listed["read/nlb"]["statement"] == CHECKS["read/nlb"].statement


@pytest.mark.parametrize(
    ("what", "key", "names"),
    [("drivers", "name", {"linux", "u-boot"}), ("stages", "stage", {"detect", "read"}), ("scenarios", "id", set(SCENARIOS))],
)
def test_lists_name_what_there_is(capsys: pytest.CaptureFixture[str], what: str, key: str, names: set[str]) -> None:
    _, out, _ = lab(capsys, "list", what, "--json")
    assert names <= {entry[key] for entry in json.loads(out)}
    _, text, _ = lab(capsys, "list", what)
    assert all(name in text for name in names)
    assert "\x1b" not in text


def test_checks_of_one_stage(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = lab(capsys, "list", "checks", "--stage", "read", "--json")
    assert {entry["stage"] for entry in json.loads(out)} == {"read"}


def test_doctor_reports_findings_with_remedies(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in examine(Settings(cache=tmp_path / "cache", qemu=tmp_path / "none"))}
    assert found.keys() >= {"QEMU", "setpriv", "apt-get", "cache"}
    assert found["cache"].state == "ok"
    assert all(finding.remedy for finding in found.values() if finding.state != "ok")


def test_doctor_shows_the_templates_and_clears_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        chosen = Settings(cache=tmp_path, qemu=tmp_path / "none")
        return next(finding.says for finding in examine(chosen) if finding.name == "templates")

    assert said() == "of no guest yet: the first run boots and saves them"
    for name, seconds in (("one", 7 * 3600), ("two", 60)):
        template = tmp_path / "templates" / name
        template.mkdir(parents=True)
        (template / "ram").write_bytes(bytes(3 << 20))
        facts = template / "template.json"
        facts.write_text("{}")
        os.utime(facts, (time.time() - seconds,) * 2)
    assert said() == "of 2 guests: 6 MiB of 4096 at most, used 7 hours to 60 seconds ago"
    monkeypatch.setenv("NVME_LAB_CACHE", str(tmp_path))
    _, _, err = lab(capsys, "doctor", "--clear-templates", "--qemu", str(tmp_path / "none"))
    assert "Templates of guests removed: 6 MiB freed." in err
    assert said() == "of no guest yet: the first run boots and saves them"


def test_doctor_names_a_cache_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = {finding.name: finding for finding in examine(Settings(cache=tmp_path / "file" / "cache"))}
    assert found["cache"].state == "error"
    assert "NVME_LAB_CACHE" in found["cache"].remedy


def found_by_doctor(chosen: Settings) -> dict[str, Diagnosis]:
    return {finding.name: finding for finding in examine(chosen)}


def test_doctor_names_what_would_stop_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "default_root", lambda: Path("/tmp") / ("deep" * 20))
    monkeypatch.setattr(doctor, "TOOLS", (("no-such-tool", "no-package", "it is needed"),))
    monkeypatch.setattr(doctor, "NEEDED_TOOLS", {"no-such-tool"})
    monkeypatch.setattr(mirrors, "candidates", list)
    monkeypatch.setattr(doctor, "RESULT_BYTES", 1 << 60)
    found = found_by_doctor(Settings(cache=tmp_path, qemu=tmp_path / "none"))
    for name, state, remedy in (
        ("QEMU", "error", "--qemu"), ("no-such-tool", "error", "install no-package"), ("Debian mirror", "warning", "--mirror"),
        ("run folders", "error", "TMPDIR"), ("results", "warning", "--out"),
    ):  # fmt: skip
        assert found[name].state == state, found[name]
        assert remedy in found[name].remedy


def test_doctor_says_the_same_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = lab(capsys, "doctor", "--json")
    listed = json.loads(out)
    assert all(finding.keys() == {"name", "state", "says", "remedy"} for finding in listed)
    assert status == (2 if any(finding["state"] == "error" for finding in listed) else 0)


def test_reports_of_a_result_in_every_format(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cite = Cite(revision="practice", section="-", title="sound practice")
    verdict = VerdictEntry(
        driver="toy", device="qemu", scenario="read/basic", stage="read", check="read/nlb", level="M", outcome=Outcome.PASS,
        cite=cite,
    )  # fmt: skip
    drivers = {"toy": DriverEntry(stages=["read"], asked=["read"])}
    for shard in ("1", "2"):
        (tmp_path / shard).mkdir()
        write(Results(drivers=drivers, verdicts=[verdict]), tmp_path / shard)
    shards = [str(tmp_path / "1"), str(tmp_path / "2" / FILE)]
    status, out, _ = lab(capsys, "report", *shards, "--format", "json")
    assert status == 0
    data = json.loads(out)
    jsonschema.validate(data, schema())
    assert len(data["verdicts"]) == 1
    for form, sign in (("junit", "<testcase"), ("markdown", "| read | toy"), ("text", "toy qualifies")):
        status, out, _ = lab(capsys, "report", *shards, "--format", form)
        assert status == 0
        assert sign in out
        lab(capsys, "report", *shards, "--format", form, "-o", str(tmp_path / form))
        assert sign in (tmp_path / form).read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("report", "nowhere"), 4, "There are no results at nowhere"),
        (("judge", "nowhere"), 4, "There is no evidence in nowhere"),
        (("judge",), 4, "Missing argument"),
        (("nonsense",), 4, "No such command"),
        (("run", "--kernel"), 4, "requires an argument"),
        (("rnu",), 4, "did you mean 'run'?"),
        (("run", "--driver", "lnux"), 4, "did you mean 'linux'?"),
        (("run", "--driver", "nothing.toml"), 4, "nothing.toml: the manifest cannot be read: No such file"),
        (("run", "--driver", "broken.toml"), 4, "broken.toml: not TOML"),
        (("run", "--driver", "./kernel.elf"), 4, "nvme-lab init kernel.elf writes one for it"),
        (("run", "--driver", "reference", "--device", "qemu"), 4, "No driver reaches the device qemu: reference reaches lab."),
        (("run", "--driver", "reference", "--out", "broken.toml"), 4, "Directory 'broken.toml' is a file"),
        (("run", "--driver", "u-boot", "--defect", "read/nlb:one-fewer"), 4, "no defect can be seeded into the driver"),
        (("run", "--shard", "3/2"), 4, "there is no shard '3/2'"),
        (("run", "--times", "nowhere"), 4, "There are no results at nowhere"),
        (("run", "--last-failed"), 4, "There are no results at nvme-lab-results/latest"),
        (("run", "--repeat", "0"), 4, "0 is not in the range"),
        (("run", "--driver", "u-boot", "--qemu", "/bin/false"), 4, "/bin/false --version does not say QEMU's version"),
        (("run", "--driver", "u-boot", "--qemu", "broken.toml"), 4, "broken.toml, is not a program"),
        (("compare", "nowhere", "nowhere"), 4, "There are no results at nowhere"),
        (("wire", "nowhere"), 4, "There is no evidence in nowhere"),
        (("init", "nowhere"), 4, "nowhere cannot be read: No such file"),
        (("init", "broken.toml"), 4, "broken.toml is nothing that is known here"),
        (("completion", "tcsh"), 4, "'tcsh' is not one of"),
        (("defects", "--check", "read/nope"), 4, "no defect is seeded for a check 'read/nope'"),
    ],
)
def test_wrong_usage_is_one_clear_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("[")
    (tmp_path / "kernel.elf").write_bytes(b"\x7fELF\xff")
    found, _, err = lab(capsys, *arguments)
    assert found == status
    assert says in err
    assert "Traceback" not in err
    assert "a mistake in the lab itself" not in err


def _without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _holding(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


NO_CONTROLLERS = "neither the scenario nor device.json says which controllers were there"
IDENTITY = '{"format": 1, "device": "qemu", "driver": {"name": "x"}, "scenario": {}%s}'


def _unsealed(damage: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return a damage to evidence of an older lab, whose end marker holds no digests."""

    def unsealed(folder: Path) -> None:
        end = json.loads((folder / "end.json").read_text())
        del end["files"]
        (folder / "end.json").write_text(json.dumps(end))
        damage(folder)

    return unsealed


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_without("events.jsonl"), "events.jsonl is missing: the evidence is not whole"),
        (_holding("identity.json", "{"), "identity.json cannot be read"),
        (_holding("identity.json", '{"format": 99}'), "format 99, this lab reads 1"),
        (_holding("identity.json", '{"format": 1, "device": "qemu"}'), "it does not say the driver"),
        (_holding("identity.json", IDENTITY % ""), NO_CONTROLLERS),
        (_holding("identity.json", IDENTITY % ', "sead": 1'), "sead: unknown key; did you mean 'seed'?"),
        (_holding("identity.json", IDENTITY.replace("name", "nam") % ""), "identity.json: it does not say the driver.name"),
        (_holding("identity.json", IDENTITY.replace("qemu", "") % ""), NO_CONTROLLERS),
        (_unsealed(_holding("events.jsonl", "{}\n")), "events.jsonl:1: not an event"),
        (_holding("end.json", '{"outcome": 1}'), "end.json: not an end marker"),
    ],
)
@pytest.mark.parametrize("command", ["judge", "wire"])
def test_broken_evidence_is_named_with_file_and_line(
    make_evidence: MakeEvidence, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], says: str, command: str
) -> None:
    folder = make_evidence([ActionStarted(t=1.0, number=0, action="load", arguments={})]).folder
    damage(folder)
    status, out, err = lab(capsys, command, str(folder))
    assert status == LabError.exit_status
    assert says in " ".join((out + err).split())
    assert "a mistake in the lab itself" not in err


@pytest.mark.parametrize("command", ["judge", "wire"])
def test_a_folder_without_evidence_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, _, err = lab(capsys, command, str(tmp_path))
    assert status == UsageError.exit_status
    assert "There is no evidence in" in err


@pytest.mark.parametrize("name", ["lab", "images"])
def test_a_foreign_package_is_named_with_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('foreign code was run')\n")
    code = "import conformance.cli as c, sys; sys.path.insert(0, sys.argv.pop(1)); c.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "list", "stages"],
        env={**os.environ, "PYTHONPATH": str(cli.HOME)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"a foreign package {name!r} at {tmp_path / name} hides its own" in done.stderr
    assert "Traceback" not in done.stderr


def test_our_own_packages_are_not_foreign() -> None:
    assert cli.foreign_package() == ""


def test_the_latest_link_follows_the_newest_default_folder(tmp_path: Path) -> None:
    first = folders.prepare_folder(folders.default_folder(tmp_path))
    second = folders.prepare_folder(folders.default_folder(tmp_path))
    assert first != second
    assert (tmp_path / "nvme-lab-results" / "latest").resolve() == second


def test_old_results_go_and_named_folders_stay(tmp_path: Path) -> None:
    made = [folders.prepare_folder(tmp_path / "nvme-lab-results" / f"20260101T00000{n}Z") for n in range(5)]
    mine = folders.prepare_folder(tmp_path / "nvme-lab-results" / "mine")
    for folder in made:
        (folder / folders.LOCK).unlink()  # as if the processes that hold the locks had ended
    assert folders.prune(made[-1], newest=2) == [made[1], made[0]]
    assert [folder.exists() for folder in (*made, mine)] == [False, False, True, True, True, True]
    assert not folders.prune(mine, newest=0)
    assert made[2].exists()


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        folders.prepare_folder(tmp_path / "file" / "out")


def test_evidence_of_a_failed_attempt_moves_out_of_the_way(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = folders.evidence_folder(tmp_path, "toy/qemu/read/basic")
        assert folder == tmp_path / "evidence/toy/qemu/read/basic"
        assert not folder.exists()
        folder.mkdir(parents=True)
        (folder / "attempt").write_text(str(attempt))
    failed = tmp_path / "failed/toy/qemu/read"
    assert {f.name: (f / "attempt").read_text() for f in failed.iterdir()} == {"basic": "0", "basic-2": "1"}
