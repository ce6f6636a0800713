"""A file tree that is to go into a file system: from a folder, a tar or single files.

Nodes come sorted by path, so the same tree gives the same image whatever order a folder or
an archive has them in.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from embedkit.errors import InputError, LackError
from embedkit.media.archive import open_tar

_CHUNK = 1 << 20
_XATTR_PREFIX = "SCHILY.xattr."
# What a root file system's programs depend on; ACLs and labels belong to the machine they were
# made on.
_XATTRS = ("security.capability", "user.")


@dataclass(frozen=True)
class Node:
    """One file, folder or special file. ``path`` has no leading slash; the root is "".

    ``mode`` holds type and permissions as in stat(2); ``content`` is where a regular file's
    bytes are; ``target`` a symlink's text; ``link_to`` the path of the node that a hard link
    shares; ``device`` (major, minor). ``mtime`` is in seconds.
    """

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: Path | None = None
    target: str = ""
    link_to: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def parent(self) -> str:
        return self.path.rsplit("/", 1)[0] if "/" in self.path else ""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


def from_folder(folder: Path) -> tuple[Node, ...]:
    """The nodes of a folder.

    Root's call keeps the owners that the files have. Everybody else's files become root's:
    an image built by an ordinary user must not hand the board's files to that user's number.
    Sockets are left out.
    """
    keep_owners = os.geteuid() == 0
    nodes: list[Node] = []
    seen: dict[tuple[int, int], str] = {}
    for base, folders, files in os.walk(folder):
        below = Path(base)
        folders.sort()  # os.walk goes on in this order: the first of a file's names is fixed
        for name in sorted([*folders, *files]):
            node = _folder_node(below / name, folder, keep_owners, seen)
            if node is not None:
                nodes.append(node)
    return _finished(nodes)


def _folder_node(
    path: Path, folder: Path, keep_owners: bool, seen: dict[tuple[int, int], str]
) -> Node | None:
    try:
        found = path.lstat()
        if stat.S_ISSOCK(found.st_mode):
            return None
        if stat.S_ISREG(found.st_mode) and not os.access(path, os.R_OK):
            raise InputError("cannot be read", where=str(path), hint="give a tar made by root")
        node = Node(
            path=path.relative_to(folder).as_posix(),
            mode=found.st_mode,
            uid=found.st_uid if keep_owners else 0,
            gid=found.st_gid if keep_owners else 0,
            mtime=int(found.st_mtime),
        )
        if stat.S_ISLNK(found.st_mode):
            return replace(node, target=str(path.readlink()))
        if stat.S_ISREG(found.st_mode):
            # The first of a file's names in sorted order is the file, the others are links.
            first = seen.setdefault((found.st_dev, found.st_ino), node.path)
            if first != node.path:
                return replace(node, link_to=first)
            return replace(node, content=path, xattrs=_folder_xattrs(path))
        if stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode):
            return replace(node, device=(os.major(found.st_rdev), os.minor(found.st_rdev)))
        return node
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _folder_xattrs(path: Path) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(path))
    except OSError:
        return ()
    return tuple((name, os.getxattr(path, name)) for name in names if name.startswith(_XATTRS))


def from_files(files: Iterable[tuple[Path, str]]) -> tuple[Node, ...]:
    """Nodes of single files: (file on this machine, path in the tree)."""
    nodes = []
    for path, place in files:
        found = path.stat()
        mode = stat.S_IFREG | (found.st_mode & 0o777)
        nodes.append(Node(_clean(place), mode, mtime=int(found.st_mtime), content=path))
    return _finished(nodes)


def from_tar(archive_path: Path, scratch: Path) -> tuple[Node, ...]:
    """The nodes of a tar; its files' bytes go to numbered files in ``scratch``.

    Owners, modes, times, device nodes, hard links and file capabilities are the archive's.
    Raises InputError for a damaged archive, and for paths that leave the tree.
    """
    nodes: dict[str, Node] = {}
    try:
        with open_tar(archive_path) as archive:
            for number, member in enumerate(archive):
                node = _tar_node(archive, member, scratch / f"{number:08d}")
                if node is not None:
                    nodes[node.path] = node
        return _finished(nodes.values())
    except InputError as error:
        if error.where is None:
            raise InputError(error.message, where=str(archive_path)) from error
        raise


def _tar_node(archive: tarfile.TarFile, member: tarfile.TarInfo, content: Path) -> Node | None:
    types = {
        tarfile.DIRTYPE: stat.S_IFDIR,
        tarfile.SYMTYPE: stat.S_IFLNK,
        tarfile.CHRTYPE: stat.S_IFCHR,
        tarfile.BLKTYPE: stat.S_IFBLK,
        tarfile.FIFOTYPE: stat.S_IFIFO,
    }
    path = _clean(member.name)
    node = Node(
        path=path,
        mode=types.get(member.type, stat.S_IFREG) | (member.mode & 0o7777),
        uid=member.uid,
        gid=member.gid,
        mtime=int(member.mtime),
        xattrs=_tar_xattrs(member),
    )
    if member.issym():
        return replace(node, target=member.linkname)
    if member.islnk():
        return replace(node, link_to=_clean(member.linkname))
    if member.isfile():
        source = archive.extractfile(member)
        if source is not None:
            _keep(source, content)
        return replace(node, content=content)
    if member.ischr() or member.isblk():
        return replace(node, device=(member.devmajor, member.devminor))
    if member.isdir() or member.isfifo():
        return node
    raise InputError(f"member '{member.name}' is of a type that a file system has not")


def _keep(source: IO[bytes], content: Path) -> None:
    """Raises LackError where the bytes have no room: the archive is not to blame for that."""
    try:
        out = content.open("wb")
    except OSError as error:
        raise LackError(f"cannot write {content}: {error.strerror}") from error
    with out:
        while chunk := source.read(_CHUNK):
            try:
                out.write(chunk)
                out.flush()
            except OSError as error:
                raise LackError(f"no room to unpack the archive: {error.strerror}") from error


def _tar_xattrs(member: tarfile.TarInfo) -> tuple[tuple[str, bytes], ...]:
    found = []
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR_PREFIX)
        if name != key and name.startswith(_XATTRS):
            found.append((name, value.encode("utf-8", "surrogateescape")))
    return tuple(sorted(found))


def _clean(name: str) -> str:
    """A path without leading slash or dots. Raises InputError where it leaves the tree."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InputError(f"the path '{name}' leaves the tree")
    if any(character in name for character in "\n\r\0"):
        raise InputError(f"the path {name!r} has a line break in it")
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise InputError(f"the path '{name[:60]}…' has a name longer than 255 bytes")
    return "/".join(parts)


def _finished(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Sorted, parents first, missing ones added, nothing below what is not a folder."""
    by_path = {node.path: node for node in nodes}
    for node in list(by_path.values()):
        _clean(node.path)
        parent = node.parent
        while parent and parent not in by_path:
            by_path[parent] = Node(parent, stat.S_IFDIR | 0o755, mtime=node.mtime)
            parent = by_path[parent].parent
    for node in by_path.values():
        if node.path and node.parent and not by_path[node.parent].is_folder:
            raise InputError(f"'{node.path}' lies below '{node.parent}', which is not a folder")
        if node.link_to:
            target = by_path.get(node.link_to)
            if target is None or target.content is None:
                raise InputError(
                    f"'{node.path}' is a hard link to '{node.link_to}', which is missing"
                )
    return tuple(sorted(by_path.values(), key=lambda node: node.path.split("/")))
