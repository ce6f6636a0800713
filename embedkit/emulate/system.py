"""A little Linux system as a tar: BusyBox is process 1, dropbear answers, Docker has its ground.

It is made of Debian packages that were unpacked into one folder. ``/bin``, ``/sbin`` and
``/usr/sbin`` lead to ``/usr/bin``, ``/lib`` to ``/usr/lib``. Everything is root's, whoever makes
it, and the same packages give the same bytes.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from embedkit import elf
from embedkit.emulate import scripts
from embedkit.emulate.modules import Module, ModuleTree, aliases, listing
from embedkit.errors import InputError

_TIME = 1_700_000_000
_FOLDERS = (
    "usr", "usr/bin", "usr/lib", "boot", "dev", "etc", "etc/init.d", "etc/dropbear", "etc/ssl",
    "etc/ssl/certs", "home", "mnt", "opt", "proc", "run", "sys", "usr/share", "usr/share/udhcpc",
    "usr/local", "usr/local/bin", "usr/local/sbin", "var", "var/lib", "var/log",
)  # fmt: skip
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "usr/sbin": "bin",
    "lib": "usr/lib",
    "var/run": "../run",
    "var/tmp": "../tmp",
    "etc/mtab": "../proc/mounts",
}
_MOVED = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "usr/sbin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
}
# Without these the board does not come up: a BusyBox that lacks one is not fit.
_APPLETS = frozenset(
    ("sh", "init", "getty", "login", "mount", "umount", "modprobe", "ip", "udhcpc", "hostname")
)


class Rootfs:
    """Writes a root file system as a tar with root's files."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._names: set[str] = set()

    def close(self) -> None:
        """Ends the archive."""
        self._tar.close()

    def __contains__(self, path: str) -> bool:
        return path in self._names

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A folder, once; those above it are made as well."""
        if path in self._names:
            return
        self._above(path)
        self._add(self._info(path, tarfile.DIRTYPE, mode))

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A regular file."""
        self._above(path)
        info = self._info(path, tarfile.REGTYPE, mode)
        info.size = len(content)
        self._add(info, io.BytesIO(content))

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._above(path)
        info = self._info(path, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._add(info)

    def device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A character device."""
        info = self._info(path, tarfile.CHRTYPE, mode)
        info.devmajor, info.devminor = major, minor
        self._add(info)

    def _above(self, path: str) -> None:
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            self.folder(str(folder))

    def _add(self, info: tarfile.TarInfo, content: io.BytesIO | None = None) -> None:
        if info.name in self._names:
            raise InputError("the packages hold it twice", where=info.name)
        self._names.add(info.name)
        self._tar.addfile(info, content)

    def _info(self, path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.mtime = kind, mode, _TIME
        return info


class Tree:
    """Packages unpacked into one folder, links followed within it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._libraries: dict[str, Path] = {}
        for folder in ("lib", "usr/lib", "lib64", "usr/lib64"):
            # The file system's order is anybody's guess; the one nearest to the top is taken.
            found = sorted((root / folder).rglob("*.so*"), key=lambda path: (len(path.parts), path))
            for path in found:
                self._libraries.setdefault(path.name, path)

    def path(self, name: str) -> Path:
        """The file behind ``name`` ("usr/bin/runc"). Raises InputError where there is none."""
        found = self.root / name
        for _ in range(16):
            if not found.is_symlink():
                break
            target = PurePosixPath(found.readlink())
            found = self.root / target.relative_to("/") if target.is_absolute() \
                else found.parent / target  # fmt: skip
        if not found.is_file():
            raise InputError(f"the packages hold no {name}")
        return found

    def first(self, *names: str) -> Path:
        """The first of ``names`` that is there. Raises InputError where none is."""
        for name in names[:-1]:
            if (self.root / name).exists() or (self.root / name).is_symlink():
                return self.path(name)
        return self.path(names[-1])

    def read(self, *names: str) -> bytes:
        """The content of the first of ``names`` that is there. Raises InputError."""
        return self.first(*names).read_bytes()

    def glob(self, pattern: str) -> list[Path]:
        """Everything that matches, sorted."""
        return sorted(self.root.glob(pattern))

    def libraries(self, programs: Iterable[bytes], also: Sequence[str] = ()) -> dict[str, bytes]:
        """Path → content of the loaders and libraries that ``programs`` need, and that those
        need. ``also`` are libraries that are opened by name, where they are there.

        Raises InputError that names all that the packages lack.
        """
        found: dict[str, bytes] = {}
        missing: set[str] = set()
        waiting = [*programs]
        waiting += [self._library(name)[1] for name in also if name in self._libraries]
        found.update(self._library(name) for name in also if name in self._libraries)
        while waiting:
            asks = elf.read(waiting.pop())
            if asks is None:
                continue
            loader = asks.interpreter.lstrip("/")
            for name in (*asks.needed, *([loader] if loader else [])):
                if "/" not in name and name not in self._libraries:
                    missing.add(name)
                    continue
                path, content = (name, self.read(name)) if "/" in name else self._library(name)
                if path not in found:
                    found[path] = content
                    waiting.append(content)
        if missing:
            raise InputError(f"the packages lack the libraries {', '.join(sorted(missing))}")
        return dict(sorted(found.items()))

    def _library(self, name: str) -> tuple[str, bytes]:
        path = self._libraries[name].relative_to(self.root).as_posix()
        return path, self.read(path)


def moved(path: str) -> str:
    """Where a package's file lies in a system with all programs in /usr/bin."""
    folder, _, name = path.rpartition("/")
    for old, new in _MOVED.items():
        if folder == old or folder.startswith(f"{old}/"):
            return f"{new}{folder[len(old) :]}/{name}"
    return path


def applets(busybox: bytes) -> tuple[str, ...]:
    """The names that a BusyBox program answers to, read from its own table.

    Source: BusyBox, include/applet_tables.h: names in alphabetical order, each ended by a NUL,
    the last by two. Raises InputError where they are not found.
    """
    match = re.search(rb"\0\[\0\[\[\0((?:[a-z0-9_.+-]{1,40}\0)+)\0", busybox)
    names = match.group(1).decode().rstrip("\0").split("\0") if match else []
    lacking = _APPLETS - set(names)
    if lacking:
        raise InputError(f"this BusyBox has no {', '.join(sorted(lacking))}")
    return ("[", "[[", *names)


def write_system(
    path: Path,
    tree: Tree,
    kernel: ModuleTree,
    modules: Sequence[Module],
    *,
    hostname: str,
    title: str,
    console: str,
    baud: int,
    authorized_key: str,
    needed_by: Sequence[bytes],
    boot: Sequence[tuple[str, bytes]],
) -> None:
    """Writes the root file system's tar.

    ``needed_by`` are programs that come onto the board later and whose libraries must be there;
    ``boot`` is (name, content) of what goes to /boot. Raises InputError where the packages lack
    something.
    """
    rootfs = Rootfs(path)
    try:
        _frame(rootfs)
        for name, text, mode in scripts.files(hostname, title, console, baud):
            rootfs.file(name, text.encode(), mode)
        rootfs.folder("root", 0o700)
        rootfs.folder("root/.ssh", 0o700)
        rootfs.file("root/.ssh/authorized_keys", f"{authorized_key.strip()}\n".encode(), 0o600)
        rootfs.file("etc/ssl/certs/ca-certificates.crt", _certificates(tree))
        programs = [*needed_by, *_programs(rootfs, tree)]
        xtables = tree.glob("usr/lib/*/xtables/*.so")
        for file in xtables:
            rootfs.file(moved(file.relative_to(tree.root).as_posix()), file.read_bytes())
        programs += [file.read_bytes() for file in xtables]
        for name, content in tree.libraries(programs, also=("libgcc_s.so.1",)).items():
            rootfs.file(moved(name), content, 0o755)
        if "usr/lib64" in rootfs:
            rootfs.link("lib64", "usr/lib64")
        _modules(rootfs, kernel, modules)
        for name, content in boot:
            rootfs.file(f"boot/{name}", content)
    finally:
        rootfs.close()


def _frame(rootfs: Rootfs) -> None:
    for folder in _FOLDERS:
        rootfs.folder(folder)
    rootfs.folder("tmp", 0o1777)
    for name, target in _LINKS.items():
        rootfs.link(name, target)
    rootfs.device("dev/console", 5, 1)
    rootfs.device("dev/null", 1, 3, 0o666)


def _programs(rootfs: Rootfs, tree: Tree) -> list[bytes]:
    """BusyBox with its names, dropbear and iptables; the contents of the dynamic ones."""
    dynamic = {
        "dropbear": tree.read("usr/sbin/dropbear"),
        "dropbearkey": tree.read("usr/bin/dropbearkey"),
        "xtables-legacy-multi": tree.read("usr/sbin/xtables-legacy-multi"),
    }
    for name, content in dynamic.items():
        rootfs.file(f"usr/bin/{name}", content, 0o755)
    # Not nftables' iptables: the legacy one works on kernels that have either.
    for file in tree.glob("usr/sbin/ip*tables-legacy*"):
        for name in (file.name, file.name.replace("-legacy", "")):
            rootfs.link(f"usr/bin/{name}", "xtables-legacy-multi")
    busybox = tree.read("bin/busybox", "usr/bin/busybox")
    rootfs.file("usr/bin/busybox", busybox, 0o755)
    for name in applets(busybox):
        if f"usr/bin/{name}" not in rootfs and name != "busybox":
            rootfs.link(f"usr/bin/{name}", "busybox")
    return [*dynamic.values()]


def _certificates(tree: Tree) -> bytes:
    files = tree.glob("usr/share/ca-certificates/mozilla/*.crt")
    return b"".join(file.read_bytes().rstrip(b"\n") + b"\n" for file in files)


def _modules(rootfs: Rootfs, kernel: ModuleTree, modules: Sequence[Module]) -> None:
    folder = f"usr/lib/modules/{kernel.release}"
    for module in sorted(modules, key=lambda module: module.path):
        rootfs.file(f"{folder}/{module.path}", module.content)
    rootfs.file(f"{folder}/modules.dep", listing(modules).encode())
    rootfs.file(f"{folder}/modules.alias", aliases(modules).encode())
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (kernel.folder / name).is_file():
            rootfs.file(f"{folder}/{name}", (kernel.folder / name).read_bytes())
