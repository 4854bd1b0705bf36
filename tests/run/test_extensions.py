"""What another package brings, installed as packages are: used in a run, listed, completed; and named where it is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "sample_package"


def install(source: Path, site: Path) -> None:
    """As pip would: the package, and a dist-info with its name, version and entry points."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    shutil.copytree(source / "nvme_lab_sample", site / "nvme_lab_sample", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"nvme_lab_sample-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) for group, points in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    install(SAMPLE, folder)
    return folder


def nvme_lab(site: Path, *arguments: str, module: str = "conformance.cli", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=site.parent, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), **env},
    )  # fmt: skip


def listed(site: Path, what: str) -> list[dict[str, Any]]:
    done = nvme_lab(site, "list", what, "--json")
    assert done.returncode == 0, done.stderr
    content: list[dict[str, Any]] = json.loads(done.stdout)
    return content


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_adapter_driver_behaviour_and_check_of_another_package_are_used_in_a_run(site: Path, jobs: str) -> None:
    selected = ("--scenario", "read/sample-worn", "--scenario", "read/basic", "--scenario", "read/sizes")
    done = nvme_lab(site, "run", "--driver", "sample", *selected, "--jobs", jobs, "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((site.parent / "out/results.json").read_text())
    (verdict,) = [v for v in results["verdicts"] if v["check"] == "read/sample-status"]
    assert (verdict["outcome"], verdict["scenario"], verdict["device"]) == ("PASS", "read/sample-worn", "lab")
    assert verdict["findings"][0]["actual"] == "status 0x7c7"
    identity = json.loads((site.parent / "out/evidence/sample/lab/read/sample-worn/identity.json").read_text())
    assert identity["driver"]["adapter"] == "sample"
    assert identity["scenario"]["faults"][0]["behaviour"] == "sample-wear"


def test_its_check_can_fail(site: Path) -> None:
    checks = site / "nvme_lab_sample" / "checks.py"
    checks.write_text(checks.read_text().replace("asked.status == STATUS", "asked.status != STATUS"))
    done = nvme_lab(site, "run", "--driver", "sample", "--check", "read/sample-status")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL  read/sample-status  sample on lab, read/sample-worn" in done.stdout


def test_the_pytest_plugin_knows_it_too(site: Path) -> None:
    options = ("--nvme-driver", "sample", "--nvme-check", "read/sample-status", "--nvme-out", "out")
    done = nvme_lab(site, "--pyargs", "conformance", *options, "-p", "no:cacheprovider", module="pytest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_it_is_listed_like_what_is_shipped(site: Path) -> None:
    assert "sample" in {driver["name"] for driver in listed(site, "drivers")}
    assert "read/sample-status" in {check["id"] for check in listed(site, "checks")}
    assert "read/sample-worn" in {scenario["id"] for scenario in listed(site, "scenarios")}
    (wear,) = [fault for fault in listed(site, "faults") if fault["name"] == "sample-wear"]
    assert wear["arguments"] == {"sc": 0xC5}


def test_without_the_package_nothing_of_it_is_known(site: Path) -> None:
    empty = site.parent / "empty"
    empty.mkdir()
    done = nvme_lab(empty, "run", "--driver", "sample")
    assert done.returncode == 4
    assert "there is no driver 'sample'" in done.stderr


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("checks.py", ("run", "--driver", "reference", "--stage", "detect")),
        ("adapter.py", ("run", "--driver", "sample", "--stage", "detect")),
        ("behaviour.py", ("list", "faults")),
        ("__init__.py", ("run", "--driver", "sample", "--stage", "detect")),
    ],
)
def test_a_broken_package_is_named(site: Path, file: str, arguments: tuple[str, ...]) -> None:
    (site / "nvme_lab_sample" / file).write_text("import no_such_module\n")
    done = nvme_lab(site, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the package nvme-lab-sample 1.2: 'sample" in done.stderr
    assert "cannot be imported: ModuleNotFoundError(\"No module named 'no_such_module'\")" in done.stderr
    assert "remedy: repair that package, or uninstall it" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_lists_packages_and_which_is_broken(site: Path) -> None:
    (site / "nvme_lab_sample" / "behaviour.py").write_text("import no_such_module\n")
    listed = json.loads(nvme_lab(site, "doctor", "--json").stdout)
    states = {finding["name"]: finding["state"] for finding in listed if ": sample" in finding["name"]}
    assert states == {
        "adapters: sample": "ok", "drivers: sample": "ok", "behaviours: sample-wear": "warning", "checks: sample": "ok",
        "defects: sample": "ok",
    }  # fmt: skip


def test_a_broken_package_ends_pytest_in_order(site: Path) -> None:
    (site / "nvme_lab_sample" / "checks.py").write_text("import no_such_module\n")
    done = nvme_lab(site, "--pyargs", "conformance", "--nvme-driver", "reference", module="pytest")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the package nvme-lab-sample 1.2" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "content", "arguments", "says"),
    [
        ("adapter.py", "Sample = 7\n", ("run", "--driver", "sample"), "is not an adapter's factory, but 7"),
        ("__init__.py", "MANIFEST = 7\n", ("run", "--driver", "sample"), "is not a manifest's path, but 7"),
        ("behaviour.py", "Wear = 7\n", ("list", "faults"), "is not a behaviour of that name, but 7"),
    ],
)
def test_what_is_something_else_is_named(site: Path, file: str, content: str, arguments: tuple[str, ...], says: str) -> None:
    (site / "nvme_lab_sample" / file).write_text(content)
    done = nvme_lab(site, *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_two_packages_of_one_name_are_both_named(site: Path) -> None:
    info = site / "other-2.0.dist-info"
    shutil.copytree(site / "nvme_lab_sample-1.2.dist-info", info)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    done = nvme_lab(site, "run", "--driver", "sample")
    assert done.returncode == 2
    assert "the package nvme-lab-sample 1.2" in done.stderr
    assert "the package other 2.0" in done.stderr
    assert "both bring 'sample'" in done.stderr


def test_its_names_are_completed(site: Path) -> None:
    words = {"COMP_WORDS": "nvme-lab run --driver sam", "COMP_CWORD": "3", "_NVME_LAB_COMPLETE": "bash_complete"}
    assert "plain,sample" in nvme_lab(site, **words).stdout.splitlines()


def test_every_public_name_leads_somewhere() -> None:
    from conformance import api

    assert {name: getattr(api, name) for name in api.__all__}
    assert len(set(api.__all__)) == len(api.__all__) > 50
    with pytest.raises(AttributeError, match="nothing"):
        api.nothing  # noqa: B018
