"""Where a layout's parts lie, and which of them are in each other's way.

Works on what the board file says alone. What real files of real sizes do to it is checked
when a card is planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.board.model import Layout
from embedkit.units import SECTOR, format_size

_GPT_ENTRIES_BYTES = 128 * 128
_MBR_CODE_BYTES = 440


@dataclass(frozen=True)
class Place:
    """A part of the card. ``end`` None: up to the card's end, or not known without the file."""

    name: str
    kind: str
    start: int
    end: int | None
    excused: frozenset[str] = frozenset()
    holes: tuple[tuple[int, int], ...] = ()

    def pieces(self) -> tuple[tuple[int, int], ...]:
        """(start, end) of what it really covers, holes left out; an open end is one byte."""
        end = self.start + 1 if self.end is None else self.end
        pieces = [(self.start, end)]
        for hole_start, hole_end in self.holes:
            split = []
            for start, stop in pieces:
                split += [(start, min(stop, self.start + hole_start))]
                split += [(max(start, self.start + hole_end), stop)]
            pieces = [(start, stop) for start, stop in split if start < stop]
        return tuple(pieces)


def places(layout: Layout) -> tuple[Place, ...]:
    """Table, blobs with their rooms, reserved places and partitions, by where they start."""
    found = list(_table_places(layout))
    for blob in layout.blobs:
        end = None if blob.room is None else blob.offset + blob.room
        holes = tuple((hole.start, hole.end) for hole in blob.holes)
        found.append(
            Place(blob.name, "blob", blob.offset, end, frozenset(blob.overwritten_by), holes)
        )
    for item in layout.reserved:
        found.append(Place(item.name, "reserved", item.offset, item.offset + item.size))
    at: int | None = 0
    for partition in layout.partitions:
        start = partition.offset
        if start is None:
            if at is None:
                continue
            start = -(-max(at, 1) // layout.alignment) * layout.alignment
        at = None if partition.size is None else start + partition.size
        name = f"partition {partition.number} ({partition.name})"
        found.append(Place(name, "partition", start, at))
    return tuple(sorted(found, key=lambda place: place.start))


def _table_places(layout: Layout) -> Iterator[Place]:
    if layout.table == "none":
        return
    yield Place("partition table", "table", _MBR_CODE_BYTES, SECTOR)
    if layout.table == "gpt":
        yield Place("GPT header", "table", SECTOR, 2 * SECTOR)
        start = layout.gpt_location
        yield Place("GPT entries", "table", start, start + _GPT_ENTRIES_BYTES)


def overlaps(layout: Layout) -> tuple[tuple[Place, Place, int], ...]:
    """Every pair of places that share bytes, and how many, allowed or not."""
    found = places(layout)
    return tuple(
        (one, other, shared)
        for index, one in enumerate(found)
        for other in found[index + 1 :]
        if (shared := _shared(one, other)) > 0
    )


def conflicts(layout: Layout) -> tuple[str, ...]:
    """One sentence for every pair of places that share bytes without being allowed to."""
    return tuple(
        f"{describe(one)} and {describe(other)} overlap"
        + ("" if one.end is None or other.end is None else f" by {format_size(shared)}")
        for one, other, shared in overlaps(layout)
        if other.name not in one.excused and one.name not in other.excused
    )


def _shared(one: Place, other: Place) -> int:
    return sum(
        max(0, min(end, other_end) - max(start, other_start))
        for start, end in one.pieces()
        for other_start, other_end in other.pieces()
    )


def describe(place: Place) -> str:
    """``bl2 (sectors 31 to 62)``."""
    first = place.start / SECTOR
    if place.end is None:
        return f"{place.name} (from sector {first:g})"
    if place.start % SECTOR or place.end % SECTOR:
        return f"{place.name} (bytes {place.start} to {place.end - 1})"
    return f"{place.name} (sectors {first:g} to {place.end // SECTOR - 1})"
