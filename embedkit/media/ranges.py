"""Ranges of bytes, and the set algebra that plans, block maps and writers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class Span:
    """What has ``length`` bytes from ``first_byte`` on; ``end`` is the first byte after it."""

    first_byte: int
    length: int

    @property
    def end(self) -> int:
        return self.first_byte + self.length

    @property
    def range(self) -> Range:
        """The place alone."""
        return Range(self.first_byte, self.length)


@dataclass(frozen=True, order=True)
class Range(Span):
    """A place and nothing else: what the functions here take and give."""

    first_byte: int
    length: int


def merge(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same bytes as few ascending ranges that neither overlap nor touch."""
    merged: list[Range] = []
    for item in sorted(part for part in ranges if part.length > 0):
        if merged and item.first_byte <= merged[-1].end:
            last = merged[-1]
            merged[-1] = Range(last.first_byte, max(last.end, item.end) - last.first_byte)
        else:
            merged.append(item)
    return tuple(merged)


def complement(ranges: Iterable[Range], size: int) -> tuple[Range, ...]:
    """What of the first ``size`` bytes is in none of ``ranges``."""
    return subtract((Range(0, size),), ranges)


def subtract(ranges: Iterable[Range], without: Iterable[Range]) -> tuple[Range, ...]:
    """What is in ``ranges`` and not in ``without``."""
    holes = merge(without)
    left: list[Range] = []
    first_hole = 0
    for item in merge(ranges):
        start = item.first_byte
        while first_hole < len(holes) and holes[first_hole].end <= start:
            first_hole += 1
        index = first_hole
        while index < len(holes) and holes[index].first_byte < item.end:
            hole = holes[index]
            if hole.first_byte > start:
                left.append(Range(start, hole.first_byte - start))
            start = max(start, hole.end)
            index += 1
        if start < item.end:
            left.append(Range(start, item.end - start))
    return tuple(left)


def align(ranges: Iterable[Range], block: int, size: int | None = None) -> tuple[Range, ...]:
    """``ranges`` widened outward to whole blocks of ``block`` bytes, merged.

    With ``size``, nothing reaches past it (the last block of an image may be a partial one).
    """
    widened = []
    for item in merge(ranges):
        start = item.first_byte // block * block
        end = -(-item.end // block) * block
        widened.append(Range(start, (end if size is None else min(end, size)) - start))
    return merge(widened)


def total(ranges: Iterable[Range]) -> int:
    """Bytes in ``ranges``, which must not overlap."""
    return sum(item.length for item in ranges)
