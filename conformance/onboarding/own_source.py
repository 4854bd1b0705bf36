"""Where CI can get this very lab from: a pinned commit, never a bare name that anybody could register in a package index."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

PLACEHOLDER = "git+https://your-server.invalid/nvme-lab@COMMIT"
"""What a generated job holds where the source is not known; the job refuses it with a remedy."""
DISTRIBUTION = "nvme-lab"
GIT_SECONDS = 10
LOCAL = ("/", ".", "file:")
"""How the address of a repository begins that no CI server reaches."""


def own_source() -> str:
    """Return what pip installs to get this lab: the commit that it was installed from, or that its checkout is at."""
    installed = _direct_url()
    if commit := installed.get("vcs_info", {}).get("commit_id"):
        return f"git+{installed['url']}@{commit}"
    checkout = Path(__file__).parents[2]
    url, commit = _git(checkout, "remote", "get-url", "origin"), _git(checkout, "rev-parse", "HEAD")
    if not url or not commit or url.startswith(LOCAL):
        return PLACEHOLDER
    host, colon, path = url.partition(":")
    if colon and "//" not in url:  # git@host:path
        url = f"ssh://{host}/{path}"
    return f"git+{url}@{commit}"


def _direct_url() -> dict[str, Any]:
    """Return what pip noted of the installation (PEP 610); {} if nothing."""
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
