"""Answers read from a screen: rows that scroll away, a row that grows, and a screen that was cleared."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.data.manifest import parse
from lab.drivers import adapters, shape
from lab.drivers.screen_prompt import Scroll, joined
from lab.errors import UsageError

WIDTH, HEIGHT = 80, 25


def screen(*rows: str) -> list[str]:
    return [row.ljust(WIDTH) for row in rows] + [" " * WIDTH] * (HEIGHT - len(rows))


def followed(*looks: list[str]) -> Scroll:
    scroll = Scroll(looks[0])
    for look in looks[1:]:
        scroll.take(look)
    return scroll


def said(scroll: Scroll) -> list[str]:
    return [row.rstrip() for row in scroll.all_rows]


def test_rows_that_scroll_away_are_kept() -> None:
    lines = ["> read", *(f"line {number}" for number in range(60)), ">"]
    looks = [screen(*lines[max(0, end - HEIGHT) : end]) for end in (1, 20, 25, 33, 50, 62)]
    scroll = followed(*looks)
    assert said(scroll) == lines
    assert not scroll.is_torn


def test_a_row_may_grow_and_be_written_over() -> None:
    scroll = followed(screen("> x"), screen("> x", "10"), screen("> x", "100%"), screen("> x", "done", ">"))
    assert said(scroll) == ["> x", "done", ">"]
    assert not scroll.is_torn


def test_what_left_the_screen_unread_is_noticed() -> None:
    assert followed(screen("> x"), screen(*(f"line {n}" for n in range(30, 55)))).is_torn
    assert followed(screen("> clear"), screen("> ")).is_torn
    assert not followed(screen(), screen("booting")).is_torn


def test_a_full_row_goes_on_in_the_next() -> None:
    assert joined(["a" * WIDTH, "b".ljust(WIDTH), " " * WIDTH, "c".ljust(WIDTH)]) == "a" * WIDTH + "b\n\nc\n"


@pytest.mark.parametrize("boot", [{"output": "screen"}, {"output": "screen", "input": "serial"}])
def test_keys_go_with_a_screen(boot: dict[str, str]) -> None:
    data = {"name": "x", "adapter": "generic-serial", "boot": {"kernel": "k", "ready": "> ", **boot}}
    with pytest.raises(UsageError, match="keys are typed on a keyboard"):
        shape.check(parse(data, Path("x.toml"), adapters()))
    data["boot"] = {"kernel": "k", "ready": "> ", "output": "screen", "input": "keyboard"}
    shape.check(parse(data, Path("x.toml"), adapters()))
