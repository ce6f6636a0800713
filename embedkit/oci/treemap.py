"""A size map: rectangles whose areas are the sizes of folders and files, as SVG.

The layout is the squarified treemap (Bruls, Huizing, van Wijk, 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from embedkit.oci.rootfs import FileNode
from embedkit.units import format_size

_WIDTH, _HEIGHT = 960.0, 540.0
# The report's stylesheet gives these classes colours for light and dark pages.
_COLORS = tuple(f"fill-{number}" for number in range(1, 7))
_DEPTH = 3
_MOST_BOXES = 40


@dataclass(frozen=True)
class Box:
    """A rectangle, in the drawing's units."""

    x: float
    y: float
    width: float
    height: float


def svg(root: FileNode) -> str:
    """The map of everything below ``root``; "" where there are no bytes."""
    sizes = _sizes(root)
    if not sizes.get(id(root)):
        return ""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" '
        'role="img" aria-label="sizes of files and folders" font-family="sans-serif">'
    )
    parts = [head]
    _draw(root, "", Box(0, 0, _WIDTH, _HEIGHT), 0, "", sizes, parts)
    return "".join([*parts, "</svg>"])


def _sizes(root: FileNode) -> dict[int, int]:
    """Bytes below every node, by its id; without recursion, for folders may nest deep."""
    totals: dict[int, int] = {}
    order = [root]
    for node in order:
        order += (node.children or {}).values()
    for node in reversed(order):
        below = sum(totals[id(child)] for child in (node.children or {}).values())
        totals[id(node)] = node.size + below
    return totals


def _draw(
    node: FileNode,
    path: str,
    box: Box,
    depth: int,
    color: str,
    sizes: dict[int, int],
    parts: list[str],
) -> None:
    children = sorted((node.children or {}).items(), key=lambda item: -sizes[id(item[1])])
    shown = [(name, child) for name, child in children[:_MOST_BOXES] if sizes[id(child)]]
    places = squarify([float(sizes[id(child)]) for _, child in shown], box)
    for number, ((name, child), place) in enumerate(zip(shown, places, strict=True)):
        full = f"{path}/{name}"
        fill = color or _COLORS[number % len(_COLORS)]
        title = _text(f"{full} {format_size(sizes[id(child)])}")
        parts.append(
            f'<g><title>{title}</title><rect x="{place.x:.1f}" y="{place.y:.1f}" '
            f'width="{place.width:.1f}" height="{place.height:.1f}" class="{fill}" '
            f'fill-opacity="{0.85 - 0.2 * depth:.2f}" stroke="currentColor" stroke-opacity="0.4"/>'
        )
        if place.width > 60 and place.height > 16:
            label = _text(name[: int(place.width / 7)])
            parts.append(
                f'<text x="{place.x + 4:.1f}" y="{place.y + 12:.1f}" font-size="11" '
                f'fill="currentColor">{label}</text>'
            )
        parts.append("</g>")
        inner = Box(place.x + 2, place.y + 16, place.width - 4, place.height - 18)
        if child.children and depth + 1 < _DEPTH and inner.width > 20 and inner.height > 20:
            _draw(child, full, inner, depth + 1, fill, sizes, parts)


def _text(text: str) -> str:
    """A name as XML may hold it: no control characters, no lone surrogates."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return escape(clean.encode("utf-8", "replace").decode())


def squarify(values: Sequence[float], box: Box) -> list[Box]:
    """A rectangle for each of ``values`` (positive, falling), filling ``box`` between them."""
    total = sum(values)
    if not values or total <= 0 or box.width <= 0 or box.height <= 0:
        return [Box(box.x, box.y, 0, 0) for _ in values]
    scale = box.width * box.height / total
    areas = [value * scale for value in values]
    placed: list[Box] = []
    at = 0
    while at < len(areas):
        side = min(box.width, box.height)
        end = at + 1
        while end < len(areas) and _worst(areas[at : end + 1], side) <= _worst(areas[at:end], side):
            end += 1
        row, box = _row(areas[at:end], box)
        placed += row
        at = end
    return placed


def _worst(row: Sequence[float], side: float) -> float:
    """The worst ratio of sides in a row along ``side``."""
    total = sum(row)
    if side <= 0 or total <= 0:
        return float("inf")
    smallest = max(row[-1], 1e-12)
    return max(side**2 * row[0] / total**2, total**2 / (side**2 * smallest))


def _row(areas: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    total = sum(areas)
    placed = []
    if box.width >= box.height:
        width = total / box.height if box.height else 0
        y = box.y
        for area in areas:
            height = area / width if width else 0
            placed.append(Box(box.x, y, width, height))
            y += height
        return placed, Box(box.x + width, box.y, max(box.width - width, 0), box.height)
    height = total / box.width if box.width else 0
    x = box.x
    for area in areas:
        width = area / height if height else 0
        placed.append(Box(x, box.y, width, height))
        x += width
    return placed, Box(box.x, box.y + height, box.width, max(box.height - height, 0))
