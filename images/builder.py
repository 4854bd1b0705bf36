"""Puts a guest image together: from unpacked packages and a recipe to an initramfs, byte for byte the same each time.

Needs neither root nor mounts: the archive is written entry by entry. Everything lies under a merged /usr; libraries in
/usr/lib, programs in /usr/bin.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path, PurePosixPath

from images import kernel
from images.cpio import Archive
from images.elf import Tree, header
from images.modules import Modules
from images.recipe import RECIPES, Image, Initrd, Python
from lab.errors import LabError

_MERGED = {"lib": "usr/lib", "lib64": "usr/lib", "bin": "usr/bin", "sbin": "usr/bin", "usr/sbin": "bin"}
_MULTIARCH = "usr/lib/x86_64-linux-gnu"
_PRELOAD_LIST = "etc/nvme-lab/preload"
_KERNELS = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
"""Where packages put the kernel: those of Debian 12, and those of newer suites."""
_MODULES = ("lib/modules/*", "usr/lib/modules/*")
_BY_OWN_LOADER = """\
#!/usr/bin/busybox sh
exec /{folder}/{loader} --library-path /{folder}{named} /{folder}/{name} "$@"
"""
_ARGV0 = "--argv0"
"""The loader's option for the name that a program sees as its own, which glibc has since 2.33."""

_COMPILE = """\
import py_compile, sys
for line in sys.stdin.read().splitlines():
    source, target, shown = line.split("\\t")
    py_compile.compile(source, target, shown, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


@dataclass(frozen=True)
class Built:
    """A finished image."""

    vmlinux: bytes
    release: str
    """As ``uname -r`` says it."""
    initrd: bytes
    pushed: dict[str, bytes]
    """File name and content of the modules that stay outside, in load order."""


def build(image: Image, roots: Mapping[str, Path], recipes: Path = RECIPES) -> Built:
    """Build the image of a recipe from its unpacked closures, given by their names."""
    kernel_root, tools = roots[image.kernel], Tree(roots[image.tools])
    vmlinux = kernel.vmlinux(_only(kernel_root, *_KERNELS).read_bytes())
    folder = _only(kernel_root, *_MODULES)
    modules = Modules(folder)
    archive = Archive()
    _skeleton(archive, image)
    _add_busybox(archive, tools, image.busybox)
    for program in image.programs:
        _add_program(archive, tools, program)
    for library in image.extra_libraries:
        archive.file(f"usr/lib/{library}", tools.library(library).read_bytes(), 0o755)
    for closure, programs in image.foreign.items():
        for program in programs:
            _add_foreign(archive, Tree(roots[closure]), f"opt/{closure}", program)
    _add_python(archive, tools, image.python)
    _add_modules(archive, modules, folder.name, image)
    archive.file("init", (recipes / image.init).read_bytes(), 0o755)
    pushed = {f"{name}.ko": modules.content(name) for name in image.pushed}
    return Built(vmlinux, folder.name, archive.to_bytes(), pushed)


def build_initrd(made: Initrd, roots: Mapping[str, Path], recipes: Path = RECIPES) -> Built:
    """Build the initramfs of busybox and modules, from its unpacked closures, given by their names."""
    folder = _only(roots[made.kernel], *_MODULES)
    modules, archive = Modules(folder), Archive()
    for path in ("bin", "dev", "modules", "proc", "sys", "tmp"):
        archive.directory(path, 0o755)
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", _only(roots[made.tools], made.busybox).read_bytes(), 0o755)
    for number, name in enumerate(modules.order(made.modules)):
        archive.file(f"modules/{number:02}-{name}.ko", modules.content(name))
    archive.file("init", (recipes / made.init).read_bytes(), 0o755)
    return Built(_only(roots[made.kernel], *_KERNELS).read_bytes(), folder.name, archive.to_bytes(), {})


def source_key(image: Image | Initrd, recipes: Path = RECIPES) -> str:
    """Return an identity of the build: the recipe, its init script and the builder's own source."""
    digest = sha256(image.model_dump_json().encode())
    for file in (recipes / image.init, *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _skeleton(archive: Archive, image: Image) -> None:
    for path, target in _MERGED.items():
        archive.link(path, target)
    archive.link(_MULTIARCH, ".")
    archive.character_device("dev/console", 5, 1)
    archive.character_device("dev/null", 1, 3, 0o666)
    for path, mode in image.directories.items():
        archive.directory(path, int(mode, 8))
    for path, content in image.files.items():
        archive.file(path, content.encode())
    for path, target in image.links.items():
        archive.link(path, target)


def _add_program(archive: Archive, tools: Tree, path: str) -> None:
    """Return the program in /usr/bin, or where it is if that is a folder of helpers, and its libraries."""
    folder = PurePosixPath(path).parent
    target = f"usr/bin/{PurePosixPath(path).name}" if folder.name in ("bin", "sbin") else path
    archive.file(target, tools.require(path).read_bytes(), 0o755)
    _add_libraries(archive, tools, path)


def _add_libraries(archive: Archive, tools: Tree, path: str) -> None:
    for name, file in tools.closure(path).items():
        archive.file(f"usr/lib/{name}", file.read_bytes(), 0o755)


def _add_foreign(archive: Archive, tree: Tree, folder: str, path: str) -> None:
    """Return the program, its loader and its libraries in ``folder``; in /usr/bin a script of its name that starts it there."""
    program, needed = tree.require(path), tree.closure(path)
    for name, file in needed.items():
        archive.file(f"{folder}/{name}", file.read_bytes(), 0o755)
    archive.file(f"{folder}/{program.name}", program.read_bytes(), 0o755)
    loader = PurePosixPath(header(program.read_bytes()).interpreter).name
    named = f" {_ARGV0} {program.name}" if _ARGV0.encode() in needed[loader].read_bytes() else ""
    script = _BY_OWN_LOADER.format(folder=folder, loader=loader, named=named, name=program.name)
    archive.file(f"usr/bin/{program.name}", script.encode(), 0o755)


def _add_busybox(archive: Archive, tools: Tree, path: str) -> None:
    """Add busybox under all of its names; programs added later replace those of the same name."""
    _add_program(archive, tools, path)
    applets = subprocess.run([*tools.command(path), "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if f"usr/bin/{applet}" not in archive:
            archive.link(f"usr/bin/{applet}", "busybox")


def _add_python(archive: Archive, tools: Tree, python: Python) -> None:
    _add_program(archive, tools, python.program)
    archive.link("usr/bin/python3", PurePosixPath(python.program).name)
    library = python.library.strip("/")
    for name in python.extensions:
        file = _only(tools.root, f"{library}/lib-dynload/{name}.*.so")
        path = str(file.relative_to(tools.root))
        archive.file(path, file.read_bytes(), 0o755)
        _add_libraries(archive, tools, path)
    for path, content in _compiled(tools, python, library):
        archive.file(path, content)


def _compiled(tools: Tree, python: Python, library: str) -> Iterator[tuple[str, bytes]]:
    """Return the standard library as .pyc in place of .py, compiled by the guest's own interpreter."""
    root = tools.root / library
    sources = [f for f in sorted(root.rglob("*.py")) if f.is_file() and not _left_out(f.relative_to(root), python.without)]
    with tempfile.TemporaryDirectory() as scratch:
        targets = [Path(scratch, f"{number}.pyc") for number in range(len(sources))]
        jobs = "\n".join(f"{s}\t{t}\t/{s.relative_to(tools.root)}" for s, t in zip(sources, targets, strict=True))
        # A fixed hash seed and one process in sorted order: marshalled constants come out the same each time.
        environment = {"PYTHONHOME": str(tools.root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
        command = [*tools.command(python.program), "-S", "-c", _COMPILE]
        done = subprocess.run(command, input=jobs, text=True, capture_output=True, env=environment, check=False)
        if done.returncode:
            raise LabError(f"The guest's python cannot compile its library: {done.stderr.strip()[-500:]}")
        for source, target in zip(sources, targets, strict=True):
            yield f"{source.relative_to(tools.root)}c", target.read_bytes()


def _left_out(path: Path, patterns: list[str]) -> bool:
    return any(fnmatch(str(part), pattern) for part in (path, *path.parents) for pattern in patterns)


def _add_modules(archive: Archive, modules: Modules, release: str, image: Image) -> None:
    """Return the modules with what modprobe needs to find them, and the list that /init loads.

    What the pushed modules depend on is loaded at boot, so that insmod of the pushed ones is all that is left to do.
    """
    pushed = [name.replace("-", "_") for name in image.pushed]
    preload = [name for name in modules.order([*image.preload, *image.pushed]) if name not in pushed]
    carried = [name for name in modules.order([*preload, *image.carried]) if name not in pushed]
    folder = f"usr/lib/modules/{release}"
    dependencies = []
    aliases = []
    for name in carried:
        archive.file(f"{folder}/{modules.path(name)}", modules.content(name))
        needed = reversed(modules.order([name])[:-1])
        dependencies.append(f"{modules.path(name)}: {' '.join(modules.path(n) for n in needed)}".rstrip())
        aliases += [f"alias {alias} {name}" for alias in modules.aliases(name)]
    archive.file(f"{folder}/modules.dep", _lines(dependencies))
    archive.file(f"{folder}/modules.alias", _lines(aliases))
    archive.file(_PRELOAD_LIST, _lines([f"/{folder}/{modules.path(name)}" for name in preload]))


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _only(root: Path, *patterns: str) -> Path:
    """Return the only path that fits one of the patterns."""
    found = sorted(path for pattern in patterns for path in root.glob(pattern))
    if len(found) != 1:
        raise LabError(f"Expected one {' or '.join(patterns)} under {root}, there are {len(found)}.")
    return found[0]
