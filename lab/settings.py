"""Where things are kept and what was overridden.

Precedence, highest first: option, ``NVME_LAB_*`` variable, ``nvme-lab.toml`` of the project (the working folder or the
nearest parent that has one), user settings, default. Every source speaks the same keys: the fields of `Settings`.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import platformdirs

from lab.errors import LabError, UsageError, nearest

PROJECT_FILE = "nvme-lab.toml"
NO_KEY = "no key"
"""In the metadata of a field that no source can set."""
_TRUTH = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off", ""), False)


def _default_cache() -> Path:
    return platformdirs.user_cache_path("nvme-lab")


@dataclass(frozen=True)
class Settings:
    """What a run needs to know about this machine. Relative paths count from the place that named them."""

    cache: Path = field(default_factory=_default_cache)
    """Content-addressed, safe to delete. Default: XDG_CACHE_HOME/nvme-lab."""
    mirror: str | None = None
    """Address of a Debian mirror; default: the mirrors in the machine's own apt configuration."""
    snapshot: str | None = None
    """Address of the Debian archive as it was on a certain day: asked for locked versions that no mirror has any more."""
    qemu: Path | None = None
    """A qemu-system binary to use instead of looking for one."""
    kernel: Path | None = None
    """A guest kernel (vmlinux, or a bzImage) to boot instead of the packaged one."""
    image: Path | None = None
    """A guest initramfs that an nvme-lab has built, to boot instead of building one."""
    locked: bool = False
    """Only the versions in the lock file; what the mirror no longer has is an error."""
    offline: bool = False
    """Only what the cache holds; what is missing is an error."""
    options: frozenset[str] = field(default=frozenset(), metadata={NO_KEY: True})
    """The settings that the command line gave: an error where nothing uses them, unlike what holds for the whole machine."""

    def open_cache(self) -> Path:
        """Return the cache folder, made if need be and proven writable."""
        remedy = "make it writable, or name another folder with NVME_LAB_CACHE or XDG_CACHE_HOME"
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.cache):
                pass
            next(self.cache.iterdir(), None)
        except OSError as error:
            raise LabError(f"The cache folder {self.cache} cannot be used: {error.strerror}.", remedy=remedy) from error
        return self.cache


def load(
    options: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user_file: Path | None = None,
) -> Settings:
    """Merge all sources. An option that is None was not given."""
    environ = os.environ if environ is None else environ
    folder = folder or Path.cwd()
    user_file = user_file or platformdirs.user_config_path("nvme-lab") / PROJECT_FILE
    project_file = next((f for p in (folder, *folder.parents) if (f := p / PROJECT_FILE).is_file()), None)
    merged: dict[str, object] = {}
    for file in (user_file, project_file):
        if file is not None and file.is_file():
            for key, value in _read_toml(file).items():
                merged[key] = _convert(key, value, base=file.parent, where=str(file))
    for key in keys():
        variable = f"NVME_LAB_{key.upper()}"
        if variable in environ:
            merged[key] = _convert(key, environ[variable], base=folder, where=variable)
    for key, value in (options or {}).items():
        if value is not None:
            _check_key(key, where="options")
            merged[key] = _convert(key, value, base=folder, where=f"option --{key}")
    given = frozenset(key for key, value in (options or {}).items() if value is not None)
    return Settings(**merged, options=given)  # type: ignore[arg-type]  # _convert gives each key its field's type


def keys() -> list[str]:
    """Return what sources can set."""
    return [setting.name for setting in fields(Settings) if not setting.metadata.get(NO_KEY)]


def _read_toml(file: Path) -> dict[str, object]:
    try:
        content = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error
    for key in content:
        _check_key(key, where=str(file))
    return content


def _check_key(key: str, where: str) -> None:
    if key not in keys():
        raise UsageError(f"{where}: unknown key {key!r}{nearest(key, keys())}")


def _convert(key: str, value: object, *, base: Path, where: str) -> object:
    """Give a value the type of its field, or say what was expected."""
    if key in ("locked", "offline"):
        truth = value if isinstance(value, bool) else _TRUTH.get(str(value).lower())
        if truth is None:
            raise UsageError(f"{where}: {key} = {value!r} is neither true nor false.")
        return truth
    if not isinstance(value, str | Path):
        raise UsageError(f"{where}: {key} = {value!r} is not a string.")
    if key in ("mirror", "snapshot"):
        return str(value) or None
    if not str(value):
        return _default_cache() if key == "cache" else None
    return base / Path(value).expanduser()
