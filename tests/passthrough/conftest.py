"""The headers of Linux and Windows, out of the lab's own cache."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Headers:
    """A folder of headers with what gcc needs to read them."""

    options: tuple[str, ...]
    includes: tuple[str, ...]

    def disagreements(self, assertions: Iterable[str], output: Path) -> str:
        """Return what gcc says of these static assertions: "" if all of them hold."""
        lines = [f"#include <{name}>" for name in ("stddef.h", *self.includes)]
        lines += [f'_Static_assert({claim}, "{claim}");' for claim in assertions]
        command = ["gcc", "-w", "-x", "c", "-c", "-", "-o", str(output), *self.options]
        return subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False).stderr


def _compilers_own() -> str:
    found = subprocess.run(["gcc", "-print-file-name=include"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def _isystem(*folders: Path | str) -> Sequence[str]:
    return [option for folder in folders for option in ("-isystem", str(folder))]


@pytest.fixture(scope="session")
def linux_headers(headers: Mapping[str, Path]) -> Headers:
    """Linux's user-space headers."""
    include = headers["linux-headers"] / "usr/include"
    return Headers(
        ("-nostdinc", *_isystem(_compilers_own(), include, include / "x86_64-linux-gnu")),
        ("linux/types.h", "linux/nvme_ioctl.h", "linux/io_uring.h"),
    )


AS_WINDOWS = (
    "-D_WIN32", "-D_WIN64", "-D__MINGW32__", "-D__MINGW64__", "-DWIN32_LEAN_AND_MEAN", "-D__int64=long long",
    "-D__declspec(x)=__attribute__((x))", "-D__cdecl=", "-D__stdcall=", "-fms-extensions", "-fshort-wchar",
)  # fmt: skip
"""What a Windows compiler defines without headers. ``DWORD`` has four bytes all the same: mingw-w64's headers see to that."""


@pytest.fixture(scope="session")
def windows_headers(headers: Mapping[str, Path]) -> Headers:
    """mingw-w64's headers."""
    include = headers["mingw-headers"] / "usr/share/mingw-w64/include"
    return Headers(("-nostdinc", *_isystem(_compilers_own(), include), *AS_WINDOWS), ("windows.h", "winioctl.h"))
