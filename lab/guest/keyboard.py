"""A keyboard that the lab types on by QMP's send-key: a PC's own PS/2 one, with US layout."""

from __future__ import annotations

from collections.abc import Mapping

from lab.guest.machine import Machine

_PLAIN = {
    "`": "grave_accent", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right", "\\": "backslash",
    ";": "semicolon", "'": "apostrophe", ",": "comma", ".": "dot", "/": "slash", " ": "spc", "\n": "ret", "\t": "tab",
}  # fmt: skip
_SHIFTED = dict(zip('~_+{}|:"<>?!@#$%^&*()', "`-=[]\\;',./1234567890", strict=True))
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LOWER = {**_PLAIN, **{character: character for character in _LETTERS + "0123456789"}}

KEYS: Mapping[str, tuple[str, ...]] = {
    **{character: (key,) for character, key in _LOWER.items()},
    **{character: ("shift", _LOWER[below]) for character, below in _SHIFTED.items()},
    **{letter.upper(): ("shift", letter) for letter in _LETTERS},
}
"""Character to the keys that are pressed together for it, by QMP's names (QKeyCode)."""

OF_A_TERMINAL: Mapping[str, tuple[str, ...]] = {"\r": ("ret",), "\x7f": ("backspace",), "\x1b": ("esc",)}
"""What a terminal sends for keys that are no characters."""

HOLD_MS = 1
"""From press to release. Who types waits for the echo, so that no keyboard's buffer overflows."""


def press(machine: Machine, character: str) -> None:
    """Press and release the keys of one character; KeyError where the keyboard has none."""
    _press(machine, KEYS[character])


def press_all(machine: Machine, typed: bytes) -> None:
    """Type text without waiting for its echo. Characters without a key are left out."""
    for character in typed.decode("ascii", "ignore"):
        if keys := KEYS.get(character) or OF_A_TERMINAL.get(character):
            _press(machine, keys)


def _press(machine: Machine, names: tuple[str, ...]) -> None:
    keys = [{"type": "qcode", "data": name} for name in names]
    machine.qmp("send-key", {"keys": keys, "hold-time": HOLD_MS})
