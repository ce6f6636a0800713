"""Debian's binary packages of any architecture: found, fetched and unpacked, never installed.

A *source* knows packages: the host's own apt (:mod:`embedkit.emulate.apt`) or a folder of
``.deb`` files (here). Of a package's dependencies only libraries count: programs are taken as
files, their maintainer scripts are not run, so what those would need is of no use.
Source of the fields: Debian Policy, chapters 5 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedkit import process
from embedkit.errors import InputError, LackError
from embedkit.progress import Progress

_FIELDS = ("Package", "Version", "Architecture", "Depends", "Pre-Depends", "Size")
# Debian Policy 8.1: library packages are called lib…; zlib is older than that.
_LIBRARIES = ("lib", "zlib1g")
_KERNEL = r"linux-image-[0-9][0-9a-z.+~]*(?:-[0-9]+)?-{}(?:-unsigned)?"


class NotThere(LackError):
    """Packages that cannot be had as the lists are; newer lists may know better."""


@dataclass(frozen=True)
class Package:
    """One package in one version. ``depends`` has the names of each clause's alternatives;
    ``size_bytes`` is the .deb's."""

    name: str
    version: str
    arch: str
    depends: tuple[tuple[str, ...], ...] = ()
    size_bytes: int = 0

    @property
    def key(self) -> str:
        """``NAME_VERSION_ARCH`` as Debian names its files, colons written as ``%3a``."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}"

    @property
    def libraries(self) -> tuple[tuple[str, ...], ...]:
        """The clauses of ``depends`` that ask for a library."""
        return tuple(clause for clause in self.depends if clause[0].startswith(_LIBRARIES))


class Source(Protocol):
    """Where packages come from."""

    def find(self, names: Iterable[str]) -> dict[str, Package]:
        """The newest version of each of ``names`` that is there; the others are left out."""

    def kernel(self, flavour: str) -> Package | None:
        """The newest kernel of a flavour ("armmp", "arm64", "amd64")."""

    def fetch(self, packages: Sequence[Package], progress: Progress) -> dict[str, Path]:
        """Name → the .deb. Raises NotThere, or LackError where it is not the archive's fault."""

    def lacks(self, names: Sequence[str]) -> NotThere:
        """The error for packages that are not there."""

    def renew(self) -> bool:
        """Learns anew what is there; False where that would tell nothing new."""


def parse(text: str) -> list[Package]:
    """The packages of control data: stanzas as apt-cache and dpkg-deb write them."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                if name:
                    fields[name] += line
                continue
            name, colon, value = line.partition(":")
            name = name if colon and name in _FIELDS else ""
            if name:
                fields[name] = value.strip()
        if fields.keys() >= {"Package", "Version", "Architecture"}:
            found.append(_package(fields))
    return found


def _package(fields: Mapping[str, str]) -> Package:
    relations = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
    clauses = [clause for clause in relations.split(",") if clause.strip()]
    size = fields.get("Size", "")
    return Package(
        fields["Package"],
        fields["Version"],
        fields["Architecture"],
        tuple(tuple(map(_name, clause.split("|"))) for clause in clauses),
        int(size) if size.isdigit() else 0,
    )


def _name(choice: str) -> str:
    """``libc6`` of ``libc6:any (>= 2.34)``."""
    return re.split(r"[\s(:]", choice.strip(), maxsplit=1)[0]


def resolve(source: Source, wanted: Iterable[str], flavour: str = "") -> tuple[Package, ...]:
    """``wanted``, the newest kernel of ``flavour``, and all libraries that they depend on.

    In the order of their names. Raises NotThere that names everything missing at once.
    """
    taken: dict[str, Package] = {}
    missing: set[str] = set()
    kernel = source.kernel(flavour) if flavour else None
    if kernel is not None:
        taken[kernel.name] = kernel
    elif flavour:
        missing.add(f"linux-image-…-{flavour}")
    clauses: set[tuple[str, ...]] = {(name,) for name in wanted}
    while clauses:
        names = {name for clause in clauses for name in clause} - taken.keys()
        found = source.find(sorted(names))
        fresh = []
        for clause in clauses:
            if any(name in taken for name in clause):
                continue
            chosen = next((found[name] for name in clause if name in found), None)
            if chosen is None:
                missing.add(" or ".join(clause))
            elif chosen.name not in taken:
                taken[chosen.name] = chosen
                fresh.append(chosen)
        clauses = {clause for package in fresh for clause in package.libraries}
    if missing:
        raise source.lacks(sorted(missing))
    return tuple(sorted(taken.values(), key=lambda package: package.name))


class Folder:
    """A folder of .deb files, however they are named: each tells its own name and version.

    Their signatures are not checked: nobody but their owner knows where they are from.
    """

    def __init__(self, folder: Path, arch: str) -> None:
        """Raises InputError where there is no such folder, or it holds no .deb at all."""
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}")
        files = sorted(folder.rglob("*.deb"))
        if not files:
            raise InputError("there are no .deb files in it", where=str(folder))
        self._folder = folder
        self._arch = arch
        self._files: dict[Package, Path] = {}
        self._newest: dict[str, Package] = {}
        for file in files:
            self._add(file)

    def _add(self, file: Path) -> None:
        told = process.run(["dpkg-deb", "-f", file, *_FIELDS[:-1]], check=False)
        packages = parse(told.text) if told.returncode == 0 else []
        if len(packages) != 1:
            raise InputError("it is not a Debian package that can be read", where=str(file))
        package = packages[0]
        if package.arch not in (self._arch, "all"):
            return
        self._files.setdefault(package, file)
        known = self._newest.get(package.name)
        if known is None or newer(package.version, known.version):
            self._newest[package.name] = package

    def find(self, names: Iterable[str]) -> dict[str, Package]:
        """The newest version of each of ``names`` that is there; the others are left out."""
        return {name: self._newest[name] for name in names if name in self._newest}

    def kernel(self, flavour: str) -> Package | None:
        """The newest kernel of a flavour, or None."""
        best: Package | None = None
        for package in self._newest.values():
            if not is_kernel(package.name, flavour):
                continue
            if best is None or newer(package.version, best.version):
                best = package
        return best

    def fetch(self, packages: Sequence[Package], progress: Progress) -> dict[str, Path]:
        """Name → the .deb in the folder."""
        return {package.name: self._files[package] for package in packages}

    def renew(self) -> bool:
        """A folder is what it is."""
        return False

    def lacks(self, names: Sequence[str]) -> NotThere:
        """The error for packages that are not in the folder."""
        return NotThere(
            f"the folder lacks {len(names)} packages for {self._arch}: {', '.join(names)}"
            if len(names) > 1
            else f"the folder lacks a package for {self._arch}: {names[0]}",
            where=str(self._folder),
            hint="fetch them on a Debian machine: apt-get download PACKAGE:ARCH",
        )


def is_kernel(name: str, flavour: str) -> bool:
    """Whether ``name`` is a kernel of exactly this flavour, signed or not."""
    return re.fullmatch(_KERNEL.format(re.escape(flavour)), name) is not None


def newer(version: str, other: str) -> bool:
    """Whether ``version`` comes after ``other``, by Debian's rules."""
    argv = ["dpkg", "--compare-versions", version, "gt", other]
    return process.run(argv, check=False).returncode == 0


def unpack(deb: Path, folder: Path) -> None:
    """Puts the package's files into ``folder``; no maintainer script is run.

    Raises LackError without dpkg-deb or room, InputError where the package is damaged.
    """
    done = process.run(["dpkg-deb", "-x", deb, folder], check=False)
    if done.returncode == 0:
        return
    if b"No space left" in done.stderr:
        raise LackError(f"no room is left to unpack {deb.name}", where=str(folder))
    raise InputError(f"the package cannot be unpacked: {done.complaint}", where=str(deb))
