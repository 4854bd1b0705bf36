"""Actions drafted from a guest's own help."""

from __future__ import annotations

import pytest

from conformance.onboarding.help_drafts import drafts


@pytest.mark.parametrize(
    ("help", "expected"),
    [
        (
            "help\nload [last step]\nread nsid lba blocks address\n",
            {"load": "load", "read": "read {nsid} {lba} {blocks} {address}"},
        ),
        (
            "nvme info - show devices\nnvme read addr blk# cnt\n",
            {"info": "nvme info", "read": "nvme read {address} {lba} {blocks}"},
        ),
        (
            "  list        list all disks\n  write <dev> <lba> <count>",
            {"list": "list", "write": "write {index} {lba} {blocks}"},
        ),
        ("echo - echo args\nversion of this shell: 3\n$%&\n", {"info": "version"}),
        ("", {}),
    ],
)
def test_commands_are_taken_for_actions(help: str, expected: dict[str, str]) -> None:
    assert dict(drafts(help)) == expected


def test_the_first_of_several_commands_is_taken() -> None:
    assert dict(drafts("info\nnvme info\n")) == {"info": "info"}
