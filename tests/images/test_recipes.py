from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from images import recipe
from lab.errors import UsageError

GOOD = '[closures.one]\nsuites = ["bookworm"]\npackages = ["x"]\n'


@pytest.mark.parametrize("name", recipe.names())
def test_the_shipped_recipes_are_valid(name: str) -> None:
    loaded = recipe.load(name)
    if loaded.image:
        assert {loaded.image.kernel, loaded.image.tools, *loaded.image.foreign} <= set(loaded.closures)
        assert (recipe.RECIPES / loaded.image.init).is_file()


def test_a_closure_name_means_the_same_in_all_recipes() -> None:
    closures = [item for name in recipe.names() for item in recipe.load(name).closures.items()]
    meant = dict(closures)
    assert len(meant) > 2
    assert all(meant[name] == closure for name, closure in closures)


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    shutil.copy(recipe.RECIPES / "linux.toml", tmp_path)
    own = '[image]\nkernel = "own"\nforeign.own = ["/bin/x"]\n[closures.own]\nsuites = ["trixie"]\npackages = ["x"]\n'
    (tmp_path / "mine.toml").write_text(f'extends = "linux"\n{own}')
    mine, base = recipe.load("mine", tmp_path), recipe.load("linux")
    assert mine.image is not None
    assert base.image is not None
    assert mine.image == base.image.model_copy(update={"kernel": "own", "foreign": {"own": ["/bin/x"]}})
    assert set(mine.closures) == {"own", *base.closures}
    (tmp_path / "mine.toml").write_text(f'extends = "linus"\n{own}')
    with pytest.raises(UsageError, match=r"no recipe 'linus'.*'linux'"):
        recipe.load("mine", tmp_path)


def test_a_recipe_without_an_image_is_extended(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(GOOD)
    (tmp_path / "mine.toml").write_text('extends = "base"\n' + GOOD.replace("one", "two"))
    mine = recipe.load("mine", tmp_path)
    assert set(mine.closures) == {"one", "two"}
    assert mine.image is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + 'pakages = ["y"]\n', ["closures.one.pakages: unknown key", "'packages'"]),
        (GOOD + '[imag]\ninit = "x"\n', ["imag: unknown key", "'image'"]),
        (GOOD + '[image.python]\nprogramm = "x"\n', ["image.python.programm: unknown key", "'program'"]),
        ('[closures.one]\nsuites = []\npackages = ["x"]\n', ["closures.one.suites", "at least 1"]),
        (GOOD + "packages = ", ["not valid TOML"]),
    ],
)
def test_an_error_names_file_key_and_nearest(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        recipe.load("own", tmp_path)
    assert all(word in str(caught.value) for word in [str(tmp_path / "own.toml"), *words])


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'linux'"):
        recipe.load("linus")
