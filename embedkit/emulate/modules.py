"""A kernel package's modules: which a small board needs, and what its modprobe reads.

``modules.dep`` and ``modules.alias`` are written here, as BusyBox's modprobe wants them, so that
no depmod is needed on this machine. Modules that are packed are unpacked: not every loader on a
board can do that. Source: modules.dep(5); Linux, MODULE_INFO; BusyBox modutils/modprobe.c.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit import elf
from embedkit.errors import InputError, LackError

_PACKED = {".xz": lzma.decompress, ".gz": gzip.decompress}


@dataclass(frozen=True)
class Module:
    """One module. ``path`` is relative to /lib/modules/RELEASE and ends in ``.ko``; ``depends``
    and ``soft`` name others, ``soft`` those that it can do without."""

    name: str
    path: str
    content: bytes
    depends: tuple[str, ...]
    soft: tuple[str, ...]
    aliases: tuple[str, ...]


class ModuleTree:
    """The folder /lib/modules/RELEASE of an unpacked kernel package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        for file in sorted(folder.rglob("*.ko*")):
            self._files[key(file.name.partition(".ko")[0])] = file
        self._read: dict[str, Module] = {}

    @property
    def release(self) -> str:
        """What ``uname -r`` says on that kernel."""
        return self.folder.name

    def below(self, *prefixes: str) -> tuple[str, ...]:
        """Names of the modules whose path begins with one of ``prefixes``, sorted."""
        found = []
        for name, file in self._files.items():
            path = file.relative_to(self.folder).as_posix()
            if path.startswith(prefixes):
                found.append(name)
        return tuple(sorted(found))

    def module(self, name: str) -> Module | None:
        """The module of that name; None where there is none (it may be built in)."""
        name = key(name)
        if name not in self._read and name in self._files:
            self._read[name] = self._load(name)
        return self._read.get(name)

    def _load(self, name: str) -> Module:
        file = self._files[name]
        path = file.relative_to(self.folder).as_posix()
        content = file.read_bytes()
        plain, dot, packed = path.partition(".ko")
        if packed:
            if packed not in _PACKED:
                raise LackError(f"kernel modules packed as {packed} cannot be read", where=path)
            try:
                content = _PACKED[packed](content)
            except (OSError, EOFError, lzma.LZMAError) as error:
                raise InputError(f"the kernel module is damaged: {error}", where=path) from error
        depends: list[str] = []
        soft: list[str] = []
        aliases: list[str] = []
        for entry in elf.section(content, ".modinfo").split(b"\0"):
            field, _, value = entry.decode("utf-8", "replace").partition("=")
            if field == "depends":
                depends += [key(word) for word in value.split(",") if word]
            elif field == "softdep":
                soft += [key(word) for word in value.split() if not word.endswith(":")]
            elif field == "alias":
                aliases.append(value)
        return Module(name, plain + dot, content, tuple(depends), tuple(soft), tuple(aliases))

    def closure(self, names: Iterable[str], *, soft: bool = True) -> tuple[Module, ...]:
        """``names`` and all that they depend on, in the order in which they can be loaded.

        What is not there is left out: it is built in, or this kernel does without.
        """
        ordered: dict[str, Module] = {}
        visiting: set[str] = set()

        def visit(name: str) -> None:
            module = self.module(name)
            if module is None or module.name in ordered or module.name in visiting:
                return
            visiting.add(module.name)
            for other in (*module.depends, *(module.soft if soft else ())):
                visit(other)
            ordered[module.name] = module

        for name in names:
            visit(name)
        return tuple(ordered.values())


def key(name: str) -> str:
    """A module's name as the kernel spells it."""
    return name.replace("-", "_")


def listing(modules: Sequence[Module]) -> str:
    """``modules.dep``: a line a module, with everything to load before it, the nearest first."""
    by_name = {module.name: module for module in modules}
    lines = []
    for module in sorted(modules, key=lambda module: module.path):
        before: dict[str, None] = {}

        def collect(depends: Iterable[str], before: dict[str, None] = before) -> None:
            for name in depends:
                if name in by_name:
                    # What is needed by two stands as late as the later one needs it.
                    before.pop(by_name[name].path, None)
                    before[by_name[name].path] = None
                    collect(by_name[name].depends, before)

        collect(module.depends)
        lines.append(" ".join([f"{module.path}:", *before]))
    return "".join(f"{line}\n" for line in lines)


def aliases(modules: Sequence[Module]) -> str:
    """``modules.alias``: what the kernel or a device calls a module."""
    lines = [
        f"alias {alias} {module.name}"
        for module in sorted(modules, key=lambda module: module.path)
        for alias in module.aliases
    ]
    return "".join(f"{line}\n" for line in lines)
