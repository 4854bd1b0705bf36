"""A driver's coverage as text, lcov's format and Cobertura's: a line stands for an instruction, in the order of addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree

from conformance.judging.coverage import CoveredObject
from conformance.judging.models import CoverageEntry
from lab.data.coverage import FunctionCoverage

MOST_NAMED = 3
"""Functions that a line names."""
MOST_SHOWN = 200
"""Functions that the text shows of each object; --format json lists all."""


def percent(executed: int, instructions: int) -> str:
    """Return a share in percent."""
    return f"{100 * executed / instructions:.0f} %" if instructions else "-"


def sentence(entry: CoverageEntry) -> str:
    """Return an object's figures in a line."""
    where = f"{entry.driver} on {entry.device}"
    if entry.reason:
        return f"{where}: not covered: {entry.reason}"
    share = percent(entry.executed, entry.instructions)
    lines = f", {entry.lines_executed} of {entry.lines} source lines" if entry.lines else ""
    return (
        f"{where}: {entry.object}: {share} of its instructions ({entry.executed} of {entry.instructions}), "
        f"{entry.entered} of {len(entry.functions)} functions, {entry.blocks_executed} of {entry.blocks} blocks{lines}"
    )


def text(entries: Iterable[CoverageEntry]) -> str:
    """Return functions by coverage, those that were never entered first, and what scenarios alone reach."""
    lines: list[str] = []
    for entry in entries:
        lines += [sentence(entry)]
        never = entry.never_entered
        if never:
            lines += [f"  never entered, {len(never)}:"]
            lines += [f"    {one.instructions:6}  {one.name}" for one in never[:MOST_SHOWN]]
            lines += [f"    and {len(never) - MOST_SHOWN} more"] if never[MOST_SHOWN:] else []
        for one in [one for one in entry.by_coverage if one.executed][:MOST_SHOWN]:
            share = percent(one.executed, one.instructions)
            where = f"; {one.source}" if one.source else ""
            lines += [f"    {share:>6}  {one.name} ({one.executed} of {one.instructions}; {_scenarios(one.scenarios)}{where})"]
        alone = sorted((one for one in entry.scenarios if one.alone), key=lambda one: -one.alone)
        lines += ["  only one scenario executes them:"] if alone else []
        for scenario in alone:
            entered = f" (alone enters {listed(scenario.functions, MOST_NAMED)})" if scenario.functions else ""
            lines += [f"    {scenario.alone:6}  {scenario.scenario}{entered}"]
        checks = sorted(entry.checks, key=lambda check: -check.executed)
        lines += ["  executed where a check had something to judge:"] if checks else []
        lines += [f"    {check.executed:6}  {check.check} ({_scenarios(check.scenarios)})" for check in checks[:MOST_SHOWN]]
    return "\n".join(lines)


def listed(names: Sequence[str], most: int) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def _scenarios(number: int) -> str:
    return f"{number} scenario{'' if number == 1 else 's'}"


def source_name(item: CoveredObject) -> str:
    """Return the name of an object's listing."""
    return f"{item.driver}-{item.device}-{item.name}.lst"


def listing(item: CoveredObject) -> str:
    """Return the lines that lcov and Cobertura speak of: function and offset of each instruction."""
    lines = []
    for function in item.functions:
        lines += [f"{at:#010x}  {function.name}+{at - function.offset:#x}" for at in function.offsets()]
    return "\n".join(lines) + "\n"


def lcov(objects: Iterable[CoveredObject]) -> str:
    """Return lcov's tracefile (geninfo(1), "FILES"). A line's count is the number of scenarios that executed it."""
    lines: list[str] = []
    for item in objects:
        if item.sources:
            lines += _lcov_of_sources(item)
            continue
        lines += [f"TN:{_plain(item.driver)}_{_plain(item.device)}", f"SF:{source_name(item)}"]
        found = list(_numbered(item))
        lines += [f"FN:{first},{function.name}" for first, function, _ in found]
        lines += [f"FNDA:{max(hits, default=0)},{function.name}" for _, function, hits in found]
        lines += [f"FNF:{len(found)}", f"FNH:{sum(any(hits) for _, _, hits in found)}"]
        lines += [f"DA:{first + n},{hit}" for first, _, hits in found for n, hit in enumerate(hits)]
        counts = [hit for _, _, hits in found for hit in hits]
        lines += [f"LF:{len(counts)}", f"LH:{sum(map(bool, counts))}", "end_of_record"]
    return "\n".join(lines) + "\n"


def _lcov_of_sources(item: CoveredObject) -> Iterator[str]:
    """Yield the records of an object with debug information: one a source file."""
    hits = item.line_hits()
    functions = [(item.sources[f.lines[0][1]], f.lines[0][2], f.name, max(counts)) for f, counts in item.hits() if f.lines]
    for source in sorted({file for file, _ in hits}):
        yield from (f"TN:{_plain(item.driver)}_{_plain(item.device)}", f"SF:{source}")
        own = [(line, name, count) for file, line, name, count in functions if file == source]
        yield from (f"FN:{line},{name}" for line, name, _ in own)
        yield from (f"FNDA:{count},{name}" for _, name, count in own)
        yield from (f"FNF:{len(own)}", f"FNH:{sum(bool(count) for _, _, count in own)}")
        lines = sorted((line, count) for (file, line), count in hits.items() if file == source)
        yield from (f"DA:{line},{count}" for line, count in lines)
        yield from (f"LF:{len(lines)}", f"LH:{sum(bool(count) for _, count in lines)}", "end_of_record")


def cobertura(objects: Iterable[CoveredObject]) -> str:
    """Return Cobertura's coverage-04.dtd: a package is a driver on a device, a class an object, a method a function."""
    root = ElementTree.Element("coverage", {"version": "nvme-lab", "timestamp": "0"})
    ElementTree.SubElement(ElementTree.SubElement(root, "sources"), "source").text = "."
    packages = ElementTree.SubElement(root, "packages")
    all_hits: list[int] = []
    for item in objects:
        found = list(_numbered(item))
        counts = [hit for _, _, hits in found for hit in hits]
        all_hits += counts
        package = ElementTree.SubElement(packages, "package", {"name": f"{item.driver} on {item.device}", **_rates(counts)})
        names = {"name": item.name, "filename": source_name(item)}
        described = ElementTree.SubElement(ElementTree.SubElement(package, "classes"), "class", {**names, **_rates(counts)})
        methods, lines = ElementTree.SubElement(described, "methods"), ElementTree.SubElement(described, "lines")
        for first, function, hits in found:
            method = ElementTree.SubElement(methods, "method", {"name": function.name, "signature": "", **_rates(hits)})
            own = ElementTree.SubElement(method, "lines")
            for n, hit in enumerate(hits):
                for parent in (own, lines):
                    ElementTree.SubElement(parent, "line", {"number": str(first + n), "hits": str(hit), "branch": "false"})
    covered = {"lines-covered": str(sum(map(bool, all_hits))), "lines-valid": str(len(all_hits))}
    root.attrib.update({**_rates(all_hits), **covered, "branches-covered": "0", "branches-valid": "0"})
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _numbered(item: CoveredObject) -> Iterator[tuple[int, FunctionCoverage, list[int]]]:
    line = 1
    for function, hits in item.hits():
        yield line, function, hits
        line += len(hits)


def _rates(hits: list[int]) -> dict[str, str]:
    rate = sum(map(bool, hits)) / len(hits) if hits else 0.0
    return {"line-rate": f"{rate:.4f}", "branch-rate": "0", "complexity": "0"}


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
