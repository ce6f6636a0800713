"""Sparse copies and FAT's allocation, on files of a few blocks."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.media.allocation import fat_used
from embedkit.media.ranges import Range
from embedkit.media.sparse import chunks, copy_sparse

blocks = st.lists(st.sampled_from([b"\0" * 4096, b"\1" * 4096, b"\0" * 4095 + b"\2"]), max_size=12)


@settings(deadline=None)
@given(blocks, st.binary(max_size=5000), st.integers(0, 9000), st.integers(0, 9000))
def test_copy_is_exact(
    tmp_path_factory: pytest.TempPathFactory, whole: list[bytes], tail: bytes, skip: int, at: int
) -> None:
    folder = tmp_path_factory.mktemp("sparse")
    content = b"".join(whole) + tail
    skip = min(skip, len(content))
    with (folder / "in").open("wb") as file:
        for number, block in enumerate(whole):
            if any(block):
                file.seek(number * 4096)
                file.write(block)
        file.seek(len(whole) * 4096)
        file.write(tail)
        file.truncate(len(content))
    assert b"".join(bytes(piece) for piece in chunks(folder / "in")) == content
    with (folder / "out").open("w+b") as out:
        copy_sparse(folder / "in", out, at, skip=skip)
    copied = (folder / "out").read_bytes()
    assert copied == bytes(at) + content[skip:] or (skip == len(content) and len(copied) <= at)


def fat16(used: set[int]) -> tuple[bytes, int]:
    """A FAT16 of 8,000 clusters of 2 sectors, with two FATs and 512 root entries."""
    boot = bytearray(512)
    struct.pack_into("<HBHBHH", boot, 11, 512, 2, 1, 2, 512, 16000 + 97)
    struct.pack_into("<H", boot, 22, 32)
    table = bytearray(32 * 512)
    for cluster in used:
        struct.pack_into("<H", table, cluster * 2, 0xFFFF)
    return bytes(boot) + bytes(table), (16000 + 97) * 512


def test_fat_maps_what_is_allocated_zeros_or_not() -> None:
    head, size = fat16({2, 3, 100})
    data = (1 + 2 * 32 + 32) * 512
    assert fat_used(head, size) == (
        Range(0, data + 2 * 1024),
        Range(data + 98 * 1024, 1024),
    )


@given(st.binary(max_size=600))
def test_fat_nonsense_is_all_used_or_inside(head: bytes) -> None:
    for part in fat_used(head, 10_000):
        assert part.first_byte >= 0 and part.end <= 10_000
