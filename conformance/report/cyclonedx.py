"""CycloneDX: the bill of materials of a result, as JSON: drivers, QEMU, kernels, packages and the host, with hashes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from conformance.judging.models import Results

SPECIFICATION = "1.5"
SCHEMA = "http://cyclonedx.org/schema/bom-1.5.schema.json"
Component = dict[str, Any]
Hashes = Mapping[str, Mapping[str, str]]


def cyclonedx(results: Results, hashes: Hashes | None = None) -> str:
    """Return the document; ``hashes``: driver → file → SHA-256, where the evidence is at hand.

    It holds no time and no serial number of its own making, so that one result gives one document.
    """
    labs = results.lab.get("merged") or [results.lab]
    components = {str(one["bom-ref"]): one for one in _components(results, labs, hashes or {})}
    document = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": uuid5(NAMESPACE_URL, json.dumps([sorted(components), str(results.lab.get("started"))])).urn,
        "version": 1,
        "metadata": _metadata(results),
        "components": list(components.values()),
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def _metadata(results: Results) -> dict[str, Any]:
    about = f"NVMe driver conformance of {', '.join(results.drivers)}"
    metadata: dict[str, Any] = {
        "tools": {"components": [_component("application", "nvme-lab", str(results.lab.get("version") or ""))]},
        "component": {**_component("application", "nvme-lab-result", ""), "description": about},
    }
    if started := str(results.lab.get("started") or ""):
        metadata["timestamp"] = started
    return metadata


def _components(results: Results, labs: list[Mapping[str, Any]], hashes: Hashes) -> Iterator[Component]:
    for name, entry in results.drivers.items():
        driver = _component("application", name, entry.version or entry.release, group="driver")
        builds = sorted({run.build for run in results.runs if run.driver == name and run.build})
        properties = [("package", entry.package), ("manifest", entry.manifest), *(("build", build) for build in builds)]
        if said := [{"name": f"nvme-lab:{key}", "value": value} for key, value in properties if value]:
            driver["properties"] = said
        if files := [_file(name, file, sha256) for file, sha256 in hashes.get(name, {}).items()]:
            driver["components"] = files
        yield driver
    for lab in labs:
        yield from _toolchain(lab)
        yield from _host(lab.get("host") or {})


def _toolchain(lab: Mapping[str, Any]) -> Iterator[Component]:
    """Yield QEMU, and what the toolchain was unpacked from: the package of a closure is named CLOSURE/PACKAGE."""
    versions: Mapping[str, Mapping[str, Any]] = lab.get("versions") or {}
    for name, facts in versions.items():
        group, _, package = name.rpartition("/")
        component = _component("library" if group else "application", package, str(facts.get("version") or ""), group=group)
        if group:
            component["purl"] = f"pkg:deb/debian/{quote(package, safe='')}@{quote(component['version'], safe='')}"
        yield _hashed(component, facts.get("sha256"))
    qemu = lab.get("qemu") or {}
    if qemu and "qemu" not in versions:
        yield _hashed(_component("application", "qemu", str(qemu.get("version") or "")), qemu.get("sha256"))


def _host(host: Mapping[str, Any]) -> Iterator[Component]:
    if host.get("release"):
        yield _component("operating-system", str(host.get("system") or "host"), str(host["release"]), group="host")
    if host.get("python"):
        yield _component("platform", "python", str(host["python"]), group="host")


def _component(kind: str, name: str, version: str, *, group: str = "") -> Component:
    made: Component = {"type": kind, "bom-ref": "/".join(filter(None, (group, name))) + (f"@{version}" if version else "")}
    return {**made, **({"group": group} if group else {}), "name": name, "version": version}


def _file(driver: str, name: str, sha256: str) -> Component:
    return _hashed({"type": "file", "bom-ref": f"{driver}/{name}#{sha256[:12]}", "name": name}, sha256)


def _hashed(component: Component, sha256: Any) -> Component:
    """Add the SHA-256 of what was unpacked or run, where it is one."""
    if isinstance(sha256, str) and len(sha256) == 64:
        component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return component
