"""Hooks of MkDocs: pages that are made anew for each build, and a site without a foreign host.

The sample is a run of the reference driver with a seeded mistake, so that a reader sees what a failure looks like.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))  # MkDocs runs hooks as files

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from docs.hooks import sample_matrix
from docs.hooks.check_pages import check_pages, with_links

WORKER = "assets/worker.js"
FOREIGN = "https://unpkg.com/iframe-worker/shim"
"""What the theme loads so that search works on a page that was opened as a file."""
REFERENCE = "checks.md"
PAGE = "sample-report.html"
MATRIX = "sample-matrix"
RUN = ("run", "--driver", "reference", "--stage", "identify", "--stage", "read", "--defect", "read/nlb:one-fewer")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the sample report, the sample matrix and a page for each check to the site's files."""
    files.append(File.generated(config, PAGE, content=report()))
    files.append(File.generated(config, WORKER, abs_src_path=str(Path(__file__).with_name("worker.js"))))
    for address, text in sample_matrix.files().items():
        files.append(File.generated(config, f"{MATRIX}/{address}", content=text))
    for address, text in check_pages():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the check reference with a link to the page of each check."""
    del config, files
    return with_links(markdown) if page.file.src_uri == REFERENCE else markdown


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Return the page with a script of its own in place of the foreign host's."""
    del config
    return output.replace(FOREIGN, get_relative_url(WORKER, page.url))


def on_post_template(output_content: str, *, template_name: str, config: MkDocsConfig) -> str:
    """Return a page without a source, such as 404.html, likewise; its addresses begin at the site's root."""
    del template_name, config
    return output_content.replace(FOREIGN, f"/{WORKER}")


def report() -> str:
    """Return the report as HTML. Raises CalledProcessError when the run or its report fails."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "sample")
        done = nvme_lab(*RUN, "--out", str(folder))
        if done.returncode != 1:  # the seeded mistake is found
            raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        page = Path(scratch, PAGE)
        nvme_lab("report", str(folder), "--format", "html", "-o", str(page)).check_returncode()
        return page.read_text(encoding="utf-8")


def nvme_lab(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the lab that is documented."""
    return subprocess.run([sys.executable, "-m", "conformance.cli", *words], capture_output=True, text=True, check=False)
