"""Board + layout + artifacts → CardPlan: every byte's place, checked before one is written."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedkit.board import find_layout
from embedkit.board.geometry import places
from embedkit.board.model import Blob, Board, Layout, Partition
from embedkit.errors import InputError
from embedkit.media import artifacts as kinds
from embedkit.media import extlinux, tables
from embedkit.media.contents import Artifacts, Content, Wrongs, left_empty, needed_bytes
from embedkit.media.layout import (
    BytesSource,
    CardPlan,
    ContentKind,
    Extent,
    FileSource,
    FilesystemSource,
    Region,
    RegionKind,
)
from embedkit.media.ranges import Range, complement, subtract
from embedkit.units import SECTOR, format_size

BLOCK = 4096
_MIB = 1 << 20
# embedkit's own UUID namespace: the same board, layout and seed always give the same card.
_NAMESPACE = uuid.UUID("5f0c1d5e-6a44-5b1f-9c3a-0d1b6f1f7a52")
# Ext features that kernels from 3.10 and U-Boots of that time read: no metadata_csum, no
# 64bit, none of what newer mke2fs.conf files turn on.
EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,"
    "large_file,huge_file,dir_nlink,extra_isize,uninit_bg"
)


@dataclass(frozen=True)
class _Placed:
    """A partition with its final place."""

    spec: Partition
    start: int
    size: int
    content: Content | None

    @property
    def name(self) -> str:
        return f"partition {self.spec.number} ({self.spec.name})"


def plan(
    board: Board,
    *,
    layout: str | None = None,
    artifacts: Path | None = None,
    chosen: Mapping[str, Path] | None = None,
    size_bytes: int | None = None,
    power_of_two: bool = False,
    seed: str = "",
) -> CardPlan:
    """The card that ``board`` and its artifacts make.

    ``chosen`` maps a blob's or partition's name to a file that goes before the folder's.
    ``size_bytes`` is the card's size (a partition that takes the rest then ends with it);
    without it the card is as small as its contents allow, with ``power_of_two`` rounded up
    as QEMU's SD cards want it. ``seed`` makes the UUIDs differ from those of other cards.

    Raises InputError with all that is missing, too large, damaged or in each other's way.
    """
    form = find_layout(board, layout)
    source = Artifacts(_folder(artifacts), dict(chosen or {}))
    source.check_names(form)
    wrongs = Wrongs()
    warnings: list[str] = []
    blobs = _blobs(board, form, source, wrongs, warnings)
    placed = _partitions(form, source, size_bytes, wrongs)
    wrongs.raise_if_any(f"the artifacts of {board.name}")

    warnings += left_empty((part.spec, part.content) for part in placed)
    needed = max(
        [0, *(extent.end for extent in blobs), *(part.start + part.size for part in placed)]
    )
    needed = max([needed, *(item.offset + item.size for item in form.reserved)])
    size, placed = _card_size(form, needed, placed, size_bytes, power_of_two)
    table = _table(board, form, placed, seed)
    pieces = tables.render(table, size) if table else ()
    extents = _resolve(
        form,
        [
            *blobs,
            *(extent for part in placed for extent in _fill(board, form, part, seed)),
            *(Extent(name, start, len(data), BytesSource(data)) for name, start, data in pieces),
        ],
    )
    regions = _regions(form, blobs, placed, pieces)
    kept = tuple(Range(item.offset, item.size) for item in form.reserved if item.keep)
    return CardPlan(
        board=board.name,
        layout=form.name,
        size_bytes=size,
        extents=extents,
        regions=regions,
        table=table,
        zeroed=_zeroed(form, placed, size, kept),
        kept=kept,
        warnings=tuple(warnings),
    )


def _folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise InputError("the artifacts folder does not exist", where=str(path))
    return path


def _blobs(
    board: Board, form: Layout, source: Artifacts, wrongs: Wrongs, warnings: list[str]
) -> list[Extent]:
    extents: list[Extent] = []
    for blob in form.blobs:
        try:
            artifact = source.blob(blob)
            if artifact is None:
                continue
            kinds.check(artifact, blob.kind, board.arch)
            warnings += _check_build(board, form, blob, artifact.path)
            extents += _blob_extents(form, blob, artifact, warnings)
        except InputError as error:
            wrongs.add(error)
    return extents


def _blob_extents(
    form: Layout, blob: Blob, artifact: kinds.Artifact, warnings: list[str]
) -> list[Extent]:
    length, room = artifact.size, room_of(form, blob)
    if room is not None and length > room:
        over = f"{blob.name}: {artifact.path.name} has {length} bytes, its room at sector "
        over += f"{blob.offset // SECTOR} has {room} ({format_size(length - room)} too many)"
        if blob.cut:
            warnings.append(f"{over}; the board file says to cut it there")
            length = room
        elif not blob.overwritten_by:
            raise InputError(over, where=str(artifact.path))
    written = subtract(
        [Range(0, length)], [Range(hole.start, hole.end - hole.start) for hole in blob.holes]
    )
    return [
        Extent(
            blob.name,
            blob.offset + part.first_byte,
            part.length,
            FileSource(artifact.path, part.first_byte),
        )
        for part in written
    ]


def room_of(form: Layout, blob: Blob) -> int | None:
    """Bytes that ``blob`` may take: what the file says, else up to the next place's start."""
    if blob.room is not None:
        return blob.room
    later = [
        place.start
        for place in places(form)
        if place.start > blob.offset and place.name not in (blob.name, *blob.overwritten_by)
    ]
    return min(later) - blob.offset if later else None


def _check_build(board: Board, form: Layout, blob: Blob, path: Path) -> list[str]:
    """Warns of a build that nobody knows; raises for one that belongs to another layout."""
    if not blob.sha256:
        return []
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest in blob.sha256:
        return []
    for other in board.layouts:
        for theirs in other.blobs:
            if theirs.name == blob.name and digest in theirs.sha256:
                raise InputError(
                    f"{blob.name}: this file is the build for layout {other.name}, "
                    f"not for {form.name}: the board would stay silent",
                    where=str(path),
                    hint=f"--layout {other.name}, or the build for {form.name}",
                )
    return [f"{blob.name}: {path.name} is not a build that is known to work in this layout"]


def _partitions(
    form: Layout, source: Artifacts, size_bytes: int | None, wrongs: Wrongs
) -> list[_Placed]:
    placed: list[_Placed] = []
    at = form.alignment
    for spec in form.partitions:
        start = spec.offset
        if start is None:
            start = -(-at // form.alignment) * form.alignment
        try:
            content = source.partition(spec) if spec.filesystem else _raw(spec, source)
            size = spec.size
            if size is None:
                size = needed_bytes(content) if content else _MIB
            _check_fits(spec, content, size)
            placed.append(_Placed(spec, start, size, content))
            at = start + size
        except InputError as error:
            wrongs.add(error)
    return placed


def _raw(spec: Partition, source: Artifacts) -> Content | None:
    path = source.find(spec.name, spec.images)
    if path is not None:
        return Content(ContentKind.IMAGE, path)
    if spec.images and not spec.optional:
        raise InputError(
            f"{spec.name}: {' or '.join(spec.images)} is missing",
            hint=f"name the file itself: --blob {spec.name}=PATH",
        )
    return None


def _check_fits(spec: Partition, content: Content | None, size: int) -> None:
    if content is None or content.path is None or content.kind is not ContentKind.IMAGE:
        return
    artifact = kinds.look(content.path)
    length = kinds.ext_size(artifact) if spec.filesystem.startswith("ext") else artifact.size
    if length > size:
        raise InputError(
            f"{spec.name}: the content has {length} bytes, the partition {size} "
            f"({format_size(length - size)} too many)",
            where=str(content.path),
        )


def _card_size(
    form: Layout, needed: int, placed: list[_Placed], size_bytes: int | None, power_of_two: bool
) -> tuple[int, list[_Placed]]:
    backup = 33 * SECTOR if form.table == "gpt" and form.gpt_backup else 0
    smallest = -(-(needed + backup) // BLOCK) * BLOCK
    if backup:
        smallest = -(-smallest // _MIB) * _MIB
    size = size_bytes or smallest
    if power_of_two:
        size = 1 << (smallest - 1).bit_length()
    if size < needed + backup:
        raise InputError(
            f"the card has {size} bytes; layout {form.name} with these contents needs "
            f"{needed + backup} ({(needed + backup) // SECTOR} sectors)",
        )
    if placed and placed[-1].spec.size is None:
        last = placed[-1]
        rest = (size - backup - last.start) // BLOCK * BLOCK
        placed = [*placed[:-1], _Placed(last.spec, last.start, rest, last.content)]
    return size, placed


def identity(board: Board, form: Layout, seed: str, what: str) -> uuid.UUID:
    """The UUID of one thing of a card: always the same for the same board, layout and seed."""
    return uuid.uuid5(_NAMESPACE, "/".join((board.name, form.name, seed, what)))


def _table(
    board: Board, form: Layout, placed: list[_Placed], seed: str
) -> tables.PartitionTable | None:
    if form.table == "none":
        return None
    kind = tables.TableKind(form.table)
    own = identity(board, form, seed, "disk")
    default = str(own) if kind is tables.TableKind.GPT else f"0x{own.int & 0xFFFFFFFF:08x}"
    return tables.PartitionTable(
        kind,
        form.identity or default,
        tuple(
            tables.Entry(
                part.spec.number,
                part.start // SECTOR,
                part.size // SECTOR,
                part.spec.type,
                bootable=part.spec.bootable,
                name=part.spec.name if kind is tables.TableKind.GPT else "",
                uuid=_partition_uuid(board, form, part.spec, seed, kind),
            )
            for part in placed
        ),
        entries_sector=form.gpt_location // SECTOR,
        backup=form.gpt_backup,
    )


def _partition_uuid(
    board: Board, form: Layout, spec: Partition, seed: str, kind: tables.TableKind
) -> str:
    if kind is tables.TableKind.MBR:
        return ""
    return spec.uuid or str(identity(board, form, seed, f"partition/{spec.name}"))


def _fill(board: Board, form: Layout, part: _Placed, seed: str) -> list[Extent]:
    spec, content = part.spec, part.content
    if content is None:
        return []
    if not spec.filesystem:
        assert content.path is not None
        size = content.path.stat().st_size
        return [Extent(part.name, part.start, size, FileSource(content.path))]
    features = spec.features or (EXT4_FEATURES if spec.filesystem == "ext4" else "")
    source = FilesystemSource(
        filesystem=spec.filesystem,
        kind=content.kind,
        content=content.path,
        files=content.files,
        label=spec.label,
        uuid=str(identity(board, form, seed, f"filesystem/{spec.name}")),
        features=features,
        grow=spec.grow,
        boot=extlinux.wanted(board, spec),
    )
    return [Extent(part.name, part.start, part.size, source)]


def _resolve(form: Layout, extents: list[Extent]) -> tuple[Extent, ...]:
    """Extents in order, none over another: cut where the board file lets one win, else told."""
    excused = {blob.name: blob.overwritten_by for blob in form.blobs}
    winners: dict[str, list[Range]] = {}
    wrongs = Wrongs()
    for index, one in enumerate(extents):
        for other_index, other in enumerate(extents):
            shared = min(one.end, other.end) - max(one.first_byte, other.first_byte)
            if index == other_index or shared <= 0:
                continue
            if other.name in excused.get(one.name, ()):
                winners.setdefault(one.name, []).append(other.range)
            elif one.name not in excused.get(other.name, ()) and index < other_index:
                wrongs.add(
                    InputError(f"{_span(one)} and {_span(other)} overlap by {format_size(shared)}")
                )
    wrongs.raise_if_any(f"layout {form.name}")
    resolved = []
    for extent in extents:
        for part in subtract([extent.range], winners.get(extent.name, [])):
            source = extent.source
            if isinstance(source, FileSource):
                source = FileSource(source.path, source.skip + part.first_byte - extent.first_byte)
            resolved.append(Extent(extent.name, part.first_byte, part.length, source))
    return tuple(sorted(resolved, key=lambda extent: extent.first_byte))


def _span(extent: Extent) -> str:
    last = (extent.end - 1) // SECTOR
    return f"{extent.name} (sectors {extent.first_byte // SECTOR} to {last})"


def _regions(
    form: Layout,
    blobs: list[Extent],
    placed: list[_Placed],
    pieces: tuple[tuple[str, int, bytes], ...],
) -> tuple[Region, ...]:
    """What belongs to whom, rooms and all. Regions may share bytes (a blob around the MBR)."""
    regions = [Region(name, RegionKind.TABLE, start, len(data)) for name, start, data in pieces]
    for blob in form.blobs:
        ends = [extent.end for extent in blobs if extent.name == blob.name]
        room = room_of(form, blob)
        end = blob.offset + room if room is not None else max(ends, default=blob.offset)
        if ends:
            regions.append(Region(blob.name, RegionKind.BLOB, blob.offset, end - blob.offset))
    regions += [
        Region(item.name, RegionKind.RESERVED, item.offset, item.size, "kept" if item.keep else "")
        for item in form.reserved
    ]
    regions += [Region(part.name, RegionKind.PARTITION, part.start, part.size) for part in placed]
    order = list(RegionKind)
    return tuple(sorted(regions, key=lambda item: (item.first_byte, order.index(item.kind))))


def _zeroed(
    form: Layout, placed: list[_Placed], size: int, kept: tuple[Range, ...]
) -> tuple[Range, ...]:
    """What must be zero where nothing is written: the head, all gaps up to the last partition's
    end, what is reserved, partitions without content, the last MiB (an old GPT's backup)."""
    filled = [Range(part.start, part.size) for part in placed if part.spec.filesystem]
    last = max((item.end for item in filled), default=size)
    gaps = complement(filled, last)
    head = [Range(0, min(form.zero_head, size))] if form.zero_head else []
    reserved = [Range(item.offset, item.size) for item in form.reserved]
    tail = [Range(max(size - _MIB, last), min(_MIB, size - last))]
    return subtract([*gaps, *head, *reserved, *tail], kept)
