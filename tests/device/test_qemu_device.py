from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.data.content import areas
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.device.lab import unservable as unservable_by_the_model
from lab.device.qemu import QemuDevice, unservable
from lab.errors import LabError

V7, V11 = (7, 2, 22), (11, 1, 3)
PLAIN = Namespace(blocks=1024, areas=((0, 4), (1000, 24)))
SIMPLE = Controller(serial="s", namespaces=(PLAIN,), mdts=5, io_queues=2, vectors=3)
RP0 = [{"bus": "rp0"}]


def device(*controllers: Controller, folder: Path = Path("/f"), version: tuple[int, ...] = V11) -> QemuDevice:
    return QemuDevice(DeviceSpec(controllers=controllers), folder, version)


def test_one_plain_namespace_is_carried_by_its_controller() -> None:
    it = device(SIMPLE)
    assert it.subsystems == ()
    assert it.devices([{"bus": "pcie.0", "addr": "5"}]) == (
        {
            "driver": "nvme",
            "id": "nv0",
            "bus": "pcie.0",
            "addr": "5",
            "serial": "s",
            "mdts": 5,
            "max_ioqpairs": 2,
            "msix_qsize": 3,
            "dbcs": False,
            "drive": "nv0-1",
            "logical_block_size": 512,
            "physical_block_size": 512,
        },
    )
    assert it.blockdevs == (
        {
            "driver": "raw",
            "node-name": "nv0-1",
            "discard": "unmap",
            "file": {"driver": "file", "filename": "/f/nv0-1.img"},
        },
    )


def test_shadow_doorbells_are_there_where_they_are_wanted() -> None:
    wanted = replace(SIMPLE, shadow_doorbells=True)
    assert device(wanted).devices(RP0)[0]["dbcs"] is True


def test_an_older_qemu_is_not_given_a_property_it_lacks() -> None:
    assert "dbcs" not in device(SIMPLE, version=V7).devices(RP0)[0]


@pytest.mark.parametrize(
    "changes",
    [{"nsid": 2}, {"uuid": "c2ba58d4-6a3e-4b1f-8f7e-0a1b2c3d4e5f"}, {"eui64": 5}, {"nguid": "00" * 16}, {"metadata_size": 8}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_a_controller_cannot_carry_becomes_a_namespace_device(changes: dict[str, Any]) -> None:
    controller, namespace = device(replace(SIMPLE, namespaces=(replace(PLAIN, **changes),))).devices(RP0)
    assert controller["driver"] == "nvme"
    assert "drive" not in controller
    assert "subsys" not in controller
    assert namespace["driver"] == "nvme-ns"
    assert namespace["bus"] == "nv0"
    name, value = next(iter(changes.items()))
    assert namespace["ms" if name == "metadata_size" else name] == value
    assert not {"shared", "detached"} & namespace.keys()  # only a subsystem's namespace may say so


def test_zones_are_those_of_a_namespace_device() -> None:
    zoned = Namespace(blocks=4096, zone_blocks=2048, zone_capacity=1536)
    _, namespace = device(replace(SIMPLE, namespaces=(zoned,))).devices(RP0)
    assert (namespace["zoned"], namespace["zoned.zone_size"], namespace["zoned.zone_capacity"]) == (True, 1 << 20, 768 << 10)
    whole = replace(SIMPLE, namespaces=(replace(zoned, zone_capacity=0),))
    assert device(whole).devices(RP0)[1]["zoned.zone_capacity"] == 1 << 20
    assert unservable_by_the_model(DeviceSpec(controllers=(whole,)), None) is None


def test_zones_have_the_limits_of_the_plan() -> None:
    limited = Namespace(blocks=4096, zone_blocks=2048, max_active_zones=5, max_open_zones=3)
    controller, namespace = device(replace(SIMPLE, namespaces=(limited,), zone_append_limit=2)).devices(RP0)
    assert (namespace["zoned.max_active"], namespace["zoned.max_open"], controller["zoned.zasl"]) == (5, 3, 2)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"zone_blocks": 2047}, "zones of 2047 blocks"),
        ({"zone_blocks": 2048, "zone_capacity": 2049}, "zones of 2048 blocks"),
        ({"zone_blocks": 2048, "max_active_zones": 2, "max_open_zones": 3}, "3 open zones when 2"),
        ({"zone_blocks": 2048, "metadata_size": 8}, "both zones and metadata"),
        ({"zone_blocks": 2048, "areas": ((0, 8),)}, "hold data at the start"),
    ],
)
def test_what_zones_of_the_model_cannot_be(fields: dict[str, Any], named: str) -> None:
    spec = DeviceSpec(controllers=(replace(SIMPLE, namespaces=(Namespace(blocks=4096, **fields),)),))
    assert named in (unservable_by_the_model(spec, None) or "")


def test_a_namespace_that_starts_detached_needs_a_subsystem() -> None:
    it = device(replace(SIMPLE, namespaces=(PLAIN, replace(PLAIN, nsid=2, attached=False))))
    assert it.subsystems == ({"driver": "nvme-subsys", "id": "nvm-subsystem-nv0"},)
    controller, first, second = it.devices(RP0)
    assert controller["subsys"] == "nvm-subsystem-nv0"
    assert (first["detached"], second["detached"]) == (False, True)


def test_controllers_that_share_a_namespace_are_one_subsystem_with_one_image(tmp_path: Path) -> None:
    shared, private = replace(PLAIN, shared=True), replace(PLAIN, nsid=2)
    it = device(
        Controller(id="a", serial="s", namespaces=(shared,)),
        Controller(id="b", serial="s", namespaces=(shared, private)),
        folder=tmp_path,
    )
    assert it.subsystems == ({"driver": "nvme-subsys", "id": "nvm-subsystem"},)
    assert [(d["id"], d.get("subsys"), d.get("shared")) for d in it.devices([*RP0, {"bus": "rp1"}])] == [
        ("a", "nvm-subsystem", None),
        ("a-ns1", None, True),
        ("b", "nvm-subsystem", None),
        ("b-ns2", None, False),
    ]
    assert [b["node-name"] for b in it.blockdevs] == ["a-1", "b-2"]
    it.create_images(1)
    assert (tmp_path / "a-1.img").samefile(tmp_path / "b-1.img")
    assert not (tmp_path / "a-1.img").samefile(tmp_path / "b-2.img")


def test_every_controller_needs_a_place() -> None:
    with pytest.raises(ValueError, match="1 controllers need as many places, not 2"):
        device(SIMPLE).devices([*RP0, *RP0])


def test_an_image_is_sparse_and_holds_its_areas(tmp_path: Path) -> None:
    big = Namespace(blocks=(1 << 32) + 8, block_size=512, areas=((0, 2), ((1 << 32) + 4, 4)))
    device(replace(SIMPLE, namespaces=(big,)), folder=tmp_path).create_images(42)
    image = tmp_path / "nv0-1.img"
    status = image.stat()
    assert status.st_size == big.blocks * 512
    assert status.st_blocks * 512 < 1 << 20
    with image.open("rb") as file:
        for offset, data in areas(42, big):
            file.seek(offset)
            assert file.read(len(data)) == data
        file.seek(2 * 512)
        assert file.read(512) == bytes(512)


def test_an_image_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"none/nv0-1\.img cannot be made: No such file"):
        device(SIMPLE, folder=tmp_path / "none").create_images(1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "2.0"}, "version 2.0"),
        ({"vectors": 0}, "0 MSI-X vectors"),
        ({"io_queues": 0}, "0 I/O queue pairs"),
        ({"mdts": 10}, "MDTS 10"),
        ({"write_cache": False}, "volatile write cache"),
        ({"prefetchable_bar": True}, "not prefetchable"),
        ({"cap": {"DSTRD": 2}}, "CAP field DSTRD"),
        ({"identify": {"ONCS": 0}}, "Identify Controller field ONCS"),
        ({"identify_namespace": {"FLBAS": 0}}, "Identify Namespace field FLBAS"),
        ({"namespaces": (replace(PLAIN, nsid=257),)}, "the highest NSID is 256"),
        ({"namespaces": (replace(PLAIN, block_size=520),)}, "blocks of 520 bytes"),
    ],
)
def test_what_qemu_cannot_be_is_said(changes: dict[str, Any], says: str) -> None:
    spec = DeviceSpec(controllers=(replace(SIMPLE, **changes),))
    for version in (V7, V11):
        assert says in (unservable(spec, version) or "")
    with pytest.raises(LabError, match="use --device lab"):
        QemuDevice(spec, Path("/f"), V11)


@pytest.mark.parametrize(
    ("changes", "properties"),
    [
        ({"cap": {"MQES": 1}}, {"mqes": 1}),
        ({"identify": {"MN": "m", "FR": "f"}}, {"model": "m", "firmware-version": "f"}),
        ({"namespaces": (replace(PLAIN, nguid="11" * 16),)}, {"nguid": "11" * 16}),
    ],
)
def test_what_only_later_versions_can_be(changes: dict[str, Any], properties: dict[str, Any]) -> None:
    controller = replace(SIMPLE, **changes)
    spec = DeviceSpec(controllers=(controller,))
    assert "from QEMU 11.1 on" in (unservable(spec, V7) or "")
    assert unservable(spec, V11) is None
    assert properties.items() <= device(controller).devices(RP0)[-1].items()


def test_a_shared_subsystem_has_one_serial() -> None:
    shared = (replace(PLAIN, shared=True),)
    spec = DeviceSpec(
        controllers=(Controller(id="a", serial="1", namespaces=shared), Controller(id="b", serial="2", namespaces=shared))
    )
    assert "one serial number" in (unservable(spec, V11) or "")
