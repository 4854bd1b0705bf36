"""What contradicts itself in a manifest of generic-serial: file, key, and what to do about it."""

from pathlib import Path
from typing import Any

import pytest

from lab.data.manifest import ACTIONS, parse
from lab.drivers import shape
from lab.errors import UsageError

BOOT: dict[str, Any] = {"kernel": "k.elf", "ready": "> "}
INFO = {"info": {"command": "i"}}
UNASKED = {"input": "none", "exit_success": 16}


def checked(boot: dict[str, Any], actions: dict[str, Any], **more: Any) -> None:
    data = {"name": "x", "adapter": "x", "boot": {**BOOT, **boot}, "actions": actions, **more}
    shape.check(parse(data, Path("my.toml"), ["x"]))


@pytest.mark.parametrize(
    ("boot", "actions"),
    [
        ({}, INFO),
        ({}, {"info": {}, "read": {"command": "r"}}),  # what the boot printed, and what is asked
        ({"kernel": "", "disk": "d"}, INFO),
        ({"kernel": "", "iso": "i", "firmware": "f"}, INFO),
        ({"kernel": "", "firmware": "f"}, INFO),
        ({"output": "debug-console", "input": "keyboard"}, INFO),
        ({"output": "debug-console", "input": "none"}, {"info": {}}),
        ({**UNASKED, "ready": ""}, {"load": {}, "info": {}}),
        ({**UNASKED, "ready": "", "output": "exit-code"}, {}),
    ],
)
def test_every_boot_shape_is_taken(boot: dict[str, Any], actions: dict[str, Any]) -> None:
    checked(boot, actions)


@pytest.mark.parametrize(
    ("boot", "actions", "message"),
    [
        ({"disk": "d"}, INFO, r"boot\.disk: the guest cannot be booted from kernel and disk at once\n.*keep one of them"),
        ({"kernel": ""}, INFO, r"boot: nothing says what is booted\n.*give kernel, disk, iso, floppy, firmware or nvme"),
        ({"kernel": "", "disk": "d", "append": "x"}, INFO, r"boot\.append: only a kernel takes it\n.*give boot\.kernel"),
        ({"ready": ""}, INFO, r"boot\.ready: this key is required, it is how the lab knows the prompt"),
        ({"ready": "", "input": "none"}, {}, r"boot\.ready: nothing says when the guest has done its work\n.*exit_success"),
        ({"input": "none", "interrupt": "key"}, {}, r"boot\.interrupt: no key can be sent"),
        ({"output": "exit-code", "input": "none"}, {}, r"boot\.exit_success: this key is required"),
        (
            {"output": "exit-code", "exit_success": 1},
            {},
            r'boot\.input: a guest that only gives an exit code.*\n.*input = "none"',
        ),
        ({"output": "debug-console"}, INFO, r'boot\.input: a debug console is no serial line.*\n.*set input = "keyboard"'),
        (UNASKED, INFO, r"actions\.info\.command: nothing can be typed.*\n.*remove this key"),
        (UNASKED, {"read": {}}, r"actions\.read\.command: this key is required: the boot cannot have answered"),
        ({**UNASKED, "output": "exit-code"}, {"info": {}}, r"actions\.info: an exit code answers nothing but load"),
        ({"input": "keyboard"}, {"info": {"command": "größe"}}, r"actions\.info\.command: a US keyboard has no 'ö'"),
        ({"arch": "aarch64", "exit_success": 1}, INFO, r"boot\.exit_success: it needs a PC, and the guest is aarch64"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_remedy(
    boot: dict[str, Any], actions: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=rf"my\.toml: {message}"):
        checked(boot, actions)


def test_a_driver_that_comes_up_with_its_guest_cannot_stop() -> None:
    checked({}, {"load": {"command": "l {until}"}}, stops=["detect"])
    with pytest.raises(UsageError, match=r"my\.toml: stops: a driver that comes up with its guest cannot stop on the way"):
        checked({}, INFO, stops=["detect"])


def test_the_tables_are_about_actions_that_exist() -> None:
    assert shape.ARGUMENTS.keys() | shape.ANSWERABLE_UNASKED <= set(ACTIONS)
    assert shape.OPTIONAL.keys() <= {name for names in shape.ARGUMENTS.values() for name in names}
