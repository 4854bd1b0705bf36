from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.guest import folder
from lab.guest.folder import run_folder, sweep


def test_private_while_it_lasts_and_gone_afterwards(root: Path) -> None:
    with run_folder(root) as mine:
        assert mine.parent == root
        assert mine.stat().st_mode & 0o777 == 0o700
        (mine / "sub").mkdir()
        (mine / "sub" / "file").write_text("text")
    assert not mine.exists()


def test_gone_after_an_exception(root: Path) -> None:
    with pytest.raises(KeyboardInterrupt), run_folder(root) as mine:
        raise KeyboardInterrupt
    assert not mine.exists()


def test_sweep_spares_the_living(root: Path) -> None:
    with run_folder(root) as mine, run_folder(root) as other:
        assert sweep(root) == []
        assert mine.exists()
        assert other.exists()
        assert mine != other


def test_sweep_takes_what_a_killed_owner_left(root: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from lab.guest.folder import run_folder\n"
         "with run_folder(Path(sys.argv[1])) as folder: print(folder, flush=True); sys.stdin.read()", str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with owner:
        assert owner.stdout
        left = Path(owner.stdout.readline().strip())
        assert left.is_dir()
        assert sweep(root) == []
        owner.kill()
        owner.wait()
    assert left.is_dir()
    with run_folder(root):
        assert not left.exists()


def test_a_folder_that_goes_away_during_the_sweep_stays_away(root: Path) -> None:
    gone = root / "run-gone"
    assert not folder._ownerless(gone)
    assert not gone.exists()


def test_what_is_left_of_a_folder_without_a_lock_is_swept(root: Path) -> None:
    (root / "run-half" / "sub").mkdir(parents=True)
    assert sweep(root) == [root / "run-half"]
    assert not (root / "run-half").exists()


def test_a_folder_that_others_can_write_to_is_refused(root: Path) -> None:
    root.chmod(0o777)
    with pytest.raises(LabError, match="only you can write"), run_folder(root):
        pass


def test_a_path_too_long_for_sockets_is_refused_and_removed(root: Path) -> None:
    deep = root / ("d" * 80)
    with pytest.raises(LabError, match="too deep"), run_folder(deep):
        pass
    assert list(deep.glob("run-*")) == []


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("dangling", "a link that leads nowhere"),
        ("file", "File exists"),
        ("below a file", "Not a directory"),
        ("link", "is not a folder that only you can write to"),
    ],
)
def test_what_stands_in_the_place_of_the_root_is_named(root: Path, kind: str, says: str) -> None:
    place = root / "nvme-lab"
    match kind:
        case "dangling":
            place.symlink_to(root / "nowhere")
        case "link":
            (root / "elsewhere").mkdir(mode=0o700)
            place.symlink_to(root / "elsewhere")
        case _:
            place.write_text("")
    with pytest.raises(LabError, match=says) as error, run_folder(place / "runs" if kind == "below a file" else place):
        pass
    assert "XDG_RUNTIME_DIR" in error.value.remedy
    assert list(root.rglob("run-*")) == []
