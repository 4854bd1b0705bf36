"""What people type by mistake is answered with what they meant."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from conformance.commands import COMMANDS, nvme_lab, run_command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "read"], "did you mean --stage read?"),
        (["run", "read/nlb"], "did you mean --check read/nlb?"),
        (["run", "read/basic"], "did you mean --scenario read/basic?"),
        (["run", "u-boot"], "did you mean --driver u-boot?"),
        (["run", "my.toml"], "did you mean --driver my.toml?"),
        (["run", "zork"], "unexpected extra argument (zork)"),
        (["run", "--driver", "README.md"], "README.md exists, but is no .toml manifest."),
        (["run", "--defect", "x"], "remedy: nvme-lab list defects"),
        (["explain", "read/prp3"], "did you mean 'read/prp2'"),
        (["explain", "READ/PRP2"], "did you mean 'read/prp2'"),
        (["explain", "read"], "remedy: nvme-lab list checks --stage read"),
        (["RUN"], "did you mean 'run'"),
        (["list", "chekcs"], "did you mean 'checks'"),
        (["bench", "frok"], "did you mean 'fork'"),
        (["run", "--jobs", "two"], "'two' is not a whole number."),
        (["run", "--stage", ""], "it names nothing"),
        (["run", "--check", ","], "it names nothing"),
        (["run", "--variant", "zork"], "remedy: nvme-lab list variants"),
        (["run", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["run", "-k", "read"], "--check, --scenario or --stage selects"),
        (["run", "--exitfirst"], "a run goes on after a failure"),
        (["report", "README.md"], "remedy: name the folder that nvme-lab run wrote"),
        (["report", "nowhere", "--template", "README.md"], "--template goes with --format html."),
        (["report", ".", "--baseline", "nosuch", "--format", "html"], "There are no results at nosuch"),
        (["report", ".", "-o", "nosuch/report.txt"], "there is no folder nosuch"),
        (
            ["run", "--driver", "reference", "--kernel", "README.md"],
            "--kernel has no effect: the lab's Linux guest is not used",
        ),
        (["run", "--driver", "u-boot", "--image", "README.md", "--dry-run"], "--image has no effect"),
        (["run", "--driver", "reference", "--qemu", "README.md"], "--qemu has no effect"),
        (["run", "--driver", "u-boot", "--qemu", "/bin/ls", "--dry-run"], "/bin/ls --version does not say QEMU's version"),
    ],
)
def test_mistakes_are_answered_with_what_was_meant(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# no manifest\n")
    assert run_command(words) == 4
    assert says in capsys.readouterr().err


def test_the_defects_are_listed_as_the_remedy_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list", "defects"]) == 0
    assert "read/nlb:one-fewer" in capsys.readouterr().out
    assert run_command(["list", "variants"]) == 0
    assert "io-queues/priority-unused" in capsys.readouterr().out


def test_arguments_of_faults_are_listed_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list", "faults"]) == 0
    said = capsys.readouterr().out
    assert "dnr=1" in said
    assert "{" not in said
    assert "``" not in said


@pytest.mark.parametrize("group", ["list", "bench"])
def test_no_help_is_cut_short(group: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command([group, "--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_numbers_are_called_n_in_every_help() -> None:
    odd = {
        f"{name} {option.opts[0]}"
        for name in COMMANDS
        if (command := nvme_lab.get_command(click.Context(nvme_lab), name))
        for option in command.params
        if isinstance(option, click.Option) and isinstance(option.type, click.types.IntRange | click.types.FloatRange)
        if not option.metavar and not option.is_flag and not option.count
    }
    assert odd == set()
