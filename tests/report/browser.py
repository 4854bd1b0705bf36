"""A headless Chromium in tests' hands: DevTools protocol over a pipe, which needs no package and opens no port.

The machine's own is taken where there is one, else Debian's comes out of the project's cache (fetched once, 100 MB).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.toolchain import contents

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
MOVE = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
"""It reads commands from file descriptor 3 and answers on 4."""
DRAWN = "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))"
"""Until what was asked for before has been done and drawn."""
PATIENCE = 60.0
"""Seconds in which Chromium must answer."""


@dataclass(frozen=True)
class Program:
    path: Path
    environment: dict[str, str]


def program(fetch: Callable[[], Path]) -> Program:
    """Return the machine's Chromium, or Debian's; ``fetch`` gives the tree of its closure.

    It runs with the libraries of the closure, beside the machine's own libc.
    """
    for name in PROGRAMS:
        if found := shutil.which(name):
            return Program(Path(found), dict(os.environ))
    tree = fetch()
    folders = (tree / folder for folder in contents.read(tree).library_folders)
    libraries = ":".join(str(folder) for folder in folders if folder.is_dir())
    fonts = tree / "fonts.conf"
    if not fonts.exists():
        fonts.write_text(f"<fontconfig><dir>{tree}/usr/share/fonts</dir></fontconfig>")
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(fonts)}
    return Program(tree / "usr/lib/chromium/chromium-headless-shell", environment)


class Browser:
    """One Chromium; ``profile`` is a folder of its own. Not for two threads."""

    def __init__(self, chromium: Program, profile: Path) -> None:
        to_child, self._to = os.pipe()
        self._from, from_child = os.pipe()
        command = [str(chromium.path), *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", MOVE, str(to_child), str(from_child), *command],
            pass_fds=(to_child, from_child),
            env=chromium.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer = b""
        self._number = 0
        self.events: deque[dict[str, Any]] = deque()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """Asks and waits for the answer; what it reports meanwhile is kept in ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        try:
            os.write(self._to, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise AssertionError(f"Chromium ended before it was asked for {method}: {self._said()}") from None
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(method, deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def wait(self, session: str, event: str) -> None:
        """Until the session has reported the event."""
        deadline = time.monotonic() + PATIENCE
        while not any(e.get("method") == event and e.get("sessionId") == session for e in self.events):
            self.events.append(self._receive(event, deadline))

    def _receive(self, awaited: str, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._from], [], [], max(left, 0))
            assert ready, (
                f"Chromium said nothing for {PATIENCE:.0f} s: waited for {awaited}, last came {list(self.events)[-1:]}"
            )
            data = os.read(self._from, 1 << 20)
            assert data, f"Chromium ended while waited for {awaited}: {self._said()}"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _said(self) -> str:
        self._process.kill()
        return self._process.communicate()[1].decode(errors="replace")[-2000:]


class Tab:
    """A page in a browser, loaded from a file and looked at with a certain window and colour scheme."""

    COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")

    def __init__(self, browser: Browser, file: Path, *, width: int = 1280, scheme: str = "light") -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=file.as_uri())
        browser.wait(self._session, "Page.loadEventFired")

    def call(self, method: str, **parameters: Any) -> Any:
        return self._browser.call(method, self._session, **parameters)

    def run(self, script: str) -> Any:
        """Return an expression's value, after the page is drawn."""
        later = f"{DRAWN}.then(() => ({script}))"
        answer = self.call("Runtime.evaluate", expression=later, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, text=text, **_codes(key))
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, **_codes(key))

    def complaints(self) -> list[Any]:
        """Return what its console holds."""
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] in self.COMPLAINTS
        ]

    def roles(self) -> list[tuple[str, str]]:
        """(role, name) of all that a screen reader gets."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]


def _codes(key: str) -> dict[str, int]:
    return {"windowsVirtualKeyCode": {"Tab": 9, "Enter": 13, " ": 32}[key]} if key in ("Tab", "Enter", " ") else {}
