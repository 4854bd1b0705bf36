"""Which keys stand for a character."""

import string
from typing import Any, cast

import pytest

from lab.guest import keyboard
from lab.guest.machine import Machine

PRINTABLE = set(string.printable) - set("\r\v\f")


def test_a_keyboard_has_every_printable_character_and_each_in_one_way() -> None:
    assert set(keyboard.KEYS) == PRINTABLE
    assert len(set(keyboard.KEYS.values())) == len(keyboard.KEYS)


@pytest.mark.parametrize(
    ("character", "keys"), [("a", ["a"]), ("A", ["shift", "a"]), ("?", ["shift", "slash"]), ("\n", ["ret"]), ("7", ["7"])]
)
def test_keys_are_pressed_together(character: str, keys: list[str]) -> None:
    sent: list[Any] = []

    class Qmp:
        def qmp(self, command: str, arguments: dict[str, Any]) -> None:
            sent.append((command, [key["data"] for key in arguments["keys"]]))

    keyboard.press(cast(Machine, Qmp()), character)
    assert sent == [("send-key", keys)]
