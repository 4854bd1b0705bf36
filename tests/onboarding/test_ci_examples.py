"""The CI examples: they are YAML of the right form, every command line in them is one, and the container's steps work."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from conformance.commands import nvme_lab
from lab.toolchain.mirrors import candidates

ROOT = Path(__file__).parents[2]
CI = ROOT / "docs/ci"
FILES = sorted(CI.iterdir())
VALUES = {
    "DRIVER": "linux", "CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "4", "matrix.shard": "2", "BASELINE": "--baseline old",
    "steps.baseline.outputs.option": "--baseline old",
}  # fmt: skip
"""What the servers put in place of these."""


def lines_of(file: Path) -> Iterator[str]:
    """Return the shell's lines in an example."""
    if file.suffix == ".yml":
        for value in strings(yaml.safe_load(file.read_text())):
            yield from value.splitlines()
    else:
        for _, argument in instructions(file):
            yield argument
        yield from re.findall(r"#   (podman .*)", file.read_text())


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for part in value.values():
                yield from strings(part)
        case list():
            for part in value:
                yield from strings(part)


def filled(line: str) -> str:
    """Return the line with the variables' values."""
    line = re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda name: VALUES.get(name[1], name[1]), line)
    return re.sub(r"\$(\w+)", lambda name: VALUES.get(name[1], name[0]), line)


def commands_of(file: Path) -> list[list[str]]:
    """Every command line of nvme-lab in an example."""
    found = []
    for line in lines_of(file):
        for part in re.findall(r"(?:^|[;&] *|then |nvme-lab )(nvme-lab [^;&>]*)", filled(line)):
            found.append(shlex.split(part)[1:])
        if line.startswith("podman run"):
            words = shlex.split(line)
            found.append(words[words.index("nvme-lab") + 1 :])
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_command_line_is_one(file: Path) -> None:
    found = commands_of(file)
    assert len(found) == len(re.findall("nvme-lab (?:run|report|compare|fetch)", file.read_text())) > 0
    context = click.Context(nvme_lab)
    for name, *arguments in found:
        command = nvme_lab.get_command(context, name)
        assert command, name
        command.make_context(name, list(arguments), parent=context)  # click.UsageError if it is none


def test_no_sparse_image_of_terabytes_is_uploaded() -> None:
    record = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["record"]
    (upload,) = [step["with"] for step in record["steps"] if "upload-artifact" in step.get("uses", "")]
    whole, without = upload["path"].splitlines()
    assert without == f"!{whole}/**/*.img"
    artifacts = yaml.safe_load((CI / "gitlab.yml").read_text())["record"]["artifacts"]
    assert artifacts["exclude"] == [f"{path}/**/*.img" for path in artifacts["paths"]]


def test_github_has_what_its_jobs_refer_to() -> None:
    workflow = yaml.safe_load((CI / "github.yml").read_text())
    assert workflow[True].keys() == {"push", "pull_request"}  # YAML 1.1 reads the key «on» as true
    record, report = workflow["jobs"]["record"], workflow["jobs"]["report"]
    assert report["needs"] == "record"
    assert record["container"]["image"].startswith("debian:")
    shards = record["strategy"]["matrix"]["shard"]
    (merge,) = [step["run"] for step in report["steps"] if step.get("name") == "Merge"]
    assert re.findall(r"shard-\d+", merge) == [f"shard-{number}" for number in shards]
    assert all(f"}}}}/{len(shards)} " in line for line in lines_of(CI / "github.yml") if "--shard" in line)
    for step in (*record["steps"], *report["steps"]):
        assert ("uses" in step) != ("run" in step)


def test_github_takes_nothing_that_a_driver_says_for_a_command() -> None:
    steps = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["record"]["steps"]
    (record,) = [step["run"] for step in steps if "nvme-lab run" in step.get("run", "")]
    said = _run(Path(), record.replace("nvme-lab run", "echo ::error::x; false #").replace("${{ matrix.shard }}", "1")).stdout
    stop, injected, resume = said.splitlines()
    token = stop.removeprefix("::stop-commands::")
    assert len(token) == 36
    assert injected == "::error::x"
    assert resume == f"::{token}::"


def test_gitlab_has_what_its_jobs_refer_to() -> None:
    pipeline = yaml.safe_load((CI / "gitlab.yml").read_text())
    record, report = pipeline["record"], pipeline["report"]
    assert {record["stage"], report["stage"]} == set(pipeline["stages"])
    assert report["needs"] == ["record"]
    shards = re.findall(r"shard-\d+", report["script"][0])
    assert shards == [f"shard-{number}" for number in range(1, record["parallel"] + 1)]
    written = {line.partition(" -o ")[2] for line in report["script"]}
    assert {*report["artifacts"]["reports"].values(), *report["artifacts"]["paths"]} <= written


def test_the_shell_reads_every_line() -> None:
    for file in (CI / "github.yml", CI / "gitlab.yml"):
        for line in lines_of(file):
            if re.match(r"nvme-lab|apt-get|python3|if |echo |export |trap |token|case |/opt", line):
                shell = re.sub(r"\$\{\{ .*? \}\}", "x", line)
                assert subprocess.run(["bash", "-n", "-c", shell], check=False).returncode == 0, line


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository in which the examples' shards have been recorded: of the reference driver, one stage of it."""
    folder = tmp_path_factory.mktemp("repository")
    (record,) = [line for line in lines_of(CI / "github.yml") if line.startswith("nvme-lab run")]
    for shard in range(1, 5):
        _shell(folder, record.replace("${{ matrix.shard }}", str(shard)).replace("--shard", "--stage detect --shard"))
    return folder


UPLOADED = shutil.ignore_patterns("*.img")
"""The examples upload everything but these."""


@pytest.mark.usefixtures("toolchain")
def test_github_merges_and_reports(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(recorded, folder, ignore=UPLOADED)
    steps = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["report"]["steps"]
    own = {step["name"]: step["run"] for step in steps if "run" in step and step["name"] != "Install NVMe Lab"}
    (folder / "baseline").mkdir()
    _shell(folder, own["Merge"])
    shutil.copy(folder / "results.json", folder / "baseline")
    _shell(folder, own["Baseline"])
    (option,) = re.findall("option=(.*)", (folder / "GITHUB_OUTPUT").read_text())
    for name in ("Reports", "No regression"):
        said = _shell(folder, own[name].replace("${{ steps.baseline.outputs.option }}", option))
    assert "0 regressions" in said
    summary = (folder / "GITHUB_STEP_SUMMARY").read_text()
    assert "reference qualifies" in summary
    assert "**0 regressions**" in summary
    assert "Changes since baseline/results.json" in (folder / "report.html").read_text()
    assert (folder / "junit.xml").stat().st_size > 10_000


@pytest.mark.usefixtures("toolchain")
def test_gitlab_merges_and_reports(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(recorded, folder, ignore=UPLOADED)
    report = yaml.safe_load((CI / "gitlab.yml").read_text())["report"]
    said = _shell(folder, "\n".join(report["script"]))
    assert "reference qualifies" in said
    for name in (*report["artifacts"]["paths"], *report["artifacts"]["reports"].values()):
        assert (folder / name).is_file()
    (folder / "shard-3").rename(folder / "lost")
    merged = _run(folder, report["script"][0].replace("shard-3 ", ""))
    assert merged.returncode == 2
    assert "missing of 4 shards: 3" in merged.stderr


def _run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """As the servers do: a shell that ends at the first failure, with nvme-lab on the path."""
    tools = Path(sys.executable).parent
    servers = {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    environment = {**os.environ, **servers, "DRIVER": "reference", "CI": "true", "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _shell(folder: Path, script: str) -> str:
    done = _run(folder, script)
    assert done.returncode == 0, f"{script}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


# -- the container ----------------------------------------------------------------------------------------------------


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, its argument) of a Containerfile; this one has each on a line."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return [(word, argument) for word, _, argument in (line.partition(" ") for line in lines)]


def test_the_container_has_all_that_runs_need_offline() -> None:
    steps = instructions(CI / "Containerfile")
    assert steps[0] == ("FROM", "debian:12-slim")
    fetch = next(at for at, (_, argument) in enumerate(steps) if argument.startswith("nvme-lab fetch"))
    assert steps.index(("ENV", "NVME_LAB_OFFLINE=1")) > fetch  # only what comes later must do without a network
    assert steps[-1] == ("ENTRYPOINT", '["nvme-lab"]')


@pytest.mark.soak
def test_the_containers_steps_work_in_a_fresh_debian(tmp_path: Path) -> None:
    """They are taken one by one in a chroot that debootstrap makes; then runs in there must do without the network.

    Python packages come from a folder: those that this machine's pip finds, for the same Python as Debian 12's.
    """
    assert os.geteuid() == 0, "this test needs root and debootstrap"
    assert shutil.which("debootstrap"), "this test needs root and debootstrap"
    root = tmp_path / "root"
    _done(["debootstrap", "--variant=minbase", "bookworm", str(root), candidates()[0].uri])
    _done([sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(root / "wheels"), str(ROOT)])
    for file in NAMES:
        shutil.copy(f"/{file}", root / file)
    variables = {"HOME": "/root", "LC_ALL": "C.UTF-8", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    for bound in ("proc", "dev"):
        _done(["mount", "--rbind", "--make-rslave", f"/{bound}", str(root / bound)])
    try:
        for word, argument in instructions(CI / "Containerfile"):
            if word in ("ENV", "ARG"):
                name, _, value = argument.partition("=")
                variables[name] = value or "nvme-lab"  # what is in the wheels' folder
            elif word == "RUN":
                _done(["chroot", str(root), "/bin/sh", "-ec", argument], variables)
            elif word == "WORKDIR":
                (root / argument[1:]).mkdir()
        for file in NAMES:
            (root / file).unlink()
        for driver in ("linux", "u-boot"):
            run = f"cd /work && nvme-lab run --driver {driver} --stage detect --out {driver}"
            assert f"Results: {driver}" in _done(["chroot", str(root), "/bin/sh", "-ec", run], variables)
            found = json.loads((root / "work" / driver / "results.json").read_text())
            assert any(verdict["outcome"] == "PASS" for verdict in found["verdicts"])
    finally:
        for bound in ("proc", "dev"):
            subprocess.run(["umount", "--lazy", "--recursive", str(root / bound)], check=False)


NAMES = ("etc/resolv.conf", "etc/hosts")
"""Without these nothing on a network is found."""


def _done(command: list[str], variables: dict[str, str] | None = None) -> str:
    environment = None if variables is None else {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout
