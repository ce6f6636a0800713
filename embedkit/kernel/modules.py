"""The modules of a root file system: is the ``.ko`` there, and does ``modules.dep`` know it?

A kernel option that is ``m`` helps only when the module reached the board. Names are compared
as ``modprobe`` does: ``-`` and ``_`` are the same (kmod, libkmod-util.c).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError

_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst", ".ko.bz2")


def _key(file_name: str) -> str | None:
    for suffix in _SUFFIXES:
        if file_name.endswith(suffix):
            return file_name.removesuffix(suffix).replace("-", "_")
    return None


@dataclass(frozen=True)
class ModuleFolder:
    """``/lib/modules/RELEASE``. ``known`` are modules whose file is there and that depmod listed;
    ``unlisted`` are files that ``modules.dep`` does not name, so that modprobe cannot load them.
    """

    folder: Path
    release: str
    known: frozenset[str]
    unlisted: frozenset[str]

    def has(self, module: str) -> bool:
        """Whether modprobe could load it, or it is built into the kernel."""
        return module.replace("-", "_") in self.known


def open_modules(place: Path, release: str | None = None) -> ModuleFolder:
    """The modules under ``place``: a root file system, a Buildroot ``target`` folder,
    ``/lib/modules`` or one release's folder in it.

    ``release`` picks one of several. Raises InputError where none, or none in particular, is
    there, and where ``modules.dep`` is missing.
    """
    folder = _pick(place, release)
    listing = folder / "modules.dep"
    try:
        lines = listing.read_text(errors="replace").splitlines()
    except OSError as error:
        raise InputError(
            "there is no modules.dep, so modprobe cannot load anything",
            where=str(folder),
            hint=f"run depmod -b ROOT {folder.name}",
        ) from error
    listed = {}
    for line in lines:
        path, colon, _ = line.partition(":")
        key = _key(path.rsplit("/", 1)[-1])
        if colon and key is not None:
            listed[key] = path
    files = {key for file in folder.rglob("*.ko*") if (key := _key(file.name)) is not None}
    builtin = set()
    builtins = folder / "modules.builtin"
    if builtins.is_file():
        for line in builtins.read_text(errors="replace").splitlines():
            key = _key(line.rsplit("/", 1)[-1])
            if key is not None:
                builtin.add(key)
    known = frozenset(key for key in listed if key in files) | frozenset(builtin)
    return ModuleFolder(folder, folder.name, known, frozenset(files - set(listed)))


def _pick(place: Path, release: str | None) -> Path:
    if not place.is_dir():
        raise InputError(f"{place} is not a folder with kernel modules")
    if (place / "modules.dep").is_file():
        return place
    for base in (place / "lib" / "modules", place / "usr" / "lib" / "modules", place):
        if not base.is_dir():
            continue
        found = sorted(
            entry
            for entry in base.iterdir()
            if (entry / "kernel").is_dir() or (entry / "modules.dep").is_file()
        )
        if not found:
            continue
        if len(found) == 1:
            return found[0]
        matching = [entry for entry in found if release and entry.name.startswith(release)]
        if len(matching) == 1:
            return matching[0]
        names = ", ".join(entry.name for entry in found)
        raise InputError(
            f"there are modules of several kernels ({names})",
            where=str(base),
            hint=f"name one folder: --modules {found[0]}",
        )
    raise InputError(
        "there are no kernel modules (no lib/modules/RELEASE)",
        where=str(place),
        hint="give a root file system, Buildroot's output/target, or /lib/modules/RELEASE",
    )
