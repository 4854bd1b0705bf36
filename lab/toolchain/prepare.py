"""Brings everything that a run needs onto this machine, and says what it is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from images import builder, keys, recipe
from images.elf import Tree
from images.kernel import release as kernel_release
from images.kernel import vmlinux as extract_vmlinux
from images.recipe import Closure, Image, Initrd, Recipe
from lab.architectures import ARCHITECTURES, X86_64
from lab.data import versions
from lab.data.manifest import Source
from lab.errors import LabError, UsageError, nearest
from lab.settings import Settings
from lab.toolchain import lock, qemu
from lab.toolchain.apt import MirrorError, Package, file_sha256
from lab.toolchain.cache import Cache, full_disk_named, require_space
from lab.toolchain.closures import Closures, Fetched, Progress
from lab.toolchain.qemu import Qemu

FIRMWARE = ("u-boot", "u-boot-riscv64", "edk2", "edk2-arm64", "edk2-riscv64", "linux-arm64", "seabios")
"""What a guest can be started by, other than its own Linux."""
_FOREIGN = {f"qemu-{arch}": arch for arch in ARCHITECTURES if arch != X86_64}
"""QEMUs for guests of another architecture than this machine's."""
_LINUX = "linux-guest"
_GUESTS = {_LINUX: "linux", **{f"{name}-guest": name for name in ("linux-backports", "qemu-vfio", "qemu-vfio-backports")}}
"""Linux guests and their recipes."""
_PROGRAMS = ("fio",)
"""Programs for guests, by the names of their recipes."""
_RECIPE_OF = {"qemu": "qemu", **_GUESTS, **{name: name for name in (*_PROGRAMS, *FIRMWARE, *_FOREIGN)}}
WANTS = tuple(want for want in _RECIPE_OF if want != "seabios")
"""What can be prepared without a version; a SeaBIOS without one is QEMU's own."""

_VERSIONED = (*FIRMWARE, *_GUESTS)
"""What there can be versions of."""
_KERNELS = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
"""Where packages put the kernel: those of Debian 12, and those of newer suites."""
_NO_SOURCES: Mapping[str, Source] = MappingProxyType({})

_IMAGE_SPACE = 250_000_000
"""Bytes: a vmlinux of 60 MB, and the image of 50 MB once alone and once with its keys, with a reserve."""


@dataclass(frozen=True)
class LinuxGuest:
    """A kernel and an initramfs that come up to "NVME-LAB READY" on ttyS0, with an SSH server on 10.0.2.15:22."""

    vmlinux: Path
    initrd: Path
    append: str
    """The kernel command line."""
    release: str
    """What ``uname -r`` says; empty where the kernel does not say."""
    modules: tuple[Path, ...]
    """nvme-core.ko and nvme.ko in load order; empty for a kernel that is not ours."""
    private_key: Path
    """The key that root in the guest accepts, in OpenSSH's format."""
    host_key: str
    """The guest's public key, to be pinned: ``ssh-ed25519 BASE64``."""
    packed: Path | None = None
    """The kernel as a bzImage, which boot loaders and kexec take; None for one that was named and is none."""


@dataclass(frozen=True)
class Toolchain:
    """What was prepared: QEMU, a Linux guest and firmware."""

    qemu: Qemu | None
    linux: LinuxGuest | None
    firmware: Mapping[str, Path] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Package, or file that the user named: its version and SHA-256."""
    cache: Cache | None = None
    """Where all of it lies, and where what is made from it can be kept."""
    foreign: Mapping[str, Qemu] = field(default_factory=dict)
    """QEMUs for guests of other architectures."""
    variants: Mapping[str, LinuxGuest] = field(default_factory=dict)
    """Linux guests with another kernel or more tools than ``linux``, by the names under which they are wanted."""

    programs: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    """Programs for guests by name: each with its loader and its libraries, file name and file."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """The name and version of the package that each want's driver comes from."""

    def guest_for(self, needs: Collection[str]) -> LinuxGuest | None:
        """Return the Linux guest that is among the needs, else the usual one; None if it was not wanted."""
        named = [need for need in needs if versions.split(need)[0] in _GUESTS and need != _LINUX]
        return self.variants.get(named[0]) if named else self.linux

    def package_of(self, needs: Collection[str]) -> str:
        """Return the package that a driver with these needs comes from; "" where it is none."""
        return next((self.packages[need] for need in needs if need in self.packages), "")

    def qemu_for(self, arch: str) -> Qemu | None:
        """Return the QEMU for guests of this architecture, if it was wanted."""
        return self.qemu if arch == X86_64 else self.foreign.get(arch)


def prepare(
    settings: Settings, wants: Collection[str], progress: Progress, sources: Mapping[str, Source] = _NO_SOURCES
) -> Toolchain:
    """Fetch, unpack and build what is wanted and not yet in the cache.

    ``wants``: some of `WANTS`, or of the keys of ``sources``, which are WANT@VERSION.
    """
    for want in wants:
        if want not in sources and want not in WANTS:
            raise UsageError(f"Nothing called {want!r} can be prepared{nearest(want, WANTS)}")
    for want in sources:
        if versions.split(want)[0] not in _VERSIONED:
            raise UsageError(f"There are no versions of {want!r}{nearest(versions.split(want)[0], _VERSIONED)}")
    cache = Cache(settings.open_cache())
    with full_disk_named(cache.root):
        return _Preparation(settings, cache, progress, sources).run(wants)


def check_overrides(settings: Settings, wants: Collection[str], whose: str) -> None:
    """Raise UsageError for a file that the command line names and that nothing of what is wanted uses.

    ``whose`` names what it was given for, as "the driver u-boot".
    """
    used = {"qemu": {"qemu"} & set(wants), "kernel": _guests(wants), "image": _guests(wants)}
    for key, users in used.items():
        if key in settings.options and not users:
            what = f"a QEMU for {X86_64}" if key == "qemu" else "the lab's Linux guest"
            own = "; a manifest names its own kernel by boot.kernel" if key == "kernel" else ""
            raise UsageError(f"--{key} has no effect: {what} is not used by {whose}.", remedy=f"leave --{key} out{own}")


def _guests(wants: Collection[str]) -> set[str]:
    """Return those of the wants that are the lab's Linux guests."""
    return {want for want in wants if versions.split(want)[0] in _GUESTS}


def update_lock(
    settings: Settings, progress: Progress, lock_file: Path = lock.LOCK_FILE, sources: Mapping[str, Source] = _NO_SOURCES
) -> None:
    """Write what the mirror has now into the lock file, for all recipes and versions."""
    closures = Closures(settings, Cache(settings.open_cache()), progress)
    found = {}
    for want in sources:
        loaded = _recipe(want, sources)
        closure = loaded.closures[loaded.varying]
        progress(f"{loaded.varying}: resolving")
        found[loaded.varying] = (closure, closures.resolve(closure))
    for name in recipe.names():
        for closure_name, closure in recipe.load(name).closures.items():
            if closure_name in found:  # of a recipe that this one extends
                continue
            progress(f"{closure_name}: resolving")
            found[closure_name] = (closure, closures.resolve(closure))
    lock.write(lock_file, found)


def _recipe(want: str, sources: Mapping[str, Source]) -> Recipe:
    """Return the recipe of what is wanted, of a version where that is named."""
    name, version = versions.split(want)
    loaded = recipe.load(_RECIPE_OF[name])
    return recipe.of_version(loaded, version, sources[want].model_dump()) if version else loaded


def _package_of(closure: Closure, fetched: Fetched) -> Package:
    """Return the package of the driver: the one that was asked for, or else the largest (a kernel, by its own name)."""
    named = [package for package in fetched.packages if package.name in closure.packages]
    return max(named or fetched.packages, key=lambda package: package.size)


def _is_of(package: Package, version: str) -> bool:
    """Return whether a package has this version of its program: 1:7.2+dfsg-7 is 7.2, and 6.1.176-1 is 6.1 and 6.1-rt."""
    number = version.partition("-")[0]
    return re.match(rf"(\d+:)?{re.escape(number)}(?!\d)", package.version) is not None


class _Preparation:
    """One call of `prepare`: collects the versions of what it uses."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress, sources: Mapping[str, Source]) -> None:
        self._settings = settings
        self._cache = cache
        self._sources = sources
        self._packages: dict[str, str] = {}
        self._progress = progress
        self._closures = Closures(settings, cache, progress)
        self._versions: dict[str, dict[str, str]] = {}

    def run(self, wants: Collection[str]) -> Toolchain:
        machine = self._qemu("qemu", X86_64, self._settings.qemu) if "qemu" in wants else None
        foreign = {arch: self._qemu(want, arch) for want, arch in _FOREIGN.items() if want in wants}
        guests = {want: self._linux(want) for want in wants if versions.split(want)[0] in _GUESTS}
        linux = guests.pop(_LINUX, None)
        wanted = [self._firmware(want) for want in wants if versions.split(want)[0] in FIRMWARE]
        firmware = {name: file for files in wanted for name, file in files.items()}
        programs = {want: self._program(want) for want in wants if want in _PROGRAMS}
        return Toolchain(
            machine, linux, firmware, dict(sorted(self._versions.items())), self._cache, foreign, guests, programs,
            dict(self._packages),
        )  # fmt: skip

    def _program(self, want: str) -> dict[str, Path]:
        tree, path = Tree(self._fetch(recipe.load(want), want).root), f"usr/bin/{want}"
        return {**tree.closure(path), want: tree.require(path)}

    def _fetch(self, loaded: Recipe, name: str, want: str = "") -> Fetched:
        """Fetch a closure of a recipe; ``want`` is given where it holds the driver under test."""
        version = versions.split(want)[1]
        try:
            fetched = self._closures.fetch(name, loaded.closures[name])
        except MirrorError as error:
            if not version:
                raise
            suites = " or ".join(loaded.closures[name].suites)
            raise LabError(
                f"{want} cannot be fetched, which is in Debian's {suites}: {error.what}",
                remedy="leave this version out, or name a mirror (--mirror) or a snapshot (--snapshot) that has this suite",
            ) from error
        self._versions.update({f"{name}/{package}": facts for package, facts in fetched.versions.items()})
        if want:
            package = _package_of(loaded.closures[name], fetched)
            if version and not _is_of(package, version):
                raise LabError(
                    f"{want}: Debian's {loaded.closures[name].suites[-1]} has {package.name} {package.version} now.",
                    remedy="name a snapshot of the archive that has this version: --snapshot URL; or correct the manifest",
                )
            self._packages[want] = f"{package.name} {package.version}"
        return fetched

    def _qemu(self, want: str, arch: str, named: Path | None = None) -> Qemu:
        """Prepare a QEMU. ``named`` is the user's own: --qemu is for this machine's architecture and ignored for others."""
        chosen = qemu.choose(named, lambda: self._fetch(recipe.load(want), want).root, self._progress, arch=arch)
        self._versions[want] = {"version": qemu.dotted(chosen.version), "sha256": chosen.sha256}
        return chosen

    def _firmware(self, want: str) -> dict[str, Path]:
        loaded = _recipe(want, self._sources)
        if loaded.initrd:
            return self._initrd(loaded, loaded.initrd, want)
        root = self._fetch(loaded, loaded.varying, want).root
        files = {name: root / path for name, path in loaded.firmware.items()}
        for name, file in files.items():
            if not file.is_file():
                raise LabError(f"The package of {name} has no file {loaded.firmware[name]}.")
        return files

    def _initrd(self, loaded: Recipe, made: Initrd, want: str) -> dict[str, Path]:
        """Return a kernel and its initramfs in the cache: WANT and WANT-initrd."""
        roots = {
            name: self._fetch(loaded, name, want if name == made.kernel else "").root for name in (made.kernel, made.tools)
        }

        def build(folder: Path) -> None:
            require_space(self._cache.root, _IMAGE_SPACE)
            self._progress(f"building the initramfs of {' and '.join(roots)}")
            built = builder.build_initrd(made, roots)
            (folder / "vmlinuz").write_bytes(built.vmlinux)
            (folder / "initrd.cpio").write_bytes(built.initrd)

        made_of = (builder.source_key(made), *(root.name for root in roots.values()))
        folder = self._cache.entry("images", sha256("\n".join(made_of).encode()).hexdigest()[:32], build)
        return {want: folder / "vmlinuz", f"{want}-initrd": folder / "initrd.cpio"}

    def _linux(self, want: str) -> LinuxGuest:
        loaded = _recipe(want, self._sources)
        image = loaded.image
        assert image is not None, f"the recipe of {want} has no [image]"
        named_kernel, named_image = self._settings.kernel, self._settings.image
        folder = None if named_kernel and named_image else self._build(loaded, image, want)
        if named_kernel:
            vmlinux, release, modules = *self._named_kernel(named_kernel), ()
            packed = None if named_kernel.read_bytes()[:4] == b"\x7fELF" else named_kernel
        else:
            assert folder is not None
            facts = json.loads((folder / "image.json").read_text())
            vmlinux, release = folder / "vmlinux", facts["release"]
            modules = tuple(folder / "modules" / name for name in facts["modules"])
            root = self._fetch(loaded, image.kernel, want if image.kernel == loaded.varying else "").root
            packed = next((file for pattern in _KERNELS for file in sorted(root.glob(pattern))), None)
        if named_image:
            base, key = self._named_file("image", named_image)
        else:
            assert folder is not None
            base, key = folder / "base.cpio", folder.name
        keyed = self._with_keys(base, key)
        return LinuxGuest(
            vmlinux=vmlinux,
            initrd=keyed / "initrd.cpio",
            append=image.append,
            release=release,
            modules=modules,
            private_key=keyed / "id_ed25519",
            host_key=(keyed / "host_key.pub").read_text(),
            packed=packed,
        )

    def _build(self, loaded: Recipe, image: Image, want: str) -> Path:
        """Return the image of the recipe in the cache: vmlinux, base.cpio, modules/, image.json."""
        names = (image.kernel, image.tools, *image.foreign)
        roots = {name: self._fetch(loaded, name, want if name == loaded.varying else "").root for name in names}

        def build(folder: Path) -> None:
            require_space(self._cache.root, _IMAGE_SPACE)
            self._progress(f"building the guest image of {' and '.join(roots)}")
            built = builder.build(image, roots)
            (folder / "vmlinux").write_bytes(built.vmlinux)
            (folder / "base.cpio").write_bytes(built.initrd)
            (folder / "modules").mkdir()
            for name, content in built.pushed.items():
                (folder / "modules" / name).write_bytes(content)
            facts = {"release": built.release, "modules": list(built.pushed)}
            (folder / "image.json").write_text(json.dumps(facts))

        made_of = (builder.source_key(image), *(root.name for root in roots.values()))
        key = sha256("\n".join(made_of).encode()).hexdigest()[:32]
        return self._cache.entry("images", key, build)

    def _with_keys(self, base: Path, key: str) -> Path:
        """Return the image followed by keys of its own: initrd.cpio, id_ed25519, host_key.pub."""

        def build(folder: Path) -> None:
            made = keys.generate()
            private = folder / "id_ed25519"
            private.touch(0o600)
            private.write_bytes(made.private_key)
            (folder / "host_key.pub").write_text(made.host_key)
            initrd = folder / "initrd.cpio"
            initrd.touch(0o600)
            with initrd.open("wb") as stream:
                with base.open("rb") as image:
                    shutil.copyfileobj(image, stream)
                stream.write(bytes(-stream.tell() % 4))
                stream.write(made.initrd)

        return self._cache.entry("keyed", key, build)

    def _named_kernel(self, path: Path) -> tuple[Path, str]:
        """Return the user's kernel as a vmlinux in the cache, and its release."""
        source, key = self._named_file("kernel", path)

        def build(folder: Path) -> None:
            try:
                (folder / "vmlinux").write_bytes(extract_vmlinux(source.read_bytes()))
            except LabError as error:
                raise UsageError(f"{source}: {error.what}", remedy=error.remedy) from error

        vmlinux = self._cache.entry("kernels", key, build) / "vmlinux"
        return vmlinux, kernel_release(vmlinux.read_bytes())

    def _named_file(self, what: str, path: Path) -> tuple[Path, str]:
        """Return a file that the user named, and its content key; note it in the versions."""
        try:
            digest = file_sha256(path)
        except OSError as error:
            raise UsageError(f"The {what} that was named, {path}, cannot be read: {error.strerror}.") from error
        self._versions[what] = {"version": str(path), "sha256": digest}
        return path, digest[:32]
