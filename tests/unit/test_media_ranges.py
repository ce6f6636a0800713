"""The algebra of ranges, held against sets of bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from embedkit.media.ranges import Range, align, complement, merge, subtract, total

ranges = st.lists(st.builds(Range, st.integers(0, 60), st.integers(0, 20)), max_size=8)


def points(items: tuple[Range, ...] | list[Range]) -> set[int]:
    return {byte for item in items for byte in range(item.first_byte, item.end)}


def is_normal(items: tuple[Range, ...]) -> bool:
    pairs = pairwise(items)
    return all(item.length > 0 for item in items) and all(a.end < b.first_byte for a, b in pairs)


@given(ranges)
def test_merge_keeps_the_bytes(items: list[Range]) -> None:
    merged = merge(items)
    assert points(merged) == points(items)
    assert is_normal(merged)
    assert total(merged) == len(points(items))


@given(ranges, ranges)
def test_subtract(items: list[Range], without: list[Range]) -> None:
    left = subtract(items, without)
    assert points(left) == points(items) - points(without)
    assert is_normal(left)


@given(ranges, st.integers(0, 90))
def test_complement(items: list[Range], size: int) -> None:
    assert points(complement(items, size)) == set(range(size)) - points(items)


@given(ranges, st.sampled_from([1, 4, 8]), st.integers(80, 90))
def test_align_widens_to_whole_blocks(items: list[Range], block: int, size: int) -> None:
    wide = align(items, block, size)
    wanted = {byte // block for byte in points(items)}
    assert points(wide) == {byte for byte in range(size) if byte // block in wanted}
