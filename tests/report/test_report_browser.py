"""The HTML report in a browser: it runs without complaint, filters, prints, and can be read and used without eyes or mouse."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from conformance.judging.models import DriverEntry, FindingEntry, KnownEntry, Results, RunEntry, VerdictEntry
from conformance.report.html import Material, html
from conformance.report.witness import witness_of
from conformance.suite.check import Outcome
from conformance.suite.measure import Axis, Measurement, Point, Series
from conformance.wire.decode import WireLine
from conformance.wire.excerpts import Gap
from lab.data.evidence import Evidence
from lab.nvme.commands import Read
from tests.record.recordings import unpack
from tests.report.browser import Browser, Program, Tab
from tests.report.test_report import PASS, result, verdict
from tests.report.test_report_html import NASTY, thousands

CONTRAST = """(() => {
  const luminance = (colour) => {
    const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.match(/[\\d.]+/g).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/rgba\\(.*, 0\\)/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const one of document.querySelectorAll("body *")) {
    if (![...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) || !one.checkVisibility()) continue;
    const style = getComputedStyle(one), front = one.closest("svg") ? style.fill : style.color;
    const [dark, light] = [luminance(front), luminance(behind(one.closest("svg") ?? one))].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found[`${one.tagName}.${one.getAttribute("class")}`] = `${ratio.toFixed(2)} ${front}`;
  }
  return found;
})()"""
"""Texts whose contrast is below 4.5 to 1. Web Content Accessibility Guidelines 2.1, 1.4.3 "Contrast (Minimum)"."""


SMALLEST = """Math.min(...[...document.querySelectorAll("svg text")].map(
  (one) => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a))"""
"""Size of the smallest letters in any drawing, in pixels of the screen."""


@pytest.fixture(scope="module")
def browser(chromium: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(chromium, tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


def show(browser: Browser, folder: Path, text: str, *, width: int = 1280, scheme: str = "light") -> Tab:
    file = folder / "report.html"
    file.write_text(text, encoding="utf-8")
    return Tab(browser, file, width=width, scheme=scheme)


def count(tab: Tab) -> str:
    return str(tab.run("document.getElementById('count').textContent"))


def full(folder: Path) -> str:
    """Return a page with all that a page can have, its failure on a real recording."""
    evidence = unpack("linux-lab-read-basic", folder / "evidence")
    bad = verdict(Outcome.FAIL).model_copy(update={"findings": [_a_read(evidence)], "reason": "because"})
    verdicts = [
        PASS,
        bad,
        verdict(Outcome.FAIL, "read/known", known="it was always so"),
        verdict(Outcome.WARN, "read/advice"),
        verdict(Outcome.INCONCLUSIVE, "read/silent", reason="nothing observed"),
        verdict(Outcome.UNSUPPORTED, "read/mount", reason="no mount"),
    ]
    points = [Point(x=1, y=50), Point(x=8, y=390)]
    bars = [Point(x=1, to=2, y=3), Point(x=2, to=5, y=0), Point(x=5, to=10, y=9)]
    axis = Axis(name="depth", unit="commands")
    results = result(*verdicts)
    results.runs[0].evidence = "evidence"
    results.runs[0].measurements = [
        Measurement(id="a", title="Rate", kind="line", x=axis, y=axis, series=(Series(name="1", points=tuple(points)),)),
        Measurement(id="b", title="Delay", kind="histogram", x=axis, y=axis, series=(Series(name="1", points=tuple(bars)),)),
    ]
    before = result(verdict(Outcome.PASS), verdict(Outcome.PASS, "read/lost"))
    return html(results, Material(witness_of(results, folder), {"toy": {"nvme.ko": "ab12"}}, "the release", before))


def _a_read(evidence: Evidence) -> FindingEntry:
    event = next(e for e in evidence.events() if isinstance(getattr(e, "command", None), Read))
    place = f"device/{event.controller}.rec, record {-event.line}" if event.line < 0 else f"events.jsonl:{event.line}"
    return FindingEntry(ok=False, event=event.line, place=place, expected="8 blocks", actual="7")


def test_thousands_of_verdicts_run_under_the_pages_own_policy(browser: Browser, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, html(thousands()))
    assert count(tab) == "100 of 100 checks, 100 verdicts by driver and device"
    assert tab.complaints() == []


@pytest.mark.parametrize(
    ("act", "left"),
    [
        ("$('search').value = 'read/check-4 SENDS'; $('search').dispatchEvent(new Event('input', {bubbles: true}))", 11),
        ("document.querySelector('input[value=FAIL]').click()", 0),
        ("$('look').click()", 100),
        ("$('level').value = 'R'; $('level').dispatchEvent(new Event('input', {bubbles: true}))", 0),
        ("$('search').value = 'nothing'; filter(); document.querySelector('button[data-stage]').click()", 100),
        ("$('search').value = 'nothing'; filter(); document.querySelector('.verdict li a').click()", 100),
    ],
    ids=["search", "outcome", "needs-a-look", "level", "stage", "link-to-a-hidden-check"],
)
def test_it_filters(browser: Browser, act: str, left: int, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, html(thousands()))
    tab.run(f"(() => {{ {act} }})()")
    assert count(tab).startswith(f"{left} of 100 checks, ")
    hidden = "document.querySelectorAll('.card:not([hidden])').length"
    assert tab.run(hidden) == left
    assert tab.complaints() == []


def test_a_search_in_ten_thousand_verdicts_takes_less_than_a_blink(browser: Browser, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, html(thousands()))
    took = "(() => { const began = performance.now(); filter(); return performance.now() - began; })()"
    tab.run("$('search').value = 'check-4'")
    assert min(tab.run(took) for _ in range(5)) < 100  # ms, of a machine that is busy


def test_what_a_driver_said_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    finding = FindingEntry(ok=False, event=None, place=NASTY, expected=NASTY, actual=NASTY)
    changes = {
        "driver": NASTY,
        "device": NASTY,
        "scenario": NASTY,
        "reason": NASTY,
        "statement": NASTY,
        "check": f"read/{NASTY}",
    }
    bad: VerdictEntry = verdict(Outcome.FAIL).model_copy(update={"findings": [finding], **changes})
    results: Results = result(PASS, bad)
    results.drivers[NASTY] = results.drivers["toy"]
    results.runs.append(RunEntry(driver=NASTY, device=NASTY, scenario=NASTY, stage="read", evidence=NASTY, seconds=1))
    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", html(results, Material(hashes={NASTY: {NASTY: NASTY}})))
    tab = show(browser, tmp_path, without_policy)
    assert tab.complaints() == []  # no alert, no image that was looked for
    assert tab.run("[document.images.length, document.scripts.length, document.querySelectorAll('[onerror]').length]") == [
        0,
        1,
        0,
    ]
    assert "<script>alert(1)</script>" in tab.run("document.body.innerText")


def test_nothing_of_a_hostile_result_its_evidence_and_its_baseline_runs(browser: Browser, tmp_path: Path) -> None:
    """Console output reaches the page as reasons and findings, what the device saw as rows of its wire, figures as drawings."""
    evidence = unpack("linux-lab-read-basic", tmp_path / "evidence")
    bad = verdict(Outcome.FAIL).model_copy(update={"findings": [_a_read(evidence)]})
    results = result(bad, verdict(Outcome.WARN, "read/advice"), verdict(Outcome.ERROR, "read/lost"), unfinished=NASTY)
    results.runs[0].evidence = "evidence"
    axis = Axis(name=NASTY, unit=NASTY)
    results.runs[0].measurements = [
        Measurement(
            id=NASTY, title=NASTY, kind=kind, x=axis, y=axis, series=(Series(name=NASTY, points=(Point(x=1, to=2, y=3),)),)
        )
        for kind in ("line", "histogram")
    ]
    seen = witness_of(results, tmp_path)

    def hostile(one: VerdictEntry) -> list[WireLine | Gap]:
        return [replace(row, name=NASTY, detail=NASTY) if isinstance(row, WireLine) else row for row in seen(one)]

    assert any(isinstance(row, WireLine) for row in hostile(results.verdicts[0]))
    for one in results.verdicts:
        for name in ("reason", "statement", "why", "cite"):
            if hasattr(one, name):
                setattr(one, name, NASTY)
        for finding in one.findings:
            finding.expected = finding.actual = NASTY
    lab = {"version": NASTY, "started": NASTY, "seed": NASTY, "qemu": {"version": NASTY, "origin": NASTY, "sha256": NASTY},
           "versions": {NASTY: {"version": NASTY, "sha256": NASTY}}, "host": {NASTY: NASTY}}  # fmt: skip
    results = results.model_copy(update={"lab": lab})
    before = result(verdict(Outcome.PASS), verdict(Outcome.PASS, f"read/{NASTY}"))
    text = html(results, Material(hostile, {NASTY: {NASTY: NASTY}}, NASTY, before))
    tab = show(browser, tmp_path, re.sub(r"<meta http-equiv[^>]*>", "", text))  # the page's own policy is not what holds it
    tab.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert tab.complaints() == []
    assert tab.run("[document.images.length, document.scripts.length]") == [0, 1]
    attributes = "[...document.querySelectorAll('*')].flatMap((one) => [...one.attributes].map((a) => a.name))"
    assert not [name for name in tab.run(attributes) if name.startswith("on")]
    assert tab.run("[...document.links].some((link) => /^(javascript|data|vbscript):/i.test(link.href))") is False
    assert tab.run("document.body.innerText").count("<script>alert(1)</script>") > 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(browser: Browser, scheme: str, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, full(tmp_path), scheme=scheme)
    tab.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert tab.run(CONTRAST) == {}
    dark = tab.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert tab.complaints() == []


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_it_fits_any_window(browser: Browser, width: int, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, full(tmp_path), width=width)
    assert tab.run("document.documentElement.scrollWidth") <= width  # wide content scrolls in its own box
    tab.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert tab.run(SMALLEST) >= 10  # pixels: drawings shrink with the window, and their letters with them


def test_a_screen_reader_finds_its_way(browser: Browser, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, full(tmp_path))
    roles = tab.roles()
    assert {"main", "banner", "navigation", "search", "status"} <= {role for role, _ in roles}
    unnamed = {"button", "link", "searchbox", "combobox", "checkbox", "image", "region", "article", "navigation"}
    assert [role for role, name in roles if role in unnamed and not name.strip()] == []
    assert (
        "button",
        "read, toy on qemu: fails 1 fail, 1 known, 1 warn, 1 pass, 1 unsupported, 1 inconclusive ▲ 1 regression",
    ) in roles
    heads = "[...document.querySelectorAll('h1,h2,h3,h4')].filter((head) => head.checkVisibility())"
    levels = tab.run(f"{heads}.map((head) => Number(head.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [role for role, _ in roles].count("heading") == len(levels)  # also those far below
    assert any(role in ("image", "img") and "ladder diagram" in name for role, name in roles)


def test_the_keyboard_suffices(browser: Browser, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, full(tmp_path))
    focused = "document.activeElement.textContent || document.activeElement.id"
    tab.press("Tab")
    assert tab.run(focused) == "Skip to the checks"
    tab.press("/", "/")
    assert tab.run("document.activeElement.id") == "search"
    assert tab.run("$('search').value") == ""
    for letter in "known":
        tab.press(letter, letter)
    assert count(tab).startswith("1 of 6 checks")
    tab.run("document.querySelector('button[data-stage]').focus()")
    tab.press("Enter", "\r")
    assert count(tab).startswith("6 of 6 checks")
    assert tab.run("$('stage').value") == "read"
    outline = tab.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"  # where the keyboard is can be seen


def test_printed_it_leaves_out_what_cannot_be_pressed_and_shows_what_was_closed(browser: Browser, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, full(tmp_path))
    failed = "[...document.querySelectorAll('[data-word=FAIL] > tr > td > details.details')]"
    shut = f"{failed}.filter((part) => !part.open).length"
    tab.run(f"{failed}.forEach((part) => {{ part.open = false; }})")
    assert tab.run(shut) > 0
    tab.run("addEventListener('beforeprint', () => { window.shutWhilePrinting = " + shut + "; })")
    pdf = base64.b64decode(tab.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 6
    assert tab.run("window.shutWhilePrinting") == 0
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run("getComputedStyle($('filters')).display") == "none"
    assert tab.run(shut) > 0  # and closed again


def test_filters_stand_in_the_address_and_nothing_found_says_so(browser: Browser, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, html(thousands()))
    found = "[$('count').textContent.split(',')[0], location.hash, $('none').hidden]"
    type_in = "$('search').value = {!r}; $('search').dispatchEvent(new Event('input', {{bubbles: true}}))"
    tab.run(f"(() => {{ {type_in.format('nowhere')} }})()")
    assert tab.run(found) == ["0 of 100 checks", "#?q=nowhere", False]
    tab.run("$('again').click()")
    assert tab.run(found) == ["100 of 100 checks", "#checks", True]
    tab.run("(location.hash = '#?level=R&q=nowhere', 1)")
    assert tab.run("[$('level').value, $('search').value, $('none').hidden]") == ["R", "nowhere", False]


def test_its_colours_can_be_chosen_whatever_the_system_prefers(browser: Browser, tmp_path: Path) -> None:
    tab = show(browser, tmp_path, full(tmp_path), scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    said = []
    for _ in range(3):
        tab.run("$('theme').click()")
        said.append((tab.run("$('theme').textContent"), tab.run(background)))
    light, dark = "rgb(255, 255, 255)", "rgb(13, 17, 23)"
    assert said == [("Colours: light", light), ("Colours: dark", dark), ("Colours: system", light)]
    tab.run("$('theme').click(), $('theme').click()")
    assert tab.run(CONTRAST) == {}
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run(background) == light
    assert tab.complaints() == []


def test_three_drivers_with_a_dozen_known_failures_are_six_pages(browser: Browser, tmp_path: Path) -> None:
    names = ("first", "second", "third")
    verdicts = [
        verdict(outcome, f"read/check-{number}", known="it was always so" if outcome is Outcome.FAIL else None)
        for number, outcome in enumerate([Outcome.FAIL] * 12 + [Outcome.WARN] * 4 + [Outcome.PASS] * 80)
    ]
    made = result(
        *(
            one.model_copy(update={"driver": name, "device": device})
            for name in names
            for device in ("qemu", "lab")
            for one in verdicts
        )
    )
    known = [
        KnownEntry(check=f"read/check-{number}", reason="it was always so", devices=["qemu", "lab"]) for number in range(12)
    ]
    made.drivers = {name: DriverEntry(stages=["read"], asked=["read"], known=known) for name in names}
    tab = show(browser, tmp_path, html(made))
    pdf = base64.b64decode(tab.call("Page.printToPDF", printBackground=True)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 6
