"""A Docker bundle: Docker's static archive, a folder of programs, or one single binary.

It is read where it lies: an archive streams through memory once, and every program's header,
size, digest and version are told before anything is written anywhere.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from embedkit import elf
from embedkit.errors import InputError
from embedkit.units import format_size

# Far above Docker 29 (230 MB); what is bigger is no Docker, and must not fill a disk.
_MEMBER_LIMIT_BYTES = 1 << 30
_TOTAL_LIMIT_BYTES = 2 << 30
_MEMBER_LIMIT = 4096
_CHUNK = 1 << 20
_PADDING_LIMIT_BYTES = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
VERSION = re.compile(r"\d{1,4}(?:\.\d{1,4}){1,3}(?:[-+~][A-Za-z0-9.+~-]{1,40})?")
_FILE_VERSION = re.compile(r"docker-(\d[\w.+~-]*?)(?:\.tgz|\.tar(?:\.\w+)?)?$")
# Docker's own build scripts set it by -ldflags, which Go keeps in the program's build settings.
_BUILT_VERSION = re.compile(rb"dockerversion\.Version=(\d[\w.+~-]{1,40})")
_BUILT_BYTES = 4096

# Without these no container starts (Docker 18.09 and later).
NEEDED = ("dockerd", "containerd", "containerd-shim-runc-v2", "runc")
# What a small board can do without: ctr is a tool for people, the old shim serves containers
# of older daemons, docker-proxy is replaced by iptables ("userland-proxy": false), docker-init
# is only for `docker run --init`.
DISPENSABLE = ("ctr", "containerd-shim", "containerd-shim-runc-v1", "docker-proxy", "docker-init")


_SHAPES = "a bundle is docker-VERSION.tgz, a folder with dockerd, or a docker binary"


class Kind(StrEnum):
    """The shape of a bundle."""

    ARCHIVE = "archive"
    FOLDER = "folder"
    BINARY = "binary"


@dataclass(frozen=True)
class Program:
    """One program of a bundle; ``header`` is None where it is not an ELF program at all."""

    name: str
    size_bytes: int
    sha256: str
    header: elf.Elf | None

    @property
    def cut_off(self) -> bool:
        return self.header is not None and self.header.end_bytes > self.size_bytes

    @property
    def arch(self) -> str:
        """Docker's word for what it is for, or ``machine N``; empty for no program."""
        if self.header is None:
            return ""
        return self.header.architecture or f"machine {self.header.machine}"

    @property
    def hard_float(self) -> bool | None:
        """None where it does not say: all but ARM, and Go programs without C."""
        said = self.header.float_abi if self.header is not None else ""
        return {"hard": True, "soft": False}.get(said)


@dataclass(frozen=True)
class Bundle:
    """Programs in the order of their names. ``version`` is empty where nothing tells it;
    ``ignored`` are files that are no programs."""

    path: Path
    kind: Kind
    version: str
    programs: tuple[Program, ...]
    ignored: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(program.size_bytes for program in self.programs)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(program.name for program in self.programs)

    @property
    def arch(self) -> str:
        """The architecture of the daemon, else of the first program; empty where unknown."""
        order = sorted(self.programs, key=lambda p: p.name not in ("dockerd", "docker"))
        return next((p.arch for p in order if p.header is not None), "")

    @property
    def major(self) -> int | None:
        """The first number of the version, or None."""
        match = re.match(r"\d+", self.version)
        return int(match.group()) if match else None

    @property
    def digest(self) -> str:
        """A sha256 over names and contents: what makes one bundle another than the next."""
        text = "".join(f"{p.sha256}  {p.name}\n" for p in self.programs)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def label(self) -> str:
        """A folder's name for it: the version, else the beginning of the digest."""
        return self.version or f"local-{self.digest[:12]}"

    def minimal(self) -> Bundle:
        """Without what a small board can do without."""
        kept = tuple(p for p in self.programs if p.name not in DISPENSABLE)
        return replace(self, programs=kept)

    def with_version(self, version: str) -> Bundle:
        """The same programs under a version that the user names. Raises InputError."""
        if not VERSION.fullmatch(version):
            raise InputError(f"'{version}' is not a version", hint="write it as 29.7.2")
        return replace(self, version=version)

    @contextlib.contextmanager
    def files(self, names: Iterable[str]) -> Iterator[dict[str, Path]]:
        """Name → a file here with the program's content, for as long as the context lasts.

        An archive's programs are unpacked to a temporary folder, those asked for only.
        Raises InputError where the bundle changed since it was read.
        """
        wanted = set(names)
        if self.kind is Kind.BINARY:
            yield dict.fromkeys(wanted, self.path)
        elif self.kind is Kind.FOLDER:
            yield {name: self.path / name for name in wanted}
        elif not wanted:
            yield {}
        else:
            with tempfile.TemporaryDirectory(prefix="embedkit-bundle-") as folder:
                with _readable(self.path):
                    found = self._unpack(wanted, Path(folder))
                yield found

    def _unpack(self, wanted: set[str], folder: Path) -> dict[str, Path]:
        known = {program.name: program.sha256 for program in self.programs}
        found: dict[str, Path] = {}
        for name, stream in _members(self.path):
            if name not in wanted or name in found:
                continue
            hasher = hashlib.sha256()
            with (folder / name).open("wb") as file:
                while chunk := stream.read(_CHUNK):
                    hasher.update(chunk)
                    file.write(chunk)
            if hasher.hexdigest() != known.get(name):
                break
            (folder / name).chmod(0o755)
            found[name] = folder / name
        if set(found) != wanted:
            raise InputError("the bundle changed while it was used", where=str(self.path))
        return found


def open_bundle(path: Path) -> Bundle:
    """Reads a bundle of any kind.

    Raises InputError for what is none, for archives that are cut off, that hold links, device
    nodes or names that lead out of it, and for ones beyond all reason in size.
    """
    if not path.exists():
        raise InputError(f"there is no bundle {path}")
    if path.is_dir():
        return _made(path, Kind.FOLDER, _scan(_folder(path), str(path)))
    with path.open("rb") as file:
        head = file.read(4)
        if head == b"\x7fELF":
            file.seek(0)
            name = "dockerd" if path.name.startswith("dockerd") else "docker"
            return _made(path, Kind.BINARY, _scan(iter([(name, file)]), str(path)))
    with _readable(path):
        return _made(path, Kind.ARCHIVE, _scan(_members(path), str(path)))


@dataclass(frozen=True)
class _Scanned:
    programs: tuple[Program, ...]
    ignored: tuple[str, ...]
    version: str


def _made(path: Path, kind: Kind, scanned: _Scanned) -> Bundle:
    if not scanned.programs:
        raise InputError(
            "it holds no programs",
            where=str(path),
            hint=_SHAPES,
        )
    named = _FILE_VERSION.search(path.name)
    version = named.group(1) if named else ""
    if not VERSION.fullmatch(version):
        version = scanned.version
    return Bundle(path, kind, version, scanned.programs, scanned.ignored)


def _folder(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    root = path.resolve()
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            continue
        if not entry.resolve().is_relative_to(root) or not entry.is_file():
            raise InputError(
                f"'{entry.name}' is not a regular file of this folder", where=str(path)
            )
        with entry.open("rb") as file:
            yield entry.name, file


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of an archive, by their last name, as it streams by."""
    with contextlib.ExitStack() as stack:
        plain: gzip.GzipFile | None = None
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                plain = stack.enter_context(gzip.open(path))
        if plain is not None:
            archive = stack.enter_context(tarfile.open(fileobj=plain, mode="r|"))
        else:
            archive = stack.enter_context(tarfile.open(path, "r|*"))
        for count, member in enumerate(archive):
            _check_member(member, count, path)
            if not member.isreg():
                continue
            stream = archive.extractfile(member)
            assert stream is not None
            yield PurePosixPath(member.name).name, stream
        # tarfile stops at the archive's end; gzip's own checksum comes after it.
        for _ in range(_PADDING_LIMIT_BYTES // _CHUNK):
            if plain is None or not plain.read(_CHUNK):
                break


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what reading an archive may raise, anywhere in its middle, into an InputError."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        cut = isinstance(error, EOFError) or "unexpected end" in str(error)
        raise InputError(
            "the archive is cut off" if cut else f"it is not an archive that can be read: {error}",
            where=str(path),
            hint=("fetch it again: embedkit bundle fetch" if cut else _SHAPES),
        ) from error


def _check_member(member: tarfile.TarInfo, count: int, path: Path) -> None:
    parts = PurePosixPath(member.name)
    problem = None
    if parts.is_absolute() or ".." in parts.parts:
        problem = "leads out of the archive"
    elif member.issym() or member.islnk():
        problem = "is a link"
    elif not (member.isreg() or member.isdir()):
        problem = "is a device node or a pipe"
    elif member.size > _MEMBER_LIMIT_BYTES:
        problem = f"is bigger than {format_size(_MEMBER_LIMIT_BYTES)}"
    elif count >= _MEMBER_LIMIT:
        problem = f"is one of more than {_MEMBER_LIMIT}"
    if problem is not None:
        raise InputError(
            f"the member '{member.name[:100]}' {problem}: that is no Docker archive",
            where=str(path),
        )


def _scan(files: Iterator[tuple[str, IO[bytes]]], where: str) -> _Scanned:
    programs: dict[str, Program] = {}
    ignored: list[str] = []
    version = ""
    total = 0
    for name, stream in files:
        program, built = _read_program(name, stream)
        total += program.size_bytes
        if total > _TOTAL_LIMIT_BYTES:
            raise InputError(
                f"it unpacks to more than {format_size(_TOTAL_LIMIT_BYTES)}", where=where
            )
        if program.header is None and name not in NEEDED and name != "docker":
            ignored.append(name)
            continue
        if not _NAME.fullmatch(name):
            raise InputError(
                f"a program is called {name[:100]!r}, which no program is", where=where
            )
        if name in programs:
            raise InputError(f"it holds two programs called '{name}'", where=where)
        programs[name] = program
        if built and (name == "dockerd" or not version):
            version = built
    return _Scanned(tuple(sorted(programs.values(), key=lambda p: p.name)), tuple(ignored), version)


def _read_program(name: str, stream: IO[bytes]) -> tuple[Program, str]:
    """The program, and the Docker version that was built into it ("" where there is none)."""
    hasher = hashlib.sha256()
    head = b""
    size = 0
    version = ""
    tail = b""
    looks = name in ("docker", "dockerd")
    while chunk := stream.read(_CHUNK):
        hasher.update(chunk)
        size += len(chunk)
        if size > _MEMBER_LIMIT_BYTES:
            raise InputError(f"'{name[:100]}' is bigger than {format_size(_MEMBER_LIMIT_BYTES)}")
        if len(head) < elf.HEAD_BYTES:
            head += chunk[: elf.HEAD_BYTES - len(head)]
        if looks and not version:
            match = _BUILT_VERSION.search(tail + chunk)
            version = match.group(1).decode() if match else ""
            tail = chunk[-_BUILT_BYTES:]
    header = elf.read(head)
    if header is not None and not header.loadable:
        header = None
    return Program(name, size, hasher.hexdigest(), header), version
