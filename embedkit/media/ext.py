"""ext2, ext3 and ext4 images, made by e2fsprogs without root and without a mount.

mke2fs makes the empty file system, debugfs puts the tree into it in sorted order, with the
owners, modes, times, device nodes and capabilities that the tree has. Everything that the
two would take from the machine (mke2fs.conf, clock, random UUIDs, order of a folder) is
given, so the same tree makes the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from embedkit import process
from embedkit.errors import InputError, TargetError
from embedkit.media.artifacts import ext_size, look
from embedkit.media.layout import FilesystemSource
from embedkit.media.tree import Node

BLOCK = 4096
# What Debian's mke2fs.conf says of inodes, fixed: the machine's own file is not asked.
_CONFIG = """[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    default_mntopts = acl,user_xattr
    enable_periodic_fsck = 0
    blocksize = 4096
    inode_size = 256
    inode_ratio = 16384
[fs_types]
    ext3 = {
        features = has_journal
    }
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,dir_nlink,extra_isize
    }
"""


def make(
    source: FilesystemSource,
    nodes: Iterable[Node],
    path: Path,
    size: int,
    *,
    epoch: int,
    scratch: Path,
) -> None:
    """A file system of ``size`` bytes in the new file ``path``, filled with ``nodes``.

    ``epoch`` is its time of making and the newest time that a file in it may have. Raises
    InputError where the tree does not fit, LackError without e2fsprogs.
    """
    config = scratch / "mke2fs.conf"
    config.write_text(_CONFIG)
    environment = {"E2FSPROGS_FAKE_TIME": str(epoch), "MKE2FS_CONFIG": str(config)}
    argv = ["mke2fs", "-q", "-F", "-t", source.filesystem, "-b", str(BLOCK)]
    argv += ["-E", f"root_owner=0:0,hash_seed={source.uuid},lazy_itable_init=0", "-U", source.uuid]
    if source.label:
        argv += ["-L", source.label]
    if source.features:
        argv += ["-O", source.features]
    with path.open("xb") as file:
        file.truncate(size)
    process.run([*argv, path, f"{size // 1024}k"], env=environment)
    commands = "".join(f"{line}\n" for line in _commands(nodes, epoch, scratch))
    script = scratch / "debugfs.commands"
    script.write_bytes(commands.encode("utf-8", "surrogateescape"))
    ended = process.run(["debugfs", "-w", "-f", script, path], env=environment)
    complaints = [
        line
        for line in ended.stderr.decode("utf-8", "replace").splitlines()
        if line.strip() and not line.startswith("debugfs ")
    ]
    if complaints:
        _explain(complaints[0], source, size)
    check(path)


def _explain(complaint: str, source: FilesystemSource, size: int) -> None:
    where = str(source.content) if source.content else None
    if "block" in complaint and ("allocate" in complaint or "free" in complaint):
        raise InputError(
            f"the content does not fit into the partition's {size} bytes",
            where=where,
            hint="a larger card (--size), or a larger partition in the board file",
        )
    if "inode" in complaint and "allocate" in complaint:
        raise InputError(f"too many files for {size} bytes", where=where)
    raise TargetError(f"debugfs could not fill the file system: {complaint}", where=where)


def _commands(nodes: Iterable[Node], epoch: int, scratch: Path) -> Iterable[str]:
    """debugfs commands that make ``nodes``; folders' times last, for adding changes them."""
    # A hard link's target may sort after it: links are made when all files are there.
    known = sorted(nodes, key=lambda node: bool(node.link_to))
    links: dict[str, int] = {}
    for node in known:
        if node.link_to:
            links[node.link_to] = links.get(node.link_to, 1) + 1
    place = ""
    yield "cd /"
    for number, node in enumerate(known):
        if node.path == "":
            continue
        if node.parent != place:
            place = node.parent
            yield f"cd {_quoted('/' + place)}"
        yield from _create(node)
        yield from _xattrs(node, scratch / f"xattr-{number}")
    yield "cd /"
    for node in known:
        if node.link_to:
            continue
        yield from _dress(node, min(node.mtime, epoch))
        if node.path in links:
            yield f"set_inode_field {_quoted('/' + node.path)} links_count {links[node.path]}"


def _create(node: Node) -> Iterable[str]:
    name = _quoted(node.name)
    if node.link_to:
        yield f"ln {_quoted('/' + node.link_to)} {name}"
    elif node.is_folder:
        # mke2fs has made it already.
        if node.path != "lost+found":
            yield f"mkdir {name}"
    elif stat.S_ISLNK(node.mode):
        yield f"symlink {name} {_quoted(node.target)}"
    elif stat.S_ISFIFO(node.mode):
        yield f"mknod {name} p"
    elif stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
        letter = "c" if stat.S_ISCHR(node.mode) else "b"
        yield f"mknod {name} {letter} {node.device[0]} {node.device[1]}"
    else:
        yield f"write {_quoted(str(node.content))} {name}"


def _xattrs(node: Node, file: Path) -> Iterable[str]:
    for index, (key, value) in enumerate(node.xattrs):
        content = file.with_suffix(f".{index}")
        content.write_bytes(value)
        yield f"ea_set -f {_quoted(str(content))} {_quoted('/' + node.path)} {_quoted(key)}"


def _dress(node: Node, mtime: int) -> Iterable[str]:
    path = _quoted("/" + node.path)
    # A symlink's path names the link itself here: debugfs follows only on the way.
    yield f"set_inode_field {path} mode 0{node.mode:o}"
    if node.uid:
        yield f"set_inode_field {path} uid {node.uid}"
    if node.gid:
        yield f"set_inode_field {path} gid {node.gid}"
    for field in ("mtime", "atime", "ctime"):
        yield f"set_inode_field {path} {field} @{max(mtime, 0)}"


def _quoted(text: str) -> str:
    """``text`` as one argument of debugfs: its quotes are doubled quotes."""
    if "\n" in text:
        raise InputError(f"the name {text!r} has a line break in it")
    return '"' + text.replace('"', '""') + '"'


def grow(source: FilesystemSource, path: Path, size: int, *, epoch: int) -> None:
    """Makes the image in ``path`` fill ``size`` bytes; checks it first.

    A journal is replayed and a count put right; damage that may have cost content is not
    papered over but raises InputError. resize2fs refuses a file system that was ever mounted
    until e2fsck -f has seen it.
    """
    # e2fsck asks a variable of its own for the time.
    environment = {"E2FSPROGS_FAKE_TIME": str(epoch), "E2FSCK_TIME": str(epoch)}
    ended = process.run(["e2fsck", "-f", "-p", path], env=environment, check=False)
    if ended.returncode not in (0, 1):
        raise InputError(
            f"the file system is damaged: {ended.complaint}",
            where=str(source.content),
            hint="e2fsck -f shows what is wrong with it",
        )
    if source.grow and ext_size(look(path)) < size:
        with path.open("r+b") as file:
            file.truncate(size)
        process.run(["resize2fs", path, f"{size // 1024}K"], env=environment)
    if source.label:
        process.run(["tune2fs", "-L", source.label, path], env=environment)
    check(path)


def check(path: Path) -> None:
    """Raises TargetError where e2fsck finds anything wrong with what was made."""
    ended = process.run(["e2fsck", "-f", "-n", path], check=False)
    if ended.returncode != 0:
        raise TargetError(
            f"e2fsck is not content with what was made: {ended.text}", where=str(path)
        )
