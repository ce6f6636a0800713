"""Makes the file systems of a card, each as an image of its own, without root."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from embedkit import process
from embedkit.errors import InputError
from embedkit.media import ext, extlinux
from embedkit.media.archive import open_plain
from embedkit.media.layout import ContentKind, FilesystemSource
from embedkit.media.sparse import copy_sparse
from embedkit.media.tree import Node, from_files, from_folder, from_tar


def build(
    source: FilesystemSource,
    path: Path,
    size: int,
    *,
    epoch: int,
    first_sector: int,
    scratch: Path,
) -> None:
    """The file system of ``source`` in the new file ``path``, at most ``size`` bytes long.

    ``epoch`` is SOURCE_DATE_EPOCH's meaning: no time in the image is later; ``first_sector``
    is where the partition will be (FAT notes it). ``scratch`` is an empty folder for
    intermediate files. Raises InputError where the content cannot be used or does not fit.
    """
    if source.kind is ContentKind.IMAGE:
        assert source.content is not None
        with path.open("xb") as out:
            copy_sparse(source.content, out, 0)
        if source.filesystem.startswith("ext"):
            ext.grow(source, path, size, epoch=epoch)
    elif source.filesystem.startswith("ext"):
        ext.make(source, _nodes(source, scratch), path, size, epoch=epoch, scratch=scratch)
    elif source.filesystem == "fat":
        _fat(source, path, size, epoch, first_sector, scratch)
    else:
        _squashfs(source, path, size, epoch)


def _nodes(source: FilesystemSource, scratch: Path) -> tuple[Node, ...]:
    if source.kind is ContentKind.FOLDER and source.content is not None:
        nodes = from_folder(source.content)
    elif source.kind is ContentKind.TAR and source.content is not None:
        nodes = from_tar(source.content, scratch)
    else:
        nodes = from_files(source.files)
    return extlinux.added(nodes, source.boot, scratch) if source.boot is not None else nodes


def _fat(
    source: FilesystemSource, path: Path, size: int, epoch: int, first_sector: int, scratch: Path
) -> None:
    """mkfs.vfat and mtools; every time in it is ``epoch`` (FAT has no zone: UTC is taken)."""
    environment = {
        "SOURCE_DATE_EPOCH": str(epoch),
        "TZ": "UTC",
        "MTOOLS_SKIP_CHECK": "1",
        "MTOOLSRC": "/dev/null",
        "LC_ALL": "C.UTF-8",
    }
    with path.open("xb") as file:
        file.truncate(size)
    serial = source.uuid.replace("-", "")[:8]
    argv = ["mkfs.vfat", "--invariant", "-i", serial, "-h", str(first_sector)]
    if source.label:
        argv += ["-n", source.label]
    process.run([*argv, path], env=environment)
    nodes = _nodes(source, scratch)
    contents = {node.path: node.content for node in nodes}
    for node in nodes:
        # FAT knows no hard links: each name gets the bytes.
        content = node.content or contents.get(node.link_to)
        target = f"::/{node.path}"
        if node.is_folder:
            if node.path:
                process.run(["mmd", "-i", path, target], env=environment)
        elif content is not None:
            ended = process.run(
                ["mcopy", "-o", "-i", path, content, target], env=environment, check=False
            )
            if ended.returncode != 0:
                raise InputError(
                    f"{node.path} could not be put into the FAT file system: {ended.complaint}"
                )
        else:
            what = "symbolic link" if stat.S_ISLNK(node.mode) else "special file"
            raise InputError(f"{node.path} is a {what}, which FAT cannot hold")


def _squashfs(source: FilesystemSource, path: Path, size: int, epoch: int) -> None:
    environment = {"SOURCE_DATE_EPOCH": str(epoch)}
    options = ["-noappend", "-quiet", "-no-progress"]
    assert source.content is not None
    if source.kind is ContentKind.FOLDER:
        if os.geteuid() != 0:
            options.append("-all-root")
        process.run(["mksquashfs", source.content, path, *options], env=environment)
    else:
        _squashfs_from_tar(source.content, path, environment)
    made = path.stat().st_size
    if made > size:
        raise InputError(
            f"the squashfs has {made} bytes, the partition {size}", where=str(source.content)
        )


def _squashfs_from_tar(archive: Path, path: Path, environment: dict[str, str]) -> None:
    running = process.start(
        ["sqfstar", "-quiet", "-no-progress", path],
        env=environment,
        stdin=process.PIPE,
        stdout=process.DEVNULL,
    )
    assert running.stdin is not None and running.stderr is not None
    try:
        with contextlib.suppress(BrokenPipeError), open_plain(archive) as plain:
            shutil.copyfileobj(plain, running.stdin, 1 << 20)
        with contextlib.suppress(BrokenPipeError):
            running.stdin.close()
        complaint = running.stderr.read().decode("utf-8", "replace").strip()
        if running.wait() != 0:
            raise InputError(f"sqfstar: {complaint.splitlines()[-1:]}", where=str(archive))
    finally:
        running.kill()
        running.wait()
        running.stderr.close()
