"""Recipes: what is fetched and how an image is put together, as TOML data in ``recipes/``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.errors import UsageError, describe_invalid, nearest

RECIPES = Path(__file__).parent / "recipes"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Closure(_Table):
    """Packages with all that they depend on, out of the named suites of the Debian archive."""

    suites: list[str] = Field(min_length=1)
    """The first is the one that moves least."""
    packages: list[str] = Field(min_length=1)
    """They come out of the suite named last; what they depend on, out of an earlier one where that will do."""
    newest: list[str] = []
    """Patterns for the names of packages that come out of the suite named last too."""
    keep: list[str] = ["*"]
    """Of the packages in the closure only those whose names match; maintainer scripts never run, so much can go."""
    drop: list[str] = []
    exclude: list[str] = []
    """Paths (glob patterns, relative to the root) that are not unpacked."""
    files: list[str] = []
    """Paths (glob patterns, relative to the root) that must be there once it is unpacked."""
    base: list[str] = []
    """Libraries, by file name, that programs of the closure take from the system on which they run."""
    architecture: str = "amd64"
    """Of the packages, as Debian calls it. Programs of another one are not run by the lab, only carried into its guests."""


class Python(_Table):
    """The guest's interpreter: its library is carried as .pyc only, checked against nothing, so that it starts fast."""

    program: str
    library: str
    without: list[str] = []
    """Modules and packages of the standard library that stay out."""
    extensions: list[str] = []
    """Names of the modules in lib-dynload that come along."""


class Image(_Table):
    """An initramfs. ``kernel``, ``tools`` and the keys of ``foreign`` name closures of the same recipe."""

    kernel: str
    tools: str
    append: str
    """The kernel command line."""
    init: str
    """File beside the recipe that becomes /init."""
    busybox: str
    programs: list[str]
    """Programs of the tools closure, carried with the libraries that they need."""
    extra_libraries: list[str] = []
    """Libraries that are opened by name at run time, which no program's header lists."""
    foreign: dict[str, list[str]] = {}
    """Programs of other closures, which stand on other versions of the libraries: each closure's are in a folder of their own,
    with the loader and the libraries that they need, and run by their names."""
    python: Python
    preload: list[str]
    """Modules that /init loads."""
    carried: list[str]
    """Modules that can be loaded with modprobe."""
    pushed: list[str]
    """Modules that stay out of the image, in load order; what they depend on is preloaded."""
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    directories: dict[str, str] = {}
    """Path and octal mode."""


class Initrd(_Table):
    """An initramfs of busybox and some modules, for a guest on its console. Nothing of it is run while it is built."""

    kernel: str
    tools: str
    """Closures of the same recipe."""
    init: str
    """File beside the recipe that becomes /init."""
    busybox: str
    """Linked statically."""
    modules: list[str]
    """They lie in /modules with what they depend on; the numbers before their names are the order of loading."""


class Recipe(_Table):
    """A recipe: the closures of packages, and what is made of them."""

    extends: str = ""
    """Another recipe: this one has its closures too, and of its image all that is not said here."""
    closures: dict[str, Closure] = Field(min_length=1)
    image: Image | None = None
    initrd: Initrd | None = None
    firmware: dict[str, str] = {}
    """Name of a firmware and its file in the (only) closure."""
    varies: str = ""
    """The closure that differs from version to version; by default the image's kernel, or the only closure."""

    @property
    def varying(self) -> str:
        """Return the name of the closure that holds the driver under test."""
        made = self.image or self.initrd
        return self.varies or (made.kernel if made else next(iter(self.closures)))


def of_version(recipe: Recipe, version: str, over: Mapping[str, Any]) -> Recipe:
    """Return the recipe for another version of its driver: one closure, of a name of its own, out of other suites.

    ``over`` has values for some keys of the closure, of the image (``preload``, ``carried``) and for ``firmware``.
    """
    name, own = recipe.varying, f"{recipe.varying}@{version}"
    given = {key: value for key, value in over.items() if value}
    closure = recipe.closures[name].model_copy(
        update={key: list(value) for key, value in given.items() if key in Closure.model_fields}
    )
    closures = {own if key == name else key: closure if key == name else value for key, value in recipe.closures.items()}
    image = recipe.image
    if image is not None:
        update: dict[str, Any] = {key: list(given[key]) for key in ("preload", "carried") if key in given}
        if image.kernel == name:
            update["kernel"] = own
        if name in image.foreign:
            update["foreign"] = {own if key == name else key: value for key, value in image.foreign.items()}
        image = image.model_copy(update=update)
    firmware = {f"{key}@{version}": path for key, path in {**recipe.firmware, **over.get("firmware", {})}.items()}
    return Recipe(closures=closures, image=image, firmware=firmware, varies=own)


def names(folder: Path = RECIPES) -> list[str]:
    """Return the names of all recipes."""
    return sorted(file.stem for file in folder.glob("*.toml"))


def load(name: str, folder: Path = RECIPES) -> Recipe:
    """Return the recipe ``name``.toml; an error names its file, its key and the nearest valid name."""
    file = folder / f"{name}.toml"
    data = _read(file)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [f"{file}: {describe_invalid(invalid, _fields_at)}" for invalid in error.errors()]
        raise UsageError("\n".join(lines)) from error


def _read(file: Path) -> dict[str, Any]:
    """Return the file's tables, merged over those that it extends."""
    if not file.is_file():
        raise UsageError(f"There is no recipe {file.stem!r} in {file.parent}{nearest(file.stem, names(file.parent))}")
    try:
        data = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from error
    if "extends" not in data:
        return data
    base = _read(file.with_name(f"{data['extends']}.toml"))
    tables = [table for table in ("closures", "image") if table in base]
    return {**base, **data, **{table: {**base[table], **data.get(table, {})} for table in tables}}


def _fields_at(location: Sequence[str]) -> list[str]:
    """Return the keys that the table at ``location`` may have."""
    model: type[BaseModel] = Recipe
    for part in location:
        annotation: Any = model.model_fields[part].annotation if part in model.model_fields else None
        tables = [t for t in (annotation, *getattr(annotation, "__args__", ())) if isinstance(t, type)]
        model = next((t for t in tables if issubclass(t, BaseModel)), model)
    return list(model.model_fields)
