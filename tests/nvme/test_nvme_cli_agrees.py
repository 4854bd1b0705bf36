"""`lab.nvme` against nvme-cli, without a device: a shim hands it our bytes, and writes down the commands it builds.

So two programs that share no line read the same bytes (its JSON against our fields), and build the same commands (its words
on the command line against our field names).
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.nvme import commands as c
from lab.nvme.features import Fid
from lab.nvme.fields import Structure
from lab.nvme.identify import (
    ControllerList,
    IdentifyController,
    IdentifyControllerNvm,
    IdentifyNamespace,
    IdentifyNamespaceNvm,
    IndependentNamespace,
    LbaFormat,
    NamespaceList,
    NamespaceManagementData,
    PrimaryController,
    namespace_descriptor_list,
    namespace_descriptors,
)
from lab.nvme.logs import EnduranceGroup, ErrorInformation, Smart
from lab.nvme.ranges import CopyRange, DsmRange
from tests.files import executable_folder

if TYPE_CHECKING:
    from tests.nvme.conftest import SecondOpinion

PASSTHRU = struct.Struct("<BBHIIIQQIIIIIIIIII")
"""The kernel's struct nvme_passthru_cmd: what an ioctl carries instead of the submission queue entry."""

SHIM = Path(__file__).with_name("nvme_cli_shim.c")


LENGTH_NOT_TOLD = {c.GetLbaStatus}
"""libnvme 1.3 fetches LBA status with a length of 0, whatever MNDW says."""


@dataclass
class NvmeCli:
    """nvme-cli under the shim; ``folder`` holds answers and the commands seen."""

    opinion: SecondOpinion
    shim: Path
    folder: Path

    def answer(self, opcode: int, selector: int, data: bytes) -> None:
        """Return ``data`` to commands of this opcode whose dword 10 ends in this byte (CNS or LID)."""
        (self.folder / f"answer-{opcode:02x}-{selector:02x}").write_bytes(data)

    def run(self, words: str) -> str:
        """Run ``nvme COMMAND /dev/null OPTIONS``; the device is never touched."""
        command, _, options = words.partition(" ")
        # relative to the shim's folder, for the loader takes a space in LD_PRELOAD for the end of a name
        environment = self.opinion.environment | {"LD_PRELOAD": f"./{self.shim.name}", "NVME_PROOF": str(self.folder)}
        done = subprocess.run(
            [str(self.opinion.nvme_cli), command, "/dev/null", *options.split()],
            env=environment,
            cwd=self.shim.parent,
            input="",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, words: str) -> Any:
        return json.loads(self.run(f"{words} -o json"))

    def last_command(self, words: str) -> tuple[c.Command, bytes]:
        """Return the last command that these words made, and the data it sent."""
        seen = self.folder / "commands"
        seen.unlink(missing_ok=True)
        self.run(words)
        raw, at, command, sent = seen.read_bytes(), 0, c.Command(), b""
        while at < len(raw):
            queue, fields = raw[at : at + 1], PASSTHRU.unpack_from(raw, at + 1)
            opcode, flags, _, nsid, cdw2, cdw3, _, _, _, length, *rest = fields
            at += 1 + PASSTHRU.size
            sqe = struct.pack("<BBHIII24xIIIIII", opcode, flags, 0, nsid, cdw2, cdw3, *rest[:6])
            command = c.decode(sqe, queue == b"a")
            sent = raw[at : at + length] if opcode & 1 else b""
            at += len(sent)
            if command.data_length is not None and type(command) not in LENGTH_NOT_TOLD:
                assert command.data_length == length, command
        return command, sent


@pytest.fixture(scope="module")
def shim(second_opinion: SecondOpinion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with executable_folder(tmp_path_factory.mktemp("shim")) as folder:
        library = folder / "shim.so"
        complaints = second_opinion.compile(SHIM.read_text(), library, "-shared", "-fPIC", "-Wall")
        assert not complaints, complaints
        yield library


@pytest.fixture
def nvme_cli(second_opinion: SecondOpinion, shim: Path, tmp_path: Path) -> NvmeCli:
    return NvmeCli(second_opinion, shim, tmp_path)


def number(theirs: Any, width: int) -> int:
    """nvme-cli's number: it prints wide ones as strings and 32-bit ones as signed."""
    return int(theirs) % (1 << width)


def agree(theirs: dict[str, Any], ours: Structure, names: dict[str, str], other: Collection[str] = ()) -> None:
    """Every value of ``theirs`` but the ``other`` is the field of that name, or the one that ``names`` gives."""
    assert len(theirs) > len(other)
    for key, value in theirs.items():
        if key in other:
            continue
        name = names.get(key, key.upper())
        field = ours.FIELDS[name]
        if isinstance(getattr(ours, name), str):
            assert value.rstrip() == getattr(ours, name), key
        else:
            assert number(value, field.width) == field.bits_of(ours), key


@pytest.mark.parametrize("seed", range(5))
def test_identify_controller(nvme_cli: NvmeCli, seed: int) -> None:
    text = {"SN": "S/N 1", "MN": "A model", "FR": "1.0", "SUBNQN": "nqn.2019-08.org.example:subsystem"}
    ours = IdentifyController(random.Random(seed).randbytes(4096)).but(**text, NPSS=seed)
    nvme_cli.answer(c.Identify.of().OPC, 1, ours)
    theirs = nvme_cli.json("id-ctrl")
    agree(theirs, ours, {}, {"psds", "fguid", "vs"})
    assert len(theirs) > 80
    assert len(theirs["psds"]) == len(ours.power_states) == seed + 1
    for theirs_state, state in zip(theirs["psds"], ours.power_states, strict=True):
        assert theirs_state["max_power"] == state.MP
        assert (theirs_state["flags"] & 1, theirs_state["flags"] >> 1 & 1) == (state.MXPS, state.NOPS)
        assert number(theirs_state["entry_lat"], 32) == state.ENLAT
        assert number(theirs_state["exit_lat"], 32) == state.EXLAT
        for key, name in {"read_tput": "RRT", "read_lat": "RRL", "write_tput": "RWT", "write_lat": "RWL"}.items():
            assert theirs_state[key] & 0x1F == getattr(state, name)
        assert (theirs_state["idle_power"], theirs_state["idle_scale"]) == (state.IDLP, state.IPS)
        assert (theirs_state["active_power"], theirs_state["active_scale"]) == (state.ACTP, state.APS)
        assert theirs_state["active_power_work"] == state.APW


@pytest.mark.parametrize("seed", range(5))
def test_identify_namespace(nvme_cli: NvmeCli, seed: int) -> None:
    ours = IdentifyNamespace(random.Random(seed).randbytes(4096)).but(NLBAF=seed * 3, NULBAF=0)
    ours = ours.but(NSFEAT=ours.NSFEAT | 0x10)  # or nvme-cli leaves out what that bit makes valid
    nvme_cli.answer(c.Identify.of().OPC, 0, ours)
    theirs = nvme_cli.json("id-ns -n 1")
    agree(theirs, ours, {}, {"lbafs", "nguid", "eui64", "vs"})
    assert bytes.fromhex(theirs["nguid"]) == ours.NGUID
    assert bytes.fromhex(theirs["eui64"]) == ours.EUI64
    assert len(theirs["lbafs"]) == len(ours.formats)
    for theirs_format, form in zip(theirs["lbafs"], ours.formats, strict=True):
        assert (theirs_format["ms"], theirs_format["ds"], theirs_format["rp"] & 3) == (form.MS, form.LBADS, form.RP)


def test_format_in_use(nvme_cli: NvmeCli) -> None:
    """The block size that nvme-cli takes from FLBAS for Namespace Management by block size is ours."""
    formats = [LbaFormat.of(LBADS=9), LbaFormat.of(LBADS=9, MS=8), LbaFormat.of(LBADS=12)]
    ours = IdentifyNamespace.of(NSZE=100, NCAP=100, NLBAF=2, FLBAS=2, LBAF=formats)
    assert ours.block_size == 4096
    nvme_cli.answer(c.Identify.of().OPC, 0, ours)
    assert "(in use)" in next(line for line in nvme_cli.run("id-ns -n 1").splitlines() if "lbads:12" in line)


SMART_NAMES = {
    "avail_spare": "AVAILABLE_SPARE",
    "spare_thresh": "SPARE_THRESHOLD",
    "percent_used": "PERCENTAGE_USED",
    "endurance_grp_critical_warning_summary": "ENDURANCE_WARNING",
    "host_read_commands": "HOST_READS",
    "host_write_commands": "HOST_WRITES",
    "controller_busy_time": "BUSY_TIME",
    "num_err_log_entries": "ERROR_LOG_ENTRIES",
    "warning_temp_time": "WARNING_TIME",
    "critical_comp_time": "CRITICAL_TIME",
    "thm_temp1_trans_count": "TMT1_TRANSITIONS",
    "thm_temp2_trans_count": "TMT2_TRANSITIONS",
    "thm_temp1_total_time": "TMT1_TIME",
    "thm_temp2_total_time": "TMT2_TIME",
}


@pytest.mark.parametrize("seed", range(3))
def test_smart(nvme_cli: NvmeCli, seed: int) -> None:
    ours = Smart(random.Random(seed).randbytes(512))
    nvme_cli.answer(c.GetLogPage.of().OPC, 2, ours)
    agree(nvme_cli.json("smart-log"), ours, SMART_NAMES)


ERROR_NAMES = {"cmdid": "CID", "phase_tag": "P", "status_field": "STATUS", "vs": "VSIA", "cs": "CSINFO"}


def test_error_log(nvme_cli: NvmeCli) -> None:
    source = random.Random(1)
    ours = [ErrorInformation(source.randbytes(64)) for _ in range(3)]
    nvme_cli.answer(c.Identify.of().OPC, 1, IdentifyController.of(ELPE=2))
    nvme_cli.answer(c.GetLogPage.of().OPC, 1, b"".join(ours))
    theirs = nvme_cli.json("error-log -e 3")["errors"]
    assert len(theirs) == 3
    for entry, read in zip(ours, theirs, strict=True):
        agree(read, entry, ERROR_NAMES | {"trtype_spec_info": "TTSI"}, {"parm_error_location"})
        assert read["parm_error_location"] & 0x7FF == entry.PEL_BIT << 8 | entry.PEL_BYTE


ENDURANCE_NAMES = {
    "avl_spare": "AVAILABLE_SPARE",
    "avl_spare_threshold": "SPARE_THRESHOLD",
    "percent_used": "PERCENTAGE_USED",
    "host_read_cmds": "HOST_READS",
    "host_write_cmds": "HOST_WRITES",
    "media_data_integrity_err": "MEDIA_ERRORS",
    "num_err_info_log_entries": "ERROR_LOG_ENTRIES",
}

Reading = tuple[str, type[Structure], int, int, dict[str, str], set[str]]
READINGS: list[Reading] = [
    ("nvm-id-ctrl", IdentifyControllerNvm, 0x06, 0x06, {}, set()),
    ("nvm-id-ns -n 1", IdentifyNamespaceNvm, 0x06, 0x05, {}, {"elbafs"}),
    ("cmdset-ind-id-ns -n 1", IndependentNamespace, 0x06, 0x08, {}, set()),
    ("primary-ctrl-caps", PrimaryController, 0x06, 0x14, {}, set()),
    ("endurance-log -g 1", EnduranceGroup, 0x02, 0x09, ENDURANCE_NAMES, set()),
]


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading[1].__name__)
def test_other_structures(nvme_cli: NvmeCli, reading: Reading) -> None:
    words, kind, opcode, selector, names, other = reading
    ours = kind(random.Random(2).randbytes(kind.SIZE))
    nvme_cli.answer(opcode, selector, ours)
    agree(nvme_cli.json(words), ours, names, other)


def test_lists(nvme_cli: NvmeCli) -> None:
    nvme_cli.answer(0x06, 0x02, NamespaceList.after(0, {7, 300, 1}))
    nvme_cli.answer(0x06, 0x13, ControllerList.holding([3, 1]))
    assert [entry["nsid"] for entry in nvme_cli.json("list-ns")["nsid_list"]] == [1, 7, 300]
    assert [entry["ctrl_id"] for entry in nvme_cli.json("list-ctrl")["ctrl_list"]] == [1, 3]


def test_namespace_descriptors(nvme_cli: NvmeCli) -> None:
    ours = namespace_descriptor_list(eui64=b"12345678", nguid=b"1234567890123456", csi=2)
    nvme_cli.answer(0x06, 0x03, ours)
    theirs = nvme_cli.json("ns-descs -n 1")["ns-descs"]
    assert [entry["nidt"] for entry in theirs] == [kind for kind, _ in namespace_descriptors(ours)] == [1, 2, 4]
    assert [entry["nidl"] for entry in theirs] == [len(data) for _, data in namespace_descriptors(ours)]
    assert bytes.fromhex(theirs[0]["eui64"]) == b"12345678"


ALL = c.BROADCAST_NSID
BUILT: dict[str, c.Command] = {
    "id-ctrl": c.Identify.of(CNS=1),
    "id-ns -n 5": c.Identify.of(NSID=5, CNS=0),
    "id-ns -n 5 --force": c.Identify.of(NSID=5, CNS=0x11),
    "list-ns -n 3": c.Identify.of(NSID=2, CNS=2),
    "list-ctrl -c 9": c.Identify.of(CNS=0x13, CNTID=9),
    "nvm-id-ns -n 5": c.Identify.of(NSID=5, CNS=5, CSI=0),
    "smart-log": c.GetLogPage.reading(2, 512, NSID=ALL),
    "get-log -i 5 -l 4096 -o 8192 -s 9 -S 10 -U 3 -y 1 -r -n 4": c.GetLogPage.reading(
        5, 4096, 8192, NSID=4, LSP=9, LSI=10, UIDX=3, CSI=1, RAE=1
    ),
    "get-feature -f 0x0c -s 2 -n 1": c.GetFeatures.of(NSID=1, FID=Fid.AUTONOMOUS_POWER_STATE_TRANSITION, SEL=2),
    "get-feature -n 1 -f 4 -c 0x30000": c.GetFeatures.of(NSID=1, FID=Fid.TEMPERATURE_THRESHOLD, CDW11=0x30000),
    "set-feature -n 1 -f 7 -v 0x30004 --save": c.SetFeatures.of(NSID=1, FID=Fid.NUMBER_OF_QUEUES, CDW11=0x30004, SV=1),
    "format -n 1 -l 2 -s 2 -i 1 -p 1 -m 1 --force": c.FormatNvm.of(NSID=1, LBAFL=2, SES=2, PI=1, PIL=1, MSET=1),
    "delete-ns -n 5": c.NamespaceManagement.of(NSID=5, SEL=1),
    "fw-commit -s 3 -a 2 -b 1": c.FirmwareCommit.of(FS=3, CA=2, BPID=1),
    "device-self-test -n 1 -s 2": c.DeviceSelfTest.of(NSID=1, STC=2),
    "sanitize -a start-overwrite -d -i -n 3 -u -p 0xa5": c.Sanitize.of(
        SANACT=3, NDAS=1, OIPBP=1, OWPASS=3, AUSE=1, OVRPAT=0xA5
    ),
    "security-recv -n 1 -x 512 -N 4 -p 2 -s 0x0304 -t 512": c.SecurityReceive.of(NSID=1, NSSF=4, SECP=2, SPSP=0x304, AL=512),
    "get-lba-status -n 1 -s 0x100000002 -m 63 -a 0x10 -l 9": c.GetLbaStatus.of(
        NSID=1, SLBA=0x1_0000_0002, MNDW=63, ATYPE=0x10, RL=9
    ),
    "virt-mgmt -c 7 -r 1 -a 8 -n 9": c.VirtualizationManagement.of(CNTLID=7, RT=1, ACT=8, NR=9),
    "capacity-mgmt -o 3 -i 4 -l 5 -u 6": c.CapacityManagement.of(OPER=3, ELID=4, CAPL=5, CAPU=6),
    "lockdown -o 5 -f 1 -p 1 -s 2 -U 3": c.Lockdown.of(OFI=5, IFC=1, PRHBT=1, SCP=2, UIDX=3),
    "dir-receive -n 1 -l 16 -D 1 -S 2 -O 2": c.DirectiveReceive.of(NSID=1, NUMD=3, DTYPE=1, DSPEC=2, DOPER=2),
    "flush -n 3": c.Flush.of(NSID=3),
    "write-zeroes -n 1 -s 0x100000002 -c 7 -d -l -f -p 5": c.WriteZeroes.of(
        NSID=1, SLBA=0x1_0000_0002, NLB=7, DEAC=1, LR=1, FUA=1, PRINFO=5
    ),
    "write-uncor -n 1 -s 3 -c 4": c.WriteUncorrectable.of(NSID=1, SLBA=3, NLB=4),
    "verify -n 1 -s 3 -c 4 -f -C": c.Verify.of(NSID=1, SLBA=3, NLB=4, FUA=1, STC=1),
    "resv-report -n 1 -d 63 -e": c.ReservationReport.of(NSID=1, NUMD=63, EDS=1),
}


@pytest.mark.parametrize("words", BUILT)
def test_commands_are_built_alike(nvme_cli: NvmeCli, words: str) -> None:
    command, _ = nvme_cli.last_command(words)
    assert command == BUILT[words]
    assert not command.reserved


def test_read_is_built_alike(nvme_cli: NvmeCli) -> None:
    nvme_cli.answer(0x06, 0, IdentifyNamespace.of(NSZE=1 << 40, NCAP=1, LBAF=[LbaFormat.of(LBADS=9)]))
    command, _ = nvme_cli.last_command("read -n 1 -s 0x100000002 -c 7 -z 4096 -f -l -p 3 -a 4 -m 5 -r 6")
    assert command == c.Read.of(NSID=1, SLBA=0x1_0000_0002, NLB=7, FUA=1, LR=1, PRINFO=3, LBAT=4, LBATM=5, ILBRT=6)


def test_write_is_built_alike(nvme_cli: NvmeCli, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 4096)
    nvme_cli.answer(0x06, 0, IdentifyNamespace.of(NSZE=1 << 40, NCAP=1, LBAF=[LbaFormat.of(LBADS=9)]))
    command, sent = nvme_cli.last_command(f"write -n 1 -s 2 -c 7 -z 4096 -d {tmp_path}/data -f -T 1 -S 9 -D 0x40")
    assert command == c.Write.of(NSID=1, SLBA=2, NLB=7, FUA=1, DTYPE=1, DSPEC=9, DSM=0x40)
    assert sent == b"x" * 4096


WithData = tuple[str, c.Command, Callable[[bytes], bool]]
SENT: list[WithData] = [
    (
        "dsm -n 1 -d -w -a 1,2 -b 3,4 -s 5,6",
        c.DatasetManagement.of(NSID=1, NR=1, AD=1, IDW=1),
        lambda data: data == DsmRange.of(CATTR=1, LENGTH=3, SLBA=5) + DsmRange.of(CATTR=2, LENGTH=4, SLBA=6),
    ),
    (
        "copy -n 1 -d 16 -s 5,6 -b 3,4 -f -p 2 -P 5 -T 1 -S 7",
        c.Copy.of(NSID=1, SDLBA=16, NR=1, FUA=1, PRINFOW=2, PRINFOR=5, DTYPE=1, DSPEC=7),
        # their reserved bytes hold what lay in their memory before
        lambda data: [(entry.SLBA, entry.NLB) for entry in (CopyRange(data), CopyRange(data[32:]))] == [(5, 3), (6, 4)],
    ),
    (
        "create-ns -s 0x100000001 -c 90 -f 2 -d 1 -m 1 -a 3 -i 4 -l 5 -y 0",
        c.NamespaceManagement.of(SEL=0),
        lambda data: (
            data
            == NamespaceManagementData.of(NSZE=0x1_0000_0001, NCAP=90, FLBAS=2, DPS=1, NMIC=1, ANAGRPID=3, NVMSETID=4, LBSTM=5)
        ),
    ),
    (
        "attach-ns -n 5 -c 1,3",
        c.NamespaceAttachment.of(NSID=5, SEL=0),
        lambda data: ControllerList(data).ids == (1, 3),
    ),
    ("detach-ns -n 5 -c 2", c.NamespaceAttachment.of(NSID=5, SEL=1), lambda data: ControllerList(data).ids == (2,)),
    (
        "resv-register -n 1 -c 2 -k 3 -r 2 -p 3 -i",
        c.ReservationRegister.of(NSID=1, RREGA=2, CPTPL=3, IEKEY=1),
        lambda data: struct.unpack("<QQ", data) == (2, 3),
    ),
    (
        "resv-acquire -n 1 -c 2 -p 3 -t 4 -a 1 -i",
        c.ReservationAcquire.of(NSID=1, RACQA=1, RTYPE=4, IEKEY=1),
        lambda data: struct.unpack("<QQ", data) == (2, 3),
    ),
    (
        "resv-release -n 1 -c 2 -t 4 -a 1",
        c.ReservationRelease.of(NSID=1, RRELA=1, RTYPE=4),
        lambda data: struct.unpack("<Q", data) == (2,),
    ),
]


@pytest.mark.parametrize("case", SENT, ids=lambda case: case[0].partition(" ")[0])
def test_commands_with_data_are_built_alike(nvme_cli: NvmeCli, case: WithData) -> None:
    words, expected, right = case
    command, sent = nvme_cli.last_command(words)
    assert command == expected
    assert right(sent), sent.hex()


def test_firmware_download_is_built_alike(nvme_cli: NvmeCli, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(8192))
    command, _ = nvme_cli.last_command(f"fw-download -f {tmp_path}/image -x 4096")
    assert command == c.FirmwareDownload.of(NUMD=1023, OFST=1024)
