"""Several controllers, shared and private namespaces, and what a power cut loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.errors import UsageError
from lab.nvme import commands as nvme
from lab.nvme.features import Fid
from lab.nvme.identify import Cns, ControllerList, IdentifyController, IdentifyNamespace, NamespaceList
from lab.nvme.registers import CC

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

SHARED = Namespace(nsid=1, blocks=64, shared=True)
PRIVATE = Namespace(nsid=2, blocks=64)


def pair(make_host: MakeHost) -> list[Host]:
    """Two controllers with one shared namespace, and one each for itself under the same id."""
    spec = DeviceSpec(
        controllers=tuple(Controller(id=id, serial="SAME", namespaces=(SHARED, PRIVATE)) for id in ("nv0", "nv1"))
    )
    return [host.up() for host in make_host.many(spec)]


def put(host: Host, lba: int, text: bytes, nsid: int = 1, **fields: int) -> None:
    buffer = host.pages()
    host.poke(buffer, text.ljust(512))
    host.admin(nvme.Write.of(NSID=nsid, SLBA=lba, PRP1=buffer, **fields), 1)


def block(host: Host, lba: int, nsid: int = 1) -> bytes:
    return host.data(nvme.Read.of(NSID=nsid, SLBA=lba), 512, qid=1).rstrip(b" \0")


def test_one_subsystem(make_host: MakeHost) -> None:
    first, second = pair(make_host)
    found = [IdentifyController(host.data(nvme.Identify.of(CNS=Cns.CONTROLLER))) for host in (first, second)]
    assert [one.CNTLID for one in found] == [0, 1]
    assert all(one.CMIC.MULTI_CONTROLLER for one in found)
    assert found[0].SUBNQN == found[1].SUBNQN
    assert ControllerList(first.data(nvme.Identify.of(CNS=Cns.CONTROLLERS))).ids == (0, 1)
    assert ControllerList(first.data(nvme.Identify.of(CNS=Cns.ATTACHED_CONTROLLERS, NSID=1))).ids == (0, 1)
    assert IdentifyNamespace(first.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=1))).NMIC.SHARED
    assert not IdentifyNamespace(first.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=2))).NMIC.SHARED


def test_shared_is_shared_and_private_is_private(make_host: MakeHost) -> None:
    first, second = pair(make_host)
    put(first, 3, b"ours")
    put(first, 3, b"mine", nsid=2)
    assert block(second, 3) == b"ours"
    assert block(second, 3, nsid=2) == b""


def test_controllers_that_share_nothing_are_strangers(make_host: MakeHost) -> None:
    spec = DeviceSpec(controllers=tuple(Controller(id=id, serial=id, namespaces=(PRIVATE,)) for id in ("nv0", "nv1")))
    first, second = (host.up() for host in make_host.many(spec))
    for host in (first, second):
        found = IdentifyController(host.data(nvme.Identify.of(CNS=Cns.CONTROLLER)))
        assert (found.CNTLID, found.CMIC) == (0, 0)
        assert ControllerList(host.data(nvme.Identify.of(CNS=Cns.CONTROLLERS))).ids == (0,)
    first.disable()
    assert second.csts.RDY


def test_detaching_from_one_leaves_the_other(make_host: MakeHost) -> None:
    first, second = pair(make_host)
    buffer = first.pages()
    first.poke(buffer, ControllerList.holding([1]))
    second.admin(nvme.SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=1 << 8))
    second.submit(nvme.AsyncEventRequest.of())
    first.admin(nvme.NamespaceAttachment.of(SEL=1, NSID=1, PRP1=buffer))
    assert NamespaceList(first.data(nvme.Identify.of(CNS=Cns.ACTIVE_NAMESPACES))).ids == (1, 2)
    assert len(second.completions()) == 1, "the other host hears of it"
    assert NamespaceList(second.data(nvme.Identify.of(CNS=Cns.ACTIVE_NAMESPACES))).ids == (2,)


def test_a_subsystem_reset_reaches_all_of_it(make_host: MakeHost) -> None:
    spec = DeviceSpec(
        controllers=tuple(Controller(id=id, serial="SAME", namespaces=(SHARED,), cap={"NSSRS": 1}) for id in ("nv0", "nv1"))
    )
    first, second = (host.up() for host in make_host.many(spec))
    first.function.write(0x20, 4, 0x4E564D65)
    assert not first.csts.RDY
    assert not second.csts.RDY


@pytest.mark.parametrize("nsids", [(1, 1), (0,), (0xFFFF_FFFF,)])
def test_namespace_ids_that_cannot_be(make_host: MakeHost, nsids: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="namespace id"):
        make_host(namespaces=tuple(Namespace(nsid=nsid, blocks=8) for nsid in nsids))


# -- power cuts -----------------------------------------------------------------------------------------------------


def test_a_power_cut_loses_what_was_not_flushed(make_host: MakeHost) -> None:
    host = make_host().up()
    put(host, 0, b"flushed")
    host.admin(nvme.Flush.of(NSID=1), 1)
    put(host, 0, b"cached")
    put(host, 0, b"cached again")
    put(host, 1, b"cached")
    put(host, 2, b"forced", FUA=1)
    put(host, 3, b"cached")
    put(host, 3, b"forced over it", FUA=1)
    assert block(host, 0) == b"cached again", "until then it is there"
    assert host.device.device.cut_power() == 4, "writes, also those that others covered"
    host.memory_space()
    assert not host.csts.RDY
    host.up()
    assert [block(host, lba) for lba in range(4)] == [b"flushed", b"", b"forced", b"forced over it"]


@pytest.mark.parametrize("end", ["shutdown", "cache off", "no cache", "broadcast"])
def test_what_makes_writes_durable(make_host: MakeHost, end: str) -> None:
    host = make_host(write_cache=end != "no cache").up()
    if end == "cache off":
        host.admin(nvme.SetFeatures.of(FID=Fid.VOLATILE_WRITE_CACHE, CDW11=0))
    put(host, 5, b"kept")
    if end == "shutdown":
        host.function.write(CC.OFFSET, 4, CC(host.read(CC)).but(SHN=1))
        assert host.device.wait(1)
    if end == "broadcast":
        host.admin(nvme.Flush.of(NSID=nvme.BROADCAST_NSID), 1)
    assert host.device.device.cut_power() == 0
    assert block(host.up(), 5) == b"kept"


def test_a_part_may_survive(make_host: MakeHost) -> None:
    lost = set()
    for seed in (1, 2):
        host = make_host().up()
        for lba in range(32):
            put(host, lba, b"x")
        assert 0 < host.device.device.cut_power(keep=0.5, seed=seed) < 32
        host.up()
        lost.add(tuple(lba for lba in range(32) if not block(host, lba)))
    assert len(lost) == 2, "which part, the seed says"


def test_deallocation_is_durable(make_host: MakeHost) -> None:
    host = make_host().up()
    put(host, 0, b"x")
    host.admin(nvme.WriteZeroes.of(NSID=1), 1)
    host.device.device.cut_power()
    assert block(host.up(), 0) == b""
