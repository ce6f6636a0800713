"""Makes layers: from a folder, a root filesystem's tar, or single files; always the same bytes.

Members are sorted, every time is SOURCE_DATE_EPOCH's, owners have no names. The owner of a
folder's files is root (who packs a build result is nobody's business), a tar's owners are
kept: they were put there on purpose.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from embedkit.errors import InputError
from embedkit.oci import compression as compress
from embedkit.oci import mediatypes
from embedkit.oci.archivefile import unpacked
from embedkit.oci.content import FileSlice, open_regular
from embedkit.oci.documents import Descriptor
from embedkit.oci.limits import CHUNK, DEFAULT, Limits
from embedkit.oci.mediatypes import Compression
from embedkit.oci.tarread import Kind, TarReader, escapes
from embedkit.oci.tarwrite import END, Header, encode, padding

WHITEOUT = ".wh."
_KEPT_XATTRS = ("security.capability", "user.")


@dataclass(frozen=True)
class Node:
    """One file, folder or other thing of a root filesystem. ``path`` has no leading slash."""

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    open: Callable[[], BinaryIO] | None = None


@dataclass(frozen=True)
class Layer:
    """A layer that was written: its descriptor, the digest of its plain tar, its file."""

    descriptor: Descriptor
    diff_id: str
    file: Path


def from_file(source: Path, path: str, *, mode: int | None = None) -> Node:
    """A single file of this machine as ``path`` of the image."""
    with open_regular(source, "the file") as file:
        status = os.fstat(file.fileno())
    return Node(
        path.strip("/"),
        "file",
        stat.S_IMODE(status.st_mode) & 0o777 if mode is None else mode,
        size=status.st_size,
        open=lambda: open_regular(source, "the file"),
    )


def from_folder(
    folder: Path, into: str = "", *, keep_owner: bool = False, skipped: list[str] | None = None
) -> list[Node]:
    """Everything below ``folder`` as nodes below ``into``.

    Hard links stay links. Sockets are left out; their paths are added to ``skipped``.
    Raises InputError where something cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    nodes: list[Node] = []
    first: dict[tuple[int, int], str] = {}
    for path, status in _walk(folder):
        inside = str(PurePosixPath(into.strip("/")) / path.relative_to(folder).as_posix())
        kind = _kind(status.st_mode)
        if kind == "other":
            if skipped is not None:
                skipped.append(inside)
            continue
        node = Node(
            inside,
            kind,
            stat.S_IMODE(status.st_mode),
            uid=status.st_uid if keep_owner else 0,
            gid=status.st_gid if keep_owner else 0,
            size=status.st_size if kind == "file" else 0,
            link=str(path.readlink()) if kind == "symlink" else "",
            major=os.major(status.st_rdev) if kind in ("char", "block") else 0,
            minor=os.minor(status.st_rdev) if kind in ("char", "block") else 0,
            xattrs=_xattrs(path) if kind in ("file", "dir") else {},
            open=_opener(path) if kind == "file" else None,
        )
        if kind == "file" and status.st_nlink > 1:
            original = first.setdefault((status.st_dev, status.st_ino), inside)
            if original != inside:
                node = replace(node, kind="link", size=0, link=original, open=None, xattrs={})
        nodes.append(node)
    return nodes


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            yield Path(entry.path), entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: open_regular(path, "the file")


def _kind(mode: int) -> Kind:
    for test, kind in (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "dir"),
        (stat.S_ISLNK, "symlink"),
        (stat.S_ISCHR, "char"),
        (stat.S_ISBLK, "block"),
        (stat.S_ISFIFO, "fifo"),
    ):
        if test(mode):
            return cast(Kind, kind)
    return "other"


def _xattrs(path: Path) -> dict[str, bytes]:
    """File capabilities and the user's attributes; labels of this machine's policy stay here."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in sorted(names)
            if name.startswith(_KEPT_XATTRS)
        }
    except OSError:
        return {}


def from_tar(path: Path, *, limits: Limits = DEFAULT) -> tuple[list[Node], Callable[[], None]]:
    """The members of a root filesystem's tar, plain or compressed, and how to let go of it.

    Of two members with one name the later counts, as for tar. Raises InputError for names
    that lead out of the root, and for what no layer can hold.
    """
    file = open_regular(path, "the archive")
    try:
        kind = compress.sniff(file.read(compress.HEAD))
        file.seek(0)
        if kind != "none":
            file = unpacked(file, kind, str(path), limits)
        found: dict[str, Node] = {}
        for member in TarReader(file, str(path), seekable=True, limits=limits):
            where = f"{path}: {member.name[:200]}"
            if escapes(member.name) or (member.kind == "link" and escapes(member.link)):
                raise InputError("a name that leads out of the root filesystem", where=where)
            if member.kind == "other" or member.sparse:
                what = "sparse" if member.sparse else "of an unknown type"
                raise InputError(f"the member is {what}", where=where)
            if not member.path:
                continue
            found.pop(member.path, None)
            found[member.path] = Node(
                member.path,
                member.kind,
                member.mode,
                uid=member.uid,
                gid=member.gid,
                size=member.size,
                link=_relative(member.link) if member.kind == "link" else member.link,
                major=member.major,
                minor=member.minor,
                xattrs=member.xattrs,
                open=_slice(file, member.offset, member.size) if member.kind == "file" else None,
            )
        return list(found.values()), file.close
    except BaseException:
        file.close()
        raise


def _relative(link: str) -> str:
    return "/".join(part for part in link.split("/") if part not in ("", "."))


def _slice(file: BinaryIO, offset: int, size: int) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, FileSlice(file.fileno(), offset, size))


def arrange(nodes: Iterable[Node]) -> list[Node]:
    """Sorted, with the folders that were missing, and every hard link after its file.

    Later nodes replace earlier ones of the same path. Raises InputError for whiteout names,
    links to nothing and things that lie inside of what is no folder.
    """
    found = {node.path: node for node in nodes if node.path not in ("", ".")}
    for node in list(found.values()):
        if any(part.startswith(WHITEOUT) for part in node.path.split("/")):
            raise InputError(f"'{node.path}': no layer can hold a name that begins with '.wh.'")
        for parent in PurePosixPath(node.path).parents:
            name = str(parent)
            if name == ".":
                break
            above = found.setdefault(name, Node(name, "dir", 0o755))
            if above.kind != "dir":
                raise InputError(f"'{node.path}' lies inside of '{name}', which is no folder")
    return [found[path] for path in sorted(_relink(found))]


def _relink(found: dict[str, Node]) -> dict[str, Node]:
    """Moves the data of every group of hard links to the name that comes first."""
    groups: dict[str, list[str]] = {}
    for node in found.values():
        if node.kind == "link":
            target, hops = node.link, 0
            while target in found and found[target].kind == "link" and hops < 100:
                target, hops = found[target].link, hops + 1
            if target not in found or found[target].kind in ("link", "dir"):
                raise InputError(f"'{node.path}' is a hard link to '{node.link}', which is no file")
            groups.setdefault(target, []).append(node.path)
    for target, links in groups.items():
        original = found[target]
        first, *others = sorted([target, *links])
        found[first] = replace(original, path=first)
        for other in others:
            found[other] = replace(
                original, path=other, kind="link", size=0, link=first, open=None, xattrs={}
            )
    return found


def write(
    nodes: Iterable[Node],
    scratch: Path,
    compression: Compression,
    *,
    mtime: int = 0,
    level: int | None = None,
) -> Layer:
    """Writes arranged nodes as a layer into a new file in ``scratch``.

    ``mtime`` is in seconds since 1970. Raises InputError where a file changed its size
    meanwhile.
    """
    plain, packed = hashlib.sha256(), hashlib.sha256()
    made = compress.compressor(compression, level) if compression != "none" else None
    handle, name = tempfile.mkstemp(dir=scratch, prefix="layer-")
    size = 0
    with os.fdopen(handle, "wb") as out:
        for piece in _pieces(nodes, mtime):
            plain.update(piece)
            content = made.compress(piece) if made else piece
            packed.update(content)
            size += out.write(content)
        if made:
            content = made.flush()
            packed.update(content)
            size += out.write(content)
    descriptor = Descriptor(
        mediatypes.layer("oci", compression), f"sha256:{packed.hexdigest()}", size
    )
    return Layer(descriptor, f"sha256:{plain.hexdigest()}", Path(name))


def _pieces(nodes: Iterable[Node], mtime: int) -> Iterator[bytes]:
    for node in nodes:
        yield encode(
            Header(
                node.path, node.kind, node.size, node.mode, node.uid, node.gid, mtime,
                node.link, node.major, node.minor, node.xattrs,
            )
        )  # fmt: skip
        if node.open is None:
            continue
        left = node.size
        with node.open() as stream:
            while left and (content := stream.read(min(left, CHUNK))):
                left -= len(content)
                yield content
            if left or stream.read(1):
                raise InputError(f"'{node.path}' changed while it was read")
        yield padding(node.size)
    yield END
