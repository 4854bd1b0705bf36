"""The documentation builds as a site that is complete in itself, and every link on it leads somewhere."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.suite.selection import CHECKS
from tests.report.browser import Browser, Program, Tab

ROOT = Path(__file__).parents[2]
FOREIGN = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?(?:https?:)?//[^>]*>')
FOUND = "[...document.querySelectorAll('[data-md-component=search-result] a')].map((a) => a.getAttribute('href'))"
TYPE = """(() => {
    const query = document.querySelector('[data-md-component=search-query]');
    query.focus();
    query.value = %r;
    query.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));
})()"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def browser(chromium: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(chromium, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.xdist_group("site")
def test_the_site_builds_without_a_warning(site: Path) -> None:
    assert (site / "tutorials" / "hobby-os.html").is_file()


@pytest.mark.xdist_group("site")
def test_the_sample_report_shows_a_failure(site: Path) -> None:
    assert "read/nlb" in (site / "sample-report.html").read_text(encoding="utf-8")


@pytest.mark.xdist_group("site")
def test_each_check_has_a_page_and_the_reference_links_to_it(site: Path) -> None:
    reference = (site / "checks.html").read_text(encoding="utf-8")
    missing = [check for check in CHECKS if not (site / "checks" / f"{check}.html").is_file()]
    assert (missing, [check for check in CHECKS if f'href="checks/{check}.html"' not in reference]) == ([], [])
    page = (site / "checks" / "read" / "prp2.html").read_text(encoding="utf-8")
    assert "second_page" in page
    assert "nvme-lab run --check read/prp2 --defect read/prp2:" in html.unescape(re.sub("<[^>]*>", "", page))


@pytest.mark.xdist_group("site")
def test_no_page_needs_a_foreign_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert {
        f"{page.name}: {found[0]}" for page in pages for found in FOREIGN.finditer(page.read_text(encoding="utf-8"))
    } == set()


@pytest.mark.slow
@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("page", ["index", "checks", "tutorials/ci", "checks/read/prp2"])
def test_no_page_is_wider_than_a_telephone(site: Path, browser: Browser, page: str) -> None:
    tab = Tab(browser, site / f"{page}.html", width=390)
    assert tab.run("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_search_works_in_a_folder_without_a_server(site: Path, browser: Browser) -> None:
    tab = Tab(browser, site / "index.html", width=1280)
    tab.run(TYPE % "doorbell stride")
    answers = f"new Promise((done) => {{ const look = () => {FOUND}.length ? done({FOUND}) : setTimeout(look, 50); look() }})"
    assert any("qemu-vfio-doorbell-stride" in answer for answer in tab.run(answers))
    assert tab.complaints() == []
