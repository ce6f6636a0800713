"""Draws a card: as lines of text and as SVG. Lengths are logarithmic.

A boot loader of 15 KiB beside a partition of 1 GiB has no width on a linear scale, so every
doubling gets the same length here, and the true numbers stand beside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from embedkit.board.geometry import overlaps, places
from embedkit.board.model import Layout
from embedkit.media.layout import CardPlan, Region, RegionKind
from embedkit.media.ranges import Range, complement
from embedkit.units import SECTOR, format_size

_MARKS = {
    RegionKind.TABLE: "▓",
    RegionKind.BLOB: "█",
    RegionKind.PARTITION: "▒",
    RegionKind.RESERVED: "░",
    RegionKind.GAP: "·",
}
# Pale fills with dark text for a bare SVG; a report's page recolours the classes.
_FILLS = {
    RegionKind.TABLE: ("#ddd6fe", "fill-5"),
    RegionKind.BLOB: ("#bfdbfe", "fill-4"),
    RegionKind.PARTITION: ("#bbf7d0", "fill-1"),
    RegionKind.RESERVED: ("#fde68a", "fill-2"),
    RegionKind.GAP: ("none", "line"),
}
_SHOWN_REST = 1 << 30


@dataclass(frozen=True)
class CardMap:
    """Regions and gaps in their order on the card, and which regions share bytes."""

    rows: tuple[Region, ...]
    overlaps: tuple[tuple[str, str, int], ...]
    size_bytes: int
    open_end: bool = False


def of_layout(layout: Layout) -> CardMap:
    """A layout as its board file has it: rooms, not files. An open end is shown as 1 GiB."""
    found = places(layout)
    regions = []
    open_end = False
    for place in found:
        end = place.end
        if end is None:
            later = [other.start for other in found if other.start > place.start]
            end = min(later) if later else place.start + _SHOWN_REST
            open_end = open_end or not later
        kind = RegionKind(place.kind)
        note = "".join(f", may be overwritten by {name}" for name in sorted(place.excused))
        note += "".join(f", leaves out bytes {start} to {stop - 1}" for start, stop in place.holes)
        cut = next((blob.cut for blob in layout.blobs if blob.name == place.name), False)
        note += ", cut to its room" if cut else ""
        kept = any(item.keep and item.name == place.name for item in layout.reserved)
        note += ", kept as it is" if kept else ""
        regions.append(Region(place.name, kind, place.start, end - place.start, note[2:]))
    size = max((region.end for region in regions), default=0)
    shared = tuple((one.name, other.name, amount) for one, other, amount in overlaps(layout))
    return _map(regions, size, open_end, shared)


def of_plan(plan: CardPlan) -> CardMap:
    """A planned card."""
    # A plan's extents never overlap: what was cut for another is among its warnings.
    return _map(plan.regions, plan.size_bytes, False, ())


def _map(
    regions: Sequence[Region], size: int, open_end: bool, shared: tuple[tuple[str, str, int], ...]
) -> CardMap:
    taken = [Range(region.first_byte, region.length) for region in regions]
    gaps = [
        Region("(gap)", RegionKind.GAP, hole.first_byte, hole.length)
        for hole in complement(taken, size)
    ]
    rows = sorted([*regions, *gaps], key=lambda region: (region.first_byte, -region.length))
    return CardMap(tuple(rows), shared, size, open_end)


def steps(length: int) -> int:
    """How long ``length`` bytes are drawn: one step for a sector, one more a doubling."""
    return 1 + max(0, round(math.log2(max(length, SECTOR) / SECTOR)))


def text(card: CardMap) -> str:
    """One line a region: first and last sector, size, name, a bar."""
    if not card.rows:
        return "(nothing)"
    width = max(len(row.name) for row in card.rows)
    lines = [f"{'sectors':>21}  {'size':>10}  {'':<{width}}"]
    for row in card.rows:
        first, last = row.first_byte // SECTOR, (row.end - 1) // SECTOR
        end = "…" if card.open_end and row.end == card.size_bytes else str(last)
        bar = _MARKS[row.kind] * steps(row.length)
        size = "rest" if end == "…" else format_size(row.length)
        line = f"{first:>10} {end:>10}  {size:>10}  {row.name:<{width}}  {bar}"
        lines.append(f"{line} {row.note}".rstrip())
    lines.append("")
    lines.append("bars are logarithmic: one step more is twice the size")
    marks = "  ".join(f"{mark} {kind.value}" for kind, mark in _MARKS.items())
    lines.append(marks)
    lines += [
        f"{one} and {other} share {format_size(shared)}" for one, other, shared in card.overlaps
    ]
    return "\n".join(lines)


def svg(card: CardMap) -> str:
    """The same as a drawing: card's start on top, overlapping regions side by side."""
    left, top, lane_width = 120, 8, 210
    lanes: list[int] = []  # the end, in bytes, of what each lane holds so far
    parts: list[str] = []
    y = float(top)
    tops: dict[int, float] = {}
    for row in card.rows:
        lane = next((i for i, end in enumerate(lanes) if end <= row.first_byte), len(lanes))
        lanes[lane : lane + 1] = [row.end]
        height = 16.0 + 3 * steps(row.length)
        start = y if lane == 0 else tops.get(0, y)
        parts += _box(row, left + lane * (lane_width + 6), start, lane_width, height, left)
        if lane == 0:
            tops[0] = y
            y += height
        else:
            y = max(y, start + height)
    width = left + max(len(lanes), 1) * (lane_width + 6)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 8:.0f}" '
        f'width="{width}" height="{y + 8:.0f}" role="img" '
        'font-family="system-ui, sans-serif" font-size="11">'
        "<title>The card's map, from its first sector on</title>" + "".join(parts) + "</svg>"
    )


def _box(row: Region, x: float, y: float, width: float, height: float, left: float) -> list[str]:
    fill, style = _FILLS[row.kind]
    gap = row.kind is RegionKind.GAP
    dash = ' stroke-dasharray="3 3"' if gap else ""
    muted = ' class="muted"'
    label = escape(f"{row.name} · {format_size(row.length)}")
    note = escape(f"{row.name}: bytes {row.first_byte} to {row.end - 1} {row.note}".strip())
    return [
        f'<rect x="{x:.0f}" y="{y:.1f}" width="{width:.0f}" height="{height - 2:.1f}" rx="2" ',
        f'class="{style}" fill="{fill}" stroke="#64748b"{dash}><title>{note}</title></rect>',
        f'<text x="{x + 8:.0f}" y="{y + height / 2 + 3:.1f}"',
        f"{muted if gap else ''}>{label}</text>",
        f'<text x="{left - 8:.0f}" y="{y + 11:.1f}" text-anchor="end" class="muted">',
        f"{row.first_byte // SECTOR}</text>",
    ]
