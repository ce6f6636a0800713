"""CardPlan → image: a sparse file, made without root, loop devices or mounts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from embedkit.errors import InputError, LackError
from embedkit.media import allocation, filesystems
from embedkit.media.layout import (
    BytesSource,
    CardPlan,
    ContentKind,
    Extent,
    FileSource,
    FilesystemSource,
)
from embedkit.media.ranges import Range, align, merge, subtract
from embedkit.media.sparse import copy_sparse
from embedkit.progress import Progress
from embedkit.units import SECTOR

BLOCK = 4096


@dataclass(frozen=True)
class Composed:
    """A raw, sparse image.

    ``mapped`` are the ranges that have to be written to a card: aligned to 4 KiB, ascending,
    merged. Some of them are holes in the file: zeros that must replace what the card holds.
    """

    path: Path
    size_bytes: int
    mapped: tuple[Range, ...]


def source_epoch(plan: CardPlan) -> int:
    """The time that file systems are made at: SOURCE_DATE_EPOCH, else the newest input's.

    Seconds since 1970. Raises InputError where SOURCE_DATE_EPOCH is not a number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text:
        if not text.isdigit():
            raise InputError(f"SOURCE_DATE_EPOCH is '{text}', not seconds since 1970")
        return int(text)
    return max((int(path.stat().st_mtime) for path in inputs(plan)), default=0)


def inputs(plan: CardPlan) -> tuple[Path, ...]:
    """Every file and folder that the card is made of, without doubles."""
    found: dict[Path, None] = {}
    for extent in plan.extents:
        source = extent.source
        if isinstance(source, FileSource):
            found[source.path] = None
        elif isinstance(source, FilesystemSource):
            if source.content is not None:
                found[source.content] = None
            for path, _ in source.files:
                found[path] = None
    return tuple(found)


def materialise(plan: CardPlan, path: Path, *, progress: Progress) -> Composed:
    """Writes the card as a raw, sparse file to ``path``, which must not exist yet.

    File systems are made in a temporary folder beside it. A failure leaves nothing behind.
    Raises InputError where an input cannot be used, LackError where a program or room on
    the disk is missing.
    """
    epoch = source_epoch(plan)
    mapped: list[Range] = list(plan.zeroed)
    try:
        with (
            path.open("xb") as out,
            tempfile.TemporaryDirectory(prefix=".embedkit-", dir=path.parent) as work,
        ):
            out.truncate(plan.size_bytes)
            for number, extent in enumerate(plan.extents):
                scratch = Path(work) / str(number)
                scratch.mkdir()
                mapped += _place(extent, out, scratch, epoch, progress)
            out.flush()
            os.fsync(out.fileno())
    except FileExistsError as error:
        raise InputError(f"{path} exists already") from error
    except OSError as error:
        path.unlink(missing_ok=True)
        where = str(error.filename) if error.filename else None
        raise LackError(f"{path} cannot be made: {error.strerror}", where=where) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    whole = align(mapped, BLOCK, plan.size_bytes)
    # Kept places start and end on blocks, so that widening cannot reach into them.
    return Composed(path, plan.size_bytes, subtract(whole, plan.kept))


def _place(
    extent: Extent, out: IO[bytes], scratch: Path, epoch: int, progress: Progress
) -> Iterable[Range]:
    """Puts one extent into the image; returns what of it must be on the card."""
    source = extent.source
    if isinstance(source, BytesSource):
        out.seek(extent.first_byte)
        out.write(source.data)
    elif isinstance(source, FileSource):
        _expect(source, extent)
        copy_sparse(source.path, out, extent.first_byte, skip=source.skip, length=extent.length)
    else:
        return _filesystem(extent, source, out, scratch, epoch, progress)
    return [extent.range]


def _expect(source: FileSource, extent: Extent) -> None:
    """Raises InputError where a file became shorter since the card was planned."""
    if source.path.stat().st_size < source.skip + extent.length:
        raise InputError("changed while the card was composed", where=str(source.path))


def _filesystem(
    extent: Extent,
    source: FilesystemSource,
    out: IO[bytes],
    scratch: Path,
    epoch: int,
    progress: Progress,
) -> Iterable[Range]:
    verb = "copying" if source.kind is ContentKind.IMAGE else "making"
    task = progress.start(f"{verb} {source.filesystem} for {extent.name}")
    image = scratch / "filesystem"
    inner = scratch / "files"
    inner.mkdir()
    try:
        filesystems.build(
            source,
            image,
            extent.length,
            epoch=epoch,
            first_sector=extent.first_byte // SECTOR,
            scratch=inner,
        )
        made = image.stat().st_size
        if made > extent.length:
            raise InputError(f"{extent.name} has {extent.length} bytes, its file system {made}")
        used = allocation.used(image, source.filesystem)
        copy_sparse(image, out, extent.first_byte)
    finally:
        task.finish()
        image.unlink(missing_ok=True)
    return [Range(part.first_byte + extent.first_byte, part.length) for part in merge(used)]
