from __future__ import annotations

from pathlib import Path

import pytest

from lab import settings
from lab.errors import LabError, UsageError


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_precedence_from_default_to_option(tmp_path: Path) -> None:
    user = write(tmp_path / "user" / settings.PROJECT_FILE, 'mirror = "user"\nqemu = "q-user"\nlocked = true\n')
    project = tmp_path / "project" / "deep"
    write(tmp_path / "project" / settings.PROJECT_FILE, 'mirror = "project"\nqemu = "q-project"\n')
    project.mkdir()
    loaded = settings.load(
        {"mirror": "option", "qemu": None},
        environ={"NVME_LAB_MIRROR": "variable", "NVME_LAB_OFFLINE": "yes"},
        folder=project,
        user_file=user,
    )
    assert loaded.mirror == "option"
    assert loaded.qemu == tmp_path / "project" / "q-project"
    assert loaded.locked
    assert loaded.offline
    assert loaded.kernel is None


def test_a_variable_wins_over_both_files(tmp_path: Path) -> None:
    write(tmp_path / settings.PROJECT_FILE, "locked = true\n")
    loaded = settings.load(environ={"NVME_LAB_LOCKED": "0"}, folder=tmp_path, user_file=tmp_path / "none")
    assert loaded.locked is False


def test_a_typo_names_file_key_and_nearest(tmp_path: Path) -> None:
    file = write(tmp_path / settings.PROJECT_FILE, 'miror = "x"\n')
    with pytest.raises(UsageError) as caught:
        settings.load(environ={}, folder=tmp_path, user_file=tmp_path / "none")
    assert str(file) in str(caught.value)
    assert "'miror'" in str(caught.value)
    assert "'mirror'" in str(caught.value)


@pytest.mark.parametrize("text", ['locked = "perhaps"', "qemu = 7", "= broken"])
def test_a_wrong_value_is_a_usage_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / settings.PROJECT_FILE, text)
    with pytest.raises(UsageError, match=str(file)):
        settings.load(environ={}, folder=tmp_path, user_file=tmp_path / "none")


def test_the_cache_follows_xdg_cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = settings.load(environ={}, folder=tmp_path, user_file=tmp_path / "none")
    assert loaded.open_cache() == tmp_path / "nvme-lab"
    assert (tmp_path / "nvme-lab").is_dir()


def test_an_unusable_cache_is_named_with_a_remedy(tmp_path: Path) -> None:
    blocked = write(tmp_path / "file", "")
    with pytest.raises(LabError) as caught:
        settings.Settings(cache=blocked / "cache").open_cache()
    assert str(blocked) in caught.value.what
    assert "NVME_LAB_CACHE" in caught.value.remedy


def test_a_cache_on_a_file_system_that_takes_no_folders_is_refused() -> None:
    with pytest.raises(LabError, match="/proc/nvme-lab"):
        settings.Settings(cache=Path("/proc/nvme-lab")).open_cache()
