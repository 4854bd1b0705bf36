from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.toolchain import Toolchain
from lab.trace.declarations import Declaration, Declarations
from lab.trace.exact import ECHOES, FIELDS
from lab.trace.translator import EVENTS, Translator

DECLARED = r"""
# comment
pci_nvme_irq_pin(void) "pulsing IRQ pin"
pci_nvme_map_addr(uint64_t addr, uint64_t len) "addr 0x%"PRIx64" len %"PRIu64""
pci_nvme_rw_cb(uint16_t cid, const char *blkname) "cid %"PRIu16" blk '%s'"
pci_nvme_block_status(int64_t offset, int ret, bool zeroed) "offset %"PRId64" ret 0x%x zeroed %d"
disable pci_nvme_post_load_enter(void *n) "n=%p"
pci_nvme_err_mdts(size_t len) "len %zu"
pci_nvme_quoted(int a) "100%% of \"%d\""
pci_cfg_write(const char *dev, uint32_t bus, uint32_t slot, uint32_t func, int offs, int val) "%s %02x:%02x.%x @0x%x <- 0x%x"
vfio_listener(void) "somebody else's"
"""
NOW = "2026-11-20T09:24:32.620772Z "
AT = 1795166672.620772


@pytest.fixture
def declarations(tmp_path: Path) -> Declarations:
    file = tmp_path / "trace-events-all"
    file.write_text(DECLARED)
    return Declarations.load(file, ("pci_nvme_*", "pci_cfg_write"))


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("pci_nvme_irq_pin pulsing IRQ pin", {}),
        ("pci_nvme_map_addr addr 0x200000 len 4096", {"addr": 0x200000, "len": 4096}),
        ("pci_nvme_rw_cb cid 5 blk ''", {"cid": 5, "blkname": ""}),
        ("pci_nvme_rw_cb cid 5 blk 'it's named'", {"cid": 5, "blkname": "it's named"}),
        ("pci_nvme_block_status offset -1 ret 0xfffffffb zeroed 1", {"offset": -1, "ret": 0xFFFFFFFB, "zeroed": 1}),
        ("pci_nvme_post_load_enter n=0x55556ef57e50", {"n": 0x55556EF57E50}),
        ("pci_nvme_post_load_enter n=(nil)", {"n": 0}),
        ("pci_nvme_err_mdts len 9", {"len": 9}),
        ('pci_nvme_quoted 100% of "7"', {"a": 7}),
        (
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x406",
            {"dev": "nvme", "bus": 1, "slot": 0, "func": 0, "offs": 4, "val": 0x406},
        ),
    ],
)
@pytest.mark.parametrize("stamp", [NOW, "4711@1795166672.620772:"], ids=["11.1", "7.2"])
def test_a_line_gives_the_declared_values(
    declarations: Declarations, stamp: str, text: str, args: dict[str, int | str]
) -> None:
    line = declarations.parse(stamp + text)
    assert line is not None
    assert (line.name, line.args) == (text.split()[0], args)
    assert line.t == pytest.approx(AT, abs=1e-6)


def test_a_whole_second_is_printed_without_a_fraction(declarations: Declarations) -> None:
    line = declarations.parse("2026-11-20T09:24:33Z pci_nvme_irq_pin pulsing IRQ pin")
    assert line is not None
    assert line.t == int(AT) + 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "qemu-system-x86_64: terminating on signal 15",
        NOW + "pci_nvme_new_in_a_later_version cid 1",
        NOW + "pci_nvme_map_addr addr 200000 len 4096",
        NOW + "pci_nvme_map_addr addr 0x200000 len 4096 and more",
        NOW + "vfio_listener somebody else's",
        "2026-11-20Tgarbage pci_nvme_irq_pin pulsing IRQ pin",
        "x@y:pci_nvme_irq_pin pulsing IRQ pin",
    ],
)
def test_a_line_that_no_declaration_explains_is_none(declarations: Declarations, text: str) -> None:
    assert declarations.parse(text) is None


def test_a_declaration_has_names_and_a_format_without_macros() -> None:
    assert Declaration.of('pci_nvme_x(const char* a, uint8_t b) "a %s b 0x%"PRIx8""') == Declaration(
        "pci_nvme_x", ("a", "b"), "a %s b 0x%x"
    )
    assert Declaration.of("# a comment (with parentheses)") is None


def test_a_declaration_that_contradicts_itself_is_named() -> None:
    broken = Declaration.of('pci_nvme_x(int a) "no value"')
    assert broken is not None
    with pytest.raises(LabError, match="pci_nvme_x declares 1 values and prints 0"):
        broken.values("no value")


def test_a_file_without_the_events_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "some").write_text('a(void) "b"\n')
    with pytest.raises(LabError, match="declares none of the trace events pci_nvme_"):
        Declarations.load(tmp_path / "some", ("pci_nvme_*",))
    with pytest.raises(LabError, match="cannot be read: No such file"):
        Declarations.load(tmp_path / "none", ("pci_nvme_*",))


def test_every_declaration_of_the_real_file_compiles_and_has_what_the_tables_name(toolchain: Toolchain) -> None:
    assert toolchain.qemu
    assert toolchain.qemu.trace_events
    declared = Declarations.load(toolchain.qemu.trace_events, EVENTS).by_name
    assert len(declared) > 200
    for declaration in declared.values():
        declaration.values("")
    for name, fields in FIELDS.items():
        if name in declared:  # a version may lack one
            assert {parameter for parameter, _ in fields.values()} <= set(declared[name].parameters), name
    core = {name for name in FIELDS if name.rpartition("_")[2] in ("cmd", "read", "write", "identify", "sq", "cq", "prp")}
    assert core | set(Translator._HANDLERS) | ECHOES <= declared.keys()
