"""The parser on what U-Boot 2023.01 really printed on QEMU's device (recorded/), and on the forms that manifests may use."""

from pathlib import Path
from typing import Any

import pytest

from lab.data.manifest import ActionSyntax
from lab.drivers import find, reading
from lab.guest.console import plain

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return plain((RECORDED / name).read_text())


def words(**given: Any) -> ActionSyntax:
    return ActionSyntax(command="x", **given)


def u_boot(action: str, output: str) -> dict[str, Any]:
    return reading.fields(find("u-boot").actions[action], output)


def test_identify_comes_out_as_u_boot_prints_it_decoding_errors_included() -> None:
    (controller,) = u_boot("identify", recorded("u-boot-identify.txt"))["controllers"]
    assert controller["serial"] == "5PEHCVMVG21MZZSAMJHU"
    assert controller["firmware"] == "11.1.3  "
    assert controller["vendor_id"] == 0x1B36
    # QEMU's device has no Write Uncorrectable and no Reservations but has Dataset Management: U-Boot's bits are one too low.
    assert controller["optional_commands"] == ["write-uncorrectable", "write-zeroes", "save-select", "reservations"]
    assert "dataset-management" in controller["optional_commands_shown"]
    assert "compare" not in controller["optional_commands_shown"]
    assert controller["optional_admin"] == ["security", "format", "namespace-management"]
    # The device has eight formats; U-Boot leaves out the last.
    sizes = [(512, 0), (512, 8), (512, 16), (512, 64), (4096, 0), (4096, 8), (4096, 16)]
    assert controller["lba_formats"] == [{"block_size": size, "metadata": metadata} for size, metadata in sizes]
    assert controller["lba_format"] == 0


def test_list_takes_sizes_and_namespace_ids_from_two_commands() -> None:
    (namespace,) = u_boot("list", recorded("u-boot-list.txt"))["namespaces"]
    assert namespace == {"controller": "5PEHCVMVG21MZZSAMJHU", "blocks": 73024, "block_size": 512, "nsid": 1}


def test_ready_and_info_come_from_the_driver_model() -> None:
    tree = recorded("u-boot-list.txt")
    assert u_boot("ready", tree) == {"ready": True}
    assert u_boot("ready", tree.replace("nvme          0  [ + ]", "nvme          0  [   ]")) == {"ready": False}
    assert u_boot("info", tree) == {"controllers": [{"name": "nvme#0"}]}


def test_a_controller_without_details_says_nothing_of_them() -> None:
    before = "Device 1: Vendor: 0x1b36 Rev: 11.1.3   Prod: 2T58BSXBFLYX6K0F7E4O\n            Type: Hard Disk\n"
    first, second = u_boot("identify", before + recorded("u-boot-identify.txt"))["controllers"]
    assert first == {"vendor_id": 0x1B36, "firmware": "11.1.3  ", "serial": "2T58BSXBFLYX6K0F7E4O"}
    assert len(second["lba_formats"]) == 7


def test_a_command_that_lists_nothing_says_so() -> None:
    assert u_boot("list", "\n") == {"namespaces": []}


def test_a_status_field_is_taken_apart() -> None:
    said = recorded("u-boot-past-end.txt")
    assert reading.status(find("u-boot").actions["read"], said) == {"sct": 0, "sc": 0x80}  # printed as 4080: DNR is set


@pytest.mark.parametrize(
    ("given", "output", "status"),
    [
        ({"success": "OK$"}, "done: OK\n", "success"),
        ({"success": "OK$"}, "one\ndone: no\n", {"words": "done: no"}),
        ({"success": "OK$"}, "", {"words": "(nothing)"}),
        ({"error": "fail"}, "a\nread fails here\nb", {"words": "read fails here"}),
        ({"error": r"sct (?P<sct>\d) sc (?P<sc>0x\w+)"}, "sct 2 sc 0x81", {"sct": 2, "sc": 0x81}),
        ({"error": "fail", "success": "OK"}, "OK but it fails", {"words": "OK but it fails"}),
    ],
)
def test_status(given: dict[str, Any], output: str, status: object) -> None:
    assert reading.status(words(**given), output) == status


def test_numbers_are_converted_and_texts_are_not() -> None:
    pattern = r"(?P<serial>\S+) (?P<blocks>\S+) (?P<block_size>\S+) (?P<timeout_ms>\S+) (?P<version>\S+)"
    found = reading.fields(words(pattern=pattern, bases={"timeout_ms": 16}), "0042 100 0x200 1f 1.4")
    assert found == {"serial": "0042", "blocks": 100, "block_size": 512, "timeout_ms": 31, "version": "1.4"}


def test_a_table_puts_the_drivers_words_into_the_contracts() -> None:
    given = words(pattern=r"cache (?P<cache>\w+)", tables={"cache": {"wb": "volatile"}})
    assert reading.fields(given, "cache wb") == {"cache": "volatile"}
    assert reading.fields(given, "cache other") == {"cache": "other"}


def test_a_flag_that_the_driver_does_not_mention_is_not_shown() -> None:
    given = words(flags={"optional_commands": {"compare": "compare: (?:(yes)|no)", "verify": "verify: (?:(yes)|no)"}})
    assert reading.fields(given, "compare: no") == {"optional_commands": [], "optional_commands_shown": ["compare"]}


def test_what_stands_beside_is_left_out_when_the_numbers_differ() -> None:
    given = words(lists={"namespaces": {"each": r"^disk (?P<blocks>\d+)", "beside": [r"id (?P<nsid>\d+)"]}})
    assert reading.fields(given, "disk 5\ndisk 6\nid 1 id 3")["namespaces"] == [
        {"blocks": 5, "nsid": 1},
        {"blocks": 6, "nsid": 3},
    ]
    assert reading.fields(given, "disk 5\ndisk 6\nid 1")["namespaces"] == [{"blocks": 5}, {"blocks": 6}]


@pytest.mark.parametrize(
    ("form", "output", "data"),
    [
        ("u-boot", "02000000: 00 01 02 ff    ....\n02000004: 41 42    AB\n", "000102ff4142"),
        ("u-boot", "02000000: 03020100 07060504    ........\n", "0001020304050607"),
        ("xxd", "00000000: 0001 02ff 41                             ....A\n", "000102ff41"),
        ("xxd", "nothing of the kind\n", ""),
    ],
)
def test_hex_dumps(form: str, output: str, data: str) -> None:
    assert reading.dumped(form, output) == bytes.fromhex(data)


@pytest.mark.parametrize(
    "echoed",
    ["nvme info\nrest", "nvme info \n\nrest".replace("\n\n", "\n"), "nvme in\nfo\nrest", "nvme i nfo\nrest"],
)
def test_the_echo_goes_however_it_was_wrapped(echoed: str) -> None:
    assert reading.without_echo(echoed, "nvme info") == "rest"


def test_output_without_an_echo_stays() -> None:
    assert reading.without_echo("nvme? no", "nvme info") == "nvme? no"


@pytest.mark.parametrize(
    ("output", "status"), [("unsupported", "unsupported"), ("failed, 4", {"words": "failed, 4"}), ("done", "success")]
)
def test_what_a_version_does_not_know_is_unsupported(output: str, status: object) -> None:
    known = words(unsupported="^unsupported$", success="^done$", error="^failed, .*$")
    assert reading.status(known, output) == status
