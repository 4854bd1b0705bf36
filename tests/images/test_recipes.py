from __future__ import annotations

from pathlib import Path

import pytest

from images import recipe
from lab.errors import UsageError

GOOD = '[closures.one]\nsuites = ["bookworm"]\npackages = ["x"]\n'


@pytest.mark.parametrize("name", recipe.names())
def test_the_shipped_recipes_are_valid(name: str) -> None:
    loaded = recipe.load(name)
    if loaded.image:
        assert {loaded.image.kernel, loaded.image.tools} <= set(loaded.closures)
        assert (recipe.RECIPES / loaded.image.init).is_file()


def test_closure_names_are_unique_over_all_recipes() -> None:
    names = [closure for name in recipe.names() for closure in recipe.load(name).closures]
    assert len(names) == len(set(names)) > 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + 'pakages = ["y"]\n', ["'closures.one.pakages'", "'packages'"]),
        (GOOD + '[imag]\ninit = "x"\n', ["'imag'", "'image'"]),
        (GOOD + '[image.python]\nprogramm = "x"\n', ["'image.python.programm'", "'program'"]),
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
